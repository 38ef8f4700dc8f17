package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"nepcoc/runtime/agent"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
)

func get(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
	return w.Code, w.Body.String()
}

// median is the middle score of JSON lines.
func median(t *testing.T, lines []string) float64 {
	t.Helper()
	var scores []float64
	for _, l := range lines {
		v, err := strconv.ParseFloat(between(l, `"score":`, ","), 64)
		if err != nil {
			t.Fatal(err)
		}
		scores = append(scores, v)
	}
	slices.Sort(scores)
	return scores[len(scores)/2]
}

// The metrics are those of the report, and balance as it does.
func TestMetrics(t *testing.T) {
	mem, _ := load(captures(t)[0])
	m := testModel(t, 0, "class")
	threshold := median(t, expected(t, m.Bundle, mem))
	mem.Rewind()
	a, err := agent.New(agent.Options{Sources: []capture.Source{mem}, Model: m, Lossless: true, Workers: 2, Sink: io.Discard, Unknown: &threshold})
	if err != nil {
		t.Fatal(err)
	}
	if code, body := get(t, a.Handler(), "/healthz"); code != 200 || !strings.Contains(body, `"status":"ok"`) {
		t.Errorf("before: %d %s", code, body)
	}
	r, err := a.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	code, text := get(t, a.Handler(), "/metrics")
	if code != 200 {
		t.Fatalf("%d: %s", code, text)
	}
	sum := func(name string) (total uint64) {
		for _, s := range regexp.MustCompile(`(?m)^`+name+`(?:\{[^}]*\})? (\S+)$`).FindAllStringSubmatch(text, -1) {
			v, err := strconv.ParseFloat(s[1], 64)
			if err != nil {
				t.Fatal(err)
			}
			total += uint64(v)
		}
		return total
	}
	for name, want := range map[string]uint64{
		"nepcod_packets_total":               r.Read,
		"nepcod_packets_dropped_total":       0,
		"nepcod_flows_total":                 r.Flow.Flows,
		"nepcod_flows_decided_total":         r.Flow.Flows,
		"nepcod_flows_undecided":             0,
		"nepcod_verdicts_total":              r.Flow.Flows - r.Unknown,
		"nepcod_verdicts_unknown_total":      r.Unknown,
		"nepcod_records_total":               r.Flow.Flows,
		"nepcod_bytes_total":                 r.Bytes,
		"nepcod_inference_seconds_count":     r.Flow.Flows,
		"nepcod_model_info":                  1,
		"nepcod_queue_batches":               0,
		"nepcod_queue_capacity_batches":      agent.DefaultQueue,
		"nepcod_output_queue_chunks":         0,
		"nepcod_model_changes_total":         0,
		"nepcod_table_flows":                 0,
		"nepcod_fragments_held":              0,
		"nepcod_table_capacity_flows":        2 << 18,
		"nepcod_flows_without_verdict_total": 0,
	} {
		if got := sum(name); got != want || !strings.Contains(text, "\n"+name) {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
	if r.Unknown == 0 || r.Unknown == r.Flow.Flows {
		t.Errorf("%d of %d flows unknown: the threshold is not tested", r.Unknown, r.Flow.Flows)
	}
	for _, name := range []string{"queue_wait", "input_construction", "inference", "decision_latency"} {
		for _, q := range []string{"0.5", "0.99", "0.999"} {
			if !strings.Contains(text, "\nnepcod_"+name+`_quantile_seconds{quantile="`+q+`"} `) {
				t.Errorf("no %s quantile of %s", q, name)
			}
		}
	}
}

// Whatever class names hold, events are JSON and metrics are in Prometheus' form.
func TestOddClassNames(t *testing.T) {
	mem, _ := load(captures(t)[0])
	b := testBundle(t, 0, "class")
	names := b.Manifest.Outputs[0].Labels
	for i := range names {
		names[i] = fmt.Sprintf("a\"b\\c{x=%q} ü%d", "1", i)
		if err := bundle.CheckClassName(names[i]); err != nil {
			t.Fatal(err)
		}
	}
	m, err := agent.NewModel(b)
	if err != nil {
		t.Fatal(err)
	}
	var events bytes.Buffer
	a, err := agent.New(agent.Options{Sources: []capture.Source{mem}, Model: m, Lossless: true, Sink: &events})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	found := false
	for line := range strings.Lines(events.String()) {
		if !json.Valid([]byte(line)) {
			t.Fatalf("not JSON: %s", line)
		}
		found = found || strings.Contains(line, `"a\"b\\c{x=\"1\"} ü`)
	}
	_, text := get(t, a.Handler(), "/metrics")
	if !found || !strings.Contains(text, `label="a\"b\\c{x=\"1\"} ü`) {
		t.Errorf("the names are not in the events (%v) or metrics:\n%.2000s", found, text)
	}
}

// A draining agent is not healthy, nor is one whose worker stands still.
func TestHealth(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	src := generate(func(uint64, *capture.Frame) error { return capture.ErrEmpty })
	a, err := agent.New(agent.Options{Sources: []capture.Source{src}, Model: testModel(t, 0, "class"), Sink: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { _, err := a.Run(ctx); done <- err }()
	var h agent.Health
	if code, body := get(t, a.Handler(), "/healthz"); code != 200 || json.Unmarshal([]byte(body), &h) != nil || h.Digest != a.Model().Digest() {
		t.Errorf("%d %s", code, body)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if code, body := get(t, a.Handler(), "/healthz"); code != 503 || !strings.Contains(body, "draining") {
		t.Errorf("%d %s", code, body)
	}
}

// Without a host, metrics are served on the loopback only.
func TestListen(t *testing.T) {
	l, err := agent.Listen(":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if !strings.HasPrefix(l.Addr().String(), "127.0.0.1:") {
		t.Error(l.Addr())
	}
}

// Quantiles are right to a sixteenth, from nanoseconds to minutes.
func TestQuantiles(t *testing.T) {
	for _, d := range []time.Duration{1, 15, 16, 31, 32, 1000, 12345, time.Millisecond, 1234567, time.Second, 17 * time.Minute} {
		if got := agent.QuantileOf(d, 0.99); got < d.Seconds() || got > d.Seconds()*(1+1./15)+1.01e-9 {
			t.Errorf("%v: %g s", d, got)
		}
	}
}
