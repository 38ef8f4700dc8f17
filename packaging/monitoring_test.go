package packaging

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"nepcoc/internal/testfiles"
)

// metric is a row of docs/metrics.md, or of docs/fleet-page.md: tests of the agent, of package fleet and of nepcof hold them to what is exported.
type metric struct {
	typ    string
	labels map[string][]string // to the values that there are, nil where they are open
}

func metrics(t *testing.T) map[string]metric {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(testfiles.Root(t), "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]metric{}
	label := regexp.MustCompile("^`(\\w+)`(?:: (.*))?$")
	for _, row := range regexp.MustCompile("(?m)^\\| `(nepcod_\\w+)` \\| (\\w+) \\| (.*?) \\| ").FindAllStringSubmatch(string(text), -1) {
		m := metric{row[2], map[string][]string{}}
		for _, l := range strings.Split(row[3], "; ") {
			if l := label.FindStringSubmatch(l); l != nil {
				m.labels[l[1]] = nil
				if l[2] != "" {
					m.labels[l[1]] = strings.Split(l[2], ", ")
				}
			}
		}
		all[row[1]] = m
	}
	if len(all) < 30 {
		t.Fatalf("%d metrics", len(all))
	}
	return all
}

// fleetMetrics are those of hubs and sinks: names and labels, and counters by how they are called.
func fleetMetrics(t *testing.T) map[string]metric {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(testfiles.Root(t), "docs", "fleet-page.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]metric{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`nepcof_[^|]*) \\|([^|]*)\\| (.*) \\|$").FindAllStringSubmatch(string(text), -1) {
		labels := map[string][]string{}
		for _, l := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(row[2], -1) {
			labels[l[1]] = nil
		}
		for label, values := range map[string]string{"phase": "idle, fetching, placed, running, refused, other, silent, never", "why": "agent, drift, drops, lines", "state": "running, waiting, halted, returning, done, returned"} {
			if _, ok := labels[label]; ok {
				labels[label] = strings.Split(values, ", ")
			}
		}
		for _, name := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(row[1], -1) {
			typ := "gauge"
			if strings.HasSuffix(name[1], "_total") {
				typ = "counter"
			}
			all[name[1]] = metric{typ, labels}
		}
	}
	if len(all) < 17 {
		t.Fatalf("%d metrics", len(all))
	}
	return all
}

var (
	selector = regexp.MustCompile(`(nepco[df]_\w+)(?:\{([^}]*)\})?(\[)?`)
	matcher  = regexp.MustCompile(`(\w+)(=~|!~|!=|=)"((?:[^"\\]|\\.)*)"`)
	grouping = regexp.MustCompile(`\b(?:by|on|group_left) \(([\w, ]*)\)`)
	legend   = regexp.MustCompile(`\{\{\s*(?:\$labels\.)?(\w+)\s*\}\}`)
)

// given are labels that a scrape adds.
var given = []string{"job", "instance"}

// checkExpr fails where a query names a metric that no agent exports, a label that it does not have, or a value that the label never
// has, takes the rate of a gauge, or groups by a label that none of its metrics has. It returns the metrics, and
// their labels.
func checkExpr(t *testing.T, all map[string]metric, where, expr string) (used, labels []string) {
	t.Helper()
	labels = slices.Clone(given)
	for _, s := range selector.FindAllStringSubmatch(expr, -1) {
		name := s[1]
		m, ok := all[name]
		if !ok {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				if base, cut := strings.CutSuffix(name, suffix); cut && all[base].typ == "histogram" {
					name, m, ok = base, metric{"counter", all[base].labels}, true
					labels = append(labels, "le")
				}
			}
		}
		if !ok {
			t.Errorf("%s: no agent exports %s", where, name)
			continue
		}
		used = append(used, name)
		if (s[3] != "") != (m.typ == "counter") {
			t.Errorf("%s: %s is a %s: %s", where, name, m.typ, expr)
		}
		for l := range m.labels {
			labels = append(labels, l)
		}
		for _, c := range matcher.FindAllStringSubmatch(s[2], -1) {
			values, ok := m.labels[c[1]]
			if !ok {
				if !slices.Contains(given, c[1]) {
					t.Errorf("%s: %s has no label %s", where, name, c[1])
				}
				continue
			}
			fits := func(v string) bool { return v == c[3] }
			if strings.HasSuffix(c[2], "~") {
				fits = regexp.MustCompile("^(?:" + c[3] + ")$").MatchString
			}
			if values != nil && !slices.ContainsFunc(values, fits) {
				t.Errorf("%s: %s never has %s", where, name, c[0])
			}
		}
	}
	if used == nil && !strings.HasPrefix(expr, "up{") {
		t.Errorf("%s uses no metric: %s", where, expr)
	}
	for _, g := range grouping.FindAllStringSubmatch(expr, -1) {
		for _, l := range strings.Split(g[1], ", ") {
			if l != "" && !slices.Contains(labels, l) {
				t.Errorf("%s: no metric of %s has the label %s", where, expr, l)
			}
		}
	}
	return used, labels
}

