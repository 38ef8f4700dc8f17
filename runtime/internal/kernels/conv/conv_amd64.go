//go:build !purego

package conv

import "nepcoc/runtime/cpu"

func has(path cpu.Path) bool { return path.HasAVX2() }

// inPair says which output channel and which of the two inputs of a pair the weight at
// place at of a pair's belongs to.
func inPair(at, _ int) (channel, input int) { return at / 2, at % 2 }

// order is the channel in place c of a depthwise kernel's vectors, as interleaving two rows
// leaves them: 0-3, 8-11, 4-7, 12-15.
func order(c int) int { return c&^12 | c&4<<1 | c&8>>1 }

// Strides are in elements; see the packing for the order of weights and biases.

func dense16(path cpu.Path, acc []int32, accStride int, x []int16, xStride, n int, w []int16, segments, segStride, pairs int, bias []int32) {
	if path == cpu.AVX512 {
		dense16AVX512(&acc[0], accStride*4, &x[0], xStride*2, n, &w[0], segments, segStride*2, pairs, &bias[0])
		return
	}
	dense16AVX2(&acc[0], accStride*4, &x[0], xStride*2, n, &w[0], segments, segStride*2, pairs, &bias[0])
}

func dense8(path cpu.Path, acc []int32, accStride int, x []int16, xStride, n int, w []int16, segments, segStride, pairs int, bias []int32) {
	if path == cpu.AVX512 {
		dense8AVX512(&acc[0], accStride*4, &x[0], xStride*2, n, &w[0], segments, segStride*2, pairs, &bias[0])
		return
	}
	dense8AVX2(&acc[0], accStride*4, &x[0], xStride*2, n, &w[0], segments, segStride*2, pairs, &bias[0])
}

// hasBytes tells whether the path has products of four bytes.
func hasBytes(path cpu.Path) bool { return path == cpu.AVX512 }

// bytes16 and bytes8 are dense16 and dense8 of bytes, x unsigned; pairs counts fours.

func bytes16(acc []int32, accStride int, x []uint8, xStride, n int, w []int8, segments, segStride, pairs int, bias []int32) {
	bytes16AVX512(&acc[0], accStride*4, &x[0], xStride, n, &w[0], segments, segStride, pairs, &bias[0])
}

func bytes8(acc []int32, accStride int, x []uint8, xStride, n int, w []int8, segments, segStride, pairs int, bias []int32) {
	bytes8AVX512(&acc[0], accStride*4, &x[0], xStride, n, &w[0], segments, segStride, pairs, &bias[0])
}

// flip is what makes the scratch's bytes of inputs, by exclusive or: x+128, unsigned.
const flip = 0x80

// flipped copies src so.
func flipped(dst []uint8, src []int8) {
	if len(src) > 0 {
		unsignedAVX512(&dst[:len(src)][0], &src[0], len(src))
	}
}

//go:noescape
func unsignedAVX512(dst *uint8, src *int8, n int)

func depthwise16(_ cpu.Path, acc []int32, accStride int, x []int16, xStride, n int, w []int16, pairs, tapStride int, bias []int32) {
	depthwise16AVX2(&acc[0], accStride*4, &x[0], xStride*2, n, &w[0], pairs, tapStride*2, &bias[0])
}

//go:noescape
func dense16AVX2(acc *int32, accStride int, x *int16, xStride, n int, w *int16, segments, segStride, pairs int, bias *int32)

//go:noescape
func dense8AVX2(acc *int32, accStride int, x *int16, xStride, n int, w *int16, segments, segStride, pairs int, bias *int32)

//go:noescape
func dense16AVX512(acc *int32, accStride int, x *int16, xStride, n int, w *int16, segments, segStride, pairs int, bias *int32)

//go:noescape
func dense8AVX512(acc *int32, accStride int, x *int16, xStride, n int, w *int16, segments, segStride, pairs int, bias *int32)

//go:noescape
func bytes16AVX512(acc *int32, accStride int, x *uint8, xStride, n int, w *int8, segments, segStride, pairs int, bias *int32)

//go:noescape
func bytes8AVX512(acc *int32, accStride int, x *uint8, xStride, n int, w *int8, segments, segStride, pairs int, bias *int32)

//go:noescape
func depthwise16AVX2(acc *int32, accStride int, x *int16, xStride, n int, w *int16, pairs, tapStride int, bias *int32)
