package agent_test

import (
	"encoding/json"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"nepcoc/internal/testbundle"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
)

// outputsLine are the verdicts of a line.
type outputsLine struct {
	Outputs []struct {
		Output string
		Label  string
		Labels []struct{ Label string }
	}
}

// A model with an output of each kind gives one event per flow. Verdicts, alerts and metrics are those
// of the lines of nepcoc run, output by output.
func TestOutputs(t *testing.T) {
	b := must(testbundle.EveryKind(0))
	m, err := agent.NewModel(b)
	if err != nil {
		t.Fatal(err)
	}
	mem, _ := load(filepath.Join(testfiles.Root(t), "examples", "testbed", "test.pcap"))
	want := expected(t, b, mem)
	counts := map[string]int{} // by output, slash, label
	for _, l := range want {
		var v outputsLine
		if err := json.Unmarshal([]byte(l), &v); err != nil {
			t.Fatal(err)
		}
		if len(v.Outputs) != 3 {
			t.Fatalf("not the three outputs that make verdicts: %s", l)
		}
		for _, o := range v.Outputs {
			switch {
			case o.Label != "":
				counts[o.Output+"/"+o.Label]++
			case len(o.Labels) == 0:
				counts[o.Output+"/"]++
			}
			for _, g := range o.Labels {
				counts[o.Output+"/"+g.Label]++
			}
		}
	}
	if counts["binary/benign"] == 0 || counts["binary/attack"] == 0 || counts["labels/"] == 0 || counts["labels/0"] == 0 {
		t.Fatalf("not every verdict occurs: %v", counts)
	}

	// Label "0" is one of labels only; "classes=class0" names one output's.
	for _, format := range []string{"json", "eve"} {
		mem.Rewind()
		var out strings.Builder
		a, err := agent.New(agent.Options{Sources: []capture.Source{mem}, Model: m, Workers: 2, Lossless: true, Sink: &out,
			Format: agent.Formats[format], Alerts: []string{"attack", "labels=0", "classes=nothing"}})
		if err != nil {
			t.Fatal(err)
		}
		r, err := a.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if r.Records != uint64(len(want)) || r.Verdicts != 3*r.Records || r.None != uint64(counts["labels/"]) {
			t.Errorf("%d records, %d verdicts, %d without a label; want %d flows, %v", r.Records, r.Verdicts, r.None, len(want), counts)
		}
		if alerts := counts["binary/attack"] + counts["labels/0"]; r.Alerts != uint64(alerts) {
			t.Errorf("%d alerts, want %d", r.Alerts, alerts)
		}
		var metrics = httptest.NewRecorder()
		a.Handler().ServeHTTP(metrics, httptest.NewRequest("GET", "/metrics", nil))
		got := map[string]int{}
		for _, s := range regexp.MustCompile(`(?m)^nepcod_verdicts(?:_without_label)?_total\{(?:label="(\w+)",)?output="(\w+)"\} (\d+)$`).FindAllStringSubmatch(metrics.Body.String(), -1) {
			got[s[2]+"/"+s[1]], _ = strconv.Atoi(s[3])
		}
		for k, n := range counts {
			if got[k] != n {
				t.Errorf("metrics: %s %d, want %d", k, got[k], n)
			}
		}
		events := map[string]int{}
		for _, l := range lines(out.String()) {
			var e struct {
				Type  string `json:"event_type"`
				Nepco outputsLine
				outputsLine
			}
			if err := json.Unmarshal([]byte(l), &e); err != nil {
				t.Fatal(err)
			}
			events[e.Type]++
			if n := len(e.Outputs) + len(e.Nepco.Outputs); n != 3 {
				t.Errorf("%d outputs in %s", n, l)
			}
		}
		if format == "eve" && (events["flow"] != len(want) || events["alert"] != int(r.Alerts)) {
			t.Errorf("%v, want %d flows, %d alerts", events, len(want), r.Alerts)
		}
	}
}

// A bundle without verdicts is refused before a packet is read.
func TestValuesOnly(t *testing.T) {
	b := testBundle(t, 0, "class")
	b.Manifest.Outputs[0].Kind, b.Manifest.Outputs[0].Labels = bundle.KindValues, nil
	if _, err := agent.NewModel(b); err == nil || !strings.Contains(err.Error(), "no verdict") {
		t.Error(err)
	}
}
