package testbundle

import (
	"fmt"

	"nepcoc/runtime/bundle"
	"nepcoc/runtime/traffic"
)

// Slow is New with so many more steps, which change nothing but the time that a flow takes.
func Slow(number int, prefix string, steps int) (*bundle.Bundle, error) {
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
	for i := range steps {
		last := &p.Values[p.Outputs[0].Value]
		name := fmt.Sprint("again", i)
		p.Steps = append(p.Steps, bundle.Step{Op: bundle.OpSlice, Name: name, In: []int{p.Outputs[0].Value}, Out: len(p.Values), Slice: &bundle.Slice{Axis: 1, Step: 1}})
		p.Outputs[0].Value = len(p.Values)
		p.Values = append(p.Values, bundle.Value{Name: name, DType: last.DType, Rows: 1, Cols: last.Cols})
	}
	return Make(&p, c, prefix)
}
