package gated

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"nepcoc/internal/testmem"
	"nepcoc/runtime/arith"
	"nepcoc/runtime/cpu"
	"nepcoc/runtime/internal/kernels/plane"
)

// The reference: one element at a time, straight from the formulas of
// bundle.GatedConv and bundle.Norm, on values rather than planes.

func refProducts(p *Params, x func(c, t int) int8, c, t int) (int8, uint8) {
	h, g := p.BiasH[c], p.BiasG[c]
	for k := range p.K {
		h += int32(p.TapsH[c*p.K+k]) * int32(x(int(p.ChanH[c]), t-p.PadLeft+k))
		g += int32(p.TapsG[c*p.K+k]) * int32(x(int(p.ChanG[c]), t-p.PadLeft+k))
	}
	return arith.GateHidden(h), arith.Gate((*[32]uint8)(p.Base), (*[32]uint8)(p.Slope), arith.GateInput(g))
}

// refNorm is the 16-bit output of every channel at one position.
func refNorm(p *Params, x, res func(c, t int) int8, t int) []int16 {
	n := p.Norm
	y := make([]int16, p.C)
	var s1, s2 int32
	for c := range y {
		h, s7 := refProducts(p, x, c, t)
		y[c] = arith.GateResidual(h, s7, res(c, t), n.Rho[c], n.Cst[c])
		b := int32(y[c] >> 8)
		s1, s2 = s1+b, s2+b*b
	}
	r, k := arith.NormFactors(s1, s2, &n.Factor)
	for c := range y {
		y[c] = arith.NormApply(y[c], r, k)
	}
	return y
}

// drawTaps fills taps with a random filter of the greatest sum that the range
// proof allows and returns a bias within what is left.
func drawTaps(rng *rand.Rand, taps []uint8, extreme bool) int32 {
	sum := rng.IntN(256)
	if extreme {
		sum = 255
	}
	left := sum
	for _, i := range rng.Perm(len(taps)) {
		v := rng.IntN(left + 1)
		if extreme && rng.IntN(2) == 0 {
			v = left
		}
		taps[i] = uint8(v)
		left -= v
	}
	room := 32767 - 128*(sum-left)
	if extreme {
		return int32([]int{room, -room, 0, 128}[rng.IntN(3)])
	}
	return int32(rng.IntN(2*room+1) - room)
}

type shape struct {
	c, cin, k, padLeft int
	pairs              bool // the published channel map: c/2 and half+c/2 (of more inputs, some c/2 later)
	norm               bool
	flips              bool
	signed             bool // residual factors of both signs
	extreme            bool
	shift              int
}

func (s shape) String() string {
	return fmt.Sprintf("C%d/%d K%d-%d pairs=%v norm=%v flips=%v signed=%v extreme=%v shift=%d",
		s.c, s.cin, s.k, s.padLeft, s.pairs, s.norm, s.flips, s.signed, s.extreme, s.shift)
}

func draw(rng *rand.Rand, s shape) Params {
	p := Params{C: s.c, Cin: s.cin, K: s.k, PadLeft: s.padLeft}
	for c := range s.c {
		h, g := rng.IntN(s.cin), rng.IntN(s.cin)
		if s.pairs {
			h, g = s.cin-s.c+c/2, s.cin/2+c/2
		}
		p.ChanH, p.ChanG = append(p.ChanH, uint16(h)), append(p.ChanG, uint16(g))
		th, tg := make([]uint8, s.k), make([]uint8, s.k)
		p.BiasH = append(p.BiasH, drawTaps(rng, th, s.extreme))
		p.BiasG = append(p.BiasG, drawTaps(rng, tg, s.extreme)+32768)
		p.TapsH, p.TapsG = append(p.TapsH, th...), append(p.TapsG, tg...)
	}
	for range s.cin {
		p.PadIn = append(p.PadIn, int8(rng.IntN(256)))
	}
	for range 32 {
		p.Base, p.Slope = append(p.Base, uint8(rng.IntN(256))), append(p.Slope, uint8(rng.IntN(256)))
	}
	if !s.norm {
		p.Shift = s.shift
		return p
	}
	n := &Norm{Shift: s.shift}
	for range s.c {
		rho := rng.IntN(128)
		if s.signed {
			rho = rng.IntN(256) - 128
		}
		room := 32767 - 16256 - 128*max(rho, -rho)
		cst := rng.IntN(2*max(room, 0)+1) - max(room, 0)
		f := uint8(0)
		if s.flips {
			f = uint8(rng.IntN(2))
		}
		n.Rho, n.Cst, n.Flip = append(n.Rho, int8(rho)), append(n.Cst, int16(cst)), append(n.Flip, f)
	}
	n.Factor = arith.NormParams{
		C: int32(s.c), MeanM: int32((1<<24/s.c + 1) / 2), Eps: []int32{int32(rng.IntN(2000)), 0, -(1 << 29)}[rng.IntN(3)], A: 1 + int32(rng.IntN(65535)), S: 3 + rng.IntN(14),
	}
	if s.extreme {
		n.Factor.A, n.Factor.S, n.Factor.Eps = 65535, rng.IntN(3), 0
	}
	p.Norm = n
	return p
}

