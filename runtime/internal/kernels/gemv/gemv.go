// Package gemv multiplies int8 matrices by vectors with exact 32-bit sums: the
// linear layers of a classifier's head.
package gemv

//go:generate go run ../internal/armgen -kernel gemv -o gemv_arm64.s -go decl_arm64.go

import (
	"fmt"

	"nepcoc/runtime/cpu"
)

// I8 adds to each out[o] the product of row o of w, [len(out),len(x)]
// row-major, and x. The sums must fit 32 bits (they wrap).
func I8(path cpu.Path, out []int32, w, x []int8) {
	check(len(out), len(w), len(x))
	done := 0
	if path != cpu.Purego && len(out) > 0 {
		done = i8(path, out, w, x)
	}
	i8Generic(out, w, x, done)
}

// I16 is I8 for a vector of int16.
func I16(path cpu.Path, out []int32, w []int8, x []int16) {
	check(len(out), len(w), len(x))
	done := 0
	if path != cpu.Purego && len(out) > 0 {
		done = i16(path, out, w, x)
	}
	i16Generic(out, w, x, done)
}

func check(rows, weights, cols int) {
	if weights != rows*cols {
		panic(fmt.Sprintf("BUG: gemv: %d weights for %d x %d", weights, rows, cols))
	}
}

// i8Generic does columns [from,len(x)).
func i8Generic(out []int32, w, x []int8, from int) {
	n := len(x)
	if from == n {
		return
	}
	x = x[from:]
	for o := range out {
		row := w[o*n+from:][:len(x)]
		var s int32
		for i, v := range x {
			s += int32(row[i]) * int32(v)
		}
		out[o] += s
	}
}

// i16Generic does columns [from,len(x)).
func i16Generic(out []int32, w []int8, x []int16, from int) {
	n := len(x)
	if from == n {
		return
	}
	x = x[from:]
	for o := range out {
		row := w[o*n+from:][:len(x)]
		var s int32
		for i, v := range x {
			s += int32(row[i]) * int32(v)
		}
		out[o] += s
	}
}
