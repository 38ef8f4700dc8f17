// Package transpose makes rows of columns: positions become channels.
package transpose

//go:generate go run ../internal/armgen -kernel transpose -o transpose_arm64.s -go decl_arm64.go

import (
	"unsafe"

	"nepcoc/runtime/cpu"
	"nepcoc/runtime/internal/kernels/rescale"
)

// block is the edge of the squares that are transposed one by one: the rows that one reads and the
// rows that it writes stay in the first-level cache.
const block = 16

// Run writes src, of rows rows and cols columns, to dst by columns: dst[c*rows+r] = src[r*cols+c]. They must
// not overlap.
func Run[T rescale.Int](path cpu.Path, dst, src []T, rows, cols int) {
	dst, src = dst[:rows*cols], src[:rows*cols]
	size := int(unsafe.Sizeof(T(0)))
	// Kernels take strips of 16 bytes, and rows high at a time.
	wide, high := 16/size, block
	if size == 2 {
		high = stripRows16
	}
	if !has(path) || size > 2 || rows < high || cols < wide {
		for r := 0; r < rows; r += block {
			for c := 0; c < cols; c += block {
				square(dst, src, rows, cols, r, c, min(block, rows-r), min(block, cols-c))
			}
		}
		return
	}
	for c := 0; c < cols; c += wide {
		c := min(c, cols-wide) // the last strip overlaps the one before it, so does the last block
		run := func(r, blocks int) {
			to, from := unsafe.Pointer(&dst[c*rows+r]), unsafe.Pointer(&src[r*cols+c])
			if size == 1 {
				strip8(to, from, rows, cols, blocks)
			} else {
				strip16(to, from, 2*rows, 2*cols, blocks)
			}
		}
		run(0, rows/high)
		if rows%high != 0 {
			run(rows-high, 1)
		}
	}
}

// square transposes the h rows and w columns from row r and column c on.
func square[T rescale.Int](dst, src []T, rows, cols, r, c, h, w int) {
	for i := r; i < r+h; i++ {
		for j, v := range src[i*cols+c:][:w] {
			dst[(c+j)*rows+i] = v
		}
	}
}
