package quantize

import (
	"errors"
	"fmt"
	"slices"

	"nepcoc/ir"
	"nepcoc/passes"
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
	return find(ctx, g, obs)
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
	obs.Given = make(map[*ir.Value][2]float64)
	for v := range obs.Values {
		if r, ok := ctx.Report.Ranges[v.Name]; ok {
			obs.Given[v] = r
		}
	}
	for len(obs.Valid) < n { // not masked: every position counts
		obs.Valid = append(obs.Valid, obs.Length)
	}
	return obs, nil
}
