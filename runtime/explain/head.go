package explain

import (
	"slices"

	"nepcoc/runtime/bundle"
	"nepcoc/runtime/engine"
)

// groups is the number of parts of a flow whose winners are switched off together: all are computed in one run of the head.
const groups = 16

// head is the part of a program behind its maxima, as a program of its own: each row is a vector of what the maxima could have
// found, and each output has all rows.
type head struct {
	pools  []pooled
	inputs []int // by pool: the constant in its place
	p      *bundle.Program
	engine *engine.Engine
	cols   []int // by output
}

// newHead is nil where an output depends on tokens otherwise than through maxima over positions, or through steps that look at
// more than one vector.
func newHead(p *bundle.Program) *head {
	h := &head{p: &bundle.Program{Length: 1, Vocab: 1, Tensors: slices.Clone(p.Tensors)}}
	reach, made := reaches(p), map[int]*bundle.Step{}
	for i := range p.Steps {
		made[p.Steps[i].Out] = &p.Steps[i]
	}
	at := map[int]int{} // values of h.p
	value := func(v bundle.Value, s bundle.Step) int {
		h.p.Values = append(h.p.Values, v)
		s.Out = len(h.p.Values) - 1
		h.p.Steps = append(h.p.Steps, s)
		return s.Out
	}
	// take makes value v a value of h.p; varied tells that it has a row for each vector.
	varied := map[int]bool{}
	var take func(v int) bool
	take = func(v int) bool {
		if _, ok := at[v]; ok {
			return true
		}
		s, val := made[v], p.Values[v]
		switch {
		case s.Op == bundle.OpPool && s.Pool.Kind == "max" && !reach[s.In[0]].empty() && val.DType != bundle.I32:
			bytes := groups * val.Cols * val.DType.Size()
			h.p.Tensors = append(h.p.Tensors, bundle.Tensor{Name: val.Name, DType: val.DType, Shape: []int{groups, val.Cols}, Data: make([]byte, bytes)})
			val.Rows = groups
			at[v] = value(val, bundle.Step{Op: bundle.OpConstant, Name: s.Name, In: []int{}, Constant: &bundle.Constant{Data: len(h.p.Tensors) - 1}})
			varied[v] = true
			h.pools = append(h.pools, pooled{value: v, rows: s.In[0], reach: reach[s.In[0]]})
			h.inputs = append(h.inputs, at[v])
			return true
		case s.Op == bundle.OpTokenTable:
			return false
		}
		step := *s
		step.In = nil
		for _, in := range s.In {
			if !take(in) {
				return false
			}
			step.In = append(step.In, at[in])
			varied[v] = varied[v] || varied[in]
		}
		if varied[v] {
			vector := func(v int) bool { return p.Values[v].Rows == 1 }
			if !vector(v) || slices.ContainsFunc(s.In, func(in int) bool { return !vector(in) }) {
				return false
			}
			switch s.Op {
			case bundle.OpConv:
				if s.Conv.K != 1 || s.Conv.PadLeft != 0 || s.Conv.Stride != 1 {
					return false
				}
			case bundle.OpFlatten, bundle.OpRegroup:
				step.Op = bundle.OpRegroup
			case bundle.OpConcat:
				if s.Concat.Axis != 1 || slices.ContainsFunc(s.In, func(in int) bool { return !varied[in] }) {
					return false
				}
			case bundle.OpSlice:
				if s.Slice.Axis != 1 {
					return false
				}
			case bundle.OpLut, bundle.OpAdd, bundle.OpMul, bundle.OpLayerNorm, bundle.OpSoftmax:
			default:
				return false
			}
			val.Rows = groups
		}
		at[v] = value(val, step)
		return true
	}
	for i := range p.Outputs {
		o := &p.Outputs[i]
		if !take(o.Value) || !varied[o.Value] {
			return nil
		}
		val := p.Values[o.Value]
		h.cols = append(h.cols, val.Cols)
		all := value(bundle.Value{Name: o.Name, DType: val.DType, Rows: 1, Cols: groups * val.Cols}, bundle.Step{Op: bundle.OpFlatten, Name: o.Name, In: []int{at[o.Value]}})
		h.p.Outputs = append(h.p.Outputs, bundle.Output{Name: o.Name, Value: all, Ending: bundle.EndLogits, Scale: 1, Exp: -1})
	}
	h.p = h.p.Prune()
	// Kernels are chosen by types and weights, not by what the constants hold; what they will hold the maxima could
	// have found, of which the program's own proofs are.
	h.inputs = h.inputs[:0]
	for i := range h.p.Steps {
		if s := &h.p.Steps[i]; s.Op == bundle.OpConstant && h.p.Values[s.Out].Rows == groups {
			h.inputs = append(h.inputs, s.Out)
		}
	}
	var err error
	if h.engine, err = engine.Bind(h.p, engine.Options{Own: h.inputs}); err != nil || len(h.inputs) != len(h.pools) {
		return nil
	}
	return h
}

// headRun is a worker's memory for runs of the head.
type headRun struct {
	*head
	ctx    *engine.Context
	out    [][]int32
	tokens [1]int32
	vec    []int32
	set    bool // the vectors of the last flow are in place, and out is what they give
}

func (h *head) run() *headRun {
	return &headRun{head: h, ctx: h.engine.NewContext(), out: h.engine.NewOutput()}
}
