package verdict

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"nepcoc/internal/fieldtable"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/flow"
)

// everything are records that have, together, all that can be written, each with and without it.
func everything(t *testing.T) (list []*Record) {
	one := Verdict{Output: "o", Label: "TLS", Class: 1, Score: 0.5, Margin: 0.25, Alert: true, AlertID: 7}
	unknown := one
	unknown.Unknown = true
	insufficient := one
	insufficient.Insufficient = true
	insufficient.Placed, insufficient.Belonging = true, 0.25
	multi := Verdict{Output: "m", Multi: true, Given: []Given{{Label: "a", Class: 3, Score: 0.5, Alert: true, AlertID: 9}}}
	none := Verdict{Output: "n", Multi: true}
	for _, verdicts := range [][]Verdict{{one}, {unknown}, {insufficient}, {multi}, {one, unknown, insufficient, multi, none}, {none}} {
		for i := range 6 {
			r := record(t)
			r.Verdicts = slices.Clone(verdicts)
			if i%2 == 1 {
				r.Key = key(t, 17, "[2001:db8::1]:5", "[2001:db8::2]:4")
				r.VLAN = [2]uint16{7, uint16(i) / 2}
				r.Level, r.Key.Tunnel = 1, uint32(i)
			}
			r.Source = NewSource("", "abc", "")
			if i > 2 {
				r.Source, r.Latency = NewSource("b", "abc", "v"), time.Microsecond
				for k := range r.Verdicts {
					r.Verdicts[k].Logits, r.Verdicts[k].Scaled = []int32{1, -2}, []float64{0.5, 1}
				}
			}
			if i == 5 || i == 2 {
				for k := range r.Verdicts {
					r.Verdicts[k].Why = []Why{
						{Packet: 2, Side: "client", Offset: 40, Length: 4, Stream: -1, Share: 0.5}, {Side: "server", Stream: 0, Length: 1, Share: 0.25}, {Fact: "length", Share: 0.1},
					}
				}
			}
			if i == 4 {
				r.Marks = flow.Incomplete | flow.Anomaly | flow.MarkInsufficient
			}
			list = append(list, r)
		}
	}
	return list
}

// actions are those that have, together, all that can be written.
func actions(t *testing.T) []*Action {
	begin := &Action{
		Key: key(t, 6, "192.0.2.1:5", "192.0.2.2:4"), First: 5, Time: 7, VLAN: [2]uint16{3}, Source: NewSource("b", "d", "v"), Event: "begin", Kind: "drop", Backend: "flower", Label: "Tor", Score: 0.75, Limit: 600,
		Hardware: "partly", Latency: 1e-5, Held: -1,
	}
	end := *begin
	end.Event, end.Latency, end.Held, end.Why, end.DryRun, end.VLAN, end.Source = "end", -1, 3, "time", true, [2]uint16{}, nil
	refused := *begin
	refused.Event, refused.Latency, refused.Error = "refused", -1, "no \"room\""
	restart := &Action{Key: key(t, 17, "[2001:db8::1]:5", "[2001:db8::2]:4"), ID: 99, Time: 7, Event: "end", Kind: "mark", Backend: "nftables", Latency: -1, Held: -1, Why: "restart"}
	return []*Action{begin, &end, &refused, restart}
}

// An action's event has the number of the verdict's own, or the one that it was given.
func TestActionID(t *testing.T) {
	r := record(t)
	a := Action{Key: r.Key.Reverse(), First: r.First}
	if a.FlowID() != r.flowID() {
		t.Error("another number")
	}
	if a.ID = 99; a.FlowID() != 99 || !bytes.Contains(a.AppendEVE(nil), []byte(`"flow_id":99,`)) {
		t.Error(a.FlowID())
	}
}

// docs/verdicts.md has every field that is written, of its type, where it says and when; and none that isn't.
func TestFields(t *testing.T) {
	doc := filepath.Join(testfiles.Root(t), "docs", "verdicts.md")
	table := fieldtable.Read(t, doc)
	lines := map[string][][]byte{}
	eve := func(r *Record, label string) {
		for line := range bytes.Lines(r.AppendEVE(nil)) {
			kind := regexp.MustCompile(`"event_type":"(\w+)"`).FindSubmatch(line)
			lines[string(kind[1])] = append(lines[string(kind[1])], line)
		}
		lines["end"] = append(lines["end"], r.AppendEVEEnd(nil, &End{Label: label, Alerted: label == ""}))
	}
	for i, r := range everything(t) {
		lines["json"] = append(lines["json"], r.AppendJSON(nil))
		for k := range r.Verdicts {
			r.Verdicts[k].Logits, r.Verdicts[k].Scaled = nil, nil // the agent writes none
		}
		eve(r, []string{"", "TLS"}[i%2])
		r.Totals = true
		eve(r, "TLS")
	}
	for _, a := range actions(t) {
		lines["action"] = append(lines["action"], a.AppendEVE(nil))
	}
	fieldtable.Check(t, fieldtable.Read(t, filepath.Join(testfiles.Root(t), "docs", "actions.md")), "action", true, lines["action"])
	for _, kind := range []string{"flow", "alert", "nepco", "end", "json"} {
		fieldtable.Check(t, table, kind, kind != "json", lines[kind])
	}

	// The names of reasons and marks.
	text, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	row := func(path string) string {
		m := regexp.MustCompile("(?m)^\\| `" + regexp.QuoteMeta(path) + "` .*").Find(text)
		return string(m)[len(path):]
	}
	var reasons []string
	for r := range flow.NumReasons {
		reasons = append(reasons, r.String())
	}
	for path, want := range map[string][]string{"nepco.decided": reasons, "nepco.incomplete[]": flow.Incomplete.Names(), "nepco.anomaly[]": flow.Anomaly.Names()} {
		_, what, _ := strings.Cut(row(path), "` |")
		var got []string
		for _, m := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(what, -1) {
			got = append(got, m[1])
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: the document names %v, there are %v", path, got, want)
		}
	}
}

// The records of TestFields write whatever the code has a name for: no field stands in a branch that they don't take.
func TestFieldsAreAll(t *testing.T) {
	var written []byte
	for _, r := range everything(t) {
		written = r.AppendEVEEnd(r.AppendEVE(r.AppendJSON(written)), &End{Label: "x"})
	}
	for _, a := range actions(t) {
		written = a.AppendEVE(written)
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	name := regexp.MustCompile(`"(\w+)":`)
	n := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(x ast.Node) bool {
			lit, ok := x.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			s, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range name.FindAllString(s, -1) {
				if n++; !bytes.Contains(written, []byte(m)) {
					t.Errorf("%s: no record writes %s", file, m)
				}
			}
			return true
		})
	}
	if n < 40 {
		t.Errorf("%d names found", n)
	}
}
