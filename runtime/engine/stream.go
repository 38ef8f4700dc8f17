package engine

import (
	"fmt"

	"nepcoc/runtime/bundle"
	"nepcoc/runtime/internal/kernels/gated"
	"nepcoc/runtime/internal/kernels/plane"
)

// Streams run a flow's local region while its packets arrive, so that little is
// left to do when the last one comes. Bits are those of Run, for any chunking.
//
// Gated layers look a few positions ahead, so each value trails the tokens by
// a fixed lag, the sum of what the layers before it look ahead. Between
// chunks a flow keeps of each value only the columns that its readers will
// still look back at: 5 kB for the published model (and 8 kB of running maxima),
// where keeping whole planes would take 200 kB. They are copied into the worker's
// planes before a chunk and out of them after it. These planes are as short as a chunk
// allows, so that those of a layer fit the first-level cache.
//
// Tiles are the same thing for inputs whose planes would not fit the caches: where the program's
// plan says so, Run and chunks that are longer than a tile go through the region a tile at a time, and
// a worker's planes have room for no more than that.

// streamPlan says how a program's region runs in chunks.
type streamPlan struct {
	tile    int    // positions at a time, at most; 0: as many as there are
	local   []bool // by value: computed chunk by chunk
	lag     []int  // by value: positions behind the tokens
	history []int  // by value: columns kept, a multiple of plane.Word
	// kept are local values whose rows steps behind the region read, with the values that lie where they do: of
	// those a stream keeps all rows.
	kept  [][]int
	back  int // rows before a chunk's first token that it touches
	ahead int // the largest lag
}

// window is the number of rows that a chunk may touch: a tile, what it looks back at, and, at the end of
// a flow, the look-ahead of all layers.
func (s *streamPlan) window() int { return s.back + s.tile + s.ahead }

// planStream is nil for programs whose region is not made of gated layers. It ends in maxima, which are taken as it is
// computed, or in rows that steps behind it read, among them those that look at the whole sequence.
func planStream(e *Engine) *streamPlan {
	p, n := e.p, len(e.p.Values)
	s := &streamPlan{tile: p.Plan.Tile, local: make([]bool, n), lag: make([]int, n), history: make([]int, n)}
	over := ""
	for i := range p.Steps {
		step := &p.Steps[i]
		v := step.Out
		switch {
		case step.Op == bundle.OpTokenTable && e.lay.place[planeForm][v] != nil,
			step.Op == bundle.OpGatedConv && s.allLocal(step.In) && (e.pooled[v] || p.Values[v].DType == bundle.I8):
			if at := e.lay.place[rowForm][v]; at != nil {
				s.kept = append(s.kept, e.lay.at(at))
				s.tile = 0 // whoever reads them may ask for other rows than the maxima do
			}
			s.local[v] = true
			for j, in := range step.In {
				ahead := 0
				if j == 0 {
					ahead = step.GatedConv.K - 1 - step.GatedConv.PadLeft
				}
				s.lag[v] = max(s.lag[v], s.lag[in]+ahead)
			}
		case step.Op == bundle.OpTokenTable, step.Op == bundle.OpGatedConv && (s.local[step.In[0]] || s.local[step.In[len(step.In)-1]]):
			return nil
		case step.Op == bundle.OpPool:
			in := step.In[0]
			if s.local[in] && !e.pooled[in] && e.lay.place[rowForm][in] == nil {
				return nil
			}
			if s.local[in] && e.pooled[in] && over != "" && over != step.Pool.Over {
				s.tile = 0 // one maximum goes on where the other has ended: no window is short
			}
			if s.local[in] && e.pooled[in] {
				over = step.Pool.Over
			}
		}
	}
	for i := range p.Steps {
		step := &p.Steps[i]
		for j, in := range step.In {
			if step.Op == bundle.OpGatedConv && s.local[step.Out] {
				back := s.lag[step.Out] - s.lag[in]
				if j == 0 {
					back += step.GatedConv.PadLeft
				}
				s.history[in] = max(s.history[in], (back+plane.Word-1)/plane.Word*plane.Word)
			}
		}
	}
	for v := range n {
		s.back = max(s.back, s.lag[v]+s.history[v])
		s.ahead = max(s.ahead, s.lag[v])
	}
	return s
}

func (s *streamPlan) allLocal(values []int) bool {
	for _, v := range values {
		if !s.local[v] {
			return false
		}
	}
	return true
}

