package quantize

import (
	"fmt"
	"slices"

	"nepcoc/ir"
)

// needs is what the consumers of a value ask of its integer form.
type needs struct {
	uniform  bool // one scale and offset for all channels
	zeroFree bool // offset 0: products and averages over padding need it
}

// needs walks the consumers of v, through those that pass the form on.
func (q *quantizer) needs(v *ir.Value) needs {
	var n needs
	for _, u := range q.uses[v] {
		n = n.or(q.needsOf(u, v))
	}
	return n
}

func (a needs) or(b needs) needs {
	return needs{a.uniform || b.uniform, a.zeroFree || b.zeroFree}
}

func (q *quantizer) needsOf(u *ir.Node, v *ir.Value) needs {
	switch u.Op {
	case "conv", "linear", "affine", "gated_conv":
		return needs{}
	case "slice", "flatten", "concat", "pool":
		n := q.needs(u.Out())
		if u.Op == "concat" && u.Int("axis", 0) == 0 && len(u.Out().Type.Shape) > 1 {
			n.uniform = true // positions of different origin share one channel
		}
		if u.Op == "concat" && n.uniform {
			n.zeroFree = true // the join rescales, it does not shift
		}
		if u.Op == "pool" && u.Str("kind", "") == "sum" {
			n.zeroFree = true
		}
		return n
	case "gather":
		return q.needs(u.Out())
	case "transpose", "regroup":
		return q.needs(u.Out()).or(needs{uniform: true}) // elements of one channel come to several
	case "window_pool":
		n := q.needs(u.Out())
		if u.Str("kind", "") == "mean" && u.Int("count_pad", 0) != 0 {
			n.zeroFree = true
		}
		return n
	case "act":
		return needs{uniform: true}
	case "add", "sub", "min", "max", "mul", "div":
		if a, b := u.Input(0), u.Input(1); (isConst(a) || isConst(b)) && !perPosition(a) && !perPosition(b) {
			return needs{}
		}
		if u.Op == "mul" {
			return needs{true, true}
		}
		return needs{uniform: true}
	case "pad":
		return q.needs(u.Out()).or(needs{uniform: true})
	case "softmax":
		return needs{uniform: true}
	case "layer_norm":
		return needs{uniform: true, zeroFree: u.Int("rms", 0) != 0}
	}
	return needs{true, true}
}

func isConst(v *ir.Value) bool { return v != nil && v.Const != nil }

// isEnding says that n only turns logits into probabilities or a label that are a model output,
// and that nothing else reads it: it is recorded at the output, and not computed.
func (q *quantizer) isEnding(n *ir.Node) bool {
	if !q.endings[n] {
		return false
	}
	for _, u := range q.uses[n.Out()] {
		if !q.isEnding(u) {
			return false
		}
	}
	return true
}

// wide says that v keeps 16 bits. What a fused gated layer reads is 8 bits
// always: its kernels know nothing else.
func (q *quantizer) wide(v *ir.Value) bool {
	if q.feedsGated(v) {
		return false
	}
	return q.opts.WideAll || q.opts.Wide[v.Name] || q.lastHidden(v)
}

// feedsGated says that a fused gated layer reads v, or what is picked from it.
func (q *quantizer) feedsGated(v *ir.Value) bool {
	for _, u := range q.uses[v] {
		if u.Op == "gated_conv" || ir.LookupOp(u.Op).Picks && q.feedsGated(u.Out()) {
			return true
		}
	}
	return false
}

// lastHidden says that v is what the last linear layer reads, made by the layer
// before it: 16 bits cost nothing there, and errors reach the verdict undamped.
func (q *quantizer) lastHidden(v *ir.Value) bool {
	for _, u := range q.uses[v] {
		if u.Op != "linear" || !q.isLogits(u.Out()) || u.Str("act", "") != "" {
			return false
		}
	}
	return len(q.uses[v]) > 0 && v.Def != nil && v.Def.Op == "linear" && rows(v) == 1
}

// wideMax is the largest magnitude that a 16-bit form of v may take so that
// every weighted sum over it fits 32 bits whatever the weights (at most 127 each): 2^31 over
// the number of weights, leaving an eighth of it to the bias.
func (q *quantizer) wideMax(v *ir.Value) float64 {
	limit := 32767.0
	var walk func(v *ir.Value)
	walk = func(v *ir.Value) {
		for _, u := range q.uses[v] {
			switch u.Op {
			case "conv":
				w := u.Inputs[1].Type.Shape
				limit = min(limit, 0.875*(1<<31)/(127*float64(w[1]*w[2])))
			case "linear":
				w := u.Inputs[1].Type.Shape
				limit = min(limit, 0.875*(1<<31)/(127*float64(w[1])))
			default:
				if ir.LookupOp(u.Op).Picks {
					walk(u.Out())
				}
			}
		}
	}
	walk(v)
	return float64(int(limit))
}

// fits says that the values that are to keep 16 bits have use for them: where
// a sum over too many of them leaves no more levels than 8 bits have, they would lose.
func (q *quantizer) fits() error {
	for _, n := range q.src.Nodes {
		if v := n.Out(); q.opts.Wide[v.Name] && q.wideMax(v) <= 255 {
			return &Unfit{v.Name, fmt.Sprintf("the sums that read it leave 16 bits %g levels to either side, hardly more than 8 bits have", q.wideMax(v))}
		}
	}
	return nil
}

// bounds are the limits of v's integer form: the type's, and for 16 bits what
// wideMax leaves, unless v is the result of a LayerNorm, which only saturates.
func (q *quantizer) bounds(v *ir.Value, d ir.DType) (lo, hi int32) {
	if d != ir.I16 || saturated(v) {
		return limits(d)
	}
	top := int32(q.wideMax(v))
	return -top - 1, top
}

// saturated says that v, or what it is picked from, ends at the limits of its
// type.
func saturated(v *ir.Value) bool {
	if v.Def == nil {
		return false
	}
	if v.Def.Op == "gated_conv" || v.Def.Op == "layer_norm" || v.Def.Op == "softmax" {
		return true
	}
	return ir.LookupOp(v.Def.Op).Picks && slices.ContainsFunc(v.Def.Inputs, func(in *ir.Value) bool { return in != nil && saturated(in) })
}