// The dashboard asks for metrics that agents export, each of them, and by labels that they have.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile("grafana/nepcod.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		UID, Title string
		Panels     []struct {
			ID          int
			Type, Title string
			GridPos     struct{ X, Y, W, H int }
			Targets     []struct{ Expr, LegendFormat string }
		}
	}
	if err := json.Unmarshal(text, &d); err != nil || d.UID == "" || d.Title == "" {
		t.Fatal(err)
	}
	all := metrics(t)
	shown, ids := map[string]bool{}, map[int]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.Title == "" || p.GridPos.X+p.GridPos.W > 24 || p.GridPos.W == 0 {
			t.Errorf("panel %d, %q, has another's id, no title, or a wrong place", p.ID, p.Title)
		}
		ids[p.ID] = true
		if (p.Type == "row") != (len(p.Targets) == 0) {
			t.Errorf("panel %q shows nothing", p.Title)
		}
		for _, q := range p.Targets {
			used, labels := checkExpr(t, all, p.Title, q.Expr)
			for _, name := range used {
				shown[name] = true
			}
			for _, l := range legend.FindAllStringSubmatch(q.LegendFormat, -1) {
				if !slices.Contains(labels, l[1]) {
					t.Errorf("%s: the legend has the label %s, the query has not", p.Title, l[1])
				}
			}
		}
	}
	for name := range all {
		// Quantiles since the start are in the histograms, too.
		if !shown[name] && !strings.HasSuffix(name, "_quantile_seconds") {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
}

// Alert rules ask for metrics that agents export, and say what it means and what to do: one for each kind of problem.
func TestAlertRules(t *testing.T) {
	all := metrics(t)
	kinds := checkRules(t, "prometheus/nepcod.rules.yml", all)
	for _, kind := range all["nepcod_problem"].labels["kind"] {
		if !strings.Contains(kinds, `nepcod_problem{kind="`+kind+`"} == 1`) {
			t.Errorf("no rule for problems of kind %s", kind)
		}
	}
}

// Those of a fleet ask for what hubs and sinks export.
func TestFleetAlertRules(t *testing.T) {
	exprs := checkRules(t, "prometheus/nepcof.rules.yml", fleetMetrics(t))
	for _, want := range []string{`nepcof_cards{phase="silent"}`, `nepcof_cards{phase="refused"}`, "nepcof_connected == 0", "nepcof_leads", `state=~"halted|returning"`, "nepcof_sink_lines_missing_total", "nepcof_sink_lag_messages"} {
		if !strings.Contains(exprs, want) {
			t.Errorf("no rule for %s", want)
		}
	}
}

// checkRules holds a file of rules to the metrics that there are, and returns its expressions.
func checkRules(t *testing.T, name string, all map[string]metric) (exprs string) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var f struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	d := yaml.NewDecoder(strings.NewReader(string(text)))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, r := range f.Groups[0].Rules {
		if names[r.Alert] || r.Annotations["summary"] == "" || !slices.Contains([]string{"info", "warning", "critical"}, r.Labels["severity"]) {
			t.Errorf("%s: is there twice, or has no summary or severity", r.Alert)
		}
		names[r.Alert] = true
		_, labels := checkExpr(t, all, r.Alert, r.Expr)
		for _, l := range legend.FindAllStringSubmatch(r.Annotations["summary"], -1) {
			if !slices.Contains(labels, l[1]) {
				t.Errorf("%s: the summary has the label %s, the query has not", r.Alert, l[1])
			}
		}
		exprs += r.Expr + "\n"
	}
	return exprs
}
