package eval

import (
	"fmt"
	"strings"
	"testing"

	"nepcoc/ir"
)

func parse(t testing.TB, text string) *ir.Graph {
	t.Helper()
	g, err := ir.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

const small = `graph "g" {
  %x = input f32[2]
  %two = const f32[] [2]
  %y = mul(%x, %two) : f32[2]
  %z = act(%y) {fn="relu"} : f32[2]
  output %z as "out"
  output %two as "constant"
  output %x as "same"
}
`

func TestMachine(t *testing.T) {
	g := parse(t, small)
	m, err := New(g)
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	m.Observe = func(v *ir.Value, x *ir.Tensor) { seen = append(seen, fmt.Sprint(v.Name, x.Data)) }
	first, err := m.Run(map[string]*ir.Tensor{"x": f32([]float32{-1, 3}, 2)})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(seen); got != "[y[-2 6] z[0 6]]" {
		t.Errorf("observed %s", got)
	}
	second, err := m.Run(map[string]*ir.Tensor{"x": f32([]float32{5, -1}, 2)})
	if err != nil {
		t.Fatal(err)
	}
	// The first result must survive the second run.
	for i, want := range []string{"map[constant:[2] out:[0 6] same:[-1 3]]", "map[constant:[2] out:[10 0] same:[5 -1]]"} {
		data := make(map[string]any)
		for name, x := range []map[string]*ir.Tensor{first, second}[i] {
			data[name] = x.Data
		}
		if got := fmt.Sprint(data); got != want {
			t.Errorf("run %d: %s, want %s", i, got, want)
		}
	}
}

func TestMachineRefusesInputs(t *testing.T) {
	m, err := New(parse(t, small))
	if err != nil {
		t.Fatal(err)
	}
	x := f32([]float32{1, 2}, 2)
	for _, tt := range []struct {
		in   map[string]*ir.Tensor
		want string
	}{
		{nil, `input "x" is missing`},
		{map[string]*ir.Tensor{"x": f32([]float32{1}, 1)}, `input "x" is f32[1], the model takes f32[2]`},
		{map[string]*ir.Tensor{"x": vec(1, 2)}, `is i64[2]`},
		{map[string]*ir.Tensor{"x": f32([]float32{1}, 2)}, `holds 1 elements`},
		{map[string]*ir.Tensor{"x": x, "seg": x}, "no input seg; its inputs are x"},
	} {
		if _, err := m.Run(tt.in); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("error %v, want %q", err, tt.want)
		}
	}
}

// Shapes computed at run time: the declared types hold if they come out so.
func TestMachineLateShapes(t *testing.T) {
	g := parse(t, `graph "g" {
  %x = input f32[2,3]
  %s = input i64[2]
  %y = Reshape(%x, %s) : f32[3,2]
  output %y as "y"
}
`)
	m, err := New(g)
	if err != nil {
		t.Fatal(err)
	}
	out, err := m.Run(map[string]*ir.Tensor{"x": ramp(2, 3), "s": vec(3, -1)})
	if err != nil || differ(out["y"], ramp(3, 2), 0) >= 0 {
		t.Errorf("%v, %v", out, err)
	}
	_, err = m.Run(map[string]*ir.Tensor{"x": ramp(2, 3), "s": vec(6, 1)})
	if err == nil || !strings.Contains(err.Error(), "result is f32[6,1], declared as f32[3,2]") {
		t.Errorf("error %v", err)
	}
}

