package engine

import (
	"nepcoc/runtime/arith"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/cpu"
	"nepcoc/runtime/internal/kernels/conv"
	"nepcoc/runtime/internal/kernels/elementwise"
	"nepcoc/runtime/internal/kernels/layernorm"
	"nepcoc/runtime/internal/kernels/lut"
	"nepcoc/runtime/internal/kernels/rescale"
	"nepcoc/runtime/internal/kernels/softmax"
	"nepcoc/runtime/internal/kernels/transpose"
)

// The general steps, on time-major rows.

func bindConv(e *Engine, s *bundle.Step) (func(*Context), error) {
	in, out := s.In[0], s.Out
	layer := convOf(e.p, s, e.p.Values[in].Rows, e.p.Values[out].Rows, e.path)
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

// convOf is the layer of step s, from rows positions to out.
func convOf(p *bundle.Program, s *bundle.Step, rows, out int, path cpu.Path) *conv.Layer {
	k, src, dst := s.Conv, &p.Values[s.In[0]], &p.Values[s.Out]
	params := conv.Params{
		Rows: rows, Cin: src.Cols, Out: out, Cout: dst.Cols, Wide: src.DType == bundle.I16,
		K: k.K, Stride: k.Stride, Dilation: k.Dilation, PadLeft: k.PadLeft, Groups: k.Groups,
		Bias: words(&p.Tensors[k.Bias]),
	}
	if w := &p.Tensors[k.W]; w.DType == bundle.I8 {
		params.W8 = bytesOf(w)
	} else {
		params.W16 = shorts(w)
	}
	if k.Pad >= 0 {
		params.Pad = shorts(&p.Tensors[k.Pad])
	}
	requant := conv.Requant{Shift: k.Requant.Shift, Lo: k.Requant.Lo, Hi: k.Requant.Hi}
	if k.Requant.Mult >= 0 {
		requant.Mult = words(&p.Tensors[k.Requant.Mult])
	}
	if k.Requant.Table >= 0 {
		requant.Table = shorts(&p.Tensors[k.Requant.Table])
	}
	return conv.New(params, requant, path)
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
	table := lut.New(e.path, shorts(t), t.Shape[len(t.Shape)-1], s.Lut.Mult, s.Lut.Shift)
	cols := e.p.Values[out].Cols
	return alsoPlane(e, out, func(c *Context) {
		rows, cols := c.need[out], cols
		if !table.PerChannel() {
			rows, cols = 1, rows*cols
		}
		for t := range rows {
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

func lookUp[D rescale.Int](c *Context, t *lut.Table, dst []D, in, at, cols int) {
	switch {
	case c.i8[in] != nil:
		lut.Map8(t, dst, c.i8[in][at:][:cols])
	case c.i16[in] != nil:
		lut.Map(t, dst, c.i16[in][at:][:cols])
	default:
		lut.Map(t, dst, c.i32[in][at:][:cols])
	}
}

// chunk is the number of elements that the steps below widen to 32 bits at a time: both
// operands stay in the first-level cache.
const chunk = 1024

func bindAdd(e *Engine, s *bundle.Step) (func(*Context), error) {
	k, out := s.Add, s.Out
	lo, hi := clampTo(e.p, out, k.Lo, k.Hi)
	sum := rescale.NewSum(e.path, rescale.Sum{MultA: k.MultA, MultB: k.MultB, Bias: k.Bias, Shift: k.Shift, Lo: lo, Hi: hi},
		bound(e.p, s.In[0]), bound(e.p, s.In[1]))
	if bytes := rescale.NewSumBytes(e.path, sum); bytes != nil && e.allBytes(s) {
		return binaryBytes(e, s, bytes.Apply), nil
	}
	return binary(e, s, func(a, b []int32) { sum.Apply(a, a, b) }), nil
}

func bindMul(e *Engine, s *bundle.Step) (func(*Context), error) {
	k, out := s.Mul, s.Out
	lo, hi := clampTo(e.p, out, k.Lo, k.Hi)
	product := elementwise.NewProduct(e.path, k.Mult, k.Shift, lo, hi, bound(e.p, s.In[0]), bound(e.p, s.In[1]))
	if bytes := rescale.NewProductBytes(e.path, k.Mult, k.Shift, lo, hi); bytes != nil && e.allBytes(s) {
		return binaryBytes(e, s, bytes.Apply), nil
	}
	return binary(e, s, product.Apply), nil
}

// allBytes tells whether the operands and the result of step s are bytes, of the same rows and channels.
func (e *Engine) allBytes(s *bundle.Step) bool {
	out := &e.p.Values[s.Out]
	for _, v := range s.In {
		if in := &e.p.Values[v]; in.DType != bundle.I8 || in.Rows != out.Rows || in.Cols != out.Cols {
			return false
		}
	}
	return out.DType == bundle.I8
}

// binaryBytes runs f on all rows at once, byte by byte.
func binaryBytes(e *Engine, s *bundle.Step, f func(dst, a, b []int8)) func(*Context) {
	out, cols := s.Out, e.p.Values[s.Out].Cols
	return alsoPlane(e, out, func(c *Context) {
		n := c.need[out] * cols
		f(c.i8[out][:n], c.i8[s.In[0]][:n], c.i8[s.In[1]][:n])
	})
}

// binary runs f, whose result replaces its first operand, on a few rows at a time.
func binary(e *Engine, s *bundle.Step, f func(a, b []int32)) func(*Context) {
	out, cols := s.Out, e.p.Values[s.Out].Cols
	step := max(1, chunk/cols)
	return alsoPlane(e, out, func(c *Context) {
		for t := 0; t < c.need[out]; t += step {
			n := min(step, c.need[out]-t)
			a, b := c.rows(s.In[0], t, n, cols, c.a), c.rows(s.In[1], t, n, cols, c.b)
			f(a, b)
			c.store(out, t, 0, a)
		}
	})
}

func bindLayerNorm(e *Engine, s *bundle.Step) (func(*Context), error) {
	k, in, out := s.LayerNorm, s.In[0], s.Out
	p := layernorm.Params{Eps: k.Eps, Gamma: words(&e.p.Tensors[k.Gamma]), Beta: words(&e.p.Tensors[k.Beta]), Shift: k.Shift, RMS: k.RMS}
	p.Lo, p.Hi = e.p.Values[out].DType.Range()
	layer, cols := layernorm.New(p, bound(e.p, in), e.path), e.p.Values[out].Cols
	if e.allBytes(s) && layer.HasBytes() {
		return alsoPlane(e, out, func(c *Context) { layer.Bytes(c.i8[out], c.i8[in], c.need[out]) }), nil
	}
	return alsoPlane(e, out, func(c *Context) {
		for t := range c.need[out] {
			c.widen(in, t, c.a[:cols])
			layer.Row(c.a[:cols])
			c.store(out, t, 0, c.a[:cols])
		}
	}), nil
}

func bindConcat(e *Engine, s *bundle.Step) (func(*Context), error) {
	k, out := s.Concat, s.Out
	lo, hi := e.p.Values[out].DType.Range()
	cols := e.p.Values[out].Cols
	scales := make([]*rescale.Scale, len(s.In))
	for i, v := range s.In {
		if k.Shift[i] != 0 {
			scales[i] = elementwise.All(e.path, k.Mult[i], k.Shift[i], lo, hi, bound(e.p, v))
		}
	}
	return alsoPlane(e, out, func(c *Context) {
		t0, c0 := 0, 0 // where the input goes
		for i, v := range s.In {
			val := &e.p.Values[v]
			for t := range min(val.Rows, c.need[out]-t0) {
				switch {
				case scales[i] != nil:
					x := c.rows(v, t, 1, val.Cols, c.a)
					elementwise.ApplyAll(scales[i], x)
					c.store(out, t0+t, c0, x)
				case val.DType == e.p.Values[out].DType:
					c.copyPart(out, (t0+t)*cols+c0, v, t*val.Cols, val.Cols)
				default:
					c.store(out, t0+t, c0, c.row(v, t, c.a))
				}
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
	cols, inCols := e.p.Values[out].Cols, e.p.Values[in].Cols
	same := e.p.Values[in].DType == e.p.Values[out].DType
	return alsoPlane(e, out, func(c *Context) {
		for t := range c.need[out] {
			switch {
			case k.Axis == 0 && same:
				c.copyPart(out, t*cols, in, (k.Start+t*k.Step)*inCols, cols)
			case k.Axis == 0:
				c.store(out, t, 0, c.row(in, k.Start+t*k.Step, c.a))
			case k.Step == 1 && same:
				c.copyPart(out, t*cols, in, t*inCols+k.Start, cols)
			default:
				x := c.row(in, t, c.a)
				for i := range cols {
					c.b[i] = x[k.Start+i*k.Step]
				}
				c.store(out, t, 0, c.b[:cols])
			}
		}
	}), nil
}

// bindReshaped has nothing to do: the output lies where the input does, a constant in the bundle.
func bindReshaped(e *Engine, s *bundle.Step) (func(*Context), error) {
	if e.lay.place[planeForm][s.Out] == nil {
		return nil, nil
	}
	return alsoPlane(e, s.Out, func(*Context) {}), nil
}

func bindTranspose(e *Engine, s *bundle.Step) (func(*Context), error) {
	in, out := s.In[0], s.Out
	rows, cols := e.p.Values[in].Rows, e.p.Values[in].Cols
	return alsoPlane(e, out, func(c *Context) {
		switch {
		case c.i8[out] != nil:
			transpose.Run(e.path, c.i8[out], c.i8[in], rows, cols)
		case c.i16[out] != nil:
			transpose.Run(e.path, c.i16[out], c.i16[in], rows, cols)
		default:
			transpose.Run(e.path, c.i32[out], c.i32[in], rows, cols)
		}
	}), nil
}

func bindSoftmax(e *Engine, s *bundle.Step) (func(*Context), error) {
	k, in, out := s.Softmax, s.In[0], s.Out
	exp, cols := words(&e.p.Tensors[k.Exp]), e.p.Values[out].Cols
	return func(c *Context) {
		for t := range c.need[out] {
			c.widen(in, t, c.a[:cols])
			softmax.Row(c.b[:cols], c.a[:cols], exp, k.Mult, k.Shift)
			c.store(out, t, 0, c.b[:cols])
		}
	}, nil
}

// gather copies rows, as long as pad, which stands where an index is negative.
func gather[T rescale.Int](dst, src []T, index []int32, pad []T) {
	n := len(pad)
	for t, from := range index {
		row := pad
		if from >= 0 {
			row = src[int(from)*n:][:n]
		}
		copy(dst[t*n:][:n], row)
	}
}

func bindGather(e *Engine, s *bundle.Step) (func(*Context), error) {
	k, in, out := s.Gather, s.In[0], s.Out
	cols := e.p.Values[out].Cols
	index, pad := words(&e.p.Tensors[k.Index]), make([]int32, cols)
	if k.Pad >= 0 {
		pad = words(&e.p.Tensors[k.Pad])
	}
	pad8, pad16 := make([]int8, cols), make([]int16, cols)
	for i, x := range pad {
		pad8[i], pad16[i] = int8(x), int16(x)
	}
	return alsoPlane(e, out, func(c *Context) {
		switch index := index[:c.need[out]]; {
		case c.i8[out] != nil:
			gather(c.i8[out], c.i8[in], index, pad8)
		case c.i16[out] != nil:
			gather(c.i16[out], c.i16[in], index, pad16)
		default:
			gather(c.i32[out], c.i32[in], index, pad)
		}
	}), nil
}

// bindSide reads a few numbers per flow: not worth vector code.
func bindSide(e *Engine, s *bundle.Step) (func(*Context), error) {
	k, out := s.Side, s.Out
	zero, mult := words(&e.p.Tensors[k.Zero]), words(&e.p.Tensors[k.Mult])
	lo, hi := e.p.Values[out].DType.Range()
	return alsoPlane(e, out, func(c *Context) {
		ids, row := c.sides[k.At:][:len(zero)], c.a[:len(zero)]
		for i, id := range ids {
			row[i] = arith.Side(id, zero[i], mult[i], k.Shift, lo, hi)
		}
		c.store(out, 0, 0, row)
	}), nil
}
