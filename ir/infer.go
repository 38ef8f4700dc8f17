package ir

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// Infer is the shape rule: the types of a node's outputs, from the types and
// constants of its inputs, its attributes and the number of its outputs. It
// checks arity and attributes first, and never panics on a bad node.
//
// errors.Is(err, ErrDeclared): the element type can't be inferred, and none is declared.
// errors.Is(err, ErrNotConst): they depend on an input that is not constant.
func Infer(n *Node) ([]Type, error) {
	op := LookupOp(n.Op)
	if op == nil {
		return nil, fmt.Errorf("operator %q is not known", n.Op)
	}
	if bad := op.form(n); len(bad) > 0 {
		return nil, fmt.Errorf("%s: %s", n.Op, strings.Join(bad, "; "))
	}
	for i, v := range n.Inputs {
		if v == nil {
			continue
		}
		if err := v.Type.Validate(); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", n.Op, op.inputName(i), err)
		}
	}
	types, err := op.infer(n)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Op, err)
	}
	for i, t := range types {
		if err := t.Validate(); err != nil {
			return nil, fmt.Errorf("%s: output %d: %w", n.Op, i, err)
		}
	}
	if len(types) != len(n.Outputs) {
		return nil, fmt.Errorf("%s: has %d outputs, gives %d", n.Op, len(n.Outputs), len(types))
	}
	return types, nil
}

// Sets of element types for the rules.
var (
	floatTypes   = []DType{F32, F64}
	signedTypes  = []DType{F32, F64, I64, I32, I16, I8}
	integerTypes = []DType{I64, I32, I16, I8, U8, U16}
	numericTypes = []DType{F32, F64, I64, I32, I16, I8, U8, U16}
	indexTypes   = []DType{I64, I32}
	boolTypes    = []DType{Bool}
)

func wantType(n *Node, i int, allowed []DType) error {
	if v := n.Input(i); v != nil && !slices.Contains(allowed, v.Type.DType) {
		names := make([]string, len(allowed))
		for j, d := range allowed {
			names[j] = d.String()
		}
		return fmt.Errorf("%s is %s, wants %s", opInput(n, i), v.Type, strings.Join(names, ", "))
	}
	return nil
}

// sameType checks that input i, if present, has the element type of input 0.
func sameType(n *Node, inputs ...int) error {
	for _, i := range inputs {
		v := n.Input(i)
		if v != nil && v.Type.DType != n.Inputs[0].Type.DType {
			return fmt.Errorf("%s is %s, wants the element type of input 0, %s",
				opInput(n, i), v.Type, n.Inputs[0].Type.DType)
		}
	}
	return nil
}

func wantRank(n *Node, i, lo, hi int) error {
	v := n.Input(i)
	if v == nil {
		return nil
	}
	if r := len(v.Type.Shape); r < lo || r > hi {
		return fmt.Errorf("%s is %s, wants rank %s", opInput(n, i), v.Type, arity(lo, hi))
	}
	return nil
}

func wantShape(n *Node, i int, shape ...int) error {
	if v := n.Input(i); v != nil && !equalInts(v.Type.Shape, shape) {
		return fmt.Errorf("%s is %s, wants shape %v", opInput(n, i), v.Type, shape)
	}
	return nil
}

// wantScalar takes shape [] and, as exporters write it, [1].
func wantScalar(n *Node, i int) error {
	if v := n.Input(i); v != nil && (v.Type.Len() != 1 || len(v.Type.Shape) > 1) {
		return fmt.Errorf("%s is %s, wants a scalar", opInput(n, i), v.Type)
	}
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func opInput(n *Node, i int) string {
	if op := LookupOp(n.Op); op != nil {
		return op.inputName(i)
	}
	return fmt.Sprintf("input %d", i)
}

// constInts reads a constant integer vector (or scalar) input.
func constInts(n *Node, i int) ([]int, error) {
	v := n.Input(i)
	if err := firstError(wantType(n, i, indexTypes), wantRank(n, i, 0, 1)); err != nil {
		return nil, err
	}
	if v.Const == nil {
		return nil, fmt.Errorf("%s is %w", opInput(n, i), ErrNotConst)
	}
	if err := v.Const.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", opInput(n, i), err)
	}
	ints, ok := v.Const.Ints()
	if !ok {
		return nil, fmt.Errorf("%s is %s, wants integers", opInput(n, i), v.Const.Type)
	}
	return ints, nil
}

// optionalInts is constInts for an input that may be omitted (given false).
func optionalInts(n *Node, i int) (ints []int, given bool, err error) {
	if n.Input(i) == nil {
		return nil, false, nil
	}
	ints, err = constInts(n, i)
	return ints, true, err
}

// NormalizeAxis maps a possibly negative axis of a tensor of the given rank
// to 0..rank-1.
func NormalizeAxis(axis, rank int) (int, error) {
	if axis < -rank || axis >= rank {
		return 0, fmt.Errorf("axis %d is outside rank %d", axis, rank)
	}
	if axis < 0 {
		axis += rank
	}
	return axis, nil
}

