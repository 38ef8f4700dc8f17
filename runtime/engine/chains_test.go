package engine_test

import (
	"math/rand/v2"
	"testing"

	"nepcoc/runtime/bundle"
	"nepcoc/runtime/engine"
)

// randomChain is a program whose local region consists of gated layers only,
// joined at random: any kernel size and padding, residuals from any
// earlier layer, one or two maxima over the valid prefix or all positions.
func randomChain(seed uint64) *bundle.Program {
	r := rand.New(rand.NewPCG(seed, 77))
	g := &maker{r, &bundle.Program{Length: 1 + r.IntN(150), Vocab: 2 + r.IntN(50)}}
	g.p.Left, g.p.Right = g.p.Length, g.p.Length
	width := []int{1, 2, 15, 16, 33, 64}[r.IntN(6)]
	// Every third chain is one that the time-major kernels take: neighbours read the same channel.
	published := seed%3 == 0
	if published {
		width = []int{64, 128}[r.IntN(2)]
	}
	byteAt := func(int) int { return g.IntN(256) - 128 }
	all := []int{g.step(bundle.Step{Op: bundle.OpTokenTable, TokenTable: &bundle.TokenTable{
		Table: g.tensor(bundle.I8, byteAt, g.p.Vocab, width)}}, bundle.I8, g.p.Length, width)}
	var pooled []int
	for i, n := 0, 1+r.IntN(6); i < n; i++ {
		in := all[max(r.IntN(len(all)), r.IntN(len(all)))]
		k := 1 + r.IntN(6)
		if r.IntN(8) == 0 {
			k = 7 + r.IntN(60)
		}
		chanH, chanG := func(int) int { return g.IntN(width) }, func(int) int { return g.IntN(width) }
		if published {
			k = 1 + k%4
			chanH, chanG = func(c int) int { return c / 2 }, func(c int) int { return width/2 + c/2 }
		}
		layer := &bundle.GatedConv{
			K: k, PadLeft: r.IntN(k), Shift: 1 + r.IntN(10),
			ChanH: g.tensor(bundle.U16, chanH, width), ChanG: g.tensor(bundle.U16, chanG, width),
			TapsH: g.tensor(bundle.U8, func(int) int { return g.IntN(240 / k) }, width, k), TapsG: g.tensor(bundle.U8, func(int) int { return g.IntN(240 / k) }, width, k),
			BiasH: g.tensor(bundle.I32, byteAt, width), BiasG: g.tensor(bundle.I32, func(int) int { return 32768 + g.IntN(256) }, width),
			PadIn: g.tensor(bundle.I8, byteAt, width),
			Base:  g.tensor(bundle.U8, func(int) int { return g.IntN(256) }, 32), Slope: g.tensor(bundle.U8, func(int) int { return g.IntN(256) }, 32),
		}
		ins, d := []int{in}, bundle.I8
		if wide := i == n-1 || r.IntN(5) == 0; wide || r.IntN(2) == 0 {
			layer.Shift = 0
			layer.Norm = &bundle.Norm{
				Rho: g.tensor(bundle.I8, func(int) int { return g.IntN(200) - 100 }, width), Cst: g.tensor(bundle.I16, byteAt, width),
				Flip:  g.tensor(bundle.U8, func(int) int { return g.IntN(2) }, width),
				MeanM: int32((1<<24 + width) / (2 * width)), Eps: 50, A: 40000, S: 8 + r.IntN(8), Shift: 1 + r.IntN(7),
			}
			if r.IntN(4) > 0 {
				ins = append(ins, all[r.IntN(len(all))])
			}
			if wide {
				d, layer.Norm.Shift = bundle.I16, 0
			}
		}
		v := g.step(bundle.Step{Op: bundle.OpGatedConv, In: ins, GatedConv: layer}, d, g.p.Length, width)
		if d == bundle.I16 {
			pooled = append(pooled, v)
		} else {
			all = append(all, v)
		}
	}
	for i, v := range pooled {
		over := []string{"prefix", "all"}[r.IntN(2)]
		out := g.step(bundle.Step{Op: bundle.OpPool, In: []int{v}, Pool: &bundle.Pool{Kind: "max", Over: over}}, bundle.I16, 1, width)
		g.p.Outputs = append(g.p.Outputs, bundle.Output{Name: string(rune('a' + i)), Value: out, Ending: bundle.EndLogits, Exp: -1})
	}
	return g.p
}

