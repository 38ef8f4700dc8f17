package bundle_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"nepcoc/internal/randprog"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/refexec"
)

// Of random programs, what is left computes the same, and a program of which nothing is left out stays as it is.
func TestPrune(t *testing.T) {
	for seed := range uint64(60) {
		p := randprog.New(seed)
		whole := p.Prune()
		if err := whole.Validate(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		// Every value on the way that is a vector of 32 bits can be an output; here each of those there are, alone.
		for k := range p.Outputs {
			one := *p
			one.Outputs = []bundle.Output{p.Outputs[k]}
			pruned := one.Prune()
			if err := pruned.Validate(); err != nil {
				t.Fatalf("seed %d, output %d: %v", seed, k, err)
			}
			want, got := logits(t, p), logits(t, pruned)
			if !slices.Equal(got[0], want[k]) {
				t.Fatalf("seed %d, output %d: %v, want %v", seed, k, got[0], want[k])
			}
		}
	}
}

func logits(t *testing.T, p *bundle.Program) [][]int32 {
	t.Helper()
	x, err := refexec.New(p)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	tokens := make([]int32, p.Length)
	for i := range tokens {
		tokens[i] = r.Int32N(int32(p.Vocab))
	}
	for range p.Sides {
		tokens = append(tokens, r.Int32N(bundle.SideIDs))
	}
	out, err := x.Run(tokens, p.Length)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
