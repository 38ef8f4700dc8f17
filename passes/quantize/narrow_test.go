package quantize

import (
	"math"
	"math/rand/v2"
	"testing"
)

// formError is the error of rows by the form of the wide table.
func formError(data []float32, rows []int8, scale []float64, g [][]float64) float64 {
	d, sum := len(scale), 0.0
	for at := 0; at < len(data); at += d {
		e := make([]float64, d)
		for i := range e {
			e[i] = float64(data[at+i])/scale[i] - float64(rows[at+i])
		}
		for i := range e {
			for j := range e {
				sum += g[i][j] * e[i] * e[j]
			}
		}
	}
	return math.Sqrt(sum / float64(len(data)))
}

// Narrow rows are rounded for the wide rows that they are widened to: better than each number by
// itself, by a fifth for weights as random as a projection's, and never worse.
func TestRoundRows(t *testing.T) {
	for _, c := range []struct {
		name    string
		d, wide int
		weight  func(r *rand.Rand, c, i int) float64
		gain    float64 // at least
	}{
		{"random", 64, 128, func(r *rand.Rand, _, _ int) float64 { return r.NormFloat64() }, 0.85},
		{"each channel its column", 16, 16, func(_ *rand.Rand, c, i int) float64 {
			if c == i {
				return 1
			}
			return 0
		}, 1},
		{"fewer channels than columns", 16, 4, func(r *rand.Rand, _, _ int) float64 { return r.NormFloat64() }, 0.7},
		{"no weight", 4, 8, func(*rand.Rand, int, int) float64 { return 0 }, 1},
		{"two columns alike", 8, 16, func(r *rand.Rand, c, i int) float64 { return math.Sin(float64(c * (i / 2 * 2))) }, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 1))
			const n = 300
			data, w := make([]float32, n*c.d), make([]float32, c.wide*c.d)
			scale := fill(c.d, 0)
			for i := range data {
				data[i] = float32(r.NormFloat64())
				scale[i%c.d] = max(scale[i%c.d], math.Abs(float64(data[i]))/127)
			}
			for i := range w {
				w[i] = float32(c.weight(r, i/c.d, i%c.d))
			}
			g := func() [][]float64 { return gram(w, scale, fill(c.wide, 0.02)) }
			nearest := make([]int8, len(data))
			for i, x := range data {
				nearest[i] = int8(math.RoundToEven(float64(x) / scale[i%c.d]))
			}
			plain, got := formError(data, nearest, scale, g()), formError(data, roundRows(data, scale, g()), scale, g())
			if got > c.gain*plain+1e-6 {
				t.Errorf("error %.3f units, each number by itself %.3f; want at most %g times that", got, plain, c.gain)
			}
		})
	}
}
