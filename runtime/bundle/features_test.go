package bundle

import (
	"math"
	"testing"
)

// A range's ends are its first and last id, whichever is larger; what lies outside goes to the nearer end.
func TestRange(t *testing.T) {
	const last = FeatureLevels - 1
	for _, tc := range []struct {
		r  Range
		x  float64
		id int32
		ok bool
	}{
		{Range{0, 254}, 0, 0, true}, {Range{0, 254}, 254, last, true}, {Range{0, 254}, 3.4, 3, true}, {Range{0, 254}, 3.6, 4, true},
		{Range{0, 254}, -0.1, 0, false}, {Range{0, 254}, 1e30, last, false}, {Range{0, 254}, math.Inf(-1), 0, false},
		{Range{10, -10}, 10, 0, true}, {Range{10, -10}, -10, last, true}, {Range{10, -10}, 11, 0, false},
		{Range{7, 7}, 7, last / 2, true}, {Range{7, 7}, 8, last / 2, false}, {Range{0.1, 0.1}, float64(float32(0.1)), last / 2, true},
	} {
		if id, ok := tc.r.ID(tc.x); id != tc.id || ok != tc.ok {
			t.Errorf("%v of %g: %d, %v; want %d, %v", tc.r, tc.x, id, ok, tc.id, tc.ok)
		}
		// An id stands for a number that has that id.
		mid, half := tc.r.Affine()
		for id := range int32(FeatureLevels) {
			if got, ok := tc.r.ID(mid + half*float64(id-last/2)/(last/2)); half != 0 && (got != id || !ok && id != 0 && id != last) {
				t.Errorf("%v: id %d reads as %d, %v", tc.r, id, got, ok)
			}
		}
	}
}
