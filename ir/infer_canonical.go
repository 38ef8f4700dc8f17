package ir

import (
	"errors"
	"fmt"
	"slices"
)

var f32Only = []DType{F32}

func inferEmbed(n *Node) ([]Type, error) {
	err := firstError(wantType(n, 0, integerTypes), wantType(n, 1, f32Only), wantRank(n, 0, 1, 1), wantRank(n, 1, 2, 2))
	if err == nil && len(n.Inputs) > 2 {
		err = wantFactors(n)
	}
	return typed(F32, n.Inputs[0].Type.dim(0), n.Inputs[1].Type.dim(1)), err
}

// wantFactors checks the inputs of embed whose product its table is.
func wantFactors(n *Node) error {
	if n.Input(2) == nil || n.Input(3) == nil {
		return errors.New("takes narrow rows and the weights that widen them, or neither")
	}
	table, narrow := n.Inputs[1].Type, n.Inputs[2].Type
	return firstError(wantType(n, 2, f32Only), wantType(n, 3, f32Only), wantType(n, 4, f32Only), wantRank(n, 2, 2, 2),
		wantShape(n, 2, table.dim(0), narrow.dim(1)), wantShape(n, 3, table.dim(1), narrow.dim(1)), wantShape(n, 4, table.dim(1)))
}

// dim is a dimension, 0 where the rank is too small.
func (t Type) dim(i int) int {
	if i < len(t.Shape) {
		return t.Shape[i]
	}
	return 0
}

func inferLinear(n *Node) ([]Type, error) {
	err := firstError(wantType(n, 0, f32Only), sameType(n, 1, 2), wantRank(n, 0, 1, 2), wantRank(n, 1, 2, 2))
	if err != nil {
		return nil, err
	}
	x, w := n.Inputs[0].Type, n.Inputs[1].Type.Shape
	last := len(x.Shape) - 1
	if x.Shape[last] != w[1] {
		return nil, fmt.Errorf("input %s, weight %v", x, w)
	}
	out := one(x)
	out[0].Shape[last] = w[0]
	return out, wantShape(n, 2, w[0])
}

// positions is the number of windows of extent (k-1)*dilation+1 over a padded
// input.
func positions(in, k, stride, dilation, left, right int) (int, error) {
	if k < 1 || stride < 1 || dilation < 1 || left < 0 || right < 0 {
		return 0, fmt.Errorf("k %d, stride %d, dilation %d must be >= 1 and pads %d, %d >= 0", k, stride, dilation, left, right)
	}
	room := in + left + right - ((k-1)*dilation + 1)
	if room < 0 {
		return 0, fmt.Errorf("the window of %d is larger than the padded input of %d", (k-1)*dilation+1, in+left+right)
	}
	return room/stride + 1, nil
}

func inferCanonicalConv(n *Node) ([]Type, error) {
	err := firstError(wantType(n, 0, f32Only), sameType(n, 1, 2), wantRank(n, 0, 2, 2), wantRank(n, 1, 3, 3))
	if err != nil {
		return nil, err
	}
	x, w, groups := n.Inputs[0].Type.Shape, n.Inputs[1].Type.Shape, n.Int("groups", 1)
	if groups < 1 || w[0]%groups != 0 || x[1]%groups != 0 || x[1]/groups != w[2] {
		return nil, fmt.Errorf("input %v, weight %v [O,K,I] and groups %d don't fit", x, w, groups)
	}
	t, err := positions(x[0], w[1], n.Int("stride", 1), n.Int("dilation", 1), n.Int("pad_left", 0), n.Int("pad_right", 0))
	if err != nil {
		return nil, err
	}
	return typed(F32, t, w[0]), wantShape(n, 2, w[0])
}

// inferPerChannel is the rule of affine and layer_norm: vectors over the last axis.
func inferPerChannel(n *Node) ([]Type, error) {
	if err := firstError(wantType(n, 0, f32Only), sameType(n, 1, 2), wantRank(n, 0, 1, 2)); err != nil {
		return nil, err
	}
	x := n.Inputs[0].Type
	c := x.Shape[len(x.Shape)-1]
	return one(x), firstError(wantShape(n, 1, c), wantShape(n, 2, c))
}

// inferLayerNormRows takes any rank: before positions and channels are told apart, a norm that no
// operator of the standard stands for is one already.
func inferLayerNormRows(n *Node) ([]Type, error) {
	if err := firstError(wantType(n, 0, f32Only), sameType(n, 1, 2), wantRank(n, 0, 1, 4)); err != nil {
		return nil, err
	}
	x := n.Inputs[0].Type
	c := x.Shape[len(x.Shape)-1]
	return one(x), firstError(wantShape(n, 1, c), wantShape(n, 2, c))
}

func inferAct(n *Node) ([]Type, error) {
	if err := firstError(wantType(n, 0, f32Only), sameType(n, 1)); err != nil {
		return nil, err
	}
	if fn := n.Str("fn", ""); (fn == "prelu") != (n.Input(1) != nil) {
		return nil, errors.New("slope belongs to fn=prelu, and only to it")
	}
	if n.Input(1) != nil {
		return one(n.Inputs[0].Type), broadcastsTo(n, 1)
	}
	return one(n.Inputs[0].Type), nil
}

func inferCanonicalPool(n *Node) ([]Type, error) {
	err := firstError(wantType(n, 0, f32Only), wantRank(n, 0, 2, 2), wantType(n, 1, indexTypes), wantScalar(n, 1))
	if err != nil {
		return nil, err
	}
	x := n.Inputs[0].Type.Shape
	if x[0] == 0 {
		return nil, errors.New("there are no positions")
	}
	if at := n.Int("at", 0); at < 0 || at >= x[0] {
		return nil, fmt.Errorf("at=%d is outside %d positions", at, x[0])
	}
	return typed(F32, x[1]), nil
}

