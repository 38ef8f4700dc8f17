package compiler_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nepcoc/compiler"
	"nepcoc/compiler/npz"
	"nepcoc/compiler/onnx"
	"nepcoc/compiler/verify"
	"nepcoc/ir"
	"nepcoc/passes"
	"nepcoc/runtime/cpu"
	"nepcoc/runtime/engine"
	"nepcoc/runtime/traffic"
)

// The forms in which exporters write models: testdata/forms has one of each, forms.py made them. steps are the operators that must be left,
// so that a form is not merely computed but recognised.
var forms = map[string]struct {
	in    onnx.Options
	steps string
	// rounded: the file holds a quantised model, the stored outputs are the float model's.
	rounded bool
	note    string
}{
	"external":       {steps: "embed conv conv pool linear"},
	"dynamic":        {in: onnx.Options{Length: 48}, steps: "embed conv conv pool linear"},
	"half":           {steps: "embed conv conv pool linear", note: "float16 is read as float32"},
	"dequantize":     {steps: "embed conv conv pool linear"},
	"qdq":            {steps: "embed conv conv pool linear", rounded: true, note: "quantised already"},
	"float_ids":      {steps: "embed conv conv pool linear", note: "holds integers as floats"},
	"one_hot":        {steps: "embed conv conv pool linear"},
	"opset7":         {},
	"opset10":        {},
	"padding_id":     {steps: "embed conv conv pool linear"},
	"batch_norm":     {},
	"average_pool":   {},
	"functions":      {steps: "embed conv layer_norm conv pool layer_norm linear"},
	"space_to_depth": {},
	"keras":          {steps: "embed conv layer_norm linear window_pool pool layer_norm linear"},
	"side":           {steps: "side linear embed conv conv pool concat linear linear", note: "12 numbers of input \"numbers\" stand beside the sequence"},
	"sides":          {steps: "side side affine affine layer_norm embed conv conv pool concat linear linear", note: "6 numbers of input \"lengths\", 6 numbers of input \"times\" stand"},
	"flax":           {steps: "embed conv pool layer_norm linear softmax"},
}

// halves writes the rows of an .npz to two: what to calibrate with, and what to verify on.
func halves(t *testing.T, path string) (calib, test string) {
	t.Helper()
	f, err := npz.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	out := [2]map[string]array{{}, {}}
	for _, name := range f.Names() {
		x, err := f.Array(name)
		if err != nil {
			t.Fatal(err)
		}
		d, ok := x.Floats()
		if !ok {
			ints, _ := x.Ints()
			for _, v := range ints {
				d = append(d, float64(v))
			}
		}
		rows, width := x.Shape[0], x.Len()/x.Shape[0]
		for i, part := range [][2]int{{0, rows / 2}, {rows / 2, rows}} {
			all := make([]float32, 0, (part[1]-part[0])*width)
			for _, v := range d[part[0]*width : part[1]*width] {
				all = append(all, float32(v))
			}
			out[i][name] = array{append([]int{part[1] - part[0]}, x.Shape[1:]...), all}
		}
	}
	dir := t.TempDir()
	calib, test = filepath.Join(dir, "calib.npz"), filepath.Join(dir, "test.npz")
	writeArrays(t, calib, out[0])
	writeArrays(t, test, out[1])
	return calib, test
}

func TestForms(t *testing.T) {
	files, err := filepath.Glob("testdata/forms/*.onnx")
	if err != nil || len(files) != len(forms) {
		t.Fatalf("%d files, %d forms (%v)", len(files), len(forms), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".onnx")
		t.Run(name, func(t *testing.T) {
			c, ok := forms[name]
			if !ok {
				t.Fatal("not in the list")
			}
			for _, f := range []string{file, file + ".data", strings.TrimSuffix(file, "onnx") + "npz"} {
				if info, err := os.Stat(f); err == nil && info.Size() > 50_000 {
					t.Errorf("%s has %d bytes", f, info.Size())
				}
			}
			calib, test := halves(t, strings.TrimSuffix(file, "onnx")+"npz")
			b, _, res := compile(t, compiler.Options{Model: file, Import: c.in, Calib: calib, MaxDisagreement: 0.03})
			o := verify.Options{Bundle: b, Model: file, Tensors: test, Random: 32, MinAgreement: 0.97, Tolerance: 1e-4}
			if c.rounded {
				o.Model = ""
			}
			r, err := verify.Run(o)
			if err != nil {
				t.Fatal(err)
			}
			for _, check := range r.Checks {
				if t.Log(check.Name, check.Held, "of", check.Cases, check.Detail); !check.OK {
					t.Errorf("%s: %s", check.Name, check.Detail)
				}
			}
			if notes := strings.Join(append(res.Notes, res.Report.Notes...), "; "); !strings.Contains(notes, c.note) {
				t.Errorf("says %q, want %q", notes, c.note)
			}
			g, _, _, err := compiler.Front(file, c.in, passes.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if steps := opsOf(g); c.steps != "" && steps != c.steps {
				t.Errorf("becomes %s, want %s", steps, c.steps)
			}
			everyKernelPath(t, res)
		})
	}
}

func opsOf(g *ir.Graph) string {
	var ops []string
	for _, n := range g.Nodes {
		ops = append(ops, n.Op)
	}
	return strings.Join(ops, " ")
}

// everyKernelPath holds the engine's logits on each kernel path of this machine to the golden vectors, which
// are the reference executor's.
func everyKernelPath(t *testing.T, res *compiler.Result) {
	t.Helper()
	for _, path := range cpu.Available() {
		e, err := engine.Bind(res.Bundle.Program, engine.Options{Kernel: path.String()})
		if err != nil {
			t.Fatal(err)
		}
		c, out := e.NewContext(), e.NewOutput()
		for i, g := range res.Bundle.Golden {
			if err := c.Run(g.Tokens, g.Valid, out); err != nil || !slices.EqualFunc(out, g.Logits, slices.Equal) {
				t.Errorf("%s: golden vector %d: %v, want %v: %v", path, i, out, g.Logits, err)
			}
		}
	}
}

// Bytes with an id beyond them for the padding, as Magika's models have it: what the contract can say.
func TestPaddingID(t *testing.T) {
	c, err := traffic.Named("byte")
	if err != nil {
		t.Fatal(err)
	}
	c.Name, c.Encoding, c.Pad, c.Length = "padded", traffic.EncodingToken, 256, 48
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	capture := "../examples/testbed/calib.pcap"
	b, _, res := compile(t, compiler.Options{Model: "testdata/forms/padding_id.onnx", Contract: &c, Calib: capture, MaxDisagreement: 0.03})
	holds(t, verify.Options{Bundle: b, Model: "testdata/forms/padding_id.onnx", Pcap: capture, Random: 8}, 0.97)
	everyKernelPath(t, res)
	if res.Bundle.Program.Vocab != 257 {
		t.Errorf("%d ids, want those of 256 bytes and the padding", res.Bundle.Program.Vocab)
	}
}
