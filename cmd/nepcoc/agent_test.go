package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"nepcoc/internal/testfiles"
	"nepcoc/runtime/traffic"
)

// The agent for this machine and the compiler for arm64, each built once for all tests.
var (
	buildAgent = buildOnce("nepcod", runtime.GOARCH)
	buildArm64 = buildOnce("nepcoc", "arm64")
)

func buildOnce(name, arch string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		file := filepath.Join(kept, name+"-"+arch)
		build := exec.Command("go", "build", "-o", file, "../"+name)
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch)
		if out, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%w\n%s", err, out)
		}
		return file, nil
	})
}

// runs runs a command that has to succeed.
func runs(t *testing.T, name string, args ...string) (stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, errs.String())
	}
	return out.String(), errs.String()
}

// nepcoc run prints what nepcod run --pcap prints, to the byte, unknown verdicts and thresholds
// included; several workers print the same lines in another order.
func TestRunIsTheAgent(t *testing.T) {
	nepcod, err := buildAgent()
	if err != nil {
		t.Fatal(err)
	}
	root := testfiles.Root(t)
	model := filepath.Join(root, "examples", "model", "demo.onnx")
	file := filepath.Join(t.TempDir(), "demo.nepco")
	runs(t, "nepcoc", "compile", model, "--calib", filepath.Join(root, "examples", "testbed", "calib.pcap"),
		"--unknown-threshold", "0.97", "-o", file)
	captures := []string{filepath.Join(root, "examples", "testbed", "test.pcap")}
	t.Run("shared", func(t *testing.T) {
		captures = append(captures, testfiles.Path(t, "traffic", "test.pcap"))
		captures = append(captures, testfiles.Glob(t, "captures/good*.pcap")...)
		captures = append(captures, testfiles.Glob(t, "captures/time_backwards.pcap")...)
	})
	for _, path := range captures {
		for _, flags := range [][]string{nil, {"--unknown-threshold", "0.5"}, {"--active-timeout", "50ms", "--flows", "64"}} {
			t.Run(filepath.Base(path)+" "+strings.Join(flags, " "), func(t *testing.T) {
				for format, text := range map[string][]string{"json": {"--json"}, "text": nil} {
					want, _ := runs(t, "nepcoc", slices.Concat([]string{"run", file, path}, text, flags)...)
					if flags == nil && path == captures[0] && !strings.Contains(want, "unknown") {
						t.Errorf("%s: no verdict is unknown: the test proves nothing", format)
					}
					agent := slices.Concat([]string{"run", "--bundle", file, "--pcap", path, "--format", format}, flags)
					got, _ := runs(t, nepcod, agent...)
					if got != want {
						t.Errorf("%s: lines differ: %s", format, firstLine(got, want))
					}
					if slices.Contains(flags, "--flows") {
						continue // each worker has its share of them
					}
					got, _ = runs(t, nepcod, append(agent, "--workers", "2")...)
					if got, want := sorted(got), sorted(want); got != want {
						t.Errorf("%s, two workers: lines differ: %s", format, firstLine(got, want))
					}
				}
			})
		}
	}
}

func sorted(s string) string {
	lines := strings.SplitAfter(s, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// firstLine is where two texts begin to differ.
func firstLine(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return "\n got " + g[i] + "\nwant " + w[i]
		}
	}
	return "one has more lines"
}

// exitOf runs a command and returns what it printed and its exit code.
func exitOf(t *testing.T, name string, args ...string) (output string, code int) {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit != nil {
		code = exit.ExitCode()
	}
	return string(out), code
}

// The agent gives a model the numbers beside its tokens that nepcoc run does, and proves itself on a bundle that reads some.
func TestRunIsTheAgentBesideNumbers(t *testing.T) {
	nepcod, err := buildAgent()
	if err != nil {
		t.Fatal(err)
	}
	root, dir := testfiles.Root(t), t.TempDir()
	c, err := traffic.Named("byte")
	if err != nil {
		t.Fatal(err)
	}
	c.Encoding, c.Pad, c.Length = traffic.EncodingToken, 256, 48
	c.Packets, c.Numbers = 6, []traffic.Number{traffic.NumberLength, traffic.NumberGap}
	contract, file := filepath.Join(dir, "beside.yaml"), filepath.Join(dir, "beside.nepco")
	if err := os.WriteFile(contract, c.YAML(), 0o666); err != nil {
		t.Fatal(err)
	}
	calib := filepath.Join(root, "examples", "testbed", "calib.pcap")
	runs(t, "nepcoc", "compile", filepath.Join(root, "compiler", "testdata", "forms", "sides.onnx"), "--calib", calib, "--contract", contract, "--max-disagreement", "0.05", "-o", file)
	want, _ := runs(t, "nepcoc", "run", file, calib, "--json")
	got, _ := runs(t, nepcod, "run", "--bundle", file, "--pcap", calib, "--format", "json")
	if got != want || strings.Count(want, "\n") != 210 {
		t.Errorf("the agent prints\n%.400s\nnepcoc run\n%.400s", got, want)
	}
	if out, _ := runs(t, nepcod, "selftest", file); !strings.Contains(out, "golden") {
		t.Errorf("selftest says %s", out)
	}
}