func inferWindowPool(n *Node) ([]Type, error) {
	if err := firstError(wantType(n, 0, f32Only), wantRank(n, 0, 2, 2)); err != nil {
		return nil, err
	}
	x, k := n.Inputs[0].Type.Shape, n.Int("k", 1)
	left, right := n.Int("pad_left", 0), n.Int("pad_right", 0)
	if left >= k || right >= k {
		return nil, fmt.Errorf("pads %d, %d are not below k=%d", left, right, k)
	}
	t, err := positions(x[0], k, n.Int("stride", 1), 1, left, right)
	return typed(F32, t, x[1]), err
}

func inferCanonicalFlatten(n *Node) ([]Type, error) {
	x := n.Inputs[0].Type
	return typed(x.DType, x.Len()), nil
}

func inferLastAxis(n *Node) ([]Type, error) {
	err := firstError(wantType(n, 0, f32Only), wantRank(n, 0, 1, 2))
	return one(n.Inputs[0].Type), err
}

func inferCanonicalArgmax(n *Node) ([]Type, error) {
	if err := firstError(wantType(n, 0, f32Only), wantRank(n, 0, 1, 1)); err != nil {
		return nil, err
	}
	if n.Inputs[0].Type.Len() == 0 {
		return nil, errors.New("the vector is empty")
	}
	return typed(I64), nil
}

func inferGatedConv(n *Node) ([]Type, error) {
	const x, residual, chanH, chanG, wh, wg, bh, bg, gamma, beta = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
	err := firstError(wantType(n, x, f32Only), sameType(n, residual, wh, wg, bh, bg, gamma, beta), wantRank(n, x, 2, 2),
		wantType(n, chanH, []DType{I32}), wantType(n, chanG, []DType{I32}), wantRank(n, wh, 2, 2))
	if err != nil {
		return nil, err
	}
	in, w := n.Inputs[x].Type.Shape, n.Inputs[wh].Type.Shape
	c, k := w[0], w[1]
	if k != n.Int("k", 0) {
		return nil, fmt.Errorf("weights have %d taps, k is %d", k, n.Int("k", 0))
	}
	if (n.Input(gamma) == nil) != (n.Input(beta) == nil) {
		return nil, errors.New("gamma and beta come together")
	}
	t, err := positions(in[0], k, 1, 1, n.Int("pad_left", 0), n.Int("pad_right", 0))
	if err != nil {
		return nil, err
	}
	err = firstError(wantShape(n, residual, t, c), wantShape(n, chanH, c), wantShape(n, chanG, c), wantShape(n, wg, c, k),
		wantShape(n, bh, c), wantShape(n, bg, c), wantShape(n, gamma, c), wantShape(n, beta, c))
	if err != nil {
		return nil, err
	}
	for _, i := range []int{chanH, chanG} {
		if v := n.Inputs[i].Const; v != nil {
			ints, _ := v.Ints()
			if slices.ContainsFunc(ints, func(ch int) bool { return ch < 0 || ch >= in[1] }) {
				return nil, fmt.Errorf("%s names a channel outside %d", opInput(n, i), in[1])
			}
		}
	}
	return typed(F32, t, c), nil
}

func inferCanonicalTranspose(n *Node) ([]Type, error) {
	err := firstError(wantType(n, 0, f32Only), wantRank(n, 0, 2, 2))
	x := n.Inputs[0].Type
	return typed(x.DType, x.dim(1), x.dim(0)), err
}

// inRows is the type of x with its elements in the rows that attribute rows says.
func inRows(n *Node) ([]Type, error) {
	x, rows := n.Inputs[0].Type, n.Int("rows", 0)
	if rows < 1 || x.Len()%rows != 0 {
		return nil, fmt.Errorf("%d elements do not fill %d rows", x.Len(), rows)
	}
	return typed(x.DType, rows, x.Len()/rows), nil
}

func inferRegroup(n *Node) ([]Type, error) {
	if err := firstError(wantType(n, 0, f32Only), wantRank(n, 0, 1, 2)); err != nil {
		return nil, err
	}
	return inRows(n)
}

// gathered is the type of positions of x in the order of input 1.
func gathered(n *Node, index DType) ([]Type, error) {
	x, v := n.Inputs[0].Type, n.Inputs[1]
	if err := firstError(wantRank(n, 0, 2, 2), wantRank(n, 1, 1, 1)); err != nil {
		return nil, err
	}
	if err := wantConst(n, 1, []DType{index}, v.Type.Shape...); err != nil {
		return nil, err
	}
	ints, _ := v.Const.Ints()
	if len(ints) == 0 || slices.ContainsFunc(ints, func(p int) bool { return p < -1 || p >= x.Shape[0] }) {
		return nil, fmt.Errorf("%s names no position, or one outside of %d", opInput(n, 1), x.Shape[0])
	}
	return typed(x.DType, len(ints), x.Shape[1]), nil
}

func inferCanonicalGather(n *Node) ([]Type, error) {
	if err := wantType(n, 0, f32Only); err != nil {
		return nil, err
	}
	return gathered(n, I64)
}

func inferSide(n *Node) ([]Type, error) {
	low, exp := n.Ints("low"), n.Ints("exp")
	err := firstError(wantType(n, 0, integerTypes), wantRank(n, 0, 1, 1))
	if err == nil && len(low) != len(exp) {
		err = fmt.Errorf("has %d numbers low, %d exp", len(low), len(exp))
	}
	if err == nil {
		err = idsWithin(n, len(low))
	}
	return typed(F32, len(low)), err
}
