package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"nepcoc/internal/testfiles"
)

const (
	exampleModel = "../../examples/model/demo.onnx"
	exampleCalib = "../../examples/testbed/calib.pcap"
	exampleTest  = "../../examples/testbed/test.pcap"
)

// printing are command lines that print something, with $DEMO for a bundle.
var printing = []string{
	"version", "version --json", "--version", "--help", "completion bash",
	"inspect $DEMO", "inspect $DEMO --json", "check $MODEL", "check $MODEL --json",
	"verify $DEMO --random 8", "verify $DEMO --random 8 --json", "run $DEMO $TEST", "run $DEMO $TEST --json",
	"bench $DEMO --seconds 0.01", "bench $DEMO --seconds 0.01 --json", "opt --list", "opt --passes=canonical $MODEL",
	"compile $MODEL --calib $CALIB -o - --method minmax",
}

// A full disk or a reader that has gone away is one message and exit code 1,
// for every command and both forms of its output.
func TestStandardOutputFails(t *testing.T) {
	full, null := testfiles.Device(t, "full"), testfiles.Device(t, "null")
	fill := strings.NewReplacer("$DEMO", demoFile(t), "$MODEL", exampleModel, "$CALIB", exampleCalib, "$TEST", exampleTest)
	for _, line := range printing {
		args := strings.Fields(fill.Replace(line))
		run := func(stdout *os.File) (int, string) {
			cmd := exec.Command("nepcoc", args...)
			var errs bytes.Buffer
			cmd.Stdout, cmd.Stderr = stdout, &errs
			if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
				t.Fatal(err)
			}
			return cmd.ProcessState.ExitCode(), errs.String()
		}
		open := func(name string) *os.File {
			f, err := os.OpenFile(name, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			return f
		}
		read, closed, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		read.Close()
		defer closed.Close()
		for _, c := range []struct {
			to   *os.File
			want string
		}{{open(full), "no space left on device"}, {closed, "broken pipe"}} {
			code, errs := run(c.to)
			if code != 1 || errs != "nepcoc: standard output: "+c.want+"\n" {
				t.Errorf("nepcoc %s, %s: exit code %d: %q", line, c.want, code, errs)
			}
		}
		if code, errs := run(open(null)); code != 0 {
			t.Errorf("nepcoc %s to a device: exit code %d: %s", line, code, errs)
		}
	}
}

// Every flag that names a file to write follows links, writes to devices and
// refuses folders; standard output is "-".
func TestOutputNames(t *testing.T) {
	full, null := testfiles.Device(t, "full"), testfiles.Device(t, "null")
	for _, line := range []string{
		"compile " + exampleModel + " --calib " + exampleCalib + " --method minmax -o ", "opt --passes=canonical " + exampleModel + " -o ",
	} {
		command := strings.Fields(line)
		dir := t.TempDir()
		at := func(name string) string { return filepath.Join(dir, name) }
		if err := os.WriteFile(at("real.nepco"), []byte("old"), 0o640); err != nil {
			t.Fatal(err)
		}
		for name, to := range map[string]string{"link": "real.nepco", "unborn": "new.nepco", "null": null} {
			if err := os.Symlink(to, at(name)); err != nil {
				t.Fatal(err)
			}
		}
		if err := syscall.Mkfifo(at("fifo"), 0o666); err != nil {
			t.Fatal(err)
		}
		fifo := make(chan []byte, 1)
		go func() {
			b, _ := os.ReadFile(at("fifo"))
			fifo <- b
		}()
		for _, name := range []string{"link", "unborn", "null", "fifo"} {
			if o := nepcoc(t, append(command, at(name))...); o.code != 0 {
				t.Fatalf("%s %s: exit code %d: %s", line, name, o.code, o.stderr)
			}
		}
		o := nepcoc(t, append(command, "-")...)
		if o.code != 0 || strings.HasPrefix(line, "compile") && !strings.Contains(o.stderr, "float = integer") {
			t.Errorf("%s -: exit code %d: %s", line, o.code, o.stderr)
		}
		for name, got := range map[string][]byte{"real.nepco": nil, "new.nepco": nil, "fifo": <-fifo, "-": []byte(o.stdout)} {
			if got == nil {
				got, _ = os.ReadFile(at(name))
			}
			if !bytes.HasPrefix(got, []byte("\x89NEPCO")) && !bytes.HasPrefix(got, []byte("graph ")) {
				t.Errorf("%s: %s holds %.20q", line, name, got)
			}
		}
		for name, mode := range map[string]fs.FileMode{at("link"): fs.ModeSymlink, at("unborn"): fs.ModeSymlink, at("fifo"): fs.ModeNamedPipe, null: fs.ModeCharDevice, at("real.nepco"): 0o640} {
			if info, err := os.Lstat(name); err != nil || info.Mode()&mode != mode {
				t.Errorf("%s: %s became %v, %v", line, name, info.Mode(), err)
			}
		}
		for name, want := range map[string]string{dir: "is a folder", full: "no space left on device", at("none") + "/x": "no"} {
			o := nepcoc(t, append(command, name)...)
			o.refused(t, name)
			if !strings.Contains(o.stderr, want) {
				t.Errorf("%s %s: %s", line, name, o.stderr)
			}
		}
		var left []string
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			left = append(left, e.Name())
		}
		slices.Sort(left)
		if left = slices.DeleteFunc(left, func(n string) bool { return n == "constants" }); strings.Join(left, " ") != "fifo link new.nepco null real.nepco unborn" {
			t.Errorf("%s: left %v", line, left)
		}
	}
	o := nepcoc(t, "compile", exampleModel, "--calib", exampleCalib, "-o", filepath.Join(filepath.Dir(exampleModel), "..", "model", "demo.onnx"))
	if o.code != 2 || !strings.Contains(o.stderr, "would overwrite an input") {
		t.Errorf("over the model by another name: exit code %d: %s", o.code, o.stderr)
	}
}

