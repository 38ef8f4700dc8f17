package verify

import (
	"fmt"
	"math"

	"nepcoc/compiler/calibrate"
	"nepcoc/ir"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/refexec"
)

// floatModel is the graph g that the integer program was made from, and the one that gives the model's own
// outputs: another where the model reads features, of which the program sees levels.
type floatModel struct{ g, own *ir.Graph }

// compare runs all inputs through float (where there is a model) and integer.
func (v *verifier) compare(front *floatModel) error {
	p := v.b.Program
	if err := v.checkNames(); err != nil {
		return err
	}
	ints, err := calibrate.Integers(v.eng, p.Judged(), v.set.Inputs)
	if err != nil {
		return err
	}
	float := make([][][]float32, len(p.Outputs))
	if front != nil {
		n := len(v.set.Inputs)
		float, err = calibrate.Oracle(front.own, v.set.Inputs, func(done int) { v.progress("running the float model", done, n) })
		if err != nil {
			return err
		}
	} else {
		v.missing("float = integer", "no model given")
	}
	if v.report.Evidence.Integer = ints; front != nil {
		v.report.Evidence.Float = float
	}
	for o := range p.Outputs {
		if err := v.output(o, ints[o], float[o]); err != nil {
			return err
		}
	}
	if front == nil {
		return nil
	}
	return v.steps(front)
}

// of names an output in a check, where there are several.
func (v *verifier) of(output string) string {
	if len(v.b.Program.Outputs) == 1 {
		return ""
	}
	return " of " + output
}

// output judges one output by all that there is to judge it by: the float model's values
// (nil without a model), values that another runtime stored, labels.
func (v *verifier) output(o int, ints [][]int32, float [][]float32) error {
	judge := calibrate.NewJudge(v.b.Program, o, &v.b.Manifest.Outputs[o])
	s := OutputStats{Name: judge.Output.Name, Kind: judge.Kind()}
	labels := v.set.LabelsOf(s.Name, o == 0)
	if s.Integer = score(judge, calibrate.Verdicts(ints, judge.Integer), labels); s.Integer == nil && s.Kind != bundle.KindValues {
		reason := "no labels given"
		if labels != nil {
			reason = "no sample has a label"
		}
		v.missing("accuracy"+v.of(s.Name), reason)
	}
	if float != nil {
		for i, f := range float {
			if k := notFinite(f); k >= 0 {
				return fmt.Errorf("%s: output %q is %g for input %d of %s: nothing can be compared with it", v.Model, s.Name, f[k], i, v.set.Name)
			}
		}
		s.Comparison = calibrate.Compare(float, ints, judge)
		v.agree("float = integer"+v.of(s.Name), s.Kind, &s.Comparison)
		s.Float = score(judge, calibrate.Verdicts(float, judge.Float), labels)
	}
	err := v.stored(&s, judge, ints, float)
	v.report.Output = append(v.report.Output, s)
	return err
}

// maxValueError bounds the error of values, which have no verdicts to compare, relative to their spread.
const maxValueError = 0.05

// agree holds equal verdicts to their least share, values to their error.
func (v *verifier) agree(name string, kind bundle.OutputKind, c *calibrate.Comparison) {
	check := Check{Name: name, Cases: c.Samples, Held: c.Samples - len(c.Differing), Unit: "verdicts", OK: c.Agreement >= v.MinAgreement,
		Detail: fmt.Sprintf("%.2f %% (at least %.2f %%)", 100*c.Agreement, 100*v.MinAgreement)}
	if kind == bundle.KindValues {
		check.Unit, check.OK = "samples", c.RelError <= maxValueError
		check.Detail = fmt.Sprintf("values' error %.2f %% of their spread (at most %.0f %%)", 100*c.RelError, 100*maxValueError)
		if !check.OK {
			check.Held = 0
		}
	}
	if c.Samples < calibrate.LeastFlows {
		check.Detail += "; so few tell little"
	}
	v.check(check)
}

