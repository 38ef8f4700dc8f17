package explain

import (
	"math"
	"slices"
	"testing"

	"nepcoc/internal/randprog"
	"nepcoc/runtime/engine"
	"nepcoc/runtime/refexec"
)

// The head as a program of its own gives, of what the maxima have found, the model's logits in every row.
func TestHead(t *testing.T) {
	heads := 0
	for seed := range uint64(600) {
		p := randprog.New(seed)
		if seed%2 == 0 {
			p = randprog.NewPublished(seed)
		}
		h := newHead(p)
		if h == nil {
			continue
		}
		heads++
		e, err := engine.Bind(p, engine.Options{Winners: true})
		if err != nil {
			t.Fatal(err)
		}
		c, out, r := e.NewContext(), e.NewOutput(), h.run()
		for i := range uint64(2) {
			tokens, valid := randprog.Input(p, 2*seed+i)
			if err := c.Run(tokens, valid, out); err != nil {
				t.Fatal(err)
			}
			for k := range h.pools {
				m := c.Maximum(h.pools[k].value)
				for row := range groups {
					r.ctx.Set(h.inputs[k], row*len(m.Top), m.Top)
				}
			}
			if err := r.ctx.Run(r.tokens[:], 1, r.out); err != nil {
				t.Fatal(err)
			}
			for o := range out {
				for row := range groups {
					if got := r.out[o][row*h.cols[o]:][:h.cols[o]]; !slices.Equal(got, out[o]) {
						t.Fatalf("seed %d, output %d, row %d: %v, want %v", seed, o, row, got, out[o])
					}
				}
			}
		}
	}
	if heads < 20 {
		t.Errorf("%d programs have a head", heads)
	}
}

// Rows depend on no token outside of what their reach says, and the published shape's reach is that of its program.
func TestReach(t *testing.T) {
	checked := 0
	for seed := range uint64(150) {
		p := randprog.New(seed)
		if seed%2 == 0 {
			p = randprog.NewPublished(seed)
		}
		all := reaches(p)
		values := func(tokens []int32, valid int) [][]int32 {
			x, err := refexec.New(p)
			if err != nil {
				t.Fatal(err)
			}
			v := make([][]int32, len(p.Values))
			x.Trace = func(i int, data []int32) { v[i] = data }
			if _, err := x.Run(tokens, valid); err != nil {
				t.Fatal(err)
			}
			return v
		}
		tokens, _ := randprog.Input(p, seed)
		n := p.Length
		before := values(tokens, n)
		for _, at := range []int{0, n / 2, n - 1} {
			changed := slices.Clone(tokens)
			changed[at] = (changed[at] + 1) % int32(p.Vocab)
			after := values(changed, n)
			for v := range p.Values {
				cols := p.Values[v].Cols
				for row := range p.Values[v].Rows {
					from, to := all[v].tokens(row, n)
					if all[v].empty() {
						from, to = 0, 0
					}
					if at >= from && at < to {
						continue
					}
					checked++
					if !slices.Equal(before[v][row*cols:][:cols], after[v][row*cols:][:cols]) {
						t.Fatalf("seed %d: row %d of value %d (%d to %d) depends on token %d", seed, row, v, from, to, at)
					}
				}
			}
		}
		for v, r := range all {
			sum := 0.0
			for _, x := range r.paths {
				sum += x
			}
			if r.paths != nil && (math.Abs(sum-1) > 1e-9 || len(r.paths) != r.hi-r.lo+1) {
				t.Fatalf("seed %d, value %d: paths %v of %d to %d", seed, v, r.paths, r.lo, r.hi)
			}
		}
	}
	if checked < 1000 {
		t.Errorf("%d rows looked at", checked)
	}
}
