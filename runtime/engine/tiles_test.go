package engine_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"nepcoc/runtime/bundle"
)

// planned is p with a tile.
func planned(p *bundle.Program, tile int) *bundle.Program {
	q := *p
	q.Plan = bundle.Plan{Tile: min(tile, p.Length)}
	return &q
}

// TestTiles: whatever the tile, every length gives refexec's bits, at once and in chunks.
func TestTiles(t *testing.T) {
	for _, k := range []chain{
		{261, 300, 64, 5, []bool{true, false, true}}, {300, 90, 48, 3, []bool{false, true, true}}, {300, 7, 6, 3, []bool{false, true}},
	} {
		p := k.program(1)
		ref, r, few := reference(t, p), rand.New(rand.NewPCG(4, 4)), 20
		if testing.Short() {
			few = 90
		}
		for _, tile := range []int{1, 3, 32, 64, 100, 299} {
			for _, path := range paths() {
				e := bind(t, planned(p, tile), path)
				if e.Tile() != min(tile, k.length) {
					t.Fatalf("tile %d, %s: runs in tiles of %d", tile, path, e.Tile())
				}
				c, s, out := e.NewContext(), e.NewStream(), e.NewOutput()
				for valid := 1; valid <= k.length; valid += 1 + r.IntN(few) {
					tokens := flow(p, r)
					for i := valid; i < p.Length; i++ {
						tokens[i] = 0
					}
					want := ref(tokens, valid)
					if err := c.Run(tokens, valid, out); err != nil || !equal(out, want) {
						t.Fatalf("%v, %s, tile %d, %d valid: engine %v, refexec %v: %v", k, path, tile, valid, out, want, err)
					}
					if inChunks(t, c, s, tokens, tokens[p.Length:], valid, 0, r, out); !equal(out, want) {
						t.Fatalf("%v, %s, tile %d, %d valid, in chunks: engine %v, refexec %v", k, path, tile, valid, out, want)
					}
				}
			}
		}
	}
}

// TestRandomTiles: chains joined at random, among them such whose maxima end at different positions.
func TestRandomTiles(t *testing.T) {
	n := uint64(200)
	if testing.Short() {
		n = 40
	}
	tiled := 0
	for seed := range n {
		p := planned(randomChain(seed), []int{1, 5, 16, 32, 64}[seed%5])
		differential(t, p, seed)
		for _, path := range paths() {
			streamed(t, p, path, 3, seed)
			if bind(t, p, path).Tile() > 0 {
				tiled++
			}
		}
	}
	if tiled == 0 {
		t.Error("none ran in tiles")
	}
}

// TestTileMemory: working memory follows from the tile, not from the length.
func TestTileMemory(t *testing.T) {
	p := chain{300, 4096, 64, 3, published.norm}.program(1)
	for _, path := range paths() {
		whole, tiled := bind(t, p, path).ArenaBytes(), bind(t, planned(p, 128), path).ArenaBytes()
		if tiled*8 > whole {
			t.Errorf("%s: %d bytes in tiles of 128, %d at once", path, tiled, whole)
		}
	}
}

// Where a tile pays: long inputs of wide layers, on one core.
func BenchmarkTiles(b *testing.B) {
	for _, shape := range [][2]int{{1024, 64}, {1024, 256}, {2048, 256}, {8192, 64}, {8192, 128}, {8192, 256}} {
		p := chain{300, shape[0], shape[1], 10, published.norm}.program(1)
		tokens := flow(p, rand.New(rand.NewPCG(1, 1)))
		for _, path := range paths()[1:] {
			for _, tile := range []int{0, 64, 128, 256, 512, 1024} {
				if tile >= shape[0] {
					continue
				}
				e := bind(b, planned(p, tile), path)
				c, out := e.NewContext(), e.NewOutput()
				b.Run(fmt.Sprintf("%dx%d/%s/tile=%d", shape[0], shape[1], path, tile), func(b *testing.B) {
					for b.Loop() {
						if err := c.Run(tokens, shape[0], out); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}