var shapes = []shape{
	{c: 256, cin: 256, k: 4, padLeft: 1, pairs: true, shift: 6},
	{c: 256, cin: 256, k: 4, padLeft: 1, pairs: true, norm: true, shift: 5},
	{c: 256, cin: 256, k: 4, padLeft: 1, pairs: true, norm: true, flips: true, signed: true, shift: 4},
	{c: 64, cin: 64, k: 4, padLeft: 1, pairs: true, extreme: true, shift: 7},
	{c: 64, cin: 64, k: 4, padLeft: 1, pairs: true, extreme: true, norm: true, flips: true, shift: 7},
	{c: 64, cin: 64, k: 3, padLeft: 2, pairs: true, shift: 5},
	{c: 64, cin: 80, k: 2, padLeft: 0, pairs: true, norm: true, signed: true, shift: 3},
	{c: 128, cin: 128, k: 1, padLeft: 0, pairs: true, norm: true, flips: true, extreme: true, shift: 1},
	{c: 192, cin: 192, k: 4, padLeft: 3, pairs: true, norm: true, signed: true, extreme: true, shift: 2},
	{c: 320, cin: 320, k: 4, padLeft: 0, pairs: true, shift: 3},
	{c: 2, cin: 2, k: 4, padLeft: 3, pairs: true, shift: 1},
	{c: 1, cin: 1, k: 1, shift: 14},
	{c: 1, cin: 3, k: 2, padLeft: 1, norm: true, shift: 1},
	{c: 7, cin: 5, k: 3, padLeft: 0, shift: 2},
	{c: 7, cin: 5, k: 3, padLeft: 2, norm: true, flips: true, signed: true, shift: 2},
	{c: 33, cin: 40, k: 5, padLeft: 2, shift: 3},
	{c: 33, cin: 40, k: 6, padLeft: 5, norm: true, shift: 3},
	{c: 48, cin: 48, k: 8, padLeft: 4, pairs: true, shift: 8},
	{c: 48, cin: 48, k: 8, padLeft: 7, pairs: true, norm: true, flips: true, shift: 6},
	{c: 48, cin: 48, k: 7, padLeft: 3, norm: true, signed: true, extreme: true, shift: 6},
	{c: 300, cin: 20, k: 4, padLeft: 2, shift: 9},
	{c: 12, cin: 12, k: 11, padLeft: 5, shift: 5},
	{c: 12, cin: 12, k: 11, padLeft: 10, norm: true, flips: true, shift: 5},
	{c: 8, cin: 5, k: 3, padLeft: 2, shift: 5},
	{c: 8, cin: 5, k: 3, padLeft: 2, norm: true, flips: true, signed: true, shift: 2},
	{c: 34, cin: 40, k: 5, padLeft: 2, shift: 4},
	{c: 34, cin: 40, k: 6, padLeft: 5, norm: true, shift: 3},
	{c: 34, cin: 40, k: 4, padLeft: 1, norm: true, shift: 1},
}

// Every shift is a kernel of its own on Arm.
func init() {
	for sh := 1; sh <= 14; sh++ {
		shapes = append(shapes, shape{c: 64, cin: 64, k: 4, padLeft: 1, pairs: true, extreme: sh%2 == 0, shift: sh})
		shapes = append(shapes, shape{c: 4, cin: 4, k: 4, padLeft: 1, pairs: true, extreme: sh%2 == 0, shift: sh})
		shapes = append(shapes, shape{c: 4, cin: 4, k: 8, padLeft: 1, pairs: true, extreme: sh%2 == 0, shift: sh})
	}
	for sh := 1; sh <= 7; sh++ {
		shapes = append(shapes, shape{c: 6, cin: 6, k: 4, padLeft: 1, pairs: true, norm: true, extreme: sh%2 == 0, shift: sh})
		shapes = append(shapes, shape{c: 6, cin: 6, k: 4, padLeft: 1, pairs: true, norm: true, extreme: sh%2 == 0, flips: true, shift: sh})
	}
}

