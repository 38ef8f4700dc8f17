package report_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"html"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"nepcoc/compiler"
	"nepcoc/compiler/report"
	"nepcoc/compiler/robust"
	"nepcoc/compiler/verify"
	"nepcoc/internal/cli"
	"nepcoc/internal/golden"
	"nepcoc/internal/testbundle"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/drift"
	"nepcoc/runtime/traffic"
)

func examples(t *testing.T, elem ...string) string {
	return filepath.Join(append([]string{testfiles.Root(t), "examples"}, elem...)...)
}

// figures are those of the demo's report.
var figures = []string{"confusion-0", "classes-0", "reliability-0", "coverage-0", "trade-0", "evidence-0", "fields-0", "robust-bytes-0", "robust-packets-0", "robust-classes-0", "drift-features", "drift-labels", "leaks-table", "steps", "cost-steps", "checks"}

// demo is the report on the repository's own model, made once.
var demo struct {
	sync.Once
	r   *report.Report
	b   *bundle.Bundle
	err error
}

func demoReport(t *testing.T) *report.Report {
	t.Helper()
	if testing.Short() {
		t.Skip("compiles the example and runs it on 441 flows")
	}
	demo.Do(func() {
		demo.r, demo.err = makeDemo(t)
	})
	if demo.err != nil {
		t.Fatal(demo.err)
	}
	return demo.r
}

func makeDemo(t *testing.T) (*report.Report, error) {
	res, err := compileDemo(t, 0)
	if err != nil {
		return nil, err
	}
	demo.b = res.Bundle
	file := filepath.Join(t.TempDir(), "demo.nepco")
	unknown := 0.4
	res.Bundle.Manifest.Outputs[0].UnknownThreshold = &unknown
	data, err := bundle.Encode(res.Bundle, bundle.Options{})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, data, 0o666); err != nil {
		return nil, err
	}
	return report.Make(report.Options{Verify: verify.Options{
		Bundle: file, Model: examples(t, "model", "demo.onnx"), Pcap: examples(t, "testbed", "test.pcap"), Labels: examples(t, "testbed", "test.csv"),
		MinAgreement: 0.99, Random: 16, Robust: true, RobustFlows: 48, Seed: 1,
	}})
}

// compileDemo compiles the repository's own model; knownPass is compile's.
func compileDemo(t *testing.T, knownPass float64) (*compiler.Result, error) {
	names, err := os.ReadFile(examples(t, "model", "demo.labels.txt"))
	if err != nil {
		return nil, err
	}
	contract, err := os.ReadFile(examples(t, "model", "demo.contract.yaml"))
	if err != nil {
		return nil, err
	}
	c, err := traffic.Parse("demo.contract.yaml", contract)
	if err != nil {
		return nil, err
	}
	return compiler.Compile(t.Context(), compiler.Options{
		Model: examples(t, "model", "demo.onnx"), Calib: examples(t, "testbed", "calib.pcap"), Contract: &c, Labels: [][]string{strings.Fields(string(names))},
		MaxDisagreement: compiler.DefaultMaxDisagreement, Method: "minmax", KnownPass: knownPass,
	})
}

// writeHTML is the report as a file.
func writeHTML(t *testing.T) string {
	t.Helper()
	if file := os.Getenv("NEPCOC_REPORT"); file != "" { // look at another one
		return file
	}
	var b bytes.Buffer
	if err := demoReport(t).HTML(&b); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "report.html")
	if err := os.WriteFile(file, b.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	return file
}

// stable is the demo's report without what depends on where it is made.
func stable(t *testing.T) report.Report {
	r := *demoReport(t)
	r.Bundle.File, r.Bundle.Kernel, r.Bundle.Tool, r.Tool = "demo.nepco", "any", "nepcoc", "nepcoc"
	r.Bundle.Digest = strings.Repeat("0", 64) // another test holds it
	r.Captures, r.Labels = []string{"test.pcap"}, "test.csv"
	return r
}

