package compiler

import (
	"math"
	"math/rand/v2"
	"testing"
)

// Labels drawn from the softmax of the logits at a known temperature give that
// temperature back.
func TestTemperature(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	const scale = 1e-3
	for _, want := range []float64{0.5, 1, 3} {
		var logits [][]int32
		var labels []int
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
			logits, labels = append(logits, l), append(labels, k)
		}
		labels[7] = -1 // not labelled: left out
		if got := temperature(logits, labels, scale); math.Abs(got/want-1) > 0.05 {
			t.Errorf("temperature %.3f, want %.3f", got, want)
		}
	}
}
