// Package golden compares what tests compute with files kept beside them.
//
//	go test ./some/package -update
//
// writes the files anew (make golden: all of them); the difference is to be
// read before it is committed. It is for tests only.
package golden

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files of testdata anew")

// Update says that golden files are to be written, not compared.
func Update() bool { return *update }

// File compares got with a file, or writes it where golden files are updated.
func File(t testing.TB, path string, got []byte) {
	t.Helper()
	if Update() {
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (go test -update writes it)", err)
	}
	if bytes.Equal(want, got) {
		return
	}
	t.Errorf("%s differs (-file +now); if that is right, go test -update\n%s", path,
		cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")))
}

// Orphans fails for each file of dir whose name no test knows. A folder
// called fuzz is left to go test -fuzz.
func Orphans(t testing.TB, dir string, known ...string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Name() != "fuzz" && !slices.Contains(known, f.Name()) {
			t.Errorf("%s belongs to no test: remove it", filepath.Join(dir, f.Name()))
		}
	}
}
