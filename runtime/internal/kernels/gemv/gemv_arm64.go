//go:build !purego

package gemv

import "nepcoc/runtime/cpu"

// i8 does the columns that fill vectors and returns their number.
func i8(path cpu.Path, out []int32, w, x []int8) int {
	n := len(x) &^ 15
	if n == 0 {
		return 0
	}
	f := i8neon
	if path == cpu.DotProd {
		f = i8dot
	}
	f(&out[0], len(out), &w[0], len(x), &x[0], n)
	return n
}

// i16 is i8 for a vector of int16.
func i16(_ cpu.Path, out []int32, w []int8, x []int16) int {
	n := len(x) &^ 15
	if n > 0 {
		i16neon(&out[0], len(out), &w[0], len(x), &x[0], n)
	}
	return n
}
