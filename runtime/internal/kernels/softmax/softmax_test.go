package softmax_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"nepcoc/runtime/arith"
	"nepcoc/runtime/internal/kernels/softmax"
)

// Against the definition, to the bit: small and large rows, ties, quotients that are whole or end in a half.
func TestRow(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 4000 {
		n, width := 1+r.IntN(300), int64(1)<<r.IntN(33)
		x := make([]int32, n)
		for i := range x {
			x[i] = int32(r.Int64N(width) - width/2)
		}
		if r.IntN(8) == 0 {
			x[0], x[n-1] = math.MinInt32, math.MaxInt32
		}
		exp := make([]int32, 1+r.IntN(100))
		for i := range exp {
			if exp[i] = int32(r.IntN(1<<24 + 1)); r.IntN(2) == 0 {
				exp[i] = 1 << r.IntN(25)
			}
		}
		exp[0] = max(exp[0], 1)
		mult, shift := int32(r.Int64N(1<<(1+r.IntN(31)))), r.IntN(63)
		got, want := make([]int32, n), make([]int32, n)
		softmax.Row(got, x, exp, mult, shift)
		arith.Probabilities(want, x, exp, mult, shift)
		if !slices.Equal(got, want) {
			t.Fatalf("%v of %v: %v, want %v", exp, x, got, want)
		}
	}
}
