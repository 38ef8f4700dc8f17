package c

import (
	"fmt"
	"slices"

	"nepcoc/runtime/bundle"
)

// align is that of every value in the context and of every table: a cache line, and any vector.
const align = 64

// block is the number of positions that a gated layer works on at a time: its sums stay in the first-level cache.
const block = 32

// contextMost are the bytes that a context may have; a program that would take more runs in tiles, if it can.
const contextMost = 64 << 10

// layout says how values lie in memory: in the context, or in the state, which is the stream's or a part of the context.
type layout struct {
	*region
	// tile is the number of positions that the region computes at a time; 0: all.
	tile int
	// planes are the values that lie channel by channel, as gated layers read and write them; all others
	// lie position by position.
	planes []bool
	// left and stride are of planes: the elements before a channel's first position, where carried columns lie and gated
	// layers put what stands outside, and those from one channel to the next. rows are those that a value has room for: in tiles, a window.
	left, stride, rows []int
	// order is that in which steps run: those of the region, tile after tile, then the others.
	order []int
	// at is each value's place in bytes, in the state where kept there, past that of its carried columns in the state.
	at, past []int
	inState  []bool
	scratch  int // place of what steps need besides
	size     int // of the values in the context
	// results are the bytes of the state without what is carried from tile to tile, state all of them.
	results, state int
	tokens         int // tokens that a context has room for
	// inPlace are the gated layers, by step, whose result takes its residual's place.
	inPlace []bool
	// byRows: on some paths, the planes hold rows (see fitsRows); beyond are the rows that their kernels read behind a value's.
	byRows bool
	beyond int
	// raised: on Arm, bytes in planes are 128 more (see fitsRaised).
	raised bool
}

// newLayout lays a program out: at once if that takes a context of at most contextMost bytes, else in the largest tiles that do.
// tile, if not 0, is the tile of programs that can have one.
func newLayout(p *bundle.Program, tile int) *layout {
	r := newRegion(p)
	if r.tiles && tile > 0 && tile < p.Length {
		return plan(p, r, tile)
	}
	l := plan(p, r, 0)
	if !r.tiles {
		return l
	}
	for t := (p.Length - 1) &^ 1; t > 0 && l.context() > contextMost; t -= 2 {
		if next := plan(p, r, t); next.context() < l.context() {
			l = next
		}
	}
	// Of a few smaller ones, that of which layers leave the fewest positions behind whole eights.
	for t := l.tile - 2; t > max(l.tile-block/2, 0) && l.context() <= contextMost; t -= 2 {
		if next := plan(p, r, t); next.eights(p) < l.eights(p) {
			l = next
		}
	}
	return l
}

// eights are the positions that gated layers compute for a flow of all tokens, by eight: tile after tile, each layer behind the tokens by its lag.
func (l *layout) eights(p *bundle.Program) (n int) {
	for i, s := range p.Steps {
		if !l.steps[i] || s.GatedConv == nil {
			continue
		}
		from := 0
		for done := l.tile; done < p.Length; done += l.tile {
			to := max(done-l.lag[s.Out], 0)
			n += (to - from + 7) / 8
			from = to
		}
		n += (p.Length - from + 7) / 8
	}
	return n
}

// context is the size of a context.
func (l *layout) context() int {
	n := l.header() + l.size
	if l.tile > 0 {
		return n + l.state
	}
	return n + l.results
}

// header are the bytes of a context before its values: the pointer to the tables, and tokens.
func (l *layout) header() int { return align + aligned(4*l.tokens) }

// streamHeader are those of a stream before its state: counts, and tokens.
func (l *layout) streamHeader() int { return align + aligned(4*block) }

func aligned(n int) int { return (n + align - 1) / align * align }

