// Package elementwise multiplies and rescales numbers one by one, whatever row and channel
// they belong to. (Sums of two operands are rescale.Sum.)
package elementwise

import (
	"nepcoc/runtime/arith"
	"nepcoc/runtime/cpu"
	"nepcoc/runtime/internal/kernels/rescale"
)

// Product is clamp(a*b*mult >> shift); see bundle.Mul.
type Product struct {
	path   cpu.Path
	mult   int32
	shift  int
	lo, hi int32
	scale  *rescale.Scale // nil: a*b may not fit 32 bits
}

// NewProduct makes a Product of operands within +-boundA and +-boundB.
func NewProduct(path cpu.Path, mult int32, shift int, lo, hi int32, boundA, boundB int64) *Product {
	p := &Product{path: path, mult: mult, shift: shift, lo: lo, hi: hi}
	if boundA < 1<<31 && boundB < 1<<31 && boundA*boundB < 1<<31 {
		p.scale = All(path, mult, shift, lo, hi, boundA*boundB)
	}
	return p
}

// Apply is a = product of a and b, element by element; a is changed up to the next
// multiple of rescale.Lanes.
func (p *Product) Apply(a, b []int32) {
	if p.scale != nil {
		rescale.Multiply(p.path, a, b)
		ApplyAll(p.scale, a)
		return
	}
	for i, x := range b[:len(a)] {
		a[i] = arith.Clamp(arith.Requant(int64(a[i])*int64(x), p.mult, p.shift), p.lo, p.hi)
	}
}

// All is a Scale with one mult for everything; see ApplyAll.
func All(path cpu.Path, mult int32, shift int, lo, hi int32, bound int64) *rescale.Scale {
	same := make([]int32, rescale.Lanes)
	for i := range same {
		same[i] = mult
	}
	return rescale.NewScale(path, same, shift, lo, hi, func(int) int64 { return bound })
}

// ApplyAll rescales x, whose capacity reaches to a multiple of rescale.Lanes, by one of All.
func ApplyAll(s *rescale.Scale, x []int32) {
	n := rescale.Pad(len(x))
	s.Apply(x[:n], n/rescale.Lanes)
}
