package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"nepcoc/internal/testfiles"
)

// outcome of a command that ran by itself, so that its memory can be measured.
type outcome struct {
	code           int
	stdout, stderr string
	peak           int64 // resident bytes
}

func nepcoc(t *testing.T, args ...string) outcome {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command("peak", append([]string{"nepcoc"}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = &out, &errs, []*os.File{w}
	err = cmd.Run()
	w.Close()
	var peak int64
	if _, scan := fmt.Fscan(r, &peak); scan != nil {
		t.Fatal(err, scan)
	}
	return outcome{cmd.ProcessState.ExitCode(), out.String(), errs.String(), peak}
}

// peak runs a command and writes the resident bytes that it took to descriptor 3. The system counts what a
// process's parent had in memory when it began: measured from the tests themselves, every command takes what they
// took.
func peak() {
	cmd := exec.Command(os.Args[1], os.Args[2:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(125)
	}
	fmt.Fprintln(os.NewFile(3, "peak"), cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss<<10)
	os.Exit(cmd.ProcessState.ExitCode())
}

// refused checks what every refusal of a file has in common.
func (o outcome) refused(t *testing.T, file string) {
	t.Helper()
	if o.code != 1 {
		t.Errorf("exit code %d, want 1", o.code)
	}
	if err := oneMessage(o.stderr); err != nil {
		t.Error(err)
	}
	if !strings.Contains(o.stderr, file) {
		t.Errorf("the message does not name %s:\n%s", file, o.stderr)
	}
}

// memory is what a command may take for a small file: the program with its
// libraries, and some times the file.
func memory(t *testing.T, file string) int64 {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return 64<<20 + 20*info.Size()
}

// Models that are damaged or can't be taken: one error that names the file,
// nothing left behind, no memory that the file merely claims to need.
func TestBadModels(t *testing.T) {
	calib := testfiles.Path(t, "zoo", "nepco_byte_h64", "calib.npz")
	allowed := make(map[string]bool) // files that may turn out to be valid
	text, err := os.ReadFile(testfiles.Path(t, "broken", "MANIFEST.json"))
	if err != nil {
		t.Fatal(err)
	}
	var manifest []struct{ File, Expect string }
	if err := json.Unmarshal(text, &manifest); err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, m := range manifest {
		file := testfiles.Path(t, "broken", m.File)
		files = append(files, file)
		allowed[file] = m.Expect != "error"
	}
	for _, file := range append(files, testfiles.Refused(t)...) {
		name := filepath.Join(filepath.Base(filepath.Dir(file)), filepath.Base(file))
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			out := filepath.Join(dir, "x.nepco")
			o := nepcoc(t, "compile", file, "--calib", calib, "-o", out)
			if o.code == 0 && allowed[file] {
				return
			}
			o.refused(t, file)
			if !strings.Contains(o.stderr, "way out: ") {
				t.Errorf("no way out:\n%s", o.stderr)
			}
			if limit := memory(t, file); o.peak > limit {
				t.Errorf("%d MiB of memory, want at most %d", o.peak>>20, limit>>20)
			}
			left, err := os.ReadDir(dir)
			if err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// Damaged and odd captures: the flows that can be read get their verdicts.
func TestOddCaptures(t *testing.T) {
	data, err := demo()
	if err != nil {
		t.Fatal(err)
	}
	bundle := filepath.Join(t.TempDir(), "demo.nepco")
	if err := os.WriteFile(bundle, data, 0o644); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(testfiles.Path(t, "captures", "MANIFEST.json"))
	if err != nil {
		t.Fatal(err)
	}
	var manifest []struct {
		File, Expect string
		Flows        *int `json:"tcp_udp_flows"`
	}
	if err := json.Unmarshal(text, &manifest); err != nil {
		t.Fatal(err)
	}
	for _, m := range manifest {
		t.Run(m.File, func(t *testing.T) {
			file := testfiles.Path(t, "captures", m.File)
			o := nepcoc(t, "run", bundle, file)
			if strings.Contains(m.Expect, "error") {
				o.refused(t, file)
			} else if o.code != 0 {
				t.Errorf("exit code %d:\n%s", o.code, o.stderr)
			}
			if got := strings.Count(o.stdout, "\n"); m.Flows != nil && got != *m.Flows {
				t.Errorf("%d verdicts, the capture has %d flows (%s)", got, *m.Flows, m.Expect)
			}
			if limit := memory(t, file); o.peak > limit {
				t.Errorf("%d MiB of memory, want at most %d", o.peak>>20, limit>>20)
			}
		})
	}
}
