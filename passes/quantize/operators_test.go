package quantize

import (
	"maps"
	"slices"
	"testing"
)

func TestStepsAreRules(t *testing.T) {
	have, documented := slices.Sorted(maps.Keys(rules)), slices.Sorted(maps.Keys(Steps()))
	if !slices.Equal(have, documented) {
		t.Errorf("rules for %v, but Steps documents %v", have, documented)
	}
}
