package quantize

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestSortMagnitudes(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 2047, 2048, 10000} {
		s := make([]float32, n)
		for i := range s {
			s[i] = float32(math.Abs(rng.NormFloat64()) * math.Exp(40*(rng.Float64()-0.5)))
		}
		if n > 4 {
			copy(s[n/2:], []float32{0, math.MaxFloat32, math.SmallestNonzeroFloat32, float32(math.Inf(1)), s[0]})
		}
		want := slices.Sorted(slices.Values(s))
		if sortMagnitudes(s); !slices.Equal(s, want) {
			t.Errorf("%d numbers are not in order", n)
		}
	}
}
