package eval

import (
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
