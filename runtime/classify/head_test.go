package classify_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"nepcoc/internal/testbundle"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
)

func everyKind(t *testing.T) (*bundle.Bundle, []classify.Head) {
	t.Helper()
	b, err := testbundle.EveryKind(0)
	if err != nil {
		t.Fatal(err)
	}
	return b, classify.Heads(b)
}

// sigmoid is what the test bundle's table of exponentials means: steps of 1/64.
func sigmoid(x int32) float64 { return 1 / (1 + math.Exp(-float64(x)/64)) }

// The second of a binary output's names is given from the threshold on, and not below; the score is
// that of the name that is given, the margin the way to the threshold.
func TestBinary(t *testing.T) {
	b, _ := everyKind(t)
	info := &b.Manifest.Outputs[1]
	for _, threshold := range []float64{0, 0.25, 0.5, 0.3, 0.999, 1} {
		info.Thresholds[0] = threshold
		h := classify.NewHead(b.Program, 1, info)
		h.SetUnknown(0.625)
		if !slices.Equal(h.Labels, []string{"benign", "attack"}) {
			t.Fatal(h.Labels)
		}
		var r classify.Result
		for x := int32(-500); x <= 500; x++ {
			h.Decide([]int32{x}, &r)
			p := sigmoid(x)
			class, score, margin := 0, 1-p, threshold-p
			if p >= threshold {
				class, score, margin = 1, p, p-threshold
			}
			if r.Class != class && math.Abs(p-threshold) > 1e-4 {
				t.Fatalf("logit %d, threshold %g: class %d, want %d", x, threshold, r.Class, class)
			}
			if r.Class == class && (math.Abs(float64(r.Score)/bundle.ProbabilityOne-score) > 1e-4 || math.Abs(float64(r.Margin)/bundle.ProbabilityOne-margin) > 1e-4) {
				t.Fatalf("logit %d, threshold %g: score %d, margin %d; want %g, %g", x, threshold, r.Score, r.Margin, score, margin)
			}
			if r.Unknown != (float64(r.Score) < 0.625*bundle.ProbabilityOne) {
				t.Fatalf("logit %d: score %d, unknown %v", x, r.Score, r.Unknown)
			}
		}
	}
	// A threshold of a half is the sign of the logit.
	var r classify.Result
	info.Thresholds[0] = 0.5
	h := classify.NewHead(b.Program, 1, info)
	for x, class := range map[int32]int{math.MinInt32: 0, -1: 0, 0: 1, 1: 1, math.MaxInt32: 1} {
		if h.Decide([]int32{x}, &r); r.Class != class {
			t.Errorf("logit %d: class %d", x, r.Class)
		}
	}
}

// Labels are given by their own thresholds, none of them or all.
func TestLabels(t *testing.T) {
	b, heads := everyKind(t)
	if !slices.Equal(heads[2].Labels, []string{"0", "1"}) {
		t.Errorf("names %v", heads[2].Labels)
	}
	info := b.Manifest.Outputs[2]
	info.Thresholds = []float64{0.5, 0.75}
	h := classify.NewHead(b.Program, 2, &info)
	h.SetUnknown(1)
	var r classify.Result
	for _, c := range []struct {
		logits []int32
		given  []int
	}{{[]int32{-64, -64}, nil}, {[]int32{64, 64}, []int{0}}, {[]int32{-1, 128}, []int{1}}, {[]int32{0, 128}, []int{0, 1}}} { // sigmoid(1) is 0.731
		h.Decide(c.logits, &r)
		var got []int
		for _, l := range r.Given {
			got = append(got, l.Index)
			if p := float64(l.Score) / bundle.ProbabilityOne; math.Abs(p-sigmoid(c.logits[l.Index])) > 1e-4 {
				t.Errorf("%d: score %g", c.logits, p)
			}
		}
		if !slices.Equal(got, c.given) || r.Class != -1 || r.Unknown {
			t.Errorf("%d: %+v, want %d", c.logits, r, c.given)
		}
	}
}

// Values are no verdict; a bundle that gives nothing else takes no packets.
func TestValues(t *testing.T) {
	b, heads := everyKind(t)
	var r classify.Result
	if heads[3].Decide(make([]int32, 9), &r); r.Class != -1 || r.Given != nil || len(heads[3].Labels) != 0 {
		t.Errorf("%+v %+v", r, heads[3])
	}
	if err := classify.CheckPackets(b); err != nil {
		t.Error(err)
	}
	for i := range b.Manifest.Outputs {
		b.Manifest.Outputs[i].Kind = bundle.KindValues
	}
	if err := classify.CheckPackets(b); err == nil || !strings.Contains(err.Error(), "no verdict") || !strings.Contains(err.Error(), "--output NAME=classes") {
		t.Error(err)
	}
}

// The signature ids of alerts differ between outputs, and stay where another output gains a class.
func TestAlertIDs(t *testing.T) {
	b, heads := everyKind(t)
	var got []int
	for i := range heads {
		got = append(got, heads[i].FirstAlertID)
	}
	if want := []int{1_900_000, 1_901_000, 1_902_000, 1_903_000}; !slices.Equal(got, want) {
		t.Errorf("%d, want %d", got, want)
	}
	b.Manifest.Outputs[1].FirstAlertID = 7_000
	if got, want := b.AlertIDs(), []int{1_900_000, 7_000, 8_000, 9_000}; !slices.Equal(got, want) {
		t.Errorf("%d, want %d", got, want)
	}
}

// What is explained of a verdict is its margin by the logits: of classes over the next, of thresholds from the logit at which the verdict
// changes, never below 0.
func TestExplained(t *testing.T) {
	b, _ := everyKind(t)
	for _, threshold := range []float64{0.001, 0.25, 0.5, 0.875, 0.999} {
		b.Manifest.Outputs[1].Thresholds = []float64{threshold}
		b.Manifest.Outputs[2].Thresholds = []float64{threshold, 0.5}
		heads := classify.Heads(b)
		var r classify.Result
		for x := int32(-600); x <= 600; x++ {
			heads[1].Decide([]int32{x}, &r)
			v, ok := heads[1].Explained([]int32{x})
			if !ok || (v.Up == 0) != (r.Class == 1) || v.Margin([]int32{x}) < 0 {
				t.Fatalf("logit %d, threshold %g: class %d, explained %+v", x, threshold, r.Class, v)
			}
			heads[2].Decide([]int32{x, -7}, &r)
			if v, ok = heads[2].Explained([]int32{x, -7}); !ok || (v.Up >= 0) != (len(r.Given) > 0) || v.Margin([]int32{x, -7}) < 0 {
				t.Fatalf("logit %d, threshold %g: %v given, explained %+v", x, threshold, r.Given, v)
			}
		}
	}
	heads := classify.Heads(b)
	logits := make([]int32, len(heads[0].Labels))
	logits[3], logits[5] = 9, 9
	if v, ok := heads[0].Explained(logits); !ok || v.Up != 3 || v.Down != 5 || v.Margin(logits) != 0 {
		t.Errorf("classes: %+v", v)
	}
	if _, ok := heads[3].Explained(logits); ok {
		t.Error("values make a verdict")
	}
}
