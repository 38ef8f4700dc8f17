//go:build purego || (!amd64 && !arm64)

package rescale

import "nepcoc/runtime/cpu"

// No assembly: nothing but the functions that tell so is reached.
func hasBytes(cpu.Path, int) bool { return false }
func hasSplit(cpu.Path) bool      { return false }

const splitLanes = 16

func scaleBytes(_ cpu.Path, dst []int8, x []int32, rows, cols int, mult []int32, k *packed) {
	panic("BUG: no assembly")
}

func lookupBytes(dst []int8, x []int32, t *ByteTable)     { panic("BUG: no assembly") }
func sumBytes(_ cpu.Path, dst, a, b []int8, k *split)     { panic("BUG: no assembly") }
func productBytes(_ cpu.Path, dst, a, b []int8, k *split) { panic("BUG: no assembly") }
