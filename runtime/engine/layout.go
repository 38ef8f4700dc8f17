package engine

import (
	"slices"

	"nepcoc/runtime/bundle"
	"nepcoc/runtime/cpu"
	"nepcoc/runtime/internal/kernels/plane"
)

// form is how a value lies in memory.
type form int

const (
	rowForm   form = iota // time-major rows of the value's type
	planeForm             // int8 planes, which gated layers read and write
	forms
)

// layout says where the values of a program lie in a context's arena, in
// which forms. The forms differ by kernel path, which is known on the machine only: so
// a bundle says how many positions are computed at a time, and this is what memory follows from.
type layout struct {
	bytes       int
	path        cpu.Path
	left, right int // padding that planes leave room for
	place       [forms][]*place
	rows        []int    // by value: rows that its plane has room for
	all         []*place // in order of first use
}

// place is a piece of the arena. Values share one where a step works in place
// or only changes the shape.
type place struct {
	value        int
	form         form
	offset, size int
	first, last  int  // steps between which it is in use
	constant     bool // not in the arena: the program's own data
}

// native is the form in which the producer of value v leaves it.
func native(p *bundle.Program, s *bundle.Step, wantsPlane bool) form {
	switch {
	case p.Values[s.Out].DType != bundle.I8:
	case s.Op == bundle.OpGatedConv, s.Op == bundle.OpTokenTable && wantsPlane:
		return planeForm
	}
	return rowForm
}

// newLayout decides the forms of the values and which share a place; settle gives places their memory.
func newLayout(p *bundle.Program, path cpu.Path, pooled []bool) *layout {
	// Streams compute blocks from any position on, so that the last one may end
	// beyond the last row: some padding there keeps it off the next channel. Some on the left
	// keeps whole words of history within the plane; see Context.history.
	l := &layout{path: path, left: plane.Word - 1, right: 1}
	n := len(p.Values)
	for f := range l.place {
		l.place[f] = make([]*place, n)
	}
	var want [forms][]bool
	for f := range want {
		want[f] = make([]bool, n)
	}
	last := make([]int, n)
	for i := range p.Steps {
		s := &p.Steps[i]
		last[s.Out] = i
		for _, v := range s.In {
			last[v] = i
			switch s.Op {
			case bundle.OpGatedConv:
				want[planeForm][v] = true
			case bundle.OpPool: // takes either
			default:
				want[rowForm][v] = true
			}
		}
		if g := s.GatedConv; g != nil {
			l.left, l.right = max(l.left, g.PadLeft), max(l.right, g.K-1-g.PadLeft)
		}
	}
	for _, o := range p.Outputs {
		want[rowForm][o.Value] = true
		last[o.Value] = len(p.Steps)
	}
	for i := range p.Steps {
		s := &p.Steps[i]
		v := s.Out
		if pooled[v] {
			continue
		}
		want[native(p, s, want[planeForm][v])][v] = true
		for f := range form(forms) {
			if !want[f][v] {
				continue
			}
			if at := l.shared(s, f, i); at != nil {
				at.last = max(at.last, last[v])
				l.place[f][v] = at
				continue
			}
			at := &place{value: v, form: f, first: i, last: last[v], constant: f == rowForm && s.Op == bundle.OpConstant}
			l.place[f][v] = at
			if !at.constant {
				l.all = append(l.all, at)
			}
		}
	}
	return l
}

// settle lays the arena out. Planes of the values that are computed tile by tile have room for the
// rows of a window only, all others for all rows.
func (l *layout) settle(p *bundle.Program, s *streamPlan) {
	l.rows = make([]int, len(p.Values))
	for v := range p.Values {
		l.rows[v] = p.Values[v].Rows
		if s != nil && s.tile > 0 && s.local[v] {
			l.rows[v] = min(l.rows[v], s.window())
		}
	}
	for _, at := range l.all {
		at.size = l.size(p, at.value, at.form)
	}
	l.bytes = assign(l.all)
}

// at lists the values whose rows lie at a place.
func (l *layout) at(where *place) (values []int) {
	for v, at := range l.place[rowForm] {
		if at == where {
			values = append(values, v)
		}
	}
	return values
}

// shared is the place of an input that the output of step i can take over.
func (l *layout) shared(s *bundle.Step, f form, i int) *place {
	switch {
	case (s.Op == bundle.OpFlatten || s.Op == bundle.OpRegroup) && f == rowForm:
		return l.place[rowForm][s.In[0]]
	case s.Op == bundle.OpGatedConv && f == planeForm && len(s.In) == 2 && s.In[0] != s.In[1]:
		// The residual, if this is the end of it: a block is read before it is written.
		if r := l.place[planeForm][s.In[1]]; r.last == i {
			return r
		}
	}
	return nil
}

func (l *layout) size(p *bundle.Program, v int, f form) int {
	val := &p.Values[v]
	if f == planeForm {
		return plane.Size(l.path, val.Cols, l.rows[v], l.left, l.right)
	}
	return val.Rows * val.Cols * val.DType.Size()
}

// assign gives each place, in order of first use, the lowest offset that is
// free for as long as it is used, and returns the size of the whole.
func assign(all []*place) int {
	const align = 64
	total := 0
	var placed []*place // by offset
	for _, a := range all {
		a.size = (a.size + align - 1) &^ (align - 1)
		at := 0
		for _, b := range placed {
			if b.last < a.first || b.first > a.last {
				continue
			}
			if at+a.size <= b.offset {
				break
			}
			at = max(at, b.offset+b.size)
		}
		a.offset = at
		i, _ := slices.BinarySearchFunc(placed, a, func(x, y *place) int { return x.offset - y.offset })
		placed = slices.Insert(placed, i, a)
		total = max(total, at+a.size)
	}
	return total
}
