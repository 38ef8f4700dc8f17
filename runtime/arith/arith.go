// Package arith is the only definition of the integer arithmetic of a bundle:
// every rounding, shift, saturation and table access that a program performs is
// one of these functions on scalars.
//
// The reference executor is written straight from this package, the fast
// kernels are tested against it, and the compiler builds its tables with it. Nothing else
// may round, shift or saturate. It holds no state and imports nothing that does; floating point is
// used by the compiler alone, for tables and grids (exptable.go, grid.go).
//
// Rules that every function keeps: one rounding per result, written out
// as (x + half) >> s with an arithmetic shift, so halves go up; no shift by the
// width or more; saturation only where the definition says so. Preconditions on
// ranges are proved by the compiler and checked again when a bundle is
// decoded; inside them no operation overflows.
package arith

import "math/bits"

// Sat8 clamps to the range of int8.
func Sat8(v int32) int8 { return int8(min(max(v, -128), 127)) }

// Sat16 clamps to the range of int16.
func Sat16(v int32) int16 { return int16(min(max(v, -32768), 32767)) }

// Clamp limits v to [lo, hi].
func Clamp(v int64, lo, hi int32) int32 {
	return int32(min(max(v, int64(lo)), int64(hi)))
}

// RoundShift is v / 2^s rounded to nearest, halves up; s in 0..62. s = 0
// returns v.
func RoundShift(v int64, s int) int64 {
	if s == 0 {
		return v
	}
	return (v + 1<<(s-1)) >> s
}

// Requant rescales an accumulator: acc * mult / 2^s with a single rounding.
// |acc*mult| < 2^62.
func Requant(acc int64, mult int32, s int) int64 {
	return RoundShift(acc*int64(mult), s)
}

// TableIndex is the entry of an n-entry table (n a power of two) for the
// rescaled value q: the middle of the table is q = 0, both ends saturate.
func TableIndex(q int64, n int) int {
	half := int64(n / 2)
	return int(min(max(q, -half), half-1) + half)
}

// DivRound is sum/count rounded to nearest, halves up; count > 0.
func DivRound(sum, count int64) int64 {
	return FloorDiv(2*sum+count, 2*count)
}

// FloorDiv is a/b rounded down; b > 0.
func FloorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// Gate is the sigmoid of a gated convolution as 32 linear pieces in 8-bit
// modular arithmetic: a 7-bit result, 127 stands for one.
func Gate(base, slope *[32]uint8, g uint8) uint8 {
	i := g >> 3
	return (base[i] + slope[i]*g) >> 1
}

// GateHidden narrows the 16-bit accumulator of the value branch (its bias
// carries the rounding) to 8 bits.
func GateHidden(acc int32) int8 { return int8(acc >> 8) }

// GateInput narrows the accumulator of the gate branch; its bias carries the
// rounding and the offset 32768 that makes the result unsigned.
func GateInput(acc int32) uint8 { return uint8(acc >> 8) }

// GateShift is the output of a gated convolution without LayerNorm;
// s in 1..14.
func GateShift(h int8, s7 uint8, s int) int8 {
	return Sat8((int32(h)*int32(s7) + 1<<(s-1)) >> s)
}

// GateResidual is the input of LayerNorm: the gated value plus the scaled
// residual and a constant. The result fits 16 bits by proof.
func GateResidual(h int8, s7 uint8, r, rho int8, cst int16) int16 {
	return int16(int32(h)*int32(s7) + int32(r)*int32(rho) + int32(cst))
}

// The cubic that starts the reciprocal square root: for u in [1/4,1) in 1/2^15,
// ((rc3*u + rc2)*u + rc1)*u + rc0 approximates 1/sqrt(u) in 1/2^12. A Newton step
// brings the relative error to 1.2e-4.
const (
	rc0 = 12748
	rc1 = -24211
	rc2 = 25518
	rc3 = -9988
)

