package c

import "nepcoc/runtime/bundle"

// A program's local region (token rows, the gated layers on them, and the maxima over these) is computed a tile of positions at a
// time, so that a context holds windows of its values instead of all their rows. It is what package engine does with streams and
// tiles: a gated layer looks a few positions ahead, so each value trails the tokens by a fixed lag, and of each value the columns
// that its readers will still look back at are carried from one tile to the next. Nothing is computed twice. The chunks of
// a stream are such tiles, whose state is kept with the flow.

// region says what of a program runs tile by tile.
type region struct {
	live   []bool // by step: an output depends on it
	steps  []bool // by step: of the region
	local  []bool // by value: rows that the region computes
	kept   []bool // of these, those that a step behind the region reads: all their rows are kept
	fused  []int  // by value: the maximum that is taken while it is computed, so that it lies nowhere; -1
	lag    []int  // by value: positions behind the tokens
	past   []int  // by value: columns carried from one tile to the next
	back   int    // how far before a tile's first token its steps look or write
	right  int    // columns of padding behind the last row
	tiles  bool   // Run may go tile by tile: all ends in maxima over one extent
	prefix bool   // that extent is the flow's tokens, not all positions
	ahead  int    // rows behind that extent that are wanted of some value
	early  int    // rows up to extent + early can be computed of every value, by its lag; the rest is left to the last tile
}

// streams tells whether there is a region with something to compute.
func (r *region) streams() bool { return r.right >= 0 }

func newRegion(p *bundle.Program) *region {
	n := len(p.Values)
	r := &region{live: make([]bool, len(p.Steps)), steps: make([]bool, len(p.Steps)), local: make([]bool, n), kept: make([]bool, n),
		fused: make([]int, n), lag: make([]int, n), past: make([]int, n), right: -1, tiles: true}
	wanted, readers := make([]bool, n), make([]int, n)
	for _, o := range p.Outputs {
		wanted[o.Value] = true
	}
	for i := len(p.Steps) - 1; i >= 0; i-- {
		if r.live[i] = wanted[p.Steps[i].Out]; r.live[i] {
			for _, v := range p.Steps[i].In {
				wanted[v] = true
				readers[v]++
			}
		}
	}
	for i := range p.Steps {
		s := &p.Steps[i]
		r.fused[s.Out] = -1
		if !r.live[i] {
			continue
		}
		switch s.Op {
		case bundle.OpTokenTable:
			r.steps[i], r.local[s.Out] = true, true
		case bundle.OpGatedConv:
			if r.local[s.In[0]] && r.local[s.In[len(s.In)-1]] {
				r.steps[i], r.local[s.Out] = true, true
				r.right = max(r.right, s.GatedConv.K-1-s.GatedConv.PadLeft)
			}
		case bundle.OpPool:
			r.steps[i] = r.local[s.In[0]] && s.Pool.Kind == "max"
		}
		for j, v := range s.In {
			if !r.steps[i] {
				r.kept[v] = r.local[v]
				continue
			}
			ahead, _ := reach(s, j)
			r.lag[s.Out] = max(r.lag[s.Out], r.lag[v]+ahead)
		}
	}
	for _, o := range p.Outputs {
		r.kept[o.Value] = r.local[o.Value]
	}
	if !r.streams() {
		clear(r.steps)
		clear(r.local)
		clear(r.kept)
		r.tiles = false
		return r
	}
	r.extent(p)
	for i := range p.Steps {
		s := &p.Steps[i]
		if !r.steps[i] {
			continue
		}
		if v := s.In; s.Op == bundle.OpPool && readers[v[0]] == 1 && !r.kept[v[0]] && made(p, v[0]).GatedConv != nil && made(p, v[0]).GatedConv.Norm != nil {
			r.fused[v[0]] = s.Out
		}
		for j, v := range s.In {
			if _, before := reach(s, j); !r.kept[v] {
				r.past[v] = max(r.past[v], (r.lag[s.Out]-r.lag[v]+before+3)/4*4)
			}
			if s.GatedConv != nil { // where it writes padding: see gatedConv
				r.back = max(r.back, r.lag[s.Out]+2*s.GatedConv.PadLeft-1)
			}
		}
	}
	for v := range r.past {
		r.back = max(r.back, r.lag[v]+r.past[v])
	}
	return r
}

// reach is how many rows of its input j a step of the region looks ahead, and back.
func reach(s *bundle.Step, j int) (ahead, before int) {
	if s.GatedConv != nil && j == 0 {
		return s.GatedConv.K - 1 - s.GatedConv.PadLeft, s.GatedConv.PadLeft
	}
	return 0, 0
}

// extent finds out over which positions the region's maxima go, and so how far a tile may run.
func (r *region) extent(p *bundle.Program) {
	ahead, over := make([]int, len(p.Values)), ""
	for i := len(p.Steps) - 1; i >= 0; i-- {
		s := &p.Steps[i]
		if !r.steps[i] {
			continue
		}
		if s.Op == bundle.OpPool {
			r.tiles = r.tiles && (over == "" || over == s.Pool.Over)
			over = s.Pool.Over
		}
		for j, v := range s.In {
			a, _ := reach(s, j)
			ahead[v] = max(ahead[v], ahead[s.Out]+a)
		}
	}
	r.prefix, r.early = over == "prefix", -1
	for i := range p.Steps { // a maximum ends with its extent, also where others read on
		if lag := r.lag[p.Steps[i].Out]; r.steps[i] && p.Steps[i].Op == bundle.OpPool && (r.early < 0 || lag < r.early) {
			r.early = lag
		}
	}
	for v, local := range r.local {
		if local {
			r.tiles = r.tiles && !r.kept[v]
			r.ahead = max(r.ahead, ahead[v])
			if at := ahead[v] + r.lag[v]; r.early < 0 || at < r.early {
				r.early = at
			}
		}
	}
}

// made is the step that computes value v.
func made(p *bundle.Program, v int) *bundle.Step {
	for i := range p.Steps {
		if p.Steps[i].Out == v {
			return &p.Steps[i]
		}
	}
	return &bundle.Step{}
}
