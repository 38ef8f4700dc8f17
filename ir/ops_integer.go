package ir

import "math"

// bounded is an int attribute, or one of ints, within lo..hi.
func bounded(a Attr, lo, hi int) Attr { a.Lo, a.Hi = lo, hi; return a }

// Attributes that several integer steps have. Rescaling is (x*mult + half) >> shift.
var (
	attrShift = bounded(required(attr("shift", AttrInt, "bits of the rounding shift")), 0, 62)
	attrMult  = word(required(attr("mult", AttrInt, "factor")))
	attrLo    = word(required(attr("lo", AttrInt, "least result")))
	attrHi    = word(required(attr("hi", AttrInt, "largest result")))
	attrTile  = attr("tile", AttrInt, "positions computed at a time, made by passes/tile; default all")
)

// word bounds an attribute to 32 bits.
func word(a Attr) Attr { return bounded(a, math.MinInt32, math.MaxInt32) }

// integerOps mirror the steps of a bundle's program, on sequences [T,C] (time-major) and vectors [C]
// of i8, i16 and i32. Their rules check operands and shapes; which element type a result
// has, of those that the step can write, is the quantize pass's choice and declared. That accumulators fit is
// proved on the program, by package bundle.
func integerOps() []Op {
	binary := func(name, doc string, attrs ...Attr) Op {
		return Op{Name: name, MinIn: 2, MaxIn: 2, In: []string{"a", "b"}, Attrs: append(attrs, attrShift, attrLo, attrHi), Doc: doc, infer: inferIntBinary}
	}
	return inGroup(GroupInteger, []Op{
		{Name: "token_table", MinIn: 2, MaxIn: 2, In: []string{"tokens", "table"}, Attrs: []Attr{attrEncoding, attrTile},
			Doc: "look-up of each token", infer: inferTokenTable},
		{Name: "int_gated_conv", MinIn: 11, MaxIn: 14, Optional: []int{1},
			In: []string{"x", "residual", "chan_h", "chan_g", "taps_h", "taps_g", "bias_h", "bias_g", "pad", "base", "slope", "rho", "cst", "flip"},
			Attrs: []Attr{required(attr("k", AttrInt, "taps")), required(attr("pad_left", AttrInt, "padding before")), bounded(attr("shift", AttrInt, "bits, without LayerNorm"), 0, 14),
				word(attr("mean_m", AttrInt, "2^23 over the channels")), word(attr("eps", AttrInt, "of the variance")), word(attr("a", AttrInt, "factor of LayerNorm")),
				bounded(attr("s", AttrInt, "bits of LayerNorm's root"), 0, 62), bounded(attr("norm_shift", AttrInt, "bits, with LayerNorm"), 0, 7), attrTile},
			Doc: "fused gated layer", infer: inferIntGatedConv},
		{Name: "int_conv", MinIn: 3, MaxIn: 6, Optional: []int{3, 4, 5}, In: []string{"x", "w", "b", "mult", "pad", "table"},
			Attrs: []Attr{attr("stride", AttrInt, "default 1"), attr("dilation", AttrInt, "default 1"), attr("groups", AttrInt, "default 1"),
				attr("pad_left", AttrInt, "positions before"), attr("pad_right", AttrInt, "positions after"),
				bounded(attr("shift", AttrInt, "bits of the rounding shift"), 0, 62), word(attr("lo", AttrInt, "least result")), word(attr("hi", AttrInt, "largest result")), attrTile},
			Doc: "convolution or linear layer with requantisation", infer: inferIntConv},
		{Name: "int_pool", MinIn: 1, MaxIn: 2, In: []string{"x", "valid"}, Attrs: []Attr{required(enum("kind", "how", "max", "mean", "sum", "select")), attr("at", AttrInt, "the position that select takes"),
			word(attr("mult", AttrInt, "factor of a sum")), bounded(attr("shift", AttrInt, "bits of a sum's rounding shift"), 0, 62)},
			Doc: "one vector from all positions, or from the first valid ones", infer: inferIntPool},
		{Name: "int_window_pool", MinIn: 1, MaxIn: 1, In: []string{"x"}, Attrs: []Attr{required(enum("kind", "how", "max", "mean")), required(attr("k", AttrInt, "window")), attr("stride", AttrInt, "default 1"),
			attr("pad_left", AttrInt, "positions before"), attr("pad_right", AttrInt, "positions after"), attr("count_pad", AttrInt, "1: mean counts padding as zeros")},
			Doc: "pooling with a window", infer: inferIntWindowPool},
		{Name: "int_lut", MinIn: 2, MaxIn: 2, In: []string{"x", "table"}, Attrs: []Attr{attrMult, attrShift}, Doc: "table of any function", infer: inferIntLut},
		binary("int_add", "rescaling addition", word(required(attr("mult_a", AttrInt, "factor of a"))), word(required(attr("mult_b", AttrInt, "factor of b"))),
			bounded(attr("bias", AttrInt, "summand; default 0"), math.MinInt64, math.MaxInt64)),
		binary("int_mul", "rescaling product", attrMult),
		{Name: "int_layer_norm", MinIn: 3, MaxIn: 3, In: []string{"x", "gamma", "beta"}, Attrs: []Attr{bounded(required(attr("eps", AttrInt, "of the variance")), 0, math.MaxInt64), attrShift, attrRMS},
			Doc: "layer norm", infer: inferIntLayerNorm},
		{Name: "int_concat", MinIn: 1, MaxIn: Many, Attrs: []Attr{required(bounded(attrAxis, 0, 1)), word(required(attr("mult", AttrInts, "factor of each input"))), bounded(required(attr("shift", AttrInts, "bits of each input's rounding shift; 0 copies")), 0, 62)},
			Doc: "rescaling concatenation of positions (axis 0) or channels (1)", infer: inferIntConcat},
		{Name: "int_slice", MinIn: 1, MaxIn: 1, In: []string{"x"}, Attrs: []Attr{required(bounded(attrAxis, 0, 1)), attr("start", AttrInt, "default 0"), attr("step", AttrInt, "default 1")},
			Doc: "positions (axis 0) or channels (1) start, start+step, ..., as many as are declared", infer: inferIntSlice},
		{Name: "int_flatten", MinIn: 1, MaxIn: 1, In: []string{"x"}, Doc: "positions joined into one vector", infer: inferIntFlatten},
		{Name: "int_transpose", MinIn: 1, MaxIn: 1, In: []string{"x"}, Doc: "positions become channels, channels positions", infer: inferIntTranspose},
		{Name: "int_regroup", MinIn: 1, MaxIn: 1, In: []string{"x"}, Attrs: []Attr{required(attr("rows", AttrInt, "rows of the result"))}, Doc: "the same elements, row-major, in another number of rows", infer: inferIntRegroup},
		{Name: "int_gather", MinIn: 2, MaxIn: 3, In: []string{"x", "index", "pad"}, Doc: "position index[i] at position i, padding where it is -1", infer: inferIntGather},
		{Name: "int_softmax", MinIn: 2, MaxIn: 2, In: []string{"x", "exp"}, Attrs: []Attr{attrMult, attrShift}, Doc: "probabilities of each position's channels, in 1/2^15", infer: inferIntSoftmax},
		{Name: "int_constant", MinIn: 1, MaxIn: 1, In: []string{"data"}, Doc: "the same value for every input", infer: inferIntConstant},
		{Name: "int_side", MinIn: 3, MaxIn: 3, In: []string{"ids", "zero", "mult"}, Attrs: []Attr{bounded(required(attr("at", AttrInt, "the first id")), 0, math.MaxInt32), attrShift}, Doc: "numbers beside the sequence: ids less zero, rescaled", infer: inferIntSide},
		{Name: "int_output", MinIn: 2, MaxIn: 2, In: []string{"x", "exp"}, Attrs: []Attr{required(enum("kind", "what the model's own output was", "logits", "softmax", "log_softmax", "sigmoid", "argmax")),
			required(attr("scale", AttrFloat, "logits in the model's units")), word(required(attr("exp_mult", AttrInt, "factor of a distance of logits"))), bounded(required(attr("exp_shift", AttrInt, "bits of its shift")), 0, 62)},
			Doc: "model output: logits and what scores are computed with", infer: inferIntOutput},
	})
}
