package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"nepcoc/internal/testfiles"
)

// arm64Compiler is the emulator, and nepcoc for arm64.
func arm64Compiler(t *testing.T) (qemu, binary string) {
	t.Helper()
	if testing.Short() {
		t.Skip("builds the compiler for arm64 and emulates it")
	}
	qemu = testfiles.Tool(t, "qemu-aarch64")
	binary, err := buildArm64()
	if err != nil {
		t.Fatal(err)
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
	here := filepath.Join(dir, "here.nepco")
	if err := os.WriteFile(here, want, 0o644); err != nil {
		t.Fatal(err)
	}
	same := func(model, calib string) {
		t.Helper()
		var bundles [2][]byte
		for i, command := range [][]string{{"nepcoc"}, {qemu, "-cpu", "cortex-a76", binary}} {
			out := filepath.Join(dir, "same.nepco")
			run(t, append(command, "compile", model, "--calib", calib, "-o", out)...)
			var err error
			if bundles[i], err = os.ReadFile(out); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(bundles[0], bundles[1]) {
			t.Errorf("%s: the bundle of the arm64 compiler differs from the one of this machine", model)
		}
	}
	same("../../examples/model/demo.onnx", firstPackets(t, "../../examples/testbed/calib.pcap", 250)) // emulated, floating point is slow
	if data := testfiles.Dir(t); data != "" {                                                         // dense convolutions, batch norm, SiLU, dilation
		for _, name := range []string{"dsconv_bn_relu", "act_silu", "tcn_weightnorm"} {
			same(filepath.Join(data, "zoo", name, "model.onnx"), filepath.Join(data, "zoo", name, "calib.npz"))
		}
	}
	verdicts := run(t, "nepcoc", "run", here, "../../examples/testbed/calib.pcap", "--json", "--logits")
	for _, core := range []string{"cortex-a76", "cortex-a72"} {
		if got := run(t, qemu, "-cpu", core, binary, "run", here, "../../examples/testbed/calib.pcap", "--json", "--logits"); !bytes.Equal(got, verdicts) {
			t.Errorf("verdicts on %s differ from those of this machine", core)
		}
	}
}
