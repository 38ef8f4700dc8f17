package classify

import (
	"encoding/binary"
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"

	"nepcoc/runtime/arith"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/explain"
)

// Head is one output of a model: what makes a verdict of its logits, and what names it.
type Head struct {
	Name string
	Kind bundle.OutputKind
	// Labels are names, numbers where the bundle has none: one per class or label, two of a binary output.
	Labels []string
	// Scale turns integer logits into the model's units.
	Scale float64
	// FirstAlertID is the signature id of the first label's alert.
	FirstAlertID int
	// Unknown is the probability below which a verdict is unknown, thresholds those
	// from which labels are given, in 1/2^24.
	Unknown    int32
	thresholds []int32
	places     []int64 // of thresholds, among logits

	// Known says which flows belong to the classes; nil: the output can't tell.
	Known *bundle.Known

	exp   []int32 // nil: no probabilities
	mult  int32
	shift int
	probs []int32
}

// Result is the verdict of one head.
type Result struct {
	// Class is the label's index; -1 for outputs that don't name one: labels and values.
	Class int
	// Score is the probability of the verdict's own label, in 1/2^24. Margin is how far it is from another
	// verdict: from the second best class's, or from the threshold of a binary output. An output without
	// a table of exponentials has no probabilities: both are 0.
	Score, Margin int32
	// Unknown: the score is below the head's Unknown, or the flow does not belong.
	Unknown bool
	// Distance is how far the flow is from what the output was made from (see bundle.Belonging), Belonging the share of known
	// flows that are as far or farther, in 1/2^24. Both are 0 where the output can't tell.
	Distance  int64
	Belonging int32
	// Given are, of labels, those whose probability has reached the threshold, in the
	// order of the output.
	Given []Label
}

// Label is a label that an output of kind labels gives.
type Label struct {
	Index int
	Score int32 // its probability, in 1/2^24
}

// Heads are a bundle's outputs.
func Heads(b *bundle.Bundle) []Head {
	p, ids := b.Program, b.AlertIDs()
	heads := make([]Head, len(p.Outputs))
	for i := range heads {
		heads[i] = NewHead(p, i, &b.Manifest.Outputs[i])
		heads[i].FirstAlertID = ids[i]
	}
	return heads
}

// NewHead is output i of a program, as info says.
func NewHead(p *bundle.Program, i int, info *bundle.OutputInfo) Head {
	o := &p.Outputs[i]
	cols := p.Values[o.Value].Cols
	h := Head{Name: o.Name, Kind: info.EffectiveKind(), Labels: info.Labels, Scale: o.Scale, mult: o.ExpMult, shift: o.ExpShift, probs: make([]int32, cols)}
	if len(h.Labels) == 0 {
		for k := range h.Kind.NumLabels(cols) {
			h.Labels = append(h.Labels, strconv.Itoa(k))
		}
	}
	for _, t := range info.Thresholds {
		h.thresholds = append(h.thresholds, bundle.Probability(t))
	}
	if info.UnknownThreshold != nil {
		h.SetUnknown(*info.UnknownThreshold)
	}
	if o.Exp >= 0 {
		data := p.Tensors[o.Exp].Data
		h.exp = make([]int32, len(data)/4)
		for k := range h.exp {
			h.exp[k] = int32(binary.LittleEndian.Uint32(data[4*k:]))
		}
	}
	for _, t := range h.thresholds {
		h.places = append(h.places, h.place(t))
	}
	return h
}

// SetUnknown makes t the probability below which a verdict is unknown. Labels have
// thresholds of their own.
func (h *Head) SetUnknown(t float64) {
	if h.Kind == bundle.KindClasses || h.Kind == bundle.KindBinary {
		h.Unknown = bundle.Probability(t)
	}
}

