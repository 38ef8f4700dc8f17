package rescale_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"nepcoc/runtime/arith"
	"nepcoc/runtime/cpu"
	"nepcoc/runtime/internal/kernels/rescale"
)

const guard = 0x5a

// extremes draws from +-limit, the ends often.
func extremes(r *rand.Rand, n int, limit int32) []int32 {
	v := make([]int32, n)
	for i := range v {
		switch r.IntN(8) {
		case 0:
			v[i] = limit
		case 1:
			v[i] = -limit
		case 2:
			v[i] = 0
		default:
			v[i] = int32(r.Int64N(2*int64(limit)+1) - int64(limit))
		}
	}
	return v
}

func TestScale(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, path := range cpu.Available() {
		for _, k := range []struct {
			limit, mult int32
			shift       int
			lo, hi      int32
		}{
			{1 << 20, 1<<31 - 1, 38, -128, 127},
			{1<<31 - 1, 1<<30 - 1, 62, -128, 127},
			{1<<31 - 1, 1<<29 - 1, 32, -1 << 31, 1<<31 - 1},
			{1<<31 - 1, 1<<31 - 1, 1, -1 << 31, 1<<31 - 1}, // too wide for the kernels
			{100, 7, 1, -3, 300},
			{1 << 16, 1 << 16, 8, 0, 32767},
		} {
			for _, n := range []int{1, 7, 8, 9, 16, 31, 48} {
				mult := extremes(r, n, k.mult)
				for i, m := range mult {
					mult[i] = max(m, -m)
				}
				s := rescale.NewScale(path, mult, k.shift, k.lo, k.hi, func(int) int64 { return int64(k.limit) })
				const rows = 3
				x := append(extremes(r, rows*s.Stride(), k.limit), guard)
				was := slices.Clone(x)
				s.Apply(x, rows)
				for row := range rows {
					for c := range n {
						i := row*s.Stride() + c
						want := arith.Clamp(arith.Requant(int64(was[i]), mult[c], k.shift), k.lo, k.hi)
						if x[i] != want {
							t.Fatalf("%v %+v n=%d: %d*%d: %d, want %d", path, k, n, was[i], mult[c], x[i], want)
						}
					}
				}
				if x[len(x)-1] != guard {
					t.Fatalf("%v %+v n=%d: wrote beyond the rows", path, k, n)
				}
			}
		}
	}
}

func TestSum(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, path := range cpu.Available() {
		for _, k := range []rescale.Sum{
			{MultA: 14325657, MultB: 6204103, Shift: 24, Lo: -128, Hi: 127},
			{MultA: -14325657, MultB: 1<<31 - 1, Bias: -704643072, Shift: 23, Lo: -128, Hi: 127},
			{MultA: 1<<31 - 1, MultB: 1<<31 - 1, Bias: 1 << 55, Shift: 1, Lo: -1 << 31, Hi: 1<<31 - 1},
			{MultA: 3, MultB: -5, Shift: 1, Lo: 0, Hi: 1000},
		} {
			for n := range 40 {
				s := rescale.NewSum(path, k, 32768, 32768)
				a, b, got := extremes(r, n, 32768), extremes(r, n, 32768), make([]int32, n+1)
				got[n] = guard
				s.Apply(got[:n], a, b)
				for i := range n {
					q := int64(a[i])*int64(k.MultA) + int64(b[i])*int64(k.MultB) + k.Bias
					if want := arith.Clamp(arith.RoundShift(q, k.Shift), k.Lo, k.Hi); got[i] != want {
						t.Fatalf("%v %+v: %d, %d: %d, want %d", path, k, a[i], b[i], got[i], want)
					}
				}
				if got[n] != guard {
					t.Fatalf("%v n=%d: wrote beyond the end", path, n)
				}
			}
		}
	}
}

func TestMoves(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, path := range cpu.Available() {
		for n := range 70 {
			t.Run(fmt.Sprintf("%v/%d", path, n), func(t *testing.T) {
				moves[int8](t, r, path, n, 127)
				moves[int16](t, r, path, n, 32767)
				moves[int32](t, r, path, n, 1<<31-1)
				wide := extremes(r, n, 127)
				bytes, shorts := make([]int8, n), make([]int16, n+1)
				rescale.Narrow(cpu.Purego, bytes, wide)
				shorts[n] = guard
				rescale.Extend(path, shorts[:n], bytes)
				product := slices.Clone(wide)
				rescale.Multiply(path, product, wide)
				for i, x := range wide {
					if shorts[i] != int16(x) {
						t.Fatalf("extend: element %d: %d, want %d", i, shorts[i], x)
					}
					if product[i] != x*x {
						t.Fatalf("multiply: element %d: %d, want %d", i, product[i], x*x)
					}
				}
				if shorts[n] != guard {
					t.Fatal("extend wrote beyond the end")
				}
			})
		}
	}
}

func TestLookup(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for _, path := range cpu.Available() {
		for _, entries := range []int{2, 256, 4096} {
			table := make([]int16, entries+1)
			for i := range table {
				table[i] = int16(r.Uint32())
			}
			for n := range 40 {
				x := make([]int32, n+1)
				for i := range x {
					x[i] = int32(r.IntN(entries) - entries/2)
				}
				if n > 1 {
					x[0], x[1] = int32(-entries/2), int32(entries/2-1)
				}
				got := slices.Clone(x)
				rescale.Lookup(path, got[:n], table)
				for i, q := range x[:n] {
					if want := int32(table[entries/2+int(q)]); got[i] != want {
						t.Fatalf("%v, %d entries, element %d of %d: %d, want %d", path, entries, i, n, got[i], want)
					}
				}
				if got[n] != x[n] {
					t.Fatalf("%v: wrote beyond the end", path)
				}
			}
		}
	}
}

func moves[T rescale.Int](t *testing.T, r *rand.Rand, path cpu.Path, n int, limit int32) {
	t.Helper()
	wide := extremes(r, n, limit)
	narrow, back := make([]T, n+1), make([]int32, n+1)
	narrow[n], back[n] = guard, guard
	rescale.Narrow(path, narrow[:n], wide)
	rescale.Widen(path, back[:n], narrow[:n])
	for i, x := range wide {
		if int32(narrow[i]) != x || back[i] != x {
			t.Fatalf("element %d: %d to %d to %d", i, x, narrow[i], back[i])
		}
	}
	if narrow[n] != guard || back[n] != guard {
		t.Fatal("wrote beyond the end")
	}
}
