package compiler_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nepcoc/compiler"
	"nepcoc/compiler/onnx"
	m "nepcoc/internal/onnxmodel"
	"nepcoc/internal/testfiles"
	"nepcoc/ir"
)

// Models above these sizes are slow to check, not wrong.
const (
	fuzzElements = 1 << 14 // of one value
	fuzzWork     = 1 << 20 // multiply-adds, about
)

// FuzzCheck: any bytes compile as far as the program, or are refused as a model
// with reasons; nothing ends in a bug of ours. Finds are kept, named, in
// testdata/fuzz/FuzzCheck.
func FuzzCheck(f *testing.F) {
	for i := range opCases {
		c := &opCases[i]
		f.Add(c.model(c.opsets()[0]))
	}
	for i := range modelCases {
		g := m.New(17)
		modelCases[i].build(g)
		f.Add(g.Bytes())
	}
	if dir := testfiles.Dir(f); dir != "" {
		files, _ := filepath.Glob(filepath.Join(dir, "zoo", "*", "model.onnx"))
		for _, path := range files {
			if data, err := os.ReadFile(path); err == nil && len(data) < 1<<16 {
				f.Add(data)
			}
		}
	}
	path := filepath.Join(f.TempDir(), "model.onnx")
	f.Fuzz(func(t *testing.T, data []byte) {
		g, _, err := onnx.Import(path, data)
		if err == nil && tooLarge(g) {
			return
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		_, err = compiler.Check(t.Context(), compiler.Options{Model: path})
		if err == nil {
			return
		}
		var r *onnx.Refusal
		if !errors.As(err, &r) || strings.Contains(err.Error(), "BUG") {
			t.Fatalf("%+v", err)
		}
		for _, p := range r.Problems {
			if p.Kind == "" || p.Reason == "" {
				t.Errorf("incomplete: %+v", p)
			}
		}
	})
}

func tooLarge(g *ir.Graph) bool {
	work := 0
	for _, n := range g.Nodes {
		for _, v := range n.Outputs {
			if v.Type.Len() > fuzzElements {
				return true
			}
			each := 1
			for _, in := range n.Inputs[min(1, len(n.Inputs)):] {
				if in != nil && in.Const != nil {
					each += in.Type.Len()
				}
			}
			if n.Op == "Conv" || n.Op == "MatMul" || n.Op == "Gemm" {
				work += v.Type.Len() * each / max(1, v.Type.Shape[len(v.Type.Shape)-1])
			}
		}
		for _, in := range n.Inputs {
			if in != nil && in.Type.Len() > 1<<18 {
				return true
			}
		}
	}
	return work > fuzzWork
}