// clone makes r one that can be changed.
func clone(t *testing.T, r *report.Report) {
	t.Helper()
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	*r = report.Report{}
	if err := json.Unmarshal(data, r); err != nil {
		t.Fatal(err)
	}
}

// The report of the example, in words and for programs.
func TestGolden(t *testing.T) {
	r := stable(t)
	var text bytes.Buffer
	r.Text(&text)
	golden.File(t, filepath.Join("testdata", "demo.txt"), text.Bytes())
	// Of lists, some rows: all are in the text.
	clone(t, &r)
	o := &r.Outputs[0]
	o.Wrong, o.PerClass, o.Confusion, o.Coverage = o.Wrong[:3], o.PerClass[:3], o.Confusion[:2], o.Coverage[:3]
	o.Evidence = o.Evidence[:1]
	r.Lint.Findings, r.Sees.Choices, r.Cost.Steps, r.Steps, r.Robust.Outputs[0].Rows = r.Lint.Findings[:2], r.Sees.Choices[:3], r.Cost.Steps[:2], r.Steps[:2], r.Robust.Outputs[0].Rows[:1]
	w := &r.Drift.Whole
	w.Distances, w.Labels = w.Distances[:2], w.Labels[:2]
	var b bytes.Buffer
	if err := cli.JSON(&b, r); err != nil {
		t.Fatal(err)
	}
	golden.File(t, filepath.Join("testdata", "demo.json"), b.Bytes())
	golden.Orphans(t, "testdata", "demo.txt", "demo.json")
}

// Figures are those that a second reading of the same verdicts gives, and add up.
func TestFigures(t *testing.T) {
	r := demoReport(t)
	o := &r.Outputs[0]
	labelled, right, unknown := 0, 0, 0
	for k, row := range o.Confusion {
		n := 0
		for j, x := range row {
			n += x
			if j == k {
				right += x
			}
		}
		unknown += row[len(o.Classes)]
		if labelled += n; n != o.PerClass[k].Support || o.PerClass[k].Right > n {
			t.Errorf("%s: %d flows in the matrix, support %d, right %d", o.Classes[k], n, o.PerClass[k].Support, o.PerClass[k].Right)
		}
	}
	if labelled != o.Integer.Labelled || unknown != o.NoLabel || unknown == 0 && float64(right) != math.Round(o.Integer.Accuracy*float64(labelled)) {
		t.Errorf("the matrix has %d flows, %d right, %d unknown; the score %+v", labelled, right, unknown, *o.Integer)
	}
	if unknown == 0 {
		t.Error("no verdict is unknown, with a threshold of 0.4")
	}
	flips := map[string]int{}
	for _, row := range r.Robust.Outputs[0].Rows {
		flips[row.Kind] += row.Flipped
	}
	if flips[robust.KindDecisive] < 3*flips[robust.KindRandom] {
		t.Errorf("the most decisive bytes flip %d verdicts, random ones %d", flips[robust.KindDecisive], flips[robust.KindRandom])
	}
	if n := labelled - int(math.Round(o.Integer.Accuracy*float64(labelled))); len(o.Wrong) != n {
		t.Errorf("%d wrong flows, %d expected", len(o.Wrong), n)
	}
	if !slices.IsSortedFunc(o.Wrong, func(a, b report.Flow) int { return cmp.Compare(*b.Score, *a.Score) }) {
		t.Error("wrong flows are not ordered by score")
	}
	macro, present := 0.0, 0
	for _, c := range o.PerClass {
		if c.Support > 0 {
			present++
			macro += *c.F1
		}
	}
	if macro /= float64(present); math.Abs(macro-o.Integer.MacroF1) > 1e-5 {
		t.Errorf("the classes' F1 have a mean of %g, macro-F1 is %g", macro, o.Integer.MacroF1)
	}
	flows, ece := 0, 0.0
	for _, b := range o.Reliability {
		if b.Flows == 0 {
			continue
		}
		flows += b.Flows
		ece += float64(b.Flows) * math.Abs(b.Accuracy-b.Score) / float64(labelled)
		if !(b.From <= b.Score && b.Score <= b.To && b.Low <= b.Accuracy && b.Accuracy <= b.High) {
			t.Errorf("bin %+v", b)
		}
	}
	if flows != labelled || math.Abs(ece-*o.ECE) > 1e-5 {
		t.Errorf("bins of %d flows, error %g; ECE %g", flows, ece, *o.ECE)
	}
	if c := o.Coverage; c[0].Flows != labelled || c[0].Coverage != 1 || math.Abs(c[0].Accuracy-o.Integer.Accuracy) > 1e-5 {
		t.Errorf("with no threshold: %+v", c[0])
	}
	for k := 1; k < len(o.Coverage); k++ {
		if o.Coverage[k].Flows > o.Coverage[k-1].Flows {
			t.Errorf("a higher threshold keeps more: %+v", o.Coverage[k])
		}
	}
}

