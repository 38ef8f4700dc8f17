package quantize

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"nepcoc/ir"
	"nepcoc/passes"
	"nepcoc/passes/internal/edit"
)

// Pass quantizes with the calibration method that measures best and, where
// 8 bits cost more verdicts than the user allows, keeps the values that matter most in 16.
var Pass = passes.Pass{
	Name: "quantize",
	Doc:  "Replaces float operators by integer ones, with ranges from calibration and accumulators proved from the weights.",
	Requires: []passes.Order{
		{Pass: "localize", Why: "tokens must be looked up in a table: an integer program has no other input"},
		{Pass: "fuse", Why: "activations are folded into the requantisation of the layer before them"},
	},
	Run: run,
}

func run(ctx *passes.Context, g *ir.Graph) (*ir.Graph, error) {
	expand(g, ctx.Report.Note)
	obs, err := observe(ctx, g)
	if err != nil {
		return nil, err
	}
	s := &search{ctx: ctx, g: g, obs: obs}
	return s.run()
}

func observe(ctx *passes.Context, g *ir.Graph) (*Observations, error) {
	if ctx.Calibrate == nil {
		return nil, errors.New("needs calibration data: ranges of activations can't be known from weights")
	}
	obs := &Observations{
		Values: make(map[*ir.Value][]*ir.Tensor),
		Length: ctx.Report.Local.Length, Right: ctx.Report.Local.Right,
	}
	err := ctx.Calibrate(g, func(v *ir.Value, t *ir.Tensor) {
		if v.Name == "valid" && len(v.Type.Shape) == 0 {
			obs.Valid = append(obs.Valid, int(t.Data.([]int64)[0]))
			return
		}
		if t.DType == ir.F32 {
			obs.Values[v] = append(obs.Values[v], t)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("calibration: %w", err)
	}
	n := 0
	var problems ir.Problems
	for _, node := range g.Nodes {
		ts := obs.Values[node.Out()]
		n = max(n, len(ts))
		if len(problems) == 0 && slices.ContainsFunc(ts, func(t *ir.Tensor) bool { return !finite(t.Data.([]float32)) }) {
			problems = append(problems, ir.ProblemOf(node, "computes NaN or infinity for a calibration input", "look for weights that are not finite, or a division by zero"))
		}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	if n == 0 {
		return nil, errors.New("calibration data are empty: at least one input is needed")
	}
	for len(obs.Valid) < n { // not masked: every position counts
		obs.Valid = append(obs.Valid, obs.Length)
	}
	return obs, nil
}

// search looks for the cheapest plan that is good enough.
type search struct {
	ctx  *passes.Context
	g    *ir.Graph
	obs  *Observations
	best *ir.Graph
	fid  passes.Fidelity
	opts Options
}

func (s *search) run() (*ir.Graph, error) {
	names := Methods()
	if m := s.ctx.Options.Method; m != "" {
		names = []string{m}
	}
	for _, m := range names {
		if _, err := s.try(Options{Method: m, TableStep: s.ctx.Options.TableStep}); err != nil {
			return nil, err
		}
	}
	if err := s.widen(); err != nil {
		return nil, err
	}
	r := &s.ctx.Report.Quantize
	r.Method, r.Fidelity, r.Wide = s.opts.Method, s.fid, sortedKeys(s.opts.Wide)
	return s.best, nil
}

// try quantizes with opts, measures, and keeps the result where it is the best
// so far.
func (s *search) try(opts Options) (passes.Fidelity, error) {
	g, err := Run(s.g, s.obs, opts)
	if err != nil {
		return passes.Fidelity{}, err
	}
	var fid passes.Fidelity
	if s.ctx.Measure != nil {
		if fid, err = s.ctx.Measure(g); err != nil {
			return fid, err
		}
	}
	s.ctx.Report.Quantize.Tried = append(s.ctx.Report.Quantize.Tried,
		passes.Tried{Method: opts.Method, Wide: len(opts.Wide), Fidelity: fid})
	if s.best == nil || fid.RelError < s.fid.RelError {
		s.best, s.fid, s.opts = g, fid, opts
	}
	return fid, nil
}

// enough says that a measured plan needs no wider values.
func (s *search) enough(f passes.Fidelity) bool {
	return 1-f.Agreement <= s.ctx.Options.MaxDisagreement && f.RelError <= s.ctx.Options.MaxRelError
}

// widen gives 16 bits to the values that gain most by it, one after the other in the
// order of their gain when widened alone, until the plan is good enough.
func (s *search) widen() error {
	if s.ctx.Measure == nil || s.enough(s.fid) {
		return nil
	}
	type gain struct {
		name string
		err  float64
	}
	base := s.opts
	var gains []gain
	for _, v := range s.candidates() {
		opts := base
		opts.Wide = map[string]bool{v: true}
		f, err := s.try(opts)
		if err != nil {
			continue // 16 bits don't fit the sums that read it: not a candidate
		}
		gains = append(gains, gain{v, f.RelError})
	}
	slices.SortStableFunc(gains, func(a, b gain) int { return cmp.Compare(a.err, b.err) })
	wide := make(map[string]bool)
	for _, g := range gains {
		wide[g.name] = true
		opts := base
		opts.Wide = make(map[string]bool)
		for k := range wide {
			opts.Wide[k] = true
		}
		f, err := s.try(opts)
		if err != nil {
			delete(wide, g.name)
			continue
		}
		if s.enough(f) {
			break
		}
	}
	return nil
}

// candidates are the values that 16 bits could help.
func (s *search) candidates() []string {
	q := &quantizer{src: s.g, uses: s.g.Consumers(), endings: edit.Endings(s.g), opts: Options{WideAll: true}}
	var names []string
	for _, n := range s.g.Nodes {
		switch n.Op {
		case "embed", "conv", "linear", "affine", "act", "add", "sub", "mul", "layer_norm", "pool":
			if v := n.Out(); q.wide(v) && !q.isLogits(v) && !q.lastHidden(v) {
				names = append(names, v.Name)
			}
		}
	}
	return names
}

func sortedKeys(m map[string]bool) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