// NormParams are the constants of a fused LayerNorm; see bundle.Norm.
type NormParams struct {
	C     int32 // channels, at most 256
	MeanM int32 // round(2^23/C)
	Eps   int32 // epsilon in units of the variance below
	A     int32 // scale of the reciprocal, 1..65535
	S     int   // its shift
}

// NormFactors turns the sum s1 and the sum of squares s2 of y>>8 over a
// position's C channels into the factors of NormApply: r = scale/deviation in
// 1/2^15 and k = -mean*r.
//
// V = C*s2 - s1^2 + Eps is the variance times C^2; C <= 256 keeps it in 32 bits.
func NormFactors(s1, s2 int32, p *NormParams) (r, k int16) {
	v := max(p.C*s2-s1*s1+p.Eps, 1)
	e := (bits.LeadingZeros32(uint32(v)) - 1) &^ 1
	u := int32(uint32(v) << e >> 16) // [1/4,1) in 1/2^15
	x := int32(rc3)
	x = rc2 + u*x>>15
	x = rc1 + u*x>>15
	x = rc0 + u*x>>15
	t := x * x >> 10
	w := t * u >> 15
	q := x * (49152 - w) >> 13
	s := max(p.S-e>>1, 0)
	f := min(uint32(q)*uint32(p.A)>>s, 32767)
	mean := (s1*p.MeanM+1<<14)>>15 + 128
	m := (mean*int32(f) + 1<<14) >> 15
	return int16(f), int16(min(max(-m, -16384), 16383))
}

// NormApply is the normalised value in 16 bits.
func NormApply(y, r, k int16) int16 {
	return Sat16(int32(k) + (int32(y)*int32(r)+1<<14)>>15)
}

// NormNarrow rounds a normalised value to 8 bits; s in 1..7.
func NormNarrow(v int16, s int) int8 {
	return Sat8((int32(v) + 1<<(s-1)) >> s)
}

// Flip complements v where f is 1: the stored form of a channel whose scale is
// negative.
func Flip(v int32, f uint8) int32 { return v ^ -int32(f) }

// InvSqrt is the general reciprocal square root: 1/sqrt(v) = m / 2^s with m in
// [2^30, 2^32]. v > 0.
func InvSqrt(v uint64) (m uint64, s int) {
	e := (bits.LeadingZeros64(v)) &^ 1
	q := isqrt(v << e) // [2^31, 2^32)
	// 1/sqrt(v) = 2^(e/2)/sqrt(v<<e) = (2^62/q) / 2^(62-e/2)
	return 1 << 62 / q, 62 - e/2
}

// isqrt is the floor of the square root: Newton's iteration, which from above falls
// until it has reached it. InvSqrt's v >= 2^62 takes three or four divisions.
func isqrt(v uint64) uint64 {
	if v == 0 {
		return 0
	}
	const start = 3037000500 // 2^31.5: the first step lands at most 6 % above
	r := (start + v/start + 1) / 2
	for {
		q := (r + v/r) / 2
		if q >= r {
			return r
		}
		r = q
	}
}

// NormBits is the number of fraction bits of LayerNorm's normalised value.
const NormBits = 15

// LayerNormStats prepares the general LayerNorm of one position: s1 and s2 are
// the sums of its c inputs and of their squares, eps is epsilon*c^2 in units of
// the input. The result is for LayerNormApply.
func LayerNormStats(s1, s2 int64, c int, eps int64) (m uint64, s int) {
	v := max(int64(c)*s2-s1*s1+eps, 1)
	return InvSqrt(uint64(v))
}

// LayerNormApply is the general LayerNorm of one element: (x - mean)/deviation
// rounded down to 1/2^15, then times gamma plus beta with one rounding.
func LayerNormApply(x, s1 int64, c int, m uint64, s int, gamma, beta int32, shift int) int64 {
	n := mulShift(int64(c)*x-s1, m, s-NormBits)
	return RoundShift(n*int64(gamma)+int64(beta), shift)
}