// "-" is standard input wherever a file is read; twice in one command line is a
// mistake.
func TestStandardInput(t *testing.T) {
	bundle := demoFile(t)
	fill := strings.NewReplacer("$DEMO", bundle, "$MODEL", exampleModel, "$CALIB", exampleCalib, "$TEST", exampleTest, "$TMP", t.TempDir(), "$EXAMPLES", "../../examples")
	words := func(line string) []string { return strings.Fields(fill.Replace(line)) }
	// What - stands for, and the command line with it.
	for _, c := range [][2]string{
		{"$DEMO", "inspect -"}, {"$DEMO", "verify - --random 8"}, {"$DEMO", "run - $TEST"}, {"$DEMO", "bench - --seconds 0.01"},
		{"$TEST", "run $DEMO -"}, {"$TEST", "run $DEMO /dev/stdin"}, {"$TEST", "verify $DEMO --random 8 --model $MODEL --pcap -"},
		{"$EXAMPLES/testbed/test.csv", "verify $DEMO --random 8 --model $MODEL --pcap $TEST --labels -"},
		{"$MODEL", "check -"}, {"$MODEL", "opt --passes=canonical -"}, {"$MODEL", "verify $DEMO --random 8 --model - --pcap $TEST"},
		{"$MODEL", "compile - --calib $CALIB -o $TMP/x --method minmax --contract nepco-bytes"}, {"$CALIB", "compile $MODEL --calib - -o $TMP/x --method minmax"},
		{"$EXAMPLES/model/demo.labels.txt", "compile $MODEL --calib $CALIB -o $TMP/x --method minmax --labels -"},
		{"$EXAMPLES/model/demo.contract.yaml", "compile $MODEL --calib $CALIB -o $TMP/x --method minmax --contract -"},
	} {
		f, err := os.Open(fill.Replace(c[0]))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd := exec.Command("nepcoc", words(c[1])...)
		cmd.Stdin = f
		if strings.HasSuffix(c[1], "-") {
			cmd.Stdin = struct{ io.Reader }{f} // a pipe
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("nepcoc %s < %s: %v: %s", c[1], c[0], err, out)
		}
	}
	for _, line := range []string{
		"compile - --calib - -o $TMP/x", "run - -", "verify - --pcap -", "verify $DEMO --pcap - --labels /dev/stdin", "compile $MODEL --calib - -o $TMP/x --labels -",
	} {
		if o := nepcoc(t, words(line)...); o.code != 2 || !strings.Contains(o.stderr, "standard input can be read once") {
			t.Errorf("nepcoc %s: exit code %d: %s", line, o.code, o.stderr)
		}
	}
	// What is wrong with it is said by its name.
	cmd := exec.Command("nepcoc", "run", bundle, "-")
	cmd.Stdin = strings.NewReader("words")
	if out, err := cmd.CombinedOutput(); err == nil || !strings.HasPrefix(string(out), "nepcoc: standard input: not a capture") {
		t.Errorf("%v: %s", err, out)
	}
}

// A signal ends a compile at any time with nothing of its making left.
func TestInterrupted(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		for _, after := range []time.Duration{0, 50, 200, 400, 800} {
			dir := t.TempDir()
			cmd := exec.Command("nepcoc", "compile", exampleModel, "--calib", exampleCalib, "-o", filepath.Join(dir, "x.nepco"))
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(after * time.Millisecond)
			cmd.Process.Signal(s)
			cmd.Wait()
			if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Exited() && status.ExitStatus() != 0 || !status.Exited() && status.Signal() != s {
				t.Errorf("%v after %v: %v", s, after, cmd.ProcessState)
			}
			entries, _ := os.ReadDir(dir)
			for _, e := range entries {
				if info, err := e.Info(); e.Name() != "x.nepco" || err != nil || info.Size() == 0 {
					t.Errorf("%v after %v: left %s", s, after, fmt.Sprint(e))
				}
			}
		}
	}
}
