package drift

import (
	"math/rand/v2"
	"testing"

	"nepcoc/internal/testbundle"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/verdict"
)

// Of so few flows that none could be above its bound, or with bounds that nothing passes, it is said that nothing is told; what is told of most
// features says of how many. What could be told is: as many flows that all lie where calibration had none are above the bound.
func TestTooFew(t *testing.T) {
	b, r := described(t)
	whole := func(o Options, n int, odd bool) State {
		m, err := New(b, classify.Labels(b), o)
		if err != nil {
			t.Fatal(err)
		}
		for range n {
			m.Add(record(r, odd))
		}
		return m.Whole()
	}
	few, loose := Defaults, Defaults
	loose.Bound = 100
	told := 0
	for _, c := range []struct {
		o    Options
		n    int
		none bool
	}{{few, 1, true}, {few, 4, false}, {few, 200, false}, {loose, 200, true}} {
		quiet, odd := whole(c.o, c.n, false), whole(c.o, c.n, true)
		if n := quiet.few(); (n == len(quiet.Distances)) != c.none {
			t.Errorf("%d flows, bounds times %g: %d of %d features have too few", c.n, c.o.Bound, n, len(quiet.Distances))
		}
		for i, d := range odd.Distances {
			if d.Few && d.Over() {
				t.Errorf("%d flows: %s is above its bound, of too few flows", c.n, d.String())
			}
			if d.Feature == "one_sided" && !c.none {
				if told++; !d.Over() || quiet.Distances[i].Few {
					t.Errorf("%d flows: %s: all are one-sided where none was", c.n, d.String())
				}
			}
		}
	}
	if told != 2 {
		t.Errorf("%d of 2 comparisons have one_sided", told)
	}
	for _, c := range []struct {
		o    Options
		deaf bool
	}{{few, false}, {loose, true}, {Options{Flows: MinFlows, Windows: 1, Bound: 1}, false}} {
		m, err := New(b, classify.Labels(b), c.o)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Deaf(); (err != nil) != c.deaf {
			t.Errorf("%+v: %v", c.o, err)
		}
	}
	for want, c := range map[string]Comparison{
		"not told: of so few flows, and with these bounds, no feature could be above its own": {TooFew: true, Whole: whole(few, 1, true)},
		"no drift": {Whole: whole(few, 200, false)},
		"no drift in 1 of 2 features; for the others there are too few flows": {Whole: State{Distances: []Distance{{Bound: 1, Flows: 9}, {Bound: 1, Few: true}}}},
	} {
		if got := c.Answer(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// A flow of several labels is one flow.
func TestFlowsOfLabels(t *testing.T) {
	b, err := testbundle.EveryKind(2)
	if err != nil {
		t.Fatal(err)
	}
	head := -1
	for i := range b.Manifest.Outputs {
		if b.Manifest.Outputs[i].EffectiveKind() == bundle.KindLabels {
			head = i
		}
	}
	r := rand.New(rand.NewPCG(5, 6))
	tagged := func() *verdict.Record {
		v := record(r, false)
		v.Verdicts = []verdict.Verdict{{Head: head, Multi: true, Given: []verdict.Given{{Class: 0}, {Class: 1}}}}
		return v
	}
	if b.Manifest.Traffic, err = Describe(b, 100, func(int) (*verdict.Record, error) { return tagged(), nil }); err != nil {
		t.Fatal(err)
	}
	m, err := New(b, classify.Labels(b), Defaults)
	if err != nil {
		t.Fatal(err)
	}
	for range 70 {
		m.Add(tagged())
	}
	for _, l := range m.Whole().Labels {
		if l.Output == b.Manifest.Outputs[head].Name && (l.Then != 1 || l.Now != 1) {
			t.Errorf("%+v: every flow has the label", l)
		}
	}
	seen := false
	for _, d := range m.Whole().Distances {
		if d.Feature == labelFeature && d.Output == b.Manifest.Outputs[head].Name {
			if seen = true; d.Flows != 70 || d.Bound != m.bound(&m.layout.hists[len(m.layout.hists)-1], 2, 100, 70) {
				t.Errorf("%d of 70 flows, bound %g", d.Flows, d.Bound)
			}
		}
	}
	if !seen {
		t.Error("labels are not compared")
	}
}
