package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nepcoc/internal/npzfile"
	"nepcoc/internal/testfiles"
)

func init() {
	for pattern, why := range map[string]string{
		"27-json-nan/*.onnx":       "TestNoNumber compiles it",
		"27-json-nan/*.npz":        "TestNoNumber compares on it",
		"28-expect-mismatch/*.npz": "TestStoredOutputs compares with it",
	} {
		caseElsewhere[pattern] = why
	}
}

// compiled is a bundle of a model, calibrated with arrays.
func compiled(t *testing.T, model, calib string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "model.nepco")
	if o := nepcoc(t, "compile", model, "--calib", calib, "-o", out); o.code != 0 {
		t.Fatalf("compile: exit code %d:\n%s", o.code, o.stderr)
	}
	return out
}

// both runs verify for people and for programs: they judge alike, and JSON is JSON.
func both(t *testing.T, args ...string) (text, js outcome) {
	t.Helper()
	args = append([]string{"verify"}, args...)
	text, js = nepcoc(t, args...), nepcoc(t, append(args, "--json")...)
	if text.code != js.code || text.stderr != js.stderr {
		t.Errorf("text: exit code %d, JSON: %d:\n%s%s", text.code, js.code, text.stderr, js.stderr)
	}
	if js.stderr == "" {
		var r struct {
			OK     *bool
			Checks []struct{ OK bool }
		}
		if err := json.Unmarshal([]byte(js.stdout), &r); err != nil || r.OK == nil {
			t.Fatalf("%v in:\n%s", err, js.stdout)
		}
		all := true
		for _, c := range r.Checks {
			all = all && c.OK
		}
		if *r.OK != (js.code == 0) || *r.OK != all || all == strings.Contains(text.stdout, "FAILED") {
			t.Errorf("exit code %d, but ok: %v, all checks: %v:\n%s", js.code, *r.OK, all, text.stdout)
		}
	}
	return text, js
}

func (o outcome) says(t *testing.T, code int, want ...string) {
	t.Helper()
	if o.code != code {
		t.Errorf("exit code %d, want %d", o.code, code)
	}
	for _, w := range want {
		if !strings.Contains(o.stdout+o.stderr, w) {
			t.Errorf("does not say %q", w)
		}
	}
	if t.Failed() {
		t.Logf("\n%s%s", o.stdout, o.stderr)
	}
}

// Outputs that another runtime stored beside the inputs are the only link to
// that runtime: they are held to a bound, with the model and without it.
func TestStoredOutputs(t *testing.T) {
	model := testfiles.Path(t, "zoo", "bn_nofold", "model.onnx")
	bundle := compiled(t, model, testfiles.Path(t, "zoo", "bn_nofold", "calib.npz"))
	for _, tc := range []struct {
		name string
		code int
		want string // with the model
	}{
		{"right", 0, "float = stored outputs"}, {"negated", 1, "FAILED"}, {"rolled", 1, "FAILED"}, {"shuffled", 1, "FAILED"},
		{"zeros", 1, "FAILED"}, {"plus1000", 1, "FAILED"},
		{"noname", 1, `noname.npz: array "expect.nosuch" is of no output of the model: it has logits`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			data := testfiles.Path(t, "cases", "28-expect-mismatch", tc.name+".npz")
			text, _ := both(t, bundle, "--model", model, "--tensors", data)
			text.says(t, tc.code, tc.want)
			// Verdicts are all that the integer program alone can be held to: adding a
			// constant changes none.
			code := tc.code
			if tc.name == "plus1000" {
				code = 0
			}
			text, _ = both(t, bundle, "--tensors", data)
			text.says(t, code)
		})
	}
	x, stored := make([]float32, 67*128), make([]float32, 67*6)
	for i := range x {
		x[i] = float32(i*37%256) / 255
	}
	file := func(arrays map[string]npzfile.Array) string {
		path := filepath.Join(t.TempDir(), "x.npz")
		arrays["x"] = npzfile.Array{Shape: []int{67, 1, 128}, Data: x}
		npzfile.Write(t, path, arrays)
		return path
	}
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		stored[8] = float32(bad)
		text, _ := both(t, bundle, "--model", model, "--tensors", file(map[string]npzfile.Array{"expect.logits": {Shape: []int{67, 6}, Data: stored}}))
		text.says(t, 1, `array "expect.logits"`, "[1,2]", "not a number that outputs can be compared with")
	}
	stored[8] = 0
	for name, tc := range map[string]struct {
		arrays map[string]npzfile.Array
		want   string
	}{
		"rows":         {map[string]npzfile.Array{"expect.logits": {Shape: []int{134, 3}, Data: stored}}, "has the shape [134 3]: its first axis must count the 67 samples"},
		"width":        {map[string]npzfile.Array{"expect.logits": {Shape: []int{67, 3}, Data: stored[:201]}}, "has 3 values per sample, the model's output 6"},
		"label name":   {map[string]npzfile.Array{"label.nosuch": {Shape: []int{67}, Data: make([]int64, 67)}}, `array "label.nosuch" is of no output of the model`},
		"label twice":  {map[string]npzfile.Array{"label.logits": {Shape: []int{67}, Data: make([]int64, 67)}, "label": {Shape: []int{67}, Data: make([]int64, 67)}}, `"label" and "label.logits"`},
		"label number": {map[string]npzfile.Array{"label": {Shape: []int{67}, Data: append(make([]int64, 66), 6)}}, "label[66] is 6: output logits has 6 classes"},
	} {
		t.Run(name, func(t *testing.T) {
			text, _ := both(t, bundle, "--tensors", file(tc.arrays))
			text.says(t, 1, tc.want)
		})
	}
	none := make([]int64, 67)
	for i := range none {
		none[i] = -1
	}
	text, _ := both(t, bundle, "--tensors", file(map[string]npzfile.Array{"label": {Shape: []int{67}, Data: none}}))
	text.says(t, 0, "not compared", "accuracy: no sample has a label")
}

