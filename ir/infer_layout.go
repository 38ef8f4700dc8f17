package ir

import (
	"errors"
	"fmt"
	"slices"
)

// This file has the rules of operators that move elements without computing:
// the plans they return (SliceRanges, PadAmounts, ...) are what the
// interpreter executes, so that rule and execution can't disagree.

// Span selects count elements start, start+step, ... of one axis.
type Span struct{ Start, Step, Count int }

// SliceRanges is the selection of a Slice or slice node, one Span per axis.
func SliceRanges(n *Node) ([]Span, error) {
	x := n.Inputs[0].Type
	spans := make([]Span, len(x.Shape))
	for i, d := range x.Shape {
		spans[i] = Span{0, 1, d}
	}
	if n.Op == "slice" {
		axis, err := NormalizeAxis(n.Int("axis", 0), len(x.Shape))
		if err != nil {
			return nil, err
		}
		s := Span{n.Int("start", 0), n.Int("step", 1), n.Int("count", 0)}
		last := s.Start + (s.Count-1)*s.Step
		if s.Count < 0 || s.Count > 0 && (s.Start < 0 || s.Start >= x.Shape[axis] || last < 0 || last >= x.Shape[axis]) {
			return nil, fmt.Errorf("elements %d, %d, ... (%d of them) are outside a dimension of %d", s.Start, s.Start+s.Step, s.Count, x.Shape[axis])
		}
		spans[axis] = s
		return spans, nil
	}
	starts, err := constInts(n, 1)
	if err != nil {
		return nil, err
	}
	ends, err := constInts(n, 2)
	if err != nil {
		return nil, err
	}
	axes, given, err := optionalInts(n, 3)
	if err != nil {
		return nil, err
	}
	if !given {
		if len(starts) > len(x.Shape) {
			return nil, fmt.Errorf("%d starts for rank %d", len(starts), len(x.Shape))
		}
		for i := range starts {
			axes = append(axes, i)
		}
	}
	steps, given, err := optionalInts(n, 4)
	if err != nil {
		return nil, err
	}
	if len(ends) != len(starts) || len(axes) != len(starts) || given && len(steps) != len(starts) {
		return nil, fmt.Errorf("starts, ends, axes and steps have %d, %d, %d and %d entries", len(starts), len(ends), len(axes), len(steps))
	}
	if axes, err = normalizeAxes(axes, len(x.Shape)); err != nil {
		return nil, err
	}
	for i, a := range axes {
		step := 1
		if given {
			step = steps[i]
		}
		if step == 0 {
			return nil, errors.New("a step is 0")
		}
		spans[a] = sliceSpan(starts[i], ends[i], step, x.Shape[a])
	}
	return spans, nil
}

// sliceSpan clamps as ONNX and numpy do; step may be any non-zero int.
func sliceSpan(start, end, step, dim int) Span {
	step = min(max(step, -MaxElements), MaxElements)
	lo, hi := 0, dim
	if step < 0 {
		lo, hi = -1, dim-1
	}
	clamp := func(v int) int {
		if v < 0 {
			v += dim
		}
		return min(max(v, lo), hi)
	}
	start, end = clamp(start), clamp(end)
	count := 0
	if step > 0 && end > start {
		count = (end - start + step - 1) / step
	} else if step < 0 && end < start {
		count = (start - end - step - 1) / -step
	}
	return Span{start, step, count}
}

func inferSlice(n *Node) ([]Type, error) {
	spans, err := SliceRanges(n)
	if err != nil {
		return nil, err
	}
	shape := make([]int, len(spans))
	for i, s := range spans {
		shape[i] = s.Count
	}
	return typed(n.Inputs[0].Type.DType, shape...), nil
}

// PadAmounts are the elements that a Pad or pad node adds (or, negative,
// takes away) before and after each axis.
func PadAmounts(n *Node) (before, after []int, err error) {
	rank := len(n.Inputs[0].Type.Shape)
	before, after = make([]int, rank), make([]int, rank)
	if n.Op == "pad" {
		if err := wantRank(n, 0, 1, 2); err != nil {
			return nil, nil, err
		}
		before[0], after[0] = n.Int("left", 0), n.Int("right", 0)
		return before, after, nil
	}
	pads, err := constInts(n, 1)
	if err != nil {
		return nil, nil, err
	}
	axes, given, err := optionalInts(n, 3)
	if err != nil {
		return nil, nil, err
	}
	if !given {
		for i := range rank {
			axes = append(axes, i)
		}
	}
	if axes, err = normalizeAxes(axes, rank); err != nil {
		return nil, nil, err
	}
	if len(pads) != 2*len(axes) {
		return nil, nil, fmt.Errorf("%d pads for %d axes", len(pads), len(axes))
	}
	for i, a := range axes {
		before[a], after[a] = pads[i], pads[len(axes)+i]
		if !smallInt(before[a]) || !smallInt(after[a]) {
			return nil, nil, fmt.Errorf("pads %v are out of range", pads)
		}
	}
	return before, after, nil
}

