package compiler

import (
	"errors"
	"fmt"
	"math"

	"nepcoc/compiler/calibrate"
	"nepcoc/internal/exact"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/engine"
)

// calibrateScores fits the temperature of the first output's probabilities to
// the labels of the calibration flows: the divisor of the logits that makes
// their negative log-likelihood least (Guo et al., "On calibration of modern
// neural networks", 2017). It changes scores, never verdicts, and costs nothing
// at run time: it goes into the scale of the table of exp.
func (c *compilation) calibrateScores(p *bundle.Program, classes []string) (float64, error) {
	if c.arrays {
		return 0, errors.New("labels of calibration flows go with a capture, not with arrays")
	}
	o := &p.Outputs[0]
	found, err := c.calib.Label(c.CalibLabels, []bundle.OutputInfo{{Name: o.Name, Labels: classes}})
	if err != nil {
		return 0, err
	}
	c.res.Notes = append(append(c.res.Notes, found[0].Notes...), found[0].Why...)
	if l := &found[0]; 2*l.Labelled < l.Flows {
		c.res.Notes = append(c.res.Notes, fmt.Sprintf("scores are calibrated by %d of %d flows only: %s labels no more", l.Labelled, l.Flows, c.CalibLabels))
	}
	e, err := engine.Bind(p, engine.Options{})
	if err != nil {
		return 0, err
	}
	ints, err := calibrate.Integers(e, p, c.calib.Inputs)
	if err != nil {
		return 0, err
	}
	t := rounded(temperature(ints[0], c.calib.LabelsOf(o.Name, true), o.Scale))
	// The mantissa keeps 30 bits: the quotient only moves it.
	ratio := math.Ldexp(float64(o.ExpMult), -o.ExpShift) / t
	_, exp := math.Frexp(ratio)
	o.ExpShift = min(max(30-exp, 0), 62)
	o.ExpMult = int32(min(math.RoundToEven(math.Ldexp(ratio, o.ExpShift)), math.MaxInt32))
	return t, nil
}

// temperature minimises the mean negative log-likelihood over log T by golden
// section; it has one minimum.
func temperature(logits [][]int32, labels []int, scale float64) float64 {
	loss := func(logT float64) float64 {
		t := exact.Exp(logT)
		sum := 0.0
		for i, l := range logits {
			if labels[i] < 0 {
				continue
			}
			top := float64(l[calibrate.ArgMax(l)])
			z := 0.0
			for _, x := range l {
				z += exact.Exp((float64(x) - top) * scale / t)
			}
			sum += exact.Log(z) - (float64(l[labels[i]])-top)*scale/t
		}
		return sum
	}
	lo, hi := exact.Log(0.05), exact.Log(20)
	golden := (math.Sqrt(5) - 1) / 2
	for range 60 {
		a, b := hi-float64(golden*(hi-lo)), lo+float64(golden*(hi-lo))
		if loss(a) < loss(b) {
			hi = b
		} else {
			lo = a
		}
	}
	return exact.Exp((lo + hi) / 2)
}
