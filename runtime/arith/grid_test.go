package arith_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"nepcoc/runtime/arith"
)

// The ids of numbers on grids, written down by hand: ties go to the even one, what lies outside to the nearest end.
func TestGridID(t *testing.T) {
	const top = arith.GridIDs - 1
	for _, tc := range []struct {
		g    arith.Grid
		x    float32
		id   int32
		ok   bool
		back float64
	}{
		{arith.Grid{}, 0, 0, true, 0},
		{arith.Grid{}, 1500, 1500, true, 1500},
		{arith.Grid{}, top, top, true, top},
		{arith.Grid{}, top + 1, top, false, top},
		{arith.Grid{}, -1, 0, false, 0},
		{arith.Grid{}, 0.5, 0, true, 0},
		{arith.Grid{}, 1.5, 2, true, 2},
		{arith.Grid{}, 2.5, 2, true, 2},
		{arith.Grid{}, 2.5000002, 3, true, 3},
		{arith.Grid{Low: -8, Exp: -2}, -2, 0, true, -2},
		{arith.Grid{Low: -8, Exp: -2}, -2.125, 0, true, -2},
		{arith.Grid{Low: -8, Exp: -2}, 0.375, 10, true, 0.5}, // 1.5 steps
		{arith.Grid{Low: -7, Exp: -2}, 0.375, 9, true, 0.5},  // the even step, not the even id
		{arith.Grid{Low: -8, Exp: -2}, float32(math.Inf(1)), top, false, (top - 8) / 4.},
		{arith.Grid{Low: -8, Exp: -2}, float32(math.Inf(-1)), 0, false, -2},
		{arith.Grid{Low: -8, Exp: -2}, float32(math.NaN()), 0, false, -2},
		{arith.Grid{Low: 1 << 30, Exp: 20}, 1 << 50, 0, true, 1 << 50},
	} {
		id, ok := tc.g.ID(tc.x)
		if back := tc.g.Value(id); id != tc.id || ok != tc.ok || back != tc.back {
			t.Errorf("%+v of %g: id %d, %v, which stands for %g; want %d, %v, %g", tc.g, tc.x, id, ok, back, tc.id, tc.ok, tc.back)
		}
	}
}

// A grid over a range reaches eight times as far in either direction at least, and its steps are small beside the range and its place.
func TestGridOver(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		mid := math.Ldexp(r.NormFloat64(), r.IntN(240)-120)
		lo := float64(float32(mid))
		hi := lo + math.Abs(math.Ldexp(r.NormFloat64(), r.IntN(160)-100))
		if r.IntN(4) == 0 {
			hi = lo
		}
		if max(math.Abs(lo), math.Abs(hi)) > math.MaxFloat32 {
			continue
		}
		g := arith.GridOver(lo, hi)
		if !g.Valid() {
			t.Fatalf("%g to %g: %+v", lo, hi, g)
		}
		for _, x := range []float64{lo, hi, lo + (hi-lo)*r.Float64(), lo - 7*(hi-lo), hi + 7*(hi-lo)} {
			x = float64(float32(x))
			if math.Abs(x) > math.MaxFloat32 {
				continue
			}
			id, ok := g.ID(float32(x))
			if d := math.Abs(g.Value(id) - x); !ok || d > max((hi-lo)*0x1p-19, math.Abs(lo+hi)*0x1p-29, 0x1p-80) {
				t.Fatalf("%g to %g, %+v: %g is id %d, %g away (%v)", lo, hi, g, x, id, d, ok)
			}
		}
	}
	for _, w := range []int{1, 255, 1500, 65535, 1<<20 - 1} { // whole numbers are exact
		g := arith.GridOver(0, float64(w))
		for range 100 {
			x := float32(r.IntN(w + 1))
			if id, ok := g.ID(x); !ok || g.Value(id) != float64(x) {
				t.Errorf("0 to %d: %g becomes %g", w, x, g.Value(id))
			}
		}
	}
}

// Side by hand: the distance from zero, rescaled with halves rounded up, within the limits.
func TestSide(t *testing.T) {
	for _, tc := range []struct{ id, zero, mult, want int32 }{
		{5, 5, 1 << 10, 0}, {6, 5, 1 << 9, 1}, {4, 5, 1 << 9, 0}, {6, 5, 1<<9 - 1, 0}, {4, 5, 1<<9 + 1, -1},
		{1<<24 - 1, 0, math.MaxInt32, 127}, {0, 1 << 30, math.MaxInt32, -128}, {0, -1 << 30, 1, 127},
	} {
		if got := arith.Side(tc.id, tc.zero, tc.mult, 10, -128, 127); got != tc.want {
			t.Errorf("id %d, zero %d, mult %d: %d, want %d", tc.id, tc.zero, tc.mult, got, tc.want)
		}
	}
}
