package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"nepcoc/internal/testfiles"
)

// The files in the tree are what the generator writes.
func TestGenerated(t *testing.T) {
	for name, gen := range kernels {
		dir := filepath.Join(testfiles.Root(t), "runtime", "internal", "kernels", name)
		text, decls := generate(name, gen)
		for file, want := range map[string][]byte{name + "_arm64.s": text, "decl_arm64.go": decls} {
			got, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s/%s is out of date: run go generate ./runtime/internal/kernels/...", name, file)
			}
		}
	}
}
