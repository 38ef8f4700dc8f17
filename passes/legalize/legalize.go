// Package legalize rewrites canonical operators that have no integer step into
// ones that have, and refuses those for which there is no such rewrite, all at
// once and with a way out. It runs before calibration, so that the values in
// between get ranges like all others.
//
// For example
//
//	%m = max(%a, %b) : f32[128,64]
//
// becomes
//
//	%m.diff = sub(%b, %a) : f32[128,64]
//	%m.over = act(%m.diff) {fn="relu"} : f32[128,64]
//	%m = add(%a, %m.over) : f32[128,64]
//
// Quantize may then trust that every operator it meets has a rule.
package legalize

import (
	"fmt"
	"math"
	"slices"

	"nepcoc/internal/exact"
	"nepcoc/ir"
	"nepcoc/passes"
	"nepcoc/passes/internal/edit"
)

// Pass is the pass of this package.
var Pass = passes.Pass{
	Name: "legalize",
	Doc:  "rewrites operators without an integer step into ones that have one, and refuses the rest",
	Requires: []passes.Order{
		{Pass: "localize", Why: "mask arithmetic and functions of a single token need no integer form: they are gone by then"},
	},
	Run: run,
}

type legalizer struct {
	g     *ir.Graph
	names edit.Names
	uses  map[*ir.Value][]*ir.Node
	out   []*ir.Node
	node  *ir.Node // being rewritten
}

// refusal is a reason not to take a node.
type refusal struct{ reason, way string }

func (r *refusal) Error() string { return r.reason }

func refuse(way, format string, args ...any) error {
	return &refusal{fmt.Sprintf(format, args...), way}
}

