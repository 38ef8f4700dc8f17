package robust

import (
	"slices"

	"nepcoc/compiler/calibrate"
	"nepcoc/runtime/bundle"
)

// occlusion weighs tokens by what blanking each takes off the margin of the first output that gives verdicts.
type occlusion struct {
	r      *runner
	v      *values
	output int
	binary bool
	tokens []int32
	w      []float64
}

func newOcclusion(r *runner, v *values) *occlusion {
	n, o := r.m.b.Program.Length, r.m.outputs[0]
	return &occlusion{r, v, o, r.heads[o].Kind != bundle.KindClasses, make([]int32, n), make([]float64, n)}
}

// weights runs the model once per position that is open.
func (o *occlusion) weights(in *calibrate.Input, open []int) ([]float64, error) {
	if err := o.r.ctx.Run(in.Tokens, in.Valid, o.r.logits); err != nil {
		return nil, err
	}
	logits := slices.Clone(o.r.logits[o.output])
	top := calibrate.ArgMax(logits)
	margin := func(q []int32) float64 {
		if o.binary { // how sure it is of its side, or of its strongest label
			if len(q) == 1 && logits[0] < 0 {
				return -float64(q[0])
			}
			return float64(q[top])
		}
		m := int64(1) << 62
		for k, x := range q {
			if k != top {
				m = min(m, int64(q[top])-int64(x))
			}
		}
		return float64(m)
	}
	base := margin(logits)
	clear(o.w)
	for _, p := range open {
		copy(o.tokens, in.Tokens)
		o.tokens[p] = o.v.blank(in.Tokens[p])
		if err := o.r.ctx.Run(o.tokens, in.Valid, o.r.logits); err != nil {
			return nil, err
		}
		o.w[p] = base - margin(o.r.logits[o.output])
	}
	return o.w, nil
}
