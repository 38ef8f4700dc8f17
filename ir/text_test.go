package ir_test

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nepcoc/ir"
)

const sample = `graph "sample \"model\"" {
  %src = input i64[3]
  %valid = input i64[]
  %table = const f32[2,2] [1, 2.5, -0, NaN]
  %e = embed(%src, %table) {encoding="byte"} : f32[3,2] @"/enc/Gather"
  %"odd name\n" = act(%e) {alpha=1.0, fn="elu", gamma=+Inf} : f32[3,2]
  %ch = const i32[1] [1]
  %w = const f32[1,2] [1, 2]
  %b = const f32[1] [1e-07]
  %g = gated_conv(%"odd name\n", _, %ch, %ch, %w, %w, %b, %b) {k=2, pad_left=1} : f32[3,1]
  %p = pool(%g, %valid) {kind="max"} : f32[1]
  %axes = const i64[1] [0]
  %s = const i64[2] [1, 2]
  %x.0, %x.1 = Split(%e, %s) {axis=0} : f32[1,2], f32[2,2]
  %t = Transpose(%x.1) {perm=[1, 0]} : f32[2,2]
  output %p as "logits"
  output %t as "x"
}
`

// The text is in the printer's own form, except that unused constants (%axes)
// have no line.
func TestTextRoundTrip(t *testing.T) {
	g, err := ir.Parse(sample)
	if err != nil {
		t.Fatal(err)
	}
	if err := ir.Check(g); err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(sample, "  %axes = const i64[1] [0]\n", "", 1)
	if got := ir.Print(g); got != want {
		t.Errorf("printed\n%s\nwant\n%s", got, want)
	}
	if got := ir.Print(g.Clone()); got != want {
		t.Errorf("clone printed\n%s", got)
	}
	if d := g.Nodes[2].Inputs[1]; d != nil {
		t.Errorf("omitted input parsed as %v", d)
	}
}

func TestCloneIsDeep(t *testing.T) {
	g, err := ir.Parse(sample)
	if err != nil {
		t.Fatal(err)
	}
	before := ir.Print(g)
	c := g.Clone()
	c.Nodes[0].Attrs["encoding"] = "token"
	c.Nodes[len(c.Nodes)-1].Ints("perm")[0] = 5
	c.Inputs[0].Type.Shape[0] = 9
	c.OutputNames[0] = "other"
	c.Replace(c.Outputs[0], c.Outputs[1])
	c.Sweep()
	if ir.Print(g) != before {
		t.Error("changing the clone changed the graph")
	}
}

// Every element type keeps its bits, inline and as a resource.
func TestConstants(t *testing.T) {
	inf := math.Inf(1)
	consts := []*ir.Tensor{
		ir.Float32s([]float32{0, float32(math.Copysign(0, -1)), 1e-45, math.MaxFloat32, float32(inf), float32(-inf), float32(math.NaN()), math.Float32frombits(0xffc00001)}, 2, 4),
		{Type: ir.Type{DType: ir.F64, Shape: []int{3}}, Data: []float64{0.1, math.NaN(), math.Float64frombits(0x7ff0000000000001)}},
		ir.Int64s([]int64{math.MinInt64, math.MaxInt64}, 2),
		{Type: ir.Type{DType: ir.I32, Shape: []int{1}}, Data: []int32{math.MinInt32}},
		{Type: ir.Type{DType: ir.I16, Shape: []int{1}}, Data: []int16{math.MinInt16}},
		{Type: ir.Type{DType: ir.I8, Shape: []int{}}, Data: []int8{-128}},
		{Type: ir.Type{DType: ir.U8, Shape: []int{0, 3}}, Data: []uint8{}},
		{Type: ir.Type{DType: ir.U16, Shape: []int{1}}, Data: []uint16{65535}},
		{Type: ir.Type{DType: ir.Bool, Shape: []int{2}}, Data: []bool{true, false}},
	}
	for _, store := range []struct {
		name   string
		inline int
		res    ir.Resources
	}{{"inline", 0, nil}, {"memory", -1, ir.MemoryResources{}}, {"directory", -1, ir.DirResources(filepath.Join(t.TempDir(), "new"))}} {
		g := &ir.Graph{}
		for i, c := range consts {
			v := ir.NewConst(string(rune('a'+i)), c)
			g.Outputs, g.OutputNames = append(g.Outputs, v), append(g.OutputNames, v.Name)
		}
		if err := ir.Check(g); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := ir.Fprint(&b, g, ir.PrintOptions{Inline: store.inline, Resources: store.res}); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(b.String(), "ref \"sha256:"); (store.res != nil) != (n == len(consts)) {
			t.Errorf("%s: %d references in\n%s", store.name, n, b.String())
		}
		h, err := ir.ParseWith(b.String(), store.res)
		if err != nil {
			t.Fatalf("%s: %v", store.name, err)
		}
		for i, c := range consts {
			got := h.Outputs[i].Const
			if !got.Type.Equal(c.Type) || !bytes.Equal(got.Bytes(), c.Bytes()) {
				t.Errorf("%s: %v came back as %v", store.name, c, got)
			}
		}
	}
}

