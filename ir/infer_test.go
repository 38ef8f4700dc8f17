package ir_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"nepcoc/ir"
)

func f(shape ...int) *ir.Value {
	return &ir.Value{Type: ir.Type{DType: ir.F32, Shape: shape}}
}

func of(d ir.DType, shape ...int) *ir.Value {
	return &ir.Value{Type: ir.Type{DType: d, Shape: shape}}
}

func k(v ...int64) *ir.Value { return ir.NewConst("k", ir.Int64s(v, len(v))) }

type (
	in    = []*ir.Value
	attrs = ir.Attrs
)

// The rule's types, or a part of its error.
var rules = []struct {
	op    string
	attrs attrs
	in    in
	outs  int
	want  string
}{
	{"Add", nil, in{f(2, 1), f(3)}, 1, "f32[2,3]"},
	{"Add", nil, in{f(2), f(3)}, 1, "don't broadcast"},
	{"Add", nil, in{f(2), of(ir.I64, 2)}, 1, "wants the element type of input 0"},
	{"Add", nil, in{f(2)}, 1, "has 1 inputs, takes 2"},
	{"Add", nil, in{f(2), f(2)}, 2, "has 2 outputs, gives 1"},
	{"Add", attrs{"axis": 1}, in{f(2), f(2)}, 1, `attribute "axis" is not known here`},
	{"Equal", nil, in{f(2), f()}, 1, "bool[2]"},
	{"Frobnicate", nil, in{f(2)}, 1, "not known"},
	{"Sqrt", nil, in{of(ir.I64, 2)}, 1, "wants f32, f64"},
	{"Where", nil, in{of(ir.Bool, 2, 1), f(3), f()}, 1, "f32[2,3]"},
	{"Clip", nil, in{f(2), nil, f(2)}, 1, "wants a scalar"},
	{"Clip", nil, in{f(2), f(), nil}, 1, "last input is an omitted one"},
	{"Cast", attrs{"to": "i64"}, in{f(2)}, 1, "i64[2]"},
	{"Cast", attrs{"to": "f16"}, in{f(2)}, 1, "not an element type"},
	{"Cast", nil, in{f(2)}, 1, "attribute to is required"},
	{"Softmax", attrs{"axis": 2}, in{f(2, 2)}, 1, "axis 2 is outside rank 2"},
	{"Softmax", attrs{"axis": 0.5}, in{f(2, 2)}, 1, "wants int, has float64"},

	{"Conv", attrs{"group": 256, "pads": []int{1, 2}}, in{f(1, 256, 128), f(512, 1, 4), f(512)}, 1, "f32[1,512,128]"},
	{"Conv", attrs{"strides": []int{3}, "dilations": []int{2}}, in{f(1, 4, 20), f(8, 4, 3)}, 1, "f32[1,8,6]"},
	{"Conv", attrs{"auto_pad": "SAME_UPPER", "strides": []int{2, 1}}, in{f(1, 1, 5, 5), f(1, 1, 3, 3)}, 1, "f32[1,1,3,5]"},
	{"Conv", attrs{"auto_pad": "VALID"}, in{f(1, 1, 5, 5), f(1, 1, 3, 3)}, 1, "f32[1,1,3,3]"},
	{"Conv", nil, in{f(1, 1, 2), f(1, 1, 3)}, 1, "larger than the padded input"},
	{"Conv", nil, in{f(1, 3, 9), f(4, 2, 3)}, 1, "don't fit"},
	{"Conv", attrs{"group": 0}, in{f(1, 3, 9), f(4, 3, 3)}, 1, "don't fit"},
	{"Conv", attrs{"kernel_shape": []int{5}}, in{f(1, 1, 9), f(1, 1, 3)}, 1, "differs from the weight's"},
	{"Conv", attrs{"pads": []int{1}}, in{f(1, 1, 9), f(1, 1, 3)}, 1, "pads"},
	{"Conv", attrs{"pads": []int{math.MaxInt, 0}}, in{f(1, 1, 9), f(1, 1, 3)}, 1, "out of range"},
	{"Conv", attrs{"strides": []int{0}}, in{f(1, 1, 9), f(1, 1, 3)}, 1, "numbers >= 1"},
	{"Conv", attrs{"auto_pad": "MAYBE"}, in{f(1, 1, 9), f(1, 1, 3)}, 1, "not one of"},
	{"Conv", nil, in{f(1, 1, 2, 3, 4), f(1, 1, 1, 1, 1)}, 1, "wants rank 3 to 4"},
	{"MaxPool", attrs{"kernel_shape": []int{3}, "strides": []int{2}, "ceil_mode": 1}, in{f(1, 2, 6)}, 1, "f32[1,2,3]"},
	{"MaxPool", attrs{"kernel_shape": []int{2}, "strides": []int{2}, "ceil_mode": 1, "pads": []int{0, 1}}, in{f(1, 2, 6)}, 1, "f32[1,2,3]"},
	{"MaxPool", attrs{"kernel_shape": []int{2}, "pads": []int{2, 2}}, in{f(1, 2, 6)}, 1, "not below the window"},
	{"MaxPool", nil, in{f(1, 2, 6)}, 1, "kernel_shape"},
	{"GlobalMaxPool", nil, in{f(1, 2, 6, 7)}, 1, "f32[1,2,1,1]"},
	{"Gemm", attrs{"transB": 1}, in{f(2, 3), f(4, 3), f(4)}, 1, "f32[2,4]"},
	{"Gemm", nil, in{f(2, 3), f(4, 3)}, 1, "[2 3] times [4 3]"},
	{"MatMul", nil, in{f(5, 1, 2, 3), f(4, 3, 6)}, 1, "f32[5,4,2,6]"},
	{"MatMul", nil, in{f(3), f(4, 3, 6)}, 1, "f32[4,6]"},
	{"MatMul", nil, in{f(3), f(3)}, 1, "f32[]"},
	{"MatMul", nil, in{f(), f(3)}, 1, "wants rank"},
	{"BatchNormalization", attrs{"training_mode": 1}, in{f(1, 2, 3), f(2), f(2), f(2), f(2)}, 1, "model.eval()"},
	{"BatchNormalization", nil, in{f(1, 2, 3), f(2), f(2), f(2), f(3)}, 1, "wants shape [2]"},
	{"LayerNormalization", attrs{"axis": 1}, in{f(1, 2, 3), f(2, 3)}, 3, "f32[1,2,3] f32[1,1,1] f32[1,1,1]"},
	{"GroupNormalization", attrs{"num_groups": 4}, in{f(1, 6, 3), f(6), f(6)}, 1, "6 channels in 4 groups"},
	{"QuantizeLinear", nil, in{f(2, 3), f(3), of(ir.I8, 3)}, 1, "i8[2,3]"},
	{"QuantizeLinear", attrs{"output_dtype": "i16"}, in{f(2, 3), f()}, 1, "i16[2,3]"},
	{"DequantizeLinear", nil, in{of(ir.I8, 2, 3), f(2)}, 1, "wants shape [3]"},

	{"ReduceMax", attrs{"keepdims": 0}, in{f(2, 3, 4), k(1, -1)}, 1, "f32[2]"},
	{"ReduceMax", nil, in{f(2, 3), k(1, -1)}, 1, "given twice"},
	{"ReduceSum", nil, in{f(2, 3), of(ir.I64, 1)}, 1, "input 1 (axes) is not known at compile time"},
	{"ArgMax", attrs{"axis": 1}, in{f(2, 3)}, 1, "i64[2,1]"},
	{"ArgMax", nil, in{f(0, 3)}, 1, "is empty"},

	{"Slice", nil, in{f(10), k(8), k(math.MinInt64), k(0), k(-3)}, 1, "f32[3]"},
	{"Slice", nil, in{f(10), k(-3), k(math.MaxInt64)}, 1, "f32[3]"},
	{"Slice", nil, in{f(10), k(5), k(2)}, 1, "f32[0]"},
	{"Slice", nil, in{f(10), k(9), k(0), k(0), k(math.MinInt64)}, 1, "f32[1]"},
	{"Slice", nil, in{f(10), k(0), k(9), k(0), k(0)}, 1, "a step is 0"},
	{"Slice", nil, in{f(10), k(0, 0), k(9, 9)}, 1, "2 starts for rank 1"},
	{"Pad", nil, in{f(2, 3), k(0, 1, 0, -2)}, 1, "f32[2,2]"},
	{"Pad", nil, in{f(2, 3), k(0, -2, 0, -2)}, 1, "take more than there is"},
	{"Pad", nil, in{f(2, 3), k(math.MaxInt64, 0, 1, 0)}, 1, "out of range"},
	{"Pad", attrs{"mode": "edge"}, in{f(0), k(1, 0)}, 1, "can't extend an empty"},
	{"Concat", attrs{"axis": 1}, in{f(2, 1), f(2, 3)}, 1, "f32[2,4]"},
	{"Concat", attrs{"axis": 0}, in{f(2, 1), f(2, 3)}, 1, "joined along axis 0"},
	{"Split", attrs{"axis": 0, "num_outputs": 2}, in{f(5)}, 2, "f32[3] f32[2]"},
	{"Split", nil, in{f(5)}, 2, "doesn't divide"},
	{"Split", nil, in{f(5), k(4, 4)}, 2, "don't add up"},
	{"Transpose", nil, in{f(1, 2, 3)}, 1, "f32[3,2,1]"},
	{"Transpose", attrs{"perm": []int{0, 0}}, in{f(1, 2)}, 1, "given twice"},
	{"Reshape", nil, in{f(2, 3), k(0, -1, 1)}, 1, "f32[2,3,1]"},
	{"Reshape", attrs{"allowzero": 1}, in{f(0, 3), k(3, 0)}, 1, "f32[3,0]"},
	{"Reshape", nil, in{f(2, 3), k(4, -1)}, 1, "can't take shape"},
	{"Reshape", nil, in{f(2, 3), k(-1, -1)}, 1, "not valid"},
	{"Reshape", nil, in{f(2, 3), k(1<<40, 1<<40)}, 1, "more than"},
	{"Flatten", attrs{"axis": 0}, in{f(2, 3)}, 1, "f32[1,6]"},
	{"Squeeze", nil, in{f(1, 2, 1)}, 1, "f32[2]"},
	{"Squeeze", nil, in{f(1, 2, 1), k(1)}, 1, "is not 1"},
	{"Unsqueeze", nil, in{f(2), k(0, -1)}, 1, "f32[1,2,1]"},
	{"Expand", nil, in{f(2, 1), k(3, 1, 4)}, 1, "f32[3,2,4]"},
	{"Expand", nil, in{f(1), k(1<<20, 1<<20)}, 1, "more than"},
	{"Tile", nil, in{f(2), k(1 << 40)}, 1, "out of range"},
	{"Gather", attrs{"axis": 1}, in{f(2, 3), of(ir.I64, 4, 5)}, 1, "f32[2,4,5]"},
	{"Gather", nil, in{f(2, 3), of(ir.U8, 4)}, 1, "wants i64, i32"},
	{"Shape", attrs{"start": -1}, in{f(2, 3)}, 1, "i64[1]"},
	{"ConstantOfShape", attrs{"dtype": "i64"}, in{k(2, 3)}, 1, "i64[2,3]"},
	{"Constant", nil, nil, 1, "the importer makes"},
	{"Range", nil, in{ir.NewConst("a", ir.Int64s([]int64{0})), ir.NewConst("b", ir.Int64s([]int64{5})), ir.NewConst("c", ir.Int64s([]int64{2}))}, 1, "i64[3]"},
	{"Range", nil, in{ir.NewConst("a", ir.Int64s([]int64{0})), ir.NewConst("b", ir.Int64s([]int64{5})), ir.NewConst("c", ir.Int64s([]int64{0}))}, 1, "no sensible length"},

	{"embed", nil, in{of(ir.I64, 128), f(65541, 256)}, 1, "f32[128,256]"},
	{"embed", nil, in{of(ir.I64, 128), f(300, 64), f(300, 16), f(64, 16), f(64)}, 1, "f32[128,64]"},
	{"embed", nil, in{of(ir.I64, 128), f(300, 64), f(300, 16)}, 1, "or neither"},
	{"embed", nil, in{of(ir.I64, 128), f(300, 64), f(300, 16), f(64, 17)}, 1, "wants shape [64 16]"},
	{"linear", attrs{"act": "clip", "act_min": 0.0}, in{f(7, 3), f(5, 3), f(5)}, 1, "f32[7,5]"},
	{"linear", attrs{"act": "prelu"}, in{f(7, 3), f(5, 3)}, 1, "not one of"},
	{"linear", nil, in{f(3), f(5, 3)}, 1, "f32[5]"},
	{"conv", attrs{"groups": 2, "pad_left": 1, "pad_right": 2}, in{f(10, 4), f(6, 4, 2)}, 1, "f32[10,6]"},
	{"conv", nil, in{f(10, 4), f(6, 4, 2)}, 1, "don't fit"},
	{"act", attrs{"fn": "prelu"}, in{f(3, 2), f(2)}, 1, "f32[3,2]"},
	{"act", attrs{"fn": "prelu"}, in{f(3, 2)}, 1, "slope belongs to fn=prelu"},
	{"act", nil, in{f(3, 2)}, 1, "attribute fn is required"},
	{"pool", attrs{"kind": "max"}, in{f(9, 2), of(ir.I64)}, 1, "f32[2]"},
	{"pool", attrs{"kind": "select", "at": 9}, in{f(9, 2)}, 1, "outside 9 positions"},
	{"window_pool", attrs{"kind": "max", "k": 2, "stride": 2}, in{f(9, 2)}, 1, "f32[4,2]"},
	{"slice", attrs{"axis": 0, "start": 8, "step": -4, "count": 3}, in{f(9, 2)}, 1, "f32[3,2]"},
	{"slice", attrs{"axis": 0, "start": 8, "step": -4, "count": 4}, in{f(9, 2)}, 1, "outside a dimension"},
	{"pad", attrs{"left": 2, "mode": "reflect"}, in{f(9, 2)}, 1, "f32[11,2]"},
	{"flatten", nil, in{f(9, 2)}, 1, "f32[18]"},
	{"transpose", nil, in{f(9, 2)}, 1, "f32[2,9]"},
	{"regroup", attrs{"rows": 6}, in{f(9, 2)}, 1, "f32[6,3]"},
	{"regroup", attrs{"rows": 4}, in{f(9, 2)}, 1, "18 elements do not fill 4 rows"},
	{"int_transpose", nil, in{of(ir.I16, 9, 2)}, 1, "i16[2,9]"},
	{"int_regroup", attrs{"rows": 2}, in{of(ir.I8, 18)}, 1, "i8[2,9]"},
	{"argmax", nil, in{f(9)}, 1, "i64[]"},
	{"gated_conv", attrs{"k": 4, "pad_left": 1, "pad_right": 2}, in{f(9, 3), nil, of(ir.I32, 6), of(ir.I32, 6), f(6, 4), f(6, 4), f(6), f(6)}, 1, "f32[9,6]"},
	{"gated_conv", attrs{"k": 4, "pad_left": 1, "pad_right": 2}, in{f(9, 3), nil, of(ir.I32, 6), of(ir.I32, 6), f(6, 4), f(6, 4), f(6), f(6), f(6)}, 1, "come together"},
	{"int_conv", attrs{"anything": 3}, in{of(ir.I8, 9, 3)}, 1, `attribute "anything" is not known here`},
	{"int_conv", nil, in{of(ir.I8, 9, 3), of(ir.I8, 4, 2, 3), of(ir.I32, 4), of(ir.I32, 4)}, 1, ir.ErrDeclared.Error()},
	{"int_conv", nil, in{of(ir.I8, 9, 3), of(ir.I8, 4, 2, 2), of(ir.I32, 4)}, 1, "don't fit"},
	{"int_conv", nil, nil, 1, "has 0 inputs"},
	{"int_window_pool", attrs{"kind": "max", "k": 2, "stride": 2}, in{of(ir.I16, 9, 2)}, 1, "i16[4,2]"},
	{"int_flatten", nil, in{of(ir.I8, 9, 2)}, 1, "i8[18]"},
	{"int_lut", attrs{"mult": 1 << 31, "shift": 1}, in{of(ir.I8, 9, 2), of(ir.I16, 4)}, 1, "2147483648 is out of range"},
	{"int_lut", attrs{"mult": 1, "shift": 63}, in{of(ir.I8, 9, 2), of(ir.I16, 4)}, 1, "63 is out of range"},
}

