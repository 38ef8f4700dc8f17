package c_test

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	emit "nepcoc/backends/c"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
	"nepcoc/runtime/verdict"
)

// The program that examples/c builds gives every flow of a capture the label and score that nepcoc run gives it.
func TestExample(t *testing.T) {
	for _, tool := range []string{"cc", "make"} {
		testfiles.Tool(t, tool)
	}
	if out, err := exec.Command("sh", "-c", "echo '#include <pcap/pcap.h>' | cc -D_DEFAULT_SOURCE -E -o /dev/null -").CombinedOutput(); err != nil {
		testfiles.Missing(t, "libpcap's headers are not installed: %s", out)
	}
	const path = "../../examples/testbed/test.pcap"
	b := stored(t, "demo")
	dir := t.TempDir()
	for _, name := range []string{"verdicts.c", "Makefile"} {
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
	emitInto(t, filepath.Join(dir, "model"), b, emit.Options{Name: "model"})
	capturePath, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("make", "-s", "--no-print-directory", "CFLAGS=-O1", "CAPTURE="+capturePath)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSpace(string(out)), "\n")

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
	var want []string
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
		}
		want = append(want, line)
	}
	slices.SortFunc(got, cmp.Compare[string])
	slices.SortFunc(want, cmp.Compare[string])
	if d := gocmp.Diff(want, got); d != "" || len(want) < 300 {
		t.Errorf("%d flows (-Go +C):\n%.3000s", len(want), d)
	}
}
