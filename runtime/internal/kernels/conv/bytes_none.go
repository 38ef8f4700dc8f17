//go:build purego || !amd64

package conv

import "nepcoc/runtime/cpu"

// No path of this build multiplies bytes here (Arm's dot products are gemv's).
func hasBytes(cpu.Path) bool { return false }

func bytes16(acc []int32, accStride int, x []uint8, xStride, n int, w []int8, segments, segStride, pairs int, bias []int32) {
	panic("BUG: no assembly")
}

func bytes8(acc []int32, accStride int, x []uint8, xStride, n int, w []int8, segments, segStride, pairs int, bias []int32) {
	panic("BUG: no assembly")
}

func unsigned(dst []uint8, src []int8) { panic("BUG: no assembly") }
