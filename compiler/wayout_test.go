package compiler_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nepcoc/compiler"
	"nepcoc/compiler/onnx"

	m "nepcoc/internal/onnxmodel"
)

// wayOut is a model that is refused, what the refusal advises, and the model of who follows it.
type wayOut struct {
	name     string
	kind     onnx.Kind
	says     string
	bad, yes func(g *m.Model, x string) string // x is [1,8,24], as are the results
}

// gated mixes two values by a sigmoid.
func gated(g *m.Model, x string) string {
	s := g.Op("Sigmoid", nil, same3(g, x))
	other := g.Op("Sub", nil, g.Scalar(1), s)
	return g.Op("Add", nil, g.Op("Mul", nil, s, x), g.Op("Mul", nil, other, g.Op("Relu", nil, x)))
}

func plain(g *m.Model, x string) string { return g.Op("Relu", nil, same3(g, x)) }

// recurrent is one layer of a recurrent operator, [1,8,24] to the same.
func recurrent(op string, gates int) func(g *m.Model, x string) string {
	return func(g *m.Model, x string) string {
		seq := g.Op("Transpose", attrs{"perm": []int{2, 0, 1}}, x)
		y := g.Op(op, attrs{"hidden_size": 8}, seq, g.Random(1, gates*8, 8), g.Random(1, gates*8, 8))
		return g.Op("Transpose", attrs{"perm": []int{1, 2, 0}}, g.Squeeze(y, 1))
	}
}

// scores multiplies queries and keys of x: [1,24,24].
func scores(g *m.Model, x string) string {
	q := g.Op("MatMul", nil, g.Op("Transpose", attrs{"perm": []int{0, 2, 1}}, x), g.Random(8, 8))
	return g.Op("MatMul", nil, g.Op("Mul", nil, q, g.Scalar(0.3)), x)
}

// attend weights the values of x by weights [1,24,24].
func attend(g *m.Model, x, weights string) string {
	v := g.Op("MatMul", nil, weights, g.Op("Transpose", attrs{"perm": []int{0, 2, 1}}, x))
	return g.Op("Transpose", attrs{"perm": []int{0, 2, 1}}, v)
}

