package engine

import (
	"fmt"
	"slices"
	"time"
	"unsafe"

	"nepcoc/runtime/bundle"
	"nepcoc/runtime/internal/kernels/conv"
	"nepcoc/runtime/internal/kernels/gated"
	"nepcoc/runtime/internal/kernels/plane"
	"nepcoc/runtime/internal/kernels/rescale"
)

// Context is the memory in which one worker runs flows, one at a time.
type Context struct {
	// Profile, if set, collects the time of each step.
	Profile *Profile
	// Trace, if set, is called at the end of Run for each step in order, with the rows that it
	// computed, row-major, to be read only: those that the flow needs, so
	// often fewer than the value has. Values that exist in no memory (maxima taken
	// as they are computed, changes of shape) are left out.
	Trace func(value, rows int, data []int32)

	e      *Engine
	tokens []int32
	sides  []int32 // ids beside the sequence
	need   []int   // rows wanted of each value; see Engine.require
	done   []int   // rows that exist already: 0, except in streams

	// The values, each in its forms and type; nil elsewhere.
	planes []plane.Plane
	chunks []plane.Plane // the same memory as short planes; see Context.shorten
	i8     [][]int8
	i16    [][]int16
	i32    [][]int32

	// scratch
	norm *gated.Scratch
	acc  []*gated.Acc // by value, for those pooled as they are computed
	sums []int64
	a, b []int32
	conv *conv.Scratch

	maxima []*Maximum // by value; nil unless asked for

	tiles *Stream   // the state between tiles, where Run works in tiles
	trace [][]int32 // by value, during a traced Run
}

// Profile is the time spent in each of Engine.StepNames.
type Profile struct {
	Nanoseconds []int64
	Runs        int
}

// NewContext makes the memory for one worker.
func (e *Engine) NewContext() *Context {
	p, l, n := e.p, e.lay, len(e.p.Values)
	c := &Context{
		e: e, need: make([]int, n+1), done: make([]int, n),
		planes: make([]plane.Plane, n), chunks: make([]plane.Plane, n), i8: make([][]int8, n), i16: make([][]int16, n), i32: make([][]int32, n),
		acc: make([]*gated.Acc, n), sums: make([]int64, e.cols),
		a: make([]int32, e.cols), b: make([]int32, e.cols),
		conv: conv.NewScratch(e.convs),
	}
	if e.gatedChannels > 0 {
		c.norm = gated.NewScratch(e.gatedChannels)
	}
	own := map[*place]unsafe.Pointer{}
	arena := plane.Aligned(l.bytes + 1) // never empty, so that it has an address
	for v := range n {
		val := &p.Values[v]
		if at := l.place[planeForm][v]; at != nil {
			c.planes[v] = plane.Over(arena[at.offset:at.offset+at.size], e.planes, val.Cols, l.rows[v], l.left, l.right)
		}
		if at := l.place[rowForm][v]; at != nil {
			start, count := unsafe.Pointer(&arena[at.offset]), val.Rows*val.Cols
			if at.constant {
				if start = e.constants[at.value]; slices.Contains(e.own, at.value) {
					if own[at] == nil { // what only changes its shape lies there, too
						own[at] = unsafe.Pointer(&plane.Aligned(count * val.DType.Size())[0])
					}
					start = own[at]
				}
			}
			switch val.DType {
			case bundle.I8:
				c.i8[v] = unsafe.Slice((*int8)(start), count)
			case bundle.I16:
				c.i16[v] = unsafe.Slice((*int16)(start), count)
			default:
				c.i32[v] = unsafe.Slice((*int32)(start), count)
			}
		}
		if e.pooled[v] {
			c.acc[v] = gated.NewAcc(val.Cols, e.planes)
		}
	}
	if e.winners {
		c.maxima = make([]*Maximum, n)
		for i := range p.Steps {
			if s := &p.Steps[i]; isMaximum(s) {
				cols := p.Values[s.Out].Cols
				c.maxima[s.Out] = &Maximum{Top: make([]int32, cols), At: make([]int32, cols), There: make([]int32, cols)}
			}
		}
	}
	if e.Tile() > 0 {
		c.tiles = e.NewStream()
	}
	return c
}

