package compiler

import (
	"fmt"
	"slices"

	"nepcoc/compiler/onnx"
	"nepcoc/ir"
	"nepcoc/passes"
	"nepcoc/passes/canonical"
	"nepcoc/passes/legalize"
	"nepcoc/passes/localize"
)

// explain adds to a refusal what else stands against the model. A compile ends at the first pass that
// refuses; here the passes go on with the part that was understood, so that one attempt shows as much as can be known.
func (c *compilation) explain(r *onnx.Refusal) {
	for _, p := range r.Problems {
		switch p.Kind {
		case onnx.Attention:
			return // what surrounds it is made for it
		case onnx.Damaged, onnx.OtherFile, onnx.Structure:
			return // no graph
		}
	}
	g, info, whole := r.Partial, r.Info, r.Partial == nil
	if g == nil {
		var err error
		if g, info, err = onnx.ImportFile(c.Model, c.Import); err != nil {
			return // nothing was understood, or standard input, which is read once
		}
	}
	src := sourceOf(c.Model, info, g)
	add := func(ps ir.Problems) {
		for _, p := range ps {
			q := src.problem(p)
			if !slices.ContainsFunc(r.Problems, func(o onnx.Problem) bool { return o.Node == q.Node && o.Reason == q.Reason }) {
				r.Problems = append(r.Problems, q)
			}
		}
	}
	ctx := &passes.Context{Options: c.passOptions}
	for _, p := range []passes.Pass{canonical.Pass, localize.Pass, legalize.Pass} {
		next, err := attempt(p, ctx, g)
		ps := problemsOf(err)
		if !whole {
			// Of the part, not of the model: what it ends in, and what its inputs seem to be for.
			ps = slices.DeleteFunc(ps, func(p ir.Problem) bool { return p.Op == "output" || p.Op == "inputs" })
			if p.Name == localize.Pass.Name && next == nil {
				ps = nil
			}
		}
		add(ps)
		if next == nil {
			break
		}
		g, whole = next, whole && err == nil
	}
	l := ctx.Report.Local
	if l.Length == 0 && len(g.Inputs) > 0 && len(g.Inputs[0].Type.Shape) > 0 {
		l.TokenInput, l.Length = g.Inputs[0].Name, g.Inputs[0].Type.Shape[0]
	}
	add(tooLarge(g, l))
}

// attempt runs one pass on what may be a part of a model, for which it was not made.
func attempt(p passes.Pass, ctx *passes.Context, g *ir.Graph) (out *ir.Graph, err error) {
	defer func() {
		if r := recover(); r != nil {
			out, err = nil, fmt.Errorf("pass %s: %v", p.Name, r)
		}
	}()
	return p.Run(ctx, g)
}
