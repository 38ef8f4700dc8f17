//go:build purego || (!amd64 && !arm64)

package conv

import "nepcoc/runtime/cpu"

// No assembly.
func hasBytes(cpu.Path) bool { return false }

const flip = 0

func bytes16(acc []int32, accStride int, x []uint8, xStride, n int, w []int8, segments, segStride, pairs int, bias []int32) {
	panic("BUG: no assembly")
}

func bytes8(acc []int32, accStride int, x []uint8, xStride, n int, w []int8, segments, segStride, pairs int, bias []int32) {
	panic("BUG: no assembly")
}

func flipped(dst []uint8, src []int8) { panic("BUG: no assembly") }
