package bundle

import (
	"errors"
	"fmt"
	"math"
)

// Validate checks everything that the executors rely on: indices, types,
// shapes and attributes of every step; that each value is computed once, before
// it is read; and, from the weights themselves, the proofs behind the narrow
// arithmetic: the accumulators of gated convolutions and the inputs of their
// LayerNorm fit 16 bits, those of convolutions and sums fit 32, products fit
// 62. Proofs use the range of each channel of each value as far as clamps,
// tables and weights determine it, else that of its type.
//
// It also checks that Left and Right cover the receptive field of what is
// pooled over the valid prefix: the executors rely on it when they skip
// positions.
func (p *Program) Validate() error {
	if err := p.belonging(); err != nil {
		return err
	}
	_, err := analyse(p.Judged())
	return err
}

// analyse is Validate, and returns what it found out on the way.
func analyse(p *Program) (*checker, error) {
	c := &checker{p: p, values: make([]known, len(p.Values))}
	if err := c.declarations(); err != nil {
		return nil, err
	}
	for i := range p.Steps {
		s := &p.Steps[i]
		if _, ok := rules[s.Op]; !ok {
			return nil, fmt.Errorf("step %d (%q): unknown operator %q: update nepcod", i, s.Name, s.Op)
		}
		if err := c.step(i, s); err != nil {
			return nil, fmt.Errorf("step %d (%s %q): %w", i, s.Op, s.Name, err)
		}
	}
	for i := range p.Values {
		if !c.values[i].written {
			return nil, fmt.Errorf("value %d (%q) is computed by no step", i, p.Values[i].Name)
		}
	}
	names := map[string]bool{}
	for i := range p.Outputs {
		o := &p.Outputs[i]
		if names[o.Name] {
			return nil, fmt.Errorf("output %d: the name %q is taken", i, o.Name)
		}
		names[o.Name] = true
		if err := c.output(o); err != nil {
			return nil, fmt.Errorf("output %d (%q): %w", i, o.Name, err)
		}
	}
	if err := c.plan(); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	return c, nil
}

// checker walks a program in the order of its steps.
type checker struct {
	p      *Program
	values []known
	spans  int // ranges kept so far; see perChannel
	work   int // elements looked at so far, at most budget
	budget int
}

// known is what the steps so far say about a value.
type known struct {
	written bool
	span    []span
	// Row p depends on the tokens [p-left, p+right]; both are Length where it
	// may depend on all of them.
	left, right int
}

func (c *checker) declarations() error {
	p := c.p
	for _, l := range []struct {
		what     string
		n, limit int
	}{
		{"length", p.Length, MaxLength}, {"vocab", p.Vocab, MaxVocab}, {"number of values", len(p.Values), MaxValues},
		{"number of tensors", len(p.Tensors), MaxTensors}, {"number of steps", len(p.Steps), MaxSteps},
		{"number of outputs", len(p.Outputs), MaxValues},
	} {
		if err := upTo(l.what, int64(l.n), int64(l.limit)); err != nil {
			return err
		}
	}
	if p.Left < 0 || p.Left > p.Length || p.Right < 0 || p.Right > p.Length {
		return fmt.Errorf("receptive field left %d, right %d: not in 0..%d", p.Left, p.Right, p.Length)
	}
	if err := within("number of ids beside the sequence", int64(p.Sides), 0, MaxCols); err != nil {
		return err
	}
	c.budget = freeWork
	for i := range p.Tensors {
		t := &p.Tensors[i]
		n, err := t.bytes()
		if err == nil && n != uint64(len(t.Data)) {
			err = fmt.Errorf("shape %v of %s is %d bytes, the data have %d", t.Shape, t.DType, n, len(t.Data))
		}
		if err != nil {
			return fmt.Errorf("tensor %d (%q): %w", i, t.Name, err)
		}
		c.budget += 4 * t.Len()
	}
	total := 0
	for i := range p.Values {
		v := &p.Values[i]
		if v.DType != I8 && v.DType != I16 && v.DType != I32 {
			return fmt.Errorf("value %d (%q): element type %q is not i8, i16 or i32", i, v.Name, v.DType)
		}
		if err := firstOf(upTo("number of positions", int64(v.Rows), MaxRows), upTo("number of channels", int64(v.Cols), MaxCols)); err != nil {
			return fmt.Errorf("value %d (%q): %w", i, v.Name, err)
		}
		total += v.size()
		if err := upTo("bytes of all values", int64(total), MaxValueBytes); err != nil {
			return fmt.Errorf("value %d (%q): %w", i, v.Name, err)
		}
	}
	return nil
}

func (v *Value) size() int { return v.Rows * v.Cols * v.DType.Size() }

func isFinite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }

// rule is what holds for every step of an operator.
type rule struct {
	minIn, maxIn int
	params       func(*Step) bool // the operator's parameters are set; nil: it has none
	check        func(*checker, *Step) error
}

