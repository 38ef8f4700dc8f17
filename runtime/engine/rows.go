package engine

import (
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/internal/kernels/rescale"
)

// row is row t of value v as 32-bit numbers: the value itself where it is that
// wide, else a copy in buf.
func (c *Context) row(v, t int, buf []int32) []int32 {
	n := c.e.p.Values[v].Cols
	switch {
	case c.i8[v] != nil:
		rescale.Widen(c.e.path, buf, c.i8[v][t*n:][:n])
	case c.i16[v] != nil:
		rescale.Widen(c.e.path, buf, c.i16[v][t*n:][:n])
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
		rescale.Narrow(c.e.path, c.i8[v][at:], data)
	case c.i16[v] != nil:
		rescale.Narrow(c.e.path, c.i16[v][at:], data)
	default:
		copy(c.i32[v][at:], data)
	}
}

// rows is rows [t,t+n) of value v as 32-bit numbers, for a result of cols channels: one
// row stands for all, one column for all channels. The result is in buf.
func (c *Context) rows(v, t, n, cols int, buf []int32) []int32 {
	val := &c.e.p.Values[v]
	buf = buf[:n*cols]
	if val.Cols == cols && val.Rows > 1 {
		c.widen(v, t, buf)
		return buf
	}
	one := val.Rows == 1 // row for all
	for i := range n {
		row := buf[i*cols:][:cols]
		switch {
		case one && i > 0:
			copy(row, buf[:cols])
		case one:
			c.widen(v, 0, row[:val.Cols])
		default:
			c.widen(v, t+i, row[:val.Cols])
		}
		if val.Cols == 1 {
			for j := range row {
				row[j] = row[0]
			}
		}
	}
	return buf
}

// widen copies len(dst) elements of value v from row t on.
func (c *Context) widen(v, t int, dst []int32) {
	at := t * c.e.p.Values[v].Cols
	switch {
	case c.i8[v] != nil:
		rescale.Widen(c.e.path, dst, c.i8[v][at:][:len(dst)])
	case c.i16[v] != nil:
		rescale.Widen(c.e.path, dst, c.i16[v][at:][:len(dst)])
	default:
		copy(dst, c.i32[v][at:])
	}
}

// copyPart copies n elements of value from, whose type is that of value to.
func (c *Context) copyPart(to, at, from, start, n int) {
	switch {
	case c.i8[to] != nil:
		copy(c.i8[to][at:][:n], c.i8[from][start:])
	case c.i16[to] != nil:
		copy(c.i16[to][at:][:n], c.i16[from][start:])
	default:
		copy(c.i32[to][at:][:n], c.i32[from][start:])
	}
}

// bound is what the numbers of value v can't exceed.
func bound(p *bundle.Program, v int) int64 {
	lo, _ := p.Values[v].DType.Range()
	return -int64(lo)
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
		c.planes[v].SetRows(c.i8[v][:c.need[v]*cols])
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
		c.planes[v].GetRows(c.i8[v][c.done[v]*cols:c.need[v]*cols], c.done[v])
	}
}
