package verify

import (
	"fmt"
	"slices"

	"nepcoc/compiler/calibrate"
	"nepcoc/runtime/bundle"
)

// Score is agreement with labels. Accuracy is the share of right verdicts: of any number of labels, all of
// them right. MacroF1 averages over the Present of all Classes, those that occur among the labels.
type Score struct {
	Labelled int     `json:"labelled"`
	Accuracy float64 `json:"accuracy"`
	MacroF1  float64 `json:"macro_f1"`
	Present  int     `json:"classes_present"`
	Classes  int     `json:"classes"`
	// PerLabel judges each label of an output of any number of labels by itself.
	PerLabel []LabelScore `json:"per_label,omitempty"`
}

// LabelScore is how one label does: in how many samples it is right, there or not.
type LabelScore struct {
	Label    string  `json:"label"`
	Samples  int     `json:"samples"` // that have it
	Accuracy float64 `json:"accuracy"`
	F1       float64 `json:"f1"`
}

// Basis is what a score stands on, by classes: all, or how many of them.
func (s *Score) Basis() string {
	if s.Present == s.Classes {
		return fmt.Sprintf("all %d", s.Classes)
	}
	return fmt.Sprintf("%d of %d", s.Present, s.Classes)
}

// score judges verdicts by labels (nil: not labelled); nil without labels, and for values.
func score(j *calibrate.Judge, verdicts, labels [][]int) *Score {
	if j.Kind() == bundle.KindValues {
		return nil
	}
	names := j.Labels()
	s, each := judge(verdicts, labels, len(names))
	if s != nil && j.Kind() == bundle.KindLabels {
		for k, c := range each {
			s.PerLabel = append(s.PerLabel, LabelScore{names[k], c.actual, 1 - float64(c.predicted+c.actual-2*c.hit)/float64(s.Labelled), c.f1()})
		}
	}
	return s
}

// tally counts what became of one of n classes or labels.
type tally struct{ hit, predicted, actual int }

// f1 is 0 for one that neither occurs nor is predicted.
func (c tally) f1() float64 { return 2 * float64(c.hit) / float64(max(1, c.predicted+c.actual)) }

func judge(verdicts, labels [][]int, n int) (*Score, []tally) {
	if len(labels) != len(verdicts) {
		return nil, nil
	}
	each := make([]tally, n)
	s := &Score{Classes: n}
	right := 0
	for i, want := range labels {
		if want == nil {
			continue
		}
		s.Labelled++
		for _, k := range want {
			each[k].actual++
		}
		for _, k := range verdicts[i] {
			each[k].predicted++
			if slices.Contains(want, k) {
				each[k].hit++
			}
		}
		if slices.Equal(want, verdicts[i]) {
			right++
		}
	}
	if s.Labelled == 0 {
		return nil, nil
	}
	for _, c := range each {
		if c.actual > 0 {
			s.Present++
			s.MacroF1 += c.f1()
		}
	}
	s.MacroF1 /= float64(max(1, s.Present))
	s.Accuracy = float64(right) / float64(s.Labelled)
	return s, each
}
