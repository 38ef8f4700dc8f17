package verify

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"nepcoc/compiler/calibrate"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/explain"
)

// Explained says how faithful explanations of an output's verdicts are: what blanking all that they name (bytes, facts, numbers beside
// the tokens) takes off the margin, against as many drawn at random of all that they could name.
type Explained struct {
	Output string `json:"output"`
	// Maxima tells that explanations go by the winners of maxima; else flows were blanked part by part.
	Maxima bool `json:"maxima"`
	Flows  int  `json:"flows"`
	// Nameable is how many tokens, and numbers beside them, could be named: the median over flows.
	Nameable float64 `json:"nameable"`
	// Numbers says what numbers beside the tokens carry; nil where the model reads none.
	Numbers *Numbers `json:"numbers,omitempty"`
	// Exact are explanations of nepcoc explain, Quick those that stand in verdicts' lines.
	Exact Faithful `json:"exact"`
	Quick Faithful `json:"quick"`
}

// Numbers are medians over flows: of the numbers beside the tokens that are not 0, and of what blanking all of them takes off the margin.
type Numbers struct {
	Count float64 `json:"count"`
	Drop  float64 `json:"drop"`
}

// Faithful are medians over flows. Drops are in the model's units of logits.
type Faithful struct {
	Tokens float64 `json:"tokens"` // that are named, and numbers beside them
	// WithNumbers is in how many flows a number beside the tokens is named.
	WithNumbers int     `json:"with_numbers,omitempty"`
	Named       float64 `json:"named_drop"`
	Random      float64 `json:"random_drop"` // mean of randomDraws draws
	// Ratio is Named by Random; 0 where one of both is not above 0: then there is nothing to divide.
	Ratio float64 `json:"ratio"`
	// Better is in how many flows what is named takes more off than as many at random.
	Better int `json:"better"`
}

// OK tells that what is named counts for at least ratio times as much as what is drawn at random.
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
	few := false
	numbers := v.b.Program.Length // the first id that is a number beside the tokens
	for o := range v.b.Program.Outputs {
		e := Explained{Output: v.b.Program.Outputs[o].Name, Maxima: x.Pools()}
		var exact, quick, beside drops
		var nameable []float64
		for i := range v.set.Inputs {
			v.progress("explanations", i, len(v.set.Inputs))
			in := &v.set.Inputs[i]
			if err := r.Run(in.Tokens, in.Valid, out); err != nil {
				return err
			}
			logits := slices.Clone(out[o])
			what, ok := heads[o].Explained(logits)
			all := r.Nameable()
			if !ok || len(all) == 0 {
				continue
			}
			e.Flows++
			nameable = append(nameable, float64(len(all)))
			if v.b.Program.Sides > 0 {
				first, _ := slices.BinarySearch(all, numbers)
				drop, err := r.Blanking(o, what, logits, all[first:])
				if err != nil {
					return err
				}
				beside.add(all[first:], numbers, drop, 0)
			}
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
				drop, err := r.Blanking(o, what, logits, named)
				if err != nil {
					return err
				}
				random := 0.0
				for range randomDraws {
					rng.Shuffle(len(all), func(a, b int) { all[a], all[b] = all[b], all[a] })
					d, err := r.Blanking(o, what, logits, all[:len(named)])
					if err != nil {
						return err
					}
					random += float64(d / randomDraws)
				}
				m.to.add(named, numbers, drop, random)
			}
		}
		name := "explanations" + v.of(e.Output)
		switch {
		case e.Flows == 0:
			v.missing(name, "no flow has a verdict with anything that could be blanked")
			continue
		case e.Flows < calibrate.LeastFlows:
			v.check(Check{Name: name, Cases: e.Flows, Unit: "flows", Detail: fmt.Sprintf("too few to tell: give %d at least", calibrate.LeastFlows)})
			few = true
			continue
		}
		scale := v.b.Program.Outputs[o].Scale
		e.Nameable, e.Exact, e.Quick = median(nameable), exact.faithful(scale), quick.faithful(scale)
		if v.b.Program.Sides > 0 {
			e.Numbers = &Numbers{Count: median(beside.tokens), Drop: median(beside.named) * scale}
		}
		v.report.Explained = append(v.report.Explained, e)
		c := Check{Name: name, Cases: e.Flows, Held: e.Exact.Better, Unit: "flows", OK: e.Exact.OK(v.MinFaithful)}
		if !c.OK {
			c.Detail = fmt.Sprintf("what is named takes %.3g off the margin, as much at random %.3g: less than %g times as much", e.Exact.Named, e.Exact.Random, v.MinFaithful)
			if e.Exact.Named <= 0 {
				c.Detail = fmt.Sprintf("what is named takes %.3g off the margin: it does not carry the verdicts", e.Exact.Named)
			}
		}
		v.check(c)
	}
	if len(v.report.Explained) == 0 && !few {
		v.nothing("explanations", "no flow has a verdict with anything that could be blanked")
	}
	return nil
}

// drops are what was measured, by flow.
type drops struct {
	tokens, named, random []float64
	better, numbers       int
}

// add is for a flow: what is named, of which ids from numbers on stand beside the tokens, what that takes off and what as much at random does.
func (d *drops) add(what []int, numbers int, named, random float64) {
	d.tokens, d.named, d.random = append(d.tokens, float64(len(what))), append(d.named, named), append(d.random, random)
	if slices.ContainsFunc(what, func(i int) bool { return i >= numbers }) {
		d.numbers++
	}
	if named > random {
		d.better++
	}
}

func (d *drops) faithful(scale float64) Faithful {
	f := Faithful{Tokens: median(d.tokens), Named: median(d.named) * scale, Random: median(d.random) * scale, Better: d.better, WithNumbers: d.numbers}
	if f.Named > 0 && f.Random > 0 {
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
