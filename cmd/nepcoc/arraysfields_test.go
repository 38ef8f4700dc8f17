package main

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"nepcoc/internal/fieldtable"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
)

// docs/verdicts.md has every field of the lines of arrays, and no other.
func TestArrayFields(t *testing.T) {
	var lines [][]byte
	for _, kind := range []bundle.OutputKind{bundle.KindClasses, bundle.KindBinary, bundle.KindLabels, bundle.KindValues} {
		h := classify.Head{Kind: kind, Name: "o", Labels: []string{"a", "b"}, Scale: 0.5}
		line, err := json.Marshal(newSampleLine(0, &h, &classify.Result{Class: 1, Given: []classify.Label{{Index: 1}}}, []int32{1, -2}))
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
	fieldtable.Check(t, fieldtable.Read(t, filepath.Join(testfiles.Root(t), "docs", "verdicts.md")), "arrays", false, lines)
}
