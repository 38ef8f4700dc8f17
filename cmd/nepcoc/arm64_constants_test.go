package main

import (
	"bytes"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"nepcoc/internal/npzfile"
	"nepcoc/internal/onnxmodel"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/bundle"
)

// constantWeights make the weights [8,8] of a model's head out of constants, in
// the ways that exporters leave to whoever reads the file. All of it is folded
// while compiling, and reaches the bundle.
var constantWeights = []struct {
	name string
	make func(g *onnxmodel.Model) string
}{
	{"product", func(g *onnxmodel.Model) string { return g.Op("MatMul", nil, g.Random(8, 3), g.Random(3, 8)) }},
	{"low rank beside full rank", func(g *onnxmodel.Model) string { // LoRA
		low := g.Op("MatMul", nil, g.Random(8, 5), g.Random(5, 8))
		return g.Op("Add", nil, g.Random(8, 8), g.Op("Mul", nil, low, g.Scalar(0.37)))
	}},
	{"product of many factors", func(g *onnxmodel.Model) string {
		return g.Op("Gemm", onnxmodel.Attrs{"transA": 1, "alpha": 0.7, "beta": 1.3}, g.Random(67, 8), g.Random(67, 8), g.Random(8))
	}},
	{"products side by side", func(g *onnxmodel.Model) string {
		return g.Op("ReduceSum", onnxmodel.Attrs{"keepdims": 0}, g.Op("MatMul", nil, g.Random(3, 8, 4), g.Random(3, 4, 8)), g.Ints(0))
	}},
	{"weight normalisation", func(g *onnxmodel.Model) string {
		v := g.Random(8, 8)
		norm := g.Op("Sqrt", nil, g.Op("ReduceSum", onnxmodel.Attrs{"keepdims": 1}, g.Op("Mul", nil, v, v), g.Ints(1)))
		return g.Op("Mul", nil, g.Op("Div", nil, v, norm), g.Uniform(0.5, 2, 8, 1))
	}},
	{"weight normalisation by ReduceL2", func(g *onnxmodel.Model) string {
		v := g.Random(8, 8)
		return g.Op("Div", nil, v, g.Reduce("ReduceL2", v, 1, 1))
	}},
	{"convolution", func(g *onnxmodel.Model) string {
		x := g.Op("Conv", onnxmodel.Attrs{"kernel_shape": []int{3}, "pads": []int{1, 1}}, g.Random(1, 8, 8), g.Random(8, 8, 3), g.Random(8))
		return g.Squeeze(x, 0)
	}},
	{"strided convolution", func(g *onnxmodel.Model) string {
		x := g.Op("Conv", onnxmodel.Attrs{"kernel_shape": []int{3}, "strides": []int{2}, "pads": []int{1, 1}}, g.Random(1, 8, 16), g.Random(8, 8, 3))
		return g.Squeeze(x, 0)
	}},
	{"exp", constantAct("Exp")}, {"tanh", constantAct("Tanh")}, {"erf", constantAct("Erf")}, {"sigmoid", constantAct("Sigmoid")},
	{"softplus", constantAct("Softplus")}, {"mish", constantAct("Mish")}, {"gelu", constantAct("Gelu")}, {"elu", constantAct("Elu")},
	{"selu", constantAct("Selu")}, {"celu", constantAct("Celu")},
	{"log", func(g *onnxmodel.Model) string { return g.Op("Log", nil, g.Uniform(0.1, 3, 8, 8)) }},
	{"power", func(g *onnxmodel.Model) string { return g.Op("Pow", nil, g.Uniform(0.1, 3, 8, 8), g.Uniform(-2, 2, 8)) }},
	{"softmax", func(g *onnxmodel.Model) string { return g.Op("Softmax", onnxmodel.Attrs{"axis": 1}, g.Random(8, 8)) }},
	{"log-softmax", func(g *onnxmodel.Model) string {
		return g.Op("LogSoftmax", onnxmodel.Attrs{"axis": 1}, g.RandomScaled(2, 0, 8, 8))
	}},
	{"layer normalisation", func(g *onnxmodel.Model) string {
		return g.Op("LayerNormalization", nil, g.Random(8, 8), g.Uniform(0.5, 1.5, 8), g.Random(8))
	}},
	{"batch normalisation", func(g *onnxmodel.Model) string {
		return g.Op("BatchNormalization", nil, g.Random(8, 8), g.Uniform(0.5, 1.5, 8), g.Random(8), g.Random(8), g.Uniform(0.5, 2, 8))
	}},
	{"group normalisation", func(g *onnxmodel.Model) string {
		x := g.Op("GroupNormalization", onnxmodel.Attrs{"num_groups": 2}, g.Random(1, 8, 8), g.Uniform(0.5, 1.5, 8), g.Random(8))
		return g.Squeeze(x, 0)
	}},
	{"range", func(g *onnxmodel.Model) string {
		return g.Op("Reshape", nil, g.Op("Range", nil, g.Scalar(-0.913), g.Scalar(0.99), g.Scalar(0.03)), g.Ints(8, 8))
	}},
}