// mulShift is (d*m) >> s rounded down, in 128 bits; s in 0..63.
func mulShift(d int64, m uint64, s int) int64 {
	neg := d < 0
	a := uint64(d)
	if neg {
		a = -a
	}
	hi, lo := bits.Mul64(a, m)
	q := hi<<(64-s) | lo>>s // s = 0 gives lo: a shift by 64 is 0
	if neg {
		if lo&(1<<s-1) != 0 {
			q++
		}
		return -int64(q)
	}
	return int64(q)
}

// Softmax fills p with probabilities in 1/2^24 from integer logits:
// exp(-(max-x)*scale) by table (see ExpIndex), divided by the sum, rounded to nearest.
func Softmax(p, logits []int32, exp []int32, mult int32, shift int) {
	top := logits[0]
	for _, x := range logits {
		top = max(top, x)
	}
	var sum int64
	for i, x := range logits {
		p[i] = exp[ExpIndex(int64(top)-int64(x), mult, shift, len(exp))]
		sum += int64(p[i])
	}
	for i, e := range p {
		p[i] = int32(DivRound(int64(e)<<24, sum))
	}
}

// ProbabilityBits are the fraction bits of Probabilities.
const ProbabilityBits = 15

// Probabilities is Softmax inside a program: in 1/2^15, the largest being 2^15-1, so that they fit 16 bits.
func Probabilities(p, x []int32, exp []int32, mult int32, shift int) {
	top := x[0]
	for _, v := range x {
		top = max(top, v)
	}
	var sum int64
	for i, v := range x {
		p[i] = exp[ExpIndex(int64(top)-int64(v), mult, shift, len(exp))]
		sum += int64(p[i])
	}
	for i, e := range p {
		p[i] = Clamp(DivRound(int64(e)<<ProbabilityBits, sum), 0, 1<<ProbabilityBits-1)
	}
}

// ExpIndex is the entry of an n-entry table of exp(-d*scale) for the distance
// d >= 0 from the largest logit; beyond the end is the last entry.
func ExpIndex(d int64, mult int32, shift, n int) int {
	return int(min(uint64(d)*uint64(mult)>>shift, uint64(n-1)))
}

// Sigmoid is 1/(1+exp(-x*scale)) of an integer logit in 1/2^24, by the table of Softmax; of -x it is
// exactly one minus that. Between two entries it follows the straight line, 16 bits of the way:
// a stair would give logits on both sides of a threshold the same probability.
func Sigmoid(x int32, exp []int32, mult int32, shift int) int32 {
	const one = 1 << 24
	d := int64(x)
	if d < 0 {
		d = -d
	}
	i := ExpIndex(d, mult, shift, len(exp))
	e := int64(exp[i])
	if i+1 < len(exp) {
		part := int64(uint64(d) * uint64(mult) << (64 - shift) >> 48)
		e -= (e - int64(exp[i+1])) * part >> 16
	}
	p := DivRound(one*one, one+e)
	if x < 0 {
		p = one - p
	}
	return int32(p)
}

// Distance is the square of the distance of z, of 16 bits an element, from a prototype; both have at most 2^30 elements.
func Distance(z []int32, prototype []int16) (sum int64) {
	for i, p := range prototype {
		d := int64(z[i]) - int64(p)
		sum += d * d
	}
	return sum
}

// Nearest is the least of a number and the Distances of z from prototypes of as many elements, which lie one behind another. What is
// farther than one before it is not computed to its end.
func Nearest(z []int32, prototypes []int16, least int64) int64 {
	const block = 16
	for p := prototypes; len(p) > 0; p = p[len(z):] {
		sum := int64(0)
		for d := 0; d < len(z) && sum < least; d += block {
			end := min(d+block, len(z))
			sum += Distance(z[d:end], p[d:end])
		}
		least = min(least, sum)
	}
	return least
}

// ArgMax is the index of the largest value, the first of equals.
func ArgMax(v []int32) int {
	best := 0
	for i, x := range v {
		if x > v[best] {
			best = i
		}
	}
	return best
}
