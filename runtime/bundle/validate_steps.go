package bundle

import (
	"errors"
	"fmt"
	"math"

	"nepcoc/runtime/arith"
)

var errSameShape = errors.New("input and output must have the same element type")

func (c *checker) tokenTable(s *Step) error {
	v := c.out(s)
	t, err := c.tensor("table", s.TokenTable.Table, []int{c.p.Vocab, v.Cols}, I8, I16)
	if err != nil {
		return err
	}
	return c.shape(s, t.DType, c.p.Length, v.Cols)
}

func (c *checker) conv(s *Step) error {
	k, in, out := s.Conv, c.in(s, 0), c.out(s)
	if in.DType != I8 && in.DType != I16 {
		return fmt.Errorf("input %q is %s, expected i8 or i16", in.Name, in.DType)
	}
	if err := firstOf(
		upTo("k", int64(k.K), MaxWindow), upTo("stride", int64(k.Stride), MaxWindow),
		upTo("dilation", int64(k.Dilation), MaxWindow), within("groups", int64(k.Groups), 1, int64(in.Cols)),
		within("pad_left", int64(k.PadLeft), 0, MaxLength), within("pad_right", int64(k.PadRight), 0, MaxLength),
	); err != nil {
		return err
	}
	if in.Cols%k.Groups != 0 || out.Cols%k.Groups != 0 {
		return fmt.Errorf("%d groups do not divide %d inputs and %d outputs", k.Groups, in.Cols, out.Cols)
	}
	reach := k.Dilation * (k.K - 1)
	room := in.Rows + k.PadLeft + k.PadRight - reach - 1
	if room < 0 {
		return fmt.Errorf("a window of %d positions is longer than %d rows with padding %d and %d", reach+1, in.Rows, k.PadLeft, k.PadRight)
	}
	if err := c.shape(s, "", room/k.Stride+1, out.Cols); err != nil {
		return err
	}
	perIn := in.Cols / k.Groups
	w, err := c.tensor("w", k.W, []int{out.Cols, k.K, perIn}, I8, I16)
	if err != nil {
		return err
	}
	bias, err := c.tensor("bias", k.Bias, []int{out.Cols}, I32)
	if err != nil {
		return err
	}
	x, err := c.padded(s, k)
	if err != nil {
		return err
	}
	c.values[s.Out].span, err = c.requant(&k.Requant, out, func(o int) (span, error) {
		acc := span{int64(bias.At(o)), int64(bias.At(o))}
		first := o / (out.Cols / k.Groups) * perIn
		for j := range k.K {
			for i := range perIn {
				f := int64(w.At((o*k.K+j)*perIn + i))
				r := x[(first+i)%len(x)]
				if f < 0 {
					r = span{r.hi, r.lo}
				}
				acc.lo += f * r.lo
				acc.hi += f * r.hi
			}
		}
		if acc.lo < math.MinInt32 || acc.hi > math.MaxInt32 {
			return acc, fitError("accumulator", o, acc, "32 bits")
		}
		return acc, nil
	})
	if k.Stride == 1 && in.Rows == out.Rows {
		c.field(s, k.PadLeft, reach-k.PadLeft)
	} else {
		c.everything(s)
	}
	return err
}

// padded is the range of each input channel of a convolution, padding included.
func (c *checker) padded(s *Step, k *Conv) ([]span, error) {
	in, x := c.in(s, 0), c.values[s.In[0]].span
	var pad *Tensor
	if k.Pad != -1 {
		var err error
		if pad, err = c.tensor("pad", k.Pad, []int{in.Cols}, I16); err != nil {
			return nil, err
		}
		if err := entriesWithin("pad", pad, typeSpan(in.DType)); err != nil {
			return nil, err
		}
	}
	if k.PadLeft == 0 && k.PadRight == 0 {
		return x, nil
	}
	if pad == nil {
		return c.perChannel(len(x), func(i int) span { return x[i].hull(span{}) }), nil
	}
	return c.perChannel(in.Cols, func(i int) span {
		p := int64(pad.At(i))
		return x[i%len(x)].hull(span{p, p})
	}), nil
}

