package roc

import (
	"math"
	"math/rand/v2"
	"testing"
)

// The area is the share of pairs in the right order, whatever the ties.
func TestAUROC(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 200 {
		known, foreign := make([]int64, 1+r.IntN(20)), make([]int64, 1+r.IntN(20))
		for i := range known {
			known[i] = r.Int64N(int64(2 + n%9))
		}
		for i := range foreign {
			foreign[i] = r.Int64N(int64(2+n%9)) + int64(n%3)
		}
		want := 0.0
		for _, k := range known {
			for _, f := range foreign {
				switch {
				case f > k:
					want++
				case f == k:
					want += 0.5
				}
			}
		}
		want /= float64(len(known) * len(foreign))
		if got := AUROC(known, foreign); math.Abs(got-want) > 1e-12 {
			t.Fatalf("%v %v: %g, want %g", known, foreign, got, want)
		}
	}
	if AUROC(nil, []int64{1}) != 0 || FalsePass([]int64{1}, nil, 0.95) != 0 {
		t.Error("nothing is told of nothing")
	}
}

// With 20 known samples the bound of 0.95 is the 19th.
func TestFalsePass(t *testing.T) {
	var known []int64
	for i := range 20 {
		known = append(known, int64(i))
	}
	if got := FalsePass(known, []int64{0, 17, 18, 19, 20}, 0.95); got != 0.6 {
		t.Errorf("%g, want 0.6", got)
	}
	if got := FalsePass(known, []int64{0, 19, 20, 21}, 1); got != 0.5 {
		t.Errorf("%g, want 0.5", got)
	}
}
