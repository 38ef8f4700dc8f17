package compiler

import (
	"math"

	"nepcoc/backends/program"
	"nepcoc/compiler/calibrate"
	"nepcoc/ir"
	"nepcoc/passes"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/engine"
)

// meter compares integer programs with the float model on fixed inputs.
type meter struct {
	inputs []calibrate.Input
	float  [][][]float32 // [output][input]
	// outputs say what verdicts are made of them.
	outputs []bundle.OutputInfo
}

// measure lowers an integer graph and runs it.
func (m *meter) measure(g *ir.Graph, info program.Info) (passes.Fidelity, error) {
	p, err := program.Lower(g, info)
	if err != nil {
		return passes.Fidelity{}, err
	}
	return m.compare(p)
}

func (m *meter) compare(p *bundle.Program) (passes.Fidelity, error) {
	e, err := engine.Bind(p, engine.Options{})
	if err != nil {
		return passes.Fidelity{}, err
	}
	ints, err := calibrate.Integers(e, p, m.inputs)
	if err != nil {
		return passes.Fidelity{}, err
	}
	f := passes.Fidelity{Samples: len(m.inputs), Cosine: 1}
	for o := range p.Outputs {
		c := calibrate.Compare(m.float[o], ints[o], calibrate.NewJudge(p, o, &m.outputs[o]))
		// A model with several outputs is as good as its worst.
		f.Verdicts = max(f.Verdicts, c.Verdicts)
		f.Changed, f.Cosine = max(f.Changed, len(c.Differing)), min(f.Cosine, c.Cosine)
		f.RelError, f.MaxError = math.Max(f.RelError, c.RelError), math.Max(f.MaxError, c.MaxError)
	}
	return f, nil
}