// requant checks how accumulators become output and returns the ranges of the
// output's channels; acc proves and returns the range of one accumulator.
func (c *checker) requant(k *Requant, out *Value, acc func(o int) (span, error)) ([]span, error) {
	result := func(o int, a span) span { return a }
	switch {
	case k.Mult == -1:
		if out.DType != I32 {
			return nil, fmt.Errorf("requant: without mult the output must be i32, it is %s", out.DType)
		}
		if k.Table != -1 {
			return nil, errors.New("requant: a table needs mult")
		}
	default:
		mult, err := c.tensor("requant.mult", k.Mult, []int{out.Cols}, I32)
		if err != nil {
			return nil, err
		}
		if err := entriesWithin("requant.mult", mult, span{0, math.MaxInt32}); err != nil {
			return nil, err
		}
		if err := within("requant.shift", int64(k.Shift), 1, 62); err != nil {
			return nil, err
		}
		to := span{int64(k.Lo), int64(k.Hi)}
		if k.Table != -1 {
			t, err := c.tableOf("requant.table", k.Table, 0, out.DType)
			if err != nil {
				return nil, err
			}
			all := tableSpan(t, 0, t.Len())
			result = func(int, span) span { return all }
		} else {
			if d := typeSpan(out.DType); to.lo > to.hi || to.lo < d.lo || to.hi > d.hi {
				return nil, fmt.Errorf("requant: clamp %d..%d is not a range within %s", k.Lo, k.Hi, out.DType)
			}
			result = func(o int, a span) span { return a.scale(int64(mult.At(o)), k.Shift).clamp(to) }
		}
	}
	var failed error
	spans := c.perChannel(out.Cols, func(o int) span {
		if failed != nil {
			return span{}
		}
		a, err := acc(o)
		if err != nil {
			failed = err
			return span{}
		}
		return result(o, a)
	})
	return spans, failed
}

// tableSpan is the range of n entries from first on.
func tableSpan(t *Tensor, first, n int) span {
	s := span{math.MaxInt32, math.MinInt32}
	for i := first; i < first+n; i++ {
		x := int64(t.At(i))
		s = s.hull(span{x, x})
	}
	return s
}

func (c *checker) pool(s *Step) error {
	k, in, out := s.Pool, c.in(s, 0), c.out(s)
	src := &c.values[s.In[0]]
	if err := c.shape(s, "", 1, in.Cols); err != nil {
		return err
	}
	switch k.Over {
	case "all":
	case "prefix":
		if in.Rows != c.p.Length {
			return fmt.Errorf("pools the valid prefix of %d tokens, but input %q has %d rows", c.p.Length, in.Name, in.Rows)
		}
		if k.Kind != "select" && (src.left > c.p.Left || src.right > c.p.Right) {
			return fmt.Errorf("the pooled positions depend on %d tokens to the left and %d to the right, the program says %d and %d",
				src.left, src.right, c.p.Left, c.p.Right)
		}
	default:
		return fmt.Errorf("over %q is not prefix or all", k.Over)
	}
	c.everything(s)
	if k.Kind != "sum" && in.DType != out.DType {
		return errSameShape
	}
	c.values[s.Out].span = src.span
	switch k.Kind {
	case "max", "mean":
		return nil
	case "select":
		return within("at", int64(k.At), 0, int64(in.Rows)-1)
	case "sum":
	default:
		return fmt.Errorf("unknown kind %q", k.Kind)
	}
	if err := firstOf(within("mult", int64(k.Mult), 0, math.MaxInt32), within("shift", int64(k.Shift), 1, 62)); err != nil {
		return err
	}
	rows := int64(in.Rows)
	if !fits62([]int64{rows, c.spanOf(s.In[0]).maxAbs(), int64(k.Mult)}) {
		return fmt.Errorf("the sum of %d rows times mult %d does not fit 62 bits", rows, k.Mult)
	}
	// A prefix of any length: from one row to all of them.
	c.values[s.Out].span = c.perChannel(len(src.span), func(i int) span {
		x := src.span[i]
		sum := x.hull(span{x.lo * rows, x.hi * rows})
		return sum.scale(int64(k.Mult), k.Shift).clamp(typeSpan(out.DType))
	})
	return nil
}

