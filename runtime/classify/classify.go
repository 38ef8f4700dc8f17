// Package classify turns tokens into verdicts with a bundle: it runs the
// program and reads label, score and margin off its integer logits.
//
// Scores are integer arithmetic, too (arith.Softmax): they are the same on
// every machine. The only floating point is one multiplication per number that
// is shown.
package classify

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"

	"nepcoc/runtime/arith"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/engine"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/refexec"
	"nepcoc/runtime/traffic"
	"nepcoc/runtime/verdict"
)

// An Executor computes the logits of one input, one slice per output.
type Executor interface {
	Run(tokens []int32, valid int, out [][]int32) error
}

// Engine returns an executor that uses the fast kernels of this machine.
func Engine(b *bundle.Bundle) (Executor, error) {
	e, err := engine.Bind(b.Program, engine.Options{})
	if err != nil {
		return nil, err
	}
	return e.NewContext(), nil
}

// Reference returns the slow executor that defines the result.
func Reference(b *bundle.Bundle) (Executor, error) {
	x, err := refexec.New(b.Program)
	if err != nil {
		return nil, err
	}
	return reference{x}, nil
}

type reference struct{ x *refexec.Executor }

func (r reference) Run(tokens []int32, valid int, out [][]int32) error {
	res, err := r.x.Run(tokens, valid)
	for i := range res {
		copy(out[i], res[i])
	}
	return err
}

// Head is one output of a model and what names its results.
type Head struct {
	Name   string
	Labels []string
	Scale  float64
	exp    []int32
	mult   int32
	shift  int
}

// Result is the verdict of one head.
type Result struct {
	Class int
	// Score is the class's probability and Margin its distance to the second
	// best, in 1/2^24. An output without a table of exponentials has no
	// probabilities: both are 0.
	Score, Margin int32
}

// Classifier runs one bundle. It is not for concurrent use.
type Classifier struct {
	Heads  []Head
	exec   Executor
	logits [][]int32
	probs  []int32
	res    []Result
}

// New prepares classification with an executor.
func New(b *bundle.Bundle, exec Executor) *Classifier {
	c := &Classifier{exec: exec}
	p := b.Program
	for i := range p.Outputs {
		o := &p.Outputs[i]
		cols := p.Values[o.Value].Cols
		h := Head{Name: o.Name, Labels: b.Manifest.Outputs[i].Labels, Scale: o.Scale, mult: o.ExpMult, shift: o.ExpShift}
		if len(h.Labels) == 0 {
			for k := range cols {
				h.Labels = append(h.Labels, strconv.Itoa(k))
			}
		}
		if o.Exp >= 0 {
			data := p.Tensors[o.Exp].Data
			h.exp = make([]int32, len(data)/4)
			for k := range h.exp {
				h.exp[k] = int32(binary.LittleEndian.Uint32(data[4*k:]))
			}
		}
		c.Heads = append(c.Heads, h)
		c.logits = append(c.logits, make([]int32, cols))
		c.probs = slices.Grow(c.probs, cols)
	}
	c.res = make([]Result, len(c.Heads))
	return c
}

// Run classifies one input. The results, and Logits, are valid until the next
// call.
func (c *Classifier) Run(tokens []int32, valid int) ([]Result, error) {
	if err := c.exec.Run(tokens, valid, c.logits); err != nil {
		return nil, fmt.Errorf("classify: %w", err)
	}
	for i := range c.Heads {
		h, l := &c.Heads[i], c.logits[i]
		if h.exp == nil {
			c.res[i] = Result{Class: arith.ArgMax(l)}
			continue
		}
		p := c.probs[:len(l)]
		arith.Softmax(p, l, h.exp, h.mult, h.shift)
		class := arith.ArgMax(l)
		second := int32(0)
		for k, x := range p {
			if k != class {
				second = max(second, x)
			}
		}
		c.res[i] = Result{Class: class, Score: p[class], Margin: p[class] - second}
	}
	return c.res, nil
}

// Logits are the integer logits of the last Run, one slice per head.
func (c *Classifier) Logits() [][]int32 { return c.logits }

// one is a probability of 1.
const one = 1 << 24

// Fill writes the verdict of head i into a record; with logits, they too.
func (c *Classifier) Fill(r *verdict.Record, i int, logits bool) {
	h, res := &c.Heads[i], c.res[i]
	r.Class, r.Label = res.Class, h.Labels[res.Class]
	r.Score, r.Margin = float64(res.Score)/one, float64(res.Margin)/one
	r.Output = ""
	if len(c.Heads) > 1 {
		r.Output = h.Name
	}
	r.Logits, r.Scaled = r.Logits[:0], r.Scaled[:0]
	if logits {
		r.Logits = append(r.Logits, c.logits[i]...)
		for _, x := range c.logits[i] {
			r.Scaled = append(r.Scaled, float64(x)*h.Scale)
		}
	}
}

// Contract is the traffic contract that a bundle's model was trained with.
func Contract(b *bundle.Bundle) (traffic.Contract, error) {
	if b.Manifest.Contract.YAML == "" {
		return traffic.Contract{}, fmt.Errorf("the bundle has no traffic contract, so it can't read packets: compile %s again with --contract", b.Manifest.Model.File)
	}
	c, err := traffic.Parse("the bundle's traffic contract", []byte(b.Manifest.Contract.YAML))
	if err != nil {
		return c, err
	}
	if h := c.Hash(); h != b.Manifest.Contract.Hash {
		return c, fmt.Errorf("the bundle's traffic contract has hash %.12s, its manifest says %.12s: compile the model again", h, b.Manifest.Contract.Hash)
	}
	return c, c.MatchModel(b.Program.Length, b.Program.Vocab)
}

// Flows classifies every flow of a source, in the order in which they become
// ready: emit is called once per flow and head with a record that is reused. The
// counters say what became of every packet.
func (c *Classifier) Flows(b *bundle.Bundle, src capture.Source, logits bool, emit func(*verdict.Record) error) (*flow.Counters, error) {
	contract, err := Contract(b)
	if err != nil {
		return nil, err
	}
	enc, err := traffic.NewEncoder(contract)
	if err != nil {
		return nil, err
	}
	var r verdict.Record
	var failed error
	in, err := flow.NewInput(flow.Options{Encoder: enc, Ready: func(f *flow.Flow) {
		if failed != nil {
			return
		}
		r.FromFlow(f)
		if _, failed = c.Run(f.Tokens, f.Valid); failed != nil {
			return
		}
		for i := range c.Heads {
			c.Fill(&r, i, logits)
			if failed = emit(&r); failed != nil {
				return
			}
		}
	}})
	if err != nil {
		return nil, err
	}
	if err := in.Run(src); failed == nil {
		failed = err
	}
	return in.Counters(), failed
}
