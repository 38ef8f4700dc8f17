package quantize

import (
	"maps"
	"slices"
	"testing"

	"nepcoc/ir"
)

// Every canonical and fused operator has an integer form in ir's table and a
// rule here, or the table says which pass leaves none of it.
func TestRulesCoverTable(t *testing.T) {
	var with []string
	for _, op := range slices.Concat(ir.Ops(ir.GroupCanonical), ir.Ops(ir.GroupFused)) {
		if (op.Integer != nil) == (op.Until != "") {
			t.Errorf("%s: want an integer form, or until when there is any", op.Name)
		}
		if op.Integer != nil {
			with = append(with, op.Name)
		}
	}
	slices.Sort(with)
	if have := slices.Sorted(maps.Keys(rules)); !slices.Equal(have, with) {
		t.Errorf("rules for %v, integer forms of %v", have, with)
	}
}
