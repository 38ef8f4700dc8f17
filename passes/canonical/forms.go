package canonical

// Form says what becomes of an ONNX operator, for the documentation; the rules
// enforce it.
type Form struct {
	// Into are the canonical operators it turns into; none: it costs nothing,
	// since only names of axes change.
	Into []string
	// Limits is what the rule asks beyond the importer.
	Limits string
	// Folded says that the operator is taken in constant expressions only.
	// Reason and WayOut are the refusal elsewhere.
	Folded         bool
	Reason, WayOut string
}

// FormOf describes an operator of ir's ONNX table.
func FormOf(op string) Form {
	f, ok := forms[op]
	switch {
	case rules[op] == nil && !f.always():
		err, _ := noRule(op).(*refusal)
		return Form{Folded: true, Reason: err.reason, WayOut: err.way}
	case !ok:
		return into("", "act") // a function of one value
	}
	return f
}

// always says that the operator disappears whatever it reads.
func (f Form) always() bool { return f.Limits == dropped }

const (
	dropped    = "disappears at compile time"
	broadcast  = "numpy's broadcast; a constant may differ from position to position"
	overWhole  = "over positions (all, or those of a mask)"
	maskOnly   = "in mask arithmetic only (a mask input, or tokens compared with the padding id), which becomes a reduction over the valid positions"
	flattens   = "up to three axes besides batch"
	wholeNorm  = "over the positions too, which then needs all of them"
	floatsOnly = "of floats"
)

func into(limits string, ops ...string) Form { return Form{Into: ops, Limits: limits} }

// forms has an entry for every operator of rules that is no mere activation.
var forms = map[string]Form{
	"Identity": {Limits: dropped}, "Dropout": {Limits: dropped}, "Constant": {Limits: dropped}, "Shape": {Limits: dropped}, "Size": {Limits: dropped},

	"Transpose": {}, "Expand": {Limits: "of computed values: new axes of size 1 only"},
	"Reshape": into(flattens, "flatten", "regroup"), "Flatten": into(flattens, "flatten"), "Squeeze": {}, "Unsqueeze": {},
	"Cast":  into("of inputs, masks and labels; computed values stay float", "cast"),
	"Slice": into("", "slice", "pool", "gather"), "Split": into("", "slice"),
	"Gather": into("rows of a constant table by the token ids (an embedding); fixed positions or channels in any order", "embed", "pool", "slice", "gather", "linear"),
	"Pad":    into("along positions; a value of any mode; of images zeros only; in front of a convolution zeros cost nothing", "conv", "pad", "gather"),
	"Concat": into("along channels or positions", "concat"),

	"MatMul":                into("one side constant: a matrix over channels or over positions", "linear", "transpose"),
	"Gemm":                  into("constant weights and bias", "linear"),
	"Conv":                  into("constant weights; 2-D too: windows over height and width are gathered", "conv", "linear", "gather"),
	"LayerNormalization":    into("over channels, positions or both; also in the chains of primitives that exporters write", "layer_norm", "transpose", "regroup"),
	"BatchNormalization":    into("folded into the layer beside it where padding allows", "affine"),
	"GroupNormalization":    into(wholeNorm, "layer_norm", "transpose", "regroup", "affine"),
	"InstanceNormalization": into(wholeNorm, "layer_norm", "transpose", "affine"),
	"MaxPool":               into("1-D and 2-D; 1-D with dilation 1", "window_pool", "pool", "gather"),
	"AveragePool":           into("1-D and 2-D", "window_pool", "pool", "gather", "conv", "mul"),
	"GlobalMaxPool":         into("", "pool"), "GlobalAveragePool": into("", "pool"),
	"ReduceMax":       into(overWhole, "pool"),
	"ReduceMean":      into(overWhole+", or over channels", "pool", "linear"),
	"ReduceSum":       into(overWhole+", or over channels", "pool", "linear"),
	"ReduceMin":       into("over all positions, "+floatsOnly, "act", "pool"),
	"ReduceL1":        into("over all positions or over channels, "+floatsOnly, "act", "pool", "linear"),
	"ReduceSumSquare": into("over all positions or over channels, "+floatsOnly, "act", "pool", "linear"),
	"ReduceL2":        into("over all positions or over channels, "+floatsOnly, "act", "pool", "linear"),
	"Softmax":         into("over the classes, as the end of an output; over channels or positions within the model, as weights", "softmax"),
	"LogSoftmax":      into("over the classes, as the end of an output", "log_softmax"),
	"ArgMax":          into("over the classes, as the end of an output; the first of equals", "argmax"),

	"QuantizeLinear":   into("per tensor, and followed by DequantizeLinear with the same scale (QDQ form): the pair disappears, its range is the value's"),
	"DequantizeLinear": into("of weights: folded; of activations: with its QuantizeLinear", "affine"),

	"Clip": into("bounds constant", "act"), "PRelu": into("one slope, or one per channel", "act"),
	"Gelu": into("also in the chains of primitives that exporters write (erf and tanh forms)", "act"),
	"Mish": into("also as x*tanh(softplus(x))", "act"), "HardSwish": into("also as x*hardsigmoid(x) and x*relu6(x+3)/6", "act"),
	"Sigmoid": into("x*sigmoid(x) becomes SiLU", "act"), "Softsign": into("also as x/(1+|x|)", "act"),
	"Neg": into(floatsOnly, "act"),

	"Add": into(broadcast, "add"), "Sub": into(broadcast, "sub"), "Mul": into(broadcast, "mul"),
	"Div": into(broadcast+"; by a computed value: times its reciprocal", "div"),
	"Min": into(broadcast, "min"), "Max": into(broadcast, "max"), "Sum": into(broadcast, "add"), "Mean": into(broadcast, "add", "mul"),
	"Pow": into("constant exponent, or constant base above 0", "act", "pow"),

	"Equal": into(maskOnly), "Less": into(maskOnly), "LessOrEqual": into(maskOnly), "Greater": into(maskOnly), "GreaterOrEqual": into(maskOnly),
	"And": into(maskOnly), "Or": into(maskOnly), "Not": into(maskOnly), "Where": into(maskOnly),
}