// deciders are how each kind makes a verdict.
var deciders = map[bundle.OutputKind]func(h *Head, logits []int32, r *Result){
	bundle.KindClasses: (*Head).class,
	bundle.KindBinary:  (*Head).side,
	bundle.KindLabels:  (*Head).labels,
	bundle.KindValues:  func(*Head, []int32, *Result) {},
}

// Decide makes the verdict of integer logits. It reuses r's memory, and is not for
// concurrent use.
func (h *Head) Decide(logits []int32, r *Result) {
	*r = Result{Class: -1, Given: r.Given[:0]}
	deciders[h.Kind](h, logits, r)
	r.Unknown = r.Score < h.Unknown
}

func (h *Head) class(logits []int32, r *Result) {
	r.Class = arith.ArgMax(logits)
	if h.exp == nil {
		return
	}
	arith.Softmax(h.probs, logits, h.exp, h.mult, h.shift)
	second := int32(0)
	for k, x := range h.probs {
		if k != r.Class {
			second = max(second, x)
		}
	}
	r.Score = h.probs[r.Class]
	r.Margin = r.Score - second
}

// side is the verdict of a binary output.
func (h *Head) side(logits []int32, r *Result) {
	p, t := h.probability(logits[0]), h.thresholds[0]
	if r.Class, r.Score, r.Margin = 0, bundle.ProbabilityOne-p, t-p; p >= t {
		r.Class, r.Score, r.Margin = 1, p, p-t
	}
}

func (h *Head) labels(logits []int32, r *Result) {
	for k, x := range logits {
		if p := h.probability(x); p >= h.thresholds[k] {
			r.Given = append(r.Given, Label{k, p})
		}
	}
}

// Explained is what of the verdict of logits is explained: the best class against the next, the side of the threshold, or the label that is
// farthest above its threshold, where none is given its threshold against the label that is nearest to it. ok is false for values, which
// make no verdict.
func (h *Head) Explained(logits []int32) (v explain.Verdict, ok bool) {
	v = explain.Verdict{Up: 0, Down: -1}
	switch h.Kind {
	case bundle.KindValues:
		return v, false
	case bundle.KindBinary, bundle.KindLabels:
		for k := range logits {
			if at := (explain.Verdict{Up: k, Down: -1, Place: h.places[k]}); k == 0 || at.Margin(logits) > v.Margin(logits) {
				v = at
			}
		}
		if v.Margin(logits) < 0 {
			v.Up, v.Down = v.Down, v.Up
		}
		return v, true
	}
	v.Up = arith.ArgMax(logits)
	for k, q := range logits {
		if k != v.Up && (v.Down < 0 || q > logits[v.Down]) {
			v.Down = k
		}
	}
	return v, true
}

// place is the least logit whose probability reaches a threshold, one above all logits where none does.
func (h *Head) place(threshold int32) int64 {
	const logits = 1 << 32
	return int64(sort.Search(logits, func(i int) bool { return h.probability(int32(i+math.MinInt32)) >= threshold })) + math.MinInt32
}

func (h *Head) probability(logit int32) int32 { return arith.Sigmoid(logit, h.exp, h.mult, h.shift) }

// CheckPackets says why packets can't get a verdict of a bundle: none of its outputs makes one.
func CheckPackets(b *bundle.Bundle) error {
	var names []string
	for i := range b.Manifest.Outputs {
		o := &b.Manifest.Outputs[i]
		if o.EffectiveKind() != bundle.KindValues {
			return nil
		}
		names = append(names, strconv.Quote(o.Name))
	}
	return fmt.Errorf("the bundle gives values (output %s) and no verdict, so it takes no packets: give it arrays (.npz), or compile %s again with --output NAME=classes:NAMES, binary:NAMES or labels:NAMES",
		strings.Join(names, ", "), b.Manifest.Model.File)
}

// Labels are the names of each output's labels.
func Labels(b *bundle.Bundle) (list [][]string) {
	heads := Heads(b)
	for i := range heads {
		list = append(list, heads[i].Labels)
	}
	return list
}
