// Package layernorm normalises positions over their channels: the general
// LayerNorm. (That of gated layers is fused into them; see package gated.)
package layernorm

//go:generate go run ../internal/armgen -kernel layernorm -o layernorm_arm64.s -go decl_arm64.go

import (
	"math"

	"nepcoc/runtime/arith"
	"nepcoc/runtime/cpu"
	"nepcoc/runtime/internal/kernels/rescale"
)

// Params are the constants of a layer; see bundle.LayerNorm.
type Params struct {
	Eps         int64
	Gamma, Beta []int32 // per channel
	Shift       int
	Lo, Hi      int32 // range of the output's type
	RMS         bool  // no mean is taken off
}

// Layer is a layer for one path.
type Layer struct {
	p    Params
	path cpu.Path
	fast bool
	// For the kernels, padded to groups of 8 channels.
	gamma []int32
	beta  packedBeta
	tail  tail
	bytes *byteLayer // nil: Row does
}

// tail are the constants of the second rescaling.
type tail struct {
	shift  uint64
	sub    uint32 // 2^62 >> shift
	lo, hi int32
}

// head are those of one position: x*c - s1, times m, shifted.
type head struct {
	shift    uint64
	sub      uint32
	c, s1, m int32
}

// maxSum bounds the sum of a position's magnitudes: kernels keep x*c - sum(x) in 32 bits.
const maxSum = 1 << 29

// New makes a layer for inputs within +-bound.
func New(p Params, bound int64, path cpu.Path) *Layer {
	l := &Layer{p: p, path: path}
	n := len(p.Gamma)
	if !has(path) || bound*int64(n) > maxSum || p.Shift < 1 {
		return l
	}
	abs := func(v int32) int64 { return max(int64(v), -int64(v)) }
	// A normalised value is at most sqrt(n).
	limit := int64(2*math.Sqrt(float64(n))+1) << arith.NormBits
	l.gamma, l.beta = make([]int32, rescale.Pad(n)), pack(p.Beta, p.Shift)
	copy(l.gamma, p.Gamma)
	l.fast = true
	for c := range n {
		l.fast = l.fast && (limit*abs(p.Gamma[c])+abs(p.Beta[c]))>>p.Shift < 1<<31-2
	}
	l.tail = tail{uint64(p.Shift), uint32(uint64(1<<62) >> p.Shift), p.Lo, p.Hi}
	if l.fast && bound <= 128 {
		l.bytes = newBytes(l)
	}
	return l
}

// Row normalises one position in place; x has room for a multiple of rescale.Lanes.
func (l *Layer) Row(x []int32) {
	if !l.fast {
		l.generic(x)
		return
	}
	n := len(x)
	padded := x[:rescale.Pad(n)]
	clear(padded[n:])
	var s1, s2 int64
	stats(l.path, padded, &s1, &s2)
	if l.p.RMS {
		s1 = 0
	}
	m, s := invSqrt(uint64(max(int64(n)*s2-s1*s1+l.p.Eps, 1)))
	if m > math.MaxInt32 {
		l.generic(x)
		return
	}
	s -= arith.NormBits
	h := head{uint64(s), uint32(uint64(1<<62) >> s), int32(n), int32(s1), int32(m)}
	apply(l.path, padded, l.gamma, l.beta, &h, &l.tail)
}

func (l *Layer) generic(x []int32) {
	var s1, s2 int64
	for _, v := range x {
		s1 += int64(v)
		s2 += int64(v) * int64(v)
	}
	p, c := &l.p, len(x)
	if p.RMS {
		s1 = 0
	}
	m, shift := arith.LayerNormStats(s1, s2, c, p.Eps)
	for i, v := range x {
		y := arith.LayerNormApply(int64(v), s1, c, m, shift, p.Gamma[i], p.Beta[i], p.Shift)
		x[i] = arith.Clamp(y, p.Lo, p.Hi)
	}
}
