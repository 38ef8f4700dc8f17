package compiler_test

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"nepcoc/compiler/onnx"
	m "nepcoc/internal/onnxmodel"
	"nepcoc/ir"
	"nepcoc/passes/canonical"
)

// Each operator that is taken among constants only, or in mask arithmetic,
// computing the weights [8] by which a sequence is multiplied, one per channel.
var foldedCases = map[string]func(g *m.Model) string{
	"Floor":      func(g *m.Model) string { return g.Op("Floor", nil, g.Uniform(1, 4, 8)) },
	"Ceil":       func(g *m.Model) string { return g.Op("Ceil", nil, g.Uniform(1, 4, 8)) },
	"ReduceProd": func(g *m.Model) string { return g.Reduce("ReduceProd", g.Uniform(0.8, 1.2, 8, 3), 0, 1) },
	"Tile":       func(g *m.Model) string { return g.Op("Tile", nil, g.Uniform(0.5, 1.5, 2), g.Ints(4)) },
	"Range":      func(g *m.Model) string { return g.Op("Range", nil, g.Scalar(0.5), g.Scalar(2.4), g.Scalar(0.25)) },
	"ConstantOfShape": func(g *m.Model) string {
		return g.Op("ConstantOfShape", attrs{"value": m.Tensor{Dims: []int{1}, Data: []float32{1.5}}}, g.Ints(8))
	},
	"ArgMin": func(g *m.Model) string {
		least := g.Op("Cast", attrs{"to": m.F32}, g.Op("ArgMin", attrs{"axis": 1, "keepdims": 0}, g.Random(8, 5)))
		return g.Op("Add", nil, least, g.Scalar(0.5))
	},
	"InstanceNormalization": func(g *m.Model) string {
		x := g.Op("InstanceNormalization", nil, g.Random(1, 2, 4), g.Uniform(0.5, 1.5, 2), g.Random(2))
		return g.Op("Reshape", nil, x, g.Ints(8))
	},
	"Size": func(g *m.Model) string {
		return g.Op("Div", nil, g.Uniform(20, 30, 8), g.Op("Cast", attrs{"to": m.F32}, g.Op("Size", nil, g.Random(4, 5))))
	},
	"Less": compared("Less"), "LessOrEqual": compared("LessOrEqual"), "Greater": compared("Greater"), "GreaterOrEqual": compared("GreaterOrEqual"),
	"Not": func(g *m.Model) string {
		return chosen(g, g.Op("Not", nil, g.Op("Less", nil, g.Random(8), g.Scalar(0))))
	},
	"And": both("And"), "Or": both("Or"),
}

// compared chooses weights by a comparison, half of them equal.
func compared(op string) func(g *m.Model) string {
	return func(g *m.Model) string {
		return chosen(g, g.Op(op, nil, g.Ints(1, 2, 3, 4, 5, 6, 7, 8), g.Ints(1, 3, 3, 3, 5, 7, 6, 8)))
	}
}

func both(op string) func(g *m.Model) string {
	return func(g *m.Model) string {
		return chosen(g, g.Op(op, nil, g.Op("Less", nil, g.Random(8), g.Scalar(0)), g.Op("Less", nil, g.Random(8), g.Scalar(0))))
	}
}

func chosen(g *m.Model, condition string) string {
	return g.Op("Where", nil, condition, g.Uniform(0.5, 1, 8), g.Uniform(1.5, 2, 8))
}

// folded are the cases as opCases.
func folded() []opCase {
	var cases []opCase
	for op, weights := range foldedCases {
		cases = append(cases, opCase{name: op + " of constants", build: func(g *m.Model, x string) string {
			return g.Op("Mul", nil, x, g.Unsqueeze(weights(g), 1))
		}})
	}
	slices.SortFunc(cases, func(a, b opCase) int {
		if a.name < b.name {
			return -1
		}
		return 1
	})
	return cases
}

// Every operator of the standard that ir's table takes is compared, integers with
// floats, in a model that compiles, and where it is not taken everywhere, it is
// refused in another. With TestOperators, this closes the table at its upper end.
//
// That each entry is documented is internal/genops's business, that it is right in
// floats ir/eval's (the standard's own tests, and numbers by formula), and that wrong
// integer forms are found passes/quantize's.
func TestTableIsCompared(t *testing.T) {
	compiles, refused := make(map[string]bool), make(map[string]bool)
	for _, c := range slices.Concat(opCases, folded()) {
		for _, opset := range c.opsets() {
			for _, op := range c.ops(opset) {
				if len(c.refused) > 0 {
					refused[op] = true
				} else {
					compiles[op] = true
				}
			}
		}
	}
	var families []string
	for _, f := range onnx.Families() {
		families = append(families, f.Ops...)
	}
	for _, op := range ir.Ops(ir.GroupONNX) {
		if !compiles[op.Name] && !slices.Contains(families, op.Name) {
			t.Errorf("%s: in no case that compiles", op.Name)
		}
		if (canonical.FormOf(op.Name).Folded || slices.Contains(families, op.Name)) && !refused[op.Name] {
			t.Errorf("%s: in no case that is refused", op.Name)
		}
	}
}

// made are the operators of all graphs that the compiles of TestModels and
// TestOperators went through.
var made = make(map[string]bool)

var opsOfText = regexp.MustCompile(`(?m)^  %\S+ = (\w+)\(`)

// collect reads the graphs that a compile left in a folder.
func collect(t *testing.T, dir string) {
	t.Helper()
	stages, err := filepath.Glob(filepath.Join(dir, "*.ir"))
	if err != nil || len(stages) == 0 {
		t.Fatalf("no textual IR in %s: %v", dir, err)
	}
	for _, stage := range stages {
		text, err := os.ReadFile(stage)
		if err != nil {
			t.Fatal(err)
		}
		for _, op := range opsOfText.FindAllSubmatch(text, -1) {
			made[string(op[1])] = true
		}
	}
}

// allMade closes the table at its lower end: every canonical, fused and integer
// operator was made of something, and so compared. Where -run picks some of the
// tests, there is nothing to be said.
func allMade(t *testing.T) {
	t.Helper()
	if f := flag.Lookup("test.run"); f.Value.String() != "" {
		return
	}
	for _, group := range []ir.OpGroup{ir.GroupCanonical, ir.GroupFused, ir.GroupInteger} {
		for _, op := range ir.Ops(group) {
			if !made[op.Name] {
				t.Errorf("%s: made of none of the cases", op.Name)
			}
		}
	}
}
