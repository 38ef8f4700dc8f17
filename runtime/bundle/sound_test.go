package bundle_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"nepcoc/internal/randprog"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/refexec"
)

// trace runs a program by the reference executor and returns all its values.
func trace(t *testing.T, p *bundle.Program, tokens []int32, valid int) [][]int32 {
	t.Helper()
	x, err := refexec.New(p)
	if err != nil {
		t.Fatal(err)
	}
	values := make([][]int32, len(p.Values))
	x.Trace = func(v int, data []int32) { values[v] = slices.Clone(data) }
	if _, err := x.Run(tokens, valid); err != nil {
		t.Fatal(err)
	}
	return values
}

// What Validate proves about ranges and receptive fields holds for what the
// reference executor computes.
func TestProofsAreSound(t *testing.T) {
	n := uint64(400)
	if testing.Short() {
		n = 40
	}
	tight := 0
	for seed := range n {
		p := randprog.New(seed)
		a := bundle.Analyse(t, p)
		r := rand.New(rand.NewPCG(seed, 3))
		tokens, valid := randprog.Input(p, seed)
		values := trace(t, p, tokens, valid)
		for v, data := range values {
			cols := p.Values[v].Cols
			for i, x := range data {
				lo, hi := a.Range(v, i%cols)
				if int64(x) < lo || int64(x) > hi {
					t.Fatalf("seed %d: value %d, row %d, channel %d is %d, proved to be %d..%d", seed, v, i/cols, i%cols, x, lo, hi)
				}
			}
		}
		// Change one token: only rows that reach it may change.
		at := r.IntN(p.Length)
		tokens = slices.Clone(tokens)
		tokens[at] = (tokens[at] + 1) % int32(p.Vocab)
		for v, data := range trace(t, p, tokens, valid) {
			left, right := a.Reach(v)
			cols := p.Values[v].Cols
			if p.Values[v].Rows != p.Length {
				continue
			}
			for row := range p.Length {
				if at >= row-left && at <= row+right {
					continue
				}
				tight++
				if !slices.Equal(data[row*cols:(row+1)*cols], values[v][row*cols:(row+1)*cols]) {
					t.Fatalf("seed %d: row %d of value %d changes with token %d, proved to see %d to the left and %d to the right",
						seed, row, v, at, left, right)
				}
			}
		}
	}
	if tight < int(n) {
		t.Errorf("only %d rows were outside a receptive field", tight)
	}
	t.Logf("%d rows outside receptive fields", tight)
}
