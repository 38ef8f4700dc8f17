package calibrate_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"nepcoc/compiler/calibrate"
)

// set makes inputs of the given contents: equal numbers make equal inputs.
func set(contents ...int) *calibrate.Set {
	s := &calibrate.Set{}
	for _, c := range contents {
		s.Inputs = append(s.Inputs, calibrate.Input{Tokens: []int32{int32(c), int32(c * c), 7}, Valid: 2})
	}
	return s
}

// What is measured was not observed, whatever the order of the file, and a
// flow that occurs twice stands in one part only.
func TestSplit(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, tc := range []struct{ n, observe, measure int }{
		{16, 12, 4}, {17, 12, 5}, {40, 30, 10}, {85, 63, 22}, {128, 64, 64}, {300, 64, 236}, {900, 64, 300},
	} {
		var contents []int
		for c := range tc.n {
			for range 1 + c%3 {
				contents = append(contents, c)
			}
		}
		one := set(contents...)
		p := one.Split(64, 300)
		if p.Distinct != tc.n || p.Same || len(p.Observe) != tc.observe || len(p.Measure) != tc.measure {
			t.Fatalf("%d flows: %d distinct, %d observed, %d measured, same %v; want %+v", tc.n, p.Distinct, len(p.Observe), len(p.Measure), p.Same, tc)
		}
		seen := make(map[int]bool)
		for _, i := range p.Observe {
			seen[contents[i]] = true
		}
		for _, i := range p.Measure {
			if seen[contents[i]] {
				t.Errorf("%d flows: content %d stands in both parts", tc.n, contents[i])
			}
		}
		if !slices.IsSorted(p.Observe) || !slices.IsSorted(p.Measure) {
			t.Errorf("%d flows: not in the order of the file", tc.n)
		}
		// The parts depend on the contents alone.
		shuffled := slices.Clone(contents)
		rng.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		q := set(shuffled...).Split(64, 300)
		of := func(contents []int, index []int) []int {
			var out []int
			for _, i := range index {
				out = append(out, contents[i])
			}
			slices.Sort(out)
			return out
		}
		if !slices.Equal(of(contents, p.Observe), of(shuffled, q.Observe)) || !slices.Equal(of(contents, p.Measure), of(shuffled, q.Measure)) {
			t.Errorf("%d flows: another order of the file parts them otherwise", tc.n)
		}
	}
}

// Too few flows are not parted, and the parts say so.
func TestSplitFew(t *testing.T) {
	for _, n := range []int{1, 2, 15} {
		var contents []int
		for c := range n {
			contents = append(contents, c, c)
		}
		p := set(contents...).Split(64, 300)
		if !p.Same || p.Distinct != n || len(p.Observe) != n || !slices.Equal(p.Observe, p.Measure) {
			t.Errorf("%d flows: %+v", n, p)
		}
	}
}

// Flows that differ in a few tokens only are alike.
func TestAlike(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	s := &calibrate.Set{}
	for i := range 60 {
		tokens := make([]int32, 100)
		for k := range tokens {
			tokens[k] = int32(k)
			if i%20 == 0 || k == 17 { // one of 20 is other traffic, one token of each is a counter
				tokens[k] = int32(rng.IntN(1 << 16))
			}
		}
		s.Inputs = append(s.Inputs, calibrate.Input{Tokens: tokens, Valid: 90})
	}
	all := make([]int, len(s.Inputs))
	for i := range all {
		all[i] = i
	}
	if n := s.Kinds(all); n != 4 {
		t.Errorf("%d kinds of flows, want 4: one that repeats and 3 others", n)
	}
}
