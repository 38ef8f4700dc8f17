// Package edit has the few graph manipulations that every float pass needs:
// fresh names, typed constants, and turning a node into another one in place.
// What operators do to types is decided by ir.Infer alone.
package edit

import (
	"fmt"

	"nepcoc/ir"
)

// Names hands out names that are not yet used in a graph.
type Names map[string]bool

// NamesOf collects the names of everything reachable in g.
func NamesOf(g *ir.Graph) Names {
	used := make(Names)
	for _, v := range g.Inputs {
		used[v.Name] = true
	}
	for _, v := range g.Outputs {
		used[v.Name] = true
	}
	for _, n := range g.Nodes {
		for _, v := range n.Inputs {
			if v != nil {
				used[v.Name] = true
			}
		}
		for _, v := range n.Outputs {
			used[v.Name] = true
		}
	}
	return used
}

// Fresh returns base, or base with the first free number appended, and takes it.
func (u Names) Fresh(base string) string {
	name := base
	for i := 1; u[name]; i++ {
		name = fmt.Sprintf("%s.%d", base, i)
	}
	u[name] = true
	return name
}

// Const makes a constant value.
func (u Names) Const(base string, t *ir.Tensor) *ir.Value {
	return &ir.Value{Name: u.Fresh(base), Type: t.Type, Const: t}
}

// Vec makes a constant f32 vector.
func (u Names) Vec(base string, data []float32) *ir.Value {
	return u.Const(base, F32(data, len(data)))
}

// F32 wraps data as a tensor.
func F32(data []float32, shape ...int) *ir.Tensor {
	return &ir.Tensor{Type: ir.Type{DType: ir.F32, Shape: shape}, Data: data}
}

// New makes a node with one output whose type ir.Infer decides.
func (u Names) New(op, origin, out string, attrs ir.Attrs, inputs ...*ir.Value) (*ir.Node, error) {
	for len(inputs) > 0 && inputs[len(inputs)-1] == nil {
		inputs = inputs[:len(inputs)-1]
	}
	if attrs == nil {
		attrs = ir.Attrs{}
	}
	n := &ir.Node{Op: op, Origin: origin, Inputs: inputs, Attrs: attrs}
	n.Outputs = []*ir.Value{{Def: n}}
	types, err := ir.Infer(n)
	if err != nil {
		return nil, err
	}
	if len(types) != 1 {
		return nil, fmt.Errorf("BUG: %s has %d outputs, 1 expected", op, len(types))
	}
	n.Out().Name, n.Out().Type = u.Fresh(out), types[0]
	return n, nil
}

// Become turns n into another operator that computes the same output. The
// output keeps its name and type.
func Become(n *ir.Node, op string, attrs ir.Attrs, inputs ...*ir.Value) {
	for len(inputs) > 0 && inputs[len(inputs)-1] == nil {
		inputs = inputs[:len(inputs)-1]
	}
	if attrs == nil {
		attrs = ir.Attrs{}
	}
	n.Op, n.Attrs, n.Inputs = op, attrs, inputs
}

// Floats returns the data of an f32 constant, or nil.
func Floats(v *ir.Value) []float32 {
	if v == nil || v.Const == nil {
		return nil
	}
	data, _ := v.Const.Data.([]float32)
	return data
}

// Ints returns the data of a constant of any integer type as ints; ok is
// false if v is no such constant.
func Ints(v *ir.Value) (out []int, ok bool) {
	if v == nil || v.Const == nil {
		return nil, false
	}
	switch d := v.Const.Data.(type) {
	case []int64:
		return widen(d), true
	case []int32:
		return widen(d), true
	case []int16:
		return widen(d), true
	case []int8:
		return widen(d), true
	case []uint8:
		return widen(d), true
	case []uint16:
		return widen(d), true
	}
	return nil, false
}

func widen[E int64 | int32 | int16 | int8 | uint8 | uint16](in []E) []int {
	out := make([]int, len(in))
	for i, x := range in {
		out[i] = int(x)
	}
	return out
}

// Scalar returns the value of a constant with one element.
func Scalar(v *ir.Value) (x float64, ok bool) {
	if v == nil || v.Const == nil || v.Type.Len() != 1 {
		return 0, false
	}
	switch d := v.Const.Data.(type) {
	case []float32:
		return float64(d[0]), true
	case []float64:
		return d[0], true
	case []bool:
		if d[0] {
			return 1, true
		}
		return 0, true
	}
	if d, ok := Ints(v); ok {
		return float64(d[0]), true
	}
	return 0, false
}

// Spread returns the constant v as c numbers: its c elements, or its one
// element c times; nil if it is neither (or not f32).
func Spread(v *ir.Value, c int) []float32 {
	d := Floats(v)
	if d == nil || len(d) != 1 && len(d) != c {
		return nil
	}
	if n := len(v.Type.Shape); len(d) > 1 && v.Type.Shape[n-1] != c {
		return nil // the elements run along another axis
	}
	if len(d) == c {
		return d
	}
	out := make([]float32, c)
	for i := range out {
		out[i] = d[0]
	}
	return out
}

// Copy returns a copy of attrs that may be changed.
func Copy(attrs ir.Attrs) ir.Attrs {
	out := make(ir.Attrs, len(attrs)+1)
	for k, v := range attrs {
		out[k] = v
	}
	return out
}

// Uses counts for each value how many inputs and graph outputs read it. A
// pattern may swallow an intermediate value only if its count is 1.
func Uses(g *ir.Graph) map[*ir.Value]int {
	uses := make(map[*ir.Value]int)
	for _, n := range g.Nodes {
		for _, v := range n.Inputs {
			if v != nil {
				uses[v]++
			}
		}
	}
	for _, v := range g.Outputs {
		uses[v]++
	}
	return uses
}