// Each output is judged and shown by itself.
func TestSeveralOutputs(t *testing.T) {
	model := testfiles.Path(t, "zoo", "multihead", "model.onnx")
	bundle := compiled(t, model, testfiles.Path(t, "zoo", "multihead", "calib.npz"))
	text, _ := both(t, bundle, "--model", model, "--tensors", testfiles.Path(t, "zoo", "multihead", "eval.npz"), "--min-agreement", "0.97")
	text.says(t, 0, "float = integer of app", "float = integer of cat", "float = stored outputs of app", "float = stored outputs of cat",
		"of app ", "accuracy of cat: ")
	n := 5
	src, label, cat := make([]int64, n*128), make([]int64, n), []int64{0, 1, 2, -1, -1}
	for i := range src {
		src[i] = int64(i * 7 % 251)
	}
	path := filepath.Join(t.TempDir(), "x.npz")
	npzfile.Write(t, path, map[string]npzfile.Array{"src": {Shape: []int{n, 128}, Data: src},
		"label": {Shape: []int{n}, Data: label}, "label.cat": {Shape: []int{n}, Data: cat},
		"expect.cat": {Shape: []int{n, 3}, Data: make([]float32, 3*n)}})
	text, _ = both(t, bundle, "--model", model, "--tensors", path, "--min-agreement", "0")
	text.says(t, 1, "x.npz has no array expect.app")
	var table []string
	for line := range strings.Lines(text.stdout) {
		if f := strings.Fields(line); len(f) > 0 && f[0] == "integer" || strings.Contains(line, "macro-F1") {
			table = append(table, strings.Join(f, " "))
		}
	}
	if len(table) != 4 || !strings.HasPrefix(table[0], "of app ") || !strings.HasSuffix(table[1], " 5 1 of 6") || !strings.HasPrefix(table[2], "of cat ") || !strings.HasSuffix(table[3], " 3 all 3") {
		t.Errorf("accuracy: %q", table)
	}
}

// A figure that is no number is null in JSON, and the judgement is that of the text form.
func TestNoNumber(t *testing.T) {
	for name, code := range map[string]int{
		"dead-branch": 0, "dead-relu": 0, "expect-nan": 1, "head-all-zero": 0, "head-zero": 0, "one-class": 0, "same-flow": 0,
	} {
		t.Run(name, func(t *testing.T) {
			file := func(ext string) string { return testfiles.Path(t, "cases", "27-json-nan", name+ext) }
			bundle := compiled(t, file(".onnx"), file(".cal.npz"))
			text, js := both(t, bundle, "--model", file(".onnx"), "--tensors", file(".ev.npz"))
			text.says(t, code)
			if out := text.stdout + js.stdout; strings.Contains(out, "NaN") || strings.Contains(out, "Inf") {
				t.Errorf("shows a figure that is no number:\n%s", out)
			}
			for line := range strings.Lines(text.stdout) {
				if f := strings.Fields(line); len(f) > 2 && strings.Contains(line, "% of the spread") && len(f[len(f)-5]) > 6 {
					t.Errorf("an error of no spread: %s", line)
				}
			}
		})
	}
}

// What was asked for and not compared is no success.
func TestNothingCompared(t *testing.T) {
	data, err := demo()
	if err != nil {
		t.Fatal(err)
	}
	bundle := filepath.Join(t.TempDir(), "demo.nepco")
	writeFile(t, bundle, data)
	root := testfiles.Root(t)
	model, calib := filepath.Join(root, "examples", "model", "demo.onnx"), filepath.Join(root, "examples", "testbed", "calib")
	nepcoc(t, "verify", bundle, "--model", model).says(t, 2, "--model needs inputs to compare on: give --pcap or --tensors")
	both0 := func(want string, args ...string) {
		t.Helper()
		text, _ := both(t, append([]string{bundle}, args...)...)
		text.says(t, 0, want)
	}
	both0("not compared  float = integer: no model and no inputs given")
	both0("not compared  reference = engine, random tokens: --random 0", "--random", "0")
	both0("not compared  float = integer: no model given", "--pcap", calib+".pcap", "--labels", calib+".csv")
	// A figure over a few flows of many.
	text, err := os.ReadFile(calib + ".csv")
	if err != nil {
		t.Fatal(err)
	}
	few := filepath.Join(t.TempDir(), "few.csv")
	writeFile(t, few, []byte(strings.Join(strings.SplitAfter(string(text), "\n")[:105], "")))
	got, _ := both(t, bundle, "--pcap", calib+".pcap", "--labels", few, "--random", "0")
	got.says(t, 1, "104 of 210 flows", "FAILED  fewer than half; --partial-labels is satisfied with that", "note: 106 flows: no row has the addresses and ports")
	both0("104 of 210 flows", "--pcap", calib+".pcap", "--labels", few, "--random", "0", "--partial-labels")
	nepcoc(t, "verify", bundle, "--partial-labels", "--pcap", calib+".pcap").says(t, 2, "--partial-labels goes with --labels")
	both0("not compared  accuracy: no labels given", "--pcap", calib+".pcap", "--model", model)
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
