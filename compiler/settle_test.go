package compiler_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nepcoc/compiler"
	"nepcoc/compiler/onnx"
	m "nepcoc/internal/onnxmodel"
	"nepcoc/internal/testfiles"
)

// check says of every model what compile says: the same refusal to the letter, or nothing, and then compile
// stands before its calibration data.
func TestCheckIsCompile(t *testing.T) {
	var models []string
	for _, pattern := range []string{"zoo/*/model.onnx", "refuse/*/model.onnx", "broken/*.onnx", "cases/*/*.onnx"} {
		models = append(models, testfiles.Glob(t, pattern)...)
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	// Not the model's arrays, so that compile stops where it reads them; but where a model
	// computes NaN that shows on its own only.
	other := filepath.Join(dir, "calib.npz")
	writeArrays(t, other, map[string]array{"other": {[]int{1}, []int64{0}}})
	good, refused := 0, 0
	for _, model := range models {
		calib := strings.TrimSuffix(model, ".onnx") + ".cal.npz"
		own := exists(calib)
		if !own {
			calib = other
		}
		for _, files := range []struct {
			contract string
			labels   []string
		}{
			{}, {contract: "nepco-bytes"}, {labels: []string{write("labels.txt", "a\nb\nc\n")}},
			{contract: write("bad.yaml", "packets: many\n"), labels: []string{write("twice.txt", "a\na\n")}},
		} {
			o := compiler.Options{Model: model, Calib: calib, MaxDisagreement: 1}
			o.Find(files.contract, files.labels)
			_, checked := compiler.Check(t.Context(), o)
			_, compiled := compiler.Compile(t.Context(), o)
			var r *onnx.Refusal
			switch {
			case compiled == nil && !own:
				t.Errorf("%s: compiles from other arrays", model)
			case checked == nil && errors.As(compiled, &r):
				t.Errorf("%s, %v: check is content, compile says %v", model, files, compiled)
			case checked != nil && (compiled == nil || checked.Error() != compiled.Error()):
				t.Errorf("%s, %v: check says %v, compile %v", model, files, checked, compiled)
			case checked == nil:
				good++
			default:
				refused++
			}
		}
	}
	t.Logf("%d models: %d times good, %d times refused", len(models), good, refused)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// All that is wrong is said at once, with the model and beside it, what asks for another model first.
func TestAllWrongAtOnce(t *testing.T) {
	dir := t.TempDir()
	labels := filepath.Join(dir, "labels.txt")
	if err := os.WriteFile(labels, []byte("a\n\nb\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	contract := filepath.Join(dir, "contract.yaml")
	if err := os.WriteFile(contract, []byte("packets: many\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	o := compiler.Options{Model: testfiles.Path(t, "refuse", "lstm", "model.onnx")}
	o.Find(contract, []string{labels})
	_, err := compiler.Check(t.Context(), o)
	var at []int
	for _, says := range []string{"[recurrence]", "[contract]", "[labels]"} {
		at = append(at, strings.Index(err.Error(), says))
	}
	if at[0] < 0 || at[1] < at[0] || at[2] < at[1] {
		t.Error(err)
	}
}

// A dynamic length hides nothing: the rest of the model is looked at with an assumed one.
func TestBehindDynamicLength(t *testing.T) {
	g := m.New(17)
	x := g.Op("Gather", nil, g.RandomScaled(1, 0, 40, 8), g.Input("tokens", m.I64, -1, -1))
	x = g.Op("Transpose", attrs{"perm": []int{0, 2, 1}}, x)
	x = g.Op("Conv", attrs{"kernel_shape": []int{3}, "pads": []int{1, 1}}, x, g.Random(8, 8, 3))
	x = g.Op("MaxPool", attrs{"kernel_shape": []int{3}, "dilations": []int{2}}, x)
	g.Output(g.Reduce("ReduceMax", x, 0, 2), m.F32)
	path := filepath.Join(t.TempDir(), "dynamic.onnx")
	if err := os.WriteFile(path, g.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	got := problems(t, path)
	if k := kinds(got); !slices.Equal(k, []onnx.Kind{onnx.Unsupported, onnx.DynamicLength}) || !strings.Contains(got[0].Reason, "dilat") {
		t.Errorf("%v", got)
	}
}
