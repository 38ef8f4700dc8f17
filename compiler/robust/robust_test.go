package robust_test

import (
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"nepcoc/compiler/calibrate"
	"nepcoc/compiler/robust"
	"nepcoc/internal/testbundle"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/engine"
)

// subject is a random program and the testbed's flows.
func subject(t *testing.T) (*bundle.Bundle, *engine.Engine, *calibrate.Set, string) {
	t.Helper()
	b, err := testbundle.New(3, "class")
	if err != nil {
		t.Fatal(err)
	}
	e, err := engine.Bind(b.Program, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c, err := classify.Contract(b)
	if err != nil {
		t.Fatal(err)
	}
	pcap := filepath.Join(testfiles.Root(t), "examples", "testbed", "calib.pcap")
	set, err := calibrate.FromCapture([]string{pcap}, c, b.Manifest.View)
	if err != nil {
		t.Fatal(err)
	}
	return b, e, set, pcap
}

func measure(t *testing.T, o robust.Options) *robust.Report {
	t.Helper()
	b, e, set, _ := subject(t)
	r, err := robust.Measure(b, e, set, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// A measurement is the same each time, another seed draws another, and its rows add up.
func TestMeasure(t *testing.T) {
	_, _, _, pcap := subject(t)
	if testing.Short() {
		t.Skip("runs 40 flows hundreds of times each")
	}
	o := robust.Options{Seed: 1, Flows: 40, Captures: []string{pcap}}
	r := measure(t, o)
	if again := measure(t, o); !reflect.DeepEqual(r, again) {
		t.Error("the same seed gave another report")
	}
	o.Seed = 2
	other := measure(t, o).Outputs[0].Rows
	for _, kind := range []string{robust.KindDecisive, robust.KindRandom, robust.KindPackets} {
		same := true
		for i, row := range r.Outputs[0].Rows {
			same = same && (row.Kind != kind || reflect.DeepEqual(row, other[i]))
		}
		if same {
			t.Errorf("%s: another seed gave the same rows", kind)
		}
	}
	if len(r.Outputs) != 1 || r.NotMeasured != nil {
		t.Fatalf("%d outputs, not measured: %v", len(r.Outputs), r.NotMeasured)
	}
	flipped := map[string]int{}
	for _, row := range r.Outputs[0].Rows {
		flows, flips := 0, 0
		for _, c := range row.Classes {
			flows, flips = flows+c.Flows, flips+c.Flipped
		}
		if row.Flows == 0 || row.Flows > 40 || flows != row.Flows || flips != row.Flipped || row.Unknown > row.Flipped {
			t.Errorf("%s: %d flows, %d flipped (%d unknown); by class %d, %d", row.Change, row.Flows, row.Flipped, row.Unknown, flows, flips)
		}
		if row.Kind != robust.KindPackets && (row.Tokens < 1 || row.Share <= 0) {
			t.Errorf("%s: share %g, %g tokens", row.Change, row.Share, row.Tokens)
		}
		flipped[row.Kind] += row.Flipped
	}
	if flipped[robust.KindDecisive] <= flipped[robust.KindRandom] {
		t.Errorf("the most decisive bytes flip %d verdicts, random ones %d", flipped[robust.KindDecisive], flipped[robust.KindRandom])
	}
	if flipped[robust.KindPackets] == 0 {
		t.Error("no verdict depends on packets")
	}
}

// What was not measured is said.
func TestNotMeasured(t *testing.T) {
	r := measure(t, robust.Options{Flows: 5})
	if len(r.NotMeasured) != 1 || !strings.Contains(r.NotMeasured[0], "packets") {
		t.Errorf("without captures: %q", r.NotMeasured)
	}
	for _, row := range r.Outputs[0].Rows {
		if row.Kind == robust.KindPackets {
			t.Errorf("a row for packets: %s", row.Change)
		}
	}
}