func TestRunTimeErrors(t *testing.T) {
	for _, tt := range []struct {
		name, op string
		attrs    attrs
		in       []*ir.Tensor
		want     string
	}{
		{"unknown operator", "LSTM", nil, nil, "not known"},
		{"integer operator", "int_conv", nil, []*ir.Tensor{ramp(1)}, "run the bundle's program"},
		{"index outside", "Gather", nil, []*ir.Tensor{ramp(2), vec(2)}, "index 2 is outside a dimension of 2"},
		{"negative token", "embed", nil, []*ir.Tensor{vec(-1), ramp(2, 1)}, "index -1"},
		{"division by zero", "Div", nil, []*ir.Tensor{vec(1), vec(0)}, "division by zero"},
		{"nothing valid", "pool", attrs{"kind": "max"}, []*ir.Tensor{ramp(2, 1), i64([]int64{0})}, "valid is 0"},
		{"channel outside", "gated_conv", attrs{"k": 1}, []*ir.Tensor{ramp(1, 1), nil, typed(ir.I32, []int32{1}, 1), typed(ir.I32, []int32{0}, 1), ramp(1, 1), ramp(1, 1), ramp(1), ramp(1)}, "channel outside"},
		{"tensor without its data", "Relu", nil, []*ir.Tensor{f32(nil, 3)}, "holds 0 elements"},
		{"result too large", "ConstantOfShape", nil, []*ir.Tensor{vec(1<<20, 1<<10)}, "above the limit"},
		{"required input omitted", "Conv", nil, []*ir.Tensor{ramp(1, 1, 1), nil, ramp(1)}, "is required"},
	} {
		_, err := Node(&ir.Node{Op: tt.op, Attrs: tt.attrs, Outputs: []*ir.Value{{}}}, tt.in)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.want)
		}
	}
}

// An empty result costs nothing, however large its other dimensions.
func TestEmptyResults(t *testing.T) {
	huge := typed(ir.U8, []uint8{}, 1<<31, 0)
	for _, tt := range []struct {
		op    string
		attrs attrs
		in    []*ir.Tensor
	}{
		{"Pad", nil, []*ir.Tensor{typed(ir.U8, []uint8{}, 0, 1), vec(0, 1<<30, 0, 0)}},
		{"Tile", nil, []*ir.Tensor{typed(ir.U8, []uint8{}, 0, 1), vec(1, 1<<30)}},
		{"Concat", attrs{"axis": 1}, []*ir.Tensor{huge, huge}},
		{"Transpose", nil, []*ir.Tensor{huge}},
	} {
		out, err := Node(&ir.Node{Op: tt.op, Attrs: tt.attrs, Outputs: []*ir.Value{{}}}, tt.in)
		if err != nil || out[0].Len() != 0 {
			t.Errorf("%s: %v, %v", tt.op, out, err)
		}
	}
}

func TestNewRefusesBadGraphs(t *testing.T) {
	g := parse(t, strings.Replace(small, "%z = act(%y) {fn=\"relu\"} : f32[2]", "%z = act(%y) {fn=\"relu\"} : f32[3]", 1))
	if _, err := New(g); err == nil || !strings.Contains(err.Error(), "declared f32[3]") {
		t.Errorf("error %v", err)
	}
	g = parse(t, "graph \"g\" {\n  %x = input i8[2]\n  %y = int_flatten(%x) : i8[2]\n  output %y as \"y\"\n}\n")
	if _, err := New(g); err == nil || !strings.Contains(err.Error(), "integer operator") {
		t.Errorf("error %v", err)
	}
}

// BenchmarkGated is the published configuration's body after fusion: five
// gated layers of 256 channels over 128 positions.
func BenchmarkGated(b *testing.B) {
	const rows, cols, k, layers = 128, 256, 4, 5
	param := func(name string, shape ...int) *ir.Value { return ir.NewConst(name, ramp(shape...)) }
	chans := make([]int32, cols)
	for i := range chans {
		chans[i] = int32(i / 2)
	}
	ch := ir.NewConst("ch", typed(ir.I32, chans, cols))
	x := &ir.Value{Name: "x", Type: ir.Type{DType: ir.F32, Shape: []int{rows, cols}}}
	g := &ir.Graph{Inputs: []*ir.Value{x}, OutputNames: []string{"y"}}
	w, bias := param("w", cols, k), param("b", cols)
	for i := range layers {
		n := &ir.Node{Op: "gated_conv", Attrs: attrs{"k": k, "pad_left": 1, "pad_right": 2, "alpha": 0.5}, Inputs: []*ir.Value{x, x, ch, ch, w, w, bias, bias, bias, bias}}
		x = &ir.Value{Name: fmt.Sprint(i), Type: x.Type, Def: n}
		n.Outputs = []*ir.Value{x}
		g.Nodes = append(g.Nodes, n)
	}
	g.Outputs = []*ir.Value{x}
	m, err := New(g)
	if err != nil {
		b.Fatal(err)
	}
	in := map[string]*ir.Tensor{"x": ramp(rows, cols)}
	for b.Loop() {
		if _, err := m.Run(in); err != nil {
			b.Fatal(err)
		}
	}
}
