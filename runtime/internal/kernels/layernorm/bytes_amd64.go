//go:build !purego

package layernorm

import "nepcoc/runtime/cpu"

func hasBytes(path cpu.Path, n int) bool { return path == cpu.AVX512 || path == cpu.AVX2 && n%8 == 0 }

func statsBytes(path cpu.Path, src []int8, rows, cols int, f *factors) {
	if path == cpu.AVX512 {
		statsBytesAVX512(&src[0], rows, cols, f)
		return
	}
	statsBytesAVX2(&src[0], rows, cols, f)
}

func reciprocals(path cpu.Path, f *factors, k *byteLayer) {
	if path == cpu.AVX512 {
		reciprocalsAVX512(f, k.n, k.eps)
		return
	}
	reciprocalsGeneric(f, k)
}

func applyBytes(path cpu.Path, dst, src []int8, rows, cols int, k *byteLayer, f *factors) {
	if path == cpu.AVX512 {
		applyBytesAVX512(&dst[0], &src[0], rows, cols, &k.gamma[0], &k.beta[0], f, &k.tail)
		return
	}
	applyBytesAVX2(&dst[0], &src[0], rows, cols, &k.gamma[0], &k.beta[0], f, &k.tail)
}

//go:noescape
func statsBytesAVX512(src *int8, rows, cols int, f *factors)

//go:noescape
func statsBytesAVX2(src *int8, rows, cols int, f *factors)

//go:noescape
func reciprocalsAVX512(f *factors, n, eps int64)

//go:noescape
func applyBytesAVX512(dst, src *int8, rows, cols int, gamma *int32, beta *int64, f *factors, t *tail)

//go:noescape
func applyBytesAVX2(dst, src *int8, rows, cols int, gamma *int32, beta *int64, f *factors, t *tail)
