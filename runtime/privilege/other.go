//go:build !linux

// Package privilege takes from the running process what it no longer needs. It is for Linux only.
package privilege
