// Package testfiles finds the shared test data and the tools that tests need.
//
// The data (captures of public corpora, trained models) lie beside the
// repository, not in it; a plain clone has none, and tests over them skip.
package testfiles

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// Root is the repository's root, found by walking up to go.mod.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above the test's directory")
		}
		dir = up
	}
}

// dataDir is where the shared test data are, if they are.
func dataDir(t testing.TB) string {
	t.Helper()
	if dir := os.Getenv("NEPCOC_DATA"); dir != "" {
		return dir
	}
	return filepath.Join(Root(t), "..", "shared", "data")
}

// Dir is the data folder, $NEPCOC_DATA or ../shared/data beside the
// repository, "" where there is none: for tests that use it where they can.
func Dir(t testing.TB) string {
	t.Helper()
	dir := dataDir(t)
	if _, err := os.Stat(dir); err != nil {
		return ""
	}
	return dir
}

// Path joins elem to the data folder. The test is skipped where the file is
// not there.
func Path(t testing.TB, elem ...string) string {
	t.Helper()
	p := filepath.Join(append([]string{dataDir(t)}, elem...)...)
	if _, err := os.Stat(p); err != nil {
		t.Skipf("needs the shared test data, not part of a plain clone: %v (set NEPCOC_DATA)", err)
	}
	return p
}

// Glob lists the files of the data folder that match, relative to it as in
// filepath.Glob; the test is skipped where there are none.
func Glob(t testing.TB, pattern string) []string {
	t.Helper()
	base := Path(t)
	files, err := filepath.Glob(filepath.Join(base, pattern))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Skipf("no test data match %s", pattern)
	}
	return files
}

// Tool returns the path of a program that the test runs, which may be Missing.
func Tool(t testing.TB, name string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		Missing(t, "%s is not installed", name)
	}
	return p
}

// takenByNow are models of the data folder's refuse/ that were refused when it was made: weights in a
// second file, in half precision, quantised already.
var takenByNow = []string{"external_data", "fp16_weights", "qdq_static"}

// Refused lists the models that must be refused.
func Refused(t testing.TB) []string {
	t.Helper()
	return slices.DeleteFunc(Glob(t, "refuse/*/model.onnx"), func(f string) bool {
		return slices.Contains(takenByNow, filepath.Base(filepath.Dir(f)))
	})
}