// normalizeAxes also refuses an axis given twice.
func normalizeAxes(axes []int, rank int) ([]int, error) {
	out := make([]int, 0, min(len(axes), rank))
	for _, a := range axes {
		a, err := NormalizeAxis(a, rank)
		if err != nil {
			return nil, err
		}
		if slices.Contains(out, a) {
			return nil, fmt.Errorf("axis %d is given twice", a)
		}
		out = append(out, a)
	}
	return out, nil
}

// Broadcast is numpy's rule for two shapes.
func Broadcast(a, b []int) ([]int, error) {
	out := make([]int, max(len(a), len(b)))
	for i := range out {
		da, db := 1, 1
		if j := i - len(out) + len(a); j >= 0 {
			da = a[j]
		}
		if j := i - len(out) + len(b); j >= 0 {
			db = b[j]
		}
		switch {
		case da == db || db == 1:
			out[i] = da
		case da == 1:
			out[i] = db
		default:
			return nil, fmt.Errorf("shapes %v and %v don't broadcast", a, b)
		}
	}
	return out, nil
}

func broadcastAll(n *Node) ([]int, error) {
	shape := n.Inputs[0].Type.Shape
	var err error
	for _, v := range n.Inputs[1:] {
		if shape, err = Broadcast(shape, v.Type.Shape); err != nil {
			return nil, err
		}
	}
	return slices.Clone(shape), nil
}

func one(t Type) []Type { return []Type{{t.DType, slices.Clone(t.Shape)}} }

func typed(d DType, shape ...int) []Type { return []Type{{d, shape}} }

// inferSame is the rule of operators that keep type and shape of input 0.
func inferSame(allowed []DType) func(*Node) ([]Type, error) {
	return func(n *Node) ([]Type, error) {
		if err := wantType(n, 0, allowed); err != nil {
			return nil, err
		}
		return one(n.Inputs[0].Type), nil
	}
}

// inferBroadcast is the rule of element-wise operators on inputs of one
// element type; out Invalid keeps that type.
func inferBroadcast(allowed []DType, out DType) func(*Node) ([]Type, error) {
	return func(n *Node) ([]Type, error) {
		d := n.Inputs[0].Type.DType
		for i := range n.Inputs {
			if err := firstError(wantType(n, i, allowed), sameType(n, i)); err != nil {
				return nil, err
			}
		}
		shape, err := broadcastAll(n)
		if out != Invalid {
			d = out
		}
		return typed(d, shape...), err
	}
}

func inferPow(n *Node) ([]Type, error) {
	if err := firstError(wantType(n, 0, numericTypes), wantType(n, 1, numericTypes)); err != nil {
		return nil, err
	}
	shape, err := broadcastAll(n)
	return typed(n.Inputs[0].Type.DType, shape...), err
}

func inferPRelu(n *Node) ([]Type, error) {
	if err := firstError(wantType(n, 0, floatTypes), sameType(n, 1)); err != nil {
		return nil, err
	}
	return one(n.Inputs[0].Type), broadcastsTo(n, 1)
}

// broadcastsTo checks one-directional broadcasting of input i to input 0.
func broadcastsTo(n *Node, i int) error {
	x, s := n.Inputs[0].Type, n.Inputs[i].Type
	shape, err := Broadcast(x.Shape, s.Shape)
	if err != nil || !equalInts(shape, x.Shape) {
		return fmt.Errorf("%s is %s, doesn't broadcast to %s", opInput(n, i), s, x)
	}
	return nil
}

func inferWhere(n *Node) ([]Type, error) {
	if err := wantType(n, 0, boolTypes); err != nil {
		return nil, err
	}
	x, y := n.Inputs[1].Type, n.Inputs[2].Type
	if x.DType != y.DType {
		return nil, fmt.Errorf("branches are %s and %s", x, y)
	}
	shape, err := broadcastAll(n)
	return typed(x.DType, shape...), err
}

func inferClip(n *Node) ([]Type, error) {
	err := firstError(wantType(n, 0, numericTypes), sameType(n, 1, 2), wantScalar(n, 1), wantScalar(n, 2))
	return one(n.Inputs[0].Type), err
}

func inferCast(n *Node) ([]Type, error) {
	d, ok := ParseDType(n.Str("to", ""))
	if !ok {
		return nil, fmt.Errorf("attribute to: %q is not an element type", n.Str("to", ""))
	}
	return typed(d, slices.Clone(n.Inputs[0].Type.Shape)...), nil
}

func inferRange(n *Node) ([]Type, error) {
	for i := range 3 {
		if err := firstError(wantType(n, i, numericTypes), sameType(n, i), wantScalar(n, i)); err != nil {
			return nil, err
		}
	}
	var v [3]float64
	for i := range v {
		c := n.Inputs[i].Const
		if c == nil {
			return nil, fmt.Errorf("%s is %w", opInput(n, i), ErrNotConst)
		}
		if err := c.Validate(); err != nil {
			return nil, err
		}
		f, ok := c.Floats()
		if !ok || len(f) != 1 {
			return nil, errors.New("bounds must be numbers")
		}
		v[i] = f[0]
	}
	count := math.Ceil((v[1] - v[0]) / v[2])
	if v[2] == 0 || math.IsNaN(count) || count > MaxElements {
		return nil, fmt.Errorf("range from %g to %g by %g has no sensible length", v[0], v[1], v[2])
	}
	return typed(n.Inputs[0].Type.DType, int(max(count, 0))), nil
}
