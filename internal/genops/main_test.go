package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nepcoc/internal/testfiles"
	"nepcoc/ir"
	"nepcoc/passes/canonical"
)

func TestFresh(t *testing.T) {
	path := filepath.Join(testfiles.Root(t), "docs", "SUPPORTED_OPS.md")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(data) != render() {
		t.Errorf("%s is out of date: go generate ./internal/genops", path)
	}
}

// Every operator that is read is documented, and becomes operators that exist.
func TestComplete(t *testing.T) {
	text := render()
	for _, op := range ir.Ops(ir.GroupONNX) {
		if !strings.Contains(text, "| "+op.Name+" |") && !strings.Contains(text, op.Name+",") {
			t.Errorf("%s is missing", op.Name)
		}
		for _, c := range canonical.FormOf(op.Name).Into {
			if o := ir.LookupOp(c); o == nil || o.Group != ir.GroupCanonical {
				t.Errorf("%s becomes %q, which is no canonical operator", op.Name, c)
			}
		}
	}
}