// The report's drift is what nepcoc drift says of the same capture, down to each distance, and every form of it has that.
func TestDrift(t *testing.T) {
	r := demoReport(t)
	src, err := capture.OpenAll(r.Captures)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	want, _, err := drift.Compare(demo.b, src, drift.Defaults, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(r.Drift, want) || want.Calibration != 210 || int(want.Whole.Flows) != r.Flows {
		t.Errorf("the report has %+v, want %+v", r.Drift, want)
	}
	one := *r // too little to tell
	alone := *r.Drift
	one.Drift, alone.TooFew, alone.Whole.Distances = &alone, true, []drift.Distance{{Feature: "tokens", Bits: 0.5, Bound: 1.25, Flows: 1, Few: true}}
	for name, s := range forms(t, &one) {
		for _, want := range []string{"ot told", "too few flows"} {
			if !strings.Contains(s, want) {
				t.Errorf("the %s of too few flows does not say %q", name, want)
			}
		}
		for _, bad := range []string{"They are.", "traffic: no drift", "Drift none"} {
			if strings.Contains(strings.Join(strings.Fields(s), " "), bad) {
				t.Errorf("the %s of too few flows says %q", name, bad)
			}
		}
	}
	some := alone // too little to tell of some
	one.Drift, some.TooFew, some.Whole.Distances = &some, false, append(slices.Clone(r.Drift.Whole.Distances), alone.Whole.Distances...)
	for name, s := range forms(t, &one) {
		if s = strings.Join(strings.Fields(s), " "); !strings.Contains(s, fmt.Sprintf("none in %d of %d", len(some.Whole.Distances)-1, len(some.Whole.Distances))) {
			t.Errorf("the %s does not say of how many features its summary is", name)
		}
	}
	foreign := *r // another network's flows, and what they may be caused by
	d := *r.Drift
	foreign.Drift, d.Drift, d.Whole.Causes = &d, true, []string{"one_sided"}
	d.Whole.Distances = slices.Clone(d.Whole.Distances)
	d.Whole.Distances[0].Bits = 0.9876
	var page, text bytes.Buffer
	if err := foreign.HTML(&page); err != nil {
		t.Fatal(err)
	}
	foreign.Text(&text)
	for name, s := range map[string]string{"page": html.UnescapeString(page.String()), "text": text.String()} {
		for _, want := range []string{"0.9876", drift.Cause("one_sided"), "441 flows against 210 of calibration", "1 of 12"} {
			if !strings.Contains(s, want) {
				t.Errorf("the %s does not say %q", name, want)
			}
		}
	}
}

// forms are a report's page, as text, and its text.
func forms(t *testing.T, r *report.Report) map[string]string {
	t.Helper()
	var page, text bytes.Buffer
	if err := r.HTML(&page); err != nil {
		t.Fatal(err)
	}
	r.Text(&text)
	return map[string]string{"page": html.UnescapeString(page.String()), "text": text.String()}
}

// A summary says what its figures stand on: flows that get no label and still count, the classes that a mean is of, of which output the decisive bytes are,
// what flatters. Nothing is denied that only wasn't asked for.
func TestBasis(t *testing.T) {
	r := *demoReport(t)
	clone(t, &r)
	o := &r.Outputs[0]
	o.NoLabel, o.Integer.Present, o.KnownPass = 7, 3, 0.99
	o.Known = &verify.KnownStats{LeftOut: []verify.LeftOut{{Class: "DNS", Flows: 19, Apart: verify.Apart{AUROC: 0.99, FPR95: 0.01}}}}
	second := *o
	second.Name, second.Known = "second", &verify.KnownStats{}
	r.Outputs = append(r.Outputs, second)
	other := r.Robust.Outputs[0]
	other.Name = "second"
	r.Robust.Outputs = append(r.Robust.Outputs, other)
	for name, s := range forms(t, &r) {
		for _, want := range []string{"counting 7 flows that get no label by the class that they would have", "classes: 3 of 22", "verdict of logits", "Flips of logits, 1 % of bytes", "flatters"} {
			if !strings.Contains(s, want) {
				t.Errorf("the %s does not say %q", name, want)
			}
		}
		if strings.Contains(s, "No prototypes in this bundle") {
			t.Errorf("the %s denies the bundle's prototypes where labels are missing", name)
		}
	}
}

// strangers puts a text into every name and word of a report.
func strangers(v reflect.Value, text string) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			strangers(v.Elem(), text)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				strangers(v.Field(i), text)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			strangers(v.Index(i), text)
		}
	case reflect.String:
		if v.Len() > 0 {
			v.SetString(text)
		}
	}
}

