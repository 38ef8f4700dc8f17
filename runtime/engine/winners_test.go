package engine_test

import (
	"slices"
	"testing"

	"nepcoc/internal/randprog"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/engine"
	"nepcoc/runtime/refexec"
)

// firstOf are, of each channel of the first rows of x, the largest number and the first row that holds it.
func firstOf(x []int32, rows, cols int) (top, at []int32) {
	top, at = slices.Clone(x[:cols]), make([]int32, cols)
	for t := 1; t < rows; t++ {
		for c, v := range x[t*cols:][:cols] {
			if v > top[c] {
				top[c], at[c] = v, int32(t)
			}
		}
	}
	return top, at
}

// Where maxima were found is what the reference's values say, on every path, flow after flow in one context; and the outputs of an
// engine that says so are those of one that doesn't.
func TestWinners(t *testing.T) {
	n := uint64(400)
	if testing.Short() {
		n = 100
	}
	maxima, ties := 0, 0
	check := func(p *bundle.Program, seed uint64) {
		x, err := refexec.New(p)
		if err != nil {
			t.Fatal(err)
		}
		values := make([][]int32, len(p.Values))
		x.Trace = func(v int, data []int32) { values[v] = data }
		var contexts []*engine.Context
		for _, path := range paths() {
			e, err := engine.Bind(p, engine.Options{Kernel: path, Winners: true})
			if err != nil {
				t.Fatal(err)
			}
			contexts = append(contexts, e.NewContext())
		}
		for i := range uint64(3) {
			tokens, valid := randprog.Input(p, seed*3+i)
			want, err := x.Run(tokens, valid)
			if err != nil {
				t.Fatal(err)
			}
			for k, c := range contexts {
				out := make([][]int32, len(want))
				for o := range out {
					out[o] = make([]int32, len(want[o]))
				}
				if err := c.Run(tokens, valid, out); err != nil {
					t.Fatal(err)
				}
				if !equal(out, want) {
					t.Fatalf("seed %d, %s: engine %v, refexec %v", seed, paths()[k], out, want)
				}
				for s := range p.Steps {
					step := &p.Steps[s]
					got := c.Maximum(step.Out)
					if step.Op != bundle.OpPool || step.Pool.Kind != "max" {
						if got != nil {
							t.Fatalf("seed %d: step %s has winners", seed, step.Op)
						}
						continue
					}
					in := &p.Values[step.In[0]]
					rows := in.Rows
					if step.Pool.Over == "prefix" {
						rows = valid
					}
					top, at := firstOf(values[step.In[0]], rows, in.Cols)
					if needed(p, step.Out) && (!slices.Equal(got.Top, top) || !slices.Equal(got.At, at)) {
						t.Fatalf("seed %d, %s, %d valid: maxima %v at %v, want %v at %v", seed, paths()[k], valid, got.Top, got.At, top, at)
					}
					maxima++
					for ch, row := range at {
						for r := int(row) + 1; r < rows; r++ {
							if values[step.In[0]][r*in.Cols+ch] == top[ch] {
								ties++
							}
						}
					}
				}
			}
		}
	}
	for seed := range n {
		check(randprog.New(seed), seed)
		check(randprog.NewPublished(seed), seed)
	}
	check(published.program(1), 1)
	if maxima == 0 || ties == 0 {
		t.Errorf("%d maxima, %d ties: nothing was compared", maxima, ties)
	}
}

// needed tells whether an output depends on a value.
func needed(p *bundle.Program, value int) bool {
	want := map[int]bool{}
	for _, o := range p.Outputs {
		want[o.Value] = true
	}
	for i := len(p.Steps) - 1; i >= 0; i-- {
		if want[p.Steps[i].Out] {
			for _, v := range p.Steps[i].In {
				want[v] = true
			}
		}
	}
	return want[value]
}

// An engine that was not asked says nothing.
func TestNoWinners(t *testing.T) {
	p := chain{300, 60, 32, 3, []bool{false, true}}.program(1)
	e := bind(t, p, paths()[0])
	c := e.NewContext()
	if err := c.Run(make([]int32, 60), 60, e.NewOutput()); err != nil {
		t.Fatal(err)
	}
	for v := range p.Values {
		if c.Maximum(v) != nil {
			t.Errorf("value %d", v)
		}
	}
}

// Watched positions are given as the reference has them, of another flow too; what the last run without found stays.
func TestWatch(t *testing.T) {
	p := published.program(3)
	pool := slices.IndexFunc(p.Steps, func(s bundle.Step) bool { return s.Op == bundle.OpPool })
	in, out := p.Steps[pool].In[0], p.Steps[pool].Out
	x, err := refexec.New(p)
	if err != nil {
		t.Fatal(err)
	}
	var rows []int32
	x.Trace = func(v int, data []int32) {
		if v == in {
			rows = data
		}
	}
	first, valid := randprog.Input(p, 1)
	second, _ := randprog.Input(p, 2)
	if _, err := x.Run(second, valid); err != nil {
		t.Fatal(err)
	}
	for _, path := range paths() {
		e, err := engine.Bind(p, engine.Options{Kernel: path, Winners: true})
		if err != nil {
			t.Fatal(err)
		}
		c := e.NewContext()
		if err := c.Run(first, valid, e.NewOutput()); err != nil {
			t.Fatal(err)
		}
		m := c.Maximum(out)
		top, at := slices.Clone(m.Top), slices.Clone(m.At)
		c.Watch(out, m.At)
		if err := c.Run(second, valid, e.NewOutput()); err != nil {
			t.Fatal(err)
		}
		for ch, there := range m.There {
			if want := rows[int(at[ch])*len(at)+ch]; there != want {
				t.Fatalf("%s, channel %d: %d at %d, want %d", path, ch, there, at[ch], want)
			}
		}
		if !slices.Equal(m.Top, top) || !slices.Equal(m.At, at) {
			t.Errorf("%s: a watched run moved the winners", path)
		}
	}
}
