package tile_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"nepcoc/internal/golden"
	"nepcoc/ir"
	"nepcoc/passes"
	"nepcoc/passes/tile"
)

func run(t *testing.T, g *ir.Graph, m passes.Machine, length int) *ir.Graph {
	t.Helper()
	mgr, err := passes.NewManager([]passes.Pass{{Name: tile.Pass.Name, Run: tile.Pass.Run}})
	if err != nil {
		t.Fatal(err)
	}
	ctx := &passes.Context{Options: passes.Options{Target: m}}
	ctx.Report.Local.Length = length
	g, err = mgr.Run(ctx, g)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// The golden files: everything at once in a large cache, tiles in a small one.
func TestGolden(t *testing.T) {
	cases := map[string]passes.Machine{"whole": {L1: 64 << 10, L2: 512 << 10}, "tiled": {L1: 16 << 10, L2: 32 << 10}}
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
			after := run(t, g, m, 128)
			if tiled := after.Nodes[0].Int("tile", -1) > 0; tiled != (name == "tiled") {
				t.Errorf("tile %d", after.Nodes[0].Int("tile", -1))
			}
			golden.File(t, path, txtar.Format(&txtar.Archive{Comment: archive.Comment, Files: []txtar.File{
				{Name: "before", Data: []byte(before)}, {Name: "after", Data: []byte(ir.Print(after))}}}))
		})
	}
	golden.Orphans(t, "testdata", "whole.txt", "tiled.txt")
}

// drawn is an integer graph of random shape: what matters here are sizes and
// who reads what.
func drawn(seed uint64) (*ir.Graph, int) {
	rng := rand.New(rand.NewPCG(seed, 1))
	length := 1 + rng.IntN(300)
	tokens := &ir.Value{Name: "tokens", Type: ir.Type{DType: ir.I64, Shape: []int{length}}}
	g := &ir.Graph{Name: "g", Inputs: []*ir.Value{tokens}}
	add := func(op string, shape []int, in ...*ir.Value) *ir.Value {
		n := &ir.Node{Op: op, Inputs: in, Attrs: ir.Attrs{}}
		v := &ir.Value{Name: fmt.Sprint("v", len(g.Nodes)), Type: ir.Type{DType: []ir.DType{ir.I8, ir.I16, ir.I32}[rng.IntN(3)], Shape: shape}, Def: n}
		n.Outputs = []*ir.Value{v}
		g.Nodes = append(g.Nodes, n)
		return v
	}
	values := []*ir.Value{add("token_table", []int{length, 1 + rng.IntN(300)}, tokens)}
	for range rng.IntN(30) {
		shape := []int{length, 1 + rng.IntN(300)}
		if rng.IntN(3) == 0 {
			shape = shape[1:]
		}
		in := []*ir.Value{values[rng.IntN(len(values))]}
		if rng.IntN(2) == 0 {
			in = append(in, values[rng.IntN(len(values))])
		}
		values = append(values, add("int_add", shape, in...))
	}
	for i := range 1 + rng.IntN(2) {
		v := values[len(values)-1-i*rng.IntN(len(values))]
		out := add("int_output", v.Type.Shape, v)
		out.Type = v.Type
		g.Outputs, g.OutputNames = append(g.Outputs, out), append(g.OutputNames, fmt.Sprint("o", i))
	}
	return g, length
}

// TestPlacement: whatever the graph, values that are alive at the same time
// lie apart, on cache lines, inside the arena.
func TestPlacement(t *testing.T) {
	for seed := range uint64(400) {
		g, length := drawn(seed)
		m := passes.Machine{L1: 1 << (12 + seed%6), L2: 1 << (14 + seed%8)}
		g = run(t, g, m, length)
		tile, arena := g.Nodes[0].Int("tile", -1), g.Nodes[0].Int("arena", -1)
		if tile < 0 || tile > length || (tile%32 != 0 && tile != length) {
			t.Fatalf("seed %d: tile %d of %d positions", seed, tile, length)
		}
		born, last := make(map[*ir.Value]int), make(map[*ir.Value]int)
		for i, n := range g.Nodes {
			if n.Int("tile", -1) != tile || n.Int("arena", -1) != arena {
				t.Fatalf("seed %d: node %d has another plan", seed, i)
			}
			born[n.Out()] = i
			last[n.Out()] = max(last[n.Out()], i)
			for _, v := range n.Inputs {
				last[v] = i
				if n.Op == "int_output" {
					last[v] = len(g.Nodes) // read after the last step
				}
			}
		}
		for i, a := range g.Nodes {
			if a.Op == "int_output" {
				continue
			}
			at, ok := a.Attrs["offset"].(int)
			size := a.Out().Type.Len() * a.Out().Type.DType.Size()
			if !ok || at%64 != 0 || at < 0 || at+size > arena {
				t.Fatalf("seed %d: %s of %d bytes lies at %v of %d", seed, a.Out().Name, size, a.Attrs["offset"], arena)
			}
			for _, b := range g.Nodes[:i] {
				if b.Op == "int_output" || last[b.Out()] < born[a.Out()] {
					continue
				}
				other := b.Int("offset", -1)
				if otherSize := b.Out().Type.Len() * b.Out().Type.DType.Size(); at < other+otherSize && other < at+size {
					t.Fatalf("seed %d: %s and %s overlap", seed, a.Out().Name, b.Out().Name)
				}
			}
		}
	}
}
