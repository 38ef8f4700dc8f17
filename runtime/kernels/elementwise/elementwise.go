// Package elementwise holds the kernels that treat each number by itself: sums
// and products of two operands, rescaling, and changes of width.
//
// Operands are widened to 32 bits a row at a time, so that nine combinations of
// element types need one kernel; the widening is cheap beside the 64-bit
// products.
package elementwise

import "nepcoc/runtime/arith"

// Int is an element type of values.
type Int interface{ int8 | int16 | int32 }

// Widen copies src to 32 bits.
func Widen[T Int](dst []int32, src []T) {
	dst = dst[:len(src)]
	for i, x := range src {
		dst[i] = int32(x)
	}
}

// Narrow copies src, whose numbers fit T.
func Narrow[T Int](dst []T, src []int32) {
	dst = dst[:len(src)]
	for i, x := range src {
		dst[i] = T(x)
	}
}

// Rescale is dst = clamp(a*mult >> shift).
func Rescale(dst, a []int32, mult int32, shift int, lo, hi int32) {
	dst = dst[:len(a)]
	for i, x := range a {
		dst[i] = arith.Clamp(arith.Requant(int64(x), mult, shift), lo, hi)
	}
}

// Sum are the constants of an addition; see bundle.Add.
type Sum struct {
	MultA, MultB int32
	Bias         int64
	Shift        int
	Lo, Hi       int32
}

// Add is dst = clamp((a*MultA + b*MultB + Bias) >> Shift). An operand of one
// element goes with every element of the other.
func Add(dst, a, b []int32, k *Sum) {
	for i := range dst {
		q := int64(a[at(a, i)])*int64(k.MultA) + int64(b[at(b, i)])*int64(k.MultB) + k.Bias
		dst[i] = arith.Clamp(arith.RoundShift(q, k.Shift), k.Lo, k.Hi)
	}
}

// Product are the constants of a multiplication; see bundle.Mul.
type Product struct {
	Mult   int32
	Shift  int
	Lo, Hi int32
}

// Mul is dst = clamp(a*b*Mult >> Shift), with operands as in Add.
func Mul(dst, a, b []int32, k *Product) {
	for i := range dst {
		q := int64(a[at(a, i)]) * int64(b[at(b, i)])
		dst[i] = arith.Clamp(arith.Requant(q, k.Mult, k.Shift), k.Lo, k.Hi)
	}
}

// at is the index of an operand's element for element i of the result.
func at(operand []int32, i int) int {
	if len(operand) == 1 {
		return 0
	}
	return i
}
