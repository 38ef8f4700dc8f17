package rescale_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"nepcoc/internal/testmem"
	"nepcoc/runtime/arith"
	"nepcoc/runtime/cpu"
	"nepcoc/runtime/internal/kernels/rescale"
)

func bytesOf(r *rand.Rand, t testing.TB, n int) []int8 {
	v := testmem.Before[int8](t, n)
	for i := range v {
		switch v[i] = int8(r.Uint32()); r.IntN(6) {
		case 0:
			v[i] = -128
		case 1:
			v[i] = 127
		}
	}
	return v
}

// What is read and written ends where memory can't be touched.
func TestBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, path := range cpu.Available() {
		for _, k := range []struct {
			limit, mult int32
			shift       int
			lo, hi      int32
		}{
			{1 << 20, 1<<31 - 1, 44, -128, 127},
			{1 << 20, 1<<31 - 1, 38, -100, 90},
			{1<<31 - 1, 1<<30 - 1, 62, -128, 127},
			{1<<31 - 1, 1<<31 - 1, 1, -128, 127}, // too wide for the kernels
			{1<<31 - 1, 1<<30 - 1, 32, 0, 127},
		} {
			for _, cols := range []int{1, 7, 8, 9, 15, 16, 17, 31, 48, 100} {
				mult := make([]int32, cols, rescale.Pad(cols))
				for i, m := range extremes(r, cols, k.mult) {
					mult[i] = max(m, -m)
				}
				s := rescale.NewScale(path, mult[:rescale.Pad(cols)], k.shift, k.lo, k.hi, func(int) int64 { return int64(k.limit) })
				for _, rows := range []int{0, 1, 3} {
					x := testmem.Move(t, extremes(r, rows*s.Stride(), k.limit))
					was := slices.Clone(x)
					dst := testmem.Before[int8](t, rows*cols)
					s.Bytes(dst, x, rows, cols)
					for i, got := range dst {
						v := was[i/cols*s.Stride()+i%cols]
						if want := arith.Clamp(arith.Requant(int64(v), mult[i%cols], k.shift), k.lo, k.hi); int32(got) != want {
							t.Fatalf("%v %+v, %d channels, element %d: %d*%d: %d, want %d", path, k, cols, i, v, mult[i%cols], got, want)
						}
					}
				}
			}
		}
	}
}

func TestByteTable(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, path := range cpu.Available() {
		for _, entries := range []int{2, 64, 256, 1024, 2048, 4096, 8192} {
			table := make([]int16, entries)
			for i := range table {
				table[i] = int16(int8(r.Uint32()))
			}
			b := rescale.NewByteTable(path, table)
			if (b != nil) != (entries <= 4096) {
				t.Fatalf("%v, %d entries: a table: %t", path, entries, b != nil)
			}
			if b == nil {
				continue
			}
			for n := range 200 {
				x := testmem.Before[int32](t, n+rescale.ByteSlack)
				for i := range x {
					if x[i] = int32(r.Uint32()); i < n {
						x[i] = int32(r.IntN(entries) - entries/2)
					}
				}
				if n > 1 {
					x[0], x[n-1] = int32(-entries/2), int32(entries/2-1)
				}
				dst := testmem.Before[int8](t, n)
				b.Map(dst, x[:n])
				for i, got := range dst {
					if want := table[entries/2+int(x[i])]; int16(got) != want {
						t.Fatalf("%v, %d entries, element %d of %d: %d, want %d", path, entries, i, n, got, want)
					}
				}
			}
		}
		if rescale.NewByteTable(path, []int16{0, 128}) != nil {
			t.Fatalf("%v: 128 is no byte", path)
		}
	}
}

func TestSumBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, path := range cpu.Available() {
		for _, k := range []rescale.Sum{
			{MultA: 14325657, MultB: 6204103, Shift: 24, Lo: -128, Hi: 127},
			{MultA: -14325657, MultB: 1<<30 - 1, Bias: -704643072, Shift: 31, Lo: -128, Hi: 127},
			{MultA: 1<<30 - 1, MultB: -1 << 29, Bias: 1 << 40, Shift: 40, Lo: -100, Hi: 127},
			{MultA: 1<<30 - 1, MultB: 1<<30 - 1, Shift: 15, Lo: -128, Hi: 100},
			{MultA: 1 << 15, MultB: 3, Shift: 15, Lo: 0, Hi: 127},
			{MultA: 1 << 29, MultB: -1 << 29, Shift: 44, Lo: -128, Hi: 127},
			{MultA: 1<<31 - 1, MultB: 5, Shift: 30, Lo: -128, Hi: 127}, // too large
			{MultA: 3, MultB: 5, Shift: 14, Lo: -128, Hi: 127},         // too little
			{MultA: 3, MultB: 5, Shift: 20, Lo: -129, Hi: 127},         // no bytes
			{MultA: 3, MultB: 5, Bias: 1 << 50, Shift: 20, Lo: 0, Hi: 127},
		} {
			s := rescale.NewSumBytes(path, &k)
			simple := max(k.MultA, k.MultB) < 1<<30 && k.Shift >= 15 && k.Lo >= -128 && k.Bias < 1<<45
			if (s != nil) != (simple && path != cpu.Purego) {
				t.Fatalf("%v %+v: done in bytes: %t", path, k, s != nil)
			}
			if s == nil {
				continue
			}
			for n := range 100 {
				a, b, dst := bytesOf(r, t, n), bytesOf(r, t, n), testmem.Before[int8](t, n)
				s.Apply(dst, a, b)
				for i, got := range dst {
					q := int64(a[i])*int64(k.MultA) + int64(b[i])*int64(k.MultB) + k.Bias
					if want := arith.Clamp(arith.RoundShift(q, k.Shift), k.Lo, k.Hi); int32(got) != want {
						t.Fatalf("%v %+v, %d elements: %d, %d: %d, want %d", path, k, n, a[i], b[i], got, want)
					}
				}
			}
		}
	}
}

func TestProductBytes(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for _, path := range cpu.Available() {
		for _, k := range []struct {
			mult   int32
			shift  int
			lo, hi int32
		}{{1<<30 - 1, 37, -128, 127}, {-1<<30 + 1, 36, -100, 127}, {77777, 20, -128, 127}, {1, 15, 0, 127}, {1<<30 - 1, 44, -128, 127}, {1<<31 - 1, 40, -128, 127}} {
			s := rescale.NewProductBytes(path, k.mult, k.shift, k.lo, k.hi)
			if (s != nil) != (k.mult < 1<<30 && path != cpu.Purego) {
				t.Fatalf("%v %+v: done in bytes: %t", path, k, s != nil)
			}
			if s == nil {
				continue
			}
			for n := range 100 {
				a, b, dst := bytesOf(r, t, n), bytesOf(r, t, n), testmem.Before[int8](t, n)
				s.Apply(dst, a, b)
				for i, got := range dst {
					want := arith.Clamp(arith.Requant(int64(a[i])*int64(b[i]), k.mult, k.shift), k.lo, k.hi)
					if int32(got) != want {
						t.Fatalf("%v %+v, %d elements: %d*%d: %d, want %d", path, k, n, a[i], b[i], got, want)
					}
				}
			}
		}
	}
}
