// Package canonical turns an imported ONNX graph into the compiler's own
// operators: time-major, without the batch dimension, one operator per idea.
//
// In order it
//
//   - folds constants and shape arithmetic (the exporter's Pad alone is nine nodes),
//   - recognises one-hot vectors, LayerNorm, softmax, GELU, SiLU, HardSwish, Mish and softsign in the
//     chains of primitives that exporters write for them, by their form or by what they compute,
//   - moves every value to the layout [position, channel] by following what
//     each axis means (layout.go), permuting weights instead of data,
//   - lets convolutions take up explicit padding, chomping, bias and batch norm.
//
// For example
//
//	%t = Transpose(%e) {perm=[0,2,1]} : f32[1,24,128]
//	%p = Pad(%t, [0,0,1,0,0,2], _) {mode="constant"} : f32[1,24,131]
//	%c = Conv(%p, %w, %b) {kernel_shape=[4]} : f32[1,48,128]
//
// becomes
//
//	%c = conv(%e, %w, %b) {pad_left=1, pad_right=2} : f32[128,48]
//
// All that has no canonical form is reported at once, as ir.Problems. The pass
// decides nothing about locality or numbers; it must not change results beyond
// float32 rounding.
package canonical

import (
	"nepcoc/ir"
	"nepcoc/passes"
	"nepcoc/passes/internal/edit"
)

// Pass is the pass of this package.
var Pass = passes.Pass{
	Name: "canonical",
	Doc:  "folds constants, recognises decomposed operators, moves everything to time-major layout",
	Run:  run,
}

func run(ctx *passes.Context, g *ir.Graph) (*ir.Graph, error) {
	names := edit.NamesOf(g)
	if err := dequantizeTables(g, names); err != nil {
		return nil, err
	}
	if problems := foldConstants(g, names); len(problems) > 0 {
		return nil, problems
	}
	if err := oneHots(g, names); err != nil {
		return nil, err
	}
	if err := recognise(g, names); err != nil {
		return nil, err
	}
	recogniseByValue(g, names)
	out, ranges, problems := toCanonical(g)
	if len(problems) > 0 {
		if len(out.Outputs) == 0 || ir.Check(out) != nil {
			return nil, problems
		}
		return out, problems // the part that was understood
	}
	if len(ranges) > 0 {
		ctx.Report.Ranges = ranges
		ctx.Report.Note("the model was quantised already (QDQ): its weights are taken as the floats that they stand for, and the ranges of %d values are its own", len(ranges))
	}
	absorb(out, edit.NamesOf(out))
	return out, nil
}
