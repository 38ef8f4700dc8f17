package compiler

import (
	"math/rand/v2"
	"strings"
	"testing"

	"nepcoc/compiler/calibrate"
	"nepcoc/runtime/verdict"
)

// What calibration data are is said in plain words, and nothing is said of good ones.
func TestAboutData(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	random := func() calibrate.Input {
		in := calibrate.Input{Tokens: make([]int32, 40), Valid: 40}
		for i := range in.Tokens {
			in.Tokens[i] = int32(rng.IntN(256))
		}
		return in
	}
	exchange := random()
	repeated := func() calibrate.Input { // but for a number
		in := calibrate.Input{Tokens: append([]int32(nil), exchange.Tokens...), Valid: 40}
		in.Tokens[3], in.Tokens[4] = int32(rng.IntN(1<<16)), int32(rng.IntN(1<<16))
		return in
	}
	for name, tc := range map[string]struct {
		n        int
		input    func() calibrate.Input
		answered func(i int) bool // the server's packets are there
		want     []string
	}{
		"good":         {300, random, func(i int) bool { return i%3 > 0 }, nil},
		"few":          {60, random, func(int) bool { return true }, []string{"the figures stand on 15 flows only, one of which is 6.67 %"}},
		"very few":     {9, random, func(int) bool { return true }, []string{"of the same 9 flows that ranges were found on"}},
		"one":          {1, random, func(int) bool { return true }, []string{"of the same 1 flows that ranges were found on"}},
		"one, often":   {50, func() calibrate.Input { return exchange }, func(int) bool { return true }, []string{"of the same 1 flows", "only 1 of the 50 flows differ"}},
		"nearly alike": {300, repeated, func(int) bool { return true }, []string{"the 300 flows used are of 1 kinds only"}},
		"one-sided":    {300, random, func(i int) bool { return i%10 == 0 }, []string{"270 of 300 flows have packets of one side only"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := &compilation{calib: &calibrate.Set{}}
			for i := range tc.n {
				var r verdict.Record
				r.Packets[0] = 3
				if tc.answered(i) {
					r.Packets[1] = 2
				}
				c.calib.Inputs, c.calib.Flows = append(c.calib.Inputs, tc.input()), append(c.calib.Flows, r)
			}
			c.parts = c.calib.Split(observeInputs, measureInputs)
			got := c.aboutData()
			if len(got) != len(tc.want) {
				t.Errorf("%q, want %q", got, tc.want)
			}
			for i, want := range tc.want {
				if i < len(got) && !strings.Contains(got[i], want) {
					t.Errorf("%q, want %q", got[i], want)
				}
			}
		})
	}
}
