package bundle

import (
	"fmt"
	"math"
)

// OutputKind says what an output's values become.
type OutputKind string

// The kinds of outputs. "" is KindClasses: files of version 1 have no other.
const (
	KindClasses OutputKind = "classes" // one of several: softmax over the logits
	KindBinary  OutputKind = "binary"  // one of two: sigmoid of one logit, with a threshold
	KindLabels  OutputKind = "labels"  // any of several: a sigmoid and a threshold each
	KindValues  OutputKind = "values"  // numbers that no verdict is made of
)

// OutputInfo says what one output means, in the order of its logits.
type OutputInfo struct {
	Name string     `json:"name"`
	Kind OutputKind `json:"kind,omitempty"`
	// Labels are the names of the classes or labels: one per logit, two of a binary
	// output, the second of which is given from the threshold on.
	Labels []string `json:"labels,omitempty"`
	// Thresholds are the probabilities from which a label is given: one of a binary
	// output, one per label of labels. They are compared with the scores that are shown,
	// after the temperature, as integers: see Probability.
	Thresholds []float64 `json:"thresholds,omitempty"`
	// UnknownThreshold: verdicts of classes and of binary outputs whose score is
	// below it count as unknown.
	UnknownThreshold *float64 `json:"unknown_threshold,omitempty"`
	// Temperature, where it isn't 0, is what the logits were divided by before
	// probabilities are made of them, so that scores are right as often as they say.
	Temperature float64 `json:"temperature,omitempty"`
	// FirstAlertID is the signature id of the first label's alert; label k has FirstAlertID+k.
	// 0: see Bundle.AlertIDs.
	FirstAlertID int `json:"first_alert_id,omitempty"`
	// Taught says how an output was made that is no part of the model: see nepcoc teach.
	Taught *Taught `json:"taught,omitempty"`
	// Known says which flows belong to the output's classes; others are unknown. The program's Belonging has how far they are.
	Known *Known `json:"known,omitempty"`
}

// Taught is a head that was taught on the features of a frozen encoder: in which mode, from how many flows of how many
// recordings, and the accuracy and macro-F1 of flows that cross-validation held back.
type Taught struct {
	Mode     string  `json:"mode"`
	Flows    int     `json:"flows"`
	Groups   int     `json:"groups"`
	Accuracy float64 `json:"accuracy"`
	MacroF1  float64 `json:"macro_f1"`
}

// EffectiveKind is the kind, which files of version 1 leave out.
func (o *OutputInfo) EffectiveKind() OutputKind {
	if o.Kind == "" {
		return KindClasses
	}
	return o.Kind
}

// NumLabels is the number of labels of an output of n logits.
func (k OutputKind) NumLabels(n int) int {
	switch k {
	case KindBinary:
		return 2
	case KindValues:
		return 0
	}
	return n
}

// NumThresholds is the number of thresholds of an output of n logits.
func (k OutputKind) NumThresholds(n int) int {
	switch k {
	case KindBinary:
		return 1
	case KindLabels:
		return n
	}
	return 0
}

// ProbabilityOne is a probability of 1: executors count probabilities in 1/2^24.
const ProbabilityOne = 1 << 24

// Probability is the least integer probability that is at least t, in 0..1: p/2^24 >= t exactly
// where p >= Probability(t), since a product by 2^24 and a ceiling round nothing.
func Probability(t float64) int32 { return int32(math.Ceil(t * ProbabilityOne)) }

// FirstAlertID is the signature id of a bundle's first label: ids from 1,000,000 on are for local use.
const FirstAlertID = 1_900_000

const maxAlertID = math.MaxInt32

// NextAlertID is the first id of the output that follows one of n labels with ids from first
// on: by thousands, so that an output that gains a class moves no other's.
func NextAlertID(first, n int) int {
	const step = 1_000
	return first + max(1, (n+step-1)/step)*step
}

// AlertIDs are the signature ids of the outputs' first labels. Those that the
// manifest doesn't say follow the output before them.
func (b *Bundle) AlertIDs() []int {
	ids := make([]int, len(b.Manifest.Outputs))
	next := FirstAlertID
	for i := range b.Manifest.Outputs {
		o := &b.Manifest.Outputs[i]
		if ids[i] = o.FirstAlertID; ids[i] == 0 {
			ids[i] = next
		}
		next = NextAlertID(ids[i], o.EffectiveKind().NumLabels(b.Program.Values[b.Program.Outputs[i].Value].Cols))
	}
	return ids
}

// validate checks an output against its logits.
func (o *OutputInfo) validate(out *Output, cols int) error {
	kind := o.EffectiveKind()
	switch kind {
	case KindClasses:
		// One class alone is nonsense, but files of version 1 have it.
		if o.Kind != "" && cols < 2 {
			return fmt.Errorf("%s of %d logit", kind, cols)
		}
	case KindBinary, KindLabels:
		if kind == KindBinary && cols != 1 {
			return fmt.Errorf("%s of %d logits", kind, cols)
		}
		if out.Exp < 0 {
			return fmt.Errorf("%s without probabilities to hold to a threshold", kind)
		}
	case KindValues:
	default:
		return fmt.Errorf("unknown kind %q", o.Kind)
	}
	if n := kind.NumLabels(cols); len(o.Labels) != 0 && len(o.Labels) != n {
		return fmt.Errorf("%d labels for %d logits (%s)", len(o.Labels), cols, kind)
	}
	if n := kind.NumThresholds(cols); len(o.Thresholds) != n {
		return fmt.Errorf("%d thresholds for %d logits (%s)", len(o.Thresholds), cols, kind)
	}
	for _, t := range o.Thresholds {
		if !(t >= 0 && t <= 1) {
			return fmt.Errorf("threshold %g is not in 0..1", t)
		}
	}
	if t := o.UnknownThreshold; t != nil && !(*t >= 0 && *t <= 1) {
		return fmt.Errorf("unknown_threshold %g is not in 0..1", *t)
	}
	if o.UnknownThreshold != nil && (kind == KindLabels || kind == KindValues) {
		return fmt.Errorf("unknown_threshold of %s", kind)
	}
	if o.FirstAlertID < 0 || o.FirstAlertID > maxAlertID-kind.NumLabels(cols) {
		return fmt.Errorf("first_alert_id %d", o.FirstAlertID)
	}
	for _, s := range append([]string{o.Name}, o.Labels...) {
		if !printable(s) {
			return fmt.Errorf("%q holds characters that can't be printed", s)
		}
	}
	return nil
}
