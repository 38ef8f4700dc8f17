package edit

import "nepcoc/ir"

// PerChannel reads n as x*scale + shift with constants per channel; ok is
// false if it is something else. affine, negation, and add, sub, mul and div
// with a constant are of this form.
func PerChannel(n *ir.Node) (x *ir.Value, scale, shift []float32, ok bool) {
	if n == nil || len(n.Outputs) != 1 || n.Out().Type.DType != ir.F32 || len(n.Out().Type.Shape) == 0 {
		return nil, nil, nil, false
	}
	shape := n.Out().Type.Shape
	c := shape[len(shape)-1]
	if n.Op == "affine" {
		scale, shift = Floats(n.Inputs[1]), Floats(n.Inputs[2])
		return n.Inputs[0], scale, shift, scale != nil && shift != nil
	}
	if n.Op == "act" && n.Str("fn", "") == "neg" {
		scale = make([]float32, c)
		for i := range scale {
			scale[i] = -1
		}
		return n.Inputs[0], scale, make([]float32, c), true
	}
	if len(n.Inputs) != 2 {
		return nil, nil, nil, false
	}
	x, k := n.Inputs[0], n.Inputs[1]
	swapped := false
	if x.Const != nil {
		x, k, swapped = k, x, true
	}
	d := Spread(k, c)
	if d == nil || x.Const != nil || !x.Type.Equal(n.Out().Type) {
		return nil, nil, nil, false
	}
	scale, shift = make([]float32, c), make([]float32, c)
	for i := range c {
		scale[i] = 1
	}
	switch {
	case n.Op == "add":
		copy(shift, d)
	case n.Op == "sub" && swapped:
		for i := range c {
			scale[i], shift[i] = -1, d[i]
		}
	case n.Op == "sub":
		for i := range c {
			shift[i] = -d[i]
		}
	case n.Op == "mul":
		copy(scale, d)
	case n.Op == "div" && !swapped:
		for i := range c {
			if d[i] == 0 {
				return nil, nil, nil, false
			}
			scale[i] = 1 / d[i]
		}
	default:
		return nil, nil, nil, false
	}
	return x, scale, shift, true
}

// Rescale returns the weights and bias of a conv or linear node whose result
// is multiplied by scale and moved by shift.
func (u Names) Rescale(n *ir.Node, scale, shift []float32) (w, b *ir.Value) {
	old := Floats(n.Inputs[1])
	per := len(old) / max(1, len(scale))
	wd, bd := make([]float32, len(old)), make([]float32, len(scale))
	unit := true
	for i := range old {
		wd[i] = old[i] * scale[i/per]
		unit = unit && scale[i/per] == 1
	}
	bias := Floats(n.Input(2))
	for o := range bd {
		bd[o] = shift[o]
		if bias != nil {
			bd[o] += float32(bias[o] * scale[o]) // converted: no fused multiply-add, the same bits on every CPU
		}
	}
	w = n.Inputs[1]
	if !unit {
		w = u.Const(w.Name, F32(wd, w.Type.Shape...))
	}
	return w, u.Vec(n.Out().Name+".bias", bd)
}

// FoldScale multiplies and moves inside a convolution or linear layer what
// per-channel arithmetic does to its result, if nobody else reads that and no
// activation stands between. n is the arithmetic; it becomes the layer.
func (u Names) FoldScale(n *ir.Node, uses map[*ir.Value]int) bool {
	x, scale, shift, ok := PerChannel(n)
	if !ok || x.Def == nil || uses[x] != 1 {
		return false
	}
	layer := x.Def
	if layer.Op != "conv" && layer.Op != "linear" || layer.Str("act", "") != "" || Floats(layer.Inputs[1]) == nil ||
		layer.Input(2) != nil && Floats(layer.Input(2)) == nil {
		return false
	}
	w, b := u.Rescale(layer, scale, shift)
	Become(n, layer.Op, Copy(layer.Attrs), layer.Inputs[0], w, b)
	return true
}
