package engine

import (
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/kernels/conv"
	"nepcoc/runtime/kernels/elementwise"
	"nepcoc/runtime/kernels/layernorm"
	"nepcoc/runtime/kernels/lut"
	"nepcoc/runtime/kernels/rescale"
)

// The general steps, on time-major rows.

func bindConv(e *Engine, s *bundle.Step) (func(*Context), error) {
	k, in, out := s.Conv, s.In[0], s.Out
	src, cols := &e.p.Values[in], e.p.Values[out].Cols
	params := conv.Params{
		Rows: src.Rows, Cin: src.Cols, Out: e.p.Values[out].Rows, Cout: cols, Wide: src.DType == bundle.I16,
		K: k.K, Stride: k.Stride, Dilation: k.Dilation, PadLeft: k.PadLeft, Groups: k.Groups,
		Bias: words(&e.p.Tensors[k.Bias]),
	}
	if w := &e.p.Tensors[k.W]; w.DType == bundle.I8 {
		params.W8 = bytesOf(w)
	} else {
		params.W16 = shorts(w)
	}
	if k.Pad >= 0 {
		params.Pad = shorts(&e.p.Tensors[k.Pad])
	}
	requant := conv.Requant{Shift: k.Requant.Shift, Lo: k.Requant.Lo, Hi: k.Requant.Hi}
	if k.Requant.Mult >= 0 {
		requant.Mult = words(&e.p.Tensors[k.Requant.Mult])
	}
	if k.Requant.Table >= 0 {
		requant.Table = shorts(&e.p.Tensors[k.Requant.Table])
	}
	layer := conv.New(params, requant, e.path)
	e.convs = append(e.convs, layer)
	return alsoPlane(e, out, func(c *Context) {
		rows := c.need[out]
		switch {
		case c.i8[out] != nil:
			runConv(c, layer, c.i8[out], in, rows)
		case c.i16[out] != nil:
			runConv(c, layer, c.i16[out], in, rows)
		default:
			runConv(c, layer, c.i32[out], in, rows)
		}
	}), nil
}

func runConv[D rescale.Int](c *Context, l *conv.Layer, dst []D, in, rows int) {
	if c.i8[in] != nil {
		conv.Run8(l, dst, c.i8[in], rows, c.conv)
	} else {
		conv.Run16(l, dst, c.i16[in], rows, c.conv)
	}
}

func bindLut(e *Engine, s *bundle.Step) (func(*Context), error) {
	t, in, out := &e.p.Tensors[s.Lut.Table], s.In[0], s.Out
	table := lut.New(shorts(t), t.Shape[len(t.Shape)-1], s.Lut.Mult, s.Lut.Shift)
	cols := e.p.Values[out].Cols
	return alsoPlane(e, out, func(c *Context) {
		for t := range c.need[out] {
			switch at := t * cols; {
			case c.i8[out] != nil:
				lookUp(c, table, c.i8[out][at:], in, at, cols)
			case c.i16[out] != nil:
				lookUp(c, table, c.i16[out][at:], in, at, cols)
			default:
				lookUp(c, table, c.i32[out][at:], in, at, cols)
			}
		}
	}), nil
}

func lookUp[D elementwise.Int](c *Context, t *lut.Table, dst []D, in, at, cols int) {
	switch {
	case c.i8[in] != nil:
		lut.Map8(t, dst, c.i8[in][at:][:cols])
	case c.i16[in] != nil:
		lut.Map(t, dst, c.i16[in][at:][:cols])
	default:
		lut.Map(t, dst, c.i32[in][at:][:cols])
	}
}

func bindAdd(e *Engine, s *bundle.Step) (func(*Context), error) {
	k, out := s.Add, s.Out
	sum := &elementwise.Sum{MultA: k.MultA, MultB: k.MultB, Bias: k.Bias, Shift: k.Shift}
	sum.Lo, sum.Hi = clampTo(e.p, out, k.Lo, k.Hi)
	return binary(e, s, func(dst, a, b []int32) { elementwise.Add(dst, a, b, sum) }), nil
}

func bindMul(e *Engine, s *bundle.Step) (func(*Context), error) {
	k, out := s.Mul, s.Out
	product := &elementwise.Product{Mult: k.Mult, Shift: k.Shift}
	product.Lo, product.Hi = clampTo(e.p, out, k.Lo, k.Hi)
	return binary(e, s, func(dst, a, b []int32) { elementwise.Mul(dst, a, b, product) }), nil
}

// binary runs f on each row of two operands.
func binary(e *Engine, s *bundle.Step, f func(dst, a, b []int32)) func(*Context) {
	out, cols := s.Out, e.p.Values[s.Out].Cols
	return alsoPlane(e, out, func(c *Context) {
		for t := range c.need[out] {
			a, b := c.broadcast(s.In[0], t, c.a), c.broadcast(s.In[1], t, c.b)
			f(c.c[:cols], a, b)
			c.store(out, t, 0, c.c[:cols])
		}
	})
}

func bindLayerNorm(e *Engine, s *bundle.Step) (func(*Context), error) {
	k, in, out := s.LayerNorm, s.In[0], s.Out
	p := &layernorm.Params{Eps: k.Eps, Gamma: words(&e.p.Tensors[k.Gamma]), Beta: words(&e.p.Tensors[k.Beta]), Shift: k.Shift}
	p.Lo, p.Hi = e.p.Values[out].DType.Range()
	return alsoPlane(e, out, func(c *Context) {
		for t := range c.need[out] {
			x := c.row(in, t, c.a)
			layernorm.Row(p, c.b[:len(x)], x)
			c.store(out, t, 0, c.b[:len(x)])
		}
	}), nil
}

func bindConcat(e *Engine, s *bundle.Step) (func(*Context), error) {
	k, out := s.Concat, s.Out
	lo, hi := e.p.Values[out].DType.Range()
	return alsoPlane(e, out, func(c *Context) {
		t0, c0 := 0, 0 // where the input goes
		for i, v := range s.In {
			val := &e.p.Values[v]
			for t := range min(val.Rows, c.need[out]-t0) {
				x := c.row(v, t, c.a)
				if k.Shift[i] != 0 {
					elementwise.Rescale(c.b, x, k.Mult[i], k.Shift[i], lo, hi)
					x = c.b[:len(x)]
				}
				c.store(out, t0+t, c0, x)
			}
			if k.Axis == 0 {
				t0 += val.Rows
			} else {
				c0 += val.Cols
			}
		}
	}), nil
}

func bindSlice(e *Engine, s *bundle.Step) (func(*Context), error) {
	k, in, out := s.Slice, s.In[0], s.Out
	cols := e.p.Values[out].Cols
	return alsoPlane(e, out, func(c *Context) {
		for t := range c.need[out] {
			if k.Axis == 0 {
				c.store(out, t, 0, c.row(in, k.Start+t*k.Step, c.a))
				continue
			}
			x := c.row(in, t, c.a)
			for i := range cols {
				c.b[i] = x[k.Start+i*k.Step]
			}
			c.store(out, t, 0, c.b[:cols])
		}
	}), nil
}

// bindFlatten has nothing to do: the output lies where the input does.
func bindFlatten(e *Engine, s *bundle.Step) (func(*Context), error) {
	if e.lay.place[planeForm][s.Out] == nil {
		return nil, nil
	}
	return alsoPlane(e, s.Out, func(*Context) {}), nil
}