var rules = map[string]rule{
	OpTokenTable: {0, 0, func(s *Step) bool { return s.TokenTable != nil }, (*checker).tokenTable},
	OpGatedConv:  {1, 2, func(s *Step) bool { return s.GatedConv != nil }, (*checker).gatedConv},
	OpConv:       {1, 1, func(s *Step) bool { return s.Conv != nil }, (*checker).conv},
	OpPool:       {1, 1, func(s *Step) bool { return s.Pool != nil }, (*checker).pool},
	OpWindowPool: {1, 1, func(s *Step) bool { return s.WindowPool != nil }, (*checker).windowPool},
	OpLut:        {1, 1, func(s *Step) bool { return s.Lut != nil }, (*checker).lut},
	OpAdd:        {2, 2, func(s *Step) bool { return s.Add != nil }, (*checker).add},
	OpMul:        {2, 2, func(s *Step) bool { return s.Mul != nil }, (*checker).mul},
	OpLayerNorm:  {1, 1, func(s *Step) bool { return s.LayerNorm != nil }, (*checker).layerNorm},
	OpConcat:     {1, MaxValues, func(s *Step) bool { return s.Concat != nil }, (*checker).concat},
	OpSlice:      {1, 1, func(s *Step) bool { return s.Slice != nil }, (*checker).slice},
	OpFlatten:    {1, 1, nil, (*checker).flatten},
	OpTranspose:  {1, 1, nil, (*checker).transpose},
	OpRegroup:    {1, 1, nil, (*checker).regroup},
	OpGather:     {1, 1, func(s *Step) bool { return s.Gather != nil }, (*checker).gather},
	OpSoftmax:    {1, 1, func(s *Step) bool { return s.Softmax != nil }, (*checker).softmax},
	OpSide:       {0, 0, func(s *Step) bool { return s.Side != nil }, (*checker).side},
	OpConstant:   {0, 0, func(s *Step) bool { return s.Constant != nil }, (*checker).constant},
}

// step checks one step and records what it says about its output.
func (c *checker) step(i int, s *Step) error {
	r := rules[s.Op]
	set := 0
	for _, other := range rules {
		if other.params != nil && other.params(s) {
			set++
		}
	}
	if own := r.params != nil; own && (set != 1 || !r.params(s)) || !own && set != 0 {
		return errors.New("must have its own parameters and no other's")
	}
	if len(s.In) < r.minIn || len(s.In) > r.maxIn {
		return fmt.Errorf("%d inputs, expected %d to %d", len(s.In), r.minIn, r.maxIn)
	}
	for _, v := range s.In {
		if v < 0 || v >= len(c.values) {
			return fmt.Errorf("input value %d of %d", v, len(c.values))
		}
		if !c.values[v].written {
			return fmt.Errorf("reads value %d (%q) before it is computed", v, c.p.Values[v].Name)
		}
	}
	if s.Out < 0 || s.Out >= len(c.values) {
		return fmt.Errorf("output value %d of %d", s.Out, len(c.values))
	}
	if c.values[s.Out].written {
		return fmt.Errorf("computes value %d (%q) a second time", s.Out, c.p.Values[s.Out].Name)
	}
	if err := r.check(c, s); err != nil {
		return err
	}
	k := &c.values[s.Out]
	k.written = true
	if k.span == nil {
		k.span = []span{typeSpan(c.out(s).DType)}
	}
	return nil
}

func (c *checker) in(s *Step, i int) *Value { return &c.p.Values[s.In[i]] }
func (c *checker) out(s *Step) *Value       { return &c.p.Values[s.Out] }

// shape checks the type and shape of a step's output; an empty type stands for any.
func (c *checker) shape(s *Step, d DType, rows, cols int) error {
	v := c.out(s)
	if v.Rows != rows || v.Cols != cols {
		return fmt.Errorf("output %q is [%d,%d], expected [%d,%d]", v.Name, v.Rows, v.Cols, rows, cols)
	}
	if d != "" && v.DType != d {
		return fmt.Errorf("output %q is %s, expected %s", v.Name, v.DType, d)
	}
	return nil
}

// tensor finds a tensor operand and checks its type (one of those in types) and shape.
func (c *checker) tensor(field string, i int, shape []int, types ...DType) (*Tensor, error) {
	if i < 0 || i >= len(c.p.Tensors) {
		return nil, fmt.Errorf("%s: tensor %d of %d", field, i, len(c.p.Tensors))
	}
	t := &c.p.Tensors[i]
	if c.work += t.Len(); c.work > c.budget {
		return nil, fmt.Errorf("%s: the program uses its tensors too often to be checked", field)
	}
	same := len(t.Shape) == len(shape)
	for j := 0; same && j < len(shape); j++ {
		same = t.Shape[j] == shape[j]
	}
	if !same {
		return nil, fmt.Errorf("%s: tensor %q has shape %v, expected %v", field, t.Name, t.Shape, shape)
	}
	for _, d := range types {
		if t.DType == d {
			return t, nil
		}
	}
	return nil, fmt.Errorf("%s: tensor %q is %s, expected %v", field, t.Name, t.DType, types)
}

