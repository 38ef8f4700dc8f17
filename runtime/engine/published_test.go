package engine_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"nepcoc/runtime/bundle"
)

// chain describes a program of the published model's shape: a token table,
// gated layers, a maximum over the valid prefix, and a head of two linear layers.
type chain struct {
	vocab, length, channels, classes int
	norm                             []bool // by layer: LayerNorm with the residual
}

var published = chain{65541, 128, 256, 22, []bool{false, true, false, true, true}}

// program fills the shape with random weights whose activations stay in range.
func (k chain) program(seed uint64) *bundle.Program {
	g := &maker{rand.New(rand.NewPCG(seed, 0)), &bundle.Program{Length: k.length, Vocab: k.vocab}}
	c := k.channels
	x := g.step(bundle.Step{Op: bundle.OpTokenTable, TokenTable: &bundle.TokenTable{
		Table: g.tensor(bundle.I8, func(int) int { return g.IntN(255) - 127 }, k.vocab, c)}}, bundle.I8, k.length, c)
	residual := x
	for i, norm := range k.norm {
		last := i == len(k.norm)-1
		g.p.Left, g.p.Right = g.p.Left+1, g.p.Right+2
		layer := &bundle.GatedConv{
			K: 4, PadLeft: 1, Shift: 6,
			ChanH: g.tensor(bundle.U16, func(i int) int { return i / 2 }, c), ChanG: g.tensor(bundle.U16, func(i int) int { return c/2 + i/2 }, c),
			TapsH: g.taps(c), TapsG: g.taps(c),
			BiasH: g.tensor(bundle.I32, func(int) int { return g.IntN(128) }, c), BiasG: g.tensor(bundle.I32, func(int) int { return 32800 + g.IntN(128) }, c),
			PadIn: g.tensor(bundle.I8, func(int) int { return g.IntN(21) - 10 }, c),
			Base:  g.tensor(bundle.U8, func(i int) int { return 8 * i }, 32), Slope: g.tensor(bundle.U8, func(int) int { return g.IntN(2) }, 32),
		}
		in, d := []int{x}, bundle.I8
		if norm {
			layer.Shift = 0
			layer.Norm = &bundle.Norm{
				Rho: g.tensor(bundle.I8, func(int) int { return g.IntN(64) }, c), Cst: g.tensor(bundle.I16, func(int) int { return g.IntN(256) }, c),
				Flip:  g.tensor(bundle.U8, func(int) int { return g.IntN(20) / 19 }, c),
				MeanM: int32((1<<24 + c) / (2 * c)), Eps: 100, A: 40000, S: 14, Shift: 6,
			}
			in = append(in, residual)
			if last {
				d = bundle.I16
			}
		}
		x = g.step(bundle.Step{Op: bundle.OpGatedConv, In: in, GatedConv: layer}, d, k.length, c)
		if norm {
			residual = x
		}
	}
	x = g.step(bundle.Step{Op: bundle.OpPool, In: []int{x}, Pool: &bundle.Pool{Kind: "max", Over: "prefix"}}, g.p.Values[x].DType, 1, c)
	x = g.step(bundle.Step{Op: bundle.OpLut, In: []int{x}, Lut: &bundle.Lut{Mult: 1, Shift: 7,
		Table: g.tensor(bundle.I16, func(i int) int { return i - 128 }, 256)}}, bundle.I8, 1, c)
	x = g.linear(x, c, bundle.I16, bundle.Requant{
		Mult: g.tensor(bundle.I32, func(int) int { return 1000 + g.IntN(1000) }, c), Shift: 18,
		Table: g.tensor(bundle.I16, func(i int) int { return (i - 512) * 64 }, 1024)})
	x = g.linear(x, k.classes, bundle.I32, bundle.Requant{Mult: -1, Table: -1})
	g.p.Outputs = []bundle.Output{{Name: "logits", Value: x, Ending: bundle.EndLogits, Exp: -1}}
	return g.p
}

type maker struct {
	*rand.Rand
	p *bundle.Program
}

func (g *maker) tensor(d bundle.DType, f func(i int) int, shape ...int) int {
	n := 1
	for _, x := range shape {
		n *= x
	}
	v := make([]int32, n)
	for i := range v {
		v[i] = int32(f(i))
	}
	g.p.Tensors = append(g.p.Tensors, bundle.NewTensor("", d, shape, v))
	return len(g.p.Tensors) - 1
}

