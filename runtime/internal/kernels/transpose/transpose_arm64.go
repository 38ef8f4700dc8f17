//go:build !purego

package transpose

import (
	"unsafe"

	"nepcoc/runtime/cpu"
)

// has tells whether the path has kernels here.
func has(path cpu.Path) bool { return path == cpu.NEON || path == cpu.DotProd }

// stripRows16 is the number of rows of 16 bits that a kernel takes at a time.
const stripRows16 = 8

// Strides are in bytes.

func strip8(dst, src unsafe.Pointer, rows, cols, blocks int) {
	strip8NEON((*int8)(dst), (*int8)(src), rows, cols, blocks)
}

func strip16(dst, src unsafe.Pointer, rows, cols, blocks int) {
	strip16NEON((*int16)(dst), (*int16)(src), rows, cols, blocks)
}
