package pool_test

import (
	"math/rand/v2"
	"testing"

	"nepcoc/internal/testmem"
	"nepcoc/runtime/cpu"
	"nepcoc/runtime/internal/kernels/plane"
	"nepcoc/runtime/internal/kernels/pool"
)

func TestPools(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, path := range cpu.Available() {
		for _, s := range []struct{ rows, cols int }{{1, 1}, {1, 16}, {3, 16}, {5, 8}, {5, 15}, {7, 17}, {40, 33}, {2, 257}} {
			p := plane.New(path, s.cols, s.rows, 1, 2)
			for i := range p.Data {
				p.Data[i] = int8(r.Uint32()) // what lies beyond the rows must not matter
			}
			n := s.rows * s.cols
			bytes, shorts, words := testmem.Before[int8](t, n), testmem.Before[int16](t, n), make([]int32, n)
			top, sum := make([]int32, s.cols), make([]int64, s.cols)
			for i := range bytes {
				bytes[i] = int8(r.IntN(256) - 128)
				shorts[i], words[i] = int16(bytes[i]), int32(bytes[i])
				p.Set(i%s.cols, i/s.cols, bytes[i])
			}
			for c := range s.cols {
				top[c] = -128
				for t := range s.rows {
					top[c] = max(top[c], words[t*s.cols+c])
					sum[c] += int64(words[t*s.cols+c])
				}
			}
			const guard = 77
			max8, max16, max32, maxPlane := make([]int8, s.cols+1), make([]int16, s.cols+1), make([]int32, s.cols+1), make([]int8, s.cols+1)
			sum8, sum16, sumPlane := make([]int64, s.cols+1), make([]int64, s.cols+1), make([]int64, s.cols+1)
			max8[s.cols], max16[s.cols], sum8[s.cols] = guard, guard, guard
			pool.Max(path, max8[:s.cols], bytes)
			pool.Max(path, max16[:s.cols], shorts)
			pool.Max(path, max32[:s.cols], words)
			pool.PlaneMax(path, maxPlane[:s.cols], &p, s.rows)
			pool.Sum(path, sum8[:s.cols], bytes)
			pool.Sum(path, sum16[:s.cols], shorts)
			pool.PlaneSum(path, sumPlane[:s.cols], &p, s.rows)
			for c := range s.cols {
				if int32(max8[c]) != top[c] || int32(max16[c]) != top[c] || max32[c] != top[c] || int32(maxPlane[c]) != top[c] {
					t.Fatalf("%v %+v, channel %d: max %d %d %d %d, want %d", path, s, c, max8[c], max16[c], max32[c], maxPlane[c], top[c])
				}
				if sum8[c] != sum[c] || sum16[c] != sum[c] || sumPlane[c] != sum[c] {
					t.Fatalf("%v %+v, channel %d: sum %d %d %d, want %d", path, s, c, sum8[c], sum16[c], sumPlane[c], sum[c])
				}
			}
			if max8[s.cols] != guard || max16[s.cols] != guard || sum8[s.cols] != guard {
				t.Fatalf("%v %+v: wrote beyond the channels", path, s)
			}
		}
	}
}

func TestWindows(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, path := range cpu.Available() {
		for _, s := range []struct{ cols, rows, step, count int }{{16, 2, 2, 5}, {17, 3, 1, 9}, {33, 1, 4, 3}, {8, 5, 2, 4}, {5, 2, 3, 7}, {100, 4, 4, 1}, {16, 2, 2, 0}} {
			n := 0
			if s.count > 0 {
				n = ((s.count-1)*s.step + s.rows) * s.cols
			}
			x8, x16, x32 := testmem.Before[int8](t, n), testmem.Before[int16](t, n), make([]int32, n)
			for i := range x8 {
				x8[i] = int8(r.Uint32())
				x16[i], x32[i] = int16(x8[i])*200, int32(x8[i])
			}
			d8, d16, d32 := testmem.Before[int8](t, s.count*s.cols), testmem.Before[int16](t, s.count*s.cols), make([]int32, s.count*s.cols)
			pool.Windows(path, d8, x8, s.cols, s.rows, s.step)
			pool.Windows(path, d16, x16, s.cols, s.rows, s.step)
			pool.Windows(path, d32, x32, s.cols, s.rows, s.step)
			for i := range d8 {
				want := int8(-128)
				for row := range s.rows {
					want = max(want, x8[(i/s.cols*s.step+row)*s.cols+i%s.cols])
				}
				if d8[i] != want || d16[i] != int16(want)*200 || d32[i] != int32(want) {
					t.Fatalf("%v %+v, element %d: %d, %d, %d, want %d", path, s, i, d8[i], d16[i]/200, d32[i], want)
				}
			}
		}
	}
}

// Sums of the largest numbers.
func TestSumExtremes(t *testing.T) {
	for _, path := range cpu.Available() {
		for _, rows := range []int{1, 300, 1<<15 - 1, 1 << 15} {
			x := make([]int16, rows*9)
			for i := range x {
				x[i] = -32768
			}
			dst := testmem.Before[int64](t, 9)
			pool.Sum(path, dst, x)
			for c, got := range dst {
				if want := int64(rows) * -32768; got != want {
					t.Fatalf("%v, %d rows, channel %d: %d, want %d", path, rows, c, got, want)
				}
			}
		}
	}
}
