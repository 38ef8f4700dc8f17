package agent_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nepcoc/internal/golden"
	"nepcoc/internal/testbundle"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/act"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/drift"
)

// openLabels are those whose values come from bundles, builds and configurations.
var openLabels = []string{"output", "label", "worker", "digest", "bundle", "model_version", "file", "kernels", "version", "revision", "goversion"}

// dryRun are actions for a label that the bundle has.
func dryRun(t testing.TB, b *bundle.Bundle) act.Config {
	t.Helper()
	c, score := act.Defaults, 0.0
	c.Rules = []act.Entry{{Labels: []string{classify.Heads(b)[0].Labels[0]}, MinScore: &score, Do: "drop"}}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return c
}

// docs/metrics.md is what an agent exports: `go test ./runtime/agent -run TestMetricsReference -update` writes it. An agent on
// an interface, with every kind of output, exports each metric that there is.
func TestMetricsReference(t *testing.T) {
	b := must(testbundle.EveryKind(0))
	calib, _ := load(filepath.Join(testfiles.Root(t), "examples", "testbed", "calib.pcap"))
	describe(t, b, calib)
	m, err := agent.NewModel(b)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	src := generate(func(n uint64, f *capture.Frame) error {
		if n == 10_000 {
			cancel()
			return capture.ErrEmpty
		}
		f.Data, f.Time = udp(uint32(n)%100, 400), int64(n)*1e6
		if n == 1 {
			f.Data = udp(1000, 1) // stays undecided
		}
		return nil
	})
	a, err := agent.New(agent.Options{Sources: []capture.Source{src}, Model: m, Sink: io.Discard, Drift: &drift.Options{Flows: 64, Windows: 1, Bound: 1},
		Actions: &agent.Actions{Config: dryRun(t, b)},
		Keep:    &agent.KeepConfig{To: filepath.Join(t.TempDir(), "unknown.pcap"), Size: 1 << 20, Files: 1}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Run(ctx); err != nil {
		t.Fatal(err)
	}
	families, err := a.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	out.WriteString("# Metrics\n\nWhat `nepcod run` serves at `/metrics` (`metrics.listen`, `--metrics`), in Prometheus' form. Names, types and labels stay.\n" +
		"This page is written by a test (`go test ./runtime/agent -run TestMetricsReference -update`), from what an agent exports. A dashboard for Grafana is\n" +
		"`packaging/grafana/nepcod.json`, alert rules for Prometheus are `packaging/prometheus/nepcod.rules.yml`.\n\n" +
		"| metric | type | labels | what |\n|---|---|---|---|\n")
	var names []string
	for _, f := range families {
		name := f.GetName()
		names = append(names, name)
		values := map[string][]string{}
		for _, x := range f.GetMetric() {
			for _, l := range x.GetLabel() {
				if !slices.Contains(values[l.GetName()], l.GetValue()) {
					values[l.GetName()] = append(values[l.GetName()], l.GetValue())
				}
			}
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() { // sorted by name
			s := "`" + l.GetName() + "`"
			if !slices.Contains(openLabels, l.GetName()) {
				v := values[l.GetName()]
				slices.Sort(v)
				s += ": " + strings.Join(v, ", ")
			}
			labels = append(labels, s)
		}
		typ := strings.ToLower(f.GetType().String())
		if want := map[bool]string{true: "counter"}[strings.HasSuffix(name, "_total")]; want != "" && typ != want || want == "" && typ == "counter" {
			t.Errorf("%s is a %s", name, typ)
		}
		fmt.Fprintf(&out, "| `%s` | %s | %s | %s |\n", name, typ, strings.Join(labels, "; "), f.GetHelp())
	}
	for _, name := range agent.MetricNames() {
		if !slices.Contains(names, name) {
			t.Errorf("%s is not exported by an agent of which all is asked", name)
		}
	}
	golden.File(t, filepath.Join(testfiles.Root(t), "docs", "metrics.md"), out.Bytes())
}
