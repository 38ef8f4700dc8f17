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
