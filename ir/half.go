package ir

import "math"

// Float16 is the number that 16 bits of IEEE 754 binary16 stand for: 1 bit sign, 5 exponent with bias 15, 10
// mantissa. A float32 holds all of them.
func Float16(h uint16) float32 {
	sign, exp, frac := uint32(h>>15)<<31, uint32(h>>10&31), uint32(h&1023)
	switch {
	case exp == 31: // infinity or NaN
		return math.Float32frombits(sign | 255<<23 | frac<<13)
	case exp > 0:
		return math.Float32frombits(sign | (exp+127-15)<<23 | frac<<13)
	}
	v := float32(frac) / (1 << 24) // subnormal, exact
	return math.Float32frombits(sign | math.Float32bits(v))
}
