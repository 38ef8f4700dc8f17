package engine

import (
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/kernels/elementwise"
)

// row is row t of value v as 32-bit numbers: the value itself where it is that
// wide, else a copy in buf.
func (c *Context) row(v, t int, buf []int32) []int32 {
	n := c.e.p.Values[v].Cols
	switch {
	case c.i8[v] != nil:
		elementwise.Widen(buf, c.i8[v][t*n:][:n])
	case c.i16[v] != nil:
		elementwise.Widen(buf, c.i16[v][t*n:][:n])
	default:
		return c.i32[v][t*n:][:n]
	}
	return buf[:n]
}

// store writes part of row t of value v, from channel at on.
func (c *Context) store(v, t, at int, data []int32) {
	at += t * c.e.p.Values[v].Cols
	switch {
	case c.i8[v] != nil:
		elementwise.Narrow(c.i8[v][at:], data)
	case c.i16[v] != nil:
		elementwise.Narrow(c.i16[v][at:], data)
	default:
		copy(c.i32[v][at:], data)
	}
}

// broadcast is row t, or the only one, of value v.
func (c *Context) broadcast(v, t int, buf []int32) []int32 {
	if c.e.p.Values[v].Rows == 1 {
		t = 0
	}
	return c.row(v, t, buf)
}

// clampTo limits both ends of a clamp to the type of value v.
func clampTo(p *bundle.Program, v int, lo, hi int32) (int32, int32) {
	l, h := p.Values[v].DType.Range()
	return min(max(lo, l), h), min(max(hi, l), h)
}

// alsoPlane completes a step that leaves its output in rows: if gated layers
// read it, the rows that it has computed go to the plane too.
func alsoPlane(e *Engine, v int, run func(*Context)) func(*Context) {
	if e.lay.place[planeForm][v] == nil {
		return run
	}
	cols := e.p.Values[v].Cols
	return func(c *Context) {
		run(c)
		p := &c.planes[v]
		for t := range c.need[v] {
			for ch, x := range c.i8[v][t*cols:][:cols] {
				p.Set(ch, t, x)
			}
		}
	}
}

// alsoRows completes a step that leaves its output in a plane.
func alsoRows(e *Engine, v int, run func(*Context)) func(*Context) {
	if e.lay.place[rowForm][v] == nil {
		return run
	}
	cols := e.p.Values[v].Cols
	return func(c *Context) {
		run(c)
		p, rows := &c.planes[v], c.need[v]
		for ch := range cols {
			at := ch
			for _, x := range p.Data[ch*p.Stride+p.Margin:][:rows] {
				c.i8[v][at] = x ^ p.Flip
				at += cols
			}
		}
	}
}
