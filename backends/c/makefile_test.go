package c_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"nepcoc/internal/testfiles"
)

// The examples' Makefiles emit the bundle that they are told, be it older than the last one, once; one that isn't there is an error.
func TestExampleBundles(t *testing.T) {
	testfiles.Tool(t, "make")
	for _, example := range []string{"c", "dpdk"} {
		dir := t.TempDir()
		data, err := os.ReadFile(filepath.Join("../../examples", example, "Makefile"))
		if err != nil {
			t.Fatal(err)
		}
		write := func(name string, data []byte, mode os.FileMode) {
			t.Helper()
			if err := os.WriteFile(filepath.Join(dir, name), data, mode); err != nil {
				t.Fatal(err)
			}
		}
		write("Makefile", data, 0o644)
		write("new.nepco", []byte("new"), 0o644)
		write("old.nepco", []byte("old"), 0o644)
		if err := os.Chtimes(filepath.Join(dir, "old.nepco"), time.Time{}, time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
		write("emit", []byte("#!/bin/sh\n# emit c BUNDLE ...\ncp \"$3\" model/nepco_model.c && echo . >> runs\n"), 0o755)
		runs := 0
		for _, bundle := range []string{"new", "new", "old", "gone", "new"} {
			cmd := exec.Command("make", "-s", "model/nepco_model.c", "NEPCOC=./emit", "BUNDLE="+bundle+".nepco")
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			if bundle == "gone" {
				if err == nil {
					t.Errorf("%s: a bundle that isn't there was taken", example)
				}
				continue
			}
			if err != nil {
				t.Fatalf("%s: %v\n%s", example, err, out)
			}
			got, err := os.ReadFile(filepath.Join(dir, "model", "nepco_model.c"))
			if err != nil || string(got) != bundle {
				t.Errorf("%s: the model is %q, not %s: %v", example, got, bundle, err)
			}
			if all, err := os.ReadFile(filepath.Join(dir, "runs")); err != nil {
				t.Fatal(err)
			} else {
				runs = len(all) / 2
			}
		}
		if runs != 3 {
			t.Errorf("%s: %d models were emitted", example, runs)
		}
	}
}