// Streams tells whether flows of this program run chunk by chunk; if not, a
// Stream keeps the tokens and everything is computed in Finish.
func (e *Engine) Streams() bool { return e.stream != nil }

// StateBytes is the memory that a Stream takes per flow.
func (e *Engine) StateBytes() int {
	n := 4 * e.p.Inputs()
	if e.stream == nil {
		return n
	}
	for v, columns := range e.stream.history {
		n += columns * e.p.Values[v].Cols
		if e.pooled[v] {
			n += e.accBytes(v)
		}
	}
	for _, values := range e.stream.kept {
		n += e.rowBytes(values[0])
	}
	return n
}

func (e *Engine) rowBytes(v int) int { return e.p.Values[v].Rows * e.p.Values[v].Cols }

func (e *Engine) accBytes(v int) int { return gated.NewAcc(e.p.Values[v].Cols, e.planes).Bytes() }

// Stream is the state of one flow whose tokens are not all known yet. Any
// worker's context can continue it, one at a time.
type Stream struct {
	e       *Engine
	all     []int32 // the tokens, and behind them the ids beside the sequence
	tokens  []int32
	n       int // tokens so far
	done    int // of them, those that the region has been run for
	history [][]int8
	acc     []*gated.Acc
	rows    [][]int8 // by value, of those kept
}

// NewStream makes the state of a flow; Begin reuses it for the next.
func (e *Engine) NewStream() *Stream {
	all := make([]int32, e.p.Inputs())
	s := &Stream{e: e, all: all, tokens: all[:e.p.Length]}
	if e.stream == nil {
		return s
	}
	s.history, s.acc = make([][]int8, len(e.p.Values)), make([]*gated.Acc, len(e.p.Values))
	for v, columns := range e.stream.history {
		s.history[v] = make([]int8, columns*e.p.Values[v].Cols)
		if e.pooled[v] {
			s.acc[v] = gated.NewAcc(e.p.Values[v].Cols, e.planes)
		}
	}
	s.rows = make([][]int8, len(e.p.Values))
	for _, values := range e.stream.kept {
		rows := make([]int8, e.rowBytes(values[0]))
		for _, v := range values {
			s.rows[v] = rows
		}
	}
	return s
}

// Begin starts a new flow.
func (s *Stream) Begin() { s.n, s.done = 0, 0 }

// Tokens is the number of tokens so far.
func (s *Stream) Tokens() int { return s.n }

// Append adds the flow's next tokens and runs the region for as many whole blocks
// as there are. When no token can follow, all that is left is done by Finish.
func (c *Context) Append(s *Stream, tokens []int32) error {
	if s.e != c.e {
		return fmt.Errorf("the stream belongs to another engine")
	}
	if len(tokens) > len(s.tokens)-s.n {
		return fmt.Errorf("%d more tokens after %d: the program takes %d", len(tokens), s.n, len(s.tokens))
	}
	for i, t := range tokens {
		if uint32(t) >= uint32(c.e.p.Vocab) {
			return fmt.Errorf("token %d is %d, the vocabulary has ids 0 to %d", s.n+i, t, c.e.p.Vocab-1)
		}
	}
	copy(s.tokens[s.n:], tokens)
	s.n += len(tokens)
	plan := c.e.stream
	if plan == nil || s.n-s.done < plane.Block || s.n == len(s.tokens) {
		return nil
	}
	c.advance(s, s.tokens, s.n-(s.n-s.done)%plane.Block)
	return nil
}

// advance runs the region up to token to, of which nothing depends on later tokens, a tile at a time.
func (c *Context) advance(s *Stream, tokens []int32, to int) {
	plan := c.e.stream
	for s.done < to {
		end := to
		if plan.tile > 0 {
			end = min(to, s.done+plan.tile)
		}
		for v, local := range plan.local {
			c.need[v] = 0
			if local {
				c.need[v] = max(0, end-plan.lag[v])
			}
		}
		c.region(s, tokens, end, true)
		s.done = end
	}
}

