package compiler

import (
	"fmt"
	"slices"
	"strings"

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
	if p := unrolled(g); p != nil && !slices.ContainsFunc(r.Problems, func(p onnx.Problem) bool { return p.Kind == onnx.Recurrence }) {
		defer func() { r.Problems = append(r.Problems, src.problem(*p)) }() // before the names of nodes are the passes'
	}
	products := slices.ContainsFunc(r.Problems, func(p onnx.Problem) bool { return strings.Contains(p.Reason, "of two activations") })
	add := func(ps ir.Problems) {
		for _, p := range ps {
			q := src.problem(p)
			if products && q.Kind == onnx.Attention {
				continue // said of all of them
			}
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

// minUnrolled is the number of steps from which a chain of one matrix is taken for a recurrence.
const minUnrolled = 4

// unrolled finds a recurrent layer that was written out step by step: one matrix that multiplies a vector,
// then what was made of that, again and again. It is named where the model is refused for whatever came of
// it; a short one may compile, as the linear layers that it consists of.
func unrolled(g *ir.Graph) *ir.Problem {
	type link struct {
		weight *ir.Value
		steps  int
	}
	product := func(n *ir.Node) *ir.Value { // the matrix, if n multiplies a vector by one
		if n.Op != "MatMul" && n.Op != "Gemm" {
			return nil
		}
		w := n.Inputs[1]
		if w.Const == nil || len(w.Type.Shape) != 2 || w.Type.Len() == 1 || n.Out().Type.Len() > max(w.Type.Shape[0], w.Type.Shape[1]) {
			return nil
		}
		return w
	}
	used := make(map[*ir.Value]int)
	for _, n := range g.Nodes {
		used[product(n)]++
	}
	depth := make(map[*ir.Value]map[*ir.Value]int) // of a value, by weight: the longest chain that led to it
	var best link
	var at *ir.Node
	for _, n := range g.Nodes {
		chains := make(map[*ir.Value]int)
		for _, v := range n.Inputs {
			for w, d := range depth[v] {
				chains[w] = max(chains[w], d)
			}
		}
		if w := product(n); w != nil && used[w] >= minUnrolled {
			if chains[w]++; chains[w] > best.steps {
				best, at = link{w, chains[w]}, n
			}
		}
		if len(chains) > 0 {
			for _, o := range n.Outputs {
				depth[o] = chains
			}
		}
	}
	if best.steps < minUnrolled {
		return nil
	}
	p := ir.ProblemOf(at, fmt.Sprintf("a recurrent layer, written out: the matrix %q multiplies what it made before, %d steps one after another", best.weight.Name, best.steps),
		"replace the LSTM, GRU or RNN by (dilated or gated) nn.Conv1d layers, or by nn.Linear over the positions")
	p.Kind = string(onnx.Recurrence)
	return &p
}
