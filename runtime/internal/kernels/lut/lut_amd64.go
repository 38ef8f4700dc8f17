//go:build !purego

package lut

import "nepcoc/runtime/cpu"

// has tells whether the path has a kernel here: one that maps bytes to bytes.
func has(path cpu.Path) bool { return path.HasAVX2() }

// least is how many bytes the kernels take at least.
func least(path cpu.Path) int {
	if path == cpu.AVX512 {
		return 1
	}
	return 32
}

func mapBytes(path cpu.Path, dst, src []int8, table *[256]int8) {
	if path == cpu.AVX512 {
		mapBytesAVX512(&dst[0], &src[0], len(src), table)
		return
	}
	mapBytesAVX2(&dst[0], &src[0], len(src), table)
}

//go:noescape
func mapBytesAVX512(dst, src *int8, n int, table *[256]int8)

//go:noescape
func mapBytesAVX2(dst, src *int8, n int, table *[256]int8)
