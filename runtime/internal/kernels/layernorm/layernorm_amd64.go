//go:build !purego

package layernorm

import (
	"nepcoc/runtime/cpu"
	"nepcoc/runtime/internal/kernels/rescale"
)

// packedBeta is beta with what rounds and makes positive, of each 8 channels first the even, then the odd.
type packedBeta []uint64

func pack(beta []int32, shift int) packedBeta {
	p := make(packedBeta, rescale.Pad(len(beta)))
	for c := range p {
		b := int64(0)
		if c < len(beta) {
			b = int64(beta[c])
		}
		p[c&^7|c&1<<2|c&6>>1] = uint64(b + 1<<(shift-1) + 1<<62)
	}
	return p
}

// has tells whether the path has kernels here.
func has(path cpu.Path) bool { return path.HasAVX2() }

// Lengths are multiples of 8.

func stats(_ cpu.Path, x []int32, s1, s2 *int64) { statsAVX2(&x[0], len(x), s1, s2) }

func apply(_ cpu.Path, x, gamma []int32, beta packedBeta, h *head, t *tail) {
	applyAVX2(&x[0], len(x), &gamma[0], &beta[0], h, t)
}

//go:noescape
func statsAVX2(x *int32, n int, s1, s2 *int64)

//go:noescape
func applyAVX2(x *int32, n int, gamma *int32, beta *uint64, h *head, t *tail)