func inferPad(n *Node) ([]Type, error) {
	x := n.Inputs[0].Type
	if err := firstError(sameType(n, 2), wantScalar(n, 2)); err != nil {
		return nil, err
	}
	before, after, err := PadAmounts(n)
	if err != nil {
		return nil, err
	}
	shape := make([]int, len(x.Shape))
	for i, d := range x.Shape {
		shape[i] = before[i] + d + after[i]
		if shape[i] < 0 {
			return nil, fmt.Errorf("pads take more than there is of dimension %d of %s", i, x)
		}
		if mode := n.Str("mode", "constant"); mode != "constant" && d == 0 && shape[i] > 0 {
			return nil, fmt.Errorf("mode %s can't extend an empty dimension", mode)
		}
	}
	return typed(x.DType, shape...), nil
}

func inferConcat(n *Node) ([]Type, error) {
	x := n.Inputs[0].Type
	axis, err := NormalizeAxis(n.Int("axis", 0), len(x.Shape))
	if err != nil {
		return nil, err
	}
	shape := slices.Clone(x.Shape)
	for i, v := range n.Inputs[1:] {
		if err := sameType(n, i+1); err != nil {
			return nil, err
		}
		s := v.Type.Shape
		if len(s) != len(shape) {
			return nil, fmt.Errorf("inputs are %s and %s", x, v.Type)
		}
		for j := range s {
			if j != axis && s[j] != shape[j] {
				return nil, fmt.Errorf("inputs are %s and %s, joined along axis %d", x, v.Type, axis)
			}
		}
		shape[axis] += s[axis]
		if shape[axis] > MaxElements {
			return nil, fmt.Errorf("joined dimension is above %d", MaxElements)
		}
	}
	return typed(x.DType, shape...), nil
}

// SplitSizes are the axis and the sizes along it of a Split node's outputs.
func SplitSizes(n *Node) (axis int, sizes []int, err error) {
	x := n.Inputs[0].Type
	if axis, err = NormalizeAxis(n.Int("axis", 0), len(x.Shape)); err != nil {
		return 0, nil, err
	}
	dim, count := x.Shape[axis], len(n.Outputs)
	sizes, given, err := optionalInts(n, 1)
	if err != nil {
		return 0, nil, err
	}
	if given {
		left := dim
		for _, s := range sizes {
			if s < 0 || s > left {
				return 0, nil, fmt.Errorf("parts %v don't add up to %d", sizes, dim)
			}
			left -= s
		}
		if left != 0 || len(sizes) != count {
			return 0, nil, fmt.Errorf("parts %v don't make %d outputs of a dimension of %d", sizes, count, dim)
		}
		return axis, sizes, nil
	}
	_, uneven := n.Attrs["num_outputs"]
	if want := n.Int("num_outputs", count); want != count {
		return 0, nil, fmt.Errorf("num_outputs is %d, node has %d outputs", want, count)
	}
	if !uneven && dim%count != 0 {
		return 0, nil, fmt.Errorf("a dimension of %d doesn't divide into %d equal parts", dim, count)
	}
	part := (dim + count - 1) / count
	for left := dim; len(sizes) < count; left -= min(part, left) {
		sizes = append(sizes, min(part, left))
	}
	return axis, sizes, nil
}

func inferSplit(n *Node) ([]Type, error) {
	axis, sizes, err := SplitSizes(n)
	if err != nil {
		return nil, err
	}
	x := n.Inputs[0].Type
	types := make([]Type, len(sizes))
	for i, s := range sizes {
		types[i] = one(x)[0]
		types[i].Shape[axis] = s
	}
	return types, nil
}

// Permutation is the perm of a Transpose: given, or the reversed axes.
func Permutation(n *Node) ([]int, error) {
	rank := len(n.Inputs[0].Type.Shape)
	perm := n.Ints("perm")
	if _, given := n.Attrs["perm"]; !given {
		for i := rank - 1; i >= 0; i-- {
			perm = append(perm, i)
		}
	}
	if len(perm) != rank {
		return nil, fmt.Errorf("perm %v is not a permutation of rank %d", perm, rank)
	}
	return normalizeAxes(perm, rank)
}

func inferTranspose(n *Node) ([]Type, error) {
	perm, err := Permutation(n)
	if err != nil {
		return nil, err
	}
	x := n.Inputs[0].Type
	shape := make([]int, len(perm))
	for i, p := range perm {
		shape[i] = x.Shape[p]
	}
	return typed(x.DType, shape...), nil
}

