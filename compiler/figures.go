package compiler

import (
	"fmt"
	"slices"
	"strings"

	"nepcoc/compiler/calibrate"
	"nepcoc/ir"
	"nepcoc/runtime/bundle"
)

// Inputs used: for ranges, whose observations are kept in memory, and for measuring plans.
const (
	observeInputs = 64
	measureInputs = 300
)

// fewSamples is the number of measured inputs below which a share is hardly a
// figure: one verdict of 50 is 2 %.
const fewSamples = 50

// split parts the calibration data: ranges are observed on one part, the result is
// measured on the other. It runs the float model on what is measured and returns the inputs to observe.
func (c *compilation) split(g *ir.Graph) ([]calibrate.Input, error) {
	c.parts = c.calib.Split(observeInputs, measureInputs)
	inputs := c.calib.Pick(c.parts.Measure)
	float, err := calibrate.Float(g, inputs, func(done int) { c.progress("running the float model", done, len(inputs)) })
	if err != nil {
		return nil, err
	}
	c.meter = &meter{inputs: inputs, float: float, outputs: c.outputs}
	return c.calib.Pick(c.parts.Observe), nil
}

// figures are what the finished program measures, and what that does not show.
func (c *compilation) figures(p *bundle.Program, infos []bundle.OutputInfo) (bundle.Measured, error) {
	f := &c.res.Report.Quantize.Fidelity
	m := bundle.Measured{Samples: f.Samples, Seen: c.parts.Same, Agreement: rounded(f.Agreement()),
		Cosine: rounded(f.Cosine), RelError: rounded(f.RelError), MaxError: rounded(f.MaxError)}
	ints, err := c.meter.integers(p)
	if err != nil {
		return m, err
	}
	m.Warnings = append(m.Warnings, c.calib.Notes...)
	m.Warnings = append(m.Warnings, c.aboutData()...)
	for o := range p.Outputs {
		info := &infos[o]
		of := "" // which output, where there are several
		if len(p.Outputs) > 1 {
			of = fmt.Sprintf("output %s: ", info.Name)
		}
		judge := calibrate.NewJudge(p, o, info)
		cmp := calibrate.Compare(c.meter.float[o], ints[o], judge)
		if judge.Kind() == bundle.KindValues {
			m.Warnings = append(m.Warnings, of+"values have no verdicts that could agree: only their error is measured")
			continue
		}
		verdicts := calibrate.Verdicts(c.meter.float[o], judge.Float)
		switch rare := cmp.Samples - cmp.Commonest; {
		case rare == 0:
			m.Warnings = append(m.Warnings, fmt.Sprintf("%sthe model gives all %d measured %s the same verdict, %s: that integers agree says nothing", of, f.Samples, c.unit(), verdictText(info.Labels, verdicts[0])))
		case len(cmp.Differing) >= rare:
			m.Warnings = append(m.Warnings, fmt.Sprintf("%sthe model gives %d of %d measured %s the same verdict: a program that always gave it would agree as often as the integers do", of, cmp.Commonest, f.Samples, c.unit()))
		}
		warnings, err := c.labelled(&m, o, judge, verdicts, calibrate.Verdicts(ints[o], judge.Integer))
		if err != nil {
			return m, err
		}
		for _, w := range warnings {
			m.Warnings = append(m.Warnings, of+w)
		}
	}
	if c.res.Report.Quantize.Tolerated {
		m.Warnings = append(m.Warnings, fmt.Sprintf("%d of %d verdicts changed: too few were measured to hold them to %s", f.Changed, f.Samples, percent(c.MaxDisagreement)))
	}
	if f.RelError > maxRelError {
		m.Warnings = append(m.Warnings, fmt.Sprintf("the logits' error is %s of their spread, though 16 bits were tried: verdicts that are close in float may differ", percent(m.RelError)))
	}
	return m, nil
}

// labelled compares with labels, where there are any.
func (c *compilation) labelled(m *bundle.Measured, o int, j *calibrate.Judge, float, integer [][]int) ([]string, error) {
	all := c.calib.LabelsOf(j.Output.Name, o == 0)
	if all == nil {
		return nil, nil
	}
	names := j.Labels()
	var verdicts, labels []int // of one class each
	n, floatRight, integerRight, same := 0, 0, 0, 0
	var first []int
	for i, k := range c.parts.Measure {
		l := all[k]
		if l == nil || slices.ContainsFunc(l, func(x int) bool { return x < 0 || x >= len(names) }) {
			continue
		}
		if n++; n == 1 {
			first = l
		}
		if slices.Equal(l, first) {
			same++
		}
		if slices.Equal(float[i], l) {
			floatRight++
		}
		if slices.Equal(integer[i], l) {
			integerRight++
		}
		if len(l) == 1 && len(float[i]) == 1 {
			verdicts, labels = append(verdicts, float[i][0]), append(labels, l[0])
		}
	}
	if n == 0 {
		return []string{fmt.Sprintf("none of the measured %s has a label that is one of the model's", c.unit())}, nil
	}
	if m.Labelled == 0 {
		m.Labelled = n
		m.FloatAccuracy, m.IntegerAccuracy = rounded(float64(floatRight)/float64(n)), rounded(float64(integerRight)/float64(n))
	}
	if same == n {
		return []string{fmt.Sprintf("all %d labelled %s have the same label, %s: the accuracy says nothing of the others", n, c.unit(), verdictText(names, first))}, nil
	}
	if j.Kind() == bundle.KindLabels {
		return nil, nil
	}
	w, err := c.judgeOrder(stand(verdicts, labels, len(names)), j.Output.Name, names)
	if w == "" || err != nil {
		return nil, err
	}
	return []string{w}, nil
}

// verdictText names what a verdict gives.
func verdictText(names []string, verdict []int) string {
	if len(verdict) == 0 {
		return "no label"
	}
	var text []string
	for _, k := range verdict {
		text = append(text, label(names, k))
	}
	return strings.Join(text, " ")
}

// aboutData are warnings of what the calibration data are.
func (c *compilation) aboutData() (warnings []string) {
	warn := func(format string, args ...any) { warnings = append(warnings, fmt.Sprintf(format, args...)) }
	total, parts, unit := len(c.calib.Inputs), &c.parts, c.unit()
	measured := len(parts.Measure)
	if parts.Same {
		warn("the figures are of the same %d %s that ranges were found on, too few to keep a part for measuring: calibrate with a few hundred of the kinds that the card will see", measured, unit)
	} else if measured < fewSamples {
		warn("the figures stand on %d %s only, one of which is %s: calibrate with a few hundred of the kinds that the card will see", measured, unit, percent(1/float64(measured)))
	}
	if 2*parts.Distinct < total {
		warn("only %d of the %d %s differ: what repeats is counted once", parts.Distinct, total, unit)
	}
	used := append(append([]int(nil), parts.Observe...), parts.Measure...)
	if parts.Same {
		used = parts.Observe
	}
	if kinds := c.calib.Kinds(used); 4*kinds < len(used) {
		warn("the %d %s used are of %d kinds only, which differ in less than a tenth of their tokens: ranges of other traffic were not seen", len(used), unit, kinds)
	}
	if oneSided := c.oneSided(); 2*oneSided > total {
		warn("%d of %d %s have packets of one side only: if the card sees both, calibrate with both", oneSided, total, unit)
	}
	return warnings
}

// oneSided counts the flows of which only one side's packets were seen.
func (c *compilation) oneSided() (n int) {
	for i := range c.calib.Flows {
		if p := c.calib.Flows[i].Packets; p[0] == 0 || p[1] == 0 {
			n++
		}
	}
	return n
}
