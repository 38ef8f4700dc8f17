package pool

import (
	"math/bits"

	"nepcoc/runtime/arith"
)

// Divider is arith.DivRound of sums of values by one count: a product in place of a division.
type Divider struct {
	count int64
	// (2 sum + count) / (2 count), rounded down, is the upper word of n*factor, where n*2*count < 2^64; see Granlund and Montgomery, Division
	// by Invariant Integers using Multiplication, 1994. add rounds, and makes n positive. factor is 0 for large counts.
	factor, add uint64
}

const (
	maxDividerCount = 1 << 14
	valueBound      = 1 << 31 // of the values that are summed up
)

// NewDivider makes the Divider by count, which is at least 1.
func NewDivider(count int64) Divider {
	if count > maxDividerCount {
		return Divider{count: count}
	}
	c := uint64(count)
	return Divider{count, ^uint64(0)/(2*c) + 1, c + 2*c*valueBound}
}

// Round is sum/count rounded to nearest, halves up, of a sum of at most count values.
func (d *Divider) Round(sum int64) int64 {
	if d.factor == 0 {
		return arith.DivRound(sum, d.count)
	}
	q, _ := bits.Mul64(uint64(2*sum)+d.add, d.factor)
	return int64(q) - valueBound
}