func inferReshape(n *Node) ([]Type, error) {
	x := n.Inputs[0].Type
	want, allowZero := n.Ints("shape"), true
	if n.Op == "Reshape" {
		var err error
		if want, err = constInts(n, 1); err != nil {
			return nil, err
		}
		allowZero = n.Int("allowzero", 0) != 0
	}
	shape, free := slices.Clone(want), -1
	for i, d := range shape {
		switch {
		case d == -1 && free < 0:
			free, shape[i] = i, 1
		case d == 0 && !allowZero:
			if i >= len(x.Shape) {
				return nil, fmt.Errorf("shape %v copies dimension %d, which %s hasn't", want, i, x)
			}
			shape[i] = x.Shape[i]
		case d < 0:
			return nil, fmt.Errorf("shape %v is not valid", want)
		}
	}
	rest, err := ShapeLen(shape)
	if err != nil {
		return nil, err
	}
	if free >= 0 {
		if rest == 0 || x.Len()%rest != 0 {
			return nil, fmt.Errorf("%s can't take shape %v", x, want)
		}
		shape[free] = x.Len() / rest
		rest = x.Len()
	}
	if rest != x.Len() {
		return nil, fmt.Errorf("%s can't take shape %v", x, want)
	}
	return typed(x.DType, shape...), nil
}

func inferFlatten(n *Node) ([]Type, error) {
	x := n.Inputs[0].Type
	axis, rank := n.Int("axis", 1), len(x.Shape)
	if axis < -rank || axis > rank {
		return nil, fmt.Errorf("axis %d is outside rank %d", axis, rank)
	}
	if axis < 0 {
		axis += rank
	}
	return typed(x.DType, NumElements(x.Shape[:axis]), NumElements(x.Shape[axis:])), nil
}

func inferSqueeze(n *Node) ([]Type, error) {
	x := n.Inputs[0].Type
	axes, given, err := optionalInts(n, 1)
	if err != nil {
		return nil, err
	}
	if axes, err = normalizeAxes(axes, len(x.Shape)); err != nil {
		return nil, err
	}
	shape := []int{}
	for i, d := range x.Shape {
		switch drop := slices.Contains(axes, i); {
		case drop && d != 1:
			return nil, fmt.Errorf("dimension %d of %s is not 1", i, x)
		case !drop && (given || d != 1):
			shape = append(shape, d)
		}
	}
	return typed(x.DType, shape...), nil
}

func inferUnsqueeze(n *Node) ([]Type, error) {
	x := n.Inputs[0].Type
	axes, err := constInts(n, 1)
	if err != nil {
		return nil, err
	}
	rank := len(x.Shape) + len(axes)
	if rank > MaxRank {
		return nil, fmt.Errorf("rank %d is above the limit of %d", rank, MaxRank)
	}
	if axes, err = normalizeAxes(axes, rank); err != nil {
		return nil, err
	}
	shape, rest := make([]int, rank), x.Shape
	for i := range shape {
		if slices.Contains(axes, i) {
			shape[i] = 1
		} else {
			shape[i], rest = rest[0], rest[1:]
		}
	}
	return typed(x.DType, shape...), nil
}

func inferExpand(n *Node) ([]Type, error) {
	x := n.Inputs[0].Type
	want, err := constInts(n, 1)
	if err != nil {
		return nil, err
	}
	if _, err := ShapeLen(want); err != nil {
		return nil, err
	}
	shape, err := Broadcast(x.Shape, want)
	return typed(x.DType, shape...), err
}

func inferTile(n *Node) ([]Type, error) {
	x := n.Inputs[0].Type
	repeats, err := constInts(n, 1)
	if err != nil {
		return nil, err
	}
	if len(repeats) != len(x.Shape) {
		return nil, fmt.Errorf("%d repeats for %s", len(repeats), x)
	}
	shape := slices.Clone(x.Shape)
	for i, r := range repeats {
		if r < 0 || r > MaxElements {
			return nil, fmt.Errorf("repeats %v are out of range", repeats)
		}
		shape[i] *= r
	}
	return typed(x.DType, shape...), nil
}

func inferGather(n *Node) ([]Type, error) {
	x, idx := n.Inputs[0].Type, n.Inputs[1].Type
	if err := wantType(n, 1, indexTypes); err != nil {
		return nil, err
	}
	axis, err := NormalizeAxis(n.Int("axis", 0), len(x.Shape))
	if err != nil {
		return nil, err
	}
	return typed(x.DType, slices.Concat(x.Shape[:axis], idx.Shape, x.Shape[axis+1:])...), nil
}

// ShapeRange is the part first:last of the dimensions that a Shape node reports.
func ShapeRange(n *Node) (first, last int) {
	rank := len(n.Inputs[0].Type.Shape)
	clamp := func(v int) int {
		if v < 0 {
			v += rank
		}
		return min(max(v, 0), rank)
	}
	first, last = clamp(n.Int("start", 0)), clamp(n.Int("end", rank))
	return first, max(first, last)
}

func inferShape(n *Node) ([]Type, error) {
	first, last := ShapeRange(n)
	return typed(I64, last-first), nil
}

func inferSize(*Node) ([]Type, error) { return typed(I64), nil }

func inferConstantOfShape(n *Node) ([]Type, error) {
	shape, err := constInts(n, 0)
	if err != nil {
		return nil, err
	}
	d, ok := ParseDType(n.Str("dtype", "f32"))
	if !ok {
		return nil, fmt.Errorf("attribute dtype: %q is not an element type", n.Str("dtype", ""))
	}
	return typed(d, shape...), nil
}

func inferConstant(*Node) ([]Type, error) {
	return nil, errors.New("the importer makes Constant nodes constants of the graph")
}