func constantAct(op string) func(g *onnxmodel.Model) string {
	return func(g *onnxmodel.Model) string { return g.Op(op, nil, g.RandomScaled(1.5, 0, 8, 8)) }
}

// constantModel looks tokens up, pools them and multiplies by weights that are expressions of constants, an output for each.
func constantModel() []byte {
	g := onnxmodel.New(21)
	x := g.Op("Gather", nil, g.RandomScaled(1, 0, 40, 8), g.Input("tokens", onnxmodel.I64, -1, 16))
	x = g.Reduce("ReduceMean", x, 0, 1)
	for _, c := range constantWeights {
		name := strings.ReplaceAll(c.name, " ", "_")
		g.Node("", "Gemm", onnxmodel.Attrs{"transB": 1}, []string{x, c.make(g), g.Random(8)}, []string{name})
		g.Output(name, onnxmodel.F32)
	}
	return g.Bytes()
}

// differing names the tensors that two bundles do not share.
func differing(t *testing.T, got, want []byte) string {
	t.Helper()
	tensors := func(data []byte) map[string]any {
		b, err := bundle.Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		all := make(map[string]any)
		for _, tensor := range b.Program.Tensors {
			all[tensor.Name] = tensor.Data
		}
		return all
	}
	g, w := tensors(got), tensors(want)
	maps.DeleteFunc(w, func(name string, data any) bool { return reflect.DeepEqual(data, g[name]) })
	return strings.Join(slices.Sorted(maps.Keys(w)), ", ")
}

// The compilers of both architectures fold constants to the same bytes.
func TestArm64Constants(t *testing.T) {
	qemu, there := arm64Compiler(t)
	dir := t.TempDir()
	compile := func(t *testing.T, model, calib string, command ...string) []byte {
		t.Helper()
		out := filepath.Join(dir, "out.nepco")
		run(t, append(command, "compile", model, "--calib", calib, "-o", out)...)
		bundle, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		return bundle
	}
	same := func(t *testing.T, model, calib string) {
		t.Helper()
		want, got := compile(t, model, calib, "nepcoc"), compile(t, model, calib, qemu, "-cpu", "cortex-a76", there)
		if !bytes.Equal(got, want) {
			t.Errorf("the bundle of the arm64 compiler differs from the one of this machine, in these tensors: %s", differing(t, got, want))
		}
	}
	calib := filepath.Join(dir, "calib.npz")
	rng, ids := rand.New(rand.NewPCG(1, 2)), make([]int64, 32*16)
	for i := range ids {
		ids[i] = int64(rng.IntN(40))
	}
	npzfile.Write(t, calib, map[string]npzfile.Array{"tokens": {Shape: []int{32, 16}, Data: ids}})
	t.Run("weights", func(t *testing.T) {
		model := filepath.Join(dir, "model.onnx")
		writeFile(t, model, constantModel())
		same(t, model, calib)
	})
	// Ranges of features, and what the model does to the features first, reach bundle and weights.
	features, values := filepath.Join(dir, "features.npz"), make([]float32, 64*12)
	for i := range values {
		values[i] = float32(rng.NormFloat64() * math.Pow(7, float64(i%12)-6))
	}
	npzfile.Write(t, features, map[string]npzfile.Array{"x": {Shape: []int{64, 12}, Data: values}})
	for name, layer := range map[string]func(g *onnxmodel.Model, x string) string{
		"linear": func(g *onnxmodel.Model, x string) string {
			return g.Op("Gemm", onnxmodel.Attrs{"transB": 1}, x, g.Random(8, 12), g.Random(8))
		},
		"convolved": func(g *onnxmodel.Model, x string) string {
			x = g.Op("Conv", onnxmodel.Attrs{"kernel_shape": []int{3}}, g.Unsqueeze(x, 1), g.Random(8, 1, 3), g.Random(8))
			return g.Reduce("ReduceMax", x, 0, 2)
		},
	} {
		t.Run("features, "+name, func(t *testing.T) {
			g := onnxmodel.New(17)
			x := g.Op("Sub", nil, g.Input("x", onnxmodel.F32, -1, 12), g.Random(12))
			x = g.Op("Relu", nil, layer(g, g.Op("Mul", nil, x, g.Uniform(-3, 3, 12))))
			g.Output(g.Op("Gemm", onnxmodel.Attrs{"transB": 1}, x, g.Random(3, 8)), onnxmodel.F32)
			model := filepath.Join(dir, "features.onnx")
			if err := os.WriteFile(model, g.Bytes(), 0o666); err != nil {
				t.Fatal(err)
			}
			same(t, model, features)
		})
	}
	t.Run("lora", func(t *testing.T) {
		cases := testfiles.Path(t, "cases", "outputs")
		same(t, filepath.Join(cases, "lora.onnx"), filepath.Join(cases, "lora.npz"))
	})
}