func (c *checker) windowPool(s *Step) error {
	k, in := s.WindowPool, c.in(s, 0)
	if k.Kind != "max" && k.Kind != "mean" {
		return fmt.Errorf("unknown kind %q", k.Kind)
	}
	// Padding below K keeps at least one position in every window.
	if err := firstOf(upTo("k", int64(k.K), MaxWindow), upTo("stride", int64(k.Stride), MaxWindow),
		within("pad_left", int64(k.PadLeft), 0, int64(k.K)-1), within("pad_right", int64(k.PadRight), 0, int64(k.K)-1)); err != nil {
		return err
	}
	room := in.Rows + k.PadLeft + k.PadRight - k.K
	if room < 0 {
		return fmt.Errorf("a window of %d positions is longer than %d rows with padding %d and %d", k.K, in.Rows, k.PadLeft, k.PadRight)
	}
	if err := c.shape(s, in.DType, room/k.Stride+1, in.Cols); err != nil {
		return err
	}
	x := c.values[s.In[0]].span
	c.values[s.Out].span = c.perChannel(len(x), func(i int) span {
		if k.CountPad {
			return x[i].hull(span{})
		}
		return x[i]
	})
	if k.Stride == 1 && in.Rows == c.out(s).Rows {
		c.field(s, k.PadLeft, k.K-1-k.PadLeft)
	} else {
		c.everything(s)
	}
	return nil
}

func (c *checker) lut(s *Step) error {
	k, in, out := s.Lut, c.in(s, 0), c.out(s)
	if err := c.shape(s, "", in.Rows, in.Cols); err != nil {
		return err
	}
	if err := within("shift", int64(k.Shift), 0, 62); err != nil {
		return err
	}
	if !fits62([]int64{c.spanOf(s.In[0]).maxAbs(), int64(k.Mult)}) {
		return fmt.Errorf("input times mult %d does not fit 62 bits", k.Mult)
	}
	t, err := c.tableOf("table", k.Table, in.Cols, out.DType)
	if err != nil {
		return err
	}
	n := t.Shape[len(t.Shape)-1]
	c.values[s.Out].span = c.perChannel(t.Len()/n, func(i int) span { return tableSpan(t, i*n, n) })
	c.field(s, 0, 0)
	return nil
}

// broadcast checks the shapes of a binary step.
func (c *checker) broadcast(s *Step) error {
	a, b := c.in(s, 0), c.in(s, 1)
	rows, cols := max(a.Rows, b.Rows), max(a.Cols, b.Cols)
	for _, v := range []*Value{a, b} {
		if v.Rows != rows && v.Rows != 1 || v.Cols != cols && v.Cols != 1 {
			return fmt.Errorf("[%d,%d] and [%d,%d] do not broadcast", a.Rows, a.Cols, b.Rows, b.Cols)
		}
	}
	c.field(s, 0, 0)
	return c.shape(s, "", rows, cols)
}

// pairs computes the output's ranges from those of two operands, channel by
// channel where both are known so.
func (c *checker) pairs(s *Step, f func(a, b span) span) []span {
	a, b := c.values[s.In[0]].span, c.values[s.In[1]].span
	if len(a) != len(b) && len(a) != 1 && len(b) != 1 {
		return []span{f(c.spanOf(s.In[0]), c.spanOf(s.In[1]))}
	}
	return c.perChannel(max(len(a), len(b)), func(i int) span { return f(a[i%len(a)], b[i%len(b)]) })
}

// clampTo is the range that a binary step's result is clamped to.
func (c *checker) clampTo(s *Step, lo, hi int32) (span, error) {
	if lo > hi {
		return span{}, fmt.Errorf("lo %d is above hi %d", lo, hi)
	}
	return span{int64(lo), int64(hi)}.clamp(typeSpan(c.out(s).DType)), nil
}

func (c *checker) add(s *Step) error {
	k := s.Add
	if err := c.broadcast(s); err != nil {
		return err
	}
	if err := within("shift", int64(k.Shift), 0, 62); err != nil {
		return err
	}
	to, err := c.clampTo(s, k.Lo, k.Hi)
	if err != nil {
		return err
	}
	if !fits62([]int64{c.spanOf(s.In[0]).maxAbs(), int64(k.MultA)}, []int64{c.spanOf(s.In[1]).maxAbs(), int64(k.MultB)}, []int64{k.Bias}) {
		return fmt.Errorf("a*%d + b*%d + %d does not fit 62 bits", k.MultA, k.MultB, k.Bias)
	}
	bias := span{k.Bias, k.Bias}
	c.values[s.Out].span = c.pairs(s, func(a, b span) span {
		return a.scale(int64(k.MultA), 0).plus(b.scale(int64(k.MultB), 0)).plus(bias).scale(1, k.Shift).clamp(to)
	})
	return nil
}

