//go:build purego || (!amd64 && !arm64)

package conv

import "nepcoc/runtime/cpu"

// No assembly: layers are not packed, so that nothing but has is reached.
func has(cpu.Path) bool { return false }

func inPair(at, _ int) (channel, input int) { panic("BUG: no assembly") }
func order(c int) int                       { panic("BUG: no assembly") }

func dense16(_ cpu.Path, acc []int32, accStride int, x []int16, xStride, n int, w []int16, segments, segStride, pairs int, bias []int32) {
	panic("BUG: no assembly")
}

func dense8(_ cpu.Path, acc []int32, accStride int, x []int16, xStride, n int, w []int16, segments, segStride, pairs int, bias []int32) {
	panic("BUG: no assembly")
}

func depthwise16(_ cpu.Path, acc []int32, accStride int, x []int16, xStride, n int, w []int16, pairs, tapStride int, bias []int32) {
	panic("BUG: no assembly")
}