func TestInfer(t *testing.T) {
	for _, tt := range rules {
		n := &ir.Node{Op: tt.op, Attrs: tt.attrs, Inputs: tt.in}
		for range tt.outs {
			n.Outputs = append(n.Outputs, &ir.Value{Def: n})
		}
		types, err := ir.Infer(n)
		got := strings.Trim(fmt.Sprint(types), "[]")
		if err != nil {
			got = err.Error()
		} else if len(types) > 0 {
			words := make([]string, len(types))
			for i, x := range types {
				words[i] = x.String()
			}
			got = strings.Join(words, " ")
		}
		if (err == nil && got != tt.want) || !strings.Contains(got, tt.want) {
			t.Errorf("%s %v of %d inputs: %s, want %s", tt.op, tt.attrs, len(tt.in), got, tt.want)
		}
	}
}

// Every entry says what it takes, as the documentation is made from it.
func TestTableIsDocumented(t *testing.T) {
	for _, g := range []ir.OpGroup{ir.GroupONNX, ir.GroupCanonical, ir.GroupFused, ir.GroupInteger} {
		if len(ir.Ops(g)) == 0 {
			t.Errorf("group %s is empty", g)
		}
		for _, op := range ir.Ops(g) {
			if op.Doc == "" || strings.HasSuffix(op.Doc, ".") {
				t.Errorf("%s: doc %q", op.Name, op.Doc)
			}
			if g == ir.GroupONNX && (op.MinOpset < ir.MinOpset || op.MaxOpset > ir.MaxOpset) {
				t.Errorf("%s: opsets %d to %d", op.Name, op.MinOpset, op.MaxOpset)
			}
			for _, a := range op.Attrs {
				if a.Doc == "" || a.Name == "" || a.Kind == "" {
					t.Errorf("%s: attribute %+v", op.Name, a)
				}
			}
		}
	}
}

