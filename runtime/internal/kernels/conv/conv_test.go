package conv_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"nepcoc/runtime/arith"
	"nepcoc/runtime/cpu"
	"nepcoc/runtime/internal/kernels/conv"
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

// run is Run8 or Run16 for a new scratch.
func run(l *conv.Layer, dst []int32, x8 []int8, x16 []int16, rows int) {
	s := conv.NewScratch([]*conv.Layer{l})
	if x8 != nil {
		conv.Run8(l, dst, x8, rows, s)
	} else {
		conv.Run16(l, dst, x16, rows, s)
	}
}

func TestSums(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, path := range cpu.Available() {
		for _, s := range shapes {
			for _, wideInput := range []bool{false, true} {
				t.Run(fmt.Sprintf("%v/%+v/%v", path, s, wideInput), func(t *testing.T) {
					p := conv.Params{Rows: s.rows, Cin: s.cin, Out: s.rows, Cout: s.cout, K: s.k, Stride: s.stride, Dilation: s.dilation,
						PadLeft: s.padLeft, Groups: s.groups, Wide: wideInput, Bias: random[int32](r, s.cout, 1<<20)}
					n := s.cout * s.k * s.cin / s.groups
					var w, x func(int) int64
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
					var x8 []int8
					var x16 []int16
					if wideInput {
						x16 = random[int16](r, s.rows*s.cin, 32767/s.k)
						x = func(i int) int64 { return int64(x16[i]) }
					} else {
						x8 = random[int8](r, s.rows*s.cin, 127)
						x = func(i int) int64 { return int64(x8[i]) }
					}
					l := conv.New(p, conv.Requant{}, path)
					for rows := 1; rows <= s.rows; rows++ {
						got := make([]int32, rows*s.cout+1)
						got[rows*s.cout] = 77 // guard
						run(l, got[:rows*s.cout], x8, x16, rows)
						for i, v := range got[:rows*s.cout] {
							if want := sum(&p, w, func(t, c int) int64 { return x(t*s.cin + c) }, i/s.cout, i%s.cout); v != want {
								t.Fatalf("%d rows, position %d, output %d: %d, want %d", rows, i/s.cout, i%s.cout, v, want)
							}
						}
						if got[rows*s.cout] != 77 {
							t.Fatal("wrote beyond the outputs")
						}
					}
				})
			}
		}
	}
}

// The largest products of all must wrap like any others.
func TestExtremes(t *testing.T) {
	for _, path := range cpu.Available() {
		p := conv.Params{Rows: 6, Cin: 4, Out: 6, Cout: 16, K: 1, Stride: 1, Dilation: 1, Groups: 1, Wide: true,
			Bias: make([]int32, 16), W16: slices.Repeat([]int16{-32768}, 64)}
		got := make([]int32, 6*16)
		run(conv.New(p, conv.Requant{}, path), got, nil, slices.Repeat([]int16{-32768}, 24), 6)
		for i, v := range got {
			if v != 0 { // 4 * 2^30
				t.Fatalf("%v: output %d is %d", path, i, v)
			}
		}
	}
}

func TestRequant(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	table := random[int16](r, 64, 127)
	for _, path := range cpu.Available() {
		for _, cout := range []int{1, 8, 17, 24} {
			p := conv.Params{Rows: 9, Cin: 3, Out: 9, Cout: cout, K: 1, Stride: 1, Dilation: 1, Groups: 1,
				Bias: random[int32](r, cout, 1<<16), W8: random[int8](r, 3*cout, 127)}
			x := random[int8](r, 27, 127)
			acc := make([]int32, 9*cout)
			run(conv.New(p, conv.Requant{}, path), acc, x, nil, 9)
			mult := random[int32](r, cout, 1<<20)
			for i, m := range mult {
				mult[i] = max(m, -m)
			}
			clamped := conv.New(p, conv.Requant{Mult: mult, Shift: 30, Lo: -100, Hi: 90}, path)
			mapped := conv.New(p, conv.Requant{Mult: mult, Shift: 30, Table: table}, path)
			a, b := make([]int8, len(acc)), make([]int16, len(acc))
			conv.Run8(clamped, a, x, 9, conv.NewScratch([]*conv.Layer{clamped}))
			conv.Run8(mapped, b, x, 9, conv.NewScratch([]*conv.Layer{mapped}))
			for i, v := range acc {
				q := arith.Requant(int64(v), mult[i%cout], 30)
				if want := int8(arith.Clamp(q, -100, 90)); a[i] != want {
					t.Fatalf("%v, %d channels, clamp of %d: %d, want %d", path, cout, v, a[i], want)
				}
				if want := table[arith.TableIndex(q, 64)]; b[i] != want {
					t.Fatalf("%v, %d channels, table of %d: %d, want %d", path, cout, v, b[i], want)
				}
			}
		}
	}
}
