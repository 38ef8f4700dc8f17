package quantize

import (
	"errors"
	"fmt"
	"math"

	"nepcoc/ir"
	"nepcoc/passes/internal/edit"
	"nepcoc/runtime/arith"
)

// Logits are what an output of a fused graph is made of, and what the model itself made of
// them: see bundle.Ending.
func Logits(output *ir.Value) (logits *ir.Value, kind string) { return edit.Logits(output) }

// output emits the end of output i: the 32-bit logits, what the model itself
// made of them, and the table that turns their distances into probabilities.
func (q *quantizer) output(i int) error {
	v, kind := edit.Logits(q.src.Outputs[i])
	x := q.vals[v]
	n := &ir.Node{Op: "output", Origin: q.src.OutputNames[i]}
	if v.Def != nil {
		n.Origin = v.Def.Origin
	}
	switch {
	case x == nil:
		return ir.Problems{ir.ProblemOf(n, "is a model output that no integer operator produces", "make the logits the output")}
	case rows(v) != 1:
		return ir.Problems{ir.ProblemOf(n, fmt.Sprintf("is a model output of shape %v: verdicts are vectors of one logit per class", v.Type.Shape), "reduce over positions before the output")}
	}
	if x.val.Type.DType != ir.I32 || !x.uniform() || x.offset[0] != 0 {
		var err error
		if x, err = q.toLogits(n, v, x); err != nil {
			return err
		}
	}
	scale := x.scale[0]
	exp := arith.ExpTable()
	mult, shift := arith.ExpRatio(scale)
	name := q.src.OutputNames[i]
	out := q.emitNamed("int_output", n, name+".output", x.val.Type,
		[]*ir.Value{x.val, constant(name+".exp", ir.I32, exp, len(exp))},
		ir.Attrs{"kind": kind, "scale": scale, "exp_mult": int(mult), "exp_shift": shift})
	q.out.Outputs = append(q.out.Outputs, out)
	return nil
}

// toLogits brings a narrower value to 32 bits and one scale.
func (q *quantizer) toLogits(n *ir.Node, v *ir.Value, x *quant) (*quant, error) {
	if x.val.Type.DType == ir.I32 {
		return nil, errors.New("BUG: 32-bit logits with several scales")
	}
	_, _, clip := q.observed(v, 32767)
	scale := nonZero(clip) / (1 << logitBits)
	c := channels(v)
	w := pointwise(spread([]float32{1}, c), nil)
	wq, bq, acc := q.fold(x, v, w, 0, 127)
	mult, shift := multipliers(acc, scale)
	name := v.Name + ".logits"
	val := q.emitNamed("int_conv", n, name, ir.Type{DType: ir.I32, Shape: v.Type.Shape}, []*ir.Value{x.val,
		weightTensor(name+".w", wq, c, 1, 1), constant(name+".b", ir.I32, bq, c), constant(name+".mult", ir.I32, mult, c)},
		ir.Attrs{"stride": 1, "dilation": 1, "pad_left": 0, "pad_right": 0, "groups": c, "shift": shift,
			"lo": math.MinInt32, "hi": math.MaxInt32})
	return &quant{val: val, scale: fill(c, scale), offset: fill(c, 0)}, nil
}

// softmax inside the model makes probabilities of 16 bits.
func (q *quantizer) softmax(n *ir.Node) error {
	x, v := q.even(n, n.Inputs[0]), n.Out()
	if q.feedsGated(v) {
		return errors.New("makes probabilities of 16 bits, where a gated layer reads 8")
	}
	exp := arith.ExpTable()
	mult, shift := arith.ExpRatio(x.scale[0])
	c := channels(v)
	q.set(v, q.emit("int_softmax", n, v, ir.I16, []*ir.Value{x.val, constant(v.Name+".exp", ir.I32, exp, len(exp))},
		ir.Attrs{"mult": int(mult), "shift": shift}), fill(c, 1.0/(1<<arith.ProbabilityBits)), fill(c, 0))
	return nil
}
