package explain_test

import (
	"fmt"
	"testing"

	"nepcoc/compiler/explain"
	"nepcoc/internal/testbundle"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/verdict"
)

// What is explained is the verdict that run gives: of binary outputs and labels by their thresholds, wherever those are; and where run gives
// no label, explain names none either, but a candidate. A margin is never below 0.
func TestVerdictsAreThoseOfRun(t *testing.T) {
	b, err := testbundle.EveryKind(0)
	if err != nil {
		t.Fatal(err)
	}
	b.Manifest.MinPayload = bundle.MinPayloadOf(20)
	unknown := 0.9
	b.Manifest.Outputs[0].UnknownThreshold, b.Manifest.Outputs[1].UnknownThreshold = &unknown, &unknown
	seen := map[string]int{}
	for _, threshold := range []float64{0.5, 0.875, 0.999, 0.01, 0, 1} {
		b.Manifest.Outputs[1].Thresholds = []float64{threshold}
		b.Manifest.Outputs[2].Thresholds = []float64{threshold, 1 - threshold/2}
		exec, err := classify.Engine(b)
		if err != nil {
			t.Fatal(err)
		}
		run := map[string]verdict.Verdict{}
		name := func(key string, first int64, output string) string { return fmt.Sprint(key, first, output) }
		if _, err := classify.New(b, exec).Flows(b, source(t), false, func(r *verdict.Record) error {
			for _, v := range r.Verdicts {
				v.Given = append([]verdict.Given(nil), v.Given...)
				run[name(r.Key.String(), r.First, v.Output)] = v
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		n := 0
		e, err := explain.New(b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Verdicts(capture.Source(source(t)), explain.Select{Some: func(i int) bool { return i%3 == 0 }}, func(v *explain.Verdict) error {
			for i := range v.Outputs {
				w := &v.Outputs[i]
				r, ok := run[name(v.Key, v.Time, w.Output)]
				if !ok {
					t.Fatalf("%s, %s: run has no verdict", v.Key, w.Output)
				}
				n++
				label := w.Label
				if w.Candidate != "" || r.Withheld() != "" {
					if seen[w.Label]++; w.Label != r.Withheld() {
						t.Fatalf("%s, %s: %q with candidate %q, run says %q", v.Key, w.Output, w.Label, w.Candidate, r.Withheld())
					}
					label = w.Candidate
				}
				switch {
				case !r.Multi:
					if label != r.Label {
						t.Fatalf("%s, %s at %g: %q, run says %q", v.Key, w.Output, threshold, label, r.Label)
					}
				case r.Insufficient:
				case len(r.Given) == 0:
					if seen["none"]++; label != "" || w.Against == "" {
						t.Fatalf("%s, %s at %g: %q against %q, run gives none", v.Key, w.Output, threshold, label, w.Against)
					}
				default:
					given := false
					for _, g := range r.Given {
						given = given || g.Label == label
					}
					if seen["given"]++; !given {
						t.Fatalf("%s, %s at %g: %q is not among %v", v.Key, w.Output, threshold, label, r.Given)
					}
				}
				if w.Margin < 0 {
					t.Fatalf("%s, %s at %g: margin %g", v.Key, w.Output, threshold, w.Margin)
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			t.Fatal("nothing is explained")
		}
	}
	for _, what := range []string{"unknown", "insufficient", "none", "given"} {
		if seen[what] == 0 {
			t.Errorf("no verdict is %s: %v", what, seen)
		}
	}
}
