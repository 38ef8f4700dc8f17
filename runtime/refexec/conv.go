package refexec

import (
	"nepcoc/runtime/arith"
	"nepcoc/runtime/bundle"
)

func conv(p program, s *bundle.Step) step {
	k, in, o := s.Conv, p.in(s, 0), p.out(s)
	w, bias := p.ints(k.W), p.ints(k.Bias)
	pad := make([]int32, in.Cols)
	if k.Pad >= 0 {
		pad = p.ints(k.Pad)
	}
	requant := requantizer(p, &k.Requant)
	perIn, perOut := in.Cols/k.Groups, o.Cols/k.Groups
	return func(r *state, out []int32) {
		x := r.vals[s.In[0]]
		for t := range o.Rows {
			for c := range o.Cols {
				acc, first := int64(bias[c]), c/perOut*perIn
				for j := range k.K {
					src := pad
					if pos := t*k.Stride - k.PadLeft + j*k.Dilation; pos >= 0 && pos < in.Rows {
						src = x[pos*in.Cols : (pos+1)*in.Cols]
					}
					weights := w[(c*k.K+j)*perIn:][:perIn]
					for i, v := range src[first:][:len(weights)] {
						acc += int64(weights[i]) * int64(v)
					}
				}
				out[t*o.Cols+c] = requant(acc, c)
			}
		}
	}
}

// requantizer is the function from the accumulator of channel c to the output.
func requantizer(p program, k *bundle.Requant) func(acc int64, c int) int32 {
	if k.Mult < 0 {
		return func(acc int64, _ int) int32 { return int32(acc) }
	}
	mult := p.ints(k.Mult)
	if k.Table < 0 {
		return func(acc int64, c int) int32 {
			return arith.Clamp(arith.Requant(acc, mult[c], k.Shift), k.Lo, k.Hi)
		}
	}
	table := p.ints(k.Table)
	return func(acc int64, c int) int32 {
		return table[arith.TableIndex(arith.Requant(acc, mult[c], k.Shift), len(table))]
	}
}
