package fuse

import (
	"nepcoc/ir"
	"nepcoc/passes/internal/edit"
)

// foldAffine moves per-channel arithmetic into layers; what can't move becomes
// one affine.
func foldAffine(g *ir.Graph, names edit.Names) {
	uses := edit.Uses(g)
	for _, n := range g.Nodes {
		if names.FoldScale(n, uses) {
			continue
		}
		x, scale, shift, ok := edit.PerChannel(n)
		if !ok {
			continue
		}
		if before := x.Def; before != nil && before.Op == "affine" && uses[x] == 1 {
			// (x*s0 + t0)*s + t
			s0, t0 := edit.Floats(before.Inputs[1]), edit.Floats(before.Inputs[2])
			s, t := make([]float32, len(scale)), make([]float32, len(scale))
			for i := range s {
				s[i], t[i] = s0[i]*scale[i], float32(t0[i]*scale[i])+shift[i] // not fused: the same bits on every CPU
			}
			x, scale, shift = before.Inputs[0], s, t
		} else if n.Op == "affine" {
			continue
		}
		name := n.Out().Name
		edit.Become(n, "affine", nil, x, names.Vec(name+".scale", scale), names.Vec(name+".shift", shift))
	}
	for _, n := range g.Nodes {
		absorbInput(n, uses, names)
	}
}

// absorbInput moves an affine into the layer that reads its result. Padding
// puts zeros where the affine would have put its shift, so that a padded
// convolution takes a factor only.
func absorbInput(n *ir.Node, uses map[*ir.Value]int, names edit.Names) {
	if n.Op != "conv" && n.Op != "linear" {
		return
	}
	a := n.Inputs[0].Def
	w := edit.Floats(n.Inputs[1])
	if a == nil || a.Op != "affine" || uses[n.Inputs[0]] != 1 || w == nil || n.Input(2) != nil && edit.Floats(n.Input(2)) == nil {
		return
	}
	scale, shift := edit.Floats(a.Inputs[1]), edit.Floats(a.Inputs[2])
	if scale == nil || shift == nil || (n.Int("pad_left", 0) != 0 || n.Int("pad_right", 0) != 0) && !allZero(shift) {
		return
	}
	shape := n.Inputs[1].Type.Shape
	o, in := shape[0], shape[len(shape)-1]
	perGroup := o / n.Int("groups", 1)
	wd, bd := make([]float32, len(w)), make([]float32, o)
	copy(bd, edit.Floats(n.Input(2)))
	each := len(w) / o
	sum := make([]float64, o)
	for i, x := range w {
		out := i / each
		c := out/perGroup*in + i%in
		wd[i] = x * scale[c]
		sum[out] += float64(float64(x) * float64(shift[c]))
	}
	for i := range bd {
		bd[i] += float32(sum[i])
	}
	edit.Become(n, n.Op, n.Attrs, a.Inputs[0], names.Const(n.Inputs[1].Name, edit.F32(wd, shape...)), names.Vec(n.Out().Name+".bias", bd))
}

func allZero(d []float32) bool {
	for _, x := range d {
		if x != 0 {
			return false
		}
	}
	return true
}
