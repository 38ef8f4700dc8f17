package c_test

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	emit "nepcoc/backends/c"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
	"nepcoc/runtime/verdict"
)

// The programs of examples/c give every flow of a capture the label and score that nepcoc run gives it, also by a model that reads numbers beside the sequence.
func TestExample(t *testing.T) {
	for _, tool := range []string{"cc", "make"} {
		testfiles.Tool(t, tool)
	}
	needPcap(t)
	beside := besideNumbers(t)
	for i, o := range beside.Program.Outputs {
		n := beside.Program.Values[o.Value].Cols
		beside.Manifest.Outputs[i] = bundle.OutputInfo{}
		for k := range n {
			beside.Manifest.Outputs[i].Labels = append(beside.Manifest.Outputs[i].Labels, fmt.Sprint("class ", k))
		}
	}
	heads := stored(t, "heads") // outputs of several kinds
	last := &heads.Manifest.Outputs[len(heads.Manifest.Outputs)-1]
	last.Kind, last.Thresholds = bundle.KindLabels, []float64{0.5, 0.25, 0.125}
	if !fitting(t, heads) {
		t.Fatal("it takes no packets")
	}
	for name, b := range map[string]*bundle.Bundle{"demo": stored(t, "demo"), "numbers": beside, "labels": heads} {
		t.Run(name, func(t *testing.T) { example(t, b) })
	}
}

// What the programs can't do they say: a capture that is cut is an error behind the flows of what there is, and a bundle without a contract none but one.
func TestExampleRefuses(t *testing.T) {
	testfiles.Tool(t, "cc")
	needPcap(t)
	dir := t.TempDir()
	emitInto(t, dir, stored(t, "demo"), emit.Options{Name: "model", MaxTable: math.MaxInt})
	data, err := os.ReadFile("../../examples/testbed/test.pcap")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cut.pcap"), data[:5000], 0o644); err != nil {
		t.Fatal(err)
	}
	source, err := filepath.Abs("../../examples/c/verdicts.c")
	if err != nil {
		t.Fatal(err)
	}
	output(t, dir, "cc", "-o", "verdicts", "-I.", source, "nepco_model.c", "-lpcap")
	cmd := exec.Command("./verdicts", "cut.pcap")
	cmd.Dir = dir
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != 1 || !strings.Contains(stdout.String(), "score=") || !strings.HasPrefix(stderr.String(), "verdicts: truncated") {
		t.Errorf("%v\n%.300s\n%s", err, stdout.String(), stderr.String())
	}

	b := withContract(t, traffic.Contract{})
	b.Manifest.Contract.YAML, b.Manifest.Contract.Hash = "", ""
	dir = t.TempDir()
	emitInto(t, dir, b, emit.Options{Name: "model"})
	for _, name := range []string{"../../examples/c/verdicts.c", "../../examples/c/minimal.c", "../../examples/dpdk/eve.c"} {
		out, err := exec.Command("cc", "-Wfatal-errors", "-fsyntax-only", "-I", dir, name).CombinedOutput()
		if err == nil || strings.Count(string(out), "error:") != 1 || !strings.Contains(string(out), "this bundle has no traffic contract") {
			t.Errorf("%s: %v\n%.2000s", name, err, out)
		}
	}
}

// needPcap skips the test where libpcap's headers are missing.
func needPcap(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("sh", "-c", "echo '#include <pcap/pcap.h>' | cc -D_DEFAULT_SOURCE -E -o /dev/null -").CombinedOutput(); err != nil {
		testfiles.Missing(t, "libpcap's headers are not installed: %s", out)
	}
}

// example holds the programs to the engine's verdicts of a capture.
func example(t *testing.T, b *bundle.Bundle) {
	path, err := filepath.Abs("../../examples/testbed/test.pcap")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"verdicts.c", "minimal.c", "Makefile"} {
		data, err := os.ReadFile(filepath.Join("../../examples/c", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "model"), 0o755); err != nil {
		t.Fatal(err)
	}
	emitInto(t, filepath.Join(dir, "model"), b, emit.Options{Name: "model", MaxTable: math.MaxInt})
	got, _ := output(t, dir, "make", "-s", "--no-print-directory", "CFLAGS=-O0 -Werror", "CAPTURE="+path)
	short, _ := output(t, dir, "sh", "-c", "make -s --no-print-directory 'CFLAGS=-O0 -Werror' minimal && ./minimal "+path)

	executor, err := classify.Engine(b)
	if err != nil {
		t.Fatal(err)
	}
	c, err := traffic.Parse("contract", []byte(b.Manifest.Contract.YAML))
	if err != nil {
		t.Fatal(err)
	}
	src, err := capture.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	flows, _, err := flow.Collect(src, c)
	if err != nil {
		t.Fatal(err)
	}
	classifier := classify.New(b, executor)
	var want, wantShort []string
	for i := range flows {
		f := &flows[i]
		if _, err := classifier.Run(f.Tokens, f.Valid); err != nil {
			t.Fatal(err)
		}
		r := verdict.Record{Payload: f.Payload}
		classifier.Fill(&r, false)
		line := f.Key.String()
		for k := range r.Verdicts {
			v := &r.Verdicts[k]
			if v.Multi {
				var given []string
				for _, g := range v.Given {
					given = append(given, fmt.Sprintf("%s:%.4f", g.Label, g.Score))
				}
				if v.Insufficient {
					given = []string{"insufficient"}
				}
				line += " " + v.Output + "=" + strings.Join(given, ",")
				continue
			}
			label := v.Label
			switch {
			case v.Insufficient:
				label = "insufficient"
			case v.Unknown:
				label = "unknown"
			}
			line += fmt.Sprintf(" %s=%s score=%.4f", v.Output, label, v.Score)
			if k == 0 {
				wantShort = append(wantShort, f.Key.String()+": "+label)
			}
		}
		want = append(want, line)
	}
	slices.SortFunc(want, cmp.Compare[string])
	slices.SortFunc(wantShort, cmp.Compare[string])
	for _, x := range []struct {
		got  []byte
		want []string
	}{{got, want}, {short, wantShort}} {
		lines := strings.Split(strings.TrimSpace(string(x.got)), "\n")
		slices.SortFunc(lines, cmp.Compare[string])
		if d := gocmp.Diff(x.want, lines); d != "" || len(want) < 300 {
			t.Errorf("%d flows (-Go +C):\n%.3000s", len(want), d)
		}
	}
}
