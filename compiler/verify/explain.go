package verify

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"nepcoc/runtime/classify"
	"nepcoc/runtime/explain"
)

// Explained says how faithful explanations of an output's verdicts are: what blanking the bytes that they name takes off the margin,
// against as many bytes drawn at random.
type Explained struct {
	Output string `json:"output"`
	// Maxima tells that explanations go by the winners of maxima; else flows were blanked part by part.
	Maxima bool `json:"maxima"`
	Flows  int  `json:"flows"`
	// Exact are explanations of nepcoc explain, Quick those that stand in verdicts' lines.
	Exact Faithful `json:"exact"`
	Quick Faithful `json:"quick"`
}

// Faithful are medians over flows. Drops are in the model's units of logits.
type Faithful struct {
	Tokens float64 `json:"tokens"` // that are named
	Named  float64 `json:"named_drop"`
	Random float64 `json:"random_drop"` // mean of randomDraws draws
	// Ratio is Named by Random; 0 where random bytes take nothing off.
	Ratio float64 `json:"ratio"`
	// Better is in how many flows the named bytes take more off than random ones.
	Better int `json:"better"`
}

// OK tells that named bytes count for at least ratio times as much as random ones.
func (f *Faithful) OK(ratio float64) bool { return f.Named > 0 && f.Named >= ratio*f.Random }

const randomDraws = 8

// DefaultFaithful is the least ratio that is asked for.
const DefaultFaithful = 5

// explained measures explanations on the capture's flows.
func (v *verifier) explained() error {
	opt, err := classify.FlowOptions(v.b)
	if err != nil {
		return err
	}
	x, err := explain.New(v.b, opt.Encoder)
	if err != nil {
		return err
	}
	r, out, rng, heads := x.NewRunner(), x.Engine().NewOutput(), rand.New(rand.NewPCG(13, 1)), classify.Heads(v.b)
	for o := range v.b.Program.Outputs {
		e := Explained{Output: v.b.Program.Outputs[o].Name, Maxima: x.Pools()}
		var exact, quick drops
		for i := range v.set.Inputs {
			v.progress("explanations", i, len(v.set.Inputs))
			in := &v.set.Inputs[i]
			if err := r.Run(in.Tokens, in.Valid, out); err != nil {
				return err
			}
			logits := slices.Clone(out[o])
			what, ok := heads[o].Explained(logits)
			bytes := r.Bytes()
			if !ok || len(bytes) == 0 {
				continue
			}
			e.Flows++
			for _, m := range []struct {
				to        *drops
				weigh     func(int, explain.Verdict, []int32) ([]float64, error)
				threshold float64
			}{{&quick, r.Quick, explain.QuickThreshold}, {&exact, r.Exact, explain.Threshold}} {
				weights, err := m.weigh(o, what, logits)
				if err != nil {
					return err
				}
				named := explain.Named(weights, m.threshold)
				named = slices.DeleteFunc(named, func(t int) bool { return !slices.Contains(bytes, t) })
				drop, err := r.Blanking(o, what, logits, named)
				if err != nil {
					return err
				}
				random := 0.0
				for range randomDraws {
					rng.Shuffle(len(bytes), func(a, b int) { bytes[a], bytes[b] = bytes[b], bytes[a] })
					d, err := r.Blanking(o, what, logits, bytes[:len(named)])
					if err != nil {
						return err
					}
					random += float64(d / randomDraws)
				}
				m.to.add(len(named), drop, random)
			}
		}
		if e.Flows == 0 {
			v.missing("explanations"+v.of(e.Output), "no flow has a verdict with bytes")
			continue
		}
		scale := v.b.Program.Outputs[o].Scale
		e.Exact, e.Quick = exact.faithful(scale), quick.faithful(scale)
		v.report.Explained = append(v.report.Explained, e)
		c := Check{Name: "explanations" + v.of(e.Output), Cases: e.Flows, Held: e.Exact.Better, Unit: "flows", OK: e.Exact.OK(v.MinFaithful)}
		if !c.OK {
			c.Detail = fmt.Sprintf("the bytes named take %.3g off the margin, random ones %.3g: less than %g times as much", e.Exact.Named, e.Exact.Random, v.MinFaithful)
		}
		v.check(c)
	}
	if len(v.report.Explained) == 0 {
		v.nothing("explanations", "no flow has a verdict with bytes that could be blanked")
	}
	return nil
}

// drops are what was measured, by flow.
type drops struct {
	tokens, named, random []float64
	better                int
}

func (d *drops) add(tokens int, named, random float64) {
	d.tokens, d.named, d.random = append(d.tokens, float64(tokens)), append(d.named, named), append(d.random, random)
	if named > random {
		d.better++
	}
}

func (d *drops) faithful(scale float64) Faithful {
	f := Faithful{Tokens: median(d.tokens), Named: median(d.named) * scale, Random: median(d.random) * scale, Better: d.better}
	if f.Random > 0 {
		f.Ratio = f.Named / f.Random
	}
	return f
}

func median(x []float64) float64 {
	slices.Sort(x)
	n := len(x)
	return (x[(n-1)/2] + x[n/2]) / 2
}

// errExplain is for options that don't go together.
var errExplain = errors.New("explanations are measured on the flows of a capture: give one")
