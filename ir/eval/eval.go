// Package eval interprets a graph of float operators: imported ONNX
// operators, canonical ones and fused ones. It is the oracle that every pass
// is checked against and the tool that folds constants, so it favours
// accuracy and plainness over speed: sums are accumulated in float64, in one
// order, and rounded once. Results are the same bits on every CPU, since they
// reach bundles as folded constants, tables and calibrated ranges; see internal/exact.
// An oracle computes its matrix products with gorgonia.org/tensor instead, for a second
// opinion.
//
// Shapes, windows, slices and pads come from package ir, which owns the shape
// rules; this package must not have a second opinion on them.
package eval

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	"nepcoc/ir"
)

// Limits on memory: of one node evaluated alone, and of all intermediate
// values of a machine.
const (
	maxNodeBytes    = 256 << 20
	maxMachineBytes = 1 << 30
)

// call is one application of an operator. Node n has its shape-giving inputs
// as constants; in holds nil for omitted inputs; out is allocated with the
// inferred types and holds stale data.
type call struct {
	n   *ir.Node
	in  []*ir.Tensor
	out []*ir.Tensor
	// oracle takes the library's matrix products.
	oracle bool
}

func (c *call) input(i int) *ir.Tensor {
	if i < len(c.in) {
		return c.in[i]
	}
	return nil
}

type kernel func(*call) error

// apply runs a kernel unless there is nothing to compute: kernels need not
// consider an empty result, whose other dimensions may be absurdly large.
func (k kernel) apply(c *call) error {
	for _, t := range c.out {
		if t.Len() > 0 {
			return k(c)
		}
	}
	return nil
}

// kernels maps every float operator of ir's table to its implementation.
var kernels = make(map[string]kernel)

func register(k kernel, ops ...string) {
	for _, op := range ops {
		if _, dup := kernels[op]; dup {
			panic("BUG: two kernels for " + op)
		}
		kernels[op] = k
	}
}

func kernelOf(op string) (kernel, error) {
	if k, ok := kernels[op]; ok {
		return k, nil
	}
	if o := ir.LookupOp(op); o != nil && o.Group == ir.GroupInteger {
		return nil, fmt.Errorf("%s is an integer operator; run the bundle's program instead", op)
	}
	return nil, fmt.Errorf("operator %q is not known", op)
}

// Node computes the outputs of one node for the given inputs (nil where the
// node omits one). The types of the node's values are ignored, those of the
// tensors count.
func Node(n *ir.Node, in []*ir.Tensor) ([]*ir.Tensor, error) {
	k, err := kernelOf(n.Op)
	if err != nil {
		return nil, err
	}
	for i, t := range in {
		if t == nil {
			continue
		}
		if err := t.Validate(); err != nil {
			return nil, fmt.Errorf("%s: input %d: %w", n.Op, i, err)
		}
	}
	bound := bind(n, in)
	types, err := ir.Infer(bound)
	if err != nil {
		return nil, err
	}
	size := 0
	for _, t := range types {
		size += t.Len() * t.DType.Size()
		if size > maxNodeBytes {
			return nil, fmt.Errorf("%s: result of %s is above the limit of %d MiB", n.Op, t, maxNodeBytes>>20)
		}
	}
	c := &call{n: bound, in: in, out: make([]*ir.Tensor, len(types))}
	for i, t := range types {
		c.out[i] = ir.NewTensor(t)
	}
	if err := k.apply(c); err != nil {
		return nil, fmt.Errorf("%s: %w", n.Op, err)
	}
	return c.out, nil
}

// bind is the node with tensors in place of its inputs.
func bind(n *ir.Node, in []*ir.Tensor) *ir.Node {
	b := &ir.Node{Op: n.Op, Origin: n.Origin, Outputs: n.Outputs, Attrs: n.Attrs, Inputs: make([]*ir.Value, len(in))}
	for i, t := range in {
		if t != nil {
			b.Inputs[i] = ir.NewConst("", t)
		}
	}
	return b
}

// Machine runs one graph again and again, in buffers that it keeps. It is not
// for concurrent use; several machines can share a graph.
type Machine struct {
	// Observe, if set, is called for every value that a node computes. The
	// tensor is valid during the call only.
	Observe func(v *ir.Value, t *ir.Tensor)

	graph *ir.Graph
	slots map[*ir.Value]*ir.Tensor
	steps []step
}

