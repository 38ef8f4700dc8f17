package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"nepcoc/internal/golden"
	"nepcoc/internal/testfiles"
)

func TestMain(m *testing.M) {
	testscript.Main(tests{m}, map[string]func(){"nepcoc": main, "peak": peak})
}

// tests run with a folder for what several of them use.
type tests struct{ *testing.M }

var kept string

func (t tests) Run() int {
	dir, err := os.MkdirTemp("", "nepcoc")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	kept = dir
	return t.M.Run()
}

// Whole command lines, as a user types them. Scripts see the example model and
// capture as $MODEL and $TESTBED, models of many forms as $FORMS, and the shared test data as $DATA; [data]
// holds where there are any.
func TestScripts(t *testing.T) {
	root, data := testfiles.Root(t), testfiles.Dir(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       golden.Update(),
		Setup: func(e *testscript.Env) error {
			e.Setenv("MODEL", filepath.Join(root, "examples", "model"))
			e.Setenv("TESTBED", filepath.Join(root, "examples", "testbed"))
			e.Setenv("FOUNDATION", filepath.Join(root, "examples", "foundation"))
			e.Setenv("FORMS", filepath.Join(root, "compiler", "testdata", "forms"))
			e.Setenv("FORMAT1", filepath.Join(root, "runtime", "bundle", "testdata", "format1", "demo.nepco"))
			e.Setenv("DATA", data)
			return nil
		},
		Condition: func(cond string) (bool, error) {
			if cond != "data" {
				return false, fmt.Errorf("unknown condition %q", cond)
			}
			return data != "", nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"demo": func(ts *testscript.TestScript, _ bool, args []string) {
				b, err := demo()
				ts.Check(err)
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o644))
			},
			"exits": exits, "flip": flip, "cut": cut,
		},
	})
}

// demo is the example model's bundle, compiled once for all tests.
var demo = sync.OnceValues(func() ([]byte, error) {
	out := filepath.Join(kept, "demo.nepco")
	cmd := exec.Command("nepcoc", "compile", "../../examples/model/demo.onnx", "--calib", "../../examples/testbed/calib.pcap", "-o", out)
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, text)
	}
	return os.ReadFile(out)
})

// exits CODE nepcoc ARGUMENT...: the command exits with that code and, where
// that is not 0, says why in one message on standard error.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARGUMENT...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(args[1], args[2:]...)
	cmd.Dir, cmd.Env = ts.MkAbs("."), append(os.Environ(), "NEPCOC_KERNEL="+ts.Getenv("NEPCOC_KERNEL"))
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if _, ok := err.(*exec.ExitError); !ok {
			ts.Fatalf("%v", err)
		}
	}
	fmt.Fprint(ts.Stdout(), stdout.String())
	fmt.Fprint(ts.Stderr(), stderr.String())
	if code := cmd.ProcessState.ExitCode(); code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
	if want != 0 {
		if err := oneMessage(stderr.String()); err != nil {
			ts.Fatalf("%v", err)
		}
	}
}

// oneMessage says what is wrong with the standard error of a command that
// failed.
func oneMessage(stderr string) error {
	switch {
	case !strings.HasPrefix(stderr, "nepcoc: "):
		return fmt.Errorf("standard error does not begin with the command's name:\n%s", stderr)
	case strings.Contains(stderr, "goroutine ") || strings.Contains(stderr, "panic") || strings.Contains(stderr, "BUG"):
		return fmt.Errorf("a panic or broken invariant instead of an error:\n%s", stderr)
	case strings.Count(stderr, "nepcoc: ") != 1:
		return fmt.Errorf("more than one message:\n%s", stderr)
	}
	return nil
}

// flip IN OUT OFFSET: one bit is other.
func flip(ts *testscript.TestScript, _ bool, args []string) {
	b, n := []byte(ts.ReadFile(args[0])), number(ts, args[2])
	b[n] ^= 1
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), b, 0o644))
}

// cut IN OUT LENGTH: only the first bytes are there.
func cut(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(ts.ReadFile(args[0]))[:number(ts, args[2])], 0o644))
}

func number(ts *testscript.TestScript, s string) int {
	n, err := strconv.Atoi(s)
	ts.Check(err)
	return n
}
