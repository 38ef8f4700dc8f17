package onnx_test

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"nepcoc/compiler/npz"
	"nepcoc/compiler/onnx"
	"nepcoc/internal/testfiles"
	"nepcoc/ir"
	"nepcoc/ir/eval"
)

// tolerance between the float interpreter and ONNX Runtime: the only link of
// the chain of truth, with the import, that has one.
const tolerance = 1e-3

// compareRows runs up to limit samples one by one and returns the largest
// difference to the stored outputs.
func compareRows(t *testing.T, g *ir.Graph, arrays *npz.File, limit int) float64 {
	t.Helper()
	m, err := eval.New(g)
	if err != nil {
		t.Fatal(err)
	}
	load := func(name string) *ir.Tensor {
		a, err := arrays.Array(name)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	ins, outs := make(map[string]*ir.Tensor), make(map[string]*ir.Tensor)
	for _, v := range g.Inputs {
		ins[v.Name] = load(v.Name)
	}
	for _, name := range g.OutputNames {
		outs[name] = load("expect." + name)
	}
	worst := 0.0
	rows := min(ins[g.Inputs[0].Name].Shape[0], limit)
	for i := range rows {
		row := make(map[string]*ir.Tensor)
		for name, a := range ins {
			if row[name], err = npz.Row(a, i); err != nil {
				t.Fatal(err)
			}
		}
		got, err := m.Run(row)
		if err != nil {
			t.Fatalf("sample %d: %v", i, err)
		}
		for name, a := range outs {
			want, err := npz.Row(a, i)
			if err != nil {
				t.Fatal(err)
			}
			w, _ := want.Floats()
			h, _ := got[name].Floats()
			if len(w) != len(h) {
				t.Fatalf("sample %d: output %q is %v, stored %v", i, name, got[name].Type, want.Type)
			}
			for j := range w {
				if d := math.Abs(w[j] - h[j]); d > worst || math.IsNaN(d) {
					worst = d
				}
			}
		}
	}
	return worst
}

func TestModelsAgreeWithONNXRuntime(t *testing.T) {
	var files [][2]string // model, arrays
	for _, f := range testfiles.Glob(t, "zoo/*/model.onnx") {
		files = append(files, [2]string{f, filepath.Join(filepath.Dir(f), "eval.npz")})
	}
	for _, f := range testfiles.Glob(t, "models/*.onnx") {
		files = append(files, [2]string{f, strings.TrimSuffix(f, ".onnx") + ".test.npz"})
	}
	for _, f := range files {
		name := filepath.Base(f[0])
		if name == "model.onnx" {
			name = filepath.Base(filepath.Dir(f[0]))
		}
		t.Run(name, func(t *testing.T) {
			g, info, err := onnx.ImportFile(f[0], onnx.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if info.Opset < onnx.MinOpset || info.SHA256 == "" || len(info.Inputs) != len(g.Inputs) {
				t.Errorf("info %+v", info)
			}
			arrays, err := npz.Open(f[1])
			if err != nil {
				t.Fatal(err)
			}
			limit := 67
			if strings.Contains(f[0], "models") {
				limit = 50
			}
			if testing.Short() {
				limit = 3
			}
			worst := compareRows(t, g, arrays, limit)
			t.Logf("max |difference| %.2g, %d nodes of %d in the file", worst, len(g.Nodes), info.Nodes)
			if !(worst <= tolerance) {
				t.Errorf("max |difference| %g, want <= %g", worst, tolerance)
			}
		})
	}
}

// bounded imports a file and fails where it takes more memory than bad input may take. The
// time is only logged: machines are shared.
func bounded(t *testing.T, path string) (*ir.Graph, error) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	g, _, err := onnx.ImportFile(path, onnx.Options{})
	t.Logf("took %v", time.Since(start).Round(time.Millisecond))
	runtime.ReadMemStats(&after)
	if mem := after.TotalAlloc - before.TotalAlloc; mem > 300<<20 {
		t.Errorf("allocated %d MiB", mem>>20)
	}
	return g, err
}

func TestRefused(t *testing.T) {
	want := map[string]struct {
		kind onnx.Kind
		text []string
	}{ // those without a kind are taken
		"external_data": {}, "fp16_weights": {}, "qdq_static": {},
		"attention":      {onnx.Attention, []string{"self-attention", "MatMul of two activations", "Softmax", "nn.Conv1d", "f32[1,128,32]"}},
		"control_if":     {onnx.ControlFlow, []string{"If", "torch.sigmoid"}},
		"custom_domain":  {onnx.CustomDomain, []string{"com.example.traffic::ByteGate"}},
		"dynamic_length": {onnx.DynamicLength, []string{"sequence length is dynamic", "src", "seg", "dimension 1", "dynamic_axes", "--length 128"}},
		"lstm":           {onnx.Recurrence, []string{"LSTM", "nn.Conv1d"}},
		"topk":           {onnx.Unsupported, []string{"TopK", "max"}},
	}
	for _, f := range testfiles.Glob(t, "refuse/*/model.onnx") {
		name := filepath.Base(filepath.Dir(f))
		t.Run(name, func(t *testing.T) {
			_, err := bounded(t, f)
			w, ok := want[name]
			if !ok {
				t.Fatalf("this test does not know what to expect; it says: %v", err)
			}
			if w.kind == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var r *onnx.Refusal
			if !errors.As(err, &r) {
				t.Fatalf("not refused: %v", err)
			}
			if len(r.Problems) != 1 || r.Problems[0].Kind != w.kind {
				t.Errorf("want one problem of kind %s, got %v", w.kind, err)
			}
			for _, s := range w.text {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("message lacks %q:\n%v", s, err)
				}
			}
		})
	}
}

func TestBroken(t *testing.T) {
	data, err := os.ReadFile(testfiles.Path(t, "broken", "MANIFEST.json"))
	if err != nil {
		t.Fatal(err)
	}
	var manifest []struct{ File, Why, Expect string }
	if err := json.Unmarshal(data, &manifest); err != nil {
		t.Fatal(err)
	}
	for _, m := range manifest {
		t.Run(m.File, func(t *testing.T) {
			g, err := bounded(t, testfiles.Path(t, "broken", m.File))
			var r *onnx.Refusal
			switch {
			case err != nil && !errors.As(err, &r):
				t.Errorf("error is no refusal: %v", err)
			case err != nil && m.File == "not_topological.onnx":
				t.Errorf("sorting the nodes would do: %v", err)
			case err != nil:
				t.Log(err)
			case strings.HasPrefix(m.Expect, "error or a valid model"), strings.Contains(m.Expect, "or sorted"):
				if _, err := eval.New(g); err != nil {
					t.Errorf("taken, but can't be run: %v", err)
				}
			default:
				t.Errorf("taken although %s", m.Why)
			}
		})
	}
}

// A file with shuffled nodes must compute what the sorted one computes.
func TestSortedAgain(t *testing.T) {
	shuffled := testfiles.Path(t, "broken", "not_topological.onnx")
	g, _, err := onnx.ImportFile(shuffled, onnx.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range g.Nodes {
		for _, v := range n.Inputs {
			if v != nil && v.Def != nil && indexOf(g.Nodes, v.Def) >= i {
				t.Fatalf("node %d (%s) reads %q before it is computed", i, n.Origin, v.Name)
			}
		}
	}
}

func indexOf(nodes []*ir.Node, n *ir.Node) int {
	for i, m := range nodes {
		if m == n {
			return i
		}
	}
	return -1
}
