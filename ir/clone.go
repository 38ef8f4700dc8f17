package ir

import "slices"

// Clone copies the graph: nodes, values and attributes are new, constant data
// is shared (nothing writes to it).
func (g *Graph) Clone() *Graph {
	values := make(map[*Value]*Value)
	value := func(v *Value) *Value {
		if v == nil {
			return nil
		}
		if w, ok := values[v]; ok {
			return w
		}
		w := &Value{Name: v.Name, Type: Type{v.Type.DType, slices.Clone(v.Type.Shape)}, Const: v.Const}
		values[v] = w
		return w
	}
	list := func(vs []*Value) []*Value {
		out := make([]*Value, len(vs))
		for i, v := range vs {
			out[i] = value(v)
		}
		return out
	}
	c := &Graph{Name: g.Name, Inputs: list(g.Inputs), OutputNames: slices.Clone(g.OutputNames)}
	for _, n := range g.Nodes {
		m := &Node{Op: n.Op, Origin: n.Origin, Inputs: list(n.Inputs), Outputs: list(n.Outputs), Attrs: n.Attrs.Clone()}
		for _, v := range m.Outputs {
			if v != nil {
				v.Def = m
			}
		}
		c.Nodes = append(c.Nodes, m)
	}
	c.Outputs = list(g.Outputs)
	return c
}

// Clone copies attributes, lists included.
func (a Attrs) Clone() Attrs {
	if a == nil {
		return nil
	}
	b := make(Attrs, len(a))
	for k, v := range a {
		switch l := v.(type) {
		case []int:
			v = slices.Clone(l)
		case []float64:
			v = slices.Clone(l)
		}
		b[k] = v
	}
	return b
}
