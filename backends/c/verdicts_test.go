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
	if out, err := exec.Command("sh", "-c", "echo '#include <pcap/pcap.h>' | cc -D_DEFAULT_SOURCE -E -o /dev/null -").CombinedOutput(); err != nil {
		testfiles.Missing(t, "libpcap's headers are not installed: %s", out)
	}
	beside := besideNumbers(t)
	for i, o := range beside.Program.Outputs {
		n := beside.Program.Values[o.Value].Cols
		beside.Manifest.Outputs[i] = bundle.OutputInfo{}
		for k := range n {
			beside.Manifest.Outputs[i].Labels = append(beside.Manifest.Outputs[i].Labels, fmt.Sprint("class ", k))
		}
	}
	for name, b := range map[string]*bundle.Bundle{"demo": stored(t, "demo"), "numbers": beside} {
		t.Run(name, func(t *testing.T) { example(t, b) })
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
