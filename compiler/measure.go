package compiler

import (
	"fmt"
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

// check refuses values that nothing can be compared with.
func (m *meter) check(g *ir.Graph) error {
	for o, rows := range m.float {
		for i, row := range rows {
			for k, x := range row {
				if f := float64(x); math.IsNaN(f) || math.IsInf(f, 0) {
					return fmt.Errorf("output %q is %g at element %d for the %d. input that is measured: integers can't follow that\n    way out: look for weights that are not finite, a division by zero or a logarithm of it",
						g.OutputNames[o], x, k, i+1)
				}
			}
		}
	}
	return nil
}

// measure lowers an integer graph and runs it.
func (m *meter) measure(g *ir.Graph, info program.Info) (passes.Fidelity, error) {
	p, err := program.Lower(g, info)
	if err != nil {
		return passes.Fidelity{}, err
	}
	return m.compare(p)
}

// integers are the program's outputs: [output][input].
func (m *meter) integers(p *bundle.Program) ([][][]int32, error) {
	e, err := engine.Bind(p, engine.Options{})
	if err != nil {
		return nil, err
	}
	return calibrate.Integers(e, p, m.inputs)
}

func (m *meter) compare(p *bundle.Program) (passes.Fidelity, error) {
	ints, err := m.integers(p)
	if err != nil {
		return passes.Fidelity{}, err
	}
	f := passes.Fidelity{Samples: len(m.inputs), Cosine: 1}
	for o := range p.Outputs {
		c := calibrate.Compare(m.float[o], ints[o], calibrate.NewJudge(p, o, &m.outputs[o]))
		// A model with several outputs is as good as its worst.
		f.Blind = f.Blind || c.Blind() || m.outputs[o].Kind == bundle.KindValues && !(c.RelError <= 1) && !c.Constant
		f.Changed, f.Cosine = max(f.Changed, len(c.Differing)), min(f.Cosine, c.Cosine)
		f.RelError, f.MaxError = math.Max(f.RelError, c.RelError), math.Max(f.MaxError, c.MaxError)
	}
	return f, nil
}
