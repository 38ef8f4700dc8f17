package eval

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"nepcoc/ir"
)

// checkNode evaluates a node if its shape rule takes it, and checks what must
// hold of every kernel: the types are those of the rule, every element of the
// output is written (machines reuse buffers), inputs stay as they are, and
// the same inputs give the same bits. ran is false where the rule or the
// kernel refuses.
func checkNode(n *ir.Node, in []*ir.Tensor) (ran bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	before := contents(in)
	got, evalErr := Node(n, in)
	if !slices.EqualFunc(before, contents(in), bytes.Equal) {
		return false, errors.New("inputs changed")
	}
	if evalErr != nil {
		return false, nil
	}
	bound := bind(n, in)
	types, err := ir.Infer(bound)
	if err != nil {
		return false, fmt.Errorf("evaluated, but the shape rule refuses: %w", err)
	}
	c := &call{n: bound, in: in}
	for i, t := range types {
		if !got[i].Type.Equal(t) || got[i].Validate() != nil {
			return false, fmt.Errorf("output %d is %s, the rule says %s", i, got[i].Type, t)
		}
		dirty := make([]byte, t.Len()*t.DType.Size())
		for j := range dirty {
			dirty[j] = 1
		}
		x, err := ir.TensorFromBytes(t, dirty)
		if err != nil {
			return false, err
		}
		c.out = append(c.out, x)
	}
	if err := kernels[n.Op].apply(c); err != nil {
		return false, fmt.Errorf("second run: %w", err)
	}
	if !slices.EqualFunc(contents(got), contents(c.out), bytes.Equal) {
		return false, errors.New("the result depends on what the buffer held")
	}
	return true, nil
}

func contents(ts []*ir.Tensor) [][]byte {
	var b [][]byte
	for _, t := range ts {
		if t != nil {
			b = append(b, t.Bytes())
		}
	}
	return b
}

// The table's own cases, and random nodes of every operator: most are
// refused, none may panic, and those that run keep the kernel's contract.
func TestRandomNodes(t *testing.T) {
	for _, tt := range numerics {
		n := &ir.Node{Op: tt.op, Attrs: tt.attrs, Inputs: make([]*ir.Value, len(tt.in)), Outputs: make([]*ir.Value, len(tt.want))}
		for i := range n.Outputs {
			n.Outputs[i] = &ir.Value{Def: n}
		}
		if ran, err := checkNode(n, tt.in); !ran || err != nil {
			t.Errorf("%s, %s: ran %v: %v", tt.op, tt.name, ran, err)
		}
	}
	rounds := 1000
	if testing.Short() {
		rounds = 100
	}
	total := 0
	for op := range kernels {
		r := rand.New(rand.NewPCG(1, uint64(len(op))))
		valid := 0
		for range rounds {
			n, in := randomNode(r, ir.LookupOp(op))
			ran, err := checkNode(n, in)
			if err != nil {
				t.Fatalf("%s %v: %v\ninputs %v", op, n.Attrs, err, in)
			}
			if ran {
				valid++
			}
		}
		total += valid
	}
	t.Logf("%d of %d random nodes were valid", total, rounds*len(kernels))
}

func randomNode(r *rand.Rand, op *ir.Op) (*ir.Node, []*ir.Tensor) {
	n := &ir.Node{Op: op.Name, Attrs: ir.Attrs{}}
	inputs := op.MinIn
	if op.MaxIn == ir.Many {
		inputs += r.IntN(3)
	} else if op.MaxIn > op.MinIn {
		inputs += r.IntN(op.MaxIn - op.MinIn + 1)
	}
	// Inputs resemble each other, so that a good part of the nodes is valid.
	shape := make([]int, r.IntN(5))
	for i := range shape {
		shape[i] = r.IntN(5)
	}
	dtype := ir.F32
	if r.IntN(4) == 0 {
		dtype = ir.DType(1 + r.IntN(int(ir.Bool)))
	}
	in := make([]*ir.Tensor, inputs)
	for i := range in {
		if i < inputs-1 && r.IntN(8) == 0 && !op.Required(i) {
			continue
		}
		s, d := slices.Clone(shape), dtype
		switch r.IntN(6) {
		case 0:
			s = s[min(len(s), r.IntN(3)):]
		case 1:
			if len(s) > 0 {
				s[r.IntN(len(s))] = r.IntN(4)
			}
		case 2:
			s, d = []int{r.IntN(4)}, ir.I64
		case 3:
			s = s[:min(len(s), r.IntN(2))]
		}
		in[i] = randomTensor(r, ir.Type{DType: d, Shape: s})
	}
	for range max(op.MinOut, 1+r.IntN(2)) {
		n.Outputs = append(n.Outputs, &ir.Value{Def: n})
	}
	if op.MaxOut == 1 {
		n.Outputs = n.Outputs[:1]
	}
	for _, a := range op.Attrs {
		if a.Required || r.IntN(4) == 0 {
			n.Attrs[a.Name] = randomAttr(r, a)
		}
	}
	return n, in
}

func randomTensor(r *rand.Rand, t ir.Type) *ir.Tensor {
	x := ir.NewTensor(t)
	v := make([]int64, x.Len())
	for i := range v {
		v[i] = int64(r.IntN(7) - 2)
	}
	// convert never fails.
	_ = convert(x, ir.Int64s(v, len(v)))
	return x
}

func randomAttr(r *rand.Rand, a ir.Attr) any {
	ints := func() []int {
		v := make([]int, r.IntN(5))
		for i := range v {
			v[i] = r.IntN(5) - 1
		}
		return v
	}
	switch a.Kind {
	case ir.AttrInt:
		if r.IntN(20) == 0 {
			return []int{1 << 31, -1 << 31, 1 << 62}[r.IntN(3)]
		}
		return r.IntN(6) - 2
	case ir.AttrInts:
		return ints()
	case ir.AttrFloats:
		return []float64{r.Float64()}
	case ir.AttrNumber, ir.AttrFloat:
		return r.NormFloat64()
	}
	if a.Enum != nil {
		return a.Enum[r.IntN(len(a.Enum))]
	}
	return ir.DType(1 + r.IntN(int(ir.Bool))).String()
}
