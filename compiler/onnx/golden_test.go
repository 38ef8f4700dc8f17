package onnx

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nepcoc/ir"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// The imported form of small models, as textual IR. What the importer folds
// and what it leaves to passes/canonical can be read there.
func TestGolden(t *testing.T) {
	cases := map[string]*testModel{
		"gated-opset11": gatedModel(11),
		"gated-opset18": gatedModel(18),
		"softmax-opset11": newModel(11).input("x", 1, "n", 2, 3).output("y", 1).
			node("Softmax", in("x"), in("y")),
		"split-num-outputs": newModel(18).input("x", 1, 1, 7).output("y", 1).output("z", 1).
			node("Split", in("x"), in("y", "", "z"), aInt("axis", 1), aInt("num_outputs", 3)),
		"groupnorm-opset18": newModel(18).input("x", 1, 1, 4, 2).output("y", 1).init(ramp("s", 2)).init(ramp("b", 2)).
			node("GroupNormalization", in("x", "s", "b"), in("y"), aInt("num_groups", 2)),
		"shape-arithmetic": newModel(17).input("x", 1, "n", 6, 4).output("y", 1).init(ints64("one", 1)).init(ints64("all", -1)).
			node("Shape", in("x"), in("shape")).
			node("Gather", in("shape", "one"), in("channels")).
			node("Concat", in("one", "channels", "all"), in("target"), aInt("axis", 0)).
			node("Reshape", in("x", "target"), in("y")),
	}
	for name, m := range cases {
		g, _, err := Import(name+".onnx", m.bytes())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := ir.Print(g)
		if _, err := ir.Parse(got); err != nil {
			t.Errorf("%s: can't be parsed back: %v", name, err)
		}
		path := filepath.Join("testdata", name+".ir")
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatalf("%v (write it with go test -update)", err)
		}
		if d := cmp.Diff(string(want), got); d != "" {
			t.Errorf("%s: imported form changed; if that is right, go test -update\n%s", name, d)
		}
	}
	files, err := filepath.Glob("testdata/*.ir")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		name := filepath.Base(f)
		if cases[name[:len(name)-len(".ir")]] == nil {
			t.Errorf("%s: no test writes this golden file; remove it", f)
		}
	}
}