func plan(p *bundle.Program, r *region, tile int) *layout {
	n := len(p.Values)
	l := &layout{region: r, tile: tile, planes: make([]bool, n), left: make([]int, n), stride: make([]int, n), rows: make([]int, n),
		at: make([]int, n), past: make([]int, n), inState: make([]bool, n), inPlace: make([]bool, len(p.Steps)), tokens: p.Length}
	window := p.Length
	if tile > 0 {
		// The last tile reaches behind the others by what branches of another lag leave to it.
		window = tile + r.ahead - r.early
		l.tokens = window
	}
	for _, first := range []bool{true, false} {
		for i := range p.Steps {
			if r.live[i] && r.steps[i] == first {
				l.order = append(l.order, i)
			}
		}
	}
	l.byRows = fitsRows(p, r)
	l.raised = fitsRaised(p, r)
	right, last := make([]int, n), make([]int, n) // the place in order of the step that reads it last
	scratch := 0
	for at, i := range l.order {
		s := &p.Steps[i]
		last[s.Out] = at
		for _, v := range s.In {
			last[v] = at
		}
		if s.GatedConv == nil {
			continue
		}
		l.planes[s.Out] = true
		for _, v := range s.In {
			l.planes[v] = true
		}
		k, in := s.GatedConv, s.In[0]
		if l.byRows {
			l.beyond = max(l.beyond, rowsTaps-k.K)
		}
		l.left[in], right[in] = max(l.left[in], k.PadLeft), max(right[in], k.K-1-k.PadLeft)
		if k.Norm != nil {
			scratch = max(scratch, 2*block*p.Values[s.Out].Cols)
		}
	}
	for _, o := range p.Outputs {
		last[o.Value] = len(l.order)
	}
	most := 0
	for v := range p.Values {
		if most = max(most, r.past[v]); tile > 0 {
			most = r.back
		}
		for _, left := range l.left {
			most = max(most, left)
		}
	}
	for v := range p.Values {
		l.rows[v] = p.Values[v].Rows
		if r.local[v] {
			l.left[v], right[v] = most, r.right
			if tile > 0 {
				l.rows[v] = min(l.rows[v], window)
			}
		}
		l.stride[v] = l.left[v] + l.rows[v] + right[v]
	}
	l.keep(p)
	// First fit: the values that live at the same time have places apart.
	type place struct{ value, from, to, last int }
	var live []place
	for at, i := range l.order {
		s := &p.Steps[i]
		v := s.Out
		if l.inState[v] || l.fused[v] >= 0 {
			continue
		}
		live = slices.DeleteFunc(live, func(q place) bool { return q.last < at })
		if k := slices.IndexFunc(live, func(q place) bool { return l.takesOver(p, s, q.value) && q.last == at }); k >= 0 {
			l.at[v], l.inPlace[i] = live[k].from, true
			live[k].value, live[k].last = v, last[v]
			continue
		}
		slices.SortFunc(live, func(a, b place) int { return a.from - b.from })
		from, n := 0, l.bytes(p, v)
		for _, q := range live {
			if q.from-from >= n {
				break
			}
			from = max(from, q.to)
		}
		l.at[v] = from
		live = append(live, place{v, from, from + n, last[v]})
		l.size = max(l.size, from+n)
	}
	l.scratch = l.size
	l.size += aligned(scratch)
	return l
}

// keep gives what outlives a tile its place in the state.
func (l *layout) keep(p *bundle.Program) {
	for i := range p.Steps {
		if v := p.Steps[i].Out; l.steps[i] && (l.kept[v] || p.Steps[i].Op == bundle.OpPool) {
			l.inState[v], l.at[v] = true, l.results
			l.results += l.bytes(p, v)
		}
	}
	l.state = l.results
	for v, n := range l.region.past {
		if n > 0 {
			l.past[v] = l.state
			l.state += aligned(n * p.Values[v].Cols)
		}
	}
}

// takesOver tells whether the result of s may lie where its residual v does: a block is read before it is written.
func (l *layout) takesOver(p *bundle.Program, s *bundle.Step, v int) bool {
	return s.GatedConv != nil && s.GatedConv.Norm != nil && len(s.In) == 2 && s.In[1] == v && s.In[0] != v && !l.inState[v] &&
		p.Values[v].DType == p.Values[s.Out].DType && l.left[v] == l.left[s.Out] && l.stride[v] == l.stride[s.Out]
}

// taken tells whether s is a maximum that is taken while its input is computed.
func (l *layout) taken(s *bundle.Step) bool { return s.Op == bundle.OpPool && l.fused[s.In[0]] >= 0 }

// bytes is what value v takes. The last block of a gated layer reads beyond its channel.
func (l *layout) bytes(p *bundle.Program, v int) int {
	x := &p.Values[v]
	n := l.rows[v] * x.Cols
	if l.planes[v] {
		n = l.stride[v]*x.Cols + max(block+16, l.beyond*x.Cols) // kernels take four taps or eight, and those in C bring 48 values to 16 bits
	}
	return aligned(n * x.DType.Size())
}

// needs are C expressions of the rows of a step's inputs that the first n rows of its output ask for, in the order of its
// inputs: the rule of package engine, by which a short flow costs its own length.
func needs(p *bundle.Program, s *bundle.Step, n string) []string {
	in := func(i int) *bundle.Value { return &p.Values[s.In[i]] }
	all := make([]string, len(s.In))
	for i := range all {
		all[i] = fmt.Sprint(in(i).Rows)
	}
	window := func(stride, reach, padLeft int) []string {
		if in(0).Rows == 1 {
			return all
		}
		return []string{fmt.Sprintf("(%s - 1) * %d + %d", n, stride, reach-padLeft)}
	}
	switch s.Op {
	case bundle.OpGatedConv:
		k := s.GatedConv
		first := fmt.Sprintf("%s + %d", n, k.K-1-k.PadLeft)
		return []string{first, n}[:len(s.In)]
	case bundle.OpConv:
		return window(s.Conv.Stride, s.Conv.Dilation*(s.Conv.K-1)+1, s.Conv.PadLeft)
	case bundle.OpWindowPool:
		return window(s.WindowPool.Stride, s.WindowPool.K, s.WindowPool.PadLeft)
	case bundle.OpPool:
		switch {
		case s.Pool.Kind == "select":
			return []string{fmt.Sprint(s.Pool.At + 1)}
		case s.Pool.Over == "prefix":
			return []string{"valid"}
		}
	case bundle.OpLut, bundle.OpAdd, bundle.OpMul, bundle.OpLayerNorm, bundle.OpSoftmax:
		for i := range all {
			if in(i).Rows > 1 {
				all[i] = n
			}
		}
	}
	return all
}
