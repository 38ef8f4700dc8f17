package agent_test

import (
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nepcoc/internal/fieldtable"
	"nepcoc/internal/testbundle"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/drift"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/verdict"
)

// describe makes a bundle one that was calibrated with a capture.
func describe(t testing.TB, b *bundle.Bundle, src capture.Source) {
	t.Helper()
	flows, _, err := flow.CollectAll(src, must(classify.FlowOptions(b)))
	if err != nil {
		t.Fatal(err)
	}
	b.Manifest.Traffic = must(drift.Calibration(b, len(flows), func(i int, r *verdict.Record) ([]int32, int) {
		f := &flows[i]
		r.Packets, r.Bytes, r.Marks, r.Payload, r.Largest, r.Repeats = f.Packets, f.Bytes, f.Marks, f.Payload, 1400, 0
		return f.Tokens, f.Valid
	}))
}

// An agent tells drift, its end, and why in events that docs/drift.md describes, counts them, exports distances, and
// does nothing of it where that is off, the bundle says nothing, or traffic is as it was.
func TestDrift(t *testing.T) {
	b := must(testbundle.EveryKind(0))
	testbed := filepath.Join(testfiles.Root(t), "examples", "testbed")
	calib, _ := load(filepath.Join(testbed, "calib.pcap"))
	describe(t, b, calib)
	m := must(agent.NewModel(b))
	whole, _ := load(filepath.Join(testbed, "test.pcap"))
	cut, all := new(capture.Memory), new(capture.Memory)
	var f capture.Frame
	for part := range 4 { // quiet, cut, quiet again
		for whole.Rewind(); whole.Next(&f) == nil; {
			if f.Time += int64(part) * 3600e9; part == 1 {
				f.Data = f.Data[:min(len(f.Data), 60)]
				cut.Add(&f)
			}
			all.Add(&f)
		}
	}
	run := func(m *agent.Model, src *capture.Memory, o agent.Options) ([]string, *agent.Report, string) {
		src.Rewind()
		var out strings.Builder
		o.Sources, o.Model, o.Sink, o.Lossless = []capture.Source{src}, m, &out, true
		a := must(agent.New(o))
		r, err := a.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Check(); err != nil {
			t.Error(err)
		}
		metrics := httptest.NewRecorder()
		a.Handler().ServeHTTP(metrics, httptest.NewRequest("GET", "/metrics", nil))
		return lines(out.String()), r, metrics.Body.String()
	}
	on := &drift.Options{Flows: 128, Windows: 1, Bound: 1}
	isEvent := func(l string) bool { return strings.Contains(l, `"nepco":{"drift"`) }

	got, r, metrics := run(m, all, agent.Options{Drift: on, DriftEvents: true})
	var events [][]byte
	rest := 0
	for _, l := range got {
		if isEvent(l) {
			events = append(events, []byte(l))
		} else {
			rest++
		}
	}
	if len(events) != 2 || r.Events != 2 {
		t.Fatalf("%d events, %d counted, want a begin and an end: %s", len(events), r.Events, events)
	}
	for i, want := range []string{`"state":"begin"`, `"state":"end"`} {
		if !strings.Contains(string(events[i]), want) {
			t.Errorf("no %s: %s", want, events[i])
		}
	}
	if !strings.Contains(string(events[0]), `"causes":["cut"]`) {
		t.Errorf("%s", events[0])
	}
	of := drift.Event{State: drift.State{Distances: []drift.Distance{{Feature: "score", Output: "binary", Bits: 0.5, Bound: 0.1, Flows: 9}}, Labels: []drift.LabelShift{{Output: "binary", Label: "x"}}, Causes: []string{}}}
	events = append(events, of.AppendEVE(nil, "b", "d"))
	fieldtable.Check(t, fieldtable.Read(t, filepath.Join(testfiles.Root(t), "docs", "drift.md")), "drift", true, events)
	for _, want := range []string{"nepcod_drift 0", `nepcod_drift_distance_bits{feature="label",output="binary"} `, `nepcod_drift_bound_bits{feature="cut",output=""} `, "nepcod_drift_windows_total 51"} {
		if !strings.Contains(metrics, "\n"+want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	if _, _, metrics := run(m, cut, agent.Options{Drift: on}); !strings.Contains(metrics, "\nnepcod_drift 1\n") {
		t.Error("nepcod_drift is not 1 in cut traffic")
	}

	// Nothing else changes.
	off, r, metrics := run(m, all, agent.Options{Format: agent.Formats["json"]})
	if len(off) != rest || r.Events != 0 || strings.Contains(metrics, "nepcod_drift") {
		t.Error("lines without drift differ from those with, or there is some")
	}
	if text, _, _ := run(m, all, agent.Options{Drift: on, Format: agent.Formats["json"]}); !slices.Equal(text, off) {
		t.Error("lines of another form hold events")
	}
	old := *b
	old.Manifest.Traffic = nil
	if got, r, metrics := run(must(agent.NewModel(&old)), all, agent.Options{Drift: on, DriftEvents: true, Format: agent.Formats["json"]}); !slices.Equal(got, off) || r.Events != 0 || strings.Contains(metrics, "nepcod_drift") {
		t.Error("a bundle without calibration's traffic is compared")
	}
}
