//go:build !purego

package lut

import "nepcoc/runtime/cpu"

// has tells whether the path has a kernel here: one that maps bytes to bytes.
func has(path cpu.Path) bool { return path == cpu.AVX512 }

//go:noescape
func mapBytes(dst, src *int8, n int, table *[256]int8)
