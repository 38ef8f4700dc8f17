// Package quantize turns the fused float graph into integer operators: the
// last pass in which floating point exists.
//
//	%h = conv(%x, %w, %b) {act="relu", ...} : f32[128,64]
//
// becomes
//
//	%h = int_conv(%x, %w.q, %b.q, %h.mult, %h.pad, _) {shift=38, lo=-128, hi=127, ...} : i8[128,64]
//
// Every integer value q stands for real numbers by an affine rule per channel,
// real = scale*q + offset with scale > 0; the rule is the compiler's business and
// is not in the program. A consumer that multiplies by weights (conv, linear,
// gated_conv) folds scale and offset of its input into its own weights, bias
// and padding byte, so LayerNorm's gamma and beta, per-column scales of token tables and
// zero points cost nothing at run time. A consumer that adds or multiplies two
// values needs one scale for all channels; analysis.go says which values must
// be uniform.
//
// Ranges come from calibration: the float values that real inputs produced.
// The accumulators' ranges come from the weights, by proof, not by observation.
// The arithmetic itself is runtime/arith's; this package builds parameters and
// tables for it and computes nothing that runs on a card.
package quantize

import (
	"fmt"
	"math"

	"nepcoc/ir"
	"nepcoc/passes/internal/edit"
)

// Options are the choices of one quantization.
type Options struct {
	// Method picks activation ranges from observations; see Methods.
	Method string
	// Wide names the values (by their name in the float graph) that keep 16
	// bits; WideAll keeps all of them.
	Wide    map[string]bool
	WideAll bool
	// TableStep makes the 8-bit rows of a token table multiples of it, 1..64. A coarser table
	// compresses better; a program runs no faster for it. 0 leaves small tables as they are and
	// makes large ones small: narrow where they can be, else coarse.
	TableStep int
}

// Observations are the float values that calibration inputs produced:
// Values[v][i] is v's tensor for input i, of which Valid[i] tokens are not
// padding. Right is the receptive field's right side: positions from
// Valid[i]+Right on can't reach a verdict and are left out of the statistics.
type Observations struct {
	Values map[*ir.Value][]*ir.Tensor
	Valid  []int
	Length int
	Right  int
	// Given are the ranges that the model itself gives values, for the method of that name.
	Given map[*ir.Value][2]float64

	// What was derived from the above once, for all plans that are tried.
	stats   map[*ir.Value]*stats
	norms   map[*ir.Node]*norms
	factors map[factorsKey]*factors
}

// Run quantizes g, a fused graph, and returns the integer graph. Value names
// are kept, so that each integer value can be compared with the float value it
// stands for.
func Run(g *ir.Graph, obs *Observations, opts Options) (*ir.Graph, error) {
	q, err := newQuantizer(g, obs, opts)
	if err != nil {
		return nil, err
	}
	if err := q.fits(); err != nil {
		return nil, err
	}
	return q.graph()
}

func newQuantizer(g *ir.Graph, obs *Observations, opts Options) (*quantizer, error) {
	if opts.TableStep < 0 || opts.TableStep > 64 {
		return nil, fmt.Errorf("quantize: token table in steps of %d: want 1 to 64", opts.TableStep)
	}
	clip, ok := methods[opts.Method]
	if !ok {
		return nil, fmt.Errorf("quantize: unknown calibration method %q: want one of %v", opts.Method, Methods())
	}
	return &quantizer{
		src: g, obs: obs, opts: opts, clip: clip,
		out:  &ir.Graph{Name: g.Name, OutputNames: g.OutputNames},
		vals: make(map[*ir.Value]*quant),
		uses: g.Consumers(), endings: edit.Endings(g), evened: make(map[*ir.Value]*quant),
	}, nil
}

