package elementwise_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"nepcoc/runtime/arith"
	"nepcoc/runtime/cpu"
	"nepcoc/runtime/internal/kernels/elementwise"
	"nepcoc/runtime/internal/kernels/rescale"
)

func TestProduct(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, path := range cpu.Available() {
		for _, k := range []struct {
			boundA, boundB int64
			mult           int32
			shift          int
			lo, hi         int32
		}{
			{128, 128, 544593656, 36, -128, 127},
			{32768, 128, 1<<30 + 1, 40, -128, 127},
			{32768, 32768, 3, 20, -100, 100},
			{1 << 31, 128, 7, 30, -1000, 1000}, // too wide for 32 bits
			{5, 5, 1, 1, -13, 12},
		} {
			p := elementwise.NewProduct(path, k.mult, k.shift, k.lo, k.hi, k.boundA, k.boundB)
			draw := func(bound int64) int32 { return int32(r.Int64N(2*bound) - bound) }
			for n := range 30 {
				a, b := make([]int32, rescale.Pad(n)), make([]int32, n)
				for i := range n {
					a[i], b[i] = draw(k.boundA), draw(k.boundB)
				}
				was := slices.Clone(a)
				p.Apply(a[:n], b)
				for i := range n {
					want := arith.Clamp(arith.Requant(int64(was[i])*int64(b[i]), k.mult, k.shift), k.lo, k.hi)
					if a[i] != want {
						t.Fatalf("%v %+v: %d*%d: %d, want %d", path, k, was[i], b[i], a[i], want)
					}
				}
			}
		}
	}
}
