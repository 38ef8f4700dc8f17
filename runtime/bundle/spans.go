package bundle

import (
	"fmt"
	"math"

	"nepcoc/runtime/arith"
)

// span is a closed range of integers.
type span struct{ lo, hi int64 }

func typeSpan(d DType) span {
	lo, hi := d.Range()
	return span{int64(lo), int64(hi)}
}

// maxAbs is the largest absolute value.
func (s span) maxAbs() int64 { return max(-s.lo, s.hi) }

// hull is the smallest span around both.
func (s span) hull(o span) span { return span{min(s.lo, o.lo), max(s.hi, o.hi)} }

// clamp is the image of the span under clamping to o.
func (s span) clamp(o span) span {
	return span{min(max(s.lo, o.lo), o.hi), min(max(s.hi, o.lo), o.hi)}
}

// scale is the image under multiplication by m and a rounding shift; the
// products must be known to fit.
func (s span) scale(m int64, shift int) span {
	a, b := s.lo*m, s.hi*m
	return span{arith.RoundShift(min(a, b), shift), arith.RoundShift(max(a, b), shift)}
}

// plus is the range of sums.
func (s span) plus(o span) span { return span{s.lo + o.lo, s.hi + o.hi} }

// fits62 tells whether a sum of products of absolute values stays below 2^62,
// the precondition of every rescaling.
func fits62(products ...[]int64) bool {
	sum := 0.0
	for _, factors := range products {
		x := 1.0
		for _, f := range factors {
			x *= math.Abs(float64(f))
		}
		sum += x
	}
	// Floating point rounds by less than the margin between 2^62 and 2^63.
	return sum < 1<<62
}

// maxSpans bounds the ranges kept for one program. freeWork and four times its
// tensors' elements bound what is looked at to check it: a small file may name
// one large tensor in thousands of steps.
const (
	maxSpans = 1 << 18
	freeWork = 1 << 24
)

// perChannel computes the ranges of n channels; channel i of a value has range
// span[i%len(span)]. Beyond a total of maxSpans only their hull is kept.
func (c *checker) perChannel(n int, f func(i int) span) []span {
	c.work += n
	if c.spans+n <= maxSpans {
		c.spans += n
		out := make([]span, n)
		for i := range out {
			out[i] = f(i)
		}
		return out
	}
	h := f(0)
	for i := 1; i < n; i++ {
		h = h.hull(f(i))
	}
	return []span{h}
}

// spanOf is the range of all channels of a value.
func (c *checker) spanOf(v int) span {
	k := &c.values[v]
	c.work += len(k.span)
	h := k.span[0]
	for _, s := range k.span[1:] {
		h = h.hull(s)
	}
	return h
}

// channel is the range of one channel of a value.
func (k *known) channel(i int) span { return k.span[i%len(k.span)] }

// field sets the receptive field of a step's output: that of its first input,
// widened by what the step adds, and those of any others. Any change of the number of rows, unless the
// input is one vector for all rows, makes it the whole input.
func (c *checker) field(s *Step, left, right int) {
	out := &c.values[s.Out]
	for i, v := range s.In {
		in, rows := &c.values[v], c.p.Values[v].Rows
		l, r := in.left, in.right
		if rows != c.out(s).Rows || rows != c.p.Length {
			l, r = c.p.Length, c.p.Length
		}
		if i == 0 {
			l, r = l+max(left, 0), r+max(right, 0)
		}
		out.left = min(max(out.left, l), c.p.Length)
		out.right = min(max(out.right, r), c.p.Length)
	}
}

// everything says that a step's output depends on the whole input.
func (c *checker) everything(s *Step) { c.field(s, c.p.Length, c.p.Length) }

func fitError(what string, channel int, s span, to string) error {
	return fmt.Errorf("%s of channel %d can be %d..%d, which does not fit %s", what, channel, s.lo, s.hi, to)
}