var wayOuts = []wayOut{
	{"recurrence", onnx.Recurrence, "nn.Conv1d", recurrent("LSTM", 4), plain},
	{"recurrence of another kind", onnx.Recurrence, "gated", recurrent("GRU", 3), gated},
	{"recurrence written out", onnx.Recurrence, "nn.Conv1d", func(g *m.Model, x string) string {
		w, u := g.Random(8, 8), g.Random(8, 8)
		h, steps := "", []string{}
		for t := range 24 {
			xt := g.Op("MatMul", nil, g.Op("Gather", attrs{"axis": 2}, x, g.Int(t)), w)
			if h != "" {
				xt = g.Op("Add", nil, xt, g.Op("MatMul", nil, h, u))
			}
			h = g.Op("Floor", nil, g.Op("Tanh", nil, xt))
			steps = append(steps, g.Unsqueeze(h, 2))
		}
		return g.Op("Concat", attrs{"axis": 2}, steps...)
	}, plain},
	{"attention", onnx.Attention, "nn.Conv1d", func(g *m.Model, x string) string {
		return attend(g, x, g.Op("Softmax", attrs{"axis": -1}, scores(g, x)))
	}, plain},
	{"attention with a softmax in primitives", onnx.Attention, "nn.Conv1d", func(g *m.Model, x string) string {
		s := scores(g, x)
		e := g.Op("Exp", nil, g.Op("Sub", nil, s, g.Reduce("ReduceMax", s, 1, 2)))
		return attend(g, x, g.Op("Div", nil, e, g.Reduce("ReduceSum", e, 1, 2)))
	}, gated},
	{"attention without a softmax", onnx.Attention, "nn.Conv1d", func(g *m.Model, x string) string {
		return attend(g, x, g.Op("Relu", nil, scores(g, x)))
	}, plain},
	{"attention by Einsum", onnx.Attention, "nn.Conv1d", func(g *m.Model, x string) string {
		s := g.Op("Softmax", attrs{"axis": -1}, g.Op("Einsum", attrs{"equation": "bct,bcu->btu"}, x, x))
		return g.Op("Einsum", attrs{"equation": "btu,bcu->bct"}, s, x)
	}, plain},
	{"a product of two activations", onnx.Unsupported, "element by element", func(g *m.Model, x string) string {
		return g.Op("Transpose", attrs{"perm": []int{0, 2, 1}}, g.Op("MatMul", nil, scores(g, x), g.Random(24, 8)))
	}, func(g *m.Model, x string) string { return g.Op("Mul", nil, x, same3(g, x)) }},
	{"selection by rank", onnx.Unsupported, "x.max(dim)", func(g *m.Model, x string) string {
		values, index := g.Fresh("values"), g.Fresh("index")
		g.Node("", "TopK", attrs{"axis": 2}, []string{x, g.Ints(1)}, []string{values, index})
		return values
	}, func(g *m.Model, x string) string { return g.Reduce("ReduceMax", x, 1, 2) }},
	{"assignment", onnx.Unsupported, "torch.cat", func(g *m.Model, x string) string {
		index := g.Const(m.Tensor{Dims: []int{1, 8, 1}, Data: make([]int64, 8)})
		return g.Op("ScatterElements", attrs{"axis": 2}, x, index, g.Random(1, 8, 1))
	}, func(g *m.Model, x string) string {
		front := g.Op("Slice", nil, x, g.Ints(1), g.Ints(24), g.Ints(2))
		return g.Op("Pad", nil, front, g.Ints(0, 0, 1, 0, 0, 0))
	}},
	{"gathering along axes", onnx.Unsupported, "use slices", func(g *m.Model, x string) string {
		return g.Op("GatherElements", attrs{"axis": 2}, x, g.Const(m.Tensor{Dims: []int{1, 8, 1}, Data: make([]int64, 8)}))
	}, func(g *m.Model, x string) string { return g.Op("Slice", nil, x, g.Ints(0), g.Ints(1), g.Ints(2)) }},
	{"growing back", onnx.Unsupported, "with a stride", func(g *m.Model, x string) string {
		return g.Op("ConvTranspose", attrs{"kernel_shape": []int{3}, "pads": []int{1, 1}}, x, g.Random(8, 8, 3))
	}, func(g *m.Model, x string) string {
		return g.Op("Conv", attrs{"kernel_shape": []int{3}, "strides": []int{2}, "pads": []int{1, 1}}, x, g.Random(8, 8, 3))
	}},
	{"Einsum with a weight", onnx.Unsupported, "nn.Linear", func(g *m.Model, x string) string {
		return g.Op("Einsum", attrs{"equation": "bct,cd->bdt"}, x, g.Random(8, 8))
	}, func(g *m.Model, x string) string {
		y := g.Op("MatMul", nil, g.Op("Transpose", attrs{"perm": []int{0, 2, 1}}, x), g.Random(8, 8))
		return g.Op("Transpose", attrs{"perm": []int{0, 2, 1}}, y)
	}},
	{"random", onnx.Unsupported, "model.eval()", func(g *m.Model, x string) string {
		return g.Op("Add", nil, x, g.Op("RandomNormalLike", nil, x))
	}, plain},
	{"rounding", onnx.Unsupported, "leave rounding out", func(g *m.Model, x string) string { return g.Op("Floor", nil, x) }, plain},
	{"comparison", onnx.Unsupported, "gate with sigmoid or relu", func(g *m.Model, x string) string {
		return g.Op("Where", nil, g.Op("Greater", nil, x, g.Scalar(0)), x, g.Op("Neg", nil, x))
	}, gated},
	{"integer operators", onnx.Quantized, "QuantFormat.QDQ", func(g *m.Model, x string) string {
		q, s, z := g.Fresh("q"), g.Fresh("s"), g.Fresh("z")
		g.Node("", "DynamicQuantizeLinear", nil, []string{x}, []string{q, s, z})
		return g.Op("DequantizeLinear", nil, q, s, z)
	}, func(g *m.Model, x string) string {
		zero := g.Const(m.Tensor{DType: m.U8, Data: []byte{128}})
		scale := g.Scalar(0.05)
		return g.Op("DequantizeLinear", nil, g.Op("QuantizeLinear", nil, x, scale, zero), scale, zero)
	}},
}

