package teach

import (
	"math/rand/v2"
	"testing"
)

// The optimiser does not stop at one short step: of problems of many shapes it is within a twentieth of what going on from there, five
// times over, finds.
func TestMinimise(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		rows, width, classes := 60+r.IntN(200), 2+r.IntN(60), 2+r.IntN(12)
		m := &matrix{rows: rows, width: width, data: make([]float32, rows*width)}
		label, index := make([]int, rows), make([]int, rows)
		for i := range rows {
			label[i], index[i] = r.IntN(classes), i
			for c := range width {
				spread := 1 / float64(1+c%7*c%5)
				m.data[i*width+c] = float32(spread * (r.NormFloat64() + float64((label[i]*c)%3)))
				if r.IntN(30) == 0 {
					m.data[i*width+c] *= 20 // outliers
				}
			}
		}
		const decay = 1e-2
		o := newObjective(m, index, label, classes, decay)
		h := &head{classes: classes, weights: make([]float64, width*classes), bias: make([]float64, classes)}
		minimise(o, h, firstIterations)
		x := append(append([]float64(nil), h.weights...), h.bias...)
		g := make([]float64, len(x))
		got := o.eval(x, g)
		for range 5 {
			minimise(o, h, 400)
		}
		x = append(append(x[:0], h.weights...), h.bias...)
		if least := o.eval(x, g); got > 1.05*least {
			t.Errorf("seed %d: %d flows, %d features, %d classes: stopped at %.4f, the least is at most %.4f", seed, rows, width, classes, got, least)
		}
	}
}
