package engine_test

import (
	"testing"

	"nepcoc/internal/randprog"
)

// The general steps allocate nothing either; see TestAllocations for the gated ones.
func TestRandomProgramsAllocateNothing(t *testing.T) {
	for seed := range uint64(120) {
		p := randprog.New(seed)
		if seed >= 100 {
			p = randprog.NewPublished(seed)
		}
		tokens, valid := randprog.Input(p, seed)
		for _, path := range paths() {
			e := bind(t, p, path)
			c, out := e.NewContext(), e.NewOutput()
			if n := testing.AllocsPerRun(3, func() {
				if err := c.Run(tokens, valid, out); err != nil {
					t.Fatal(err)
				}
			}); n != 0 {
				t.Fatalf("seed %d, %s: %v allocations per flow", seed, path, n)
			}
		}
	}
}
