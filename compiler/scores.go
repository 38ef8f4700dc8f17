package compiler

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"nepcoc/compiler/calibrate"
	"nepcoc/internal/exact"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/engine"
)

// readLabels reads the labels of the calibration flows.
func (c *compilation) readLabels() error {
	if c.arrays {
		return errors.New("labels of calibration flows go with a capture, not with arrays")
	}
	found, err := c.calib.Label(c.CalibLabels, c.outputs)
	if err != nil {
		return err
	}
	for i := range found {
		l := &found[i]
		c.res.Notes = append(append(c.res.Notes, l.Notes...), l.Why...)
		if 2*l.Labelled < l.Flows {
			c.res.Notes = append(c.res.Notes, fmt.Sprintf("scores are calibrated by %d of %d flows only: %s labels no more", l.Labelled, l.Flows, c.CalibLabels))
		}
	}
	return nil
}

// calibrateScores fits a temperature to the probabilities of each output that the calibration flows have
// labels of: the divisor of the logits that makes their negative log-likelihood least (Guo et al., "On
// calibration of modern neural networks", 2017). It changes scores, never verdicts: thresholds
// move with the scores. At run time it costs nothing, since it goes into the scale of the table of exp.
func (c *compilation) calibrateScores(p *bundle.Program) error {
	e, err := engine.Bind(p, engine.Options{})
	if err != nil {
		return err
	}
	ints, err := calibrate.Integers(e, p, c.calib.Inputs)
	if err != nil {
		return err
	}
	for i := range c.outputs {
		o, info := &p.Outputs[i], &c.outputs[i]
		truth := c.calib.LabelsOf(o.Name, i == 0)
		of := likelihoods[info.Kind]
		if truth == nil || of == nil {
			continue
		}
		if !mistaken(info.Kind, ints[i], truth) {
			// Without an error the likelihood grows with every score, until all are 1.
			c.res.Notes = append(c.res.Notes, fmt.Sprintf("output %s: the labelled flows hold no errors to tell by how sure a score may be: scores stay the model's own, not calibrated; give more flows, of more kinds", o.Name))
			continue
		}
		info.Temperature = rounded(temperature(ints[i], truth, o.Scale, of))
		// The mantissa keeps 30 bits: the quotient only moves it.
		ratio := math.Ldexp(float64(o.ExpMult), -o.ExpShift) / info.Temperature
		_, exp := math.Frexp(ratio)
		o.ExpShift = min(max(30-exp, 0), 62)
		o.ExpMult = int32(min(math.RoundToEven(math.Ldexp(ratio, o.ExpShift)), math.MaxInt32))
		for k, t := range info.Thresholds {
			info.Thresholds[k] = atTemperature(t, info.Temperature)
		}
		if info.Thresholds != nil && slices.ContainsFunc(info.Thresholds, func(t float64) bool { return t != DefaultThreshold }) {
			c.res.Notes = append(c.res.Notes, fmt.Sprintf("output %s: thresholds are of calibrated scores now (%g), for the same verdicts", o.Name, info.Thresholds))
		}
	}
	return nil
}

// atTemperature is the threshold of scores at a temperature that gives the same verdicts
// as t of the model's own, to 1e-9: as far as all CPUs agree.
func atTemperature(t, temperature float64) float64 {
	if t == 0 || t == 0.5 || t == 1 {
		return t
	}
	const digits = 1e9
	moved := math.Round(digits / (1 + exact.Pow((1-t)/t, 1/temperature)))
	return min(max(moved, 1), digits-1) / digits // neither always nor never
}

// A likelihood is the negative log-likelihood of a sample's labels: of the logits times k.
type likelihood func(logits []int32, labels []int, k float64) float64

var likelihoods = map[bundle.OutputKind]likelihood{
	bundle.KindClasses: func(logits []int32, labels []int, k float64) float64 {
		top := float64(logits[calibrate.ArgMax(logits)])
		z := 0.0
		for _, x := range logits {
			z += exact.Exp((float64(x) - top) * k)
		}
		return exact.Log(z) - float64((float64(logits[labels[0]])-top)*k)
	},
	bundle.KindBinary: func(logits []int32, labels []int, k float64) float64 {
		return exact.Softplus(float64(1-2*labels[0]) * float64(logits[0]) * k)
	},
	bundle.KindLabels: func(logits []int32, labels []int, k float64) float64 {
		sum := 0.0
		for i, x := range logits {
			sign := 1.0
			if slices.Contains(labels, i) {
				sign = -1
			}
			sum += exact.Softplus(sign * float64(x) * k)
		}
		return sum
	},
}

// mistaken tells that some labelled sample has a logit on the wrong side: a class above that of the label, a sigmoid beyond the half.
func mistaken(kind bundle.OutputKind, logits [][]int32, labels [][]int) bool {
	for i, l := range logits {
		if labels[i] == nil {
			continue
		}
		for k, x := range l {
			var wrong bool
			switch kind {
			case bundle.KindClasses:
				wrong = x > l[labels[i][0]]
			case bundle.KindBinary:
				wrong = x > 0 && labels[i][0] == 0 || x < 0 && labels[i][0] == 1
			default:
				wrong = x > 0 != slices.Contains(labels[i], k) && x != 0
			}
			if wrong {
				return true
			}
		}
	}
	return false
}

// temperature minimises the mean negative log-likelihood over log T by golden
// section; it has one minimum. Samples without labels (nil) are left out.
func temperature(logits [][]int32, labels [][]int, scale float64, of likelihood) float64 {
	loss := func(logT float64) float64 {
		k := scale / exact.Exp(logT)
		sum := 0.0
		for i, l := range logits {
			if labels[i] != nil {
				sum += of(l, labels[i], k)
			}
		}
		return sum
	}
	return exact.Exp(exact.Minimum(loss, exact.Log(0.05), exact.Log(20), 60))
}
