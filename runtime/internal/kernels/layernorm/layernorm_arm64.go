//go:build !purego

package layernorm

import (
	"nepcoc/runtime/cpu"
	"nepcoc/runtime/internal/kernels/rescale"
)

// packedBeta is beta as it is: arm64 has a shift that rounds.
type packedBeta []int32

func pack(beta []int32, _ int) packedBeta {
	p := make(packedBeta, rescale.Pad(len(beta)))
	copy(p, beta)
	return p
}

// has tells whether the path has kernels here.
func has(path cpu.Path) bool { return path == cpu.NEON || path == cpu.DotProd }

// Lengths are multiples of 8.

func stats(_ cpu.Path, x []int32, s1, s2 *int64) { statsNEON(&x[0], len(x), s1, s2) }

func apply(_ cpu.Path, x, gamma []int32, beta packedBeta, h *head, t *tail) {
	applyNEON(&x[0], len(x), &gamma[0], &beta[0], h, t)
}
