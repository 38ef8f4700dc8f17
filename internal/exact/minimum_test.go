package exact_test

import (
	"math"
	"testing"

	"nepcoc/internal/exact"
)

func TestMinimum(t *testing.T) {
	for _, at := range []float64{-2.9, 0, 1.25, 3} {
		if got := exact.Minimum(func(x float64) float64 { return (x - at) * (x - at) }, -3, 3, 40); math.Abs(got-at) > 1e-6 {
			t.Errorf("minimum at %g, want %g", got, at)
		}
	}
}
