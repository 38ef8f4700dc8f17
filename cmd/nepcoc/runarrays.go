package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"nepcoc/compiler/calibrate"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
)

// sampleLine is what run says of one output of a sample. Values have no verdict; labels are
// any number of names, other verdicts one name and its class.
type sampleLine struct {
	Sample int       `json:"sample"`
	Output string    `json:"output"`
	Labels []string  `json:"labels,omitzero"`
	Label  string    `json:"label,omitempty"`
	Class  *int      `json:"class,omitempty"`
	Logits []int32   `json:"logits"`
	Scaled []decimal `json:"scaled"`
}

// decimal is a number in six digits.
type decimal float64

func (d decimal) append(b []byte) []byte { return strconv.AppendFloat(b, float64(d), 'g', 6, 64) }

func (d decimal) MarshalJSON() ([]byte, error) { return d.append(nil), nil }

// text is the line for people.
func (l *sampleLine) text() []byte {
	b := fmt.Appendf(nil, "sample=%d output=%s", l.Sample, l.Output)
	switch {
	case l.Labels != nil:
		b = fmt.Appendf(b, " labels=%s", strings.Join(l.Labels, ","))
	case l.Class != nil:
		b = fmt.Appendf(b, " label=%s", l.Label)
	}
	for k, x := range l.Logits {
		b = strconv.AppendInt(append(b, separator(k, " logits=")...), int64(x), 10)
	}
	for k, x := range l.Scaled {
		b = x.append(append(b, separator(k, " scaled=")...))
	}
	return append(b, '\n')
}

func separator(i int, first string) string {
	if i == 0 {
		return first
	}
	return ","
}

// runArrays classifies samples of an .npz by the names that exports use.
func runArrays(stderr, w io.Writer, b *bundle.Bundle, c *classify.Classifier, path string, asJSON bool) error {
	set, err := calibrate.ForBundle(path, b)
	if err != nil {
		return err
	}
	for _, note := range set.Notes {
		fmt.Fprintf(stderr, "nepcoc: note: %s\n", note)
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for i, in := range set.Inputs {
		res, err := c.Run(in.Tokens, in.Valid)
		if err != nil {
			return fmt.Errorf("%s, sample %d: %w", path, i, err)
		}
		for h, logits := range c.Logits() {
			l := newSampleLine(i, &c.Heads[h], &res[h], logits)
			if asJSON {
				err = enc.Encode(l)
			} else {
				_, err = w.Write(l.text())
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func newSampleLine(sample int, h *classify.Head, r *classify.Result, logits []int32) *sampleLine {
	l := &sampleLine{Sample: sample, Output: h.Name, Logits: logits}
	for _, x := range logits {
		l.Scaled = append(l.Scaled, decimal(float64(x)*h.Scale))
	}
	switch h.Kind {
	case bundle.KindValues:
	case bundle.KindLabels:
		l.Labels = []string{}
		for _, g := range r.Given {
			l.Labels = append(l.Labels, h.Labels[g.Index])
		}
	default:
		l.Label, l.Class = h.Labels[r.Class], &r.Class
	}
	return l
}
