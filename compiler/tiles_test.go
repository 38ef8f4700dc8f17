package compiler_test

import (
	"slices"
	"testing"

	"nepcoc/backends/program"
	"nepcoc/compiler"
	"nepcoc/passes"
	"nepcoc/passes/tile"
	"nepcoc/runtime/cpu"
	"nepcoc/runtime/engine"
)

// tiles holds the plan of a compiled model to what the engine does with it, on every kernel path: the
// pass cuts what the engine can cut, into tiles of the length that the engine runs. Every model that
// these tests compile passes through it.
func tiles(t *testing.T, res *compiler.Result) {
	t.Helper()
	p := *res.Bundle.Program
	for _, path := range cpu.Available() {
		run := func() int {
			e, err := engine.Bind(&p, engine.Options{Kernel: path.String()})
			if err != nil {
				t.Fatal(err)
			}
			d, err := engine.Describe(&p, path.String())
			if err != nil || d != e.Describe() {
				t.Errorf("%s: described as %+v, bound as %+v: %v", path, d, e.Describe(), err)
			}
			return e.Tile()
		}
		p.Plan.Tile = res.Bundle.Program.Plan.Tile
		if got := run(); got != p.Plan.Tile {
			t.Errorf("%s: planned in tiles of %d, runs in tiles of %d", path, p.Plan.Tile, got)
		}
		p.Plan.Tile = 1
		if got, can := run(), len(tile.Region(res.Graph)) > 0; (got == 1) != can {
			t.Errorf("%s: runs in tiles of %d where 1 was asked for; the pass says that it can: %v", path, got, can)
		}
	}
}

// TestTilesAreWhatRuns plans a model whose layers are gated for a machine with hardly any cache.
func TestTilesAreWhatRuns(t *testing.T) {
	_, _, res := compile(t, compiler.Options{Model: "../examples/model/demo.onnx", Calib: "../examples/testbed/calib.pcap"})
	if res.Bundle.Program.Plan.Tile != 0 {
		t.Errorf("the example model fits every cache and is cut into tiles of %d", res.Bundle.Program.Plan.Tile)
	}
	ctx := &passes.Context{Options: passes.Options{Target: passes.Machine{L2: 48 << 10, Share: 32 << 10}}}
	g, err := tile.Pass.Run(ctx, res.Graph)
	if err != nil {
		t.Fatal(err)
	}
	was := res.Bundle.Program
	p, err := program.Lower(g, program.Info{Vocab: was.Vocab, Left: was.Left, Right: was.Right})
	if err != nil {
		t.Fatal(err)
	}
	if p.Plan.Tile != 128 {
		t.Fatalf("tiles of %d, want 128: three planes of 64 channels are alive at a time", p.Plan.Tile)
	}
	for _, path := range cpu.Available() {
		e, err := engine.Bind(p, engine.Options{Kernel: path.String()})
		if err != nil {
			t.Fatal(err)
		}
		whole, err := engine.Describe(was, path.String())
		if err != nil {
			t.Fatal(err)
		}
		if e.Tile() != p.Plan.Tile || e.ArenaBytes() >= whole.Arena {
			t.Errorf("%s: planned in tiles of %d, runs in tiles of %d in %d bytes, whole in %d", path, p.Plan.Tile, e.Tile(), e.ArenaBytes(), whole.Arena)
		}
		c, out := e.NewContext(), e.NewOutput()
		for i, g := range res.Bundle.Golden {
			if err := c.Run(g.Tokens, g.Valid, out); err != nil || !slices.EqualFunc(out, g.Logits, slices.Equal) {
				t.Errorf("%s: golden vector %d: %v, want %v: %v", path, i, out, g.Logits, err)
			}
		}
	}
}