// graph quantizes node by node.
func (q *quantizer) graph() (*ir.Graph, error) {
	g := q.src
	for _, in := range g.Inputs {
		q.out.Inputs = append(q.out.Inputs, &ir.Value{Name: in.Name, Type: in.Type})
	}
	var problems ir.Problems
	for _, n := range g.Nodes {
		if q.isEnding(n) {
			continue // softmax or argmax over the logits: recorded at the output
		}
		rule, ok := rules[n.Op]
		if !ok {
			problems = append(problems, ir.ProblemOf(n, "has no integer form", "move it outside of the model, or replace it by operators of the table in SUPPORTED_OPS"))
			continue
		}
		if !q.ready(n) {
			continue // an input was refused; one message is enough
		}
		err := operands(n)
		if err == nil {
			err = rule(q, n)
		}
		if err != nil {
			problems = append(problems, ir.ProblemOf(n, err.Error(), "see SUPPORTED_OPS for what has an integer form"))
		}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	for i := range g.Outputs {
		if err := q.output(i); err != nil {
			return nil, err
		}
	}
	return q.out, nil
}

// rules emit the integer form of a node, for each operator that has one
// in ir's table.
var rules map[string]func(*quantizer, *ir.Node) error

func init() {
	rules = map[string]func(*quantizer, *ir.Node) error{
		"embed":       (*quantizer).embed,
		"gated_conv":  (*quantizer).gatedConv,
		"conv":        (*quantizer).conv,
		"linear":      (*quantizer).linear,
		"affine":      (*quantizer).affine,
		"act":         (*quantizer).act,
		"add":         (*quantizer).addSub,
		"sub":         (*quantizer).addSub,
		"mul":         (*quantizer).mul,
		"div":         (*quantizer).div,
		"min":         (*quantizer).minMax,
		"max":         (*quantizer).minMax,
		"layer_norm":  (*quantizer).layerNorm,
		"pool":        (*quantizer).pool,
		"window_pool": (*quantizer).windowPool,
		"slice":       (*quantizer).slice,
		"concat":      (*quantizer).concat,
		"pad":         (*quantizer).pad,
		"flatten":     (*quantizer).flatten,
		"transpose":   (*quantizer).transpose,
		"regroup":     (*quantizer).regroup,
		"gather":      (*quantizer).gather,
		"softmax":     (*quantizer).softmax,
		"side":        (*quantizer).side,
	}
}

// operands checks that n reads constants where its integer form has them, and
// activations elsewhere.
func operands(n *ir.Node) error {
	first := ir.LookupOp(n.Op).Integer.Constants
	oneOf := first == ir.OneOf
	if oneOf || first == ir.Many {
		first = len(n.Inputs)
	}
	for i, v := range n.Inputs {
		switch {
		case v == nil:
		case i >= first && v.Const == nil:
			return fmt.Errorf("takes a computed value as input %d, where only a constant will do", i)
		case i < first && v.Const != nil && !(oneOf && n.Inputs[1-i].Const == nil):
			return fmt.Errorf("takes a constant as input %d, where only a computed value will do", i)
		}
	}
	return nil
}

type quantizer struct {
	src  *ir.Graph
	obs  *Observations
	opts Options
	clip clipFunc
	out  *ir.Graph
	vals map[*ir.Value]*quant
	uses map[*ir.Value][]*ir.Node
	// endings stand between an output and its logits.
	endings map[*ir.Node]bool
	// evened are forms with one scale for all channels; see even.
	evened map[*ir.Value]*quant
}

// quant is the integer form of a float value: real = scale*q + offset per
// channel.
type quant struct {
	val           *ir.Value
	scale, offset []float64
}

// uniform says that all channels share one scale and one offset.
func (q *quant) uniform() bool {
	for i := range q.scale {
		if q.scale[i] != q.scale[0] || q.offset[i] != q.offset[0] {
			return false
		}
	}
	return true
}

// limits is the range of an integer type.
func limits(d ir.DType) (lo, hi int32) {
	switch d {
	case ir.I8:
		return -128, 127
	case ir.I16:
		return -32768, 32767
	}
	return math.MinInt32, math.MaxInt32
}

func (q *quantizer) in(v *ir.Value) *quant { return q.vals[v] }

func (q *quantizer) ready(n *ir.Node) bool {
	for i, v := range n.Inputs {
		if v == nil || v.Const != nil || v.Def == nil {
			continue
		}
		if q.vals[n.Inputs[i]] == nil {
			return false
		}
	}
	return true
}

// emit appends an integer node that produces the form of float value v.
func (q *quantizer) emit(op string, n *ir.Node, v *ir.Value, d ir.DType, inputs []*ir.Value, attrs ir.Attrs) *ir.Value {
	return q.emitNamed(op, n, v.Name, ir.Type{DType: d, Shape: v.Type.Shape}, inputs, attrs)
}

func (q *quantizer) emitNamed(op string, n *ir.Node, name string, t ir.Type, inputs []*ir.Value, attrs ir.Attrs) *ir.Value {
	for len(inputs) > 0 && inputs[len(inputs)-1] == nil {
		inputs = inputs[:len(inputs)-1]
	}
	node := &ir.Node{Op: op, Origin: n.Origin, Inputs: inputs, Attrs: attrs}
	out := &ir.Value{Name: name, Type: t, Def: node}
	node.Outputs = []*ir.Value{out}
	q.out.Nodes = append(q.out.Nodes, node)
	return out
}

// set records the integer form of v.
func (q *quantizer) set(v *ir.Value, val *ir.Value, scale, offset []float64) {
	q.vals[v] = &quant{val: val, scale: scale, offset: offset}
}

// constant makes a constant value.
func constant[T any](name string, d ir.DType, data []T, shape ...int) *ir.Value {
	t := ir.Type{DType: d, Shape: shape}
	return &ir.Value{Name: name, Type: t, Const: &ir.Tensor{Type: t, Data: data}}
}

// channels is the number of channels of a value: its last dimension.
func channels(v *ir.Value) int {
	if len(v.Type.Shape) == 0 {
		return 1
	}
	return v.Type.Shape[len(v.Type.Shape)-1]
}

// rows is the number of positions of a value, 1 for a vector.
func rows(v *ir.Value) int {
	if len(v.Type.Shape) < 2 {
		return 1
	}
	return v.Type.Shape[0]
}

func fill(n int, x float64) []float64 {
	s := make([]float64, n)
	for i := range s {
		s[i] = x
	}
	return s
}

func floats(v *ir.Value) []float32 { return v.Const.Data.([]float32) }

func finite(data []float32) bool {
	for _, x := range data {
		if f := float64(x); math.IsNaN(f) || math.IsInf(f, 0) {
			return false
		}
	}
	return true
}