// taps are four positive numbers whose sum is at most 250.
func (g *maker) taps(c int) int {
	left := 0
	return g.tensor(bundle.U8, func(i int) int {
		if i%4 == 0 {
			left = 250
		}
		w := g.IntN(left/2 + 1)
		left -= w
		return w
	}, c, 4)
}

func (g *maker) step(s bundle.Step, d bundle.DType, rows, cols int) int {
	s.Name, s.Out = fmt.Sprintf("%s%d", s.Op, len(g.p.Steps)), len(g.p.Values)
	g.p.Values = append(g.p.Values, bundle.Value{Name: s.Name, DType: d, Rows: rows, Cols: cols})
	g.p.Steps = append(g.p.Steps, s)
	return s.Out
}

func (g *maker) linear(x, outputs int, d bundle.DType, r bundle.Requant) int {
	c := g.p.Values[x].Cols
	return g.step(bundle.Step{Op: bundle.OpConv, In: []int{x}, Conv: &bundle.Conv{
		K: 1, Stride: 1, Dilation: 1, Groups: 1, Pad: -1, Requant: r,
		W:    g.tensor(bundle.I8, func(int) int { return g.IntN(255) - 127 }, outputs, 1, c),
		Bias: g.tensor(bundle.I32, func(int) int { return g.IntN(1000) }, outputs)}}, d, 1, outputs)
}

// flow is random tokens at every position: those beyond the valid ones
// must not matter more to the engine than to refexec.
func flow(p *bundle.Program, r *rand.Rand) []int32 {
	tokens := make([]int32, p.Length)
	for i := range tokens {
		tokens[i] = int32(r.IntN(p.Vocab))
	}
	for range p.Sides {
		tokens = append(tokens, int32(r.IntN(bundle.SideIDs)))
	}
	return tokens
}

func TestEveryLength(t *testing.T) {
	for _, k := range []chain{
		{1000, 128, 256, 22, published.norm}, {261, 100, 64, 5, []bool{true, false, true}},
		{300, 33, 48, 3, []bool{true, true, false}}, {300, 7, 6, 3, []bool{false, false}},
	} {
		p := k.program(1)
		ref, few := reference(t, p), 1
		if testing.Short() {
			few = 9 // not a divisor of the block
		}
		r := rand.New(rand.NewPCG(2, 3))
		for _, path := range paths() {
			e := bind(t, p, path)
			c, out := e.NewContext(), e.NewOutput()
			for valid := 1; valid <= k.length; valid += few {
				tokens := flow(p, r)
				if err := c.Run(tokens, valid, out); err != nil {
					t.Fatal(err)
				}
				if want := ref(tokens, valid); !equal(out, want) {
					t.Fatalf("%v, %s, %d valid: engine %v, refexec %v", k, path, valid, out, want)
				}
			}
		}
	}
}

func TestNoAllocations(t *testing.T) {
	p := chain{1000, 128, 256, 22, published.norm}.program(1)
	for _, path := range paths() {
		e := bind(t, p, path)
		c, out, tokens := e.NewContext(), e.NewOutput(), flow(p, rand.New(rand.NewPCG(1, 1)))
		if n := testing.AllocsPerRun(10, func() {
			if err := c.Run(tokens, 77, out); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %g allocations per run", path, n)
		}
		s := e.NewStream()
		if n := testing.AllocsPerRun(10, func() {
			s.Begin()
			if c.Append(s, tokens[:50]) != nil || c.Append(s, tokens[50:90]) != nil || c.Finish(s, 0, nil, out) != nil {
				t.Fatal("stream failed")
			}
		}); n != 0 {
			t.Errorf("%s: %g allocations per stream", path, n)
		}
	}
}

func BenchmarkPublished(b *testing.B) {
	p := published.program(1)
	for _, path := range paths() {
		e := bind(b, p, path)
		c, out := e.NewContext(), e.NewOutput()
		r := rand.New(rand.NewPCG(1, 1))
		flows := make([][]int32, 64)
		for i := range flows {
			flows[i] = flow(p, r)
		}
		for _, length := range []int{16, 32, 64, 96, 128} {
			b.Run(fmt.Sprintf("%s/%d", path, length), func(b *testing.B) {
				b.ReportAllocs()
				for i := range b.N {
					if err := c.Run(flows[i%len(flows)], length, out); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkBind(b *testing.B) {
	p := published.program(1)
	for b.Loop() {
		bind(b, p, paths()[len(paths())-1]).NewContext()
	}
}
