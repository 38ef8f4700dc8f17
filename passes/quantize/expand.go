package quantize

import (
	"fmt"
	"math"
	"slices"

	"nepcoc/ir"
)

// maxFusedTaps is the longest filter that the fused kernels take.
const maxFusedTaps = 8

// fusedReason says why the fused integer arithmetic can't compute a gated_conv;
// empty where it can.
func fusedReason(n *ir.Node) string {
	wh, c, k := n.Inputs[4], n.Inputs[4].Type.Shape[0], n.Inputs[4].Type.Shape[1]
	norm := n.Input(8) != nil
	switch {
	case slices.ContainsFunc(floats(wh), negative) || slices.ContainsFunc(floats(n.Inputs[5]), negative):
		return "it has negative taps"
	case k > maxFusedTaps:
		return fmt.Sprintf("its filters have %d taps, more than %d", k, maxFusedTaps)
	case norm && c > 256:
		return fmt.Sprintf("LayerNorm over %d channels needs sums of more than 32 bits", c)
	case !norm && n.Inputs[1] != nil:
		return "it adds a residual without LayerNorm"
	}
	return ""
}

// padReason says why the result of n can't be padded in 8 bits; empty where it
// can. A layer with LayerNorm stores the normalised value, which stands for
// gamma*v + beta: zero is -beta/gamma there, and v reaches 2.5 or more.
func padReason(n *ir.Node, uses []*ir.Node) string {
	if n.Input(8) == nil || n.Input(9) == nil || !slices.ContainsFunc(uses, pads) {
		return ""
	}
	gamma, beta := floats(n.Inputs[8]), floats(n.Inputs[9])
	size := 0.0
	for c := range gamma {
		g, b := float64(gamma[c]), float64(beta[c])
		size += math.Sqrt(float64(g*g)+float64(b*b)) / float64(len(gamma))
	}
	for c := range gamma {
		if miss := math.Abs(float64(beta[c])) - float64(2.5*math.Abs(float64(gamma[c]))); miss > 0.25*size {
			return fmt.Sprintf("in channel %d LayerNorm shifts by %.3g and scales by %.3g: padding with zeros is out of its range", c, beta[c], gamma[c])
		}
	}
	return ""
}

func pads(n *ir.Node) bool { return n.Int("pad_left", 0) > 0 || n.Int("pad_right", 0) > 0 }

func negative(w float32) bool { return w < 0 }

// expand replaces the gated layers that the fused arithmetic can't take by the
// operators they were made of, which any integers can compute: two
// convolutions, a sigmoid, a product, a sum and a LayerNorm.
func expand(g *ir.Graph, note func(format string, args ...any)) {
	var nodes []*ir.Node
	uses := g.Consumers()
	for _, n := range g.Nodes {
		if n.Op == "gated_conv" {
			why := fusedReason(n)
			if why == "" {
				why = padReason(n, uses[n.Out()])
			}
			if why != "" {
				note("layer %q takes the general path: %s", n.Origin, why)
				nodes = append(nodes, expanded(n)...)
				continue
			}
		}
		nodes = append(nodes, n)
	}
	g.Nodes = nodes
}

func expanded(n *ir.Node) []*ir.Node {
	out := n.Out()
	c, k := n.Inputs[4].Type.Shape[0], n.Inputs[4].Type.Shape[1]
	var nodes []*ir.Node
	add := func(name, op string, attrs ir.Attrs, in ...*ir.Value) *ir.Value {
		node := &ir.Node{Op: op, Origin: n.Origin, Inputs: in, Attrs: attrs}
		v := &ir.Value{Name: out.Name + name, Type: out.Type, Def: node}
		node.Outputs = []*ir.Value{v}
		nodes = append(nodes, node)
		return v
	}
	branch := func(name string, channels, taps, bias *ir.Value) *ir.Value {
		// One filter per input channel that it reads: gather the channels by
		// a dense filter that is zero elsewhere, unless each reads its own.
		x := n.Inputs[0]
		ch := channels.Const.Data.([]int32)
		cin := x.Type.Shape[1]
		attrs := ir.Attrs{"pad_left": n.Int("pad_left", 0), "pad_right": n.Int("pad_right", 0), "groups": 1}
		own := cin == c
		for i, s := range ch {
			own = own && int(s) == i
		}
		w, width := floats(taps), 1
		if own {
			attrs["groups"] = c
		} else {
			dense := make([]float32, c*k*cin)
			for o := range c {
				for t := range k {
					dense[(o*k+t)*cin+int(ch[o])] = w[o*k+t]
				}
			}
			w, width = dense, cin
		}
		return add(name, "conv", attrs, x, constant(out.Name+name+".w", ir.F32, w, c, k, width), bias)
	}
	h := branch(".h", n.Inputs[2], n.Inputs[4], n.Inputs[6])
	gate := branch(".g", n.Inputs[3], n.Inputs[5], n.Inputs[7])
	y := add(".gated", "mul", nil, h, add(".gate", "act", ir.Attrs{"fn": "sigmoid"}, gate))
	if r := n.Inputs[1]; r != nil {
		alpha := spread([]float32{float32(n.Float("alpha", 1))}, c)
		r = add(".residual", "affine", nil, r,
			constant(out.Name+".alpha", ir.F32, alpha, c), constant(out.Name+".zero", ir.F32, make([]float32, c), c))
		y = add(".sum", "add", nil, y, r)
	}
	if n.Input(8) != nil {
		y = add(".norm", "layer_norm", ir.Attrs{"epsilon": n.Float("epsilon", 1e-5)}, y, n.Inputs[8], n.Input(9))
	}
	// The last operator takes over the layer's own value.
	last := y.Def
	last.Outputs[0] = out
	out.Def = last
	return nodes
}
