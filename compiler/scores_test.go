package compiler

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"nepcoc/runtime/bundle"
)

// Labels drawn from the softmax of the logits at a known temperature give that
// temperature back.
func TestTemperature(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	const scale = 1e-3
	classes := likelihoods[bundle.KindClasses]
	for _, want := range []float64{0.5, 1, 3} {
		var logits [][]int32
		var labels [][]int
		for range 20000 {
			l := make([]int32, 5)
			p, z := make([]float64, 5), 0.0
			for k := range l {
				l[k] = int32(rng.NormFloat64() * 2000)
				p[k] = math.Exp(float64(l[k]) * scale / want)
				z += p[k]
			}
			u, k := rng.Float64()*z, 0
			for ; k < 4 && u >= p[k]; k++ {
				u -= p[k]
			}
			logits, labels = append(logits, l), append(labels, []int{k})
		}
		labels[7] = nil // not labelled: left out
		if got := temperature(logits, labels, scale, classes); math.Abs(got/want-1) > 0.05 {
			t.Errorf("temperature %.3f, want %.3f", got, want)
		}
	}
}

// The same of sigmoids: one as a binary output, three independent ones.
func TestTemperatureOfSigmoids(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	const scale = 1e-3
	for _, want := range []float64{0.5, 1, 3} {
		var one, three [][]int32
		var side, any [][]int
		for range 20000 {
			l := make([]int32, 3)
			given := []int{}
			for k := range l {
				l[k] = int32(rng.NormFloat64() * 2000)
				if rng.Float64() < 1/(1+math.Exp(-float64(l[k])*scale/want)) {
					given = append(given, k)
				}
			}
			one, three, any = append(one, l[:1]), append(three, l), append(any, given)
			if slices.Contains(given, 0) {
				side = append(side, []int{1})
			} else {
				side = append(side, []int{0})
			}
		}
		if got := temperature(one, side, scale, likelihoods[bundle.KindBinary]); math.Abs(got/want-1) > 0.05 {
			t.Errorf("binary: temperature %.3f, want %.3f", got, want)
		}
		if got := temperature(three, any, scale, likelihoods[bundle.KindLabels]); math.Abs(got/want-1) > 0.05 {
			t.Errorf("labels: temperature %.3f, want %.3f", got, want)
		}
	}
}

// A threshold that moves with the temperature gives the same verdicts.
func TestThresholdAtTemperature(t *testing.T) {
	sigmoid := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	for _, threshold := range []float64{0, 0.01, 0.3, 0.5, 0.875, 1} {
		for _, temperature := range []float64{0.5, 1, 4} {
			moved := atTemperature(threshold, temperature)
			for x := -6.0; x < 6; x += 0.01 {
				if p := sigmoid(x); math.Abs(p-threshold) > 1e-6 && (p >= threshold) != (sigmoid(x/temperature) >= moved) {
					t.Fatalf("threshold %g at temperature %g is %g: other verdicts of logit %g", threshold, temperature, moved, x)
				}
			}
		}
	}
}
