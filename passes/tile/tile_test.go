package tile_test

import (
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"nepcoc/internal/golden"
	"nepcoc/ir"
	"nepcoc/passes"
	"nepcoc/passes/tile"
)

func run(t *testing.T, g *ir.Graph, m passes.Machine) *ir.Graph {
	t.Helper()
	mgr, err := passes.NewManager([]passes.Pass{{Name: tile.Pass.Name, Run: tile.Pass.Run}})
	if err != nil {
		t.Fatal(err)
	}
	g, err = mgr.Run(&passes.Context{Options: passes.Options{Target: m}}, g)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// The golden files: everything at once in large caches, tiles in small ones, and regions that can't be cut.
func TestGolden(t *testing.T) {
	small := passes.Machine{L2: 2 << 10, Share: 1 << 10}
	cases := map[string]passes.Machine{
		"whole": {L2: 512 << 10, Share: 1 << 20}, "tiled": small, "narrow_table": small, "read_elsewhere": small, "two_extents": small,
	}
	var known []string
	for name, m := range cases {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", name+".txt")
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if len(archive.Files) == 0 || archive.Files[0].Name != "before" {
				t.Fatalf("%s: the first section must be -- before --", path)
			}
			g, err := ir.Parse(string(archive.Files[0].Data))
			if err != nil {
				t.Fatal(err)
			}
			before := ir.Print(g)
			after := run(t, g, m)
			if tiled := lastGated(after).Int("tile", 0) > 0; tiled != (name == "tiled" || name == "narrow_table") {
				t.Errorf("tile %d", lastGated(after).Int("tile", 0))
			}
			golden.File(t, path, txtar.Format(&txtar.Archive{Comment: archive.Comment, Files: []txtar.File{
				{Name: "before", Data: []byte(before)}, {Name: "after", Data: []byte(ir.Print(after))}}}))
		})
		known = append(known, name+".txt")
	}
	golden.Orphans(t, "testdata", known...)
}

// lastGated is the last gated layer of a graph.
func lastGated(g *ir.Graph) *ir.Node {
	var last *ir.Node
	for _, n := range g.Nodes {
		if n.Op == "int_gated_conv" {
			last = n
		}
	}
	return last
}
