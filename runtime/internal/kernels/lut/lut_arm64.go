//go:build !purego

package lut

import "nepcoc/runtime/cpu"

// has tells whether the path has a kernel here: one that maps bytes to bytes.
func has(path cpu.Path) bool { return path == cpu.NEON || path == cpu.DotProd }

// least is how many bytes the kernels take at least.
func least(cpu.Path) int { return 16 }

func mapBytes(_ cpu.Path, dst, src []int8, table *[256]int8) {
	mapBytesNEON(&dst[0], &src[0], len(src), table)
}
