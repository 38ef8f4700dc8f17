// Package tile plans how an integer graph runs on a target: how many positions
// of the local region are computed at a time, and where each value lies in the
// working memory.
//
//	%h = int_conv(...) {...} : i8[128,64]
//
// becomes
//
//	%h = int_conv(...) {..., tile=32, offset=8192, arena=24576} : i8[128,64]
//
// A plan changes speed and memory, never a result: the engine computes the
// same bits for every tile.
package tile

import (
	"fmt"

	"nepcoc/ir"
	"nepcoc/passes"
)

// Pass is the tile pass.
var Pass = passes.Pass{
	Name: "tile",
	Doc:  "Chooses the tile of the local region and the place of every value in memory, for the target's caches.",
	Requires: []passes.Order{
		{Pass: "quantize", Why: "sizes in memory are known only when types are final"},
	},
	Run: run,
}

// block is the number of positions that the gated kernels compute together:
// tiles are multiples of it.
const block = 32

// align is the alignment of values in the arena: a cache line.
const align = 64

func run(ctx *passes.Context, g *ir.Graph) (*ir.Graph, error) {
	for _, n := range g.Nodes {
		if op := ir.LookupOp(n.Op); op == nil || op.Group != ir.GroupInteger {
			return nil, fmt.Errorf("%s is not an integer step: run quantize before (nepcoc compile does)", n.Op)
		}
	}
	tile := chooseTile(g, ctx.Options.Target, ctx.Report.Local.Length)
	offsets, arena := place(g)
	for _, n := range g.Nodes {
		if n.Attrs == nil {
			n.Attrs = ir.Attrs{}
		}
		n.Attrs["tile"], n.Attrs["arena"] = tile, arena
		if off, ok := offsets[n.Out()]; ok {
			n.Attrs["offset"] = off
		}
	}
	return g, nil
}

// chooseTile is the largest multiple of block for which the two widest
// neighbouring values of the region, input and output of a step, fit half of the first-level
// cache; all positions where everything fits the second level comfortably, since
// each tile recomputes the receptive field at its edge.
func chooseTile(g *ir.Graph, m passes.Machine, length int) int {
	width, total := 0, 0
	for _, n := range g.Nodes {
		w := rowBytes(n.Out())
		for _, v := range n.Inputs {
			if v != nil && v.Def != nil {
				width = max(width, w+rowBytes(v))
			}
		}
		total = max(total, size(n.Out()))
	}
	if width == 0 || 4*total <= m.L2 {
		return 0
	}
	t := m.L1 / 2 / width / block * block
	return min(max(t, block), length)
}

func rowBytes(v *ir.Value) int {
	s := v.Type.Shape
	if len(s) < 2 {
		return 0
	}
	return s[1] * v.Type.DType.Size()
}

func size(v *ir.Value) int { return v.Type.Len() * v.Type.DType.Size() }

// place assigns offsets by liveness, first fit: a value's bytes are free again
// after its last reader. A value and what is computed from it never share bytes.
func place(g *ir.Graph) (map[*ir.Value]int, int) {
	last := make(map[*ir.Value]int)
	for i, n := range g.Nodes {
		last[n.Out()] = i
		for _, v := range n.Inputs {
			if v != nil && v.Def != nil {
				last[v] = i
			}
		}
	}
	for _, v := range g.Outputs {
		last[v] = len(g.Nodes)
		if v.Def != nil && v.Def.Op == "int_output" {
			last[v.Def.Inputs[0]] = len(g.Nodes)
		}
	}
	type span struct {
		v       *ir.Value
		at, end int
	}
	var live []span
	offsets := make(map[*ir.Value]int)
	arena := 0
	for i, n := range g.Nodes {
		kept := live[:0]
		for _, s := range live {
			if last[s.v] >= i {
				kept = append(kept, s)
			}
		}
		live = kept
		v := n.Out()
		if n.Op == "int_output" {
			continue // an alias of its input
		}
		need := (size(v) + align - 1) &^ (align - 1)
		at, where := 0, 0
		for j, s := range live { // sorted by at
			if at+need <= s.at {
				break
			}
			at, where = max(at, s.end), j+1
		}
		live = append(live[:where], append([]span{{v, at, at + need}}, live[where:]...)...)
		offsets[v] = at
		arena = max(arena, at+need)
	}
	return offsets, arena
}
