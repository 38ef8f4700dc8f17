// Package softmax makes probabilities of scores, with the bits of arith.Probabilities: one division for a row, and products
// whose error is put right.
package softmax

import "nepcoc/runtime/arith"

// Row fills p with the probabilities of x, as long; exp, mult and shift as in bundle.Softmax.
func Row(p, x []int32, exp []int32, mult int32, shift int) {
	p = p[:len(x)]
	top := x[0]
	for _, v := range x {
		top = max(top, v)
	}
	var sum int64
	last := uint64(len(exp) - 1)
	for i, v := range x {
		e := exp[min(uint64(int64(top)-int64(v))*uint64(mult)>>(shift&63), last)]
		p[i] = e
		sum += int64(e)
	}
	// DivRound(e<<15, sum) is (e<<16 + sum) / (2*sum) rounded down; both are below 2^53.
	den := 2 * sum
	inverse := 1 / float64(den)
	for i, e := range p {
		num := int64(e)<<(arith.ProbabilityBits+1) + sum
		q := int64(float64(num) * inverse)
		if r := num - q*den; r < 0 {
			q--
		} else if r >= den {
			q++
		}
		p[i] = int32(min(q, 1<<arith.ProbabilityBits-1))
	}
}
