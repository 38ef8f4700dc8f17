package onnx

import (
	"path/filepath"
	"testing"

	"nepcoc/internal/golden"
	"nepcoc/ir"
)

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
	var known []string
	for name, m := range cases {
		known = append(known, name+".ir")
		g, _, err := Import(name+".onnx", m.bytes())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := ir.Print(g)
		if _, err := ir.Parse(got); err != nil {
			t.Errorf("%s: can't be parsed back: %v", name, err)
		}
		golden.File(t, filepath.Join("testdata", name+".ir"), []byte(got))
	}
	golden.Orphans(t, "testdata", known...)
}
