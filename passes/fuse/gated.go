package fuse

import (
	"nepcoc/ir"
	"nepcoc/passes/internal/edit"
)

// half is one of the two convolutions of a gated layer: channels
// [first, first+count) of a convolution in which every output reads one input
// channel.
type half struct {
	conv         *ir.Node
	first, count int
}

// halfOf reads v as such a range of channels.
func halfOf(v *ir.Value, uses map[*ir.Value]int) (h half, ok bool) {
	n := v.Def
	if n == nil {
		return h, false
	}
	h = half{conv: n, count: v.Type.Shape[len(v.Type.Shape)-1]}
	if n.Op == "slice" {
		if uses[v] != 1 || n.Int("axis", 0) != 1 && n.Int("axis", 0) != -1 || n.Int("step", 1) != 1 {
			return h, false
		}
		h.conv, h.first = n.Inputs[0].Def, n.Int("start", 0)
	}
	c := h.conv
	if c == nil || c.Op != "conv" || c.Str("act", "") != "" || c.Int("stride", 1) != 1 || c.Int("dilation", 1) != 1 {
		return h, false
	}
	w := edit.Floats(c.Inputs[1])
	if w == nil || c.Input(2) != nil && edit.Floats(c.Input(2)) == nil {
		return h, false
	}
	k, perFilter := c.Inputs[1].Type.Shape[1], c.Inputs[1].Type.Shape[2]
	// gated_conv keeps the number of positions.
	return h, perFilter == 1 && c.Int("pad_left", 0)+c.Int("pad_right", 0) == k-1
}

// gatedLayers fuses mul(h, sigmoid(g)) and, where LayerNorm follows, the
// residual and the LayerNorm. A residual without LayerNorm stays an addition:
// the integer step has no form for it.
func gatedLayers(g *ir.Graph, names edit.Names) {
	uses := edit.Uses(g)
	readers := g.Consumers()
	for _, n := range g.Nodes {
		if n.Op != "mul" {
			continue
		}
		h, gate, ok := gatedHalves(n, uses)
		if !ok {
			continue
		}
		l := layer{last: n, alpha: 1}
		l.extend(uses, readers)
		fuseGated(l, h, gate, names)
	}
}

func gatedHalves(n *ir.Node, uses map[*ir.Value]int) (h, gate half, ok bool) {
	for i, v := range n.Inputs {
		s := v.Def
		if s == nil || s.Op != "act" || s.Str("fn", "") != "sigmoid" || uses[v] != 1 {
			continue
		}
		if s.Inputs[0].Def == nil || uses[s.Inputs[0]] != 1 {
			continue
		}
		h, ok1 := halfOf(n.Inputs[1-i], uses)
		gate, ok2 := halfOf(s.Inputs[0], uses)
		if !ok1 || !ok2 || !swallowed(h, gate, uses) {
			continue
		}
		a, b := h.conv, gate.conv
		if a.Inputs[0] == b.Inputs[0] && h.count == gate.count && a.Int("pad_left", 0) == b.Int("pad_left", 0) &&
			a.Inputs[1].Type.Shape[1] == b.Inputs[1].Type.Shape[1] {
			return h, gate, true
		}
	}
	return half{}, half{}, false
}

// swallowed says whether only this layer reads the convolutions.
func swallowed(h, gate half, uses map[*ir.Value]int) bool {
	if h.conv == gate.conv {
		return uses[h.conv.Out()] == 2
	}
	return uses[h.conv.Out()] == 1 && uses[gate.conv.Out()] == 1
}

// layer is what follows the product.
type layer struct {
	last        *ir.Node
	residual    *ir.Value
	alpha       float64
	gamma, beta *ir.Value
	epsilon     float64
}

// extend looks for LayerNorm of the product, or of its sum with a residual.
func (l *layer) extend(uses map[*ir.Value]int, readers map[*ir.Value][]*ir.Node) {
	next := func(n *ir.Node) *ir.Node {
		if uses[n.Out()] != 1 || len(readers[n.Out()]) != 1 {
			return nil
		}
		return readers[n.Out()][0]
	}
	n := next(l.last)
	if n == nil {
		return
	}
	var residual *ir.Value
	alpha := 1.0
	if n.Op == "add" {
		residual = n.Inputs[0]
		if residual == l.last.Out() {
			residual = n.Inputs[1]
		}
		if residual.Const != nil || !residual.Type.Equal(l.last.Out().Type) {
			return
		}
		residual, alpha = unscaled(residual)
		n = next(n)
	}
	if n == nil || n.Op != "layer_norm" || n.Int("rms", 0) != 0 { // its norm takes the mean off
		return
	}
	l.last, l.residual, l.alpha = n, residual, alpha
	l.gamma, l.beta, l.epsilon = n.Inputs[1], n.Inputs[2], n.Float("epsilon", 1e-5)
}

// unscaled takes a uniform factor off a residual. The product may have other
// readers: it stays alive for them.
func unscaled(v *ir.Value) (*ir.Value, float64) {
	x, scale, shift, ok := edit.PerChannel(v.Def)
	if !ok || !allZero(shift) {
		return v, 1
	}
	for _, s := range scale {
		if s != scale[0] {
			return v, 1
		}
	}
	return x, float64(scale[0])
}

func fuseGated(l layer, h, gate half, names edit.Names) {
	name := l.last.Out().Name
	k := h.conv.Inputs[1].Type.Shape[1]
	attrs := ir.Attrs{"k": k}
	if p := h.conv.Int("pad_left", 0); p != 0 {
		attrs["pad_left"] = p
	}
	if p := h.conv.Int("pad_right", 0); p != 0 {
		attrs["pad_right"] = p
	}
	if l.residual != nil {
		attrs["alpha"] = l.alpha
	}
	if l.gamma != nil {
		attrs["epsilon"] = l.epsilon
	}
	ch, wh, bh := h.constants(name+".h", names)
	cg, wg, bg := gate.constants(name+".g", names)
	edit.Become(l.last, "gated_conv", attrs, h.conv.Inputs[0], l.residual, ch, cg, wh, wg, bh, bg, l.gamma, l.beta)
}

// constants are the input channel, the taps and the bias of each of h's
// outputs. The weights are [O,K,1], so that a range of outputs is a range of them.
func (h half) constants(name string, names edit.Names) (channels, taps, bias *ir.Value) {
	c := h.conv
	o, k := c.Inputs[1].Type.Shape[0], c.Inputs[1].Type.Shape[1]
	perGroup := o / c.Int("groups", 1)
	ch := make([]int32, h.count)
	b := make([]float32, h.count)
	for i := range ch {
		ch[i] = int32((h.first + i) / perGroup)
	}
	if all := edit.Floats(c.Input(2)); all != nil {
		copy(b, all[h.first:])
	}
	w := edit.Floats(c.Inputs[1])[h.first*k : (h.first+h.count)*k]
	return names.Const(name+".channel", &ir.Tensor{Type: ir.Type{DType: ir.I32, Shape: []int{h.count}}, Data: ch}),
		names.Const(name+".taps", edit.F32(w, h.count, k)), names.Vec(name+".bias", b)
}