// Whatever names say, they are text: in elements, attributes, styles and figures.
func TestNamesAreText(t *testing.T) {
	r := *demoReport(t)
	clone(t, &r)
	kind := r.Outputs[0].Kind
	rows := slices.Clone(r.Robust.Outputs[0].Rows)
	strangers(reflect.ValueOf(&r), `"'></svg></style><script src="https://example.org/x.js">alert(1)</script><img src=x onerror=alert(2)>&`)
	r.Outputs[0].Kind = kind
	for i := range rows {
		r.Robust.Outputs[0].Rows[i].Kind = rows[i].Kind
	}
	var b bytes.Buffer
	if err := r.HTML(&b); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"<script", "<img", "</svg></style>", `"'>`} {
		if at := bytes.Index(b.Bytes(), []byte(bad)); at >= 0 {
			t.Errorf("%q stands in the page: ...%s...", bad, b.Bytes()[max(0, at-80):at+40])
		}
	}
}

// The page is one file of bearable size that names nothing outside of itself.
func TestOneFile(t *testing.T) {
	var b bytes.Buffer
	if err := demoReport(t).HTML(&b); err != nil {
		t.Fatal(err)
	}
	if b.Len() > 2<<20 {
		t.Errorf("%d bytes", b.Len())
	}
	for _, bad := range regexp.MustCompile(`(?i)(src|href|url|@import)\s*[=(]\s*["']?(https?:|//|file:|[a-z]+\.)`).FindAllString(b.String(), 5) {
		t.Errorf("the page names %q", bad)
	}
	if again := new(bytes.Buffer); demoReport(t).HTML(again) != nil || !bytes.Equal(again.Bytes(), b.Bytes()) {
		t.Error("the same report gave another page")
	}
}

