package passes_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"nepcoc/ir"
	"nepcoc/passes"
	"nepcoc/passes/canonical"
	"nepcoc/passes/fuse"
	"nepcoc/passes/localize"
)

// FuzzPasses feeds arbitrary graphs to the float passes: they may refuse, but
// neither panic nor leave a broken graph behind.
func FuzzPasses(f *testing.F) {
	for _, pass := range []string{"canonical", "localize", "fuse"} {
		files, err := filepath.Glob(filepath.Join(pass, "testdata", "*.txt"))
		if err != nil || len(files) == 0 {
			f.Fatalf("no golden files of %s: %v", pass, err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(string(txtar.Parse(data).Files[0].Data))
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		before, err := ir.Parse(text)
		if err != nil || ir.Check(before) != nil {
			return
		}
		for _, n := range before.Nodes {
			for _, v := range n.Outputs {
				if v.Type.Len() > 1<<14 {
					return // slow, not wrong
				}
			}
		}
		for _, table := range [][]passes.Pass{{canonical.Pass, localize.Pass, fuse.Pass}, {named(localize.Pass), named(fuse.Pass)}} {
			m, err := passes.NewManager(table)
			if err != nil {
				t.Fatal(err)
			}
			_, err = m.Run(&passes.Context{}, before.Clone())
			var e *passes.Error
			if errors.As(err, &e) {
				var problems ir.Problems
				if e.Stack != nil || !errors.As(err, &problems) {
					t.Fatalf("%+v", err)
				}
			}
		}
	})
}

// named is a pass without its ordering constraints.
func named(p passes.Pass) passes.Pass { return passes.Pass{Name: p.Name, Run: p.Run} }
