package explain

import "nepcoc/runtime/bundle"

// reach says which tokens row t of a value depends on: [t*step+lo, t*step+hi].
type reach struct {
	step, lo, hi int
	// paths are the ways in which each of them gets there, as shares of all: in a region of convolutions the tokens in the middle of a
	// receptive field count for most.
	paths []float64
}

// anyToken is far enough for any flow.
const anyToken = 1 << 30

// nothing depends on no token, everything on any.
var (
	nothing    = reach{lo: 1}
	everything = reach{lo: -anyToken, hi: anyToken}
)

func (r reach) empty() bool { return r.lo > r.hi }

// tokens are those of a flow of valid ones that row t depends on: [from,to).
func (r reach) tokens(t, valid int) (from, to int) {
	return max(0, t*r.step+r.lo), min(valid, t*r.step+r.hi+1)
}

// spread adds w to the weights of the tokens that row t depends on, in shares.
func (r reach) spread(weights []float64, t int, w float64) {
	from, to := r.tokens(t, len(weights))
	if r.paths == nil {
		for i := from; i < to; i++ {
			weights[i] += w / float64(to-from)
		}
		return
	}
	paths, sum := r.paths[from-t*r.step-r.lo:][:to-from], 0.0
	for _, x := range paths {
		sum += x
	}
	w /= sum
	for i, x := range paths {
		weights[from+i] += float64(x * w)
	}
}

// join is a row that depends on what rows of both depend on.
func join(a, b reach) reach {
	switch {
	case a.empty():
		return b
	case b.empty():
		return a
	case a.step != b.step:
		return everything
	}
	out := reach{step: a.step, lo: min(a.lo, b.lo), hi: max(a.hi, b.hi)}
	if a.paths != nil && b.paths != nil {
		out.paths = make([]float64, out.hi-out.lo+1)
		for _, r := range []reach{a, b} {
			for i, x := range r.paths {
				out.paths[r.lo-out.lo+i] += float64(x / 2)
			}
		}
	}
	return out
}

// window is what row t depends on where it depends on taps rows of a value, from row t*stride-left on, each dilation rows behind the one
// before.
func (r reach) window(stride, left, taps, dilation int) reach {
	if r.empty() || r.hi == anyToken {
		return r
	}
	out := reach{step: r.step * stride, lo: r.lo - r.step*left, hi: r.hi + r.step*((taps-1)*dilation-left)}
	if r.paths != nil {
		out.paths = make([]float64, out.hi-out.lo+1)
		for k := range taps {
			for i, x := range r.paths {
				out.paths[k*dilation*r.step+i] += x / float64(taps)
			}
		}
	}
	return out
}

// reaches are those of all values of a program, as far as they go by positions.
func reaches(p *bundle.Program) []reach {
	all := make([]reach, len(p.Values))
	for i := range p.Steps {
		s := &p.Steps[i]
		out := nothing
		for k, v := range s.In {
			in := all[v]
			switch {
			case in.empty():
				continue
			case s.Op == bundle.OpGatedConv && k == 0:
				in = in.window(1, s.GatedConv.PadLeft, s.GatedConv.K, 1)
			case s.Op == bundle.OpConv:
				in = in.window(s.Conv.Stride, s.Conv.PadLeft, s.Conv.K, s.Conv.Dilation)
			case s.Op == bundle.OpWindowPool:
				in = in.window(s.WindowPool.Stride, s.WindowPool.PadLeft, s.WindowPool.K, 1)
			case s.Op == bundle.OpSlice && s.Slice.Axis == 0:
				in = in.window(s.Slice.Step, -s.Slice.Start, 1, 1)
			case s.Op == bundle.OpSlice, s.Op == bundle.OpGatedConv, s.Op == bundle.OpLut, s.Op == bundle.OpLayerNorm, s.Op == bundle.OpSoftmax,
				s.Op == bundle.OpConcat && s.Concat.Axis == 1,
				(s.Op == bundle.OpAdd || s.Op == bundle.OpMul) && p.Values[v].Rows == p.Values[s.Out].Rows:
			default:
				in = everything
			}
			out = join(out, in)
		}
		if s.Op == bundle.OpTokenTable {
			out = reach{step: 1, paths: []float64{1}}
		}
		all[s.Out] = out
	}
	return all
}
