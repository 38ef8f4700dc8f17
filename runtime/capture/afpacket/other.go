//go:build !linux

// Package afpacket captures from a network interface; on Linux only.
package afpacket
