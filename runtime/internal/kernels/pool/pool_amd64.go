//go:build !purego

package pool

import "nepcoc/runtime/cpu"

// has tells whether the path has kernels here.
func has(path cpu.Path) bool { return path.HasAVX2() }

func max8(_ cpu.Path, dst, x []int8, cols, rows, count, step int) {
	max8AVX2(&dst[0], cols, &x[0], rows, count, step)
}

func max16(_ cpu.Path, dst, x []int16, cols, rows, count, step int) {
	max16AVX2(&dst[0], cols, &x[0], rows, count, step)
}

func sum8(_ cpu.Path, dst []int64, x []int8) {
	if len(x) < len(dst) {
		clear(dst)
		return
	}
	sum8AVX2(&dst[0], len(dst), &x[0], len(x)/len(dst))
}

func sum16(_ cpu.Path, dst []int64, x []int16) {
	if len(x) < len(dst) {
		clear(dst)
		return
	}
	sum16AVX2(&dst[0], len(dst), &x[0], len(x)/len(dst))
}

//go:noescape
func max8AVX2(dst *int8, n int, x *int8, rows, count, step int)

//go:noescape
func max16AVX2(dst *int16, n int, x *int16, rows, count, step int)

//go:noescape
func sum8AVX2(dst *int64, n int, x *int8, rows int)

//go:noescape
func sum16AVX2(dst *int64, n int, x *int16, rows int)