// Set writes elements of value v, one of Options.Own, from element at on; they are 0 before. Nothing proves that what follows
// from them fits its type: they must be such as the step that they stand for could have given.
func (c *Context) Set(v, at int, data []int32) {
	switch {
	case !slices.Contains(c.e.own, v):
		panic("BUG: the value is no constant of the context's own")
	case c.i8[v] != nil:
		rescale.Narrow(c.e.path, c.i8[v][at:], data)
	default:
		rescale.Narrow(c.e.path, c.i16[v][at:], data)
	}
}

// Run executes the program for tokens, of the program's full length, of which
// the first valid are the flow's own. Ids beside the sequence stand behind them. out has a slice per output of the
// program, as long as that output.
func (c *Context) Run(tokens []int32, valid int, out [][]int32) error {
	if err := c.e.p.CheckInput(tokens, valid); err != nil {
		return err
	}
	if err := c.e.checkOut(out); err != nil {
		return err
	}
	if c.Profile != nil {
		c.Profile.begin(len(c.e.ops))
	}
	if c.Trace != nil {
		c.trace = make([][]int32, len(c.e.p.Values))
	}
	c.e.require(c.need, valid)
	tokens, c.sides = tokens[:c.e.p.Length], tokens[c.e.p.Length:]
	if c.tiles != nil {
		c.tiles.Begin()
		c.finish(c.tiles, tokens, out)
	} else {
		c.tokens = tokens
		for i := range c.e.ops {
			if c.need[c.e.ops[i].out] > 0 {
				c.run(i)
			}
		}
		c.tokens = nil
		c.results(out)
	}
	c.sides = nil
	if c.Trace != nil {
		c.traced()
	}
	return nil
}

// run runs a step, and accounts for it where that is asked for.
func (c *Context) run(i int) {
	o := &c.e.ops[i]
	switch {
	case c.trace != nil:
		o.run(c)
		c.keep(o.out)
	case c.Profile != nil && c.Profile.Runs > 0: // streams outside Run are not accounted for
		start := time.Now()
		o.run(c)
		c.Profile.Nanoseconds[i] += time.Since(start).Nanoseconds()
	default:
		o.run(c)
	}
}

// NewOutput makes the slices for Run's results.
func (e *Engine) NewOutput() [][]int32 {
	out := make([][]int32, len(e.p.Outputs))
	for i, o := range e.p.Outputs {
		out[i] = make([]int32, e.p.Values[o.Value].Cols)
	}
	return out
}

func (e *Engine) checkOut(out [][]int32) error {
	if len(out) != len(e.p.Outputs) {
		return fmt.Errorf("room for %d outputs, the program has %d", len(out), len(e.p.Outputs))
	}
	for i, o := range e.p.Outputs {
		if n := e.p.Values[o.Value].Cols; len(out[i]) != n {
			return fmt.Errorf("room for %d elements of output %q, which has %d", len(out[i]), o.Name, n)
		}
	}
	return nil
}

func (c *Context) results(out [][]int32) {
	for i, o := range c.e.p.Outputs {
		copy(out[i], c.row(o.Value, 0, out[i]))
	}
}

// begin accounts for one more run of n steps.
func (p *Profile) begin(n int) {
	if len(p.Nanoseconds) != n {
		p.Nanoseconds = make([]int64, n)
	}
	p.Runs++
}

// keep copies the rows of value v that were computed just now.
func (c *Context) keep(v int) {
	if c.e.pooled[v] {
		return
	}
	buf := make([]int32, c.e.p.Values[v].Cols)
	for t := c.done[v]; t < c.need[v]; t++ {
		row := buf
		if c.e.lay.place[rowForm][v] != nil {
			row = c.row(v, t, buf)
		} else {
			for ch := range row {
				row[ch] = int32(c.planes[v].At(ch, t))
			}
		}
		c.trace[v] = append(c.trace[v], row...)
	}
}

// traced hands out what was kept.
func (c *Context) traced() {
	for i := range c.e.ops {
		if v := c.e.ops[i].out; c.trace[v] != nil {
			c.Trace(v, len(c.trace[v])/c.e.p.Values[v].Cols, c.trace[v])
		}
	}
	c.trace = nil
}
