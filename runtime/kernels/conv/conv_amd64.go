//go:build !purego

package conv

import "nepcoc/runtime/kernels/cpu"

func has(path cpu.Path) bool { return path == cpu.AVX2 }

// Strides are in elements; see the packing for the order of weights and biases.

func dense16(_ cpu.Path, acc []int32, accStride int, x []int16, xStride, n int, w []int16, segments, segStride, pairs int, bias []int32) {
	dense16AVX2(&acc[0], accStride*4, &x[0], xStride*2, n, &w[0], segments, segStride*2, pairs, &bias[0])
}

func dense8(_ cpu.Path, acc []int32, accStride int, x []int16, xStride, n int, w []int16, segments, segStride, pairs int, bias []int32) {
	dense8AVX2(&acc[0], accStride*4, &x[0], xStride*2, n, &w[0], segments, segStride*2, pairs, &bias[0])
}

func depthwise16(_ cpu.Path, acc []int32, accStride int, x []int16, xStride, n int, w []int16, pairs, tapStride int, bias []int32) {
	depthwise16AVX2(&acc[0], accStride*4, &x[0], xStride*2, n, &w[0], pairs, tapStride*2, &bias[0])
}

//go:noescape
func dense16AVX2(acc *int32, accStride int, x *int16, xStride, n int, w *int16, segments, segStride, pairs int, bias *int32)

//go:noescape
func dense8AVX2(acc *int32, accStride int, x *int16, xStride, n int, w *int16, segments, segStride, pairs int, bias *int32)

//go:noescape
func depthwise16AVX2(acc *int32, accStride int, x *int16, xStride, n int, w *int16, pairs, tapStride int, bias *int32)
