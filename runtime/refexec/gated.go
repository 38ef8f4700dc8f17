package refexec

import (
	"slices"

	"nepcoc/runtime/arith"
	"nepcoc/runtime/bundle"
)

func gatedConv(p program, s *bundle.Step) step {
	k, o := s.GatedConv, p.out(s)
	h := branch{p.ints(k.ChanH), p.ints(k.TapsH), p.ints(k.BiasH)}
	g := branch{p.ints(k.ChanG), p.ints(k.TapsG), p.ints(k.BiasG)}
	pad := p.ints(k.PadIn)
	base, slope := (*[32]uint8)(p.Tensors[k.Base].Data), (*[32]uint8)(p.Tensors[k.Slope].Data)
	norm := normalizer(p, s)
	return func(r *state, out []int32) {
		// The input between the rows of padding that windows read.
		x := slices.Concat(slices.Repeat(pad, k.PadLeft), r.vals[s.In[0]], slices.Repeat(pad, k.K-1-k.PadLeft))
		h8, s7 := make([]int8, o.Cols), make([]uint8, o.Cols)
		for t := range o.Rows {
			for c := range o.Cols {
				h8[c] = arith.GateHidden(h.acc(x[t*len(pad):], len(pad), c, k.K))
				s7[c] = arith.Gate(base, slope, arith.GateInput(g.acc(x[t*len(pad):], len(pad), c, k.K)))
			}
			row := out[t*o.Cols : (t+1)*o.Cols]
			if norm != nil {
				norm(r, t, h8, s7, row)
				continue
			}
			for c := range row {
				row[c] = int32(arith.GateShift(h8[c], s7[c], k.Shift))
			}
		}
	}
}

// branch is one of the two convolutions of a gated layer.
type branch struct{ channel, taps, bias []int32 }

// acc is the accumulator of output channel c whose window of k positions begins where x does, which has cols columns.
func (b *branch) acc(x []int32, cols, c, k int) int32 {
	acc, at := b.bias[c], int(b.channel[c])
	for _, w := range b.taps[c*k:][:k] {
		acc += w * x[at]
		at += cols
	}
	return acc
}

// normalizer adds the residual to the gated values of position t and applies
// LayerNorm to them; nil where the step has none.
func normalizer(p program, s *bundle.Step) func(r *state, t int, h8 []int8, s7 []uint8, out []int32) {
	k, o := s.GatedConv.Norm, p.out(s)
	if k == nil {
		return nil
	}
	rho, cst, flip := p.ints(k.Rho), p.ints(k.Cst), p.ints(k.Flip)
	params := arith.NormParams{C: int32(o.Cols), MeanM: k.MeanM, Eps: k.Eps, A: k.A, S: k.S}
	return func(r *state, t int, h8 []int8, s7 []uint8, out []int32) {
		y := make([]int16, o.Cols)
		var residual []int32
		if len(s.In) == 2 {
			residual = r.vals[s.In[1]][t*o.Cols:][:o.Cols]
		}
		var s1, s2 int32
		for c := range y {
			var res int8
			if residual != nil {
				res = int8(residual[c])
			}
			y[c] = arith.GateResidual(h8[c], s7[c], res, int8(rho[c]), int16(cst[c]))
			high := int32(y[c] >> 8)
			s1 += high
			s2 += high * high
		}
		scale, shift := arith.NormFactors(s1, s2, &params)
		for c := range y {
			v := arith.NormApply(y[c], scale, shift)
			if o.DType == bundle.I16 {
				out[c] = arith.Flip(int32(v), uint8(flip[c]))
			} else {
				out[c] = arith.Flip(int32(arith.NormNarrow(v, k.Shift)), uint8(flip[c]))
			}
		}
	}
}
