//go:build !linux

// Package doctor says what holds on a machine for an agent. It is for Linux only.
package doctor
