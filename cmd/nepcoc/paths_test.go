package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"nepcoc/internal/testfiles"
	"nepcoc/runtime/cpu"
)

// Integer logits of every real test flow are the same bytes on every kernel
// path: those of this machine, and of arm64 with and without dot product.
func TestKernelPathsOnRealFlows(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the published model and runs 748 flows on every kernel path")
	}
	capture, calib := testfiles.Path(t, "traffic", "test.pcap"), testfiles.Path(t, "traffic", "calib.pcap")
	qemu, arm := arm64Compiler(t)
	dir := t.TempDir()
	emulated := func(core, path string) []string {
		return []string{qemu, "-cpu", core, "-E", "NEPCOC_KERNEL=" + path, arm}
	}
	type kernelPath struct {
		name    string
		command []string
		env     string
	}
	paths := []kernelPath{
		{"this machine, purego", []string{"nepcoc"}, "NEPCOC_KERNEL=purego"},
		{"arm64, dot product", emulated("cortex-a76", "dotprod"), ""},
		{"arm64 without", emulated("cortex-a72", "neon"), ""}, // the code that a core with dot product runs where it is told not to use it
	}
	for _, have := range cpu.Available() {
		if have == cpu.AVX2 || have == cpu.AVX512 {
			paths = append(paths, kernelPath{"this machine, " + have.String(), []string{"nepcoc"}, "NEPCOC_KERNEL=" + have.String()})
		}
	}
	for _, model := range []string{"nepco-small", "nepco"} {
		bundle := filepath.Join(dir, model+".nepco")
		printed(t, nil, "nepcoc", "compile", testfiles.Path(t, "models", model+".onnx"), "--calib", calib, "-o", bundle, "--method", "mse")
		want := printed(t, nil, "nepcoc", "run", bundle, capture, "--json", "--logits", "--executor", "ref")
		for _, p := range paths {
			args := append(p.command[1:], "run", bundle, capture, "--json", "--logits")
			if got := printed(t, []string{p.env}, p.command[0], args...); !bytes.Equal(got, want) {
				t.Errorf("%s: %s: verdicts differ from the reference's", model, p.name)
			}
		}
	}
}

// printed runs a program and returns what it printed.
func printed(t *testing.T, env []string, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, errs.Bytes())
	}
	return out
}
