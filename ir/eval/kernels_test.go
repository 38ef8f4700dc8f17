package eval

import (
	"math"
	"testing"

	"nepcoc/ir"
)

// Every float operator of the table has a kernel, and every kernel an entry
// in the table.
func TestKernelsCoverTable(t *testing.T) {
	for _, g := range []ir.OpGroup{ir.GroupONNX, ir.GroupCanonical, ir.GroupFused} {
		for _, op := range ir.Ops(g) {
			if op.Name == "Constant" {
				continue // constants have no node
			}
			if _, err := kernelOf(op.Name); err != nil {
				t.Error(err)
			}
		}
	}
	for name := range kernels {
		if op := ir.LookupOp(name); op == nil || op.Group == ir.GroupInteger {
			t.Errorf("kernel %s has no float operator", name)
		}
	}
}

// Every function that act can name is defined, and at zero it has the value
// that its formula gives there.
func TestActsAreDefined(t *testing.T) {
	atZero := map[string]float64{"sigmoid": 0.5, "hard_sigmoid": 0.5, "exp": 1, "softplus": math.Ln2, "log": math.Inf(-1), "reciprocal": math.Inf(1)}
	for _, fn := range ir.Acts {
		if fn == "prelu" {
			continue // has a slope per channel, and its own kernel
		}
		f, err := actFunc(fn, &ir.Node{}, "")
		if err != nil {
			t.Error(err)
			continue
		}
		if got := f(0); math.Abs(got-atZero[fn]) > 1e-15 && got != atZero[fn] {
			t.Errorf("%s(0) = %g, want %g", fn, got, atZero[fn])
		}
	}
}