// StepError is how far a step's integers are from the float values they stand
// for: the part of the variance that the best line per channel (integers mean
// scale*q + offset) does not explain, as a root. Added is its rise over the worst of the
// step's inputs.
type StepError struct {
	Step     string  `json:"step"`
	Op       string  `json:"op"`
	RelError float64 `json:"rel_error"`
	Added    float64 `json:"added"`
}

// stepInputs bounds the inputs used for step errors: float values of every
// step are kept while one input runs.
const stepInputs = 24

// steps compares every value that has a float counterpart of the same name.
func (v *verifier) steps(front *floatModel) error {
	p := v.b.Program
	index := make(map[string]int)
	for i, val := range p.Values {
		index[val.Name] = i
	}
	fits := make([]*fit, len(p.Values))
	ref, err := refexec.New(p) // without belonging: no float value stands beside its steps
	if err != nil {
		return err
	}
	inputs := v.set.Spread(stepInputs)
	v.report.StepInputs = len(inputs)
	for _, in := range inputs {
		float := make([][]float32, len(p.Values))
		err := calibrate.Observe(front.g, []calibrate.Input{in}, func(val *ir.Value, t *ir.Tensor) {
			if i, ok := index[val.Name]; ok {
				if d, ok := t.Data.([]float32); ok && len(d) == p.Values[i].Rows*p.Values[i].Cols {
					float[i] = d
				}
			}
		})
		if err != nil {
			return err
		}
		ref.Trace = func(i int, data []int32) {
			if float[i] == nil {
				return
			}
			if fits[i] == nil {
				fits[i] = newFit(p.Values[i].Cols)
			}
			rows := p.Values[i].Rows
			if rows == p.Length {
				rows = min(rows, in.Valid+p.Right)
			}
			fits[i].add(float[i], data, rows)
		}
		if _, err := ref.Run(in.Tokens, in.Valid); err != nil {
			return err
		}
	}
	rel := make([]float64, len(p.Values))
	worst := -1.0
	for i := range p.Steps {
		s := &p.Steps[i]
		base := 0.0
		for _, in := range s.In {
			base = math.Max(base, rel[in])
		}
		rel[s.Out] = base // not comparable: passed on
		if fits[s.Out] == nil {
			continue
		}
		rel[s.Out] = fits[s.Out].relError()
		e := StepError{Step: s.Name, Op: s.Op, RelError: rel[s.Out], Added: rel[s.Out] - base}
		v.report.Steps = append(v.report.Steps, e)
		if s.Op != bundle.OpFlatten && e.Added > worst {
			worst, v.report.Worst = e.Added, e.Step
		}
	}
	return nil
}

// fit accumulates a linear regression of float on integer per channel.
type fit struct{ n, x, y, xx, xy, yy []float64 }

func newFit(c int) *fit {
	m := func() []float64 { return make([]float64, c) }
	return &fit{m(), m(), m(), m(), m(), m()}
}

func (f *fit) add(y []float32, x []int32, rows int) {
	c := len(f.n)
	for i := range rows * c {
		k := i % c
		a, b := float64(x[i]), float64(y[i])
		f.n[k]++
		f.x[k] += a
		f.y[k] += b
		f.xx[k] += float64(a * a)
		f.xy[k] += float64(a * b)
		f.yy[k] += float64(b * b)
	}
}

func (f *fit) relError() float64 {
	rest, total := 0.0, 0.0
	for k, n := range f.n {
		if n == 0 {
			continue
		}
		sxx, sxy, syy := f.xx[k]-f.x[k]*f.x[k]/n, f.xy[k]-f.x[k]*f.y[k]/n, f.yy[k]-f.y[k]*f.y[k]/n
		if syy <= 1e-12*f.yy[k] {
			continue // the channel does not vary: what is left is the sums' own rounding, of either sign
		}
		total += syy
		if sxx > 0 {
			syy -= sxy * sxy / sxx
		}
		rest += math.Max(syy, 0)
	}
	if total == 0 {
		return 0
	}
	return math.Sqrt(rest / total)
}
