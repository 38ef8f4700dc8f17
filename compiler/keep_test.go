package compiler_test

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"testing"

	"nepcoc/compiler"
	"nepcoc/compiler/dataset"
	"nepcoc/compiler/labels"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/teach"
	"nepcoc/runtime/traffic"
)

// What an agent keeps of unknown flows is a capture that tokens and teach take: of packets and of streams, with the tokens, the flows and the labels of the
// capture that they came from.
func TestKeptFlowsAreTaught(t *testing.T) {
	testbed := filepath.Join(testfiles.Root(t), "examples", "testbed")
	calib := filepath.Join(testbed, "calib.pcap")
	for _, model := range []string{"demo", "stream"} {
		t.Run(model, func(t *testing.T) {
			file := "../examples/model/" + model + ".contract.yaml"
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			contract, err := traffic.Parse(file, text)
			if err != nil {
				t.Fatal(err)
			}
			res, err := compiler.Compile(t.Context(), compiler.Options{Model: "../examples/model/" + model + ".onnx", Calib: calib, MaxDisagreement: 1,
				Contract: &contract})
			if err != nil {
				t.Fatal(err)
			}
			res.Bundle.Manifest.MinPayload = bundle.MinPayloadOf(0) // insufficient flows are not unknown, and not kept
			m, err := agent.NewModel(res.Bundle)
			if err != nil {
				t.Fatal(err)
			}
			src, err := capture.Open(calib)
			if err != nil {
				t.Fatal(err)
			}
			all, to := 1.0, filepath.Join(t.TempDir(), "unknown.pcap")
			a, err := agent.New(agent.Options{Sources: []capture.Source{src}, Model: m, Lossless: true, Sink: io.Discard, Unknown: &all, Keep: &agent.KeepConfig{To: to, Size: 1 << 20, Files: 1}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := a.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if info, err := os.Stat(to); err != nil || info.Mode().Perm() != 0o600 {
				t.Fatalf("%v, %v", info.Mode(), err)
			}
			var sets [2]*dataset.Set
			for i, path := range []string{calib, to} {
				l, err := labels.ReadSome(filepath.Join(testbed, "calib.csv"))
				if err != nil {
					t.Fatal(err)
				}
				opt := dataset.Options{Labels: []*labels.Labels{l}}
				if opt.Contract, err = classify.Contract(res.Bundle); err != nil {
					t.Fatal(err)
				}
				if sets[i], err = dataset.Read([]string{path}, opt); err != nil {
					t.Fatal(err)
				}
				for k := range sets[i].Flows {
					sets[i].Flows[k].Group = 0
				}
				sort.Slice(sets[i].Flows, func(x, y int) bool { return sets[i].Flows[x].First < sets[i].Flows[y].First })
			}
			if len(sets[0].Flows) != 210 || len(sets[1].Flows) != 210 {
				t.Fatalf("%d and %d flows", len(sets[0].Flows), len(sets[1].Flows))
			}
			task := &teach.Task{Name: "again", Labels: sets[1].Labels}
			for i := range sets[0].Flows {
				x, y := &sets[0].Flows[i], &sets[1].Flows[i]
				if !slices.Equal(x.Tokens, y.Tokens) || x.Key != y.Key || x.First != y.First || x.Label != y.Label || x.Marks != y.Marks {
					t.Fatalf("flow %d: %+v, kept as %+v", i, x, y)
				}
				task.Examples = append(task.Examples, teach.Example{Tokens: sets[1].Padded(y), Valid: len(y.Tokens), Label: y.Label})
			}
			if _, r, err := teach.Teach(res.Bundle, task, teach.Options{Mode: teach.Prototype}); err != nil || r.Accuracy < 0.9 {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}
