// Package tile plans how an integer graph runs on a target: how many positions of the local region are
// computed at a time.
//
//	%h = int_gated_conv(...) {k=4, ...} : i8[8192,256]
//
// becomes
//
//	%h = int_gated_conv(...) {k=4, tile=320, ...} : i8[8192,256]
//
// A plan changes speed and memory, never a result: the engine computes the same bits for every tile, and keeps
// between tiles the few columns that the next one looks back at, as it does between the chunks of a
// stream. What a tile must be made of is the engine's rule: gated layers from the token table to
// maxima over one and the same extent.
//
// Tiles pay where the planes of all positions don't fit the caches that a busy core has for itself: on
// planes of 20 MB one core was 1.9 times as fast with tiles, on 8 MB 1.04 to 1.08 times, and below
// that up to 1.1 times slower, since each tile copies its history. The published model's planes take 130 kB.
package tile

import (
	"fmt"

	"nepcoc/ir"
	"nepcoc/passes"
)

// Pass is the tile pass.
var Pass = passes.Pass{
	Name: "tile",
	Doc:  "Chooses the number of positions that the local region is computed in at a time, for the target's caches.",
	Requires: []passes.Order{
		{Pass: "quantize", Why: "sizes in memory are known only when types are final"},
	},
	Run: run,
}

// block is the number of positions that most kernels compute together: tiles are multiples of it.
const block = 32

// least is the shortest tile: shorter ones mostly copy their history.
const least = 3 * block

func run(ctx *passes.Context, g *ir.Graph) (*ir.Graph, error) {
	for _, n := range g.Nodes {
		if op := ir.LookupOp(n.Op); op == nil || op.Group != ir.GroupInteger {
			return nil, fmt.Errorf("%s is not an integer step: run quantize before (nepcoc compile does)", n.Op)
		}
	}
	region := Region(g)
	if tile := choose(g, region, ctx.Options.Target); tile > 0 {
		for n := range region {
			if n.Attrs == nil {
				n.Attrs = ir.Attrs{}
			}
			n.Attrs["tile"] = tile
		}
	}
	return g, nil
}

// Region is the set of nodes that can be computed in tiles, nil where there are none: all gated
// layers and token tables must be among them.
func Region(g *ir.Graph) map[*ir.Node]bool {
	readers, region := g.Consumers(), make(map[*ir.Node]bool)
	extent := ""
	for _, n := range g.Nodes {
		switch {
		case n.Op == "token_table" && len(readers[n.Out()]) == 1 && widens(readers[n.Out()][0]):
			continue // a narrow table: its rows are widened once, and looked up as one table
		case n.Op == "token_table", n.Op == "int_gated_conv", widens(n):
		default:
			continue
		}
		pooled := n.Op == "int_gated_conv" && n.Out().Type.DType == ir.I16
		if !pooled && n.Out().Type.DType != ir.I8 || pooled && len(readers[n.Out()]) != 1 {
			return nil
		}
		for _, r := range readers[n.Out()] {
			switch {
			case !pooled && r.Op == "int_gated_conv":
			case pooled && r.Op == "int_pool" && r.Str("kind", "") == "max":
				over := "all"
				if r.Input(1) != nil {
					over = "prefix"
				}
				if extent != "" && over != extent {
					return nil
				}
				extent = over
			default:
				return nil
			}
		}
		for i := range min(2, len(n.Inputs)) {
			if v := n.Inputs[i]; n.Op == "int_gated_conv" && v != nil && (v.Def == nil || !region[v.Def]) {
				return nil
			}
		}
		region[n] = true
	}
	if extent == "" {
		return nil
	}
	return region
}

// widens tells whether a node makes the rows of a narrow token table wide; see bundle.Program.Folds.
func widens(n *ir.Node) bool {
	x := n.Inputs[0].Def
	return n.Op == "int_conv" && x != nil && x.Op == "token_table" && x.Out().Type.DType == ir.I8 && n.Out().Type.DType == ir.I8 &&
		n.Inputs[1].Type.Shape[1] == 1 && n.Int("stride", 1) == 1 && n.Int("pad_left", 0) == 0 && n.Int("pad_right", 0) == 0
}

// choose is 0 where the planes that are alive at the same time fit what a core has for itself, else the
// largest multiple of block of which they fit half of the second-level cache.
func choose(g *ir.Graph, region map[*ir.Node]bool, m passes.Machine) int {
	row, length := 0, 0 // bytes per position
	last := make(map[*ir.Node]int)
	for i, n := range g.Nodes {
		for _, v := range n.Inputs {
			if v != nil && v.Def != nil {
				last[v.Def] = i
			}
		}
	}
	for i := range g.Nodes {
		alive := 0
		for _, n := range g.Nodes[:i+1] {
			if v := n.Out(); region[n] && last[n] >= i && v.Type.DType == ir.I8 {
				alive, length = alive+v.Type.Shape[1], v.Type.Shape[0]
			}
		}
		row = max(row, alive)
	}
	if row*length <= m.Share {
		return 0
	}
	if t := max(m.L2/2/row/block*block, least); t < length {
		return t
	}
	return 0
}
