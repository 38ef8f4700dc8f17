package compiler_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	m "nepcoc/internal/onnxmodel"
)

// modelCase is a whole model: inputs, masks and outputs in the forms that
// people export.
type modelCase struct {
	name    string
	build   func(g *m.Model)
	inputs  arrays
	refused []string
}

// embedded is the front of a token model: [1,8,24] of the given ids.
func embedded(g *m.Model, tokens string) string {
	x := g.Op("Gather", nil, g.RandomScaled(1, 0, opVocab, opChannels), tokens)
	return g.Op("Transpose", attrs{"perm": []int{0, 2, 1}}, x)
}

// verdict is the end: a linear layer and an output.
func verdict(g *m.Model, x string, in int) { g.Output(linear(opClasses, in)(g, x), m.F32) }

// padded draws ids of 1.. that end in zeros, and the mask of valid ones.
func padded(maskType any) arrays {
	return func(rng *rand.Rand, n int) map[string]array {
		ids, mask := make([]int64, n*opLength), make([]int64, n*opLength)
		for i := range n {
			for p := range 1 + rng.IntN(opLength) {
				ids[i*opLength+p], mask[i*opLength+p] = int64(1+rng.IntN(opVocab-1)), 1
			}
		}
		shape := []int{n, opLength}
		out := map[string]array{"tokens": {shape, ids}}
		switch maskType.(type) {
		case int64:
			out["mask"] = array{shape, mask}
		case float32:
			f := make([]float32, len(mask))
			for i, x := range mask {
				f[i] = float32(x)
			}
			out["mask"] = array{shape, f}
		}
		return out
	}
}

// drawn draws the only input: n samples of the given shape.
func drawn[E any](name string, shape []int, draw func(*rand.Rand) E) arrays {
	return func(rng *rand.Rand, n int) map[string]array {
		total := n
		for _, d := range shape {
			total *= d
		}
		data := make([]E, total)
		for i := range data {
			data[i] = draw(rng)
		}
		return map[string]array{name: {append([]int{n}, shape...), data}}
	}
}

// notPad is the mask src != 0 as [1,1,24] floats.
func notPad(g *m.Model, tokens string) string {
	b := g.Op("Not", nil, g.Op("Equal", nil, tokens, g.Int(0)))
	return g.Unsqueeze(g.Op("Cast", attrs{"to": m.F32}, b), 1)
}

// maskedMean is sum(x*mask) / clamp(sum(mask), 1) over positions.
func maskedMean(g *m.Model, x, mask string) string {
	sum := g.Reduce("ReduceSum", g.Op("Mul", nil, x, mask), 0, 2)
	return g.Op("Div", nil, sum, g.Op("Clip", nil, g.Reduce("ReduceSum", mask, 0, 2), g.Scalar(1)))
}

func tokens(g *m.Model) string { return g.Input("tokens", m.I64, -1, opLength) }

