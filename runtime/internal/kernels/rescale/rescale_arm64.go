//go:build !purego

package rescale

import "nepcoc/runtime/cpu"

// has tells whether the path has kernels here.
func has(path cpu.Path) bool { return path == cpu.NEON || path == cpu.DotProd }

// Lengths are multiples of Lanes (extend: of 16) and at least that.

func scale(_ cpu.Path, x []int32, rows int, mult []int32, k *packed) {
	scaleNEON(&x[0], rows, len(mult), &mult[0], k)
}

func sum(_ cpu.Path, dst, a, b []int32, k *packedSum) {
	sumNEON(&dst[0], &a[:len(dst)][0], &b[:len(dst)][0], len(dst), k)
}

func multiply(_ cpu.Path, dst, b []int32) {
	multiplyNEON(&dst[0], &b[:len(dst)][0], len(dst))
}

func widen8(_ cpu.Path, dst []int32, src []int8)   { widen8NEON(&dst[0], &src[0], len(src)) }
func widen16(_ cpu.Path, dst []int32, src []int16) { widen16NEON(&dst[0], &src[0], len(src)) }
func narrow8(_ cpu.Path, dst []int8, src []int32)  { narrow8NEON(&dst[0], &src[0], len(src)) }
func narrow16(_ cpu.Path, dst []int16, src []int32) {
	narrow16NEON(&dst[0], &src[0], len(src))
}
func extend(_ cpu.Path, dst []int16, src []int8) { extendNEON(&dst[0], &src[0], len(src)) }

// Arm has no gather, and a loop does it as fast.
func lookup([]int32, []int16) { panic("BUG: no assembly") }

// hasBytes tells whether scaleBytes does rows of cols channels.
func hasBytes(path cpu.Path, cols int) bool { return has(path) && cols >= Lanes }

func scaleBytes(_ cpu.Path, dst []int8, x []int32, rows, cols int, mult []int32, k *packed) {
	scaleBytesNEON(&dst[0], &x[0], rows, cols, len(mult), &mult[0], k)
}

func lookupBytes(dst []int8, x []int32, t *ByteTable) { panic("BUG: no assembly") }

// splitLanes is what sumBytes and productBytes do multiples of.
const splitLanes = 8

func hasSplit(path cpu.Path) bool { return has(path) }

func sumBytes(_ cpu.Path, dst, a, b []int8, k *split) {
	sumBytesNEON(&dst[0], &a[0], &b[0], len(dst), k)
}

func productBytes(_ cpu.Path, dst, a, b []int8, k *split) {
	productBytesNEON(&dst[0], &a[0], &b[0], len(dst), k)
}
