package compiler

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// Verdicts of made-up models against labels: what is refused, what is warned of.
func TestClassOrder(t *testing.T) {
	const classes = 8
	rng := rand.New(rand.NewPCG(3, 9))
	// of draws n labels by skew and lets a model answer.
	of := func(n int, skew float64, answer func(label int) int) *standing {
		labels, verdicts := make([]int, n), make([]int, n)
		for i := range labels {
			if labels[i] = rng.IntN(classes); rng.Float64() < skew {
				labels[i] = 0
			}
			verdicts[i] = answer(labels[i])
		}
		labels[3] = -1
		return stand(verdicts, labels, classes)
	}
	mostly := func(p float64, f func(int) int) func(int) int {
		return func(l int) int {
			if rng.Float64() < p {
				return f(l)
			}
			return rng.IntN(classes)
		}
	}
	reversed := func(l int) int { return classes - 1 - l }
	swap := func(l int) int {
		if l == 2 || l == 5 {
			return 7 - l
		}
		return l
	}
	same := func(l int) int { return l }
	for name, tc := range map[string]struct {
		s             *standing
		error, warned string
	}{
		"good":                    {of(150, 0, mostly(0.95, same)), "", ""},
		"poor, yet knows":         {of(150, 0, mostly(0.4, same)), "", ""},
		"reversed":                {of(150, 0, mostly(0.95, reversed)), "0 (named \"a\") is given to \"h\"", ""},
		"reversed, one frequent":  {of(150, 0.5, mostly(0.95, reversed)), "another order", ""},
		"reversed, few":           {of(24, 0, reversed), "another order", ""},
		"shifted by one":          {of(150, 0, func(l int) int { return (l + 1) % classes }), "another order", ""},
		"reversed, far too few":   {of(10, 0, reversed), "", "no better than always saying"},
		"two swapped":             {of(300, 0, mostly(0.95, swap)), "", "2 (named \"c\") is given to \"f\", 5 (named \"f\") is given to \"c\""},
		"knows nothing":           {of(150, 0, mostly(0, same)), "", "no better than always saying"},
		"always one":              {of(150, 0.3, func(int) int { return 4 }), "", "no better than always saying \"a\""},
		"always the right one":    {of(150, 1, func(int) int { return 0 }), "", "no better than always saying \"a\""},
		"knows nothing, skewed":   {of(150, 0.8, mostly(0, same)), "", "no better than always saying"},
		"no labels":               {stand([]int{1, 2}, []int{-1, -1}, classes), "", ""},
		"a class that is no such": {stand([]int{1, 2}, []int{99, -7}, classes), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := &compilation{Options: Options{Model: "m.onnx", Calib: "c.pcap"}}
			warning, err := c.judgeOrder(tc.s, "logits", strings.Split("abcdefgh", ""))
			if (err != nil) != (tc.error != "") || err != nil && !(strings.Contains(err.Error(), tc.error) && strings.Contains(err.Error(), "--labels") && strings.Contains(err.Error(), "--contract")) {
				t.Errorf("error %v, want %q", err, tc.error)
			}
			if (warning != "") != (tc.warned != "") || !strings.Contains(warning, tc.warned) {
				t.Errorf("warning %q, want %q", warning, tc.warned)
			}
		})
	}
	// A hundred models that know nothing: none is taken for one with other names.
	for range 100 {
		if s := of(150, rng.Float64(), mostly(0, same)); s.shuffled() {
			t.Errorf("chance is taken for an order: %+v", s)
		}
	}
}
