//go:build !purego

package rescale

import "nepcoc/runtime/cpu"

// has tells whether the path has kernels here.
func has(path cpu.Path) bool { return path.HasAVX2() }

// Lengths are multiples of Lanes (extend: of 16) and at least that.

func scale(_ cpu.Path, x []int32, rows int, mult []int32, k *packed) {
	scaleAVX2(&x[0], rows, len(mult), &mult[0], k)
}

func sum(_ cpu.Path, dst, a, b []int32, k *packedSum) {
	sumAVX2(&dst[0], &a[:len(dst)][0], &b[:len(dst)][0], len(dst), k)
}

func multiply(_ cpu.Path, dst, b []int32) {
	multiplyAVX2(&dst[0], &b[:len(dst)][0], len(dst))
}

func widen8(_ cpu.Path, dst []int32, src []int8)   { widen8AVX2(&dst[0], &src[0], len(src)) }
func widen16(_ cpu.Path, dst []int32, src []int16) { widen16AVX2(&dst[0], &src[0], len(src)) }
func narrow8(_ cpu.Path, dst []int8, src []int32)  { narrow8AVX2(&dst[0], &src[0], len(src)) }
func narrow16(_ cpu.Path, dst []int16, src []int32) {
	narrow16AVX2(&dst[0], &src[0], len(src))
}
func extend(_ cpu.Path, dst []int16, src []int8) { extendAVX2(&dst[0], &src[0], len(src)) }

func lookup(x []int32, table []int16) { lookupAVX2(&x[0], len(x), &table[len(table)/2]) }

//go:noescape
func lookupAVX2(x *int32, n int, middle *int16)

//go:noescape
func scaleAVX2(x *int32, rows, n int, mult *int32, k *packed)

//go:noescape
func sumAVX2(dst, a, b *int32, n int, k *packedSum)

//go:noescape
func multiplyAVX2(dst, b *int32, n int)

//go:noescape
func widen8AVX2(dst *int32, src *int8, n int)

//go:noescape
func widen16AVX2(dst *int32, src *int16, n int)

//go:noescape
func narrow8AVX2(dst *int8, src *int32, n int)

//go:noescape
func narrow16AVX2(dst *int16, src *int32, n int)

//go:noescape
func extendAVX2(dst *int16, src *int8, n int)
