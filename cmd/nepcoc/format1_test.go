package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What a user does with a bundle, done with bundles as they were in version 1 of the format: see
// runtime/bundle/format_test.go.
const format1 = "../../runtime/bundle/testdata/format1"

// TestFormat1Runs: every flow of a capture gets the verdict that it got.
func TestFormat1Runs(t *testing.T) {
	for _, name := range []string{"demo", "signed"} {
		want, err := os.ReadFile(filepath.Join(format1, name+".csv"))
		if err != nil {
			t.Fatal(err)
		}
		head, rows, _ := strings.Cut(string(want), "\n")
		out, err := exec.Command("nepcoc", "run", filepath.Join(format1, name+".nepco"), "../../examples/testbed/test.pcap", "--json").Output()
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
			var r struct {
				Proto, Src, Dst, Label string
				Sport, Dport           int
				Time, Score, Margin    json.Number
			}
			if err := d.Decode(&r); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&got, "%s,%s,%d,%s,%d,%s,%s,%s,%s\n", r.Proto, r.Src, r.Sport, r.Dst, r.Dport, r.Time, r.Label, r.Score, r.Margin)
		}
		if got.String() != rows {
			g, w := strings.Split(got.String(), "\n"), strings.Split(rows, "\n")
			for i := range min(len(g), len(w)) {
				if g[i] != w[i] {
					t.Errorf("%s, flow %d (%s):\n got %s\nwant %s", name, i, head, g[i], w[i])
					break
				}
			}
			t.Errorf("%s: %d verdicts, want %d", name, len(g)-1, len(w)-1)
		}
	}
}

// TestFormat1Verifies: the chain of truth holds from the model that the bundle was compiled from.
func TestFormat1Verifies(t *testing.T) {
	for name, args := range map[string][]string{
		"demo":   {"--model", "../../examples/model/demo.onnx", "--pcap", "../../examples/testbed/test.pcap", "--labels", "../../examples/testbed/test.csv"},
		"signed": {"--model", "../../examples/model/demo.onnx", "--pcap", "../../examples/testbed/calib.pcap"},
		"heads":  {"--model", filepath.Join(format1, "heads.onnx"), "--tensors", filepath.Join(format1, "heads.npz"), "--min-agreement", "0.9"},
		"raw":    {"--model", filepath.Join(format1, "raw.onnx"), "--pcap", "../../examples/testbed/test.pcap"},
	} {
		if out, err := exec.Command("nepcoc", append([]string{"verify", filepath.Join(format1, name+".nepco")}, args...)...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// TestFormat1Inspects: inspect shows them, with their own version.
func TestFormat1Inspects(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(format1, "*.nepco"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		if out, err := exec.Command("nepcoc", "inspect", f).CombinedOutput(); err != nil || !bytes.Contains(out, []byte("format 1")) {
			t.Errorf("%s: %v\n%s", f, err, out)
		}
	}
}
