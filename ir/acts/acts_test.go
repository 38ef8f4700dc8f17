package acts

import (
	"math"
	"slices"
	"testing"
)

// known are values of each function by its formula, at points where that can be
// done in the head or was done by another program.
var known = map[string]map[float64]float64{
	"relu": {-1: 0, 2: 2}, "clip": {-9: -9, 9: 9}, "leaky_relu": {-1: -0.01, 2: 2}, "prelu": {-1: 0, 2: 2},
	"elu": {-1: 1/math.E - 1, 2: 2}, "selu": {0: 0, 1: 1.05070102214813232421875}, "celu": {-1: 1/math.E - 1, 2: 2},
	"sigmoid": {0: 0.5, 2: 0.8807970779778823}, "hard_sigmoid": {0: 0.5, 1: 0.7, 9: 1}, "hard_swish": {-3: 0, 3: 3, 1: 2.0 / 3},
	"tanh": {0: 0, 1: 0.7615941559557649}, "softplus": {0: math.Ln2, 1: 1.3132616875182228}, "softsign": {1: 0.5, -3: -0.75},
	"mish": {0: 0, 1: 0.8650983882673103}, "gelu": {0: 0, 1: 0.8413447460685429}, "gelu_tanh": {0: 0, 1: 0.8411919906082768},
	"silu": {0: 0, 1: 0.7310585786300049}, "erf": {0: 0, 1: 0.8427007929497149},
	"exp": {0: 1, 1: math.E}, "log": {1: 0, 2: math.Ln2, 0: math.Inf(-1)}, "sqrt": {4: 2, 2: math.Sqrt2}, "square": {-3: 9}, "pow": {-3: -3, 5: 5},
	"neg": {2: -2}, "abs": {-2: 2}, "reciprocal": {4: 0.25, 0: math.Inf(1)},
}

// Every function is told and computes what its formula says, and its integer form
// is its float form wherever that is finite, and finite elsewhere.
func TestFunctions(t *testing.T) {
	for _, f := range Funcs() {
		if f.Doc == "" || Lookup(f.Name) != f {
			t.Errorf("%s: not documented, or entered twice", f.Name)
		}
		defaults := f.Complete(func(string) (float64, bool) { return 0, false })
		float := f.Float(defaults)
		if len(known[f.Name]) == 0 {
			t.Errorf("%s: no known value", f.Name)
		}
		for x, want := range known[f.Name] {
			if got := float(x); !(math.Abs(got-want) <= 1e-14) && got != want {
				t.Errorf("%s(%g) = %.17g, want %.17g", f.Name, x, got, want)
			}
		}
		table := f.Tabulated(defaults)
		for x := -20.0; x <= 20; x += 1.0 / 64 {
			y, z := table(x), float(x)
			if y-y != 0 {
				t.Errorf("%s: the table holds %g for %g", f.Name, y, x)
			}
			if z-z == 0 && math.Abs(x) > 1e-5 && y != z && !(f.Name == "log" && x < 1e-6) {
				t.Errorf("%s: the table holds %g for %g, the function is %g", f.Name, y, x, z)
			}
		}
	}
	if len(known) != len(Funcs()) {
		t.Error("a known value is of no function")
	}
}

// A layer that carries a function must know how far inputs reach: the results
// observed in [lo,hi] all come from inputs within Reach, or are those of its
// end within 8 bits.
func TestReach(t *testing.T) {
	for _, f := range Funcs() {
		if !f.Fuses() || f.Limits != nil {
			continue
		}
		p := f.Complete(func(string) (float64, bool) { return 0, false })
		float := f.Float(p)
		for _, hi := range []float64{0.1, 0.9, 3, 40} {
			lo, top := math.Inf(1), 0.0
			for x := -60.0; x <= 60; x += 1.0 / 32 { // the inputs whose results are at most hi
				if y := float(x); y <= hi {
					lo, top = min(lo, y), max(top, y)
				}
			}
			reach := f.Reach(p, lo, top)
			for x := -60.0; x <= 60; x += 1.0 / 32 {
				y, end := float(x), float(math.Copysign(min(math.Abs(x), reach), x))
				if y <= hi && math.Abs(y-end) > (top-lo)/100+1e-9 {
					t.Errorf("%s of results up to %g reaches %g: %g gives %g, its table's end %g", f.Name, hi, reach, x, y, end)
					break
				}
			}
		}
	}
}

// The standard's names are of one function each.
func TestONNXNames(t *testing.T) {
	var names []string
	for _, f := range Funcs() {
		if f.ONNX != "" && slices.Contains(names, f.ONNX) {
			t.Errorf("%s is entered twice", f.ONNX)
		}
		names = append(names, f.ONNX)
	}
}