func TestRandomChains(t *testing.T) {
	n := uint64(300)
	if testing.Short() {
		n = 50
	}
	for seed := range n {
		p := randomChain(seed)
		differential(t, p, seed)
		if best := paths()[len(paths())-1]; seed%3 == 0 && engine.PlanePath(bind(t, p, best)) != best {
			t.Errorf("seed %d: the gated layers don't run on %s", seed, best)
		}
		for _, path := range paths() {
			if !streamed(t, p, path, 3, seed) {
				t.Errorf("seed %d does not run chunk by chunk", seed)
			}
		}
	}
}

// wholeChain is randomChain whose region goes on as steps that look at the whole sequence: rows of its layers are transposed, normalised
// and multiplied by vectors made of all positions, and gated layers may follow.
func wholeChain(seed uint64) *bundle.Program {
	p := randomChain(seed)
	g := &maker{rand.New(rand.NewPCG(seed, 78)), p}
	var rows []int
	for v, x := range p.Values {
		if x.Rows == p.Length && x.DType == bundle.I8 && v > 0 && p.Length > 1 {
			rows = append(rows, v)
		}
	}
	for i := range 1 + g.IntN(2) {
		if len(rows) == 0 {
			break
		}
		x := rows[g.IntN(len(rows))]
		cols := p.Values[x].Cols
		word := func(n int) func(int) int { return func(int) int { return g.IntN(2*n+1) - n } }
		t := g.step(bundle.Step{Op: bundle.OpTranspose, In: []int{x}}, bundle.I8, cols, p.Length)
		t = g.step(bundle.Step{Op: bundle.OpLayerNorm, In: []int{t}, LayerNorm: &bundle.LayerNorm{Eps: 7, Shift: 20,
			Gamma: g.tensor(bundle.I32, word(1000), p.Length), Beta: g.tensor(bundle.I32, word(1<<20), p.Length)}}, bundle.I8, cols, p.Length)
		y := g.step(bundle.Step{Op: bundle.OpTranspose, In: []int{t}}, bundle.I8, p.Length, cols)
		mean := g.step(bundle.Step{Op: bundle.OpPool, In: []int{x}, Pool: &bundle.Pool{Kind: "mean", Over: "prefix"}}, bundle.I8, 1, cols)
		y = g.step(bundle.Step{Op: bundle.OpMul, In: []int{y, mean}, Mul: &bundle.Mul{Mult: 3, Shift: 6, Lo: -128, Hi: 127}}, bundle.I8, p.Length, cols)
		if g.IntN(2) == 0 { // a gated layer of what is not local
			for _, s := range p.Steps {
				if s.Op == bundle.OpGatedConv && len(s.In) == 1 && p.Values[s.Out].DType == bundle.I8 {
					s.In, s.Out = []int{y}, 0
					y = g.step(s, bundle.I8, p.Length, cols)
					break
				}
			}
		}
		out := g.step(bundle.Step{Op: bundle.OpPool, In: []int{y}, Pool: &bundle.Pool{Kind: "max", Over: []string{"prefix", "all"}[g.IntN(2)]}}, bundle.I8, 1, cols)
		flat := g.step(bundle.Step{Op: bundle.OpFlatten, In: []int{x}}, bundle.I8, 1, cols*p.Length)
		p.Outputs = append(p.Outputs, bundle.Output{Name: string(rune('p' + 2*i)), Value: out, Ending: bundle.EndLogits, Exp: -1},
			bundle.Output{Name: string(rune('q' + 2*i)), Value: flat, Ending: bundle.EndLogits, Exp: -1})
	}
	return p
}

// What is local runs as tokens come, the rest at the end, with the bits of the reference.
func TestWholeChains(t *testing.T) {
	n, chunked := uint64(100), 0
	if testing.Short() {
		n = 40
	}
	for seed := range n {
		p := wholeChain(seed)
		differential(t, p, seed)
		q := *p
		q.Plan.Tile = min(p.Length, 32)
		differential(t, &q, seed)
		for _, path := range paths() {
			if streamed(t, p, path, 3, seed) {
				chunked++
			}
		}
	}
	if chunked < int(n)*len(paths())*3/4 {
		t.Errorf("%d of %d run chunk by chunk", chunked, int(n)*len(paths()))
	}
}
