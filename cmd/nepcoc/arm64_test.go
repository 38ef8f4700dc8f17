package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"nepcoc/internal/testfiles"
)

// arm64Compiler builds nepcoc for arm64, and returns the emulator and it.
func arm64Compiler(t *testing.T) (qemu, binary string) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds the compiler for arm64 and emulates it")
	}
	qemu, binary = testfiles.Tool(t, "qemu-aarch64"), filepath.Join(t.TempDir(), "nepcoc")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=arm64")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return qemu, binary
}

// run runs a command that must succeed, and returns what it prints.
func run(t *testing.T, command ...string) []byte {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", command, err, errs.Bytes())
	}
	return out
}

// The arm64 compiler makes the same bundle, and its verdicts are the same
// bytes, on a core with dot product and on one without.
func TestArm64(t *testing.T) {
	qemu, binary := arm64Compiler(t)
	want, err := demo()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	here, there := filepath.Join(dir, "here.nepco"), filepath.Join(dir, "there.nepco")
	if err := os.WriteFile(here, want, 0o644); err != nil {
		t.Fatal(err)
	}
	same := func(model string, want []byte, calib string) {
		t.Helper()
		run(t, qemu, "-cpu", "cortex-a76", binary, "compile", model, "--calib", calib, "-o", there)
		got, err := os.ReadFile(there)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s: the bundle of the arm64 compiler differs from the one of this machine", model)
		}
	}
	same("../../examples/model/demo.onnx", want, "../../examples/testbed/calib.pcap")
	if data := testfiles.Dir(t); data != "" { // dense convolutions, batch norm, SiLU, dilation
		for _, name := range []string{"dsconv_bn_relu", "act_silu", "tcn_weightnorm"} {
			model, calib, out := filepath.Join(data, "zoo", name, "model.onnx"), filepath.Join(data, "zoo", name, "calib.npz"), filepath.Join(dir, "zoo.nepco")
			run(t, "nepcoc", "compile", model, "--calib", calib, "-o", out)
			want, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			same(model, want, calib)
		}
	}
	verdicts := run(t, "nepcoc", "run", here, "../../examples/testbed/calib.pcap", "--json", "--logits")
	for _, core := range []string{"cortex-a76", "cortex-a72"} {
		if got := run(t, qemu, "-cpu", core, binary, "run", here, "../../examples/testbed/calib.pcap", "--json", "--logits"); !bytes.Equal(got, verdicts) {
			t.Errorf("verdicts on %s differ from those of this machine", core)
		}
	}
}