type step struct {
	call
	kernel kernel
	// late: the shape rule needs values computed at run time.
	late bool
}

// New checks the graph and prepares its execution.
func New(g *ir.Graph) (*Machine, error) {
	if err := ir.Check(g); err != nil {
		return nil, err
	}
	m := &Machine{graph: g, slots: make(map[*ir.Value]*ir.Tensor)}
	size := 0
	for _, n := range g.Nodes {
		k, err := kernelOf(n.Op)
		if err != nil {
			return nil, nodeError(n, err)
		}
		s := step{call: call{n: n}, kernel: k}
		_, err = ir.Infer(n)
		s.late = errors.Is(err, ir.ErrNotConst)
		for _, v := range n.Outputs {
			size += v.Type.Len() * v.Type.DType.Size()
			if size > maxMachineBytes {
				return nil, nodeError(n, fmt.Errorf("intermediate values exceed the limit of %d MiB", maxMachineBytes>>20))
			}
			t := ir.NewTensor(v.Type)
			m.slots[v] = t
			s.out = append(s.out, t)
		}
		s.in = make([]*ir.Tensor, len(n.Inputs))
		for i, v := range n.Inputs {
			if v != nil && v.Const != nil {
				s.in[i] = v.Const
			}
		}
		m.steps = append(m.steps, s)
	}
	return m, nil
}

func nodeError(n *ir.Node, err error) error {
	name := n.Origin
	if name == "" && len(n.Outputs) > 0 {
		name = "%" + n.Outputs[0].Name
	}
	return fmt.Errorf("node %s (%s): %w", name, n.Op, err)
}

// Run computes the outputs, keyed by the graph's OutputNames, for inputs keyed
// by name. The tensors returned are the caller's.
func (m *Machine) Run(in map[string]*ir.Tensor) (map[string]*ir.Tensor, error) {
	if err := m.setInputs(in); err != nil {
		return nil, err
	}
	for i := range m.steps {
		if err := m.run(&m.steps[i]); err != nil {
			return nil, nodeError(m.steps[i].n, err)
		}
	}
	out := make(map[string]*ir.Tensor, len(m.graph.Outputs))
	for i, v := range m.graph.Outputs {
		t := v.Const
		if t == nil {
			t = m.slots[v]
		}
		own := ir.NewTensor(t.Type)
		copyAll(own, t)
		out[m.graph.OutputNames[i]] = own
	}
	return out, nil
}

func (m *Machine) run(s *step) error {
	for i, v := range s.n.Inputs {
		if v != nil && v.Const == nil {
			s.in[i] = m.slots[v]
		}
	}
	c := &s.call
	if s.late {
		bound := bind(s.n, s.in)
		types, err := ir.Infer(bound)
		if err != nil {
			return err
		}
		for i, t := range types {
			if !t.Equal(s.out[i].Type) {
				return fmt.Errorf("result is %s, declared as %s", t, s.out[i].Type)
			}
		}
		c = &call{n: bound, in: s.in, out: s.out, oracle: s.oracle}
	}
	if err := s.kernel.apply(c); err != nil {
		return err
	}
	if m.Observe != nil {
		for i, v := range s.n.Outputs {
			m.Observe(v, s.out[i])
		}
	}
	return nil
}

func (m *Machine) setInputs(in map[string]*ir.Tensor) error {
	var names []string
	for _, v := range m.graph.Inputs {
		names = append(names, v.Name)
		t := in[v.Name]
		if t == nil {
			return fmt.Errorf("input %q is missing", v.Name)
		}
		if err := t.Validate(); err != nil {
			return fmt.Errorf("input %q: %w", v.Name, err)
		}
		if !t.Type.Equal(v.Type) {
			return fmt.Errorf("input %q is %s, the model takes %s", v.Name, t.Type, v.Type)
		}
		m.slots[v] = t
	}
	var extra []string
	for name := range in {
		if !slices.Contains(names, name) {
			extra = append(extra, name)
		}
	}
	if len(extra) > 0 {
		sort.Strings(extra)
		return fmt.Errorf("the model has no input %s; its inputs are %s", strings.Join(extra, ", "), strings.Join(names, ", "))
	}
	return nil
}
