package layernorm

import (
	"math"
	"math/bits"

	"nepcoc/runtime/arith"
	"nepcoc/runtime/cpu"
)

// groupRows is the number of positions whose reciprocals are computed side by side.
const groupRows = 8

// maxChannels keeps the sum of squares of bytes in 32 bits.
const maxChannels = 1 << 16

// factors are what the normalisation of groupRows positions takes: the sums of the inputs; their squares' sums, then the reciprocal
// deviations; and how far products with those are shifted.
type factors struct {
	s1, m [groupRows]int64
	shift [groupRows]uint64
}

// byteLayer are the constants of the kernels that go from bytes to bytes.
type byteLayer struct {
	gamma []int32 // padded
	beta  []int64 // in groups of a vector's channels, first the even ones, then the odd, with what rounds (and, AVX2, makes positive)
	tail  tail
	eps   int64
	n     int64
}

// newBytes makes the constants, where the path has the kernels, of a layer that is fast.
func newBytes(l *Layer) *byteLayer {
	n := len(l.p.Gamma)
	if !hasBytes(l.path, n) || n > maxChannels || l.p.Lo < -128 || l.p.Hi > 127 {
		return nil
	}
	group, positive := 8, int64(1)<<62
	if l.path == cpu.AVX512 {
		group, positive = 16, 0
	}
	padded := (n + group - 1) / group * group
	b := &byteLayer{gamma: make([]int32, padded), beta: make([]int64, padded), tail: l.tail, eps: l.p.Eps, n: int64(n)}
	copy(b.gamma, l.p.Gamma)
	for c := range b.beta {
		at := c/group*group + c%2*group/2 + c%group/2
		b.beta[at] = positive + 1<<(l.p.Shift-1)
		if c < n {
			b.beta[at] += int64(l.p.Beta[c])
		}
	}
	return b
}

// HasBytes tells whether Bytes can be called.
func (l *Layer) HasBytes() bool { return l.bytes != nil }

// Bytes normalises rows positions of bytes.
func (l *Layer) Bytes(dst, src []int8, rows int) {
	var f factors
	for cols := int(l.bytes.n); rows > 0; rows -= groupRows {
		n := min(rows, groupRows)
		d, s := dst[:n*cols], src[:n*cols]
		statsBytes(l.path, s, n, cols, &f)
		if l.p.RMS {
			clear(f.s1[:])
		}
		reciprocals(l.path, &f, l.bytes)
		applyBytes(l.path, d, s, n, cols, l.bytes, &f)
		for i, m := range f.m[:n] {
			if m > math.MaxInt32 { // no signed factor of 32 bits
				l.genericBytes(d[i*cols:][:cols], s[i*cols:][:cols])
			}
		}
		dst, src = dst[n*cols:], src[n*cols:]
	}
}

func (l *Layer) genericBytes(dst, src []int8) {
	var s1, s2 int64
	for _, v := range src {
		s1 += int64(v)
		s2 += int64(v) * int64(v)
	}
	p, c := &l.p, len(src)
	if p.RMS {
		s1 = 0
	}
	m, shift := arith.LayerNormStats(s1, s2, c, p.Eps)
	for i, v := range src {
		y := arith.LayerNormApply(int64(v), s1, c, m, shift, p.Gamma[i], p.Beta[i], p.Shift)
		dst[i] = int8(arith.Clamp(y, p.Lo, p.Hi))
	}
}

// reciprocalsGeneric is arith.LayerNormStats for all positions of f.
func reciprocalsGeneric(f *factors, k *byteLayer) {
	for i := range f.m {
		m, s := invSqrt(uint64(max(k.n*f.m[i]-f.s1[i]*f.s1[i]+k.eps, 1)))
		f.m[i], f.shift[i] = int64(m), uint64(s-arith.NormBits)
	}
}

// invSqrt is arith.InvSqrt with the CPU's square root, which every CPU rounds alike. Rounded to nearest, twice, the root may be
// an integer that the exact one is just below, but never below one that the exact one reaches: half a unit in the last place is 2^-22,
// the error of rounding u moves the root by less.
func invSqrt(v uint64) (m uint64, s int) {
	e := bits.LeadingZeros64(v) &^ 1
	u := v << e
	q := min(uint64(math.Sqrt(float64(int64(u>>1))*2)), math.MaxUint32)
	if q*q > u {
		q--
	}
	return 1 << 62 / q, 62 - e/2
}
