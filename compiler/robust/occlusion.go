package robust

import (
	"slices"

	"nepcoc/compiler/calibrate"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/explain"
)

// explainer is what nepcoc explain asks, of a bundle with a contract.
func (m *meter) explainer() error {
	if m.b.Manifest.Contract.YAML == "" {
		return nil
	}
	opt, err := classify.FlowOptions(m.b)
	if err != nil {
		return err
	}
	m.explain, err = explain.New(m.b, opt.Encoder)
	return err
}

// weigher says how much each position of an input counts for the verdict of the first output that gives one: as nepcoc explain does
// or, where that can't tell, by occlusion.
func (m *meter) weigher(r *runner, v *values) (func(in *calibrate.Input, open []int) ([]float64, error), error) {
	if m.explain == nil {
		return newOcclusion(r, v).weights, nil
	}
	x, out, o := m.explain.NewRunner(), m.explain.Engine().NewOutput(), m.outputs[0]
	head := &r.cls.Heads[o]
	return func(in *calibrate.Input, _ []int) ([]float64, error) {
		if err := x.Run(in.Tokens, in.Valid, out); err != nil {
			return nil, err
		}
		logits := slices.Clone(out[o])
		what, _ := head.Explained(logits)
		return x.Exact(o, what, logits)
	}, nil
}

// occlusion weighs tokens by what another value in their place takes off the margin.
type occlusion struct {
	r      *runner
	v      *values
	output int
	kind   bundle.OutputKind
	tokens []int32
	w      []float64
}

func newOcclusion(r *runner, v *values) *occlusion {
	o := r.m.outputs[0]
	return &occlusion{r, v, o, r.cls.Heads[o].Kind, nil, make([]float64, r.m.b.Program.Length)}
}

// weights runs the model once per position that is open.
func (o *occlusion) weights(in *calibrate.Input, open []int) ([]float64, error) {
	if _, err := o.r.cls.Run(in.Tokens, in.Valid); err != nil {
		return nil, err
	}
	logits := slices.Clone(o.r.cls.Logits()[o.output])
	top := calibrate.ArgMax(logits)
	verdict, _ := o.r.cls.Heads[o.output].Explained(logits)
	margin := func(q []int32) (m int64) {
		if o.kind != bundle.KindClasses { // how sure it is of its strongest label
			return verdict.Margin(q)
		}
		m = 1 << 62
		for k, x := range q {
			if k != top {
				m = min(m, int64(q[top])-int64(x))
			}
		}
		return m
	}
	base := margin(logits)
	clear(o.w)
	for _, p := range open {
		o.tokens = append(o.tokens[:0], in.Tokens...)
		o.tokens[p] = o.v.blank(in.Tokens[p])
		if _, err := o.r.cls.Run(o.tokens, in.Valid); err != nil {
			return nil, err
		}
		o.w[p] = float64(base - margin(o.r.cls.Logits()[o.output]))
	}
	return o.w, nil
}
