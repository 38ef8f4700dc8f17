package quantize

import (
	"testing"

	"nepcoc/ir"
)

// A search tries more than a hundred plans on the same observations: each clipped magnitude is found once.
func TestClipOnce(t *testing.T) {
	v := &ir.Value{Name: "v"}
	obs := &Observations{stats: map[*ir.Value]*stats{v: {lo: -1, hi: 2, mags: []float32{1, 2}}}}
	calls := 0
	observed := func(method string, levels, want float64) {
		t.Helper()
		q := &quantizer{obs: obs, opts: Options{Method: method}, clip: func(mags []float32, levels float64) float64 {
			calls++
			return float64(len(method)) + levels
		}}
		for range 3 {
			if lo, hi, clip := q.observed(v, levels); lo != -1 || hi != 2 || clip != want {
				t.Errorf("%s, %v levels: %v to %v, clipped at %v instead of %v", method, levels, lo, hi, clip, want)
			}
		}
	}
	for range 2 {
		observed("mse", 127, 130)
		observed("mse", 1000, 1003)
		observed("entropy", 127, 134)
	}
	if calls != 3 {
		t.Errorf("computed %d times, want once for each method and number of levels", calls)
	}
}