func run(_ *passes.Context, g *ir.Graph) (*ir.Graph, error) {
	l := &legalizer{g: g, names: edit.NamesOf(g), uses: g.Consumers()}
	var problems ir.Problems
	refused := make(map[*ir.Value]bool)
	for _, n := range g.Nodes {
		l.node = n
		if rule := rules[n.Op]; rule != nil {
			if n.Op == "cast" && refused[n.Inputs[0]] {
				refused[n.Out()] = true // follows from what was said of its input
			} else if err := rule(l, n); err != nil {
				refused[n.Out()] = true
				p := ir.ProblemOf(n, err.Error(), "")
				if r, ok := err.(*refusal); ok {
					p.Way = r.way
				}
				problems = append(problems, p)
			}
		}
		l.out = append(l.out, n)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	g.Nodes = l.out
	return g, nil
}

// rules turn n into its last operator, after adding those before it.
var rules map[string]func(l *legalizer, n *ir.Node) error

func init() {
	rules = map[string]func(l *legalizer, n *ir.Node) error{
		"add": binary, "sub": binary, "mul": binary,
		"div": quotient, "min": extremum, "max": extremum, "pow": power,
		"act": act, "pad": pad, "cast": cast,
		"softmax": ending, "log_softmax": ending, "argmax": ending,
		"Equal": comparison, "Less": comparison, "LessOrEqual": comparison, "Greater": comparison, "GreaterOrEqual": comparison,
		"And": comparison, "Or": comparison, "Not": comparison, "Where": comparison,
	}
}

// add puts a node before the one being rewritten.
func (l *legalizer) add(suffix, op string, attrs ir.Attrs, in ...*ir.Value) (*ir.Value, error) {
	n, err := l.names.New(op, l.node.Origin, l.node.Out().Name+suffix, attrs, in...)
	if err != nil {
		return nil, err
	}
	l.out = append(l.out, n)
	return n.Out(), nil
}

func channels(v *ir.Value) int {
	if len(v.Type.Shape) == 0 {
		return 1
	}
	return v.Type.Shape[len(v.Type.Shape)-1]
}

// operands checks the operands of n: a computed operand of one channel is widened to the result's
// channels, which only a product does by itself, and so is a constant that differs from position to position.
func (l *legalizer) operands(n *ir.Node) error {
	if n.Out().Type.DType != ir.F32 {
		return refuse("cast to float first, and compute in float", "integer arithmetic on values that are no mask")
	}
	c, computed := channels(n.Out()), 0
	for _, v := range n.Inputs {
		if v.Const == nil {
			computed++
			continue
		}
	}
	for i, v := range n.Inputs {
		switch {
		case v.Const != nil:
			if s := v.Type.Shape; len(s) > 1 && s[0] != 1 {
				if n.Op != "mul" && s[1] != c {
					n.Inputs[i] = l.names.Const(v.Name, widened(v, c))
				}
			} else if len(s) > 1 { // [1,C] is [C]
				flat := &ir.Tensor{Type: ir.Type{DType: v.Type.DType, Shape: s[1:]}, Data: v.Const.Data}
				n.Inputs[i] = l.names.Const(v.Name, flat)
			}
		case channels(v) != c && (n.Op != "mul" || computed < 2):
			w := make([]float32, c)
			for j := range w {
				w[j] = 1
			}
			wide, err := l.add(".wide", "linear", nil, v, l.names.Const(n.Out().Name+".ones", edit.F32(w, c, 1)))
			if err != nil {
				return err
			}
			n.Inputs[i] = wide
		}
	}
	return nil
}

// widened repeats the only channel of a constant [T,1] c times.
func widened(v *ir.Value, c int) *ir.Tensor {
	var out []float32
	for _, x := range edit.Floats(v) {
		for range c {
			out = append(out, x)
		}
	}
	return edit.F32(out, v.Type.Shape[0], c)
}

func binary(l *legalizer, n *ir.Node) error { return l.operands(n) }

// quotient: a/b = a * (1/b).
func quotient(l *legalizer, n *ir.Node) error {
	if err := l.operands(n); err != nil {
		return err
	}
	a, b := n.Inputs[0], n.Inputs[1]
	if b.Const != nil {
		for _, x := range edit.Floats(b) {
			if x == 0 {
				return refuse("add a small number to the divisor", "the divisor %s holds a zero", b.Type)
			}
		}
		if s := b.Type.Shape; len(s) > 1 && s[0] != 1 { // times what differs from position to position
			inverse := make([]float32, b.Type.Len())
			for i, x := range edit.Floats(b) {
				inverse[i] = 1 / x
			}
			edit.Become(n, "mul", nil, a, l.names.Const(b.Name, edit.F32(inverse, s...)))
		}
		return nil
	}
	inverse, err := l.add(".inverse", "act", ir.Attrs{"fn": "reciprocal"}, b)
	if err != nil {
		return err
	}
	edit.Become(n, "mul", nil, a, inverse)
	return nil
}

// extremum: max(a,b) = a + relu(b-a), min(a,b) = a - relu(a-b). One bound for
// all channels stays: it is a clamp.
func extremum(l *legalizer, n *ir.Node) error {
	if err := l.operands(n); err != nil {
		return err
	}
	a, b := n.Inputs[0], n.Inputs[1]
	if a.Const != nil {
		a, b = b, a
	}
	if b.Const != nil && b.Type.Len() == 1 {
		return nil
	}
	if b.Const != nil { // b + relu(a-b), so that only a is computed once
		a, b = b, a
	}
	last, over := "add", []*ir.Value{b, a}
	if n.Op == "min" {
		last, over = "sub", []*ir.Value{a, b}
	}
	diff, err := l.add(".diff", "sub", nil, over...)
	if err != nil {
		return err
	}
	relu, err := l.add(".over", "act", ir.Attrs{"fn": "relu"}, diff)
	if err != nil {
		return err
	}
	edit.Become(n, last, nil, a, relu)
	return nil
}

// power takes a constant exponent, or a constant base: c^x = exp(x ln c).
func power(l *legalizer, n *ir.Node) error {
	if err := l.operands(n); err != nil {
		return err
	}
	if e, ok := edit.Scalar(n.Inputs[1]); ok {
		edit.Become(n, "act", ir.Attrs{"fn": "pow", "alpha": e}, n.Inputs[0])
		return nil
	}
	base, ok := edit.Scalar(n.Inputs[0])
	if !ok || base <= 0 {
		return refuse("use a constant exponent", "Pow of two computed values, or with an exponent per channel")
	}
	x, err := l.add(".log", "mul", nil, n.Inputs[1], l.names.Const(n.Out().Name+".base", edit.F32([]float32{float32(exact.Log(base))}, 1)))
	if err != nil {
		return err
	}
	edit.Become(n, "act", ir.Attrs{"fn": "exp"}, x)
	return nil
}

func act(_ *legalizer, n *ir.Node) error {
	if slope := n.Input(1); slope != nil && len(slope.Type.Shape) > 1 && slope.Type.Shape[0] != 1 {
		return refuse("use one slope, or one per channel", "the slopes %s differ from position to position", slope.Type)
	}
	return nil
}

// pad with a constant is the padding of a convolution of each channel with
// itself: (x - v) padded with zeros, + v.
func pad(l *legalizer, n *ir.Node) error {
	if n.Str("mode", "constant") != "constant" {
		return nil
	}
	x, c, value := n.Inputs[0], channels(n.Out()), n.Float("value", 0)
	if math.Abs(value) >= huge {
		return refuse("pad with a number of the size of the data; in front of a max pooling use its own padding", "pads with %g, which leaves no integers for the data", value)
	}
	ones, shift, back := make([]float32, c), make([]float32, c), make([]float32, c)
	for i := range ones {
		ones[i], shift[i], back[i] = 1, float32(-value), float32(value)
	}
	name := n.Out().Name
	if value != 0 {
		var err error
		if x, err = l.add(".shifted", "affine", nil, x, l.names.Vec(name+".one", ones), l.names.Vec(name+".shift", shift)); err != nil {
			return err
		}
	}
	attrs := ir.Attrs{"groups": c}
	for key, from := range map[string]string{"pad_left": "left", "pad_right": "right"} {
		if d := n.Int(from, 0); d != 0 {
			attrs[key] = d
		}
	}
	edit.Become(n, "conv", attrs, x, l.names.Const(name+".w", edit.F32(ones, c, 1, 1)), l.names.Vec(name+".value", back))
	return nil
}

// huge is a padding that stands for "minus infinity" rather than for a number.
const huge = 1e4

// ending lets a softmax, then an argmax, then casts end the model: they keep
// the order of the logits, so the program ends before them.
func ending(l *legalizer, n *ir.Node) error {
	if n.Op == "softmax" && !slices.Contains(l.g.Outputs, n.Out()) && !slices.ContainsFunc(l.uses[n.Out()], func(u *ir.Node) bool { return edit.EndingRank(u) > 0 }) {
		return nil // weights
	}
	for _, u := range l.uses[n.Out()] {
		if edit.EndingRank(u) <= edit.EndingRank(n) && u.Op != "cast" {
			return refuse("let "+n.Op+" be the last operator of an output, and compute with the logits instead",
				"%s in the middle of the model: the program ends at the logits", n.Op)
		}
	}
	return nil
}

func cast(l *legalizer, n *ir.Node) error {
	if d := n.Inputs[0].Def; d != nil && edit.EndingRank(d) > 0 {
		return ending(l, n)
	}
	return refuse("leave casts to integers (rounding) out of the model; cast inputs only", "a cast of a computed value to %s", n.Str("to", ""))
}

func comparison(_ *legalizer, n *ir.Node) error {
	return refuse("use comparisons and torch.where for the mask of valid positions only; gate with sigmoid or relu", "%s of computed values: a function with jumps", n.Op)
}
