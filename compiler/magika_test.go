package compiler_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"nepcoc/compiler"
	"nepcoc/compiler/calibrate"
	"nepcoc/compiler/onnx"
	"nepcoc/compiler/verify"
	"nepcoc/passes"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/engine"
)

// Byte models of Magika's architectures (see testdata/magika/README.md), as two exporters write them and in the forms of a third: the float model is
// that of ONNX Runtime, verdicts agree, and which exporter wrote a model makes no difference to its integers.
func TestMagika(t *testing.T) {
	for _, c := range []struct {
		dir   string
		files []string // of the same weights
	}{
		{"v1", []string{"magika_v1s.onnx", "magika_v1s_torchscript.onnx"}},
		{"v2", []string{"magika_v2s_tf2onnx.onnx"}},
		{"v3", []string{"magika_v3s.onnx", "magika_v3s_torchscript.onnx"}},
	} {
		t.Run(c.dir, func(t *testing.T) {
			dir := filepath.Join("testdata", "magika", c.dir)
			if testing.Short() { // compiling takes seconds
				for _, file := range c.files {
					if _, _, _, err := compiler.Front(filepath.Join(dir, file), onnx.Options{}, passes.Options{}); err != nil {
						t.Error(err)
					}
				}
				return
			}
			eval := filepath.Join(dir, "eval.npz")
			var first [][]int32
			for i, file := range c.files {
				model := filepath.Join(dir, file)
				path, size, res := compile(t, compiler.Options{Model: model, Calib: filepath.Join(dir, "calib.npz")})
				t.Logf("%s: %d bytes, %d steps", file, size, len(res.Bundle.Program.Steps))
				logits := outputs(t, res.Bundle, eval)
				if i > 0 {
					if !slices.EqualFunc(logits, first, slices.Equal) {
						t.Errorf("%s has other integers than %s", file, c.files[0])
					}
					continue
				}
				first = logits
				// Tolerance is that of all models, tighter than 1e-4.
				r := holds(t, verify.Options{Bundle: path, Model: model, Tensors: eval, Random: 8}, 0.99)
				if d := *r.Output[0].Stored.MaxDifference; d > 1e-4 {
					t.Errorf("%s: %g from ONNX Runtime", file, d)
				}
			}
		})
	}
}

// outputs are the integers that the engine computes of the arrays.
func outputs(t *testing.T, b *bundle.Bundle, arrays string) [][]int32 {
	t.Helper()
	set, err := calibrate.ForBundle(arrays, b)
	if err != nil {
		t.Fatal(err)
	}
	e, err := engine.Bind(b.Program, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := e.NewContext()
	var all [][]int32
	for _, in := range set.Inputs {
		out := e.NewOutput()
		if err := c.Run(in.Tokens, in.Valid, out); err != nil {
			t.Fatal(err)
		}
		all = append(all, out[0])
	}
	return all
}

// Weights beside a model are those beside it: without them it is refused.
func TestMagikaNeedsItsWeights(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "magika", "v3", "magika_v3s.onnx"))
	if err != nil {
		t.Fatal(err)
	}
	alone := filepath.Join(t.TempDir(), "magika_v3s.onnx")
	if err := os.WriteFile(alone, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if ps := problems(t, alone); len(ps) == 0 || ps[0].Kind != "external-data" {
		t.Errorf("without its weights: %v", ps)
	}
}