// taken reports whether path's kernels take the shape themselves.
func taken(path cpu.Path, s shape) bool {
	switch {
	case s.k > 8:
		return false
	case path == cpu.DotProd, path == cpu.NEON && s.norm:
		return s.c%2 == 0
	}
	return true
}

// rowsFit reports whether there are time-major kernels for the shape.
func rowsFit(s shape) bool { return s.pairs && s.k <= 4 && s.c%64 == 0 }

const guard = 0x5a

// guarded makes a plane of random values that ends where memory can't be touched, with guard bytes
// before it.
func guarded(t testing.TB, rng *rand.Rand, path cpu.Path, channels, length, left, right int, extreme bool) (plane.Plane, []int8) {
	t.Helper()
	buf := testmem.Before[int8](t, 64+plane.Size(path, channels, length, left, right))
	for i := range 64 {
		buf[i] = guard
	}
	p := plane.Over(buf[64:], path, channels, length, left, right)
	for i := range p.Data {
		p.Data[i] = int8(rng.IntN(256))
		if extreme {
			p.Data[i] = []int8{-128, 127}[rng.IntN(2)]
		}
	}
	return p, buf
}

func checkGuards(t *testing.T, name string, buf []int8) {
	t.Helper()
	for i := range 64 {
		if buf[i] != guard {
			t.Fatalf("%s: wrote before the plane", name)
		}
	}
}

// outside checks that only positions [pos,pos+n) of the first channels rows changed.
func outside(t *testing.T, name string, p *plane.Plane, before []int8, channels, pos, n int) {
	t.Helper()
	for i, v := range p.Data {
		if v == before[i] {
			continue
		}
		c, at := (i-p.Margin-pos)/p.Stride, (i-p.Margin-pos)%p.Stride
		if p.Step != 1 { // time-major kernels write no more than is wanted
			c, at = (i-p.Margin)%p.Step, (i-p.Margin)/p.Step-pos
		}
		if i < p.Index(0, pos) || c >= channels || at >= n {
			t.Fatalf("%s: wrote byte %d of the plane, outside channels %d, positions [%d,%d)", name, i, channels, pos, pos+n)
		}
	}
}

// written is how many positions may be written where n are wanted.
func written(path cpu.Path, n int) int {
	if plane.TimeMajor(path) {
		return n
	}
	return (n + Block - 1) / Block * Block
}

// eachPath runs the test for every path this machine has.
func eachPath(t *testing.T, f func(t *testing.T, path cpu.Path)) {
	for _, path := range cpu.Available() {
		t.Run(path.String(), func(t *testing.T) { f(t, path) })
	}
}

func TestLayers(t *testing.T) {
	eachPath(t, func(t *testing.T, path cpu.Path) {
		rng := rand.New(rand.NewPCG(7, 11))
		for _, s := range shapes {
			for _, length := range []int{1, 8, 9, 16, 17, 31, 32, 33, 48, 96} {
				testLayer(t, rng, path, s, length)
			}
		}
	})
}

// shapeOf makes a valid shape of any numbers.
func shapeOf(c, cin, k, left, shift, flags uint8) shape {
	s := shape{c: 1 + int(c)%64, cin: 1 + int(cin)%64, k: 1 + int(k)%12, norm: flags&1 != 0, flips: flags&2 != 0, signed: flags&4 != 0, extreme: flags&8 != 0}
	if flags&16 != 0 {
		s.c, s.cin, s.pairs = (s.c+1)&^1, (s.c+1)&^1, true
		if flags&32 != 0 { // a shape of the time-major kernels
			s.c, s.k = 64*(1+s.c%4), 1+s.k%4
			s.cin = s.c + int(cin)%5*8
		}
	}
	s.padLeft, s.shift = int(left)%s.k, 1+int(shift)%14
	if s.norm {
		s.shift = 1 + s.shift%7
	}
	return s
}

func TestRandomLayers(t *testing.T) {
	eachPath(t, func(t *testing.T, path cpu.Path) {
		rng := rand.New(rand.NewPCG(17, 19))
		b := func() uint8 { return uint8(rng.Uint32()) }
		for range 300 {
			testLayer(t, rng, path, shapeOf(b(), b(), b(), b(), b(), b()), 1+rng.IntN(100))
		}
	})
}

