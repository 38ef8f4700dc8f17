package c_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"nepcoc/backends"
	emit "nepcoc/backends/c"
	"nepcoc/compiler"
	"nepcoc/internal/randprog"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/traffic"
)

// fitting gives a bundle a contract whose tokens its program takes, with so many numbers beside them as that reads; false where there is none.
func fitting(t *testing.T, b *bundle.Bundle) bool {
	t.Helper()
	p := b.Program
	c, err := traffic.Named("nepco-bytes")
	if err != nil {
		t.Fatal(err)
	}
	c.Length, c.Packets, c.BytesPerPacket = p.Length, 10, 40
	if p.Sides > 0 {
		c.Packets, c.Numbers = p.Sides, []traffic.Number{traffic.NumberLength}
	}
	c.UseCLS, c.CLS, c.UseSEP, c.SEP, c.Pad, c.ValueOffset = false, 0, false, 0, 0, 0
	for i := range 256 {
		c.ByteIDs = append(c.ByteIDs, 1+i%(p.Vocab-1))
	}
	b.Manifest.Contract.YAML, b.Manifest.Contract.Hash = string(c.Canonical()), c.Hash()
	return c.Validate() == nil && c.NumberCount() == p.Sides
}

// besideNumbers is a bundle of a random program that reads numbers beside the sequence.
func besideNumbers(t *testing.T) *bundle.Bundle {
	t.Helper()
	for seed := range uint64(400) {
		p := randprog.New(seed)
		if p.Sides == 0 || p.Vocab < 3 {
			continue
		}
		if b := withGolden(t, p, 2); fitting(t, b) {
			for range p.Outputs {
				b.Manifest.Outputs = append(b.Manifest.Outputs, bundle.OutputInfo{Kind: bundle.KindValues})
			}
			return b
		}
	}
	t.Fatal("no program reads numbers that a contract gives")
	return nil
}

// The self-test goes from packets to words as the flow table, the reference executor and package classify do, for outputs of each kind and
// with numbers beside the sequence; and whatever of a flow is not as it should be, it tells.
func TestSelftestFlows(t *testing.T) {
	testfiles.Tool(t, "gcc")
	heads := func(kind bundle.OutputKind) *bundle.Bundle {
		b := stored(t, "heads")
		last := &b.Manifest.Outputs[len(b.Manifest.Outputs)-1]
		last.Kind, last.Thresholds = kind, []float64{0.5, 0.25, 0.125}
		last.Labels = last.Labels[:min(len(last.Labels), kind.NumLabels(3))]
		if !fitting(t, b) {
			t.Fatal("it takes no packets")
		}
		return b
	}
	wrong := map[string]func(v *backends.FlowVector){
		"a packet's byte":  func(v *backends.FlowVector) { v.Packets[0].IP[0] ^= 0x40 },
		"a packet's time":  func(v *backends.FlowVector) { v.Packets[1].Time += 1e12 },
		"a direction":      func(v *backends.FlowVector) { v.Packets[0].Reverse = true },
		"a token":          func(v *backends.FlowVector) { v.Tokens[0]++ },
		"how many":         func(v *backends.FlowVector) { v.Valid-- },
		"marks":            func(v *backends.FlowVector) { v.Marks ^= 1 },
		"payload":          func(v *backends.FlowVector) { v.Payload++ },
		"the client":       func(v *backends.FlowVector) { v.ClientSecond = !v.ClientSecond },
		"a logit":          func(v *backends.FlowVector) { v.Logits[0][0]++ },
		"a label":          func(v *backends.FlowVector) { v.Words[0].Label++ },
		"a score":          func(v *backends.FlowVector) { v.Words[0].Score++ },
		"a margin":         func(v *backends.FlowVector) { v.Words[0].Margin-- },
		"what is unknown":  func(v *backends.FlowVector) { v.Words[0].Unknown = !v.Words[0].Unknown },
		"a score of given": nil,
	}
	for name, b := range map[string]*bundle.Bundle{"demo": stored(t, "demo"), "labels": heads(bundle.KindLabels), "binary": heads(bundle.KindBinary), "numbers": besideNumbers(t)} {
		t.Run(name, func(t *testing.T) {
			flows := func() []backends.FlowVector {
				list, err := compiler.FlowVectors(b)
				if err != nil || len(list) != 4 {
					t.Fatal(len(list), err)
				}
				return list
			}
			dir := t.TempDir()
			run := func(list []backends.FlowVector) (string, error) {
				emitInto(t, dir, b, emit.Options{Name: "it", Flows: list, MaxTable: 1 << 30})
				cmd := exec.Command("sh", "-c", "gcc -std=c99 -Wall -Wextra -Wpedantic -Werror -O0 -o selftest selftest.c nepco_it.o && ./selftest")
				cmd.Dir = dir
				out, err := cmd.CombinedOutput()
				return string(out), err
			}
			emitInto(t, dir, b, emit.Options{Name: "it", MaxTable: 1 << 30})
			cmd := exec.Command("gcc", "-std=c99", "-O1", "-DNEPCO_PORTABLE", "-c", "nepco_it.c")
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if out, err := run(flows()); err != nil || !strings.Contains(out, "4 flows from packets on, 0 wrong") {
				t.Fatalf("%v\n%.3000s", err, out)
			}
			if name == "numbers" {
				return
			}
			// Each change is one more wrong flow of one self-test.
			var list []backends.FlowVector
			changes := 0
			for what, change := range wrong {
				more, at := flows(), 0
				if what == "a score of given" {
					if at = withGiven(more); at < 0 {
						continue
					}
					w := more[at].Words
					w[len(w)-1].Scores[0] ^= 1
				} else {
					change(&more[at])
				}
				list = append(list, more[at])
				changes++
			}
			list = append(list, flows()...)
			if out, err := run(list); err == nil || !strings.Contains(out, fmt.Sprintf("%d flows from packets on, %d wrong, ", changes+4, changes)) {
				t.Errorf("%d changes, and the self-test says %v\n%.3000s", changes, err, out)
			}
		})
	}
}

// withGiven is a flow whose last output gives labels; -1: none.
func withGiven(list []backends.FlowVector) int {
	for i, v := range list {
		if len(v.Words[len(v.Words)-1].Given) > 0 {
			return i
		}
	}
	return -1
}

// A bundle without a contract has a self-test without flows.
func TestSelftestWithoutContract(t *testing.T) {
	b := withGolden(t, randprog.New(35), 1)
	if list, err := compiler.FlowVectors(b); err != nil || list != nil {
		t.Error(list, err)
	}
	dir := t.TempDir()
	emitInto(t, dir, b, emit.Options{Name: "it", Flows: []backends.FlowVector{{}}})
	if data, err := os.ReadFile(filepath.Join(dir, "selftest.c")); err != nil || strings.Contains(string(data), "flow") {
		t.Error(err, "the self-test has flows")
	}
}
