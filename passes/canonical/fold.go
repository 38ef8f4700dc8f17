package canonical

import (
	"fmt"

	"nepcoc/ir"
	"nepcoc/ir/eval"
	"nepcoc/passes/internal/edit"
)

// A constant expression is folded as long as its result is not much larger
// than what it is computed from: ConstantOfShape or Expand of a hostile model
// must not fill the memory.
const (
	foldAlways = 1 << 20 // bytes
	foldGrowth = 4
)

// foldConstants computes every node whose inputs are constant (all shapes are
// static, so Shape and Size are too) and drops nodes that copy their input.
func foldConstants(g *ir.Graph, names edit.Names) ir.Problems {
	var problems ir.Problems
	subst := make(map[*ir.Value]*ir.Value)
	kept := make([]*ir.Node, 0, len(g.Nodes))
	for _, n := range g.Nodes {
		for i, v := range n.Inputs {
			if s := subst[v]; s != nil {
				n.Inputs[i] = s
			}
		}
		if src := copyOf(n); src != nil {
			subst[n.Out()] = src
			continue
		}
		consts, err := evaluate(n, names)
		if err != nil {
			problems = append(problems, ir.ProblemOf(n, fmt.Sprintf("constant expression can't be evaluated: %v", err),
				"let the exporter fold constants"))
		}
		if consts == nil {
			kept = append(kept, n)
			continue
		}
		for i, c := range consts {
			subst[n.Outputs[i]] = c
		}
	}
	for i, v := range g.Outputs {
		if s := subst[v]; s != nil {
			g.Outputs[i] = s
		}
	}
	g.Nodes = kept
	g.Sweep()
	return problems
}

// evaluate returns the outputs of n as constants, nil if n is not constant.
func evaluate(n *ir.Node, names edit.Names) ([]*ir.Value, error) {
	switch n.Op {
	case "Shape":
		first, last := ir.ShapeRange(n)
		dims := n.Inputs[0].Type.Shape[first:max(first, last)]
		data := make([]int64, len(dims))
		for i, d := range dims {
			data[i] = int64(d)
		}
		return []*ir.Value{names.Const(n.Out().Name+".const", ir.Int64s(data, len(dims)))}, nil
	case "Size":
		size := int64(n.Inputs[0].Type.Len())
		return []*ir.Value{names.Const(n.Out().Name+".const", ir.Int64s([]int64{size}))}, nil
	}
	in := make([]*ir.Tensor, len(n.Inputs))
	read := 0
	for i, v := range n.Inputs {
		if v == nil {
			continue
		}
		if v.Const == nil {
			return nil, nil
		}
		in[i] = v.Const
		read += v.Type.Len() * v.Type.DType.Size()
	}
	for _, o := range n.Outputs {
		if size := o.Type.Len() * o.Type.DType.Size(); size > foldAlways && size > foldGrowth*read {
			return nil, nil
		}
	}
	out, err := eval.Node(n, in)
	if err != nil {
		return nil, err
	}
	consts := make([]*ir.Value, len(out))
	for i, t := range out {
		consts[i] = names.Const(n.Outputs[i].Name+".const", t)
	}
	return consts, nil
}

// copyOf returns the input that n merely hands on, or nil.
func copyOf(n *ir.Node) *ir.Value {
	if len(n.Inputs) == 0 || n.Inputs[0] == nil || len(n.Outputs) != 1 {
		return nil
	}
	x := n.Inputs[0]
	same := x.Type.Equal(n.Out().Type)
	switch n.Op {
	case "Identity", "Dropout":
		return x
	case "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand":
		if same {
			return x
		}
	case "Slice":
		// A slice as long as its input takes all of it, unless it reverses.
		if steps, ok := edit.Ints(n.Input(4)); same && (n.Input(4) == nil || ok && allPositive(steps)) {
			return x
		}
	case "Pad":
		if pads, ok := edit.Ints(n.Input(1)); ok && allZero(pads) {
			return x
		}
	case "Concat":
		if len(n.Inputs) == 1 {
			return x
		}
	case "Transpose":
		perm := n.Ints("perm")
		for i, p := range perm {
			if p != i {
				return nil
			}
		}
		if perm != nil {
			return x
		}
	}
	return nil
}

func allZero(xs []int) bool {
	for _, x := range xs {
		if x != 0 {
			return false
		}
	}
	return true
}

func allPositive(xs []int) bool {
	for _, x := range xs {
		if x <= 0 {
			return false
		}
	}
	return true
}