// tableOf finds a table operand: i16, its last dimension a power of two, with a
// row for each of rows channels if the shape has two dimensions, and all entries within the
// type d.
func (c *checker) tableOf(field string, i, rows int, d DType) (*Tensor, error) {
	if i < 0 || i >= len(c.p.Tensors) {
		return nil, fmt.Errorf("%s: tensor %d of %d", field, i, len(c.p.Tensors))
	}
	shape := c.p.Tensors[i].Shape
	n := shape[len(shape)-1]
	want := []int{n}
	if len(shape) > 1 && rows > 0 {
		want = []int{rows, n}
	}
	t, err := c.tensor(field, i, want, I16)
	if err != nil {
		return nil, err
	}
	if n < 2 || n&(n-1) != 0 || n > 1<<16 {
		return nil, fmt.Errorf("%s: table %q has %d entries, not a power of two in 2..65536", field, t.Name, n)
	}
	return t, entriesWithin(field, t, typeSpan(d))
}

// entriesWithin checks every element of a tensor.
func entriesWithin(field string, t *Tensor, s span) error {
	for i, n := 0, t.Len(); i < n; i++ {
		if x := t.At(i); int64(x) < s.lo || int64(x) > s.hi {
			return fmt.Errorf("%s: tensor %q: entry %d is %d, not in %d..%d", field, t.Name, i, x, s.lo, s.hi)
		}
	}
	return nil
}

// within checks an attribute.
func within(field string, x, lo, hi int64) error {
	if x < lo || x > hi {
		return fmt.Errorf("%s %d is not in %d..%d", field, x, lo, hi)
	}
	return nil
}

// firstOf is the first error among those of a row of checks.
func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) output(o *Output) error {
	if o.Value < 0 || o.Value >= len(c.values) {
		return fmt.Errorf("value %d of %d", o.Value, len(c.values))
	}
	v := &c.p.Values[o.Value]
	if v.Rows != 1 {
		return fmt.Errorf("value %d (%q) has %d rows, an output is a vector", o.Value, v.Name, v.Rows)
	}
	switch o.Ending {
	case EndLogits, EndSoftmax, EndLogSoftmax, EndSigmoid, EndArgmax:
	default:
		return fmt.Errorf("unknown ending %q", o.Ending)
	}
	if !isFinite(o.Scale) || o.Scale < 0 {
		return fmt.Errorf("scale %g", o.Scale)
	}
	if o.Exp == -1 && o.ExpMult == 0 && o.ExpShift == 0 {
		return nil // no probabilities
	}
	return c.exp("exp", o.Exp, o.ExpMult, o.ExpShift)
}

// exp checks a table of exp(-x) and what makes an index of a distance.
func (c *checker) exp(field string, table int, mult int32, shift int) error {
	if table < 0 || table >= len(c.p.Tensors) {
		return fmt.Errorf("%s: tensor %d of %d", field, table, len(c.p.Tensors))
	}
	t, err := c.tensor(field, table, c.p.Tensors[table].Shape[:1], I32)
	if err != nil {
		return err
	}
	if err := entriesWithin(field, t, span{0, 1 << 24}); err != nil {
		return err
	}
	if t.At(0) == 0 {
		return fmt.Errorf("%s: tensor %q: entry 0 is 0, so probabilities could not be divided", field, t.Name)
	}
	if err := within(field+"_mult", int64(mult), 0, math.MaxInt32); err != nil {
		return err
	}
	return within(field+"_shift", int64(shift), 0, 62)
}

// plan checks the plan.
func (c *checker) plan() error {
	return within("tile", int64(c.p.Plan.Tile), 0, int64(c.p.Length))
}

// Parts says of each step of a valid program which part of it the step belongs to: "local" where a position of its result depends
// on the tokens near that position only, so that it can be computed as they come; "whole" where positions depend on all
// tokens; "head" where the result is a vector.
func (p *Program) Parts() ([]string, error) {
	c, err := analyse(p)
	if err != nil {
		return nil, err
	}
	parts := make([]string, len(p.Steps))
	for i := range p.Steps {
		v := p.Steps[i].Out
		k := &c.values[v]
		switch {
		case p.Values[v].Rows == 1 && p.Length > 1:
			parts[i] = "head"
		case p.Values[v].Rows == p.Length && (k.left < p.Length || k.right < p.Length):
			parts[i] = "local"
		default:
			parts[i] = "whole"
		}
	}
	return parts, nil
}
