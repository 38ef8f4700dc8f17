package ir

import (
	"fmt"
	"slices"
)

// The element types of integer steps: of values, of what dense layers read, of constants.
var (
	valueTypes  = []DType{I8, I16, I32}
	narrowTypes = []DType{I8, I16}
)

// declared is the element type of a step's result, one of those allowed.
func declared(n *Node, allowed ...DType) (DType, error) {
	v := n.Outputs[0]
	switch {
	case v == nil || v.Type.DType == Invalid:
		return Invalid, ErrDeclared
	case !slices.Contains(allowed, v.Type.DType):
		return Invalid, fmt.Errorf("the result is declared %s, this step gives %v", v.Type, allowed)
	}
	return v.Type.DType, nil
}

// wantConst checks a constant operand: element type and shape.
func wantConst(n *Node, i int, d []DType, shape ...int) error {
	v := n.Input(i)
	if v == nil {
		return nil
	}
	if v.Const == nil {
		return fmt.Errorf("%s must be a constant", opInput(n, i))
	}
	return firstError(wantType(n, i, d), wantShape(n, i, shape...))
}

// sequence checks that input 0 is a sequence or vector of the types allowed, and gives its
// positions (1 of a vector) and channels.
func sequence(n *Node, allowed []DType) (rows, cols int, err error) {
	if err := firstError(wantType(n, 0, allowed), wantRank(n, 0, 1, 2)); err != nil {
		return 0, 0, err
	}
	s := n.Inputs[0].Type.Shape
	if len(s) == 1 {
		return 1, s[0], nil
	}
	return s[0], s[1], nil
}

// like is the shape of rows positions and cols channels: a vector's where input 0 is one.
func like(n *Node, rows, cols int) []int {
	if len(n.Inputs[0].Type.Shape) == 1 {
		return []int{cols}
	}
	return []int{rows, cols}
}

func inferTokenTable(n *Node) ([]Type, error) {
	err := firstError(wantType(n, 0, integerTypes), wantRank(n, 0, 1, 1), wantType(n, 1, narrowTypes), wantRank(n, 1, 2, 2))
	if err != nil {
		return nil, err
	}
	table := n.Inputs[1].Type
	return typed(table.DType, n.Inputs[0].Type.Shape[0], table.Shape[1]), wantConst(n, 1, narrowTypes, table.Shape...)
}

func inferIntGatedConv(n *Node) ([]Type, error) {
	const x, residual, chanH, chanG, tapsH, tapsG, biasH, biasG, pad, base, slope, rho, cst, flip = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13
	if err := firstError(wantType(n, x, []DType{I8}), wantRank(n, x, 2, 2), wantType(n, residual, []DType{I8}), wantRank(n, tapsH, 2, 2)); err != nil {
		return nil, err
	}
	in, c, k := n.Inputs[x].Type.Shape, n.Inputs[tapsH].Type.Shape[0], n.Int("k", 0)
	left := n.Int("pad_left", 0)
	if k < 1 || left < 0 || left >= k {
		return nil, fmt.Errorf("k=%d, pad_left=%d: padding is below the number of taps", k, left)
	}
	norm := n.Input(rho) != nil
	for _, i := range []int{cst, flip} {
		if norm != (n.Input(i) != nil) {
			return nil, fmt.Errorf("rho, cst and flip come together")
		}
	}
	if !norm && n.Input(residual) != nil {
		return nil, fmt.Errorf("a residual is added by LayerNorm only")
	}
	result := []DType{I8}
	if norm {
		result = narrowTypes
	}
	d, err := declared(n, result...)
	if err != nil {
		return nil, err
	}
	return typed(d, in[0], c), firstError(wantShape(n, residual, in[0], c),
		wantConst(n, chanH, []DType{U16}, c), wantConst(n, chanG, []DType{U16}, c),
		wantConst(n, tapsH, []DType{U8}, c, k), wantConst(n, tapsG, []DType{U8}, c, k),
		wantConst(n, biasH, []DType{I32}, c), wantConst(n, biasG, []DType{I32}, c),
		wantConst(n, pad, []DType{I8}, in[1]), wantConst(n, base, []DType{U8}, 32), wantConst(n, slope, []DType{U8}, 32),
		wantConst(n, rho, []DType{I8}, c), wantConst(n, cst, []DType{I16}, c), wantConst(n, flip, []DType{U8}, c))
}

