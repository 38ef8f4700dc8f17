//go:build !purego

package transpose

import (
	"unsafe"

	"nepcoc/runtime/cpu"
)

// has tells whether the path has kernels here.
func has(path cpu.Path) bool { return path.HasAVX2() }

// stripRows16 is the number of rows of 16 bits that a kernel takes at a time.
const stripRows16 = 16

// Strides are in bytes.

func strip8(dst, src unsafe.Pointer, rows, cols, blocks int) {
	strip8AVX2(dst, src, rows, cols, blocks)
}

func strip16(dst, src unsafe.Pointer, rows, cols, blocks int) {
	strip16AVX2(dst, src, rows, cols, blocks)
}

//go:noescape
func strip8AVX2(dst, src unsafe.Pointer, rows, cols, blocks int)

//go:noescape
func strip16AVX2(dst, src unsafe.Pointer, rows, cols, blocks int)
