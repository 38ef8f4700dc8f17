// Package fuse joins the operators whose intermediate results need never be
// in memory:
//
//   - per-channel arithmetic (batch norm, factors, offsets) becomes affine and
//     moves into the convolution or linear layer before it, or after it where
//     no zero padding is in the way (affine.go),
//   - a gated layer, h*sigmoid(g) of two convolutions of one channel each, with
//     residual and LayerNorm, becomes one gated_conv (gated.go),
//   - an activation becomes an attribute of the layer that computes its input.
//
// For example
//
//	%c = conv(%x, %w, %b) {groups=64, pad_left=1, pad_right=2} : f32[128,128]
//	%h = slice(%c) {axis=1, count=64} : f32[128,64]
//	%g = slice(%c) {axis=1, count=64, start=64} : f32[128,64]
//	%s = act(%g) {fn="sigmoid"} : f32[128,64]
//	%m = mul(%h, %s) : f32[128,64]
//	%r = mul(%x, [0.5]) : f32[128,64]
//	%a = add(%m, %r) : f32[128,64]
//	%y = layer_norm(%a, %gamma, %beta) : f32[128,64]
//
// becomes
//
//	%y = gated_conv(%x, %x, %ch, %cg, %wh, %wg, %bh, %bg, %gamma, %beta) {alpha=0.5, k=4, pad_left=1, pad_right=2} : f32[128,64]
//
// A value that somebody else reads too is never swallowed.
package fuse

import (
	"nepcoc/ir"
	"nepcoc/ir/acts"
	"nepcoc/passes"
	"nepcoc/passes/internal/edit"
)

// Pass is the pass of this package.
var Pass = passes.Pass{
	Name: "fuse",
	Doc:  "joins gated layers, per-channel arithmetic and activations with their convolutions and linear layers",
	Requires: []passes.Order{
		{Pass: "canonical", Why: "patterns are written in canonical operators"},
	},
	After: []passes.Order{
		{Pass: "localize", Why: "the token table and the mask are recognised in unfused operators"},
		{Pass: "legalize", Why: "what its rewrites make can be fused; fused operators are not rewritten"},
	},
	Run: run,
}

func run(_ *passes.Context, g *ir.Graph) (*ir.Graph, error) {
	names := edit.NamesOf(g)
	// Gated layers first: their residual factor is a mul that would become an
	// affine, their sigmoid an activation of the convolution.
	for _, step := range []func(*ir.Graph, edit.Names){gatedLayers, foldAffine, activations} {
		step(g, names)
		g.Sweep()
	}
	return g, nil
}

// activations moves each act into the layer that computes its input. A sigmoid that is a model output stays:
// the program ends before it, at the logit.
func activations(g *ir.Graph, _ edit.Names) {
	uses, endings := edit.Uses(g), edit.Endings(g)
	for _, n := range g.Nodes {
		if endings[n] || n.Op != "act" || !acts.Lookup(n.Str("fn", "")).Fuses() {
			continue
		}
		layer := n.Inputs[0].Def
		if layer == nil || layer.Op != "conv" && layer.Op != "linear" || uses[n.Inputs[0]] != 1 || layer.Str("act", "") != "" {
			continue
		}
		attrs := edit.Copy(layer.Attrs)
		for k, v := range n.Attrs {
			if k == "fn" {
				attrs["act"] = v
			} else {
				attrs["act_"+k] = v
			}
		}
		edit.Become(n, layer.Op, attrs, layer.Inputs...)
	}
}
