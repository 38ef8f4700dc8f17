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

// layout says how values lie in the context.
type layout struct {
	// planes are the values that lie channel by channel, as gated layers read and write them; all others
	// lie position by position.
	planes []bool
	// left and stride are of planes: the elements before a channel's first position, which gated layers fill with what
	// stands outside, and those from one channel to the next.
	left, stride []int
	// at is each value's place in bytes, scratch that of what steps need besides, size the whole.
	at      []int
	scratch int
	size    int
}

func plan(p *bundle.Program) layout {
	n := len(p.Values)
	l := layout{planes: make([]bool, n), left: make([]int, n), stride: make([]int, n), at: make([]int, n)}
	right := make([]int, n)
	last := make([]int, len(p.Values)) // the step that reads it last
	scratch := 0
	for i := range p.Steps {
		s := &p.Steps[i]
		last[s.Out] = i
		for _, v := range s.In {
			last[v] = i
		}
		if s.GatedConv == nil {
			continue
		}
		l.planes[s.Out] = true
		for _, v := range s.In {
			l.planes[v] = true
		}
		k, in := s.GatedConv, s.In[0]
		l.left[in], right[in] = max(l.left[in], k.PadLeft), max(right[in], k.K-1-k.PadLeft)
		if k.Norm != nil {
			scratch = max(scratch, 2*block*p.Values[s.Out].Cols)
		}
	}
	for _, o := range p.Outputs {
		last[o.Value] = len(p.Steps)
	}
	for i := range p.Values {
		l.stride[i] = l.left[i] + p.Values[i].Rows + right[i]
	}
	// First fit: the values that live at the same time have places apart.
	type place struct{ from, to, last int }
	var live []place
	for i := range p.Steps {
		v := p.Steps[i].Out
		live = slices.DeleteFunc(live, func(q place) bool { return q.last < i })
		slices.SortFunc(live, func(a, b place) int { return a.from - b.from })
		from, n := 0, l.bytes(p, v)
		for _, q := range live {
			if q.from-from >= n {
				break
			}
			from = max(from, q.to)
		}
		l.at[v] = from
		live = append(live, place{from, from + n, last[v]})
		l.size = max(l.size, from+n)
	}
	l.scratch = l.size
	l.size += (scratch + align - 1) / align * align
	return l
}

// bytes is what value v takes in the context. The last block of a gated layer reads beyond its channel.
func (l *layout) bytes(p *bundle.Program, v int) int {
	x := &p.Values[v]
	n := x.Rows * x.Cols
	if l.planes[v] {
		n = l.stride[v]*x.Cols + block + 8 // kernels take four taps or eight
	}
	n *= x.DType.Size()
	return (n + align - 1) / align * align
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
