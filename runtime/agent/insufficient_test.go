package agent_test

import (
	"fmt"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"nepcoc/internal/testbundle"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/capture"
)

// Flows without payload are counted as insufficient, by output, raise no alert, and balance with the others; the event of
// their end says so, too.
func TestInsufficient(t *testing.T) {
	b, err := testbundle.EveryKind(0)
	if err != nil {
		t.Fatal(err)
	}
	b.Manifest.MinPayload = 0
	m, err := agent.NewModel(b)
	if err != nil {
		t.Fatal(err)
	}
	mem, _ := load(filepath.Join(testfiles.Root(t), "examples", "testbed", "test.pcap"))
	var out strings.Builder
	a, err := agent.New(agent.Options{Sources: []capture.Source{mem}, Model: m, Workers: 2, Lossless: true, Sink: &out,
		Format: agent.Formats["eve"], Alerts: []string{"attack", "benign"}, Totals: true})
	if err != nil {
		t.Fatal(err)
	}
	r, err := a.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Check(); err != nil {
		t.Error(err)
	}
	flows := 0
	for _, l := range lines(out.String()) {
		if !strings.Contains(l, `"event_type":"nepco"`) {
			continue
		}
		empty := strings.Contains(l, `"payload":0,`)
		if empty {
			flows++
		}
		if strings.Contains(l, `"label":"insufficient","candidate":`) != empty || strings.Contains(l, `"insufficient":true`) != empty {
			t.Fatal(l)
		}
	}
	if flows == 0 || r.Insufficient != 3*uint64(flows) || r.Alerts != r.Records-uint64(flows) {
		t.Errorf("%d insufficient verdicts of %d flows without payload, %d alerts of %d records", r.Insufficient, flows, r.Alerts, r.Records)
	}
	metrics := httptest.NewRecorder()
	a.Handler().ServeHTTP(metrics, httptest.NewRequest("GET", "/metrics", nil))
	for _, name := range []string{"classes", "binary", "labels"} {
		if want := fmt.Sprintf("nepcod_verdicts_insufficient_total{output=%q} %d\n", name, flows); !strings.Contains(metrics.Body.String(), want) {
			t.Errorf("no %s", want)
		}
	}
}
