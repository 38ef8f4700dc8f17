package pool_test

import (
	"math/rand/v2"
	"testing"

	"nepcoc/runtime/arith"
	"nepcoc/runtime/internal/kernels/pool"
)

func TestDivider(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	counts := []int64{1<<14 - 1, 1 << 14, 1<<14 + 1, 1 << 20}
	for c := range int64(300) {
		counts = append(counts, c+1)
	}
	for _, count := range counts {
		d := pool.NewDivider(count)
		most := count << 31
		for i := range int64(400) {
			sum := r.Int64N(2*most+1) - most
			switch i % 4 {
			case 0: // around halves
				sum = (2*(r.Int64N(2<<16)-1<<16)+1)*count/2 + i%3 - 1
			case 1:
				sum = most - i/4
			case 2:
				sum = i/4 - most
			}
			if got, want := d.Round(sum), arith.DivRound(sum, count); got != want {
				t.Fatalf("%d/%d: %d, want %d", sum, count, got, want)
			}
		}
	}
}
