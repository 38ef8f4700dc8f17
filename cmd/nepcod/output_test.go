package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"nepcoc/internal/testbundle"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/bundle"
)

// A full disk, a reader that has gone away, a missing socket: one message that
// names what was given and, for verdicts, says how many are lost; exit code 1.
func TestOutputFails(t *testing.T) {
	full, null := testfiles.Device(t, "full"), testfiles.Device(t, "null")
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	b, err := testbundle.New(1, "class")
	if err != nil {
		t.Fatal(err)
	}
	if err := testbundle.Write(at("m.nepco"), b, bundle.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at("c.yaml"), []byte("bundle: "+at("m.nepco")+"\ninterface: lo\noutput: {to: /dev/null}\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	test := filepath.Join(testfiles.Root(t), "examples", "testbed", "test.pcap")
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
	run := "run --bundle $M --pcap $TEST"
	for _, c := range []struct {
		args   string
		stdout *os.File
		want   string // the message; empty: all is well
	}{
		{"version", open(full), "standard output: no space left on device"},
		{"version --json", closed, "standard output: broken pipe"},
		{"--help", open(full), "standard output: no space left on device"},
		{"selftest $M", open(full), "standard output: no space left on device"},
		{"selftest $M --json", open(full), "standard output: no space left on device"},
		{"check-config $DIR/c.yaml", open(full), "standard output: no space left on device"},
		{run, open(full), "441 of 441 verdicts could not be written: standard output: no space left on device"},
		{run, closed, "[0-9]+ of [0-9]+ verdicts could not be written: standard output: broken pipe"},
		{run + " --format text", open(null), ""},
		{run + " --output $NULL", open(full), ""},
		{run + " --output $FULL", nil, "output: $FULL: a device that can.t be written to: no space left on device"},
		{run + " --output unix:$DIR/none", nil, "441 of 441 verdicts could not be written: .*$DIR/none.*no such file or directory"},
		{run + " --output $DIR", nil, "output: $DIR: is a folder, not a file"},
		{run + " --output $DIR/none/x", nil, "output: $DIR/none/x: there is no folder $DIR/none"},
	} {
		fill := strings.NewReplacer("$M", at("m.nepco"), "$TEST", test, "$FULL", full, "$NULL", null, "$DIR", dir)
		p := nepcod(t, nil, nil, strings.Fields(fill.Replace(c.args))...)
		if c.stdout != nil {
			p.Stdout = c.stdout
		}
		if err := p.Run(); err != nil && p.ProcessState == nil {
			t.Fatal(err)
		}
		var said []string
		for line := range strings.Lines(p.stderr()) {
			if strings.HasPrefix(line, "nepcod: ") && !strings.HasPrefix(line, "nepcod: note: ") {
				said = append(said, strings.TrimSpace(line))
			}
		}
		switch code := p.ProcessState.ExitCode(); {
		case c.want == "" && (code != 0 || said != nil):
			t.Errorf("nepcod %s: exit code %d: %q", c.args, code, said)
		case c.want != "" && (code != 1 || len(said) != 1 || !regexp.MustCompile("^nepcod: "+fill.Replace(c.want)+"$").MatchString(said[0])):
			t.Errorf("nepcod %s: exit code %d: %q", c.args, code, said)
		}
	}
	if info, err := os.Stat(null); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		t.Errorf("the device became %v, %v", info.Mode(), err)
	}
}

// "-" is standard input, for the bundle as for the capture.
func TestStandardInput(t *testing.T) {
	b, err := testbundle.New(1, "class")
	if err != nil {
		t.Fatal(err)
	}
	data, err := bundle.Encode(b, bundle.Options{})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "m.nepco")
	if err := os.WriteFile(file, data, 0o666); err != nil {
		t.Fatal(err)
	}
	test := filepath.Join(testfiles.Root(t), "examples", "testbed", "test.pcap")
	packets, err := os.ReadFile(test)
	if err != nil {
		t.Fatal(err)
	}
	for line, stdin := range map[string][]byte{
		"selftest -": data, "run --bundle - --pcap " + test: data, "run --bundle " + file + " --pcap -": packets,
		"check-config -": []byte("bundle: " + file + "\ninterface: lo\noutput: {to: /dev/null}\n"),
	} {
		p := nepcod(t, &bytes.Buffer{}, nil, strings.Fields(line)...)
		p.Stdin = bytes.NewReader(stdin)
		if err := p.Run(); err != nil {
			t.Errorf("nepcod %s: %v: %s", line, err, p.stderr())
		}
	}
	p := nepcod(t, nil, nil, "run", "--bundle", "-", "--pcap", "-")
	if _, ok := p.Run().(*exec.ExitError); !ok || p.ProcessState.ExitCode() != 2 || !strings.Contains(p.stderr(), "standard input can be read once") {
		t.Errorf("standard input twice: %s", p.stderr())
	}
}
