package main

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"nepcoc/backends"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/cpu"
	"nepcoc/runtime/engine"
)

// TestInspectSaysWhatRuns: the memory, tile and streaming that inspect shows for a target are those of the
// engine that is bound on the target's kernels.
func TestInspectSaysWhatRuns(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(format1, "*.nepco"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, target := range backends.Targets() {
		if !slices.ContainsFunc(cpu.Available(), func(p cpu.Path) bool { return p.String() == target.Kernel }) {
			continue
		}
		for _, f := range files {
			out, err := exec.Command("nepcoc", "inspect", f, "--target", target.Name, "--json").Output()
			if err != nil {
				t.Fatal(err)
			}
			var got struct{ Runs engine.Description }
			if err := json.Unmarshal(out, &got); err != nil {
				t.Fatal(err)
			}
			b, err := bundle.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			e, err := engine.Bind(b.Program, engine.Options{Kernel: target.Kernel})
			if err != nil {
				t.Fatal(err)
			}
			want := engine.Description{Kernel: target.Kernel, Arena: e.ArenaBytes(), Tile: e.Tile(), Streams: e.Streams(), State: e.StateBytes()}
			if got.Runs != want {
				t.Errorf("%s on %s: shown %+v, runs %+v", f, target.Name, got.Runs, want)
			}
		}
	}
}
