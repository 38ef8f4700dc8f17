package compiler

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"nepcoc/compiler/calibrate"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/engine"
	"nepcoc/runtime/teach"
)

// know gives each output of one label what it knows of the calibration flows: their labels where there are some, else the
// bundle's own verdicts say of which class a flow is.
func (c *compilation) know(b *bundle.Bundle) error {
	e, err := engine.Bind(b.Program, engine.Options{})
	if err != nil {
		return err
	}
	ints, err := calibrate.Integers(e, b.Program, c.calib.Inputs)
	if err != nil {
		return err
	}
	groups := sameTokens(c.calib.Inputs)
	for o := range b.Manifest.Outputs {
		info := &b.Manifest.Outputs[o]
		if k := info.EffectiveKind(); k != bundle.KindClasses && k != bundle.KindBinary {
			c.res.Notes = append(c.res.Notes, fmt.Sprintf("output %s gives %s: it can't tell what is unknown to it", info.Name, k))
			continue
		}
		labels := c.calib.LabelsOf(info.Name, o == 0)
		given := labels != nil
		if !given {
			labels = calibrate.Verdicts(ints[o], calibrate.NewJudge(b.Program, o, info).Integer)
		}
		examples := make([]teach.Example, len(c.calib.Inputs))
		for i, in := range c.calib.Inputs {
			examples[i] = teach.Example{Tokens: in.Tokens, Valid: in.Valid, Label: -1, Group: groups[i], Payload: math.MaxInt}
			if len(labels[i]) == 1 {
				examples[i].Label = labels[i][0]
			}
			if c.calib.Flows != nil {
				examples[i].Payload = c.calib.Flows[i].Payload
			}
		}
		r, err := teach.Know(b, o, examples, teach.KnownOptions{Pass: c.KnownPass, Labelled: given, Progress: c.progress})
		if err != nil {
			return err
		}
		c.res.Known = append(c.res.Known, r)
	}
	if len(c.res.Known) == 0 {
		return errors.New("no output names one of several classes, so none can tell what is unknown to it: leave --known-pass out")
	}
	return nil
}

// sameTokens numbers inputs so that those of the same tokens have the same number: of two such flows one would tell all of the other.
func sameTokens(inputs []calibrate.Input) []int {
	first, number := map[string]int{}, make([]int, len(inputs))
	for i, in := range inputs {
		var key []byte
		for _, t := range in.Tokens[:in.Valid] {
			key = binary.LittleEndian.AppendUint32(key, uint32(t))
		}
		n, ok := first[string(key)]
		if !ok {
			n = i
			first[string(key)] = n
		}
		number[i] = n
	}
	return number
}
