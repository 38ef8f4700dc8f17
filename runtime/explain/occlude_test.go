package explain

import (
	"testing"

	"nepcoc/internal/randprog"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/traffic"
)

// No line names a byte that is blank, whatever the model; flows of models without maxima run no oftener than the explainer says, which is what the agent reckons with.
func TestOcclude(t *testing.T) {
	checked, most, pools := 0, 0, 0
	for seed := range uint64(60) {
		p := randprog.New(seed)
		if seed%2 == 0 {
			p = randprog.NewPublished(seed)
		}
		c, err := traffic.Named("byte")
		if err != nil {
			t.Fatal(err)
		}
		c.Length = p.Length
		enc, err := traffic.NewEncoder(c)
		if err != nil {
			continue
		}
		x, err := New(&bundle.Bundle{Program: p}, enc)
		if err != nil {
			t.Fatal(err)
		}
		r, out := x.NewRunner(), x.Engine().NewOutput()
		tokens, valid := randprog.Input(p, seed)
		for i := range tokens {
			if i%3 == 0 {
				tokens[i] = r.blank(i)
			}
		}
		if err := r.Run(tokens, valid, out); err != nil {
			t.Fatal(err)
		}
		runs := 1
		for o := range p.Outputs {
			if len(out[o]) < 2 {
				continue
			}
			v := Verdict{Up: 0, Down: 1}
			w, err := r.Quick(o, v, out[o])
			if err != nil {
				t.Fatal(err)
			}
			for i := range w {
				if w[i] > 0 && tokens[i] == r.blank(i) {
					t.Fatalf("seed %d: id %d weighs %g, and is blank", seed, i, w[i])
				}
			}
			checked++
		}
		if x.Pools() {
			if pools++; x.Cost() != 2 {
				t.Errorf("seed %d: %d times", seed, x.Cost())
			}
			continue
		}
		for range p.Outputs {
			for _, part := range [][2]int{{0, valid}, {p.Length, r.extent()}} {
				if err := r.each(part[0], part[1], groups, func(int, int) error { runs++; return nil }); err != nil {
					t.Fatal(err)
				}
			}
		}
		if runs > x.Cost() {
			t.Errorf("seed %d: %d runs, said are %d", seed, runs, x.Cost())
		}
		most = max(most, runs)
	}
	if checked < 20 || most < groups || pools < 5 {
		t.Errorf("%d outputs, %d runs at most, %d models with maxima", checked, most, pools)
	}
}
