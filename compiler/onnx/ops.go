package onnx

import (
	"strings"

	"nepcoc/ir"
)

// family is why a whole group of operators is refused, said once for all of
// its nodes.
type family struct {
	kind           Kind
	reason, wayOut string
	ops            string
}

var families = []family{
	{Recurrence, "a recurrent layer: every position depends on all before it, one step at a time",
		"replace the LSTM, GRU or RNN by (dilated or gated) nn.Conv1d layers, or by nn.Linear over the positions",
		"LSTM GRU RNN"},
	{ControlFlow, "data-dependent control flow",
		"compute both sides and mix them by a gate (g*a + (1-g)*b with g = torch.sigmoid(...)), unroll loops of fixed length, and export with torch.onnx.export on an eager (not scripted) module",
		"If Loop Scan"},
	{Attention, "self-attention: every position depends on all others",
		"replace attention by (gated or depthwise) nn.Conv1d layers, by nn.Linear over the positions, or by a sum weighted by torch.softmax over the positions",
		"Attention MultiHeadAttention"},
	{Quantized, "the model is quantised already, with operators that compute in integers",
		"quantise to QDQ form (onnxruntime's quant_format=QuantFormat.QDQ, static), which is taken with its own scales; or give the float32 model, as it was before quantisation: the compiler quantises itself, from calibration flows",
		"DynamicQuantizeLinear QLinearConv QLinearMatMul ConvInteger MatMulInteger"},
	{Unsupported, "the size of the result depends on the data",
		"use operations whose result has a fixed shape (masking instead of selecting: multiplication by a mask of valid positions)",
		"NonZero NonMaxSuppression Unique Compress"},
	{Unsupported, "sequences, optionals and strings are no tensors of numbers",
		"keep tokenising outside the model and pass plain tensors",
		"ConcatFromSequence Optional OptionalGetElement OptionalHasElement RegexFullMatch SequenceAt SequenceConstruct " +
			"SequenceEmpty SequenceErase SequenceInsert SequenceLength SequenceMap SplitToSequence StringConcat " +
			"StringNormalizer StringSplit TfIdfVectorizer LabelEncoder"},
	{Unsupported, "a random result",
		"export in evaluation mode: model.eval() before torch.onnx.export",
		"Bernoulli Multinomial RandomNormal RandomNormalLike RandomUniform RandomUniformLike"},
	{Unsupported, "selection by rank (TopK) is not compiled",
		"pool with x.max(dim), x.mean(dim) or a masked mean instead of k-max pooling (topk); take the best classes outside the model",
		"TopK"},
	{Unsupported, "assignment into a tensor is not compiled",
		"build the result with torch.cat or F.pad instead of assigning to slices (x[:, a:b] = y)",
		"Scatter ScatterElements ScatterND TensorScatter"},
	{Unsupported, "gathering along several axes is not compiled",
		"use slices or an embedding (nn.Embedding); a cumulative trick to find the last valid position can become masked max or mean pooling",
		"GatherElements GatherND"},
	{Unsupported, "resampling and transposed convolutions are not compiled",
		"use nn.Conv1d with a stride to shrink; there is no growing back",
		"Resize Upsample ConvTranspose MaxUnpool GridSample AffineGrid Col2Im CenterCropPad RoiAlign MaxRoiPool DeformConv"},
	{Unsupported, "Einsum is not compiled",
		"write the same product with nn.Linear, torch.matmul with a weight, or nn.Conv1d",
		"Einsum"},
}

// The operators that are taken are those of ir's table (group onnx), plus the
// ones that normalize.go rewrites into them. This file has the rest of the
// standard, so that a refusal can say more than "unknown".

// otherOps are the remaining operators of the standard: known, not compiled.
const otherOps = "Acos Acosh Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BlackmanWindow " +
	"Cos Cosh CumSum DFT DepthToSpace Det EyeLike GlobalLpPool HammingWindow HannWindow Hardmax ImageDecoder IsInf IsNaN LRN " +
	"LpNormalization LpPool MeanVarianceNormalization MelWeightMatrix Mod NegativeLogLikelihoodLoss RMSNormalization " +
	"ReduceLogSum ReduceLogSumExp ReverseSequence Round RotaryEmbedding STFT Shrink Sign Sin Sinh SoftmaxCrossEntropyLoss SpaceToDepth Swish Tan ThresholdedRelu Trilu Xor"

// familyOf maps an operator to its entry in families; known has every name of
// the standard that isn't in ops.
var familyOf, known = func() (map[string]*family, map[string]bool) {
	byOp, all := make(map[string]*family), make(map[string]bool)
	for i := range families {
		for _, op := range strings.Fields(families[i].ops) {
			byOp[op] = &families[i]
			all[op] = true
		}
	}
	for _, op := range strings.Fields(otherOps) {
		all[op] = true
	}
	return byOp, all
}()

// nearestOp finds the standard operator that a misspelt name is closest to, or
// "" where none is close.
func nearestOp(name string) string {
	best, bestDist := "", 3
	consider := func(op string) {
		if len(op) < len(name)-2 || len(op) > len(name)+2 {
			return
		}
		d := editDistance(strings.ToLower(name), strings.ToLower(op))
		if d < bestDist || d == bestDist && d < 3 && op < best {
			best, bestDist = op, d
		}
	}
	for _, op := range ir.Ops(ir.GroupONNX) {
		consider(op.Name)
	}
	for op := range known {
		consider(op)
	}
	return best
}

// editDistance counts insertions, deletions, substitutions and swaps of
// neighbours that turn a into b.
func editDistance(a, b string) int {
	prev2, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			sub := prev[j-1]
			if a[i-1] != b[j-1] {
				sub++
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, sub)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}

// Family is a group of operators that is refused for one reason.
type Family struct {
	Kind           Kind
	Ops            []string
	Reason, WayOut string
}

// Families lists what is refused as such, whatever it is used for.
func Families() []Family {
	var out []Family
	for _, f := range families {
		out = append(out, Family{f.kind, strings.Fields(f.ops), f.reason, f.wayOut})
	}
	return append(out, Family{Unsupported, strings.Fields(otherOps), "operators of the standard that are not compiled", "express them by supported operators, or take them out of the exported part"})
}
