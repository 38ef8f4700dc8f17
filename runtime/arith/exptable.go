package arith

import (
	"math"

	"nepcoc/internal/exact"
)

// The table of exp for scores: 1/expGrid of a logit per entry, down to
// exp(-expReach), in 1/2^24.
const (
	expGrid  = 128
	expReach = 16
)

// ExpTable is the table that Softmax and Sigmoid read.
func ExpTable() []int32 {
	exp := make([]int32, expGrid*expReach)
	for j := range exp {
		exp[j] = int32(math.RoundToEven(exact.Exp(-float64(j)/expGrid) * (1 << 24)))
	}
	return exp
}

// ExpRatio are the multiplier and shift that turn distances of integer logits, in units of scale, into entries of ExpTable:
// 30 bits of the quotient.
func ExpRatio(scale float64) (mult int32, shift int) {
	ratio := scale * expGrid
	_, e := math.Frexp(ratio)
	shift = min(max(30-e, 1), 62)
	return int32(min(math.RoundToEven(math.Ldexp(ratio, shift)), math.MaxInt32)), shift
}