func inferIntConv(n *Node) ([]Type, error) {
	rows, cols, err := sequence(n, narrowTypes)
	if err = firstError(err, wantType(n, 1, narrowTypes), wantRank(n, 1, 3, 3)); err != nil {
		return nil, err
	}
	w, groups := n.Inputs[1].Type.Shape, n.Int("groups", 1)
	if groups < 1 || w[0]%groups != 0 || cols%groups != 0 || cols/groups != w[2] {
		return nil, fmt.Errorf("input %s, weight %v [O,K,I] and groups %d don't fit", n.Inputs[0].Type, w, groups)
	}
	t, err := positions(rows, w[1], n.Int("stride", 1), n.Int("dilation", 1), n.Int("pad_left", 0), n.Int("pad_right", 0))
	if err != nil {
		return nil, err
	}
	if len(n.Inputs[0].Type.Shape) == 1 && t != 1 {
		return nil, fmt.Errorf("%d positions of a vector", t)
	}
	result := []DType{I32} // of a rescaled result: any
	if n.Input(3) != nil {
		result = valueTypes
	}
	d, err := declared(n, result...)
	return typed(d, like(n, t, w[0])...), firstError(err, wantConst(n, 1, narrowTypes, w...), wantConst(n, 2, []DType{I32}, w[0]), wantConst(n, 3, []DType{I32}, w[0]),
		wantConst(n, 4, []DType{I16}, cols), wantTable(n, 5, cols, false))
}

// wantTable checks a look-up table: i16 [n], or [cols,n] where one per channel is allowed; n a power of two.
func wantTable(n *Node, i, cols int, perChannel bool) error {
	v := n.Input(i)
	if v == nil {
		return nil
	}
	highest := 1
	if perChannel {
		highest = 2
	}
	if err := firstError(wantType(n, i, []DType{I16}), wantRank(n, i, 1, highest)); err != nil {
		return err
	}
	s := v.Type.Shape
	entries := s[len(s)-1]
	if entries < 2 || entries&(entries-1) != 0 {
		return fmt.Errorf("%s has %d entries, not a power of two", opInput(n, i), entries)
	}
	if len(s) == 2 && s[0] != cols {
		return fmt.Errorf("%s has tables of %d channels, the input has %d", opInput(n, i), s[0], cols)
	}
	return wantConst(n, i, []DType{I16}, s...)
}

func inferIntPool(n *Node) ([]Type, error) {
	err := firstError(wantType(n, 0, valueTypes), wantRank(n, 0, 2, 2), wantType(n, 1, indexTypes), wantScalar(n, 1))
	if err != nil {
		return nil, err
	}
	x := n.Inputs[0].Type
	if at := n.Int("at", 0); at < 0 || at >= x.Shape[0] {
		return nil, fmt.Errorf("at=%d is outside %d positions", at, x.Shape[0])
	}
	result := []DType{x.DType}
	if n.Str("kind", "") == "sum" {
		result = valueTypes
	}
	d, err := declared(n, result...)
	return typed(d, x.Shape[1]), err
}

func inferIntWindowPool(n *Node) ([]Type, error) {
	if err := firstError(wantType(n, 0, valueTypes), wantRank(n, 0, 2, 2)); err != nil {
		return nil, err
	}
	x, k := n.Inputs[0].Type, n.Int("k", 1)
	left, right := n.Int("pad_left", 0), n.Int("pad_right", 0)
	if left >= k || right >= k {
		return nil, fmt.Errorf("pads %d, %d are not below k=%d", left, right, k)
	}
	t, err := positions(x.Shape[0], k, n.Int("stride", 1), 1, left, right)
	return typed(x.DType, t, x.Shape[1]), err
}

func inferIntLut(n *Node) ([]Type, error) {
	rows, cols, err := sequence(n, valueTypes)
	if err != nil {
		return nil, err
	}
	d, err := declared(n, valueTypes...)
	return typed(d, like(n, rows, cols)...), firstError(err, wantTable(n, 1, cols, true))
}

func inferIntBinary(n *Node) ([]Type, error) {
	err := firstError(wantType(n, 0, valueTypes), wantType(n, 1, valueTypes), wantRank(n, 0, 1, 2), wantRank(n, 1, 1, 2))
	if err != nil {
		return nil, err
	}
	if n.Int("lo", 0) > n.Int("hi", 0) {
		return nil, fmt.Errorf("lo=%d is above hi=%d", n.Int("lo", 0), n.Int("hi", 0))
	}
	shape, err := broadcastAll(n)
	if err != nil {
		return nil, err
	}
	d, err := declared(n, valueTypes...)
	return typed(d, shape...), err
}

func inferIntLayerNorm(n *Node) ([]Type, error) {
	rows, cols, err := sequence(n, valueTypes)
	if err != nil {
		return nil, err
	}
	d, err := declared(n, valueTypes...)
	return typed(d, like(n, rows, cols)...), firstError(err, wantConst(n, 1, []DType{I32}, cols), wantConst(n, 2, []DType{I32}, cols))
}

