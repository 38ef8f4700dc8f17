package pool_test

import (
	"math/rand/v2"
	"testing"

	"nepcoc/runtime/kernels/cpu"
	"nepcoc/runtime/kernels/plane"
	"nepcoc/runtime/kernels/pool"
)

func TestPools(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, path := range cpu.Available() {
		for _, s := range []struct{ rows, cols int }{{1, 1}, {3, 16}, {40, 33}, {2, 257}} {
			p := plane.New(path, s.cols, s.rows, 1, 2)
			for i := range p.Data {
				p.Data[i] = int8(r.Uint32()) // what lies beyond the rows must not matter
			}
			x, top, sum := make([]int16, s.rows*s.cols), make([]int16, s.cols), make([]int64, s.cols)
			for i := range x {
				x[i] = int16(r.IntN(256) - 128)
				p.Set(i%s.cols, i/s.cols, int8(x[i]))
			}
			for c := range s.cols {
				top[c] = -128
				for t := range s.rows {
					top[c] = max(top[c], x[t*s.cols+c])
					sum[c] += int64(x[t*s.cols+c])
				}
			}
			max16, max8, sums, planeSums := make([]int16, s.cols), make([]int8, s.cols), make([]int64, s.cols), make([]int64, s.cols)
			pool.Max(max16, x)
			pool.PlaneMax(max8, &p, s.rows)
			pool.Sum(sums, x)
			pool.PlaneSum(planeSums, &p, s.rows)
			for c := range s.cols {
				if max16[c] != top[c] || int16(max8[c]) != top[c] || sums[c] != sum[c] || planeSums[c] != sum[c] {
					t.Fatalf("%v %+v, channel %d: max %d and %d, want %d; sum %d and %d, want %d",
						path, s, c, max16[c], max8[c], top[c], sums[c], planeSums[c], sum[c])
				}
			}
		}
	}
}