// A report says what makes verdicts unknown, and of how many, whatever that is: not that no threshold is set where a distance bounds what is known.
func TestUnknownWords(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the example")
	}
	res, err := compileDemo(t, 0.9)
	if err != nil {
		t.Fatal(err)
	}
	half := 0.5
	for threshold, want := range map[*float64]string{nil: "Flows farther from what is known than 90.0 % of known traffic are unknown: ", &half: "Verdicts with a score below 0.5, and flows farther "} {
		res.Bundle.Manifest.Outputs[0].UnknownThreshold = threshold
		file := filepath.Join(t.TempDir(), "known.nepco")
		if err := testbundle.Write(file, res.Bundle, bundle.Options{}); err != nil {
			t.Fatal(err)
		}
		r, err := report.Make(report.Options{Verify: verify.Options{Bundle: file, Pcap: examples(t, "testbed", "calib.pcap")}})
		if err != nil {
			t.Fatal(err)
		}
		var page, text bytes.Buffer
		if err := r.HTML(&page); err != nil {
			t.Fatal(err)
		}
		r.Text(&text)
		for name, s := range map[string]string{"page": page.String(), "text": text.String()} {
			if !strings.Contains(s, want) || strings.Contains(s, "No threshold is set") {
				t.Errorf("the %s lacks %q", name, want)
			}
		}
		if r.Outputs[0].Unknown == 0 {
			t.Error("nothing is unknown")
		}
	}
}

// What is too little for a figure is said in the figure's place. Of several labels there is no score of the verdict.
func TestTooFew(t *testing.T) {
	r := *demoReport(t)
	clone(t, &r)
	o := &r.Outputs[0]
	o.ECE, o.Wrong = nil, []report.Flow{{Number: 1, Verdict: []string{"DNS", "TLS"}}}
	o.Known = &verify.KnownStats{TooFew: []string{"SMTP", "SSH"}}
	r.Robust.Outputs[0].Rows[0].Flows, r.Robust.Outputs[0].Rows[0].Flipped = 9, 0
	for name, s := range forms(t, &r) {
		s = strings.Join(strings.Fields(s), " ")
		for _, want := range []string{"fewer than 10 flows tell nothing: SMTP, SSH.", "alibration error not told: too few flows"} {
			if !strings.Contains(s, want) {
				t.Errorf("the %s does not say %q", name, want)
			}
		}
		if n := strings.Count(s, "not told: too few flows"); n < 3 { // calibration error twice, flips once
			t.Errorf("the %s says %d times that there are too few flows", name, n)
		}
		if _, row, _ := strings.Cut(s, "DNS, TLS"); !strings.Contains(row[:min(len(row), 40)], "–") {
			t.Errorf("the %s has a score that there is none of: %s", name, row[:min(len(row), 40)])
		}
	}
}

// Outputs of every kind, captures without labels and bundles without a model's file have reports, which say what they have nothing on.
func TestKinds(t *testing.T) {
	b, err := testbundle.EveryKind(2)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "kinds.nepco")
	if err := testbundle.Write(file, b, bundle.Options{}); err != nil {
		t.Fatal(err)
	}
	calib := examples(t, "testbed", "calib.pcap")
	r, err := report.Make(report.Options{Verify: verify.Options{Bundle: file, Pcap: calib, Foreign: []string{calib}, Robust: true, RobustFlows: 8}})
	if err != nil {
		t.Fatal(err)
	}
	var page, text bytes.Buffer
	if err := r.HTML(&page); err != nil {
		t.Fatal(err)
	}
	r.Text(&text)
	if len(r.Outputs) != len(b.Manifest.Outputs) {
		t.Errorf("%d outputs of %d", len(r.Outputs), len(b.Manifest.Outputs))
	}
	var missing []string
	for _, m := range r.Missing {
		missing = append(missing, m.What)
	}
	for _, want := range []string{"accuracy", "float against integer", "drift", "how well foreign traffic is told apart"} {
		if !strings.Contains(strings.Join(missing, " "), want) {
			t.Errorf("nothing says that %s is missing: %v", want, missing)
		}
		for name, s := range map[string]string{"page": page.String(), "text": text.String()} {
			if !strings.Contains(s, want) {
				t.Errorf("the %s does not say that %s is missing", name, want)
			}
		}
	}
	if r.Lint != nil || r.Outputs[0].Integer != nil || r.Outputs[0].ECE != nil || r.Outputs[0].Confusion != nil {
		t.Error("figures without labels")
	}
}
