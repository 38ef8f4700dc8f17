package conv_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"nepcoc/runtime/arith"
	"nepcoc/runtime/kernels/conv"
	"nepcoc/runtime/kernels/cpu"
)

// shape is a layer to test; the numbers of channels straddle vector widths.
type shape struct {
	rows, cin, cout, k, stride, dilation, padLeft, groups int
	wide, pad                                             bool // int16 weights; padding values that are not zero
}

var shapes = []shape{
	{1, 256, 256, 1, 1, 1, 0, 1, false, false}, // linear
	{1, 31, 22, 1, 1, 1, 0, 1, true, false},
	{9, 16, 17, 3, 1, 1, 1, 1, false, true},
	{9, 15, 8, 3, 2, 2, 3, 1, false, true},
	{5, 3, 4, 5, 1, 1, 4, 1, true, true},
	{7, 32, 32, 3, 1, 1, 1, 32, false, true}, // depthwise
	{7, 33, 33, 2, 3, 2, 2, 33, true, false},
	{7, 8, 16, 3, 1, 1, 1, 8, false, true}, // two outputs per input
	{7, 12, 6, 2, 1, 3, 2, 3, false, true},
}

// sum is the definition of an accumulator.
func sum(p *conv.Params, w func(i int) int64, x func(t, c int) int64, t, o int) int32 {
	in, out := p.Cin/p.Groups, p.Cout/p.Groups
	acc := int64(p.Bias[o])
	for k := range p.K {
		pos := t*p.Stride - p.PadLeft + k*p.Dilation
		for i := range in {
			c, v := o/out*in+i, int64(0)
			switch {
			case pos >= 0 && pos < p.Rows:
				v = x(pos, c)
			case p.Pad != nil:
				v = int64(p.Pad[c])
			}
			acc += w((o*p.K+k)*in+i) * v
		}
	}
	return int32(acc)
}

func random[T int8 | int16 | int32](r *rand.Rand, n, limit int) []T {
	v := make([]T, n)
	for i := range v {
		v[i] = T(r.IntN(2*limit+1) - limit)
	}
	return v
}

func TestRows(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, path := range cpu.Available() {
		for _, s := range shapes {
			t.Run(fmt.Sprintf("%v/%+v", path, s), func(t *testing.T) {
				p := conv.Params{Rows: s.rows, Cin: s.cin, Cout: s.cout, K: s.k, Stride: s.stride, Dilation: s.dilation, PadLeft: s.padLeft, Groups: s.groups,
					Bias: random[int32](r, s.cout, 1<<20)}
				n := s.cout * s.k * s.cin / s.groups
				var w func(int) int64
				if s.wide {
					p.W16 = random[int16](r, n, 300)
					w = func(i int) int64 { return int64(p.W16[i]) }
				} else {
					p.W8 = random[int8](r, n, 127)
					w = func(i int) int64 { return int64(p.W8[i]) }
				}
				if s.pad {
					p.Pad = random[int16](r, s.cin, 127)
				}
				l := conv.New(p, path)
				acc := make([]int32, s.cout+1)
				acc[s.cout] = 77 // guard
				x8, x16 := random[int8](r, s.rows*s.cin, 127), random[int16](r, s.rows*s.cin, 32767/s.k)
				for at := range s.rows {
					l.Row8(acc[:s.cout], x8, at, make([]int8, l.Window()))
					for o := range s.cout {
						if want := sum(&p, w, func(t, c int) int64 { return int64(x8[t*s.cin+c]) }, at, o); acc[o] != want {
							t.Fatalf("int8: position %d, output %d: %d, want %d", at, o, acc[o], want)
						}
					}
					l.Row16(acc[:s.cout], x16, at, make([]int16, l.Window()))
					for o := range s.cout {
						if want := sum(&p, w, func(t, c int) int64 { return int64(x16[t*s.cin+c]) }, at, o); acc[o] != want {
							t.Fatalf("int16: position %d, output %d: %d, want %d", at, o, acc[o], want)
						}
					}
				}
				if acc[s.cout] != 77 {
					t.Error("wrote beyond the outputs")
				}
			})
		}
	}
}

func TestStore(t *testing.T) {
	acc := []int32{-1 << 31, -1000, -1, 0, 1, 1000, 1<<31 - 1}
	mult := []int32{1<<31 - 1, 3, 5, 7, 9, 11, 1<<31 - 1}
	clamp := &conv.Requant{Mult: mult, Shift: 3, Lo: -100, Hi: 90}
	table := &conv.Requant{Mult: mult, Shift: 3, Table: []int16{5, 6, 7, 8}}
	got, want := make([]int8, len(acc)), make([]int8, len(acc))
	conv.Store(clamp, got, acc)
	for i, a := range acc {
		want[i] = int8(arith.Clamp(arith.Requant(int64(a), mult[i], 3), -100, 90))
	}
	if !slices.Equal(got, want) {
		t.Errorf("clamp: %v, want %v", got, want)
	}
	conv.Store(table, got, acc)
	for i, a := range acc {
		want[i] = int8(table.Table[arith.TableIndex(arith.Requant(int64(a), mult[i], 3), 4)])
	}
	if !slices.Equal(got, want) {
		t.Errorf("table: %v, want %v", got, want)
	}
	same := make([]int32, len(acc))
	if conv.Store(&conv.Requant{}, same, acc); !slices.Equal(same, acc) {
		t.Errorf("no rescaling: %v, want %v", same, acc)
	}
}
