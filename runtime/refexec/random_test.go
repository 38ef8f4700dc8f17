package refexec_test

import (
	"testing"

	"nepcoc/internal/randprog"
	"nepcoc/runtime/refexec"
)

// What a validator lets pass must run, and stay within the types of the values:
// the proof that nothing was left to wrap.
func TestRandomProgramsStayInType(t *testing.T) {
	for seed := range uint64(300) {
		p := randprog.New(seed)
		x, err := refexec.New(p)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		x.Trace = func(v int, data []int32) {
			lo, hi := p.Values[v].DType.Range()
			for i, y := range data {
				if y < lo || y > hi {
					t.Fatalf("seed %d: value %d is %d at %d, beyond %s", seed, v, y, i, p.Values[v].DType)
				}
			}
		}
		tokens, valid := randprog.Input(p, seed)
		if _, err := x.Run(tokens, valid); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}
