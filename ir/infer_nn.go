package ir

import (
	"errors"
	"fmt"
	"slices"
)

// Window is the geometry of a convolution or pooling over the spatial axes.
// Out is the output's size; Before and After the resolved padding.
type Window struct {
	In, Kernel, Stride, Dilation, Before, After, Out []int
}

// ConvWindow resolves kernel, strides, padding (auto_pad too) of a Conv,
// MaxPool or AveragePool node.
func ConvWindow(n *Node) (*Window, error) {
	spatial := n.Inputs[0].Type.Shape[2:]
	rank := len(spatial)
	w := &Window{In: spatial, Kernel: n.Ints("kernel_shape")}
	if n.Op == "Conv" {
		shape := n.Inputs[1].Type.Shape[2:]
		if _, given := n.Attrs["kernel_shape"]; given && !equalInts(shape, w.Kernel) {
			return nil, fmt.Errorf("kernel_shape %v differs from the weight's %v", w.Kernel, shape)
		}
		w.Kernel = shape
	}
	var err error
	if w.Stride, err = spatialAttr(n, "strides", rank); err != nil {
		return nil, err
	}
	if w.Dilation, err = spatialAttr(n, "dilations", rank); err != nil {
		return nil, err
	}
	if len(w.Kernel) != rank {
		return nil, fmt.Errorf("kernel_shape %v for %d spatial axes", w.Kernel, rank)
	}
	w.Before, w.After, w.Out = make([]int, rank), make([]int, rank), make([]int, rank)
	pads := n.Ints("pads")
	auto := n.Str("auto_pad", "NOTSET")
	if auto == "NOTSET" && len(pads) != 0 {
		if len(pads) != 2*rank || slices.Min(pads) < 0 {
			return nil, fmt.Errorf("pads %v are not %d numbers >= 0", pads, 2*rank)
		}
		copy(w.Before, pads[:rank])
		copy(w.After, pads[rank:])
	}
	for i := range rank {
		if w.Kernel[i] < 1 || w.Kernel[i] > MaxElements {
			return nil, fmt.Errorf("kernel %v has a size below 1", w.Kernel)
		}
		if err := w.resolve(i, auto, n.Int("ceil_mode", 0) != 0); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *Window) resolve(i int, auto string, ceil bool) error {
	extent := (w.Kernel[i]-1)*w.Dilation[i] + 1
	if auto == "SAME_UPPER" || auto == "SAME_LOWER" {
		w.Out[i] = (w.In[i] + w.Stride[i] - 1) / w.Stride[i]
		total := max((w.Out[i]-1)*w.Stride[i]+extent-w.In[i], 0)
		w.Before[i] = total / 2
		if auto == "SAME_LOWER" {
			w.Before[i] = (total + 1) / 2
		}
		w.After[i] = total - w.Before[i]
		return nil
	}
	room := w.In[i] + w.Before[i] + w.After[i] - extent
	if room < 0 {
		return fmt.Errorf("the window of %d is larger than the padded input of %d", extent, room+extent)
	}
	w.Out[i] = room/w.Stride[i] + 1
	if ceil && room%w.Stride[i] != 0 && w.Out[i]*w.Stride[i] < w.In[i]+w.Before[i] {
		// One more window, unless it would start in the padding after the input.
		w.Out[i]++
	}
	return nil
}

func spatialAttr(n *Node, key string, rank int) ([]int, error) {
	v := n.Ints(key)
	if len(v) == 0 {
		v = make([]int, rank)
		for i := range v {
			v[i] = 1
		}
	}
	if len(v) != rank || slices.Min(v) < 1 {
		return nil, fmt.Errorf("%s %v are not %d numbers >= 1", key, v, rank)
	}
	return v, nil
}

func inferConv(n *Node) ([]Type, error) {
	err := firstError(wantType(n, 0, floatTypes), sameType(n, 1, 2), wantRank(n, 0, 3, 4), wantRank(n, 1, 3, 4))
	if err != nil {
		return nil, err
	}
	x, w := n.Inputs[0].Type.Shape, n.Inputs[1].Type.Shape
	group := n.Int("group", 1)
	if len(w) != len(x) {
		return nil, fmt.Errorf("input %v and weight %v differ in rank", x, w)
	}
	if group < 1 || w[0]%group != 0 || w[1]*group != x[1] {
		return nil, fmt.Errorf("input %v, weight %v and group %d don't fit", x, w, group)
	}
	if err := wantShape(n, 2, w[0]); err != nil {
		return nil, err
	}
	win, err := ConvWindow(n)
	if err != nil {
		return nil, err
	}
	return typed(n.Inputs[0].Type.DType, append([]int{x[0], w[0]}, win.Out...)...), nil
}

func inferPool(allowed []DType) func(*Node) ([]Type, error) {
	return func(n *Node) ([]Type, error) {
		if err := firstError(wantType(n, 0, allowed), wantRank(n, 0, 3, 4)); err != nil {
			return nil, err
		}
		win, err := ConvWindow(n)
		if err != nil {
			return nil, err
		}
		x := n.Inputs[0].Type
		for i := range win.Kernel {
			if extent := (win.Kernel[i]-1)*win.Dilation[i] + 1; win.Before[i] >= extent || win.After[i] >= extent {
				return nil, fmt.Errorf("padding %v, %v is not below the window %v", win.Before, win.After, win.Kernel)
			}
		}
		return typed(x.DType, append([]int{x.Shape[0], x.Shape[1]}, win.Out...)...), nil
	}
}

func inferGlobalPool(n *Node) ([]Type, error) {
	if err := firstError(wantType(n, 0, floatTypes), wantRank(n, 0, 3, MaxRank)); err != nil {
		return nil, err
	}
	shape := slices.Clone(n.Inputs[0].Type.Shape)
	for i := range shape[2:] {
		if shape[2+i] == 0 {
			return nil, errors.New("a spatial dimension is empty")
		}
		shape[2+i] = 1
	}
	return typed(n.Inputs[0].Type.DType, shape...), nil
}

func inferGemm(n *Node) ([]Type, error) {
	err := firstError(wantType(n, 0, floatTypes), sameType(n, 1, 2), wantRank(n, 0, 2, 2), wantRank(n, 1, 2, 2))
	if err != nil {
		return nil, err
	}
	a, b := slices.Clone(n.Inputs[0].Type.Shape), slices.Clone(n.Inputs[1].Type.Shape)
	if n.Int("transA", 0) != 0 {
		slices.Reverse(a)
	}
	if n.Int("transB", 0) != 0 {
		slices.Reverse(b)
	}
	if a[1] != b[0] {
		return nil, fmt.Errorf("%v times %v", a, b)
	}
	out := []int{a[0], b[1]}
	if c := n.Input(2); c != nil {
		shape, err := Broadcast(out, c.Type.Shape)
		if err != nil || !equalInts(shape, out) {
			return nil, fmt.Errorf("%s is %s, doesn't broadcast to %v", opInput(n, 2), c.Type, out)
		}
	}
	return typed(n.Inputs[0].Type.DType, out...), nil
}

func inferMatMul(n *Node) ([]Type, error) {
	err := firstError(wantType(n, 0, floatTypes), sameType(n, 1), wantRank(n, 0, 1, MaxRank), wantRank(n, 1, 1, MaxRank))
	if err != nil {
		return nil, err
	}
	a, b := n.Inputs[0].Type.Shape, n.Inputs[1].Type.Shape
	// A vector is a row on the left and a column on the right; its
	// dimension of 1 is dropped from the result.
	var tail []int
	inner := b[0]
	if len(a) > 1 {
		tail = append(tail, a[len(a)-2])
	}
	if len(b) > 1 {
		inner = b[len(b)-2]
		tail = append(tail, b[len(b)-1])
	}
	if a[len(a)-1] != inner {
		return nil, fmt.Errorf("%v times %v", a, b)
	}
	batch, err := Broadcast(a[:max(len(a)-2, 0)], b[:max(len(b)-2, 0)])
	if err != nil {
		return nil, err
	}
	return typed(n.Inputs[0].Type.DType, append(batch, tail...)...), nil
}

func inferBatchNorm(n *Node) ([]Type, error) {
	if n.Int("training_mode", 0) != 0 {
		return nil, errors.New("training_mode is set; export the model after model.eval()")
	}
	if err := firstError(wantType(n, 0, floatTypes), sameType(n, 1, 2, 3, 4), wantRank(n, 0, 2, MaxRank)); err != nil {
		return nil, err
	}
	x := n.Inputs[0].Type
	for i := 1; i <= 4; i++ {
		if err := wantShape(n, i, x.Shape[1]); err != nil {
			return nil, err
		}
	}
	return one(x), nil
}

func inferInstanceNorm(n *Node) ([]Type, error) {
	err := firstError(wantType(n, 0, floatTypes), sameType(n, 1, 2), wantRank(n, 0, 3, MaxRank))
	if err != nil {
		return nil, err
	}
	x := n.Inputs[0].Type
	return one(x), firstError(wantShape(n, 1, x.Shape[1]), wantShape(n, 2, x.Shape[1]))
}

func inferGroupNorm(n *Node) ([]Type, error) {
	err := firstError(wantType(n, 0, floatTypes), sameType(n, 1, 2), wantRank(n, 0, 3, MaxRank))
	if err != nil {
		return nil, err
	}
	x, groups := n.Inputs[0].Type, n.Int("num_groups", 0)
	c := x.Shape[1]
	if groups < 1 || c%groups != 0 {
		return nil, fmt.Errorf("%d channels in %d groups", c, groups)
	}
	return one(x), firstError(wantShape(n, 1, c), wantShape(n, 2, c))
}

func inferLayerNorm(n *Node) ([]Type, error) {
	if err := firstError(wantType(n, 0, floatTypes), sameType(n, 1, 2)); err != nil {
		return nil, err
	}
	x := n.Inputs[0].Type
	axis, err := NormalizeAxis(n.Int("axis", -1), len(x.Shape))
	if err != nil {
		return nil, err
	}
	tail := x.Shape[axis:]
	for i := 1; i <= 2; i++ {
		v := n.Input(i)
		if v == nil {
			continue
		}
		shape, err := Broadcast(tail, v.Type.Shape)
		if err != nil || !equalInts(shape, tail) {
			return nil, fmt.Errorf("%s is %s, doesn't broadcast to %v", opInput(n, i), v.Type, tail)
		}
	}
	types := one(x)
	for len(types) < len(n.Outputs) { // Mean, InvStdDev
		stat := slices.Clone(x.Shape)
		for i := axis; i < len(stat); i++ {
			stat[i] = 1
		}
		types = append(types, Type{x.DType, stat})
	}
	return types, nil
}

var quantTypes = []DType{U8, I8, U16, I16}

// quantParams checks scale and zero point: both scalars, or both vectors
// along axis.
func quantParams(n *Node) error {
	x, scale := n.Inputs[0].Type, n.Inputs[1].Type
	if err := wantType(n, 1, []DType{F32}); err != nil {
		return err
	}
	if zp := n.Input(2); zp != nil && zp.Type.Len() != scale.Len() {
		return fmt.Errorf("scale is %s, zero point %s", scale, zp.Type)
	}
	if wantScalar(n, 1) == nil {
		return nil
	}
	axis, err := NormalizeAxis(n.Int("axis", 1), len(x.Shape))
	if err != nil {
		return err
	}
	return wantShape(n, 1, x.Shape[axis])
}

func inferQuantize(n *Node) ([]Type, error) {
	d := U8
	if s := n.Str("output_dtype", ""); s != "" {
		var ok bool
		if d, ok = ParseDType(s); !ok {
			return nil, fmt.Errorf("attribute output_dtype: %q is not an element type", s)
		}
	}
	if zp := n.Input(2); zp != nil {
		d = zp.Type.DType
	}
	if !slices.Contains(quantTypes, d) {
		return nil, fmt.Errorf("quantising to %s is not supported", d)
	}
	err := firstError(wantType(n, 0, []DType{F32, I32}), quantParams(n))
	return typed(d, slices.Clone(n.Inputs[0].Type.Shape)...), err
}

func inferDequantize(n *Node) ([]Type, error) {
	err := firstError(wantType(n, 0, append([]DType{I32}, quantTypes...)), sameType(n, 2), quantParams(n))
	return typed(F32, slices.Clone(n.Inputs[0].Type.Shape)...), err
}
