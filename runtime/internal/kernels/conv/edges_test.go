package conv

import (
	"math/rand/v2"
	"testing"

	"nepcoc/internal/testmem"
	"nepcoc/runtime/cpu"
)

// Random layers at the ends of their ranges, with everything that kernels read and write
// ending where memory can't be touched.
func TestEdges(t *testing.T) {
	n := 1000
	if testing.Short() {
		n = 200
	}
	for _, path := range cpu.Available() {
		t.Run(path.String(), func(t *testing.T) {
			r := rand.New(rand.NewPCG(9, 9))
			for range n {
				testEdges(t, r, path)
			}
		})
	}
}

// extreme makes n random numbers, half of the time only the ends of the type's range.
func extreme[T int8 | int16](t testing.TB, r *rand.Rand, n int) []T {
	s := testmem.Before[T](t, n)
	var lowest T
	for v := T(1); lowest == 0; v <<= 1 {
		lowest = min(v, 0)
	}
	ends := r.IntN(2) == 0
	for i := range s {
		if s[i] = T(r.Uint32()); ends {
			s[i] = lowest ^ -T(r.IntN(2)) // or the highest
		}
	}
	return s
}

func testEdges(t *testing.T, r *rand.Rand, path cpu.Path) {
	groups := max(1, r.IntN(6)-1)
	p := Params{
		Cin: groups * (1 + r.IntN(1+r.IntN(40))), Cout: groups * (1 + r.IntN(1+r.IntN(50))), Rows: 1 + r.IntN(40), K: 1 + r.IntN(5),
		Stride: 1 + r.IntN(3), Dilation: 1 + r.IntN(3), PadLeft: r.IntN(6), Groups: groups, Wide: r.IntN(4) == 0,
	}
	if r.IntN(10) == 0 {
		p.PadLeft = r.IntN(60)
	}
	reach := p.Dilation*(p.K-1) + 1
	p.Out = (max(p.Rows+p.PadLeft+r.IntN(6), reach)-reach)/p.Stride + 1
	weights := p.Cout * p.K * p.Cin / groups
	if r.IntN(4) > 0 {
		p.W8 = extreme[int8](t, r, weights)
	} else {
		p.W16 = extreme[int16](t, r, weights)
	}
	p.Bias = make([]int32, p.Cout)
	for i := range p.Bias {
		p.Bias[i] = int32(r.Uint32())
	}
	pad := make([]int16, p.Cin)
	if r.IntN(2) == 0 {
		for i := range pad {
			pad[i] = int16(int8(r.Uint32()))
		}
		p.Pad = pad
	}
	l := New(p, Requant{}, path)
	if k := l.packed; k != nil {
		for g := range k.w8 {
			k.w8[g] = testmem.Move(t, k.w8[g])
		}
		for g := range k.w {
			k.w[g] = testmem.Move(t, k.w[g])
		}
		k.bias = testmem.Move(t, k.bias)
	}
	s := NewScratch([]*Layer{l})
	s.acc, s.x, s.bytes, s.w8, s.w16 = testmem.Move(t, s.acc), testmem.Move(t, s.x), testmem.Move(t, s.bytes), testmem.Move(t, s.w8), testmem.Move(t, s.w16)
	for i := range s.bytes {
		s.bytes[i] = uint8(r.Uint32())
	}
	for i := range s.x {
		s.x[i] = int16(r.Uint32())
	}
	rows := 1 + r.IntN(p.Out)
	dst := testmem.Before[int32](t, rows*p.Cout)
	var x func(i int) int32
	if p.Wide {
		v := extreme[int16](t, r, p.Rows*p.Cin)
		x = func(i int) int32 { return int32(v[i]) }
		Run16(l, dst, v, rows, s)
	} else {
		v := extreme[int8](t, r, p.Rows*p.Cin)
		x = func(i int) int32 { return int32(v[i]) }
		Run8(l, dst, v, rows, s)
	}
	perIn, perOut := p.Cin/groups, p.Cout/groups
	for i, got := range dst {
		pos, o := i/p.Cout, i%p.Cout
		want := p.Bias[o]
		for k := range p.K {
			for j := range perIn {
				ch := o/perOut*perIn + j
				v := int32(pad[ch])
				if at := pos*p.Stride - p.PadLeft + k*p.Dilation; at >= 0 && at < p.Rows {
					v = x(at*p.Cin + ch)
				}
				want += l.weight((o*p.K+k)*perIn+j) * v
			}
		}
		if got != want {
			p.W8, p.W16, p.Bias, p.Pad = nil, nil, nil, nil
			t.Fatalf("%+v, %d rows: position %d channel %d: %d, want %d", p, rows, pos, o, got, want)
		}
	}
}
