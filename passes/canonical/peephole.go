package canonical

import (
	"nepcoc/ir"
	"nepcoc/passes/internal/edit"
)

// absorb lets convolutions and linear layers take up what exporters write
// beside them: explicit zero padding before, chomping after, bias and batch
// norm after. A batch norm before a padded convolution stays: zero padding is
// not what the batch norm makes of zero.
func absorb(g *ir.Graph, names edit.Names) {
	uses := edit.Uses(g)
	for _, n := range g.Nodes {
		switch n.Op {
		case "conv":
			absorbPad(n)
		case "slice":
			absorbChomp(n, uses)
		case "affine", "add", "sub", "mul", "div":
			names.FoldScale(n, uses)
		}
	}
	g.Sweep()
}

// absorbPad: conv(pad(x)) with zeros is a conv with more padding.
func absorbPad(n *ir.Node) {
	p := n.Inputs[0].Def
	if p == nil || p.Op != "pad" || p.Str("mode", "constant") != "constant" || p.Float("value", 0) != 0 {
		return
	}
	attrs := edit.Copy(n.Attrs)
	addTo(attrs, "pad_left", p.Int("left", 0))
	addTo(attrs, "pad_right", p.Int("right", 0))
	n.Attrs = attrs
	n.Inputs[0] = p.Inputs[0]
}

func addTo(attrs ir.Attrs, key string, d int) {
	old, _ := attrs[key].(int)
	if old+d == 0 {
		delete(attrs, key)
		return
	}
	attrs[key] = old + d
}

// absorbChomp: positions that exist only because of padding, cut off right
// after the convolution (causal convolutions are exported so).
func absorbChomp(n *ir.Node, uses map[*ir.Value]int) {
	x := n.Inputs[0]
	c := x.Def
	if c == nil || c.Op != "conv" || uses[x] != 1 || len(x.Type.Shape) != 2 || n.Int("axis", 0) != 0 ||
		n.Int("step", 1) != 1 || c.Int("stride", 1) != 1 {
		return
	}
	front := n.Int("start", 0)
	back := x.Type.Shape[0] - front - n.Int("count", 0)
	if front > c.Int("pad_left", 0) || back > c.Int("pad_right", 0) || front < 0 || back < 0 {
		return
	}
	attrs := edit.Copy(c.Attrs)
	addTo(attrs, "pad_left", -front)
	addTo(attrs, "pad_right", -back)
	edit.Become(n, "conv", attrs, c.Inputs...)
}
