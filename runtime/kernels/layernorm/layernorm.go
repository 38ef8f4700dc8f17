// Package layernorm normalises positions over their channels: the general
// LayerNorm. (That of gated layers is fused into them; see package gated.)
package layernorm

import (
	"nepcoc/runtime/arith"
	"nepcoc/runtime/kernels/elementwise"
)

// Params are the constants of a layer; see bundle.LayerNorm.
type Params struct {
	Eps         int64
	Gamma, Beta []int32 // per channel
	Shift       int
	Lo, Hi      int32 // range of the output's type
}

// Row normalises one position; dst may be src.
func Row[D, S elementwise.Int](p *Params, dst []D, src []S) {
	var s1, s2 int64
	for _, x := range src {
		s1 += int64(x)
		s2 += int64(x) * int64(x)
	}
	c := len(src)
	m, shift := arith.LayerNormStats(s1, s2, c, p.Eps)
	dst, gamma, beta := dst[:c], p.Gamma[:c], p.Beta[:c]
	for i, x := range src {
		y := arith.LayerNormApply(int64(x), s1, c, m, shift, gamma[i], beta[i], p.Shift)
		dst[i] = D(arith.Clamp(y, p.Lo, p.Hi))
	}
}
