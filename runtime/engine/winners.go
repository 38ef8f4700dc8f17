package engine

import (
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/cpu"
	"nepcoc/runtime/internal/kernels/pool"
	"nepcoc/runtime/internal/kernels/rescale"
)

// Maximum is what a maximum over positions found, channel by channel.
type Maximum struct {
	// Top are the maxima. At are the positions at which they were found: the first, where several have the maximum.
	Top, At []int32
	// There are the numbers at positions that Context.Watch has set, of the last run.
	There []int32

	watched []int32
}

// Watch makes the next runs give what stands at positions, one for each channel of the maximum v, in Maximum.There, and leave Top and At
// as they are; nil ends that. Runs must have as many valid tokens as the positions are of. at is not copied.
func (c *Context) Watch(v int, at []int32) { c.maxima[v].watched = at }

// Maximum is what the last run found of value v, a maximum over positions. It is nil for other values, and where Options.Winners
// was not set.
func (c *Context) Maximum(v int) *Maximum {
	if c.maxima == nil {
		return nil
	}
	return c.maxima[v]
}

func isMaximum(s *bundle.Step) bool { return s.Op == bundle.OpPool && s.Pool.Kind == "max" }

// withMaximum completes a maximum over positions by where it was found.
func withMaximum(e *Engine, s *bundle.Step, run func(*Context), rows func(*Context) int) func(*Context) {
	in, out := s.In[0], s.Out
	cols := e.p.Values[in].Cols
	inPlane := e.lay.place[rowForm][in] == nil
	return func(c *Context) {
		run(c)
		m, n := c.maxima[out], rows(c)*cols
		if m.watched != nil {
			for ch, at := range m.watched {
				i := int(at)*cols + ch
				switch {
				case inPlane:
					m.There[ch] = int32(c.planes[in].At(ch, int(at)))
				case c.i8[in] != nil:
					m.There[ch] = int32(c.i8[in][i])
				case c.i16[in] != nil:
					m.There[ch] = int32(c.i16[in][i])
				default:
					m.There[ch] = c.i32[in][i]
				}
			}
			return
		}
		c.widen(out, 0, m.Top)
		switch {
		case inPlane:
			for ch, top := range c.i8[out] {
				m.At[ch] = 0
				for int(m.At[ch]) < rows(c) && c.planes[in].At(ch, int(m.At[ch])) != top {
					m.At[ch]++
				}
			}
		case c.i8[in] != nil:
			firsts(e.path, m.At, c.i8[out], c.i8[in][:n])
		case c.i16[in] != nil:
			firsts(e.path, m.At, c.i16[out], c.i16[in][:n])
		default:
			firsts(e.path, m.At, c.i32[out], c.i32[in][:n])
		}
	}
}

// Rows that firsts looks at together, and channels that it has room for without asking for memory.
const firstsRows = 16

// firsts finds, channel by channel, the first row of x that holds the maximum top.
func firsts[T rescale.Int](path cpu.Path, at []int32, top, x []T) {
	cols := len(top)
	var room [512]T
	block := room[:]
	if cols > len(room) {
		block = make([]T, cols)
	}
	block = block[:cols]
	for ch := range at {
		at[ch] = -1
	}
	for row, left := 0, cols; left > 0; row += firstsRows {
		part := x[row*cols:][:min(firstsRows*cols, len(x)-row*cols)]
		pool.Max(path, block, part)
		for ch, m := range block {
			if m != top[ch] || at[ch] >= 0 {
				continue
			}
			r := 0
			for i := ch; part[i] != m; i += cols {
				r++
			}
			at[ch] = int32(row + r)
			left--
		}
	}
}