func TestDirResourcesNoticesDamage(t *testing.T) {
	dir := ir.DirResources(t.TempDir())
	ref, err := dir.Put(ir.Float32s([]float32{1}, 1))
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(string(dir), "*"))
	if len(files) != 1 {
		t.Fatalf("files %v", files)
	}
	if err := os.WriteFile(files[0], []byte{1, 2, 3, 4}, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := dir.Get(ref); err == nil {
		t.Error("damaged file accepted")
	}
	for _, bad := range []string{"", "sha256:", "sha256:../../etc/passwd", "md5:00", ref[:len(ref)-2]} {
		if _, err := dir.Get(bad); err == nil {
			t.Errorf("reference %q accepted", bad)
		}
	}
}

func TestParseErrors(t *testing.T) {
	graph := func(lines string) string { return "graph \"g\" {\n" + lines + "\n}\n" }
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", "ends before"},
		{"not a graph", "hello", `line 1: "graph" expected`},
		{"unclosed", "graph \"g\" {\n", "ends before"},
		{"text after the end", graph("") + "x", "line 4: nothing after"},
		{"undefined value", graph("  output %x"), "line 2: %x is not defined"},
		{"defined twice", graph("  %x = input f32[]\n  %x = input f32[]"), "line 3: %x is defined twice"},
		{"reads itself", graph("  %x = Relu(%x) : f32[]"), "reads itself"},
		{"unknown type", graph("  %x = input f16[1]"), `"f16" is not an element type`},
		{"absurd shape", graph("  %x = input f32[65536,65536]"), "more than"},
		{"negative dimension", graph("  %x = input f32[-1]"), "negative"},
		{"too few elements", graph("  %x = const f32[1000000] [1]"), "with 1 elements"},
		{"element out of range", graph("  %x = const i8[1] [128]"), "out of range"},
		{"no store", graph(`  %x = const f32[100] ref "sha256:00"`), "no store"},
		{"attribute twice", graph("  %x = input f32[]\n  %y = Relu(%x) {a=1, a=2} : f32[]"), "given twice"},
		{"attribute not a number", graph("  %x = input f32[]\n  %y = Relu(%x) {a=b} : f32[]"), "invalid syntax"},
		{"no types", graph("  %x = input f32[]\n  %y = Relu(%x)"), ": expected"},
		{"rubbish at the end", graph("  %x = input f32[] huh"), "end of line expected"},
	} {
		if _, err := ir.Parse(tt.text); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.want)
		}
	}
}

// FuzzParse: whatever parses prints to a text that parses to the same text,
// and Check never panics on it.
func FuzzParse(f *testing.F) {
	f.Add(sample)
	f.Add("graph \"\" {\n}\n")
	f.Add("graph \"q\" {\n  %x = input u8[4]\n  %s = const f32[] [0.5]\n  %z = const u8[] [3]\n  %y = DequantizeLinear(%x, %s, %z) {axis=0} : f32[4]\n  output %y\n}\n")
	f.Add("graph \"c\" {\n  %x = input f32[1,2,8]\n  %w = const f32[2,1,3] [1, 2, 3, 4, 5, 6]\n  %y = Conv(%x, %w) {auto_pad=\"SAME_UPPER\", group=2, strides=[2]} : f32[1,2,4]\n  output %y as \"y\"\n}\n")
	f.Fuzz(func(t *testing.T, text string) {
		g, err := ir.Parse(text)
		if err != nil {
			return
		}
		_ = ir.Check(g)
		store := ir.MemoryResources{}
		var b bytes.Buffer
		if err := ir.Fprint(&b, g, ir.PrintOptions{Resources: store}); err != nil {
			t.Fatal(err)
		}
		h, err := ir.ParseWith(b.String(), store)
		if err != nil {
			t.Fatalf("own text refused: %v\n%s", err, b.String())
		}
		if first, second := ir.Print(g), ir.Print(h); first != second {
			t.Fatalf("printed\n%s\nthen\n%s", first, second)
		}
	})
}
