package engine_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"nepcoc/internal/randprog"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/engine"
)

// narrowed is p with its token table of 8 bits stored narrow: rows of d elements that a
// convolution of window 1 widens. It returns false where p has no such table.
func narrowed(p *bundle.Program, d int, seed uint64) bool {
	g := &maker{rand.New(rand.NewPCG(seed, 3)), p}
	i := slices.IndexFunc(p.Steps, func(s bundle.Step) bool {
		return s.Op == bundle.OpTokenTable && p.Values[s.Out].DType == bundle.I8
	})
	if i < 0 {
		return false
	}
	wide := p.Steps[i].Out
	c := p.Values[wide].Cols
	p.Plan = bundle.Plan{}
	p.Values = append(p.Values, bundle.Value{Name: "narrow", DType: bundle.I8, Rows: p.Length, Cols: d})
	table := bundle.Step{Op: bundle.OpTokenTable, Name: "narrow", Out: len(p.Values) - 1, TokenTable: &bundle.TokenTable{
		Table: g.tensor(bundle.I8, func(int) int { return g.IntN(256) - 128 }, p.Vocab, d)}}
	// Weights of either type, rescaled by a clamp or by a table.
	w, bits := bundle.I8, 7
	if seed%2 == 0 {
		w, bits = bundle.I16, 15
	}
	limit := 1 << bits
	k := &bundle.Conv{K: 1, Stride: 1, Dilation: 1, Groups: 1, Pad: -1,
		W:    g.tensor(w, func(int) int { return g.IntN(2*limit) - limit }, c, 1, d),
		Bias: g.tensor(bundle.I32, func(int) int { return g.IntN(1<<20) - 1<<19 }, c),
		Requant: bundle.Requant{Mult: g.tensor(bundle.I32, func(int) int { return 1<<20 + g.IntN(1<<20) }, c),
			Shift: 21 + bits, Lo: -128, Hi: 127, Table: -1}}
	if seed%3 == 0 {
		k.Requant.Table = g.tensor(bundle.I16, func(int) int { return g.IntN(256) - 128 }, 64)
	}
	p.Steps = slices.Insert(p.Steps, i, table)
	p.Steps[i+1] = bundle.Step{Op: bundle.OpConv, Name: "wide", In: []int{table.Out}, Out: wide, Conv: k}
	return true
}

// A table that is stored narrow is widened once, when the program is bound: no
// flow pays for it, streams run chunk by chunk as before, and the bits are those of refexec,
// which widens the rows of each flow.
func TestNarrowTable(t *testing.T) {
	for _, c := range []struct {
		chain
		d int
	}{
		{chain{1000, 128, 256, 22, published.norm}, 128}, {chain{1003, 100, 64, 5, []bool{true, false, true}}, 5},
		{chain{2, 7, 6, 3, []bool{false, true}}, 33}, {chain{70, 9, 30, 3, []bool{true}}, 16},
	} {
		for seed := range uint64(6) {
			p := c.program(1)
			narrowed(p, c.d, seed)
			differential(t, p, seed)
			for _, path := range paths() {
				if !streamed(t, p, path, 3, seed) {
					t.Errorf("%v from %d: does not run chunk by chunk", c.chain, c.d)
				}
				if names := bind(t, p, path).StepNames(); slices.Contains(names, "narrow") {
					t.Errorf("%v from %d: steps %v look the narrow rows up for each flow", c.chain, c.d, names)
				}
			}
		}
	}
}

// Narrow tables in programs of every shape.
func TestRandomNarrowTables(t *testing.T) {
	n := uint64(300)
	if testing.Short() {
		n = 60
	}
	seen := 0
	for seed := range n {
		for _, p := range []*bundle.Program{randprog.New(seed), randprog.NewPublished(seed), randomChain(seed)} {
			if narrowed(p, 1+int(seed)%70, seed) {
				seen++
				differential(t, p, seed)
			}
		}
	}
	if seen < int(n) {
		t.Errorf("only %d programs have a table of 8 bits", seen)
	}
}

// What else reads the narrow rows, or does more than widen them, is left as it is; so are tables
// that would take more memory than a small file may ask for, one or several together.
func TestNotFolded(t *testing.T) {
	for name, change := range map[string]func(p *bundle.Program){
		"a second reader": func(p *bundle.Program) {
			p.Values = append(p.Values, bundle.Value{Name: "too", DType: bundle.I8, Rows: 1, Cols: 1})
			p.Steps = append(p.Steps, bundle.Step{Op: bundle.OpPool, Name: "too", In: []int{p.Steps[0].Out}, Out: len(p.Values) - 1,
				Pool: &bundle.Pool{Kind: "max", Over: "prefix"}})
		},
		"128 MiB": func(p *bundle.Program) {
			p.Vocab = 1 << 20
			t := &p.Tensors[p.Steps[0].TokenTable.Table]
			*t = bundle.NewTensor("", bundle.I8, []int{p.Vocab, 1}, make([]int32, p.Vocab))
		},
		"three times 30 MiB": func(p *bundle.Program) {
			p.Vocab = 1 << 18
			t := &p.Tensors[p.Steps[0].TokenTable.Table]
			*t = bundle.NewTensor("", bundle.I8, []int{p.Vocab, 1}, make([]int32, p.Vocab))
			for i := range 2 { // the same tensors before it
				first, wide, n := p.Steps[2*i], p.Steps[2*i+1], len(p.Values)
				p.Values = append(p.Values, p.Values[first.Out], p.Values[wide.Out])
				p.Values[n].Name, p.Values[n+1].Name = fmt.Sprint("first", i), fmt.Sprint("second", i)
				first.Name, first.Out, wide.In, wide.Out = "another", n, []int{n}, n+1
				p.Steps = slices.Insert(p.Steps, 0, first, wide)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := chain{100, 20, 128, 3, []bool{true}}.program(1)
			narrowed(p, 1, 1)
			change(p)
			differential(t, p, 1)
			if names := bind(t, p, paths()[0]).StepNames(); !slices.Contains(names, "narrow") {
				t.Errorf("steps %v: folded", names)
			}
		})
	}
}

// The published table from rows of 128.
func BenchmarkFold(b *testing.B) {
	p := published.program(1)
	narrowed(p, 128, 2)
	for _, path := range paths() {
		b.Run(fmt.Sprint(path), func(b *testing.B) {
			for b.Loop() {
				if _, err := engine.Bind(p, engine.Options{Kernel: path}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What is said of a program without widening its tables is what runs.
func TestDescribe(t *testing.T) {
	p := chain{1000, 40, 64, 5, []bool{true, true}}.program(1)
	narrowed(p, 16, 1)
	for _, q := range []*bundle.Program{p, planned(p, 16), randprog.New(1), randomChain(3)} {
		for _, path := range paths() {
			d, err := engine.Describe(q, path)
			if err != nil {
				t.Fatal(err)
			}
			e := bind(t, q, path)
			want := engine.Description{Kernel: path, Arena: e.ArenaBytes(), Tile: e.Tile(), Streams: e.Streams(), State: e.StateBytes()}
			if d != want || e.Describe() != want {
				t.Errorf("%s: described as %+v, runs as %+v", path, d, want)
			}
		}
	}
	if _, err := engine.Describe(p, "sse9"); err == nil || !strings.Contains(err.Error(), "dotprod") {
		t.Errorf("an unknown kernel path: %v", err)
	}
}