var modelCases = []modelCase{
	{name: "mask input of floats", inputs: padded(float32(0)), build: func(g *m.Model) {
		x := same3(g, embedded(g, tokens(g)))
		mask := g.Unsqueeze(g.Input("mask", m.F32, -1, opLength), 1)
		x = g.Op("Add", nil, g.Op("Mul", nil, x, mask), g.Op("Mul", nil, g.Op("Sub", nil, mask, g.Scalar(1)), g.Scalar(1e6)))
		verdict(g, g.Reduce("ReduceMax", x, 0, 2), 8)
	}},
	{name: "mask input of integers, masked mean", inputs: padded(int64(0)), build: func(g *m.Model) {
		x := same3(g, embedded(g, tokens(g)))
		mask := g.Op("Cast", attrs{"to": m.F32}, g.Unsqueeze(g.Input("mask", m.I64, -1, opLength), 1))
		verdict(g, maskedMean(g, x, mask), 8)
	}},
	{name: "mask of the tokens, masked mean", inputs: padded(nil), build: func(g *m.Model) {
		src := tokens(g)
		verdict(g, maskedMean(g, same3(g, embedded(g, src)), notPad(g, src)), 8)
	}},
	{name: "mask of the tokens, masked_fill and max", inputs: padded(nil), build: func(g *m.Model) {
		src := tokens(g)
		x := same3(g, embedded(g, src))
		pad := g.Unsqueeze(g.Op("Equal", nil, src, g.Int(0)), 1)
		x = g.Op("Where", nil, pad, g.Scalar(-1e9), x)
		verdict(g, g.Reduce("ReduceMax", x, 0, 2), 8)
	}},
	{name: "mask of the tokens, greater than 0", inputs: padded(nil), build: func(g *m.Model) {
		src := tokens(g)
		x := g.Op("Relu", nil, same3(g, embedded(g, src)))
		mask := g.Unsqueeze(g.Op("Cast", attrs{"to": m.F32}, g.Op("Greater", nil, src, g.Int(0))), 1)
		verdict(g, g.Reduce("ReduceMax", g.Op("Mul", nil, x, mask), 0, 2), 8)
	}},
	{name: "mask of the tokens on embedding and pooling", inputs: padded(nil), build: func(g *m.Model) {
		src := tokens(g)
		mask := notPad(g, src)
		x := same3(g, g.Op("Mul", nil, embedded(g, src), mask))
		verdict(g, maskedMean(g, x, mask), 8)
	}},
	{name: "mask of the tokens between layers", inputs: padded(nil), build: func(g *m.Model) {
		src := tokens(g)
		mask := notPad(g, src)
		x := g.Op("Mul", nil, same3(g, embedded(g, src)), mask)
		verdict(g, maskedMean(g, same3(g, x), mask), 8)
	}},
	{name: "mask input between layers", inputs: padded(float32(0)), build: func(g *m.Model) {
		x := same3(g, embedded(g, tokens(g)))
		x = same3(g, g.Op("Mul", nil, x, g.Unsqueeze(g.Input("mask", m.F32, -1, opLength), 1)))
		verdict(g, g.Reduce("ReduceMax", x, 0, 2), 8)
	}, refused: []string{"mask reaches conv", "only in the pooling"}},
	{name: "attention mask of the tokens", inputs: padded(nil), build: func(g *m.Model) {
		src := tokens(g)
		pad := g.Unsqueeze(g.Op("Equal", nil, src, g.Int(0)), 1)
		x := same3(g, g.Op("Where", nil, pad, g.Scalar(-5), same3(g, embedded(g, src))))
		verdict(g, g.Reduce("ReduceMax", x, 0, 2), 8)
	}, refused: []string{"mask reaches conv", "only in the pooling"}},
	{name: "several outputs", inputs: tokenArrays(opLength, opVocab), build: func(g *m.Model) {
		x := g.Op("Relu", nil, same3(g, embedded(g, tokens(g))))
		v := g.Reduce("ReduceMax", x, 0, 2)
		verdict(g, v, 8)
		g.Output(g.Op("Softmax", attrs{"axis": 1}, linear(3, 8)(g, g.Op("Tanh", nil, linear(8, 8)(g, v)))), m.F32)
		g.Output(g.Op("ArgMax", attrs{"axis": 1, "keepdims": 0}, linear(4, 8)(g, v)), m.I64)
	}},
	{name: "logits and their softmax", inputs: tokenArrays(opLength, opVocab), build: func(g *m.Model) {
		x := linear(opClasses, 8)(g, g.Reduce("ReduceMax", same3(g, embedded(g, tokens(g))), 0, 2))
		g.Output(x, m.F32)
		g.Output(g.Op("Softmax", attrs{"axis": 1}, x), m.F32)
	}},
	{name: "float input, byte/255", build: func(g *m.Model) {
		x := g.Op("Relu", nil, conv(8, 1, 5, nil)(g, g.Input("x", m.F32, -1, 1, 32)))
		verdict(g, g.Reduce("ReduceMean", same3(g, x), 0, 2), 8)
	}, inputs: drawn("x", []int{1, 32}, func(r *rand.Rand) float32 { return float32(r.IntN(256)) / 255 })},
	{name: "float input, two-dimensional", build: func(g *m.Model) {
		x := g.Input("x", m.F32, -1, 1, 1, 32)
		x = g.Op("Relu", nil, g.Op("Conv", attrs{"pads": []int{0, 2, 0, 2}}, x, g.Random(8, 1, 1, 5), g.Random(8)))
		x = g.Op("MaxPool", attrs{"kernel_shape": []int{1, 2}, "strides": []int{1, 2}}, x)
		verdict(g, g.Op("Flatten", nil, g.Op("GlobalAveragePool", nil, x)), 8)
	}, inputs: drawn("x", []int{1, 1, 32}, func(r *rand.Rand) float32 { return float32(r.IntN(256)) / 255 })},
	{name: "uint8 input", build: func(g *m.Model) {
		x := g.Op("Div", nil, g.Op("Cast", attrs{"to": m.F32}, g.Input("x", m.U8, -1, 32)), g.Scalar(255))
		x = g.Op("Relu", nil, conv(8, 1, 5, nil)(g, g.Unsqueeze(x, 1)))
		verdict(g, g.Reduce("ReduceMax", x, 0, 2), 8)
	}, inputs: drawn("x", []int{32}, func(r *rand.Rand) uint8 { return uint8(r.IntN(256)) })},
	{name: "int32 bytes", build: func(g *m.Model) {
		x := g.Op("Sub", nil, g.Op("Mul", nil, g.Op("Cast", attrs{"to": m.F32}, g.Input("x", m.I32, -1, 32)), g.Scalar(2.0/255)), g.Scalar(1))
		x = g.Op("Relu", nil, conv(8, 1, 5, nil)(g, g.Unsqueeze(x, 1)))
		verdict(g, g.Reduce("ReduceMax", x, 0, 2), 8)
	}, inputs: drawn("x", []int{32}, func(r *rand.Rand) int32 { return int32(r.IntN(256)) })},
	{name: "int32 tokens", build: func(g *m.Model) {
		x := same3(g, embedded(g, g.Op("Cast", attrs{"to": m.I64}, g.Input("tokens", m.I32, -1, opLength))))
		verdict(g, g.Reduce("ReduceMax", x, 0, 2), 8)
	}, inputs: drawn("tokens", []int{opLength}, func(r *rand.Rand) int32 { return int32(r.IntN(opVocab)) })},
	{name: "text-CNN in two dimensions", inputs: tokenArrays(opLength, opVocab), build: func(g *m.Model) {
		e := g.Unsqueeze(g.Op("Gather", nil, g.RandomScaled(1, 0, opVocab, 8), tokens(g)), 1)
		var parts []string
		for _, k := range []int{3, 4, 5} {
			y := g.Op("Relu", nil, g.Op("Conv", nil, e, g.Random(6, 1, k, 8), g.Random(6)))
			y = g.Op("MaxPool", attrs{"kernel_shape": []int{opLength - k + 1}}, g.Squeeze(y, 3))
			parts = append(parts, g.Squeeze(y, 2))
		}
		verdict(g, g.Op("Concat", attrs{"axis": 1}, parts...), 18)
	}},
	{name: "receptive field larger than the sequence", inputs: tokenArrays(opLength, opVocab), build: func(g *m.Model) {
		x := embedded(g, tokens(g))
		for d := 1; d <= 16; d *= 2 {
			x = g.Op("Relu", nil, conv(8, 8, 3, attrs{"dilations": []int{d}, "pads": []int{2 * d, 0}})(g, x))
		}
		verdict(g, g.Reduce("ReduceMax", x, 0, 2), 8)
	}},
	{name: "mask input of integers, count clamped as an integer", inputs: padded(int64(0)), build: func(g *m.Model) {
		x := same3(g, embedded(g, tokens(g)))
		mask := g.Unsqueeze(g.Input("mask", m.I64, -1, opLength), 1)
		sum := g.Reduce("ReduceSum", g.Op("Mul", nil, x, g.Op("Cast", attrs{"to": m.F32}, mask)), 0, 2)
		n := g.Op("Clip", nil, g.Reduce("ReduceSum", mask, 0, 2), g.Int(1))
		verdict(g, g.Op("Div", nil, sum, g.Op("Cast", attrs{"to": m.F32}, n)), 8)
	}},
	{name: "mask input of integers, masked_fill", inputs: padded(int64(0)), build: func(g *m.Model) {
		x := same3(g, embedded(g, tokens(g)))
		off := g.Op("Not", nil, g.Op("Cast", attrs{"to": m.Bool}, g.Unsqueeze(g.Input("mask", m.I64, -1, opLength), 1)))
		verdict(g, g.Reduce("ReduceMax", g.Op("Where", nil, off, g.Scalar(-1e9), x), 0, 2), 8)
	}},
	{name: "mask of the tokens, lengths", inputs: padded(nil), build: func(g *m.Model) {
		src := tokens(g)
		on := g.Op("Not", nil, g.Op("Equal", nil, src, g.Int(0)))
		x := g.Op("Mul", nil, same3(g, embedded(g, src)), g.Unsqueeze(g.Op("Cast", attrs{"to": m.F32}, on), 1))
		n := g.Op("Clip", nil, g.Reduce("ReduceSum", g.Op("Cast", attrs{"to": m.I64}, on), 1, 1), g.Int(1))
		verdict(g, g.Op("Div", nil, g.Reduce("ReduceSum", x, 0, 2), g.Op("Cast", attrs{"to": m.F32}, n)), 8)
	}},
	{name: "an image", build: func(g *m.Model) {
		x := g.Input("x", m.F32, -1, 1, 4, 32)
		x = g.Op("Conv", attrs{"pads": []int{1, 1, 1, 1}}, x, g.Random(8, 1, 3, 3))
		verdict(g, g.Op("Flatten", nil, g.Op("GlobalMaxPool", nil, x)), 8)
	}, inputs: drawn("x", []int{1, 4, 32}, func(r *rand.Rand) float32 { return float32(r.IntN(256)) / 255 })},
	{name: "an image of three axes", build: func(g *m.Model) {
		x := g.Op("Conv", nil, g.Input("x", m.F32, -1, 3, 4, 32), g.Random(8, 3, 3, 3))
		verdict(g, g.Op("Flatten", nil, g.Op("GlobalMaxPool", nil, x)), 8)
	}, refused: []string{"one sequence or one image"}},
	{name: "tokens of packets, in two dimensions", inputs: drawn("x", []int{4, 6}, func(r *rand.Rand) int64 { return int64(r.IntN(opVocab)) }), build: func(g *m.Model) {
		x := g.Op("Gather", nil, g.RandomScaled(1, 0, opVocab, opChannels), g.Input("x", m.I64, -1, 4, 6))
		x = g.Op("Transpose", attrs{"perm": []int{0, 3, 1, 2}}, x)
		x = g.Op("Relu", nil, conv2(8, 8, 3, 3, attrs{"pads": []int{1, 1, 1, 1}})(g, x))
		x = g.Op("MaxPool", attrs{"kernel_shape": []int{2, 2}, "strides": []int{2, 2}}, x)
		verdict(g, g.Op("Flatten", nil, x), 8*2*3)
	}},
	{name: "packets of bytes: a matrix for each, then a convolution over packets", inputs: drawn("x", []int{10, 20}, func(r *rand.Rand) float32 { return float32(r.IntN(256)) / 255 }), build: func(g *m.Model) {
		x := g.Op("Relu", nil, g.Op("Add", nil, g.Op("MatMul", nil, g.Input("x", m.F32, -1, 10, 20), g.Random(20, 8)), g.Random(8)))
		x = g.Op("Add", nil, x, g.RandomScaled(0.3, 0, 1, 10, 8)) // where each packet stands
		x = g.Op("Relu", nil, same3(g, g.Op("Transpose", attrs{"perm": []int{0, 2, 1}}, x)))
		verdict(g, g.Reduce("ReduceMax", x, 0, 2), 8)
	}},
	{name: "a mask, and the whole sequence before it", inputs: padded(float32(0)), build: func(g *m.Model) {
		x := g.Op("Relu", nil, g.Op("InstanceNormalization", nil, same3(g, embedded(g, tokens(g))), g.Uniform(0.5, 1.5, 8), g.Random(8)))
		mask := g.Unsqueeze(g.Input("mask", m.F32, -1, opLength), 1)
		x = g.Op("Add", nil, g.Op("Mul", nil, x, mask), g.Op("Mul", nil, g.Op("Sub", nil, mask, g.Scalar(1)), g.Scalar(1e6)))
		verdict(g, g.Reduce("ReduceMax", x, 0, 2), 8)
	}},
	{name: "a gate from the masked mean", inputs: padded(float32(0)), build: func(g *m.Model) {
		x := same3(g, embedded(g, tokens(g)))
		mask := g.Unsqueeze(g.Input("mask", m.F32, -1, opLength), 1)
		mean := g.Op("Div", nil, g.Reduce("ReduceSum", g.Op("Mul", nil, x, mask), 1, 2), g.Reduce("ReduceSum", mask, 1, 2))
		x = g.Op("Mul", nil, x, g.Op("Sigmoid", nil, conv(8, 8, 1, nil)(g, mean)))
		x = g.Op("Add", nil, g.Op("Mul", nil, x, mask), g.Op("Mul", nil, g.Op("Sub", nil, mask, g.Scalar(1)), g.Scalar(1e6)))
		verdict(g, g.Reduce("ReduceMax", x, 0, 2), 8)
	}},
	{name: "two sequences", inputs: tokenArrays(opLength, opVocab), build: func(g *m.Model) {
		x := g.Op("Add", nil, embedded(g, tokens(g)), embedded(g, g.Input("more", m.I64, -1, opLength)))
		verdict(g, g.Reduce("ReduceMax", same3(g, x), 0, 2), 8)
	}, refused: []string{`both "tokens" and "more" are data`, "one sequence"}},
	{name: "one result per position", inputs: tokenArrays(opLength, opVocab), build: func(g *m.Model) {
		g.Output(same3(g, embedded(g, tokens(g))), m.F32)
	}, refused: []string{"one result per position", "reduce over positions"}},
}

func TestModels(t *testing.T) {
	for i := range modelCases {
		c := &modelCases[i]
		t.Run(c.name, func(t *testing.T) {
			g := m.New(17)
			c.build(g)
			path := filepath.Join(t.TempDir(), "model.onnx")
			if err := os.WriteFile(path, g.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			if len(c.refused) > 0 {
				refuses(t, path, c.refused)
				return
			}
			compiles(t, path, c.inputs, 0, 0)
		})
	}
}
