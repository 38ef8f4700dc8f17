package ir

import (
	"fmt"
	"slices"
)

// ReduceAxes are the axes that a Reduce* node reduces, in increasing order;
// empty where noop_with_empty_axes makes it an identity.
func ReduceAxes(n *Node) ([]int, error) {
	rank := len(n.Inputs[0].Type.Shape)
	axes, _, err := optionalInts(n, 1)
	if err != nil {
		return nil, err
	}
	if len(axes) == 0 && n.Int("noop_with_empty_axes", 0) == 0 {
		for i := range rank {
			axes = append(axes, i)
		}
	}
	axes, err = normalizeAxes(axes, rank)
	slices.Sort(axes)
	return axes, err
}

func inferReduce(n *Node) ([]Type, error) {
	if err := wantType(n, 0, numericTypes); err != nil {
		return nil, err
	}
	axes, err := ReduceAxes(n)
	if err != nil {
		return nil, err
	}
	x := n.Inputs[0].Type
	return typed(x.DType, reducedShape(x.Shape, axes, n.Int("keepdims", 1) != 0)...), nil
}

func reducedShape(in, axes []int, keep bool) []int {
	shape := []int{}
	for i, d := range in {
		switch reduced := slices.Contains(axes, i); {
		case !reduced:
			shape = append(shape, d)
		case keep:
			shape = append(shape, 1)
		}
	}
	return shape
}

func inferArg(n *Node) ([]Type, error) {
	if err := wantType(n, 0, numericTypes); err != nil {
		return nil, err
	}
	x := n.Inputs[0].Type
	axis, err := NormalizeAxis(n.Int("axis", 0), len(x.Shape))
	if err != nil {
		return nil, err
	}
	if x.Shape[axis] == 0 {
		return nil, fmt.Errorf("dimension %d of %s is empty", axis, x)
	}
	return typed(I64, reducedShape(x.Shape, []int{axis}, n.Int("keepdims", 1) != 0)...), nil
}

func inferSoftmax(n *Node) ([]Type, error) {
	if err := wantType(n, 0, floatTypes); err != nil {
		return nil, err
	}
	x := n.Inputs[0].Type
	_, err := NormalizeAxis(n.Int("axis", -1), len(x.Shape))
	return one(x), err
}
