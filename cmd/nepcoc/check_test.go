package main

import (
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"nepcoc/internal/testfiles"
)

// What damaged files may cost. The bound on time is one that only a loop that
// got out of hand reaches, even on a loaded machine.
const (
	checkSeconds = 2
	checkBytes   = 300 << 20
)

// check runs the command in a process of its own, so that its memory can
// be measured.
func check(t *testing.T, model string) checkReport {
	t.Helper()
	cmd := exec.Command("nepcoc", "check", model, "--json")
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		t.Fatalf("%v: %s", err, errs.String())
	}
	var r checkReport
	if jerr := json.Unmarshal([]byte(out.String()), &r); jerr != nil {
		t.Fatalf("%v in %q", jerr, out.String())
	}
	if r.OK != (err == nil) || r.OK == (len(r.Problems) > 0) || r.Model != model {
		t.Errorf("exit code (%v) and report disagree: %+v", err, r)
	}
	if strings.Contains(out.String()+errs.String(), "BUG") || strings.Contains(errs.String(), "goroutine ") {
		t.Errorf("a bug shows: %s%s", out.String(), errs.String())
	}
	if use, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok && use.Maxrss*1024 > checkBytes { // Linux counts KiB
		t.Errorf("took %d MiB of memory", use.Maxrss>>10)
	}
	if cpu := cmd.ProcessState.UserTime().Seconds() + cmd.ProcessState.SystemTime().Seconds(); cpu > checkSeconds {
		t.Errorf("took %.1f s of processor time", cpu)
	}
	return r
}

func TestCheckFiles(t *testing.T) {
	broken := testfiles.Glob(t, "broken/*.onnx")
	for _, f := range broken {
		t.Run(filepath.Base(f), func(t *testing.T) { check(t, f) })
	}
	for _, f := range testfiles.Refused(t) {
		t.Run(filepath.Base(filepath.Dir(f)), func(t *testing.T) {
			if r := check(t, f); r.OK {
				t.Error("taken")
			}
		})
	}
	for _, f := range testfiles.Glob(t, "zoo/*/model.onnx") {
		t.Run(filepath.Base(filepath.Dir(f)), func(t *testing.T) {
			if r := check(t, f); !r.OK || r.Opset == 0 || r.Steps == 0 {
				t.Errorf("%+v", r)
			}
		})
	}
}
