package canonical

import "nepcoc/ir/acts"

// rules says how each ONNX operator becomes canonical. An operator that is not
// here can only be part of a constant expression.
var rules map[string]rule

func init() {
	rules = map[string]rule{
		// Names and shapes.
		"Transpose": single(transpose), "Cast": single(cast), "Expand": single(expand),
		"Reshape": single(reshape), "Flatten": single(reshape), "Squeeze": single(reshape), "Unsqueeze": single(reshape),
		"Slice": single(slice), "Split": split, "Gather": gather, "Pad": single(pad), "Concat": concat,

		// Layers.
		"MatMul": matMul, "Gemm": single(gemm), "Conv": single(conv),
		"LayerNormalization": single(layerNormRule), "BatchNormalization": single(batchNorm),
		"MaxPool": windowPool("max"), "AveragePool": windowPool("mean"),
		"GlobalMaxPool": globalPool("max"), "GlobalAveragePool": globalPool("mean"),
		"ReduceMax": reduceOp("max"), "ReduceMean": reduceOp("mean"), "ReduceSum": reduceOp("sum"),
		"ReduceMin": single(reduceMin), "ReduceL2": single(reduceL2),
		"ReduceL1": single(reduceL1), "ReduceSumSquare": single(reduceSumSquare),
		"GroupNormalization": single(groupNorm), "InstanceNormalization": single(instanceNorm),
		"Softmax": softmax("softmax"), "LogSoftmax": softmax("log_softmax"), "ArgMax": single(argMax),

		"QuantizeLinear": single((*lowering).quantizeLinear), "DequantizeLinear": single((*lowering).dequantizeLinear),

		// Functions of one value.
		"act": single(keepAct), "layer_norm": single(layerNormRule), "Clip": single(clip), "PRelu": single(prelu), "Gelu": single(gelu), "Neg": single(neg), // the others: below

		// Functions of several.
		"Add": elementwise("add"), "Sub": elementwise("sub"), "Mul": elementwise("mul"), "Div": elementwise("div"),
		"Sum": elementwise("add"), "Mean": mean, "Min": elementwise("min"), "Max": elementwise("max"), "Pow": power,
		"Equal": mask, "Less": mask, "LessOrEqual": mask, "Greater": mask, "GreaterOrEqual": mask,
		"And": mask, "Or": mask, "Not": mask, "Where": mask,
	}
	for _, f := range acts.Funcs() {
		if f.ONNX != "" && rules[f.ONNX] == nil {
			rules[f.ONNX], imageOps[f.ONNX] = activation(f), true
		}
	}
}

// noRule is the refusal of an operator without a rule.
func noRule(op string) error {
	switch op {
	case "Tile", "Range", "ConstantOfShape":
		return refuse("let the exporter fold constants, rely on broadcasting", "only constants can be repeated or generated")
	case "ReduceProd":
		return refuse("pool with the largest value, the mean or the sum", "no such pooling over positions")
	case "ArgMin":
		return refuse("take the argmax of the negated values", "no integer form of an argmin")
	case "Floor", "Ceil":
		return refuse("leave rounding out of the model, or train without it", "a function with jumps: integers can't follow it")
	}
	return refuse("rewrite this part of the model with supported operators", "the operator has no canonical form")
}
