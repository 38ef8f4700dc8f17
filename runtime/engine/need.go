package engine

import "nepcoc/runtime/bundle"

// needOf is the rule by which the rows wanted of a step's output ask for rows
// of its inputs: it raises need. A prefix of rows is always wanted, since every
// value's rows depend on input rows in order.
func needOf(p *bundle.Program, s *bundle.Step) func(rows int, need []int) {
	raise := func(need []int, i, rows int) {
		v := s.In[i]
		need[v] = max(need[v], min(rows, p.Values[v].Rows))
	}
	// window is the number of rows that windows up to the last wanted one reach.
	window := func(stride, reach, padLeft int) func(int, []int) {
		return func(rows int, need []int) { raise(need, 0, (rows-1)*stride-padLeft+reach) }
	}
	switch s.Op {
	case bundle.OpTokenTable, bundle.OpConstant, bundle.OpSide:
		return func(int, []int) {}
	case bundle.OpGatedConv:
		return func(rows int, need []int) {
			raise(need, 0, rows-s.GatedConv.PadLeft+s.GatedConv.K-1)
			if len(s.In) == 2 {
				raise(need, 1, rows)
			}
		}
	case bundle.OpConv:
		k := s.Conv
		return window(k.Stride, k.Dilation*(k.K-1)+1, k.PadLeft)
	case bundle.OpWindowPool:
		k := s.WindowPool
		return window(k.Stride, k.K, k.PadLeft)
	case bundle.OpPool:
		return func(_ int, need []int) {
			rows := p.Values[s.In[0]].Rows
			switch {
			case s.Pool.Kind == "select":
				rows = s.Pool.At + 1
			case s.Pool.Over == "prefix":
				rows = need[len(p.Values)]
			}
			raise(need, 0, rows)
		}
	case bundle.OpRegroup:
		out, in := p.Values[s.Out].Cols, p.Values[s.In[0]].Cols
		return func(rows int, need []int) { raise(need, 0, (rows*out+in-1)/in) }
	case bundle.OpGather:
		// Of each number of rows wanted, the last row that they take.
		index := words(&p.Tensors[s.Gather.Index])
		last, top := make([]int, len(index)), 0
		for i, from := range index {
			top = max(top, int(from)+1)
			last[i] = top
		}
		return func(rows int, need []int) { raise(need, 0, last[rows-1]) }
	case bundle.OpFlatten, bundle.OpTranspose:
		return func(_ int, need []int) { raise(need, 0, p.Values[s.In[0]].Rows) }
	case bundle.OpConcat:
		return func(rows int, need []int) {
			for i, v := range s.In {
				raise(need, i, rows)
				if s.Concat.Axis == 0 {
					rows -= p.Values[v].Rows
				}
			}
		}
	case bundle.OpSlice:
		return func(rows int, need []int) {
			if s.Slice.Axis == 0 {
				rows = s.Slice.Start + (rows-1)*s.Slice.Step + 1
			}
			raise(need, 0, rows)
		}
	}
	// Position by position; a vector operand has a single row.
	return func(rows int, need []int) {
		for i := range s.In {
			raise(need, i, rows)
		}
	}
}

// require computes the rows of each value that a flow of valid tokens needs.
// need has one element more than there are values: the number of valid tokens.
func (e *Engine) require(need []int, valid int) {
	clear(need)
	need[len(e.p.Values)] = valid
	for _, o := range e.p.Outputs {
		need[o.Value] = 1
	}
	for i := len(e.p.Steps) - 1; i >= 0; i-- {
		if rows := need[e.p.Steps[i].Out]; rows > 0 {
			e.needs[i](rows, need)
		}
	}
}
