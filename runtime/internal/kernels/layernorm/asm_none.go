//go:build purego || (!amd64 && !arm64)

package layernorm

import "nepcoc/runtime/cpu"

// No assembly: nothing but has is reached.
func has(cpu.Path) bool { return false }

func stats(_ cpu.Path, x []int32, s1, s2 *int64) { panic("BUG: no assembly") }
func apply(_ cpu.Path, x, gamma []int32, beta packedBeta, h *head, t *tail) {
	panic("BUG: no assembly")
}

type packedBeta struct{}

func pack([]int32, int) packedBeta { return packedBeta{} }
