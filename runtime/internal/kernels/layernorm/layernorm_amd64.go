//go:build !purego

package layernorm

import "nepcoc/runtime/cpu"

// has tells whether the path has kernels here.
func has(path cpu.Path) bool { return path.HasAVX2() }

// Lengths are multiples of 8.

func stats(_ cpu.Path, x []int32, s1, s2 *int64) { statsAVX2(&x[0], len(x), s1, s2) }

func apply(_ cpu.Path, x, gamma []int32, beta []uint64, h *head, t *tail) {
	applyAVX2(&x[0], len(x), &gamma[0], &beta[0], h, t)
}

//go:noescape
func statsAVX2(x *int32, n int, s1, s2 *int64)

//go:noescape
func applyAVX2(x *int32, n int, gamma *int32, beta *uint64, h *head, t *tail)
