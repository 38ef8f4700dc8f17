package compiler_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nepcoc/compiler"
	"nepcoc/compiler/onnx"
	"nepcoc/internal/testfiles"

	m "nepcoc/internal/onnxmodel"
)

// problems checks a model that must be refused.
func problems(t *testing.T, path string) []onnx.Problem {
	t.Helper()
	_, err := compiler.Check(t.Context(), compiler.Options{Model: path})
	if err == nil {
		t.Fatal("compiles, although it should be refused")
	}
	ps := compiler.Problems(err)
	if len(ps) == 0 {
		t.Fatalf("the error lists no problems: %v", err)
	}
	for _, p := range ps {
		if p.Kind == "" || p.Reason == "" || p.WayOut == "" || p.File != path || (p.Node != "") != (p.Op != "") {
			t.Errorf("incomplete: %+v", p)
		}
		if !strings.Contains(err.Error(), p.Reason) || !strings.Contains(err.Error(), p.WayOut) {
			t.Errorf("the message lacks %q or its way out:\n%v", p.Reason, err)
		}
	}
	return ps
}

func kinds(ps []onnx.Problem) []onnx.Kind {
	var ks []onnx.Kind
	for _, p := range ps {
		ks = append(ks, p.Kind)
	}
	return ks
}

// Each file has one thing that can't be taken: the compiler names it, and
// nothing that merely follows from it.
func TestRefusedFiles(t *testing.T) {
	want := map[string]onnx.Kind{
		"attention": onnx.Attention, "control_if": onnx.ControlFlow, "custom_domain": onnx.CustomDomain,
		"dynamic_length": onnx.DynamicLength, "lstm": onnx.Recurrence, "topk": onnx.Unsupported,
	}
	for _, model := range testfiles.Refused(t) {
		dir, name := filepath.Dir(model), filepath.Base(filepath.Dir(model))
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(dir, "meta.json"))
			if err != nil {
				t.Fatal(err)
			}
			var meta struct{ Expect, Why string }
			if err := json.Unmarshal(text, &meta); err != nil || meta.Expect != "refuse" {
				t.Fatalf("meta.json expects %q (%v)", meta.Expect, err)
			}
			ps := problems(t, model)
			if got := kinds(ps); !slices.Equal(got, []onnx.Kind{want[name]}) {
				t.Errorf("%s: refused for %v, want %v:\n%+v", meta.Why, got, want[name], ps)
			}
		})
	}
}

func TestBrokenFiles(t *testing.T) {
	data, err := os.ReadFile(testfiles.Path(t, "broken", "MANIFEST.json"))
	if err != nil {
		t.Fatal(err)
	}
	var manifest []struct{ File, Why, Expect string }
	if err := json.Unmarshal(data, &manifest); err != nil {
		t.Fatal(err)
	}
	for _, f := range manifest {
		t.Run(f.File, func(t *testing.T) {
			_, err := compiler.Check(t.Context(), compiler.Options{Model: testfiles.Path(t, "broken", f.File)})
			var refusal *onnx.Refusal
			switch {
			case err != nil && !errors.As(err, &refusal):
				t.Errorf("no refusal: %v", err)
			case err == nil && !strings.Contains(f.Expect, "valid model") && !strings.Contains(f.Expect, "or sorted"):
				t.Errorf("%s: taken, the manifest expects %q", f.Why, f.Expect)
			}
		})
	}
}

// All that can be known of a model is said at once: what the importer can't
// read, and, in the part it can, what the passes can't take.
func TestAllReasonsAtOnce(t *testing.T) {
	g := m.New(17)
	x := same3(g, embedded(g, tokens(g)))
	floor := g.Op("Floor", nil, x)
	g.Node("com.example", "ByteGate", nil, []string{floor}, []string{"gated"})
	eighth := g.Const(m.Tensor{DType: m.F8, Dims: []int{8, 1}, Data: make([]byte, 8)})
	y := g.Op("Mul", nil, "gated", eighth)
	g.Node("", "LSTM", attrs{"hidden_size": 4}, []string{y, g.Random(1, 16, 8), g.Random(1, 16, 4)}, []string{"", "hidden"})
	verdict(g, g.Squeeze("hidden", 0), 4)
	path := filepath.Join(t.TempDir(), "model.onnx")
	if err := os.WriteFile(path, g.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	ps := problems(t, path)
	for _, want := range []onnx.Kind{onnx.Recurrence, onnx.CustomDomain, onnx.ElementType, onnx.Unsupported} {
		if !slices.Contains(kinds(ps), want) {
			t.Errorf("nothing is said of kind %q:\n%+v", want, ps)
		}
	}
	if len(ps) != 4 {
		t.Errorf("%d problems, want 4:\n%+v", len(ps), ps)
	}
	for _, p := range ps {
		if p.Op == "Floor" && (p.Opset != 17 || !slices.Contains(p.Shapes, "f32[1,8,24]")) {
			t.Errorf("not in the user's terms: %+v", p)
		}
	}
}
