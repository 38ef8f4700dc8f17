//go:build purego || !amd64

package layernorm

import "nepcoc/runtime/cpu"

// No assembly: nothing but hasBytes is reached.
func hasBytes(cpu.Path, int) bool { return false }

func statsBytes(_ cpu.Path, src []int8, rows, cols int, f *factors) { panic("BUG: no assembly") }
func reciprocals(_ cpu.Path, f *factors, k *byteLayer)              { panic("BUG: no assembly") }
func applyBytes(_ cpu.Path, dst, src []int8, rows, cols int, k *byteLayer, f *factors) {
	panic("BUG: no assembly")
}
