package engine

import (
	"nepcoc/runtime/arith"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/internal/kernels/pool"
	"nepcoc/runtime/internal/kernels/rescale"
)

func bindPool(e *Engine, s *bundle.Step) (func(*Context), error) {
	k, in, out := s.Pool, s.In[0], s.Out
	cols := e.p.Values[in].Cols
	// rows of the input that are reduced, for this flow
	rows := func(c *Context) int { return e.p.Values[in].Rows }
	if k.Over == "prefix" {
		rows = func(c *Context) int { return c.need[len(e.p.Values)] }
	}
	inPlane := e.lay.place[rowForm][in] == nil
	var run func(*Context)
	switch {
	case e.pooled[in]:
		run = func(c *Context) { c.acc[in].Max(c.i16[out]) }
	case k.Kind == "select":
		run = func(c *Context) {
			if inPlane {
				for ch := range cols {
					c.i8[out][ch] = c.planes[in].At(ch, k.At)
				}
				return
			}
			c.store(out, 0, 0, c.row(in, k.At, c.a))
		}
	case k.Kind == "max":
		run = func(c *Context) {
			n := rows(c) * cols
			switch {
			case inPlane:
				pool.PlaneMax(e.planes, c.i8[out], &c.planes[in], rows(c))
			case c.i8[in] != nil:
				pool.Max(e.path, c.i8[out], c.i8[in][:n])
			case c.i16[in] != nil:
				pool.Max(e.path, c.i16[out], c.i16[in][:n])
			default:
				pool.Max(e.path, c.i32[out], c.i32[in][:n])
			}
		}
	default:
		lo, hi := e.p.Values[out].DType.Range()
		run = func(c *Context) {
			n, sums := rows(c)*cols, c.sums[:cols]
			switch {
			case inPlane:
				pool.PlaneSum(e.planes, sums, &c.planes[in], rows(c))
			case c.i8[in] != nil:
				pool.Sum(e.path, sums, c.i8[in][:n])
			case c.i16[in] != nil:
				pool.Sum(e.path, sums, c.i16[in][:n])
			default:
				pool.Sum(e.path, sums, c.i32[in][:n])
			}
			result := c.a[:cols]
			for i, sum := range sums {
				if k.Kind == "mean" {
					result[i] = int32(arith.DivRound(sum, int64(rows(c))))
				} else {
					result[i] = arith.Clamp(arith.Requant(sum, k.Mult, k.Shift), lo, hi)
				}
			}
			c.store(out, 0, 0, result)
		}
	}
	if e.winners && isMaximum(s) {
		run = withMaximum(e, s, run, rows)
	}
	return alsoPlane(e, out, run), nil
}

func bindWindowPool(e *Engine, s *bundle.Step) (func(*Context), error) {
	k, in, out := s.WindowPool, s.In[0], s.Out
	src, cols := &e.p.Values[in], e.p.Values[in].Cols
	whole := pool.NewDivider(int64(k.K))
	// The windows that lie within the input, if they are maxima, are done at once.
	inner, innerEnd := 0, 0
	if k.Kind == "max" {
		inner = (k.PadLeft + k.Stride - 1) / k.Stride
		innerEnd = max(inner, (src.Rows-k.K+k.PadLeft+k.Stride)/k.Stride)
	}
	return alsoPlane(e, out, func(c *Context) {
		if last := min(innerEnd, c.need[out]); last > inner {
			d, x := inner*cols, (inner*k.Stride-k.PadLeft)*cols
			switch src.DType {
			case bundle.I8:
				pool.Windows(e.path, c.i8[out][d:last*cols], c.i8[in][x:], cols, k.K, k.Stride)
			case bundle.I16:
				pool.Windows(e.path, c.i16[out][d:last*cols], c.i16[in][x:], cols, k.K, k.Stride)
			default:
				pool.Windows(e.path, c.i32[out][d:last*cols], c.i32[in][x:], cols, k.K, k.Stride)
			}
		}
		for t := range c.need[out] {
			if t >= inner && t < innerEnd {
				continue
			}
			start := t*k.Stride - k.PadLeft
			lo, hi := max(start, 0), min(start+k.K, src.Rows)
			switch src.DType {
			case bundle.I8:
				window(c, k, c.i8[out][t*cols:][:cols], c.i8[in][lo*cols:hi*cols], &whole)
			case bundle.I16:
				window(c, k, c.i16[out][t*cols:][:cols], c.i16[in][lo*cols:hi*cols], &whole)
			default:
				window(c, k, c.i32[out][t*cols:][:cols], c.i32[in][lo*cols:hi*cols], &whole)
			}
		}
	}), nil
}

// window reduces the rows x of one window.
// window reduces one window x; whole divides by all of its positions.
func window[T rescale.Int](c *Context, k *bundle.WindowPool, dst, x []T, whole *pool.Divider) {
	if k.Kind == "max" {
		pool.Max(c.e.path, dst, x)
		return
	}
	count := int64(len(x) / len(dst))
	if k.CountPad {
		count = int64(k.K)
	}
	sums, mean := c.sums[:len(dst)], whole
	if count != int64(k.K) {
		d := pool.NewDivider(count)
		mean = &d
	}
	pool.Sum(c.e.path, sums, x)
	for i, sum := range sums {
		dst[i] = T(mean.Round(sum))
	}
}
