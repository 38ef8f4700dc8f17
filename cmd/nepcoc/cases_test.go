package main

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"nepcoc/internal/testfiles"
)

// A caseRow is one command over a file of the shared test data's cases: inputs
// that were once answered wrongly. Rows are added by the
// cases_NAME_test.go files, one per subject.
type caseRow struct {
	file string   // below the folder of cases, "" where a row is not about one file
	args []string // of nepcoc; $F is the file, $CASES the folder, $TMP an empty folder, $DEMO the example's bundle, $MODEL, $TESTBED, $DATA
	exit int
	// want and not are regular expressions that must, and must not, match standard output and
	// error together.
	want, not []string
	// after looks at what the command left in its folder.
	after func(t *testing.T, tmp, output string)
}

var caseRows []caseRow

// caseFolders are the folders of cases that concern files, models, labels and
// calibration: each file in them must stand in a row, or in caseElsewhere with the
// test that reads it.
var caseFolders = []string{
	"10-prometheus-labels", "11-disk-full", "12-output-not-a-file", "18-label-csv", "19-tunnel-calibration", "27-json-nan",
	"28-expect-mismatch", "31-calibration-data", "32-snaplen", "35-quantisation", "39-class-order", "42-inputs", "outputs",
}

// caseElsewhere names files that a row uses beside its own, or that another
// test reads: pattern below the folder of cases, and why. A test that it names exists.
var caseElsewhere = map[string]string{
	"*/case.json":       "describes the case",
	"outputs/README.md": "describes the case",
}

func TestCases(t *testing.T) {
	root, data, dir := testfiles.Root(t), testfiles.Path(t), testfiles.Path(t, "cases")
	bundle, err := demo()
	if err != nil {
		t.Fatal(err)
	}
	demoFile := filepath.Join(t.TempDir(), "demo.nepco")
	if err := os.WriteFile(demoFile, bundle, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, row := range caseRows {
		name := row.file + " " + row.args[0]
		t.Run(strings.TrimSpace(name), func(t *testing.T) {
			tmp := t.TempDir()
			fill := strings.NewReplacer("$F", filepath.Join(dir, row.file), "$CASES", dir, "$TMP", tmp, "$DEMO", demoFile,
				"$MODEL", filepath.Join(root, "examples", "model"), "$TESTBED", filepath.Join(root, "examples", "testbed"), "$DATA", data)
			var args []string
			for _, a := range row.args {
				args = append(args, fill.Replace(a))
			}
			var output bytes.Buffer
			cmd := exec.Command("nepcoc", args...)
			cmd.Dir, cmd.Stdout, cmd.Stderr = tmp, &output, &output
			if err := cmd.Run(); err != nil {
				if _, ok := err.(*exec.ExitError); !ok {
					t.Fatal(err)
				}
			}
			if code := cmd.ProcessState.ExitCode(); code != row.exit {
				t.Errorf("nepcoc %s: exit code %d, want %d:\n%s", strings.Join(args, " "), code, row.exit, output.String())
			}
			for _, re := range row.want {
				if !regexp.MustCompile(re).Match(output.Bytes()) {
					t.Errorf("nepcoc %s: nothing matches %q in:\n%s", strings.Join(args, " "), re, output.String())
				}
			}
			for _, re := range append(row.not, `BUG|panic|goroutine \d`) {
				if regexp.MustCompile(re).Match(output.Bytes()) {
					t.Errorf("nepcoc %s: %q matches in:\n%s", strings.Join(args, " "), re, output.String())
				}
			}
			if row.after != nil {
				row.after(t, tmp, output.String())
			}
		})
	}
}

// Every file of the folders of cases is used, and a case without files names the test that stands for
// it: one that no test reads is a finding that can come back.
func TestCasesComplete(t *testing.T) {
	dir := testfiles.Path(t, "cases")
	tests := allTests(t)
	for pattern, why := range caseElsewhere {
		for _, name := range regexp.MustCompile(`\bTest\w+`).FindAllString(why, -1) {
			if !tests[name] {
				t.Errorf("%s: there is no %s", pattern, name)
			}
		}
	}
	for _, folder := range caseFolders {
		files, err := os.ReadDir(filepath.Join(dir, folder))
		if err != nil {
			t.Error(err)
			continue
		}
		if len(files) == 1 && !strings.Contains(caseElsewhere[folder+"/case.json"], "Test") {
			t.Errorf("no test stands for %s, which has no files", folder)
		}
		err = filepath.WalkDir(filepath.Join(dir, folder), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			file, err := filepath.Rel(dir, path)
			if err != nil {
				return err
			}
			used := slices.ContainsFunc(caseRows, func(r caseRow) bool {
				return r.file == file || slices.ContainsFunc(r.args, func(a string) bool { return strings.HasSuffix(a, "$CASES/"+file) })
			})
			for pattern := range caseElsewhere {
				ok, _ := filepath.Match(pattern, file)
				used = used || ok
			}
			if !used {
				t.Errorf("no test reads %s", file)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// allTests are the names of the repository's tests.
func allTests(t *testing.T) map[string]bool {
	t.Helper()
	tests, declared := make(map[string]bool), regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err := filepath.WalkDir(testfiles.Root(t), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(text, -1) {
			tests[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tests
}
