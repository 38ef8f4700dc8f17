// Package transpose makes rows of columns: positions become channels.
package transpose

import (
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
	for r := 0; r < rows; r += block {
		for c := 0; c < cols; c += block {
			square(dst, src, rows, cols, r, c, min(block, rows-r), min(block, cols-c))
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
