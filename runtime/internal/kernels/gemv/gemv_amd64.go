//go:build !purego

package gemv

import "nepcoc/runtime/cpu"

// AVX2 widens to 16 bits and adds pairs of products in 32: exact, unlike the
// shorter maddubs, which saturates. AVX-512 has dot products of four unsigned by four signed
// bytes that do not: of w+128, less those of 128.

// i8 does the columns that fill vectors and returns their number.
func i8(path cpu.Path, out []int32, w, x []int8) int {
	done, n := 0, len(x)&^15
	if path == cpu.AVX512 && n >= 64 {
		done = n &^ 63
		i8avx512(&out[0], len(out), &w[0], len(x), &x[0], done)
	}
	if n > done {
		i8avx2(&out[0], len(out), &w[done], len(x), &x[done], n-done)
	}
	return n
}

// i16 is i8 for a vector of int16.
func i16(path cpu.Path, out []int32, w []int8, x []int16) int {
	done, n := 0, len(x)&^15
	if path == cpu.AVX512 && n >= 32 {
		done = n &^ 31
		i16avx512(&out[0], len(out), &w[0], len(x), &x[0], done)
	}
	if n > done {
		i16avx2(&out[0], len(out), &w[done], len(x), &x[done], n-done)
	}
	return n
}

//go:noescape
func i8avx2(out *int32, rows int, w *int8, stride int, x *int8, cols int)

//go:noescape
func i16avx2(out *int32, rows int, w *int8, stride int, x *int16, cols int)

//go:noescape
func i8avx512(out *int32, rows int, w *int8, stride int, x *int8, cols int)

//go:noescape
func i16avx512(out *int32, rows int, w *int8, stride int, x *int16, cols int)
