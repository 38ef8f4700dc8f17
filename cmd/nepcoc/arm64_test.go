package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"nepcoc/internal/testfiles"
)

// The arm64 compiler makes the same bundle, and its verdicts are the same
// bytes, on a core with dot product and on one without.
func TestArm64(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the compiler for arm64 and emulates a compile")
	}
	qemu := testfiles.Tool(t, "qemu-aarch64")
	want, err := demo()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	binary, here, there := filepath.Join(dir, "nepcoc"), filepath.Join(dir, "here.nepco"), filepath.Join(dir, "there.nepco")
	if err := os.WriteFile(here, want, 0o644); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH=arm64")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	output := func(name string, args ...string) []byte {
		t.Helper()
		cmd := exec.Command(name, args...)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, errs.Bytes())
		}
		return out
	}
	same := func(model string, want []byte, calib string) {
		t.Helper()
		output(qemu, "-cpu", "cortex-a76", binary, "compile", model, "--calib", calib, "-o", there)
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
			output("nepcoc", "compile", model, "--calib", calib, "-o", out)
			want, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			same(model, want, calib)
		}
	}
	verdicts := output("nepcoc", "run", here, "../../examples/testbed/calib.pcap", "--json", "--logits")
	for _, core := range []string{"cortex-a76", "cortex-a72"} {
		if got := output(qemu, "-cpu", core, binary, "run", here, "../../examples/testbed/calib.pcap", "--json", "--logits"); !bytes.Equal(got, verdicts) {
			t.Errorf("verdicts on %s differ from those of this machine", core)
		}
	}
}