func (c *checker) mul(s *Step) error {
	k := s.Mul
	if err := c.broadcast(s); err != nil {
		return err
	}
	if err := within("shift", int64(k.Shift), 0, 62); err != nil {
		return err
	}
	to, err := c.clampTo(s, k.Lo, k.Hi)
	if err != nil {
		return err
	}
	if !fits62([]int64{c.spanOf(s.In[0]).maxAbs(), c.spanOf(s.In[1]).maxAbs(), int64(k.Mult)}) {
		return fmt.Errorf("a*b*%d does not fit 62 bits", k.Mult)
	}
	c.values[s.Out].span = c.pairs(s, func(a, b span) span {
		return a.scale(b.lo, 0).hull(a.scale(b.hi, 0)).scale(int64(k.Mult), k.Shift).clamp(to)
	})
	return nil
}

func (c *checker) layerNorm(s *Step) error {
	k, in := s.LayerNorm, c.in(s, 0)
	if err := c.shape(s, "", in.Rows, in.Cols); err != nil {
		return err
	}
	if err := within("shift", int64(k.Shift), 0, 62); err != nil {
		return err
	}
	for _, t := range []struct {
		field string
		i     int
	}{{"gamma", k.Gamma}, {"beta", k.Beta}} {
		if _, err := c.tensor(t.field, t.i, []int{in.Cols}, I32); err != nil {
			return err
		}
	}
	// The variance, C^2 times, is C*sum(x^2) - sum(x)^2 + eps.
	n, x := int64(in.Cols), c.spanOf(s.In[0]).maxAbs()
	if k.Eps < 0 || !fits62([]int64{n, n, x, x}, []int64{k.Eps}) {
		return fmt.Errorf("%d channels of up to %d with eps %d do not fit 62 bits", n, x, k.Eps)
	}
	c.field(s, 0, 0)
	return nil
}

func (c *checker) concat(s *Step) error {
	k, out := s.Concat, c.out(s)
	if k.Axis != 0 && k.Axis != 1 {
		return fmt.Errorf("axis %d is not 0 or 1", k.Axis)
	}
	if len(k.Mult) != len(s.In) || len(k.Shift) != len(s.In) {
		return fmt.Errorf("%d inputs, but %d mult and %d shift", len(s.In), len(k.Mult), len(k.Shift))
	}
	rows, cols := 0, 0
	total := span{math.MaxInt32, math.MinInt32}
	for i := range s.In {
		v, x := c.in(s, i), c.spanOf(s.In[i])
		if i > 0 && (k.Axis == 0 && v.Cols != cols || k.Axis == 1 && v.Rows != rows) {
			return fmt.Errorf("input %d (%q) is [%d,%d], which does not fit along axis %d", i, v.Name, v.Rows, v.Cols, k.Axis)
		}
		if k.Axis == 0 {
			rows, cols = rows+v.Rows, v.Cols
		} else {
			rows, cols = v.Rows, cols+v.Cols
		}
		if err := within("shift", int64(k.Shift[i]), 0, 62); err != nil {
			return fmt.Errorf("input %d: %w", i, err)
		}
		to := typeSpan(out.DType)
		if k.Shift[i] == 0 {
			if v.DType.Size() > out.DType.Size() {
				return fmt.Errorf("input %d (%q) is %s, which is copied to %s", i, v.Name, v.DType, out.DType)
			}
		} else {
			if !fits62([]int64{x.maxAbs(), int64(k.Mult[i])}) {
				return fmt.Errorf("input %d times mult %d does not fit 62 bits", i, k.Mult[i])
			}
			x = x.scale(int64(k.Mult[i]), k.Shift[i]).clamp(to)
		}
		total = total.hull(x)
	}
	if k.Axis == 0 {
		c.everything(s)
	} else {
		c.field(s, 0, 0)
	}
	c.values[s.Out].span = []span{total}
	return c.shape(s, "", rows, cols)
}

func (c *checker) slice(s *Step) error {
	k, in, out := s.Slice, c.in(s, 0), c.out(s)
	if k.Axis != 0 && k.Axis != 1 {
		return fmt.Errorf("axis %d is not 0 or 1", k.Axis)
	}
	rows, cols := in.Rows, in.Cols
	have, want := in.Cols, out.Cols
	if k.Axis == 0 {
		rows, have, want = out.Rows, in.Rows, out.Rows
		c.everything(s)
	} else {
		cols = out.Cols
		c.field(s, 0, 0)
	}
	if err := firstOf(within("start", int64(k.Start), 0, int64(have)-1), within("step", int64(k.Step), 1, MaxCols)); err != nil {
		return err
	}
	if last := k.Start + (want-1)*k.Step; last >= have {
		return fmt.Errorf("takes element %d of %d along axis %d", last, have, k.Axis)
	}
	c.values[s.Out].span = []span{c.spanOf(s.In[0])}
	return c.shape(s, in.DType, rows, cols)
}

