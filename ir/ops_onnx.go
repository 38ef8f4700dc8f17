package ir

// Texts of limits shared by several operators.
const (
	limitFloat    = "element types float and double"
	limitNumeric  = "element types float, double and integers up to int64 (not uint32, uint64)"
	limitFold     = "only where every operand is known at compile time (shape arithmetic)"
	limitShape    = "the shape must be known at compile time"
	limitSpatial  = "1-D and 2-D, " + limitFloat
	limitConstArg = "axes, sizes and bounds must be known at compile time"
)

var (
	attrAxis     = attr("axis", AttrInt, "axis; negative counts from the end")
	attrKeepdims = attr("keepdims", AttrInt, "1 (default): reduced axes stay, with size 1")
	attrAlpha    = attr("alpha", AttrFloat, "parameter of the function")
	attrBeta     = attr("beta", AttrFloat, "parameter of the function")
	attrGamma    = attr("gamma", AttrFloat, "parameter of the function")
	attrEpsilon  = attr("epsilon", AttrFloat, "added to the variance; default 1e-5")
	attrStash    = attr("stash_type", AttrInt, "precision of the statistics; ignored, always the higher")
)

func windowAttrs(more ...Attr) []Attr {
	return append([]Attr{
		enum("auto_pad", "how to pad; NOTSET (default) uses pads", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"),
		attr("kernel_shape", AttrInts, "window size of each spatial axis"),
		attr("strides", AttrInts, "step of each spatial axis; default 1"),
		attr("pads", AttrInts, "padding before each axis, then after each"),
		attr("dilations", AttrInts, "distance of taps; default 1"),
	}, more...)
}

// onnxOps are the operators as imported, in the newest form of their inputs.
func onnxOps() []Op {
	ops := []Op{
		// Arithmetic.
		elementwise("Add", "a + b"),
		elementwise("Sub", "a - b"),
		elementwise("Mul", "a * b"),
		elementwise("Div", "a / b; integers truncate"),
		{Name: "Pow", MinIn: 2, MaxIn: 2, In: []string{"base", "exponent"}, Doc: "a to the power b, in a's type", Limits: limitNumeric, infer: inferPow},
		variadic("Min", "the smaller", numericTypes),
		variadic("Max", "the larger", numericTypes),
		variadic("Sum", "the sum of all inputs", floatTypes),
		variadic("Mean", "the mean of all inputs", floatTypes),
		compare("Equal", "a == b", append(boolTypes, numericTypes...)),
		compare("Less", "a < b", numericTypes),
		since(12, compare("LessOrEqual", "a <= b", numericTypes)),
		compare("Greater", "a > b", numericTypes),
		since(12, compare("GreaterOrEqual", "a >= b", numericTypes)),
		compare("And", "a && b", boolTypes),
		compare("Or", "a || b", boolTypes),
		{Name: "Not", MinIn: 1, MaxIn: 1, Doc: "!x", Pointwise: true, infer: inferSame(boolTypes)},
		since(9, Op{Name: "Where", MinIn: 3, MaxIn: 3, In: []string{"condition", "x", "y"}, Doc: "x where the condition holds, else y", Limits: limitNumeric, Pointwise: true, infer: inferWhere}),
		unary("Neg", "-x", signedTypes),
		unary("Abs", "|x|", numericTypes),
		unary("Floor", "x rounded down", floatTypes),
		unary("Ceil", "x rounded up", floatTypes),
		unary("Sqrt", "square root", floatTypes),
		unary("Exp", "e to the power x", floatTypes),
		unary("Log", "natural logarithm", floatTypes),
		unary("Reciprocal", "1 / x", floatTypes),
		since(9, unary("Erf", "error function", floatTypes)),

		// Activations.
		unary("Relu", "max(x, 0)", signedTypes),
		unary("LeakyRelu", "x, or alpha*x where negative", floatTypes, attrAlpha),
		{Name: "PRelu", MinIn: 2, MaxIn: 2, In: []string{"x", "slope"}, Doc: "x, or slope*x where negative", Limits: limitFloat, infer: inferPRelu},
		unary("Elu", "x, or alpha*(exp(x)-1) where negative", floatTypes, attrAlpha),
		unary("Selu", "gamma * Elu(x)", floatTypes, attrAlpha, attrGamma),
		since(12, unary("Celu", "x, or alpha*(exp(x/alpha)-1) where negative", floatTypes, attrAlpha)),
		unary("Sigmoid", "1 / (1 + exp(-x))", floatTypes),
		unary("HardSigmoid", "clip(alpha*x + beta, 0, 1)", floatTypes, attrAlpha, attrBeta),
		since(14, unary("HardSwish", "x * clip(x/6 + 1/2, 0, 1)", floatTypes)),
		unary("Tanh", "hyperbolic tangent", floatTypes),
		unary("Softplus", "log(1 + exp(x))", floatTypes),
		unary("Softsign", "x / (1 + |x|)", floatTypes),
		since(18, unary("Mish", "x * tanh(softplus(x))", floatTypes)),
		since(20, unary("Gelu", "x * Phi(x)", floatTypes, enum("approximate", "none (default) or tanh", "none", "tanh"))),
		{Name: "Clip", MinIn: 1, MaxIn: 3, In: []string{"x", "min", "max"}, Doc: "x limited to [min, max]", Limits: limitNumeric, infer: inferClip},
		unary("Softmax", "exp(x) over its sum along axis", floatTypes, attrAxis),
		unary("LogSoftmax", "logarithm of Softmax", floatTypes, attrAxis),

		// Layers.
		{Name: "Conv", MinIn: 2, MaxIn: 3, In: []string{"x", "weight", "bias"}, Attrs: windowAttrs(attr("group", AttrInt, "groups of channels; default 1")),
			Doc: "convolution (cross-correlation)", Limits: limitSpatial, infer: inferConv},
		{Name: "Gemm", MinIn: 2, MaxIn: 3, In: []string{"a", "b", "c"}, Attrs: []Attr{attrAlpha, attrBeta, attr("transA", AttrInt, "transpose a first"), attr("transB", AttrInt, "transpose b first")},
			Doc: "alpha*a*b + beta*c", Limits: limitFloat, infer: inferGemm},
		{Name: "MatMul", MinIn: 2, MaxIn: 2, In: []string{"a", "b"}, Doc: "matrix product, numpy's rules for ranks", Limits: limitFloat, infer: inferMatMul},
		{Name: "BatchNormalization", MinIn: 5, MaxIn: 5, In: []string{"x", "scale", "b", "mean", "var"},
			Attrs: []Attr{attrEpsilon, attr("momentum", AttrFloat, "of training; ignored"), attr("training_mode", AttrInt, "must be 0")},
			Doc:   "(x-mean)/sqrt(var+epsilon)*scale + b per channel", Limits: "inference form only; " + limitFloat, infer: inferBatchNorm},
		{Name: "InstanceNormalization", MinIn: 3, MaxIn: 3, In: []string{"x", "scale", "b"}, Attrs: []Attr{attrEpsilon}, Doc: "normalises each channel over its positions", Limits: limitFloat, infer: inferInstanceNorm},
		since(18, Op{Name: "GroupNormalization", MinIn: 3, MaxIn: 3, In: []string{"x", "scale", "b"}, Attrs: []Attr{attrEpsilon, required(attr("num_groups", AttrInt, "groups of channels")), attrStash},
			Doc: "normalises groups of channels over their positions; scale and b per channel", Limits: limitFloat, infer: inferGroupNorm}),
		since(17, Op{Name: "LayerNormalization", MinIn: 2, MaxIn: 3, MaxOut: 3, In: []string{"x", "scale", "b"}, Attrs: []Attr{attrAxis, attrEpsilon, attrStash},
			Doc: "normalises over the axes from axis on; outputs Mean and InvStdDev on request", Limits: limitFloat, infer: inferLayerNorm}),
		{Name: "MaxPool", MinIn: 1, MaxIn: 1, Attrs: windowAttrs(attr("ceil_mode", AttrInt, "1: a last, partial window counts"), attr("storage_order", AttrInt, "of the indices; ignored")),
			Doc: "largest value of each window", Limits: "1-D and 2-D; element types float, double, int8, uint8; without the second output (indices)", infer: inferPool([]DType{F32, F64, I8, U8})},
		{Name: "AveragePool", MinIn: 1, MaxIn: 1, Attrs: windowAttrs(attr("ceil_mode", AttrInt, "1: a last, partial window counts"), attr("count_include_pad", AttrInt, "1: padding counts as zeros")),
			Doc: "mean of each window", Limits: limitSpatial, infer: inferPool(floatTypes)},
		{Name: "GlobalMaxPool", MinIn: 1, MaxIn: 1, Doc: "largest value of each channel", Limits: limitFloat, infer: inferGlobalPool},
		{Name: "GlobalAveragePool", MinIn: 1, MaxIn: 1, Doc: "mean of each channel", Limits: limitFloat, infer: inferGlobalPool},
		reduce("ReduceMax", "largest value"),
		reduce("ReduceMin", "smallest value"),
		reduce("ReduceMean", "mean"),
		reduce("ReduceSum", "sum"),
		reduce("ReduceProd", "product"),
		reduce("ReduceL1", "sum of magnitudes"),
		reduce("ReduceL2", "square root of the sum of squares"),
		reduce("ReduceSumSquare", "sum of squares"),
		arg("ArgMax", "index of the largest value"),
		arg("ArgMin", "index of the smallest value"),
		since(10, Op{Name: "QuantizeLinear", MinIn: 2, MaxIn: 3, In: []string{"x", "scale", "zero_point"},
			Attrs: []Attr{attrAxis, attr("saturate", AttrInt, "of float8; ignored"), attr("output_dtype", AttrString, "element type without a zero point; default u8")},
			Doc:   "round(x/scale) + zero_point, saturated", Limits: "to int8, uint8, int16, uint16; per tensor or per axis, not blocked", infer: inferQuantize}),
		since(10, Op{Name: "DequantizeLinear", MinIn: 2, MaxIn: 3, In: []string{"x", "scale", "zero_point"}, Attrs: []Attr{attrAxis},
			Doc: "(x - zero_point) * scale", Limits: "from int8, uint8, int16, uint16, int32 to float; per tensor or per axis, not blocked", infer: inferDequantize}),

		// Layout.
		{Name: "Identity", MinIn: 1, MaxIn: 1, Doc: "x", infer: inferSame(append(boolTypes, numericTypes...))},
		{Name: "Dropout", MinIn: 1, MaxIn: 1, Attrs: []Attr{attr("ratio", AttrFloat, "of training; ignored"), attr("seed", AttrInt, "of training; ignored")},
			Doc: "x", Limits: "inference form only; without the mask output", infer: inferSame(floatTypes)},
		{Name: "Cast", MinIn: 1, MaxIn: 1, Attrs: []Attr{required(attr("to", AttrString, "element type: f32, i64, ..."))},
			Doc: "x in another element type", Limits: "between float, double, bool and integers up to int64 (not uint32, uint64, string)", infer: inferCast},
		{Name: "Concat", MinIn: 1, MaxIn: Many, Attrs: []Attr{required(attrAxis)}, Doc: "inputs one after another along axis", infer: inferConcat},
		{Name: "Slice", MinIn: 3, MaxIn: 5, In: []string{"data", "starts", "ends", "axes", "steps"}, Doc: "a range of each axis", Limits: limitConstArg, infer: inferSlice},
		{Name: "Split", MinIn: 1, MaxIn: 2, MaxOut: Many, In: []string{"data", "split"}, Attrs: []Attr{attrAxis, attr("num_outputs", AttrInt, "number of parts; the last may be smaller")},
			Doc: "parts of an axis", Limits: limitConstArg, infer: inferSplit},
		{Name: "Pad", MinIn: 2, MaxIn: 4, In: []string{"data", "pads", "value", "axes"},
			Attrs: []Attr{enum("mode", "what to pad with; default constant", "constant", "reflect", "edge", "wrap")}, Doc: "data, extended or (negative pads) cut", Limits: limitConstArg, infer: inferPad},
		{Name: "Transpose", MinIn: 1, MaxIn: 1, Attrs: []Attr{attr("perm", AttrInts, "order of axes; default reversed")}, Doc: "axes in another order", infer: inferTranspose},
		{Name: "Reshape", MinIn: 2, MaxIn: 2, In: []string{"data", "shape"}, Attrs: []Attr{attr("allowzero", AttrInt, "1: a 0 is a size; 0 (default): it copies the input's")},
			Doc: "the same elements in another shape", Limits: limitShape, infer: inferReshape},
		{Name: "Flatten", MinIn: 1, MaxIn: 1, Attrs: []Attr{attrAxis}, Doc: "two axes: those before axis and the rest", infer: inferFlatten},
		{Name: "Squeeze", MinIn: 1, MaxIn: 2, In: []string{"data", "axes"}, Doc: "without axes of size 1", Limits: limitConstArg, infer: inferSqueeze},
		{Name: "Unsqueeze", MinIn: 2, MaxIn: 2, In: []string{"data", "axes"}, Doc: "with more axes of size 1", Limits: limitConstArg, infer: inferUnsqueeze},
		since(8, Op{Name: "Expand", MinIn: 2, MaxIn: 2, In: []string{"data", "shape"}, Doc: "broadcast to a shape", Limits: limitShape, infer: inferExpand}),
		{Name: "Tile", MinIn: 2, MaxIn: 2, In: []string{"data", "repeats"}, Doc: "repeated along each axis", Limits: limitConstArg, infer: inferTile},
		{Name: "Gather", MinIn: 2, MaxIn: 2, In: []string{"data", "indices"}, Attrs: []Attr{attrAxis}, Doc: "entries of an axis by index; an embedding", infer: inferGather},
		{Name: "Shape", MinIn: 1, MaxIn: 1, Attrs: []Attr{attr("start", AttrInt, "first axis"), attr("end", AttrInt, "axis after the last")}, Doc: "dimensions, as int64", infer: inferShape},
		{Name: "Size", MinIn: 1, MaxIn: 1, Doc: "number of elements, as int64", infer: inferSize},
		{Name: "Constant", MaxIn: 0, Doc: "a constant; becomes one at import", Limits: "tensors, numbers and lists of numbers, not strings or sparse tensors", infer: inferConstant},
		since(9, Op{Name: "ConstantOfShape", MinIn: 1, MaxIn: 1, In: []string{"shape"}, Attrs: []Attr{attr("value", AttrNumber, "every element; default 0"), attr("dtype", AttrString, "element type; default f32")},
			Doc: "one value in every place", Limits: limitShape, infer: inferConstantOfShape}),
		since(11, Op{Name: "Range", MinIn: 3, MaxIn: 3, In: []string{"start", "limit", "delta"}, Doc: "start, start+delta, ... up to limit", Limits: limitFold, infer: inferRange}),
	}
	for i := range ops {
		op := &ops[i]
		op.Group, op.MinOut, op.MaxOpset = GroupONNX, 1, MaxOpset
		if op.MaxOut == 0 {
			op.MaxOut = 1
		}
		op.MinOpset = max(op.MinOpset, MinOpset)
	}
	return ops
}

func since(opset int, op Op) Op { op.MinOpset = opset; return op }

func limitOf(allowed []DType) string {
	switch {
	case len(allowed) == len(floatTypes):
		return limitFloat
	case len(allowed) == len(boolTypes):
		return ""
	}
	return limitNumeric
}

func unary(name, doc string, allowed []DType, attrs ...Attr) Op {
	op := Op{Name: name, MinIn: 1, MaxIn: 1, In: []string{"x"}, Attrs: attrs, Doc: doc, Limits: limitOf(allowed), Pointwise: true, infer: inferSame(allowed)}
	if op.Attr("axis") != nil {
		op.infer, op.Pointwise = inferSoftmax, false
	}
	return op
}

func elementwise(name, doc string) Op {
	return Op{Name: name, MinIn: 2, MaxIn: 2, In: []string{"a", "b"}, Doc: doc, Limits: limitNumeric, Pointwise: true, infer: inferBroadcast(numericTypes, Invalid)}
}

func compare(name, doc string, allowed []DType) Op {
	return Op{Name: name, MinIn: 2, MaxIn: 2, In: []string{"a", "b"}, Doc: doc, Limits: limitOf(allowed), Pointwise: true, infer: inferBroadcast(allowed, Bool)}
}

func variadic(name, doc string, allowed []DType) Op {
	return Op{Name: name, MinIn: 1, MaxIn: Many, Doc: doc, Limits: limitOf(allowed), Pointwise: true, infer: inferBroadcast(allowed, Invalid)}
}

func reduce(name, doc string) Op {
	return Op{Name: name, MinIn: 1, MaxIn: 2, In: []string{"data", "axes"},
		Attrs: []Attr{attrKeepdims, attr("noop_with_empty_axes", AttrInt, "1: no axes means no reduction; 0 (default): over all")},
		Doc:   doc + " over axes", Limits: limitNumeric + "; " + limitConstArg, infer: inferReduce}
}

func arg(name, doc string) Op {
	return Op{Name: name, MinIn: 1, MaxIn: 1, Attrs: []Attr{attrAxis, attrKeepdims, attr("select_last_index", AttrInt, "1: the last of equals; 0 (default): the first")},
		Doc: doc + " along axis", Limits: limitNumeric, infer: inferArg}
}
