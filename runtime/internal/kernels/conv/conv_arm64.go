//go:build !purego

package conv

import (
	"unsafe"

	"nepcoc/runtime/cpu"
)

func has(path cpu.Path) bool { return path == cpu.NEON || path == cpu.DotProd }

// inPair says which output channel and which of the two inputs of a pair the weight at
// place at of a pair's belongs to.
func inPair(at, width int) (channel, input int) { return at % width, at / width }

// order is the channel in place c of a depthwise kernel's vectors.
func order(c int) int { return c }

// Strides are in elements; see the packing for the order of weights and biases.

func dense16(_ cpu.Path, acc []int32, accStride int, x []int16, xStride, n int, w []int16, segments, segStride, pairs int, bias []int32) {
	dense16NEON(&acc[0], accStride*4, &x[0], xStride*2, n, &w[0], segments, segStride*2, pairs, &bias[0])
}

func dense8(_ cpu.Path, acc []int32, accStride int, x []int16, xStride, n int, w []int16, segments, segStride, pairs int, bias []int32) {
	dense8NEON(&acc[0], accStride*4, &x[0], xStride*2, n, &w[0], segments, segStride*2, pairs, &bias[0])
}

func depthwise16(_ cpu.Path, acc []int32, accStride int, x []int16, xStride, n int, w []int16, pairs, tapStride int, bias []int32) {
	depthwise16NEON(&acc[0], accStride*4, &x[0], xStride*2, n, &w[0], pairs, tapStride*2, &bias[0])
}

// hasBytes tells whether the path has products of four bytes, here both signed.
func hasBytes(path cpu.Path) bool { return path == cpu.DotProd }

// flip is what makes the scratch's bytes of inputs, by exclusive or.
const flip = 0

// flipped copies src so.
func flipped(dst []uint8, src []int8) {
	if len(src) > 0 {
		copy(dst, unsafe.Slice((*uint8)(unsafe.Pointer(&src[0])), len(src)))
	}
}

// bytes16 and bytes8 are dense16 and dense8 of bytes; pairs counts fours.

func bytes16(acc []int32, accStride int, x []uint8, xStride, n int, w []int8, segments, segStride, pairs int, bias []int32) {
	bytes16DOT(&acc[0], accStride*4, &x[0], xStride, n, &w[0], segments, segStride, pairs, &bias[0])
}

func bytes8(acc []int32, accStride int, x []uint8, xStride, n int, w []int8, segments, segStride, pairs int, bias []int32) {
	bytes8DOT(&acc[0], accStride*4, &x[0], xStride, n, &w[0], segments, segStride, pairs, &bias[0])
}
