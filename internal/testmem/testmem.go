//go:build unix

// Package testmem makes memory for tests of kernels that must not read or write beyond it.
package testmem

import (
	"syscall"
	"testing"
	"unsafe"
)

// Before is n elements that end where a page begins that can't be touched: what reads or writes beyond
// them ends the test. It is unmapped when the test ends.
func Before[T any](t testing.TB, n int) []T {
	t.Helper()
	var zero T
	page := syscall.Getpagesize()
	bytes := n * int(unsafe.Sizeof(zero))
	size := (bytes + page - 1) / page * page
	mem, err := syscall.Mmap(-1, 0, size+page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Munmap(mem) })
	if err := syscall.Mprotect(mem[size:], syscall.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(&mem[size-bytes])), n)
}

// Move copies s to such memory.
func Move[T any](t testing.TB, s []T) []T {
	t.Helper()
	m := Before[T](t, len(s))
	copy(m, s)
	return m
}
