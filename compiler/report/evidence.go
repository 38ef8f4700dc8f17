package report

import (
	"cmp"
	"fmt"
	"slices"

	"nepcoc/compiler/explain"
	"nepcoc/compiler/verify"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
)

// Evidence is what the verdicts of one class stand on.
type Evidence struct {
	Class string `json:"class"` // the verdict, right or wrong
	Flows int    `json:"flows"`
	// Fields are the protocol fields that decide, with their mean share of what the flows' verdicts stand on.
	Fields []explain.FieldShare `json:"fields"`
	// Positions is the mean share of each position of the sequence.
	Positions []float64 `json:"positions"`
}

// explained bounds the flows that are explained, evenly spread: each takes a run of the model per token that counts.
const explained = 192

// fields is how many fields of a class are told.
const fields = 6

// explain asks what verdicts stand on, and adds it up by class.
func (r *Report) explain(v *verify.Report, o verify.Options) error {
	e := &v.Evidence
	b := *e.Bundle
	b.Manifest.View, _ = o.View.Of(b.Manifest.View)
	explainer, err := explain.New(&b)
	if err != nil {
		r.missing("which bytes decide", err.Error())
		return nil
	}
	src, err := capture.OpenAll(r.Captures)
	if err != nil {
		return err
	}
	defer src.Close()
	n, step := r.Flows, max(1, (r.Flows+explained-1)/explained)
	type key struct {
		output, class string
	}
	sums := map[key]*Evidence{}
	flows := map[string]int{}
	done := 0
	_, err = explainer.Verdicts(src, explain.Select{Some: func(number int) bool { return number%step == 0 }}, func(f *explain.Verdict) error {
		if done++; o.Progress != nil {
			o.Progress("explaining verdicts", done, n/step)
		}
		for i := range f.Outputs {
			w := &f.Outputs[i]
			if w.Candidate != "" || w.Label == "" { // no class's verdict
				continue
			}
			flows[w.Output]++
			k := key{w.Output, w.Label}
			s := sums[k]
			if s == nil {
				s = &Evidence{Class: w.Label, Positions: make([]float64, b.Program.Length)}
				sums[k] = s
			}
			s.add(w)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i := range r.Outputs {
		out := &r.Outputs[i]
		out.Explained = flows[out.Name]
		for _, class := range out.Classes {
			if s := sums[key{out.Name, class}]; s != nil {
				s.mean()
				out.Evidence = append(out.Evidence, *s)
			}
		}
		if len(out.Evidence) == 0 && out.Kind != bundle.KindValues {
			r.missing("which bytes decide", fmt.Sprintf("no flow has a label of output %s", out.Name))
		}
	}
	return nil
}

// add adds a flow of the class: its shares sum to 1, or to 0 where nothing was found.
func (s *Evidence) add(w *explain.Why) {
	s.Flows++
	sum := 0.0
	for _, x := range w.Weights {
		sum += x
	}
	if sum == 0 {
		return
	}
	for i := range s.Positions[:min(len(w.Weights), len(s.Positions))] { // numbers beside the sequence have fields only
		s.Positions[i] += w.Weights[i] / sum
	}
	for _, f := range w.Fields {
		k := slices.IndexFunc(s.Fields, func(x explain.FieldShare) bool { return x.Name == f.Name })
		if k < 0 {
			k, s.Fields = len(s.Fields), append(s.Fields, explain.FieldShare{Name: f.Name})
		}
		s.Fields[k].Share += f.Share
	}
}

// mean makes means of sums, and leaves the fields that matter.
func (s *Evidence) mean() {
	n := float64(s.Flows)
	for i := range s.Positions {
		s.Positions[i] = round(s.Positions[i] / n)
	}
	slices.SortStableFunc(s.Fields, func(a, b explain.FieldShare) int { return cmp.Compare(b.Share, a.Share) })
	s.Fields = s.Fields[:min(fields, len(s.Fields))]
	for i := range s.Fields {
		s.Fields[i].Share = round(s.Fields[i].Share / n)
	}
}
