package refexec

import (
	"nepcoc/runtime/arith"
	"nepcoc/runtime/bundle"
)

func pool(p program, s *bundle.Step) step {
	k, in, o := s.Pool, p.in(s, 0), p.out(s)
	return func(r *state, out []int32) {
		x, rows := r.vals[s.In[0]], in.Rows
		if k.Over == "prefix" {
			rows = r.valid
		}
		for c := range out {
			if k.Kind == "select" {
				out[c] = x[k.At*in.Cols+c]
				continue
			}
			sum, top := int64(0), x[c]
			for t := range rows {
				v := x[t*in.Cols+c]
				sum += int64(v)
				top = max(top, v)
			}
			switch k.Kind {
			case "max":
				out[c] = top
			case "mean":
				out[c] = int32(arith.DivRound(sum, int64(rows)))
			case "sum":
				out[c] = saturate(arith.Requant(sum, k.Mult, k.Shift), o.DType)
			}
		}
	}
}

func windowPool(p program, s *bundle.Step) step {
	k, in, o := s.WindowPool, p.in(s, 0), p.out(s)
	return func(r *state, out []int32) {
		x := r.vals[s.In[0]]
		for i := range out {
			t, c := i/o.Cols, i%o.Cols
			start := t*k.Stride - k.PadLeft
			lo, hi := max(start, 0), min(start+k.K, in.Rows)
			sum, top, count := int64(0), x[lo*in.Cols+c], int64(hi-lo)
			for pos := lo; pos < hi; pos++ {
				v := x[pos*in.Cols+c]
				sum += int64(v)
				top = max(top, v)
			}
			if k.CountPad {
				count = int64(k.K)
			}
			if k.Kind == "max" {
				out[i] = top
			} else {
				out[i] = int32(arith.DivRound(sum, count))
			}
		}
	}
}