func TestCheckListsEverything(t *testing.T) {
	g, err := ir.Parse(`graph "bad" {
  %x = input f32[2,3]
  %w = const f32[3] [1, 2, 3]
  %a = Relu(%x) : f32[3,2]
  %b = Add(%a, %w) {axis=1} : f32[2,3]
  %c = Frob(%b) : f32[1] @"/layer/Frob"
  output %c as "y"
  output %x as "y"
}
`)
	if err != nil {
		t.Fatal(err)
	}
	stray := &ir.Value{Name: "a", Type: ir.Type{DType: ir.F32, Shape: []int{2, 3}}}
	g.Nodes = append(g.Nodes, &ir.Node{Op: "Relu", Inputs: []*ir.Value{stray}, Outputs: []*ir.Value{{Name: "a", Type: stray.Type}}})
	g.Nodes[1].Inputs[1].Const = ir.Float32s([]float32{1}, 3)
	g.OutputNames = append(g.OutputNames, "too many")
	err = ir.Check(g)
	var all *ir.CheckError
	if !errors.As(err, &all) {
		t.Fatalf("error %v", err)
	}
	for _, want := range []string{
		"node 0 %a = Relu: %a is declared f32[3,2], Relu gives f32[2,3]",
		"node 1 %b = Add: constant %w: type f32[3] holds 1 elements",
		`node 1 %b = Add: Add: attribute "axis" is not known here`,
		`node 2 %c = Frob ("/layer/Frob"): operator "Frob" is not known`,
		"node 3 %a = Relu: %a is read before it is defined",
		"node 3 %a = Relu: output %a doesn't point back to it",
		"node 3 %a = Relu: the name %a is taken",
		"outputs: there are 2, with 3 names",
		`output 1: the name "y" is taken`,
	} {
		found := false
		for _, p := range all.Problems {
			found = found || p == want
		}
		if !found {
			t.Errorf("no problem %q", want)
		}
	}
	if len(all.Problems) != 9 {
		t.Errorf("%v", err)
	}
}

func TestCheckOrder(t *testing.T) {
	g, err := ir.Parse(sample)
	if err != nil {
		t.Fatal(err)
	}
	g.Nodes[0], g.Nodes[1] = g.Nodes[1], g.Nodes[0]
	if err := ir.Check(g); err == nil || !strings.Contains(err.Error(), "%e is read before it is defined") {
		t.Errorf("error %v", err)
	}
}
