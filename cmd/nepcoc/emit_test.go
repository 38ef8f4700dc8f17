package main

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"nepcoc/backends"
)

// A folder of files is written as a whole or not at all, and one that was not there is gone again.
func TestArtifactWhole(t *testing.T) {
	a := &backends.Artifact{Name: "c", Folder: true}
	built := []backends.File{{Name: "one.h", Data: []byte("new")}, {Name: "two.c", Data: []byte("new")}}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "one.h"), []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "two.c"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := writeArtifact(a, dir, built, io.Discard); err == nil {
		t.Error("a folder in a file's place was no error")
	}
	if data, err := os.ReadFile(filepath.Join(dir, "one.h")); err != nil || string(data) != "old" {
		t.Errorf("%q, %v: the header is of another model than the source", data, err)
	}
	fresh := filepath.Join(t.TempDir(), "out")
	if _, err := writeArtifact(a, fresh, append(built, backends.File{Name: "gone/three"}), io.Discard); err == nil {
		t.Error("a folder that isn't there was no error")
	}
	if _, err := os.Stat(fresh); !os.IsNotExist(err) {
		t.Errorf("a folder is left: %v", err)
	}
	if err := writable(a, ""); err == nil || err.Error() != "--output: c is a folder of files: name one" {
		t.Error(err)
	}
}