// Finish computes the outputs of the flow, whose valid tokens are those
// appended; pad is the token of the positions after them, sides are the ids beside the sequence, nil where the program takes none. out is as for Run.
func (c *Context) Finish(s *Stream, pad int32, sides []int32, out [][]int32) error {
	if s.e != c.e {
		return fmt.Errorf("the stream belongs to another engine")
	}
	if len(sides) != c.e.p.Sides {
		return fmt.Errorf("%d numbers beside the sequence, the program takes %d", len(sides), c.e.p.Sides)
	}
	for i, id := range sides {
		if uint32(id) >= bundle.SideIDs {
			return fmt.Errorf("number %d beside the sequence is %d, ids are 0 to %d", i, id, bundle.SideIDs-1)
		}
	}
	copy(s.all[c.e.p.Length:], sides)
	if uint32(pad) >= uint32(c.e.p.Vocab) {
		return fmt.Errorf("padding token %d, the vocabulary has ids 0 to %d", pad, c.e.p.Vocab-1)
	}
	for i := s.n; i < len(s.tokens); i++ {
		s.tokens[i] = pad
	}
	if c.e.stream == nil {
		return c.Run(s.all, s.n, out)
	}
	if s.n == 0 {
		return fmt.Errorf("no tokens: a flow has at least one")
	}
	if err := c.e.checkOut(out); err != nil {
		return err
	}
	c.e.require(c.need, s.n)
	c.sides = sides
	c.finish(s, s.tokens, out)
	c.sides = nil
	return nil
}

// finish computes all that is wanted, c.need, and not done yet, and gives the results.
func (c *Context) finish(s *Stream, tokens []int32, out [][]int32) {
	plan := c.e.stream
	// Rows before token to are wanted; those that depend on no token from all on are wanted of every value.
	to, all := 0, len(tokens)
	for v, local := range plan.local {
		if local && c.need[v] > 0 {
			to, all = max(to, c.need[v]), min(all, c.need[v]+plan.lag[v])
		}
	}
	if plan.tile > 0 && to-s.done > plan.tile {
		valid := c.need[len(plan.local)]
		c.advance(s, tokens, min(all, s.done+(to-s.done-1)/plan.tile*plan.tile))
		c.e.require(c.need, valid)
	}
	c.region(s, tokens, to, false)
	own := c.acc
	c.acc = s.acc
	c.lend(s)
	for i := range c.e.ops {
		if o := &c.e.ops[i]; !plan.local[o.out] && c.need[o.out] > 0 {
			c.run(i)
		}
	}
	c.acc = own
	c.results(out)
	c.lend(s)
}

// lend exchanges the context's memory for the rows that the stream keeps with the stream's own; twice is once.
func (c *Context) lend(s *Stream) {
	for _, values := range c.e.stream.kept {
		for _, v := range values {
			c.i8[v], s.rows[v] = s.rows[v], c.i8[v]
		}
	}
}

// region runs the local steps from where the flow's last chunk ended to token
// to, as far as rows are wanted. If more chunks are to come, it keeps what they look back at.
func (c *Context) region(s *Stream, tokens []int32, to int, more bool) {
	plan := c.e.stream
	acc, whole := c.acc, c.planes
	c.tokens, c.acc = tokens, s.acc
	c.lend(s)
	c.shorten(max(0, s.done-plan.back), to)
	for i := range c.e.ops {
		o := &c.e.ops[i]
		v := o.out
		if !plan.local[v] {
			continue
		}
		from := max(0, s.done-plan.lag[v])
		if c.need[v] > from {
			c.done[v] = from
			c.run(i)
			c.done[v] = 0
		}
		// Readers look back at columns even where no new ones are wanted.
		c.history(s, v, from, (*plane.Plane).Restore)
		if more {
			c.history(s, v, c.need[v], (*plane.Plane).Save)
		}
	}
	c.tokens, c.acc, c.planes = nil, acc, whole
	c.lend(s)
}

// shorten makes the planes as short as rows [base,to) of the local values allow, over the same
// memory: for the published model's chunks, a cache line per channel. What a channel-major
// block's end overwrites are the next channel's rows before its own first one: history,
// which is restored after it.
func (c *Context) shorten(base, to int) {
	for v, local := range c.e.stream.local {
		if local && !c.e.pooled[v] {
			c.chunks[v] = c.planes[v].Part(base, to, c.e.lay.left, c.e.lay.right)
		}
	}
	c.planes = c.chunks
}

// history copies the columns of value v that precede row to: into the plane, or
// out of it. It goes word by word and so may write a few columns further to
// the left, which nobody will read again, or padding, which is written before it is read.
func (c *Context) history(s *Stream, v, to int, copy func(p *plane.Plane, buf []int8, columns, skip, to int)) {
	columns := c.e.stream.history[v]
	skip := max(0, columns-to) / plane.Word * plane.Word // words that lie wholly before row 0
	if skip < columns {
		copy(&c.planes[v], s.history[v], columns, skip, to)
	}
}
