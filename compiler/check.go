package compiler

import (
	"context"
	"errors"
	"math/rand/v2"

	"nepcoc/compiler/calibrate"
	"nepcoc/compiler/onnx"
	"nepcoc/ir"
	"nepcoc/passes"
	"nepcoc/passes/quantize"
	"nepcoc/runtime/bundle"
)

// checkInputs is the number of random inputs that stand in for calibration
// data when a model is only checked.
const checkInputs = 4

// Check compiles a model with random inputs instead of calibration data, as
// far as a bundle that was encoded. A model that passes compiles;
// the error of one that doesn't holds everything that stands against it (see Problems). Of the
// options, those about calibration data and plans count for nothing.
func Check(ctx context.Context, o Options) (*Result, error) {
	o.Calib, o.CalibMore, o.CalibLabels, o.Method, o.MaxDisagreement = "", nil, "", quantize.Methods()[0], 1
	c := &compilation{ctx: ctx, Options: o, checking: true}
	if err := c.run(); err != nil {
		if o.Contract == nil && !o.Features && c.numbers {
			// No model of bytes, but perhaps one of features: without data nothing else tells.
			o.Features = true
			if res, ferr := Check(ctx, o); ferr == nil {
				res.Inputs[0].Means += "; as bytes the model doesn't compile, and bytes or features can't be told without data (--features)"
				return res, nil
			}
		}
		return nil, err
	}
	if _, err := bundle.Encode(c.res.Bundle, bundle.Options{}); err != nil {
		return nil, inFile(o.Model, err)
	}
	c.res.Bundle = nil // of random ranges, not to be used
	return &c.res, nil
}

// random makes inputs out of nothing but the model's input shape.
func random(l passes.Local) *calibrate.Set {
	rng := rand.New(rand.NewPCG(3, 5))
	s := &calibrate.Set{Name: "random tokens"}
	for range checkInputs {
		in := calibrate.Input{Tokens: make([]int32, l.Length), Valid: l.Length}
		for i := range in.Tokens {
			in.Tokens[i] = int32(rng.IntN(l.Vocab))
		}
		for range l.SideCount() {
			in.Tokens = append(in.Tokens, int32(rng.IntN(bundle.SideIDs)))
		}
		s.Inputs = append(s.Inputs, in)
	}
	return s
}

// Problems lists what an error of Compile, Check or Front says against a model;
// nil for errors that are not about what the model is made of.
func Problems(err error) []onnx.Problem {
	var refusal *onnx.Refusal
	if errors.As(err, &refusal) {
		return refusal.Problems
	}
	return nil
}

// source remembers the imported operators by the names of their nodes: passes
// change the graph, the user knows the operators.
type source struct {
	model string
	opset int
	nodes map[string]onnx.Problem // Op and Shapes only
}

func sourceOf(model string, info *onnx.Info, g *ir.Graph) *source {
	s := &source{model: model, opset: info.Opset, nodes: make(map[string]onnx.Problem)}
	for _, n := range g.Nodes {
		if _, twice := s.nodes[n.Origin]; twice {
			continue // the importer's helpers carry the name of the operator that they belong to
		}
		p := onnx.Problem{Op: n.Op}
		for _, v := range n.Inputs {
			if v != nil {
				p.Shapes = append(p.Shapes, v.Type.String())
			}
		}
		s.nodes[n.Origin] = p
	}
	return s
}

// refused puts the model's name in front of an error of a pass. Where a pass says
// what it can't take, it becomes the same error that the importer gives, so that a
// user reads one form whoever found it.
func (s *source) refused(err error) error {
	if problems := s.problems(err); problems != nil {
		return &onnx.Refusal{File: s.model, Problems: problems}
	}
	return inFile(s.model, err)
}

func (s *source) problems(err error) []onnx.Problem {
	var out []onnx.Problem
	for _, p := range problemsOf(err) {
		out = append(out, s.problem(p))
	}
	return out
}

// problemsOf are the problems that a pass's error lists.
func problemsOf(err error) ir.Problems {
	var ps ir.Problems
	errors.As(err, &ps)
	return ps
}

// problem is a pass's problem with the operator that the user knows.
func (s *source) problem(p ir.Problem) onnx.Problem {
	q := onnx.Problem{Kind: onnx.Unsupported, File: s.model, Node: p.Node, Op: p.Op, Opset: s.opset, Reason: p.Reason, WayOut: p.Way}
	if p.Kind != "" {
		q.Kind = onnx.Kind(p.Kind)
	}
	if q.WayOut == "" {
		q.WayOut = "rewrite this part of the model; docs/SUPPORTED_OPS.md lists what is taken"
	}
	if n, ok := s.nodes[p.Node]; ok {
		q.Op, q.Shapes = n.Op, n.Shapes
	} else {
		for _, t := range p.Types {
			q.Shapes = append(q.Shapes, t.String())
		}
	}
	return q
}

// importFile imports a model.
func importFile(model string, o onnx.Options) (*ir.Graph, *onnx.Info, *source, error) {
	g, info, err := onnx.ImportFile(model, o)
	if err != nil {
		return nil, nil, nil, err
	}
	return g, info, sourceOf(model, info, g), nil
}
