package onnx

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"nepcoc/ir"
)

// FuzzImport: any bytes give a graph that passes ir.Check or a *Refusal, in
// memory bounded by a multiple of the input. Finds are kept, named, in
// testdata/fuzz/FuzzImport.
func FuzzImport(f *testing.F) {
	for opset := int64(MinOpset); opset <= MaxOpset; opset += 5 {
		f.Add(gatedModel(opset).bytes())
	}
	f.Add(newModel(17).input("x", 1, 1, 4).output("y", 1).node("Softmax", in("x"), in("y")).bytes())
	f.Add(newModel(12).input("x", 1, 1, 2, 2).output("y", 1).node("Softmax", in("x"), in("y")).bytes())
	f.Add(newModel(18).input("x", 1, 1, 6).output("y", 1).node("Split", in("x"), in("y", "", "z"), aInt("axis", 1), aInt("num_outputs", 3)).bytes())
	f.Add(newModel(18).input("x", 1, 1, 4).output("y", 1).init(ramp("s", 1)).node("GroupNormalization", in("x", "s", "s"), in("y"), aInt("num_groups", 1)).bytes())
	f.Add(newModel(17).input("x", 1, 1, 4).output("y", 1).node("If", in("x"), in("y"), aGraph("then_branch", newModel(17).node("Relu", in("x"), in("y")).graph)).bytes())
	for _, zoo := range fuzzFiles() {
		if data, err := os.ReadFile(zoo); err == nil && len(data) < 1<<17 {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		g, info, err := Import("fuzz.onnx", data)
		runtime.ReadMemStats(&after)
		// Everything ever allocated, not what was held at once; the constant
		// covers folding, whose budget is fixed.
		if got, limit := after.TotalAlloc-before.TotalAlloc, uint64(64<<20+400*len(data)); got > limit {
			t.Errorf("%d bytes of input made it allocate %d", len(data), got)
		}
		if err != nil {
			var r *Refusal
			if !errors.As(err, &r) || len(r.Problems) == 0 || err.Error() == "" {
				t.Errorf("error is no refusal: %v", err)
			}
			return
		}
		if info == nil || len(g.Outputs) == 0 {
			t.Error("taken without outputs")
		}
		if err := ir.Check(g); err != nil {
			t.Error(err)
		}
	})
}

// fuzzFiles are the zoo's models where the shared data are there; the target
// must also run without.
func fuzzFiles() []string {
	dir := os.Getenv("NEPCOC_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data")
	}
	files, _ := filepath.Glob(filepath.Join(dir, "zoo", "*", "model.onnx"))
	return files
}