func inferIntConcat(n *Node) ([]Type, error) {
	rows, cols := 0, 0
	rank := 0
	for i, v := range n.Inputs {
		if err := firstError(wantType(n, i, valueTypes), wantRank(n, i, 1, 2)); err != nil {
			return nil, err
		}
		s := v.Type.Shape
		t := 1
		if len(s) == 2 {
			t = s[0]
		}
		c := s[len(s)-1]
		switch axis := n.Int("axis", 0); {
		case i > 0 && (len(s) != rank || axis == 0 && c != cols || axis == 1 && t != rows):
			return nil, fmt.Errorf("%s is %s, which does not fit the others along axis %d", opInput(n, i), v.Type, axis)
		case axis == 0:
			rows, cols = rows+t, c
		default:
			rows, cols = t, cols+c
		}
		rank = len(s)
	}
	if k := len(n.Inputs); len(n.Ints("mult")) != k || len(n.Ints("shift")) != k {
		return nil, fmt.Errorf("%d inputs, %d mult, %d shift", k, len(n.Ints("mult")), len(n.Ints("shift")))
	}
	if rank == 1 && rows > 1 {
		return nil, fmt.Errorf("vectors are joined along axis 1")
	}
	d, err := declared(n, valueTypes...)
	return typed(d, like(n, rows, cols)...), err
}

func inferIntSlice(n *Node) ([]Type, error) {
	rows, cols, err := sequence(n, valueTypes)
	if err != nil {
		return nil, err
	}
	x, axis := n.Inputs[0].Type, n.Int("axis", 0)
	if _, err := declared(n, x.DType); err != nil {
		return nil, err
	}
	want := n.Outputs[0].Type.Shape
	have, count, out := cols, 0, []int(nil)
	if len(want) == len(x.Shape) && len(want) > 0 {
		count = want[len(want)-1]
		out = like(n, rows, count)
		if axis == 0 && len(want) == 2 {
			have, count = rows, want[0]
			out = []int{count, cols}
		}
	}
	start, step := n.Int("start", 0), n.Int("step", 1)
	if out == nil || axis == 0 && len(want) != 2 || count < 1 || start < 0 || step < 1 || start+(count-1)*step >= have {
		return nil, fmt.Errorf("%s, start %d, step %d along axis %d do not give %s", x, start, step, axis, n.Outputs[0].Type)
	}
	return typed(x.DType, out...), nil
}

func inferIntFlatten(n *Node) ([]Type, error) {
	rows, cols, err := sequence(n, valueTypes)
	return typed(n.Inputs[0].Type.DType, rows*cols), err
}

func inferIntOutput(n *Node) ([]Type, error) {
	if err := firstError(wantType(n, 0, []DType{I32}), wantRank(n, 0, 1, 1), wantRank(n, 1, 1, 1)); err != nil {
		return nil, err
	}
	return one(n.Inputs[0].Type), wantConst(n, 1, []DType{I32}, n.Inputs[1].Type.Shape...)
}

func inferIntTranspose(n *Node) ([]Type, error) {
	err := firstError(wantType(n, 0, valueTypes), wantRank(n, 0, 2, 2))
	x := n.Inputs[0].Type
	return typed(x.DType, x.dim(1), x.dim(0)), err
}

func inferIntRegroup(n *Node) ([]Type, error) {
	if err := firstError(wantType(n, 0, valueTypes), wantRank(n, 0, 1, 2)); err != nil {
		return nil, err
	}
	return inRows(n)
}

func inferIntGather(n *Node) ([]Type, error) {
	if err := wantType(n, 0, valueTypes); err != nil {
		return nil, err
	}
	out, err := gathered(n, I32)
	if err != nil {
		return nil, err
	}
	return out, wantConst(n, 2, []DType{I16}, out[0].Shape[1])
}

func inferIntConstant(n *Node) ([]Type, error) {
	if err := firstError(wantType(n, 0, narrowTypes), wantRank(n, 0, 2, 2)); err != nil {
		return nil, err
	}
	return one(n.Inputs[0].Type), wantConst(n, 0, narrowTypes, n.Inputs[0].Type.Shape...)
}

func inferIntSoftmax(n *Node) ([]Type, error) {
	rows, cols, err := sequence(n, valueTypes)
	if err = firstError(err, wantRank(n, 1, 1, 1)); err != nil {
		return nil, err
	}
	return typed(I16, like(n, rows, cols)...), wantConst(n, 1, []DType{I32}, n.Inputs[1].Type.Shape...)
}

func inferIntSide(n *Node) ([]Type, error) {
	d, err := declared(n, narrowTypes...)
	if err = firstError(err, wantType(n, 0, integerTypes), wantRank(n, 0, 1, 1), wantRank(n, 1, 1, 1)); err != nil {
		return nil, err
	}
	c := n.Inputs[1].Type.dim(0)
	return typed(d, c), firstError(wantConst(n, 1, []DType{I32}, c), wantConst(n, 2, []DType{I32}, c), idsWithin(n, c))
}

// idsWithin says that a node which reads n ids from its attribute at on finds them.
func idsWithin(n *Node, ids int) error {
	if at, all := n.Int("at", 0), n.Inputs[0].Type.dim(0); ids < 1 || at+ids > all {
		return fmt.Errorf("reads ids %d to %d of %d", at, at+ids-1, all)
	}
	return nil
}
