package quantize

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"nepcoc/runtime/arith"
)

// A piece is a line with whole-number slopes and 8 bits; a table is as good as
// that allows for every unit that a layer may have.
func TestGateTable(t *testing.T) {
	for _, unit := range []float64{1e-9, 1e-3, 0.01, 0.03, 0.06, 0.1, 0.25, 0.5, 1, 3, 10, 1e3} {
		base, slope := gateTable(unit)
		limit := 0.6
		if unit > 0.3 {
			// The whole transition falls into one or two pieces of 8 inputs.
			limit = 0.55 + 12*min(unit, 1)
		}
		if e := gateError(&base, &slope, unit); !(e <= limit) {
			t.Errorf("unit %g: rms error %.3f of 127, want at most %.3f", unit, e, limit)
		}
		for g := range 256 {
			if s := arith.Gate(&base, &slope, uint8(g)); s > 127 {
				t.Fatalf("unit %g: gate(%d) = %d, more than one", unit, g, s)
			}
		}
	}
}

// Rounding taps keeps the sum of each filter and is off by less than one per
// tap.
func TestTapsKeepSums(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		k := 1 + rng.IntN(8)
		w, total := make([]float32, k), 0.0
		for i := range w {
			w[i] = float32(rng.ExpFloat64())
			if rng.IntN(4) == 0 {
				w[i] = 0
			}
			total += float64(w[i])
		}
		if total == 0 {
			continue
		}
		scale := rng.Float64() / total * 0.99 // sums up to 253, as reach guarantees
		q, sum, exact := make([]uint8, k), 0, 0.0
		taps(q, w, scale)
		for i := range q {
			x := 256 * scale * float64(w[i])
			if math.Abs(float64(q[i])-x) >= 1 {
				t.Fatalf("%v times %g: tap %d is %d, far from %g", w, scale, i, q[i], x)
			}
			sum += int(q[i])
			exact += x
		}
		if sum != int(math.Floor(exact+0.5)) {
			t.Fatalf("%v times %g: sum %d instead of %g", w, scale, sum, exact)
		}
	}
}

// Clips are magnitudes that occur, never beyond the largest.
func TestClips(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	samples := map[string][]float32{"zeros": {0, 0, 0}, "one": {3}, "constant": {2, 2, 2, 2}}
	var normal, outlier []float32
	for range 4000 {
		normal = append(normal, float32(math.Abs(rng.NormFloat64())))
	}
	outlier = append(append(outlier, normal...), 1000)
	samples["normal"], samples["outlier"] = normal, outlier
	for name, s := range samples {
		s = append([]float32(nil), s...)
		slices.Sort(s)
		for _, m := range Methods() {
			for _, levels := range []float64{127, 32767} {
				c := methods[m](s, levels)
				if top := float64(s[len(s)-1]); !(c >= 0 && c <= top*1.0001) || (c == 0 && top > 0) {
					t.Errorf("%s of %s at %g levels: %g of %g", m, name, levels, c, top)
				}
			}
		}
	}
	// One value in four thousand is no reason to lose eight bits of the rest.
	for _, m := range []string{"percentile", "entropy"} {
		slices.Sort(outlier)
		if c := methods[m](outlier, 127); c > 900 {
			t.Errorf("%s keeps the outlier: clip %g", m, c)
		}
	}
}
