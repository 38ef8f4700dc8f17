package testbundle

import (
	"fmt"
	"slices"

	"nepcoc/runtime/bundle"
	"nepcoc/runtime/traffic"
)

// Slow is New with so many more steps, over so many rows each, which change nothing but the time that a flow takes.
func Slow(number int, prefix string, steps, rows int) (*bundle.Bundle, error) {
	c, err := traffic.Named("byte")
	if err != nil {
		return nil, err
	}
	program, err := Program(number)
	if err != nil {
		return nil, err
	}
	c.Length = program.Length
	p := *program
	p.Plan = bundle.Plan{}
	p.Steps, p.Values, p.Outputs = append([]bundle.Step(nil), p.Steps...), append([]bundle.Value(nil), p.Values...), append([]bundle.Output(nil), p.Outputs...)
	add := func(s bundle.Step, rows int) {
		last := p.Values[p.Outputs[0].Value]
		s.Name, s.In, s.Out = fmt.Sprint("again", len(p.Steps)), []int{p.Outputs[0].Value}, len(p.Values)
		p.Steps, p.Outputs[0].Value = append(p.Steps, s), s.Out
		p.Values = append(p.Values, bundle.Value{Name: s.Name, DType: last.DType, Rows: rows, Cols: last.Cols})
	}
	if rows > 1 {
		p.Tensors = append(slices.Clip(p.Tensors), bundle.Tensor{Name: "first", DType: bundle.I32, Shape: []int{rows}, Data: make([]byte, 4*rows)})
		add(bundle.Step{Op: bundle.OpGather, Gather: &bundle.Gather{Index: len(p.Tensors) - 1, Pad: -1}}, rows)
	}
	for range steps {
		add(bundle.Step{Op: bundle.OpSlice, Slice: &bundle.Slice{Axis: 1, Step: 1}}, rows)
	}
	if rows > 1 {
		add(bundle.Step{Op: bundle.OpPool, Pool: &bundle.Pool{Kind: "max", Over: "all"}}, 1) // of all rows, which are the same
	}
	return Make(&p, c, prefix)
}
