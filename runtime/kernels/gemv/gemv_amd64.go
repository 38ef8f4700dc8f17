//go:build !purego

package gemv

import "nepcoc/runtime/kernels/cpu"

// Both widen to 16 bits and add pairs of products in 32: exact, unlike the
// shorter maddubs, which saturates.

// i8 does the columns that fill vectors and returns their number.
func i8(_ cpu.Path, out []int32, w, x []int8) int {
	n := len(x) &^ 15
	if n > 0 {
		i8avx2(&out[0], len(out), &w[0], len(x), &x[0], n)
	}
	return n
}

// i16 is i8 for a vector of int16.
func i16(_ cpu.Path, out []int32, w []int8, x []int16) int {
	n := len(x) &^ 15
	if n > 0 {
		i16avx2(&out[0], len(out), &w[0], len(x), &x[0], n)
	}
	return n
}

//go:noescape
func i8avx2(out *int32, rows int, w *int8, stride int, x *int8, cols int)

//go:noescape
func i16avx2(out *int32, rows int, w *int8, stride int, x *int16, cols int)
