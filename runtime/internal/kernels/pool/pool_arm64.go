//go:build !purego

package pool

import "nepcoc/runtime/cpu"

// has tells whether the path has kernels here.
func has(path cpu.Path) bool { return path == cpu.NEON || path == cpu.DotProd }

func max8(_ cpu.Path, dst, x []int8, cols, rows, count, step int) {
	max8NEON(&dst[0], cols, &x[0], rows, count, step)
}

func max16(_ cpu.Path, dst, x []int16, cols, rows, count, step int) {
	max16NEON(&dst[0], cols, &x[0], rows, count, step)
}

func sum8(_ cpu.Path, dst []int64, x []int8) {
	if len(x) < len(dst) {
		clear(dst)
		return
	}
	sum8NEON(&dst[0], len(dst), &x[0], len(x)/len(dst))
}

func sum16(_ cpu.Path, dst []int64, x []int16) {
	if len(x) < len(dst) {
		clear(dst)
		return
	}
	sum16NEON(&dst[0], len(dst), &x[0], len(x)/len(dst))
}
