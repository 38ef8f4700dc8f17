package compiler

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"nepcoc/compiler/calibrate"
	"nepcoc/compiler/onnx"
	"nepcoc/ir"
	"nepcoc/passes"
	"nepcoc/passes/quantize"
)

// checkInputs is the number of random inputs that stand in for calibration
// data when a model is only checked.
const checkInputs = 4

// Check compiles a model with random inputs instead of calibration data, as
// far as the program, and throws the result away. A model that passes compiles;
// the error of one that doesn't holds everything that stands against it (see Problems).
func Check(ctx context.Context, model string) (*Result, error) {
	c := &compilation{ctx: ctx, Options: Options{Model: model, Method: quantize.Methods()[0], MaxDisagreement: 1}, checking: true}
	if err := c.run(); err != nil {
		return nil, err
	}
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
		s.Inputs = append(s.Inputs, in)
	}
	return s
}

// Problems lists what an error of Compile, Check or Front says against a model;
// nil for errors that are not about what the model is made of.
func Problems(model string, err error) []onnx.Problem {
	var refusal *onnx.Refusal
	if errors.As(err, &refusal) {
		return refusal.Problems
	}
	var ps ir.Problems
	if !errors.As(err, &ps) {
		return nil
	}
	var out []onnx.Problem
	for _, p := range ps {
		q := onnx.Problem{Kind: onnx.Unsupported, File: model, Node: p.Node, Op: p.Op, Reason: p.Reason, WayOut: p.Way}
		for _, t := range p.Types {
			q.Shapes = append(q.Shapes, fmt.Sprint(t))
		}
		out = append(out, q)
	}
	return out
}
