package ir

import (
	"math"

	"nepcoc/ir/acts"
	"nepcoc/runtime/arith"
)

// fusedAct are the attributes by which conv and linear carry the activation
// of their result.
var fusedAct = []Attr{
	enum("act", "activation applied to the result", acts.Names((*acts.Func).Fuses)...),
	attr("act_alpha", AttrFloat, "parameter of act"),
	attr("act_beta", AttrFloat, "parameter of act"),
	attr("act_gamma", AttrFloat, "parameter of act"),
	attr("act_min", AttrFloat, "lower bound of clip"),
	attr("act_max", AttrFloat, "upper bound of clip"),
}

var attrRMS = bounded(attr("rms", AttrInt, "1: no mean is taken off"), 0, 1)

// attrEncoding is a text, not one of a list: a contract's mean and deviation are any numbers.
var attrEncoding = attr("encoding", AttrString, "what a token is in the model's own terms: byte, byte/255, (byte-127.5)/127.5; default token")

// SidesInput is the name of a localized graph's input of ids beside the sequence, which operators side read.
const SidesInput = "sides"

// canonicalOps work on sequences f32[T,C] (time-major) and vectors f32[C].
func canonicalOps() []Op {
	binary := func(name, doc, steps string) Op {
		return Op{Name: name, MinIn: 2, MaxIn: 2, In: []string{"a", "b"}, Doc: doc, Pointwise: true, Integer: integer(steps, OneOf), infer: inferBroadcast(numericTypes, Invalid)}
	}
	ops := []Op{
		{Name: "embed", MinIn: 2, MaxIn: 5, In: []string{"tokens", "table", "narrow", "w", "b"}, Attrs: []Attr{attrEncoding},
			Doc: "row tokens[t] of the table, for each position; where given, the table is narrow*w^T + b", Integer: integer("token_table", 1), infer: inferEmbed},
		{Name: "side", MinIn: 1, MaxIn: 1, In: []string{"ids"}, Attrs: []Attr{bounded(required(attr("at", AttrInt, "the first id")), 0, math.MaxInt32), word(required(attr("low", AttrInts, "what id 0 stands for, in steps, of each number"))),
			bounded(required(attr("exp", AttrInts, "the step of each number, as a power of two")), -arith.MaxGridExp, arith.MaxGridExp)},
			Doc: "numbers beside the sequence, of their ids: (low+id)*2^exp", Integer: integer("side", 1), infer: inferSide},
		until("localize: the mask's; legalize refuses others but at the end of an output", Op{Name: "cast", MinIn: 1, MaxIn: 1, In: []string{"x"}, Attrs: []Attr{required(attr("to", AttrString, "element type"))}, Doc: "x in another element type", Pointwise: true, infer: inferCast}),
		until("localize: of tokens and masks", Op{Name: "reshape", MinIn: 1, MaxIn: 1, In: []string{"x"}, Attrs: []Attr{required(attr("shape", AttrInts, "the new shape"))}, Doc: "the same elements in another shape", Pointwise: true, infer: inferReshape}),
		{Name: "linear", MinIn: 2, MaxIn: 3, In: []string{"x", "w", "b"}, Attrs: fusedAct, Doc: "act(x*w^T + b), w [O,I]", Integer: integer("conv", 1), infer: inferLinear},
		{Name: "conv", MinIn: 2, MaxIn: 3, In: []string{"x", "w", "b"}, Attrs: append([]Attr{
			attr("stride", AttrInt, "default 1"), attr("dilation", AttrInt, "default 1"), attr("groups", AttrInt, "default 1"),
			attr("pad_left", AttrInt, "zeros before"), attr("pad_right", AttrInt, "zeros after"),
		}, fusedAct...), Doc: "act(convolution over positions + b), w [O,K,I]", Integer: integer("conv", 1), infer: inferCanonicalConv},
		{Name: "affine", MinIn: 3, MaxIn: 3, In: []string{"x", "scale", "shift"}, Doc: "x*scale + shift per channel", Pointwise: true, Integer: integer("conv", 1), infer: inferPerChannel},
		{Name: "layer_norm", MinIn: 3, MaxIn: 3, In: []string{"x", "gamma", "beta"}, Attrs: []Attr{attrEpsilon, attrRMS}, Doc: "normalises over the last axis, then x*gamma + beta", Integer: integer("layer_norm, or part of gated_conv", 1), infer: inferLayerNormRows},
		{Name: "act", MinIn: 1, MaxIn: 2, In: []string{"x", "slope"}, Attrs: []Attr{required(enum("fn", "the function", acts.Names(func(*acts.Func) bool { return true })...)),
			attrAlpha, attrBeta, attrGamma, attr("min", AttrFloat, "lower bound of clip"), attr("max", AttrFloat, "upper bound of clip")},
			Doc: "fn of each element", Pointwise: true, Integer: integer("part of the conv before it, else lut", 1), infer: inferAct},
		binary("add", "a + b", "add; conv with a constant"), binary("sub", "a - b", "add; conv with a constant"), binary("mul", "a * b", "mul; conv with a constant"),
		binary("div", "a / b", "conv"), binary("min", "the smaller", "conv (a clamp)"), binary("max", "the larger", "conv (a clamp)"),
		until("legalize: a function, or exp of a product", Op{Name: "pow", MinIn: 2, MaxIn: 2, In: []string{"a", "b"}, Doc: "a to the power b", Pointwise: true, infer: inferBroadcast(numericTypes, Invalid)}),
		{Name: "pool", MinIn: 1, MaxIn: 2, In: []string{"x", "valid"}, Attrs: []Attr{required(enum("kind", "how", "max", "mean", "sum", "select")), attr("at", AttrInt, "the position that select takes")},
			Doc: "one vector from all positions, or from the first valid ones", Picks: true, Integer: integer("pool", 2), infer: inferCanonicalPool},
		{Name: "window_pool", MinIn: 1, MaxIn: 1, In: []string{"x"}, Attrs: []Attr{required(enum("kind", "how", "max", "mean")), required(attr("k", AttrInt, "window")), attr("stride", AttrInt, "default 1"),
			attr("pad_left", AttrInt, "positions before"), attr("pad_right", AttrInt, "positions after"), attr("count_pad", AttrInt, "1: mean counts padding as zeros")},
			Doc: "pooling with a window over positions", Picks: true, Integer: integer("window_pool", 1), infer: inferWindowPool},
		{Name: "slice", MinIn: 1, MaxIn: 1, In: []string{"x"}, Attrs: []Attr{required(attrAxis), attr("start", AttrInt, "default 0"), attr("step", AttrInt, "default 1"), required(attr("count", AttrInt, "elements"))},
			Doc: "count elements start, start+step, ... of an axis", Picks: true, Integer: integer("slice", 1), infer: inferSlice},
		{Name: "concat", MinIn: 1, MaxIn: Many, Attrs: []Attr{required(attrAxis)}, Doc: "inputs one after another along axis", Picks: true, Integer: integer("concat", Many), infer: inferConcat},
		{Name: "pad", MinIn: 1, MaxIn: 1, In: []string{"x"}, Attrs: []Attr{attr("left", AttrInt, "positions before"), attr("right", AttrInt, "positions after"),
			enum("mode", "what to pad with; default constant", "constant", "reflect", "edge", "wrap"), attr("value", AttrFloat, "of mode constant; default 0")},
			Doc: "x, extended along positions", Picks: true, Integer: integer("gather (reflect, edge, wrap)", 1), infer: inferPad},
		{Name: "flatten", MinIn: 1, MaxIn: 1, In: []string{"x"}, Doc: "[T,C] to [T*C], row-major", Picks: true, Integer: integer("flatten", 1), infer: inferCanonicalFlatten},
		{Name: "transpose", MinIn: 1, MaxIn: 1, In: []string{"x"}, Doc: "[T,C] to [C,T]: what follows works on positions as it does on channels", Picks: true, Integer: integer("transpose", 1), infer: inferCanonicalTranspose},
		{Name: "regroup", MinIn: 1, MaxIn: 1, In: []string{"x"}, Attrs: []Attr{required(attr("rows", AttrInt, "rows of the result"))}, Doc: "the same elements, row-major, in another number of rows", Picks: true, Integer: integer("regroup", 1), infer: inferRegroup},
		{Name: "gather", MinIn: 2, MaxIn: 2, In: []string{"x", "index"}, Doc: "position index[i] at position i, zeros where it is -1", Picks: true, Integer: integer("gather", 1), infer: inferCanonicalGather},
		{Name: "softmax", MinIn: 1, MaxIn: 1, In: []string{"x"}, Doc: "exp(x) over its sum, along the last axis", Integer: integer("softmax; none at the end of an output: the program ends at the logits", 1), infer: inferLastAxis},
		until("quantize: the program ends at the logits", Op{Name: "log_softmax", MinIn: 1, MaxIn: 1, In: []string{"x"}, Doc: "logarithm of softmax", infer: inferLastAxis}),
		until("quantize: the program ends at the logits", Op{Name: "argmax", MinIn: 1, MaxIn: 1, In: []string{"x"}, Doc: "index of the largest element, the first of equals", infer: inferCanonicalArgmax}),
	}
	return inGroup(GroupCanonical, ops)
}

func fusedOps() []Op {
	return inGroup(GroupFused, []Op{
		{Name: "gated_conv", MinIn: 8, MaxIn: 10, Optional: []int{1}, In: []string{"x", "residual", "chan_h", "chan_g", "wh", "wg", "bh", "bg", "gamma", "beta"},
			Attrs: []Attr{required(attr("k", AttrInt, "taps")), attr("pad_left", AttrInt, "zeros before"), attr("pad_right", AttrInt, "zeros after"), attr("alpha", AttrFloat, "factor of the residual; default 1"), attrEpsilon},
			Doc:   "h * sigmoid(g) of two one-channel convolutions, + alpha*residual, then layer norm", Integer: integer("gated_conv, or the steps it is made of", 2), infer: inferGatedConv},
	})
}

func integer(steps string, constants int) *IntegerForm { return &IntegerForm{steps, constants} }

func until(pass string, op Op) Op { op.Until = pass; return op }

func inGroup(g OpGroup, ops []Op) []Op {
	for i := range ops {
		ops[i].Group, ops[i].MinOut, ops[i].MaxOut = g, 1, 1
	}
	return ops
}
