package onnx

import (
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nepcoc/ir"
	"nepcoc/ir/eval"
)

func mustImport(t *testing.T, m *testModel) *ir.Graph {
	t.Helper()
	g, _, err := Import("test.onnx", m.bytes())
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func runGraph(t *testing.T, g *ir.Graph, in map[string]*ir.Tensor) map[string]*ir.Tensor {
	t.Helper()
	m, err := eval.New(g)
	if err != nil {
		t.Fatal(err)
	}
	out, err := m.Run(in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var gatedInput = map[string]*ir.Tensor{
	"src": ir.Int64s([]int64{2, 5, 6, 7, 10, 1, 0, 0}, 1, 8),
	"seg": ir.Int64s([]int64{1, 1, 1, 1, 1, 1, 0, 0}, 1, 8),
}

// Every opset's form of one model must mean the same.
func TestOpsetsAgree(t *testing.T) {
	var want map[string]*ir.Tensor
	for opset := int64(MinOpset); opset <= MaxOpset; opset++ {
		got := runGraph(t, mustImport(t, gatedModel(opset)), gatedInput)
		if want == nil {
			want = got
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("opset %d differs from opset %d:\n%s", opset, MinOpset, d)
		}
	}
}

func TestInfo(t *testing.T) {
	_, info, err := Import("test.onnx", gatedModel(17).bytes())
	if err != nil {
		t.Fatal(err)
	}
	batch := Dim{Param: "batch"}
	want := &Info{
		SHA256: info.SHA256, Bytes: len(gatedModel(17).bytes()), IRVersion: 8, Opset: 17, Producer: "test", Nodes: 15,
		Inputs: []Port{
			{"src", "i64", []Dim{batch, {Size: 8, Known: true}}},
			{"seg", "i64", []Dim{batch, {Size: 8, Known: true}}},
		},
		Outputs: []Port{{"logits", "f32", []Dim{batch, {Size: 3, Known: true}}}},
	}
	if d := cmp.Diff(want, info); d != "" {
		t.Error(d)
	}
	if len(info.SHA256) != 64 {
		t.Errorf("digest %q", info.SHA256)
	}
}

// shuffled nodes are sorted, and mean the same.
func TestUnsortedNodes(t *testing.T) {
	m := newModel(17).input("x", 1, 1, 4).output("z", 1, 1, 4)
	m.node("Neg", in("y"), in("z"))
	m.node("Relu", in("x"), in("y"))
	got := runGraph(t, mustImport(t, m), map[string]*ir.Tensor{"x": ir.Float32s([]float32{-1, 0, 2, 3}, 1, 4)})
	if d := cmp.Diff([]float32{0, 0, -2, -3}, got["z"].Data, cmp.Comparer(func(a, b float32) bool { return a == b })); d != "" {
		t.Error(d)
	}
}

// one node reading one tensor twice is two edges in onnx-go.
func TestSameOperandTwice(t *testing.T) {
	m := newModel(17).input("x", 1, 1, 2).output("y", 1, 1, 2).node("Mul", in("x", "x"), in("y"))
	g := mustImport(t, m)
	if n := g.Nodes[0]; len(n.Inputs) != 2 || n.Inputs[0] != n.Inputs[1] {
		t.Fatalf("inputs %v", n.Inputs)
	}
}

func TestConstants(t *testing.T) {
	u8 := tensorHead("", 2, 2)
	u8.msg(9, []byte{1, 255})
	i8typed := tensorHead("", 3, 2)
	i8typed.num(5, -3)
	i8typed.num(5, 4)
	boolRaw := tensorHead("", 9, 3)
	boolRaw.msg(9, []byte{1, 0, 1})
	f64 := tensorHead("", 11)
	f64.msg(10, []byte{0, 0, 0, 0, 0, 0, 0xf8, 0x3f})
	empty := tensorHead("", 1, 0)
	scalar32 := tensorHead("", 6)
	scalar32.num(5, -7)
	floatsTyped := tensorHead("", 1, 2)
	floatsTyped = appendFloat(floatsTyped, 4, 0.5)
	floatsTyped = appendFloat(floatsTyped, 4, -2)
	var f, i fields
	f.str(1, "value_floats")
	f = appendFloat(f, 7, 1)
	f = appendFloat(f, 7, 2)
	f.num(20, int64(attrFloats))
	i.str(1, "value_ints")
	i.num(8, 3)
	i.num(20, int64(attrInts))

	for _, c := range []struct {
		name string
		attr []byte
		want *ir.Tensor
	}{
		{"uint8 raw", aTensor("value", u8), &ir.Tensor{Type: ir.Type{DType: ir.U8, Shape: []int{2}}, Data: []uint8{1, 255}}},
		{"int8 typed", aTensor("value", i8typed), &ir.Tensor{Type: ir.Type{DType: ir.I8, Shape: []int{2}}, Data: []int8{-3, 4}}},
		{"bool raw", aTensor("value", boolRaw), &ir.Tensor{Type: ir.Type{DType: ir.Bool, Shape: []int{3}}, Data: []bool{true, false, true}}},
		{"float64 typed", aTensor("value", f64), &ir.Tensor{Type: ir.Type{DType: ir.F64, Shape: []int{}}, Data: []float64{1.5}}},
		{"float32 unpacked", aTensor("value", floatsTyped), ir.Float32s([]float32{0.5, -2}, 2)},
		{"empty", aTensor("value", empty), ir.Float32s([]float32{}, 0)},
		{"int32 scalar", aTensor("value", scalar32), &ir.Tensor{Type: ir.Type{DType: ir.I32, Shape: []int{}}, Data: []int32{-7}}},
		{"value_float", aFloat("value_float", 2.5), &ir.Tensor{Type: ir.Type{DType: ir.F32, Shape: []int{}}, Data: []float32{2.5}}},
		{"value_int", aInt("value_int", -9), &ir.Tensor{Type: ir.Type{DType: ir.I64, Shape: []int{}}, Data: []int64{-9}}},
		{"value_floats", f, ir.Float32s([]float32{1, 2}, 2)},
		{"value_ints", i, ir.Int64s([]int64{3}, 1)},
	} {
		file := newModel(17).input("x", 1, 1).output("y", 1).node("Relu", in("x"), in("y")).node("Constant", nil, in("c"), c.attr)
		m, err := readModel(file.bytes())
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		imp := newImporter("t", m)
		imp.run()
		v := imp.values["c"]
		if v == nil {
			t.Errorf("%s: %v", c.name, imp.problems)
			continue
		}
		if d := cmp.Diff(c.want, v.Const); d != "" {
			t.Errorf("%s:\n%s", c.name, d)
		}
	}
}

// Softmax before opset 13 flattens from its axis on.
func TestOldSoftmax(t *testing.T) {
	x := []float32{0, 1, 2, 3, 4, 5}
	flat := func(v []float32) []float32 { // over all six
		var sum float64
		for _, f := range v {
			sum += math.Exp(float64(f))
		}
		out := make([]float32, len(v))
		for i, f := range v {
			out[i] = float32(math.Exp(float64(f)) / sum)
		}
		return out
	}
	for _, c := range []struct {
		opset int64
		attrs []attrField
		want  []float32
	}{
		{11, nil, flat(x)},
		{12, []attrField{aInt("axis", 1)}, flat(x)},
		{12, []attrField{aInt("axis", -1)}, slices.Concat(flat(x[:3]), flat(x[3:]))},
		{13, nil, slices.Concat(flat(x[:3]), flat(x[3:]))},
	} {
		m := newModel(c.opset).input("x", 1, 1, 2, 3).output("y", 1, 1, 2, 3).node("Softmax", in("x"), in("y"), c.attrs...)
		got := runGraph(t, mustImport(t, m), map[string]*ir.Tensor{"x": ir.Float32s(x, 1, 2, 3)})["y"]
		near := cmp.Comparer(func(a, b float32) bool { return math.Abs(float64(a-b)) < 1e-6 })
		if d := cmp.Diff(c.want, got.Data, near); d != "" {
			t.Errorf("opset %d: %s", c.opset, d)
		}
	}
}

// Attributes that later became inputs.
func TestNormalForms(t *testing.T) {
	x := ir.Float32s([]float32{1, 2, 3, 4, 5, 6}, 1, 2, 3)
	for _, c := range []struct {
		name string
		old  func() *testModel
		new  func() *testModel
	}{
		{"Squeeze", func() *testModel {
			return newModel(11).input("x", 1, 1, 2, 3).output("y", 1).node("Squeeze", in("x"), in("y"), aInts("axes", 0))
		}, func() *testModel {
			return newModel(13).input("x", 1, 1, 2, 3).output("y", 1).init(ints64("a", 0)).node("Squeeze", in("x", "a"), in("y"))
		}},
		{"ReduceSum", func() *testModel {
			return newModel(11).input("x", 1, 1, 2, 3).output("y", 1).node("ReduceSum", in("x"), in("y"), aInts("axes", -1))
		}, func() *testModel {
			return newModel(13).input("x", 1, 1, 2, 3).output("y", 1).init(ints64("a", -1)).node("ReduceSum", in("x", "a"), in("y"))
		}},
		{"ReduceMean over all", func() *testModel {
			return newModel(17).input("x", 1, 1, 2, 3).output("y", 1).node("ReduceMean", in("x"), in("y"))
		}, func() *testModel {
			return newModel(18).input("x", 1, 1, 2, 3).output("y", 1).node("ReduceMean", in("x", ""), in("y"))
		}},
		{"Split", func() *testModel {
			return newModel(11).input("x", 1, 1, 2, 3).output("y", 1).node("Split", in("x"), in("y", "rest"), aInt("axis", 2), aInts("split", 2, 1))
		}, func() *testModel {
			return newModel(18).input("x", 1, 1, 2, 3).output("y", 1).node("Split", in("x"), in("y", "rest"), aInt("axis", 2), aInt("num_outputs", 2))
		}},
		{"Clip", func() *testModel {
			return newModel(7).input("x", 1, 1, 2, 3).output("y", 1).node("Clip", in("x"), in("a"), aFloat("max", 5)).node("Clip", in("a"), in("y"), aFloat("min", 2), aFloat("max", 9))
		}, func() *testModel {
			return newModel(13).input("x", 1, 1, 2, 3).output("y", 1).init(floats32("five", nil, 5)).init(floats32("two", nil, 2)).
				node("Clip", in("x", "", "five"), in("a")).node("Clip", in("a", "two"), in("y"))
		}},
		{"Slice", func() *testModel {
			return newModel(9).input("x", 1, 1, 2, 3).output("y", 1).node("Slice", in("x"), in("a"), aInts("starts", 1), aInts("ends", 3), aInts("axes", 2)).
				node("Slice", in("a"), in("y"), aInts("starts", 0, 1), aInts("ends", 1, 2))
		}, func() *testModel {
			return newModel(10).input("x", 1, 1, 2, 3).output("y", 1).init(ints64("s", 0, 1, 1)).init(ints64("e", 1, 2, 3)).node("Slice", in("x", "s", "e"), in("y"))
		}},
		{"Pad", func() *testModel {
			return newModel(10).input("x", 1, 1, 2, 3).output("y", 1).node("Pad", in("x"), in("a"), aInts("pads", 0, 0, 1, 0, 0, 0), aFloat("value", 2)).
				node("Pad", in("a"), in("y"), aInts("pads", 0, 0, 1, 0, 0, 0), aStr("mode", "reflect"))
		}, func() *testModel {
			return newModel(11).input("x", 1, 1, 2, 3).output("y", 1).init(ints64("p", 0, 0, 1, 0, 0, 0)).init(floats32("two", nil, 2)).
				node("Pad", in("x", "p", "two"), in("a")).node("Pad", in("a", "p"), in("y"), aStr("mode", "reflect"))
		}},
		{"BatchNormalization", func() *testModel {
			return newModel(8).input("x", 1, 1, 2, 3).output("y", 1).init(ramp("p", 2)).init(floats32("v", []int64{2}, 1, 2)).
				node("BatchNormalization", in("x", "p", "p", "p", "v"), in("y"), aInt("spatial", 1))
		}, func() *testModel {
			return newModel(15).input("x", 1, 1, 2, 3).output("y", 1).init(ramp("p", 2)).init(floats32("v", []int64{2}, 1, 2)).
				node("BatchNormalization", in("x", "p", "p", "p", "v"), in("y"))
		}},
		{"Dropout", func() *testModel {
			return newModel(11).input("x", 1, 1, 2, 3).output("y", 1).node("Dropout", in("x"), in("y", "mask"), aFloat("ratio", 0.5))
		}, func() *testModel {
			f := tensorHead("train", 9)
			f.msg(9, []byte{0})
			return newModel(13).input("x", 1, 1, 2, 3).output("y", 1).init(floats32("ratio", nil, 0.5)).init(f).
				node("Dropout", in("x", "ratio", "train"), in("y"))
		}},
		{"CastLike", func() *testModel {
			return newModel(17).input("x", 1, 1, 2, 3).output("y", 7).node("Cast", in("x"), in("y"), aInt("to", 7))
		}, func() *testModel {
			return newModel(17).input("x", 1, 1, 2, 3).output("y", 7).init(ints64("a", 0)).node("CastLike", in("x", "a"), in("y"))
		}},
		{"GroupNormalization", func() *testModel {
			return newModel(18).input("x", 1, 1, 2, 3).output("y", 1).init(ramp("s", 1)).init(ramp("b", 1)).
				node("GroupNormalization", in("x", "s", "b"), in("y"), aInt("num_groups", 1))
		}, func() *testModel {
			return newModel(21).input("x", 1, 1, 2, 3).output("y", 1).init(floats32("s", []int64{2}, -.75, -.75)).init(floats32("b", []int64{2}, -.75, -.75)).
				node("GroupNormalization", in("x", "s", "b"), in("y"), aInt("num_groups", 1))
		}},
	} {
		in := map[string]*ir.Tensor{"x": x}
		old, new := runGraph(t, mustImport(t, c.old()), in), runGraph(t, mustImport(t, c.new()), in)
		if d := cmp.Diff(old, new); d != "" {
			t.Errorf("%s: the old form differs from the new:\n%s", c.name, d)
		}
	}
}

func TestRefusals(t *testing.T) {
	base := func(opset int64) *testModel {
		return newModel(opset).input("x", 1, 1, 4, 8).output("y", 1)
	}
	f8 := tensorHead("w", 17, 1)
	f8.msg(9, []byte{0x3c})
	external := tensorHead("w", 1, 4)
	var loc fields
	loc.str(1, "location")
	loc.str(2, "weights.data")
	external.msg(13, loc)
	external.num(14, 1)
	var sub fields
	sub.msg(1, nil)
	for _, c := range []struct {
		name  string
		model *testModel
		want  string // "kind: part of the message", one per problem, separated by |
	}{
		{"typo", base(17).node("Gahter", in("x", "x"), in("y")), "unknown-op: did you mean Gather?"},
		{"unknown", base(17).node("Frobnicate", in("x"), in("y")), "unknown-op: Frobnicate"},
		{"known, not compiled", base(17).node("CumSum", in("x"), in("y")), "unsupported: operator CumSum is not compiled"},
		{"too new", base(13).node("HardSwish", in("x"), in("y")), "opset: new in opset 14"},
		{"opset 6", base(6).node("Relu", in("x"), in("y")), "opset: opset 6; opsets 7 to 21"},
		{"clip input before 11", base(10).init(ramp("lo")).node("Clip", in("x", "lo"), in("y")), "structure: attributes before opset 11"},
		{"slice input before 10", base(9).init(ints64("a", 1)).node("Slice", in("x", "a", "a"), in("y")), "structure: is an attribute before opset 10"},
		{"statistics per position", base(8).init(ramp("p", 4)).node("BatchNormalization", in("x", "p", "p", "p", "p"), in("y"), aInt("spatial", 0)), "unsupported: spatial=1"},
		{"opset 22", base(22).node("Relu", in("x"), in("y")), "opset: opset 22"},
		{"no opset", base(0).node("Relu", in("x"), in("y")), "opset: imports no opset"},
		{"attribute of another operator", base(17).node("Relu", in("x"), in("y"), aInt("axis", 1)), "shape: attribute \"axis\" is not known here"},
		{"LSTM and GRU", base(17).node("LSTM", in("x"), in("l")).node("LSTM", in("l"), in("k")).node("GRU", in("k"), in("y")),
			"recurrence: GRU (1), LSTM (2)"},
		{"everything at once", base(17).init(external).node("Loop", in("x"), in("a")).node("TopK", in("x", "w"), in("b", "bi")).node("Gahter", in("x", "x"), in("y")),
			"external-data: \"weights.data\" (tensor \"w\"): only the model itself was given|control-flow: Loop|unsupported: k-max|unknown-op: Gather"},
		{"two domains", base(17).nodeIn("com.a", "Foo", in("x"), in("f")).nodeIn("com.b", "Bar", in("f"), in("g")).nodeIn("com.a", "Foo", in("g"), in("y")),
			"custom-domain: com.a::Foo (2)|custom-domain: com.b::Bar (1)"},
		{"float8 weight", base(17).init(f8).node("Mul", in("x", "w"), in("y")), "element-type: float8e4m3fn"},
		{"cast to float8", base(17).node("Cast", in("x"), in("y"), aInt("to", 17)), "element-type: export in float32"},
		{"activation product", base(17).node("Transpose", in("x"), in("t"), aInts("perm", 0, 2, 1)).node("MatMul", in("x", "t"), in("y")),
			"unsupported: MatMul of two activations"},
		{"attention", base(17).node("Transpose", in("x"), in("t"), aInts("perm", 0, 2, 1)).node("MatMul", in("x", "t"), in("s")).
			node("Softmax", in("s"), in("p")).node("MatMul", in("p", "x"), in("y")), "attention: f32[1,4,8], f32[1,8,4]"},
		{"dynamic length", newModel(17).input("x", 1, "n", 4, "t").output("y", 1).node("Relu", in("x"), in("y")), "dynamic-length: dimension 2 (t)"},
		{"batch of 4", newModel(17).input("x", 1, 4, 8).output("y", 1).node("Relu", in("x"), in("y")), "batch-size: batch 1"},
		{"no batch", newModel(17).input("x", 1).output("y", 1).node("Relu", in("x"), in("y")), "shape: has no shape"},
		{"NaN weight", base(17).init(floats32("w", []int64{2, 1}, 1, float32(math.NaN()))).node("Concat", in("w", "w"), in("g"), aInt("axis", 0)).
			node("Mul", in("x", "g"), in("y")), "non-finite: are NaN or infinite"},
		{"infinite weight", base(17).init(floats32("w", []int64{1}, float32(math.Inf(1)))).node("Mul", in("x", "w"), in("y")), "non-finite: \"w\""},
		{"mask output", base(17).node("Dropout", in("x"), in("d", "m")).node("Cast", in("m"), in("y"), aInt("to", 1)), "unsupported: output 1 (\"m\") is used"},
		{"pool indices", base(17).node("MaxPool", in("x"), in("v", "y"), aInts("kernel_shape", 2)), "unsupported: output 1"},
		{"data-dependent shape", newModel(17).input("x", 1, 1, 4).input("n", 7, 1).output("y", 1).node("Expand", in("x", "n"), in("y")),
			"unsupported: not known at compile time"},
		{"training", base(17).init(ramp("p", 4)).node("BatchNormalization", in("x", "p", "p", "p", "p"), in("y"), aInt("training_mode", 1)), "unsupported: model.eval()"},
		{"shapes that don't fit", base(17).init(ramp("w", 3, 5)).node("MatMul", in("x", "w"), in("y")), "shape: f32[1,4,8], f32[3,5]"},
		{"declared output", newModel(17).input("x", 1, 1, 4).output("y", 1, 1, 5).node("Relu", in("x"), in("y")), "shape: declared as float32[1 5]"},
		{"constant output", newModel(17).input("x", 1, 1, 4).output("y", 7).node("Shape", in("x"), in("y")), "structure: constant"},
		{"cycle", base(17).node("Add", in("x", "b"), in("a")).node("Relu", in("a"), in("b")).node("Relu", in("b"), in("y")), "structure: cycle"},
		{"two dangling", base(17).node("Add", in("x", "no"), in("a")).node("Add", in("a", "nope"), in("y")), "structure: \"no\"|structure: \"nope\""},
		{"written twice", base(17).node("Relu", in("x"), in("y")).node("Neg", in("x"), in("y")), "structure: also written by"},
		{"writes an input", base(17).node("Relu", in("x"), in("x")), "structure: writes \"x\"|structure: output \"y\""},
		{"output of nothing", newModel(17).input("x", 1, 1, 4).output("z", 1).node("Relu", in("x"), in("y")), "structure: output \"z\""},
		{"no outputs", newModel(17).input("x", 1, 1, 4).node("Relu", in("x"), in("y")), "structure: no outputs"},
		{"no nodes", newModel(17).input("x", 1, 1, 4).output("x", 1), "structure: no nodes"},
		{"no inputs", newModel(17).output("y", 1).init(ramp("w", 4)).node("Relu", in("w"), in("y")), "structure: no inputs"},
		{"reduce attribute after 18", base(18).node("ReduceMax", in("x"), in("y"), aInts("axes", 1)), "structure: became an input in opset 18"},
		{"reduce input before 18", base(17).init(ints64("a", 1)).node("ReduceMax", in("x", "a"), in("y")), "structure: is an attribute before opset 18"},
		{"branches", base(17).node("If", in("x"), in("y"), aGraph("then_branch", sub[:0])), "control-flow: torch.sigmoid"},
		{"integer operators", base(17).init(ramp("s", 1)).node("QLinearMatMul", in("x", "s", "s", "x", "s", "s", "s", "s"), in("y")).node("MatMulInteger", in("x", "x"), in("z")), "quantized: QuantFormat.QDQ"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := Import("test.onnx", c.model.bytes())
			var r *Refusal
			if !errors.As(err, &r) {
				t.Fatalf("not refused: %v", err)
			}
			parts := strings.Split(c.want, "|")
			if len(parts) != len(r.Problems) {
				t.Fatalf("want %d problems, got %d: %v", len(parts), len(r.Problems), err)
			}
			for i, part := range parts {
				kind, text, _ := strings.Cut(part, ": ")
				p := r.Problems[i]
				var b strings.Builder
				writeProblem(&b, p)
				if string(p.Kind) != kind || !strings.Contains(b.String(), text) {
					t.Errorf("problem %d: want %q, got %s", i, part, &b)
				}
				if p.File != "test.onnx" {
					t.Errorf("problem %d names file %q", i, p.File)
				}
			}
			if _, err := json.Marshal(r); err != nil {
				t.Error(err)
			}
		})
	}
}

// A -inf in masked_fill is a bound, not a weight.
func TestInfinityAsBound(t *testing.T) {
	m := newModel(17).input("x", 1, 1, 2).output("y", 1)
	m.init(floats32("zero", nil, 0)).init(floats32("inf", nil, float32(math.Inf(-1))))
	m.node("Greater", in("x", "zero"), in("c")).node("Where", in("c", "x", "inf"), in("y"))
	mustImport(t, m)
}

// An input that an initializer backs is that constant.
func TestInputWithDefault(t *testing.T) {
	m := newModel(17).input("x", 1, 1, 4).input("w", 1, 4).output("y", 1).init(ramp("w", 4)).node("Mul", in("x", "w"), in("y"))
	g := mustImport(t, m)
	if len(g.Inputs) != 1 || g.Nodes[0].Inputs[1].Const == nil {
		t.Errorf("inputs %v", g.Inputs)
	}
}

// Cutting a file anywhere is an error, or leaves a smaller valid message; it
// is never a panic.
func TestTruncated(t *testing.T) {
	whole := gatedModel(17).bytes()
	for n := range whole {
		if _, _, err := Import("cut.onnx", whole[:n]); err == nil {
			t.Errorf("%d of %d bytes were taken", n, len(whole))
		}
	}
}

func TestLimits(t *testing.T) {
	deep := fields(nil)
	for range maxDepth + 2 {
		var g, n fields
		n.str(2, "y")
		n.str(4, "If")
		n.msg(5, aGraph("then_branch", deep))
		g.msg(1, n)
		deep = g
	}
	var nodes fields
	for range maxNodes + 1 {
		nodes = append(nodes, 0x0a, 0x06, 0x12, 0x01, 'y', 0x22, 0x01, 'A')
	}
	wide := fields(nil)
	{
		var n fields
		for range maxNodeInputs {
			n.str(1, "")
		}
		for range maxNodeOutputs + 1 {
			n.str(2, "")
		}
		n.str(4, "Split")
		wide.msg(1, n)
	}
	for name, graph := range map[string]fields{"nested more than": deep, "more than 16384 nodes": nodes, "in one node": wide} {
		_, _, err := Import("big.onnx", (&testModel{opset: 17, graph: graph}).bytes())
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNearestOp(t *testing.T) {
	for typo, want := range map[string]string{"Gahter": "Gather", "conv": "Conv", "SoftMax": "Softmax", "LayerNormalisation": "LayerNormalization", "Xyzzy": ""} {
		if got := nearestOp(typo); got != want {
			t.Errorf("%s: %q, want %q", typo, got, want)
		}
	}
}

// The lists of this package must not contradict ir's table.
func TestFamiliesAndTable(t *testing.T) {
	seen := make(map[string]bool)
	for _, list := range append([]string{otherOps}, func() (l []string) {
		for _, f := range families {
			l = append(l, f.ops)
		}
		return l
	}()...) {
		for _, op := range strings.Fields(list) {
			if seen[op] {
				t.Errorf("%s is listed twice", op)
			}
			seen[op] = true
		}
	}
	for _, op := range strings.Fields(otherOps) {
		if o := ir.LookupOp(op); o != nil && o.Group == ir.GroupONNX {
			t.Errorf("%s is in ir's table, yet listed as not compiled", op)
		}
	}
	for op := range normalizers {
		if o := ir.LookupOp(op); o == nil && op != "CastLike" && op != "OneHot" {
			t.Errorf("%s is normalised, but not in ir's table", op)
		}
	}
}
