// Package rescale holds what the general kernels have in common: 32-bit numbers, row by
// row, and their way to and from the narrower types of values.
//
// Everything wider than one element is done in 32 bits in a few kilobytes of
// scratch that stay in the first-level cache: one kernel per operation instead of one per
// combination of types, for one more store and load.
package rescale

//go:generate go run ../internal/armgen -kernel rescale -o rescale_arm64.s -go decl_arm64.go

import (
	"nepcoc/runtime/arith"
	"nepcoc/runtime/cpu"
)

// Int is an element type of values.
type Int interface{ int8 | int16 | int32 }

// Lanes is the number of elements that kernels take at a time. Rows padded to a
// multiple of it go to them as they are.
const Lanes = 8

// Pad rounds n up to a multiple of Lanes.
func Pad(n int) int { return (n + Lanes - 1) &^ (Lanes - 1) }

// Scale is clamp(x*mult >> shift) with one rounding, mult per channel; see
// arith.Requant and arith.Clamp.
type Scale struct {
	path   cpu.Path
	mult   []int32 // padded to Lanes
	n      int     // channels
	shift  int
	lo, hi int32
	fast   bool
	packed packed
}

// packed are the constants of the kernels.
type packed struct {
	add    uint64 // rounding, plus 2^62: makes the sum positive, so that a logical shift does
	shift  uint64
	sub    uint32 // 2^62 >> shift
	lo, hi int32
	bias   int64 // arm64 adds just this
}

// NewScale makes a Scale for rows of channels padded to a multiple of Lanes. x of
// channel c must be within +-bound(c); where the result before clamping would then not
// fit 32 bits, the portable code is used.
func NewScale(path cpu.Path, mult []int32, shift int, lo, hi int32, bound func(c int) int64) *Scale {
	s := &Scale{path: path, mult: make([]int32, Pad(len(mult))), n: len(mult), shift: shift, lo: lo, hi: hi, fast: has(path) && shift > 0}
	copy(s.mult, mult)
	for c, m := range mult {
		s.fast = s.fast && fits(bound(c), m, shift)
	}
	if s.fast {
		s.packed = pack(shift, 0, lo, hi)
	}
	return s
}

// fits tells whether bound*m >> shift surely fits 32 bits, with room for rounding.
func fits(bound int64, m int32, shift int) bool {
	b, k := uint64(max(bound, -bound)), uint64(max(int64(m), -int64(m)))
	return b < 1<<32 && b*k < 1<<61 && b*k>>shift < 1<<31-2
}

func pack(shift int, bias int64, lo, hi int32) packed {
	return packed{add: 1<<62 + 1<<(shift-1) + uint64(bias), shift: uint64(shift), sub: uint32(uint64(1<<62) >> shift), lo: lo, hi: hi, bias: bias}
}

// Stride is the length of a padded row.
func (s *Scale) Stride() int { return len(s.mult) }

// Apply rescales rows padded rows in place; the padding's contents are undefined.
func (s *Scale) Apply(x []int32, rows int) {
	n := len(s.mult)
	if x = x[:rows*n]; len(x) == 0 {
		return
	}
	if s.fast {
		scale(s.path, x, rows, s.mult, &s.packed)
		return
	}
	s.generic(x)
}

func (s *Scale) generic(x []int32) {
	for ; len(x) > 0; x = x[len(s.mult):] {
		row := x[:s.n]
		for c, m := range s.mult[:s.n] {
			row[c] = arith.Clamp(arith.Requant(int64(row[c]), m, s.shift), s.lo, s.hi)
		}
	}
}

// Sum is clamp((a*multA + b*multB + bias) >> shift); see bundle.Add.
type Sum struct {
	path         cpu.Path
	MultA, MultB int32
	Bias         int64
	Shift        int
	Lo, Hi       int32
	fast         bool
	packed       packedSum
}

type packedSum struct {
	packed
	multA, multB int32
}

// NewSum completes the constants in s, for operands within +-boundA and +-boundB.
func NewSum(path cpu.Path, s Sum, boundA, boundB int64) *Sum {
	s.path = path
	abs := func(v int64) int64 { return max(v, -v) }
	const limit = 1 << 58
	s.fast = has(path) && s.Shift > 0 && abs(s.Bias) < limit && boundA < 1<<27 && boundB < 1<<27
	if s.fast {
		total := boundA*abs(int64(s.MultA)) + boundB*abs(int64(s.MultB)) + abs(s.Bias)
		s.fast = total>>s.Shift < 1<<31-2
		s.packed = packedSum{pack(s.Shift, s.Bias, s.Lo, s.Hi), s.MultA, s.MultB}
	}
	return &s
}

// Apply is dst = sum of a and b, element by element.
func (s *Sum) Apply(dst, a, b []int32) {
	n := 0
	if s.fast && len(dst) >= Lanes {
		n = len(dst) &^ (Lanes - 1)
		sum(s.path, dst[:n], a, b, &s.packed)
	}
	for i := n; i < len(dst); i++ {
		q := int64(a[i])*int64(s.MultA) + int64(b[i])*int64(s.MultB) + s.Bias
		dst[i] = arith.Clamp(arith.RoundShift(q, s.Shift), s.Lo, s.Hi)
	}
}

// Multiply is dst = dst*b modulo 2^32.
func Multiply(path cpu.Path, dst, b []int32) {
	n := 0
	if has(path) && len(dst) >= Lanes {
		n = len(dst) &^ (Lanes - 1)
		multiply(path, dst[:n], b)
	}
	for i := n; i < len(dst); i++ {
		dst[i] *= b[i]
	}
}

// Lookup replaces each x, within +-n/2, by entry n/2+x of a table of n entries, a power of two. table has
// one more, which pads the kernels' wider reads.
func Lookup(path cpu.Path, x []int32, table []int16) {
	n, half := 0, len(table)/2
	if path.HasAVX2() && len(x) >= Lanes {
		n = len(x) &^ (Lanes - 1)
		lookup(x[:n], table)
	}
	mask := len(table) - 2
	for i, q := range x[n:] {
		x[n+i] = int32(table[(int(q)+half)&mask])
	}
}

// Widen copies src to 32 bits.
func Widen[T Int](path cpu.Path, dst []int32, src []T) {
	dst, n := dst[:len(src)], 0
	if has(path) && len(src) >= Lanes {
		switch s := any(src).(type) {
		case []int8:
			n = len(src) &^ (Lanes - 1)
			widen8(path, dst, s[:n])
		case []int16:
			n = len(src) &^ (Lanes - 1)
			widen16(path, dst, s[:n])
		}
	}
	for i, x := range src[n:] {
		dst[n+i] = int32(x)
	}
}

// Narrow copies src, whose numbers fit T.
func Narrow[T Int](path cpu.Path, dst []T, src []int32) {
	dst, n := dst[:len(src)], 0
	if has(path) && len(src) >= Lanes {
		switch d := any(dst).(type) {
		case []int8:
			n = len(src) &^ (Lanes - 1)
			narrow8(path, d, src[:n])
		case []int16:
			n = len(src) &^ (Lanes - 1)
			narrow16(path, d, src[:n])
		case []int32:
			n = copy(d, src)
		}
	}
	for i, x := range src[n:] {
		dst[n+i] = T(x)
	}
}

// Extend copies src to 16 bits.
func Extend(path cpu.Path, dst []int16, src []int8) {
	dst, n := dst[:len(src)], 0
	if has(path) && len(src) >= 2*Lanes {
		n = len(src) &^ (2*Lanes - 1)
		extend(path, dst, src[:n])
	}
	for i, x := range src[n:] {
		dst[n+i] = int16(x)
	}
}