// Random shapes on every path.
func FuzzLayer(f *testing.F) {
	f.Add(uint64(1), uint8(4), uint8(4), uint8(4), uint8(1), uint8(33), uint8(5), uint8(0xff))
	f.Add(uint64(2), uint8(9), uint8(3), uint8(8), uint8(7), uint8(64), uint8(9), uint8(0x12))
	f.Fuzz(func(t *testing.T, seed uint64, c, cin, k, left, length, shift, flags uint8) {
		s := shapeOf(c, cin, k, left, shift, flags)
		for _, path := range cpu.Available() {
			testLayer(t, rand.New(rand.NewPCG(seed, 1)), path, s, 1+int(length)%100)
		}
	})
}

func testLayer(t *testing.T, rng *rand.Rand, path cpu.Path, s shape, length int) {
	t.Helper()
	p := draw(rng, s)
	l, err := New(p, path)
	if path == cpu.AVX512 && !rowsFit(s) {
		if err == nil || Fits(&p, path) {
			t.Fatalf("%v: packed for time-major planes", s)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := l.Path() == path; path != cpu.Purego && got != taken(path, s) {
		t.Errorf("%v: runs %v", s, l.Path())
	}
	left, right := max(s.padLeft, 1), max(s.k-1-s.padLeft, 1)
	src, srcBuf := guarded(t, rng, path, max(s.cin, s.c), length, left, right, s.extreme)
	l.Pad(&src, length, 0, length)
	before := slices.Clone(src.Data)
	x := func(c, at int) int8 {
		if at < 0 || at >= length {
			return p.PadIn[c]
		}
		return before[src.Index(c, at)] ^ src.Flip
	}
	name := fmt.Sprintf("%v %v, %d positions", path, s, length)
	if s.norm {
		testNorm(t, rng, name, l, &p, path, &src, x, length, left, right)
	} else {
		testPlain(t, rng, name, l, &p, path, &src, x, length, left, right)
	}
	checkGuards(t, name, srcBuf)
	if !slices.Equal(before, src.Data) {
		t.Fatalf("%s: changed its input", name)
	}
}

func testPlain(t *testing.T, rng *rand.Rand, name string, l *Layer, p *Params, path cpu.Path, src *plane.Plane, x func(c, t int) int8, length, left, right int) {
	t.Helper()
	some := rng.IntN(length)
	for _, span := range [][2]int{{0, length}, {some, 1 + rng.IntN(length-some)}} {
		dst, buf := guarded(t, rng, path, p.C, length, left, right, false)
		was := slices.Clone(dst.Data)
		l.Plain(&dst, src, span[0], span[1])
		for c := range p.C {
			for at := span[0]; at < span[0]+span[1]; at++ {
				h, s7 := refProducts(p, x, c, at)
				if got, want := dst.At(c, at), arith.GateShift(h, s7, p.Shift); got != want {
					t.Fatalf("%s: channel %d position %d: %d, want %d (h %d, s7 %d)", name, c, at, got, want, h, s7)
				}
			}
		}
		checkGuards(t, name, buf)
		outside(t, name, &dst, was, p.C, span[0], written(path, span[1]))
	}
}

func testNorm(t *testing.T, rng *rand.Rand, name string, l *Layer, p *Params, path cpu.Path, src *plane.Plane, x func(c, t int) int8, length, left, right int) {
	t.Helper()
	s := NewScratch(p.C)
	for _, residual := range []string{"none", "other", "src", "dst"} {
		if residual == "src" && src.Channels < p.C {
			continue
		}
		dst, buf := guarded(t, rng, path, p.C, length, left, right, false)
		other, _ := guarded(t, rng, path, p.C, length, left, right, rng.IntN(2) == 0)
		var res *plane.Plane
		switch residual {
		case "other":
			res = &other
		case "src":
			res = src
		case "dst":
			res = &dst
		}
		r := func(c, at int) int8 { return 0 }
		if res != nil {
			was := slices.Clone(res.Data)
			r = func(c, at int) int8 { return was[res.Index(c, at)] ^ res.Flip }
		}
		want := make([][]int16, length) // flipped
		for at := range want {
			want[at] = refNorm(p, x, r, at)
			for c := range want[at] {
				want[at][c] = int16(arith.Flip(int32(want[at][c]), p.Norm.Flip[c]))
			}
		}

		from := rng.IntN(length)
		to := from + 1 + rng.IntN(length-from)
		cut := from + rng.IntN(to-from)
		acc := NewAcc(p.C, path)
		l.NormPool(acc, src, res, from, cut-from, s)
		l.NormPool(acc, src, res, cut, to-cut, s)
		got := make([]int16, p.C)
		acc.Max(got)
		for c := range got {
			m := int16(-32768)
			for at := from; at < to; at++ {
				m = max(m, want[at][c])
			}
			if got[c] != m {
				t.Fatalf("%s, residual %s: pool of [%d,%d) channel %d: %d, want %d", name, residual, from, to, c, got[c], m)
			}
		}

		wide := make([]int16, p.C*length+1)
		wide[to*p.C] = guard
		l.NormWide(wide, src, res, to, s)
		for at := range to {
			for c := range p.C {
				if wide[at*p.C+c] != want[at][c] {
					t.Fatalf("%s, residual %s: wide channel %d position %d: %d, want %d", name, residual, c, at, wide[at*p.C+c], want[at][c])
				}
			}
		}
		if wide[to*p.C] != guard {
			t.Fatalf("%s, residual %s: wide wrote more than %d positions", name, residual, to)
		}

		was := slices.Clone(dst.Data)
		l.Norm(&dst, src, res, from, to-from, s)
		for c := range p.C {
			for at := from; at < to; at++ {
				v := int16(arith.Flip(int32(want[at][c]), p.Norm.Flip[c]))
				w := int8(arith.Flip(int32(arith.NormNarrow(v, p.Norm.Shift)), p.Norm.Flip[c]))
				if got := dst.At(c, at); got != w {
					t.Fatalf("%s, residual %s: channel %d position %d: %d, want %d", name, residual, c, at, got, w)
				}
			}
		}
		checkGuards(t, name, buf)
		outside(t, name, &dst, was, p.C, from, written(path, to-from))
	}
}

// Inputs of LayerNorm that differ little, far from zero: variances of 0 and less, and
// means that the factors clamp at both ends.
func TestNormExtremes(t *testing.T) {
	eachPath(t, func(t *testing.T, path cpu.Path) {
		rng := rand.New(rand.NewPCG(5, 55))
		clamped := map[int16]int{}
		for range 300 {
			c := 64 * (1 + rng.IntN(4))
			p := draw(rng, shape{c: c, cin: c, k: 4, padLeft: 1, pairs: true, norm: true, flips: true, shift: 1 + rng.IntN(7)})
			clear(p.TapsH) // nothing but the constants is left
			clear(p.BiasH)
			clear(p.Norm.Rho)
			level, spread := []int{32767, -32768, 20000, -20000, 127, -1, 0}[rng.IntN(7)], []int{1, 1, 300, 3000}[rng.IntN(4)]
			for i := range p.Norm.Cst {
				p.Norm.Cst[i] = int16(min(max(level+rng.IntN(spread)-spread/2, -32768), 32767))
			}
			p.Norm.Factor.Eps = []int32{-(1 << 29), 0, 0, 1, 100}[rng.IntN(5)]
			p.Norm.Factor.A, p.Norm.Factor.S = []int32{1, 65535, 40000}[rng.IntN(3)], rng.IntN(32)
			l, err := New(p, path)
			if err != nil {
				t.Fatal(err)
			}
			const length = 20
			src, _ := guarded(t, rng, path, c, length, 1, 2, false)
			dst, _ := guarded(t, rng, path, c, length, 1, 2, false)
			l.Pad(&src, length, 0, length)
			l.Norm(&dst, &src, nil, 0, length, NewScratch(c))
			none := func(c, t int) int8 { return 0 }
			want := refNorm(&p, src.At, none, 0)
			var s1, s2 int32
			for _, v := range p.Norm.Cst {
				s1, s2 = s1+int32(v>>8), s2+int32(v>>8)*int32(v>>8)
			}
			_, k := arith.NormFactors(s1, s2, &p.Norm.Factor)
			clamped[k]++
			for ch, v := range want {
				w := int8(arith.Flip(int32(arith.NormNarrow(v, p.Norm.Shift)), p.Norm.Flip[ch]))
				for at := range length {
					if got := dst.At(ch, at); got != w {
						t.Fatalf("level %d, spread %d, %+v: channel %d: %d, want %d", level, spread, p.Norm.Factor, ch, got, w)
					}
				}
			}
		}
		if clamped[16383] == 0 || clamped[-16384] == 0 {
			t.Errorf("factors that reach their ends: %v", clamped)
		}
	})
}

// A filter whose two neighbours together could saturate a 16-bit sum of products.
func TestSaturatingPair(t *testing.T) {
	eachPath(t, func(t *testing.T, path cpu.Path) {
		rng := rand.New(rand.NewPCG(3, 4))
		if plane.TimeMajor(path) {
			p := draw(rng, shapes[0])
			copy(p.TapsH[8:], []uint8{2, 255, 0, 0})
			if Fits(&p, path) {
				t.Error("257 fits")
			}
			return
		}
		p := draw(rng, shape{c: 2, cin: 2, k: 4, padLeft: 1, pairs: true, shift: 7})
		copy(p.TapsH, []uint8{2, 255, 0, 0, 255, 2, 0, 0}) // 257: only this bias keeps 16 bits
		p.BiasH[0], p.BiasH[1] = 128, 128
		copy(p.TapsG, []uint8{0, 0, 255, 2, 1, 255, 0, 0})
		p.BiasG[0], p.BiasG[1] = 128+32768, 32768
		l, err := New(p, path)
		if err != nil {
			t.Fatal(err)
		}
		src, _ := guarded(t, rng, path, 2, 64, 1, 2, true)
		for at := range 32 {
			src.Set(0, at, -128)
			src.Set(1, at, 127)
		}
		l.Pad(&src, 64, 0, 64)
		x := func(c, at int) int8 { return src.At(c, at) }
		testPlain(t, rng, "257", l, &p, path, &src, x, 64, 1, 2)
	})
}

func TestNewRefuses(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, c := range []struct {
		name  string
		spoil func(p *Params)
	}{
		{"channel map", func(p *Params) { p.ChanG[1] = 9 }},
		{"taps", func(p *Params) { p.TapsH = p.TapsH[1:] }},
		{"base", func(p *Params) { p.Base = p.Base[1:] }},
		{"kernel", func(p *Params) { p.K = 0 }},
		{"flip", func(p *Params) { p.Norm.Flip[0] = 2 }},
		{"norm shift", func(p *Params) { p.Norm.Shift = 8 }},
		{"rho", func(p *Params) { p.Norm.Rho = nil }},
		{"shift", func(p *Params) { p.Norm = nil }},
	} {
		p := draw(rng, shape{c: 4, cin: 4, k: 4, norm: true, shift: 3})
		c.spoil(&p)
		if _, err := New(p, cpu.Purego); err == nil {
			t.Errorf("%s: no error", c.name)
		}
	}
}

func bench(b *testing.B, s shape, f func(l *Layer, dst, src *plane.Plane, sc *Scratch, acc *Acc)) {
	for _, path := range cpu.Available() {
		b.Run(path.String(), func(b *testing.B) {
			rng := rand.New(rand.NewPCG(1, 1))
			l, err := New(draw(rng, s), path)
			if err != nil {
				b.Fatal(err)
			}
			src, _ := guarded(b, rng, path, s.cin, 128, 1, 2, false)
			dst, _ := guarded(b, rng, path, s.c, 128, 1, 2, false)
			sc, acc := NewScratch(s.c), NewAcc(s.c, path)
			b.ReportAllocs()
			for b.Loop() {
				f(l, &dst, &src, sc, acc)
			}
		})
	}
}

func BenchmarkPlain(b *testing.B) {
	bench(b, shapes[0], func(l *Layer, dst, src *plane.Plane, sc *Scratch, acc *Acc) { l.Plain(dst, src, 0, 128) })
}

func BenchmarkNorm(b *testing.B) {
	bench(b, shapes[1], func(l *Layer, dst, src *plane.Plane, sc *Scratch, acc *Acc) { l.Norm(dst, src, dst, 0, 128, sc) })
}

func BenchmarkNormPool(b *testing.B) {
	bench(b, shapes[1], func(l *Layer, dst, src *plane.Plane, sc *Scratch, acc *Acc) {
		l.NormPool(acc, src, dst, 0, 128, sc)
	})
}

func BenchmarkPad(b *testing.B) {
	bench(b, shapes[1], func(l *Layer, dst, src *plane.Plane, sc *Scratch, acc *Acc) { l.Pad(src, 128, 0, 128) })
}

func BenchmarkMax(b *testing.B) {
	out := make([]int16, 256)
	for _, path := range cpu.Available() {
		b.Run(path.String(), func(b *testing.B) {
			acc := NewAcc(256, path)
			for b.Loop() {
				acc.Max(out)
			}
		})
	}
}