func (c *checker) flatten(s *Step) error {
	in := c.in(s, 0)
	// Row-major: element t*cols+c keeps the range of channel c.
	c.values[s.Out].span = c.values[s.In[0]].span
	c.everything(s)
	return c.shape(s, in.DType, 1, in.Rows*in.Cols)
}

func (c *checker) transpose(s *Step) error {
	in := c.in(s, 0)
	c.values[s.Out].span = []span{c.spanOf(s.In[0])}
	c.everything(s)
	return c.shape(s, in.DType, in.Cols, in.Rows)
}

func (c *checker) regroup(s *Step) error {
	in, out := c.in(s, 0), c.out(s)
	if in.Rows*in.Cols != out.Rows*out.Cols {
		return fmt.Errorf("output %q is [%d,%d], which has other than the %d elements of [%d,%d]", out.Name, out.Rows, out.Cols, in.Rows*in.Cols, in.Rows, in.Cols)
	}
	c.values[s.Out].span = []span{c.spanOf(s.In[0])}
	c.everything(s)
	return c.shape(s, in.DType, out.Rows, out.Cols)
}

func (c *checker) gather(s *Step) error {
	k, in, out := s.Gather, c.in(s, 0), c.out(s)
	index, err := c.tensor("index", k.Index, []int{out.Rows}, I32)
	if err != nil {
		return err
	}
	if err := entriesWithin("index", index, span{-1, int64(in.Rows) - 1}); err != nil {
		return err
	}
	x := c.values[s.In[0]].span
	pads := func(int) span { return span{} }
	if k.Pad != -1 {
		pad, err := c.tensor("pad", k.Pad, []int{in.Cols}, I16)
		if err != nil {
			return err
		}
		if err := entriesWithin("pad", pad, typeSpan(in.DType)); err != nil {
			return err
		}
		pads = func(i int) span { p := int64(pad.At(i)); return span{p, p} }
	}
	c.values[s.Out].span = c.perChannel(in.Cols, func(i int) span { return x[i%len(x)].hull(pads(i)) })
	c.everything(s)
	return c.shape(s, in.DType, out.Rows, in.Cols)
}

func (c *checker) constant(s *Step) error {
	out := c.out(s)
	t, err := c.tensor("data", s.Constant.Data, []int{out.Rows, out.Cols}, I8, I16)
	if err != nil {
		return err
	}
	c.values[s.Out].span = []span{tableSpan(t, 0, t.Len())}
	return c.shape(s, t.DType, out.Rows, out.Cols)
}

func (c *checker) softmax(s *Step) error {
	k, in := s.Softmax, c.in(s, 0)
	c.values[s.Out].span = []span{{0, 1<<15 - 1}}
	c.field(s, 0, 0)
	return firstOf(c.exp("exp", k.Exp, k.Mult, k.Shift), c.shape(s, I16, in.Rows, in.Cols))
}

func (c *checker) side(s *Step) error {
	k, out := s.Side, c.out(s)
	if k.At < 0 || k.At > c.p.Sides-out.Cols {
		return fmt.Errorf("reads ids %d to %d beside the sequence, of which there are %d", k.At, k.At+out.Cols-1, c.p.Sides)
	}
	if out.DType == I32 {
		return fmt.Errorf("output %q is i32, expected i8 or i16", out.Name)
	}
	zero, err := c.tensor("zero", k.Zero, []int{out.Cols}, I32)
	if err != nil {
		return err
	}
	mult, err := c.tensor("mult", k.Mult, []int{out.Cols}, I32)
	if err != nil {
		return err
	}
	const far = arith.MaxGridLow // so that a difference from any id fits 32 bits
	if err := firstOf(entriesWithin("zero", zero, span{-far, far}), entriesWithin("mult", mult, span{0, math.MaxInt32}), within("shift", int64(k.Shift), 1, 62)); err != nil {
		return err
	}
	c.values[s.Out].span = c.perChannel(out.Cols, func(i int) span {
		z := int64(zero.At(i))
		return span{-z, SideIDs - 1 - z}.scale(int64(mult.At(i)), k.Shift).clamp(typeSpan(out.DType))
	})
	return c.shape(s, "", 1, out.Cols)
}
