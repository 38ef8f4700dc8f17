package bundle

import (
	"errors"
	"fmt"
	"math"
)

// Bounds of the fused LayerNorm: its sums are 32 bits wide, see
// arith.NormFactors.
const (
	maxNormChannels = 256
	maxGatedK       = 256
)

func (c *checker) gatedConv(s *Step) error {
	k, in, out := s.GatedConv, c.in(s, 0), c.out(s)
	if in.DType != I8 {
		return fmt.Errorf("input %q is %s, expected i8", in.Name, in.DType)
	}
	if err := firstOf(within("k", int64(k.K), 1, maxGatedK), within("pad_left", int64(k.PadLeft), 0, int64(k.K)-1)); err != nil {
		return err
	}
	if err := c.shape(s, "", in.Rows, out.Cols); err != nil {
		return err
	}
	if _, err := c.tensor("pad_in", k.PadIn, []int{in.Cols}, I8); err != nil {
		return err
	}
	for _, t := range []struct {
		field string
		i     int
	}{{"base", k.Base}, {"slope", k.Slope}} {
		if _, err := c.tensor(t.field, t.i, []int{32}, U8); err != nil {
			return err
		}
	}
	c.field(s, k.PadLeft, k.K-1-k.PadLeft)
	h, err := c.branch("h", k.K, k.ChanH, k.TapsH, k.BiasH, in.Cols, out.Cols, typeSpan(I16))
	if err != nil {
		return err
	}
	if _, err := c.branch("g", k.K, k.ChanG, k.TapsG, k.BiasG, in.Cols, out.Cols, typeSpan(U16)); err != nil {
		return err
	}
	// h8*s7 with s7 in 0..127; h holds the range of h8.
	gated := func(o int) span { return h[o%len(h)].hull(span{}).scale(127, 0) }
	if k.Norm != nil {
		return c.norm(s, gated)
	}
	if len(s.In) != 1 {
		return errors.New("a residual needs norm")
	}
	if out.DType != I8 {
		return fmt.Errorf("output %q is %s, without norm it must be i8", out.Name, out.DType)
	}
	if err := within("shift", int64(k.Shift), 1, 14); err != nil {
		return err
	}
	c.values[s.Out].span = c.perChannel(out.Cols, func(o int) span {
		return gated(o).scale(1, k.Shift).clamp(typeSpan(I8))
	})
	return nil
}

// branch checks one of the two convolutions, proves that its accumulators fit
// for every int8 input, and returns the range of the accumulators' high byte.
func (c *checker) branch(name string, k, channel, taps, bias, cin, cout int, fit span) ([]span, error) {
	ch, err := c.tensor("chan_"+name, channel, []int{cout}, U16)
	if err != nil {
		return nil, err
	}
	if err := entriesWithin("chan_"+name, ch, span{0, int64(cin) - 1}); err != nil {
		return nil, err
	}
	w, err := c.tensor("taps_"+name, taps, []int{cout, k}, U8)
	if err != nil {
		return nil, err
	}
	b, err := c.tensor("bias_"+name, bias, []int{cout}, I32)
	if err != nil {
		return nil, err
	}
	var failed error
	high := c.perChannel(cout, func(o int) span {
		sum := int64(0)
		for j := range k {
			sum += int64(w.At(o*k + j))
		}
		acc := span{math.MinInt8 * sum, math.MaxInt8 * sum}.plus(span{int64(b.At(o)), int64(b.At(o))})
		if failed == nil && (acc.lo < fit.lo || acc.hi > fit.hi) {
			failed = fitError("accumulator "+name, o, acc, fmt.Sprintf("%d..%d", fit.lo, fit.hi))
		}
		return span{acc.lo >> 8, acc.hi >> 8}
	})
	return high, failed
}

func (c *checker) norm(s *Step, gated func(o int) span) error {
	k, n, in, out := s.GatedConv, s.GatedConv.Norm, c.in(s, 0), c.out(s)
	size := int64(out.Cols)
	shiftLo := int64(1)
	switch out.DType {
	case I8:
	case I16:
		shiftLo = 0
	default:
		return fmt.Errorf("output %q is %s, with norm it must be i8 or i16", out.Name, out.DType)
	}
	if err := firstOf(
		within("shift", int64(k.Shift), 0, 0), within("norm: channels", size, 1, maxNormChannels),
		within("norm.shift", int64(n.Shift), shiftLo, 7), within("norm.a", int64(n.A), 1, 65535), within("norm.s", int64(n.S), 0, 31),
		// V = C*S2 - S1^2 + Eps with squares of at most 2^14 must stay below 2^31.
		// C*S2 - S1^2 is never negative, so neither does a negative Eps (which
		// corrects for rounding in the sums) overflow; arith takes max(V, 1).
		within("norm.eps", int64(n.Eps), -(1<<29), math.MaxInt32-size*size<<14),
	); err != nil {
		return err
	}
	if want := (1<<24 + size) / (2 * size); int64(n.MeanM) != want {
		return fmt.Errorf("norm.mean_m %d is not round(2^23/%d) = %d", n.MeanM, size, want)
	}
	rho, err := c.tensor("norm.rho", n.Rho, []int{out.Cols}, I8)
	if err != nil {
		return err
	}
	cst, err := c.tensor("norm.cst", n.Cst, []int{out.Cols}, I16)
	if err != nil {
		return err
	}
	flip, err := c.tensor("norm.flip", n.Flip, []int{out.Cols}, U8)
	if err != nil {
		return err
	}
	if err := entriesWithin("norm.flip", flip, span{0, 1}); err != nil {
		return err
	}
	residual := func(int) span { return span{} }
	if len(s.In) == 2 {
		r := c.in(s, 1)
		if r.DType != I8 || r.Rows != in.Rows || r.Cols != out.Cols {
			return fmt.Errorf("residual %q is %s [%d,%d], expected i8 [%d,%d]", r.Name, r.DType, r.Rows, r.Cols, in.Rows, out.Cols)
		}
		residual = c.values[s.In[1]].channel
	}
	for o := range out.Cols {
		x := int64(cst.At(o))
		y := gated(o).plus(residual(o).scale(int64(rho.At(o)), 0)).plus(span{x, x})
		if y.lo < math.MinInt16 || y.hi > math.MaxInt16 {
			return fitError("norm: h8*s7 + r8*rho + cst", o, y, "16 bits")
		}
	}
	return nil
}