// Who does what a refusal says gets a bundle. The refusal itself begins with what is decisive, and names it.
func TestWaysOut(t *testing.T) {
	for _, c := range wayOuts {
		t.Run(c.name, func(t *testing.T) {
			write := func(build func(g *m.Model, x string) string) string {
				g := m.New(17)
				x := build(g, same3(g, embedded(g, tokens(g))))
				verdict(g, g.Reduce("ReduceMax", x, 0, 2), 8)
				path := filepath.Join(t.TempDir(), "model.onnx")
				if err := os.WriteFile(path, g.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
				return path
			}
			ps := problems(t, write(c.bad))
			if ps[0].Kind != c.kind || !strings.Contains(ps[0].WayOut, c.says) {
				t.Errorf("want %s and %q first, got %+v", c.kind, c.says, ps)
			}
			if _, err := compiler.Check(t.Context(), compiler.Options{Model: write(c.yes)}); err != nil {
				t.Errorf("who follows %q is refused: %v", ps[0].WayOut, err)
			}
		})
	}
}

// Behind what the importer can't read stands what each pass would refuse, all at once.
func TestReasonsBehindABlocker(t *testing.T) {
	dir := t.TempDir()
	g := m.New(17)
	x := same3(g, embedded(g, tokens(g)))
	x = g.Op("Mul", nil, x, g.External([]int{8, 1}, "gone.bin"))                                                          // the importer
	x = g.Op("Add", nil, x, g.Op("Floor", nil, x))                                                                        // canonical
	y := g.Op("Where", nil, g.Op("Greater", nil, same3(g, embedded(g, "tokens")), g.Scalar(0)), g.Scalar(1), g.Scalar(2)) // legalize
	verdict(g, g.Op("Add", nil, g.Reduce("ReduceMax", x, 0, 2), g.Reduce("ReduceMax", y, 0, 2)), 8)
	path := filepath.Join(dir, "model.onnx")
	if err := os.WriteFile(path, g.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	ps := problems(t, path)
	for _, want := range []string{"gone.bin", "Floor", "Greater"} {
		if !slices.ContainsFunc(ps, func(p onnx.Problem) bool { return p.Op == want || strings.Contains(p.Reason, want) }) {
			t.Errorf("nothing is said of %s: %+v", want, ps)
		}
	}
	if ps[0].Kind.Rank() > ps[len(ps)-1].Kind.Rank() {
		t.Errorf("the decisive reason is not the first: %v", kinds(ps))
	}
}

// What is too large is refused in one form by whoever finds it: reader, importer or limits of a bundle.
func TestTooLarge(t *testing.T) {
	for name, model := range map[string]func(g *m.Model){
		"a tensor of 2^40 elements": func(g *m.Model) {
			x := same3(g, embedded(g, tokens(g)))
			g.Const(m.Tensor{Dims: []int{1 << 20, 1 << 20}, Data: []float32{}})
			verdict(g, g.Reduce("ReduceMax", x, 0, 2), 8)
		},
		"inputs of 70,000 tokens": func(g *m.Model) {
			x := g.Op("Gather", nil, g.Random(opVocab, 4), g.Input("tokens", m.I64, -1, 70000))
			verdict(g, g.Reduce("ReduceMax", x, 0, 1), 4)
		},
		"a vector of 2 million": func(g *m.Model) {
			x := g.Op("Gather", nil, g.Random(opVocab, 64), g.Input("tokens", m.I64, -1, 32768))
			x = g.Op("Reshape", nil, x, g.Ints(1, -1))
			verdict(g, g.Op("Gemm", attrs{"transB": 1}, x, g.Op("ConstantOfShape", nil, g.Ints(2, 64*32768))), 2)
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := m.New(17)
			model(g)
			path := filepath.Join(t.TempDir(), "model.onnx")
			if err := os.WriteFile(path, g.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			ps := problems(t, path)
			if !slices.Contains(kinds(ps), onnx.TooLarge) {
				t.Errorf("want %s, got %+v", onnx.TooLarge, ps)
			}
			_, err := compiler.Compile(t.Context(), compiler.Options{Model: path, Calib: path})
			if again := compiler.Problems(err); !slices.Equal(kinds(again), kinds(ps)) {
				t.Errorf("check says %v, compile %v", kinds(ps), kinds(again))
			}
		})
	}
}
