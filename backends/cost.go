package backends

import "nepcoc/runtime/bundle"

// StepCost is the work of one step on a full input, and an estimate of what
// it takes on a target. Estimates are just that: sums of measured cycles per unit of
// work, without cache misses or contention.
type StepCost struct {
	Step         string  `json:"step"`
	Op           string  `json:"op"`
	MACs         int64   `json:"macs"`
	WeightBytes  int64   `json:"weight_bytes"`
	OutputBytes  int64   `json:"output_bytes"`
	Cycles       float64 `json:"cycles"`
	Microseconds float64 `json:"us"`
}

// Estimate returns the cost of each step of p on t for an input of n tokens
// (p.Length for a full one): only the n valid positions and the receptive
// field to their right are computed. A token table that is stored narrow costs nothing per
// input, and the convolution that widens it what a look-up does; see bundle.Program.Folds.
func Estimate(p *bundle.Program, t *Target, n int) []StepCost {
	active := func(rows int) int64 {
		if rows == p.Length {
			rows = min(rows, n+p.Right)
		}
		return int64(rows)
	}
	folds := p.Folds()
	folded := make(map[int]bool) // token tables that are read once, when the program is bound
	for _, j := range folds {
		folded[j] = true
	}
	costs := make([]StepCost, len(p.Steps))
	for i := range p.Steps {
		s := &p.Steps[i]
		out := p.Values[s.Out]
		r := active(out.Rows)
		elems := r * int64(out.Cols)
		c := StepCost{Step: s.Name, Op: s.Op, OutputBytes: elems * int64(out.DType.Size()), Cycles: t.Cost.Step}
		weights := func(tensors ...int) {
			for _, id := range tensors {
				if id >= 0 {
					c.WeightBytes += int64(len(p.Tensors[id].Data))
				}
			}
		}
		op := s.Op
		if _, ok := folds[i]; ok {
			op = bundle.OpTokenTable // of the wider rows
		}
		switch op {
		case bundle.OpTokenTable:
			if folded[i] {
				c.OutputBytes, c.Cycles = 0, 0
				break
			}
			c.WeightBytes = elems * int64(out.DType.Size()) // the rows that are read
			c.Cycles += float64(float64(elems) * t.Cost.Lookup)
		case bundle.OpGatedConv:
			g := s.GatedConv
			c.MACs = elems * int64(2*g.K)
			weights(g.TapsH, g.TapsG, g.BiasH, g.BiasG)
			if g.Norm != nil {
				c.Cycles += float64(float64(elems) * t.Cost.GatedNorm)
			} else {
				c.Cycles += float64(float64(elems) * t.Cost.Gated)
			}
		case bundle.OpConv:
			w := p.Tensors[s.Conv.W]
			c.MACs = elems * int64(w.Shape[1]*w.Shape[2])
			weights(s.Conv.W, s.Conv.Bias, s.Conv.Requant.Mult, s.Conv.Requant.Table)
			mac := t.Cost.MAC
			if p.Values[s.In[0]].DType == bundle.I16 {
				mac = t.Cost.MAC16
			}
			c.Cycles += float64(float64(c.MACs)*mac) + float64(float64(elems)*t.Cost.Element)
		case bundle.OpPool:
			in := p.Values[s.In[0]]
			c.Cycles += float64(float64(active(in.Rows)*int64(in.Cols)) * t.Cost.Element / 8)
		case bundle.OpTranspose, bundle.OpGather: // moves
			c.Cycles += float64(float64(elems) * t.Cost.Lookup)
		case bundle.OpSoftmax: // an element at a time
			weights(s.Softmax.Exp)
			c.Cycles += float64(float64(8*elems) * t.Cost.Element)
		case bundle.OpConstant: // read where it lies
			weights(s.Constant.Data)
		case bundle.OpSide: // a number at a time
			weights(s.Side.Zero, s.Side.Mult)
			c.Cycles += float64(float64(4*elems) * t.Cost.Element)
		case bundle.OpFlatten, bundle.OpRegroup:
		default:
			c.Cycles += float64(float64(elems) * t.Cost.Element)
		}
		c.Microseconds = c.Cycles / (t.GHz * 1e3)
		costs[i] = c
	}
	return costs
}
