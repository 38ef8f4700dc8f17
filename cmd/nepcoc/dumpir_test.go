package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"nepcoc/internal/testfiles"
)

// A dump at the place of the output, or in it, is refused before anything is made of it; one that finds the disk
// full leaves nothing, and nothing of what was there before is gone.
func TestDumpIR(t *testing.T) {
	dir := t.TempDir()
	model := filepath.Join(testfiles.Root(t), "examples", "model", "demo.onnx")
	compile := func(args ...string) (int, string) {
		var out, errs bytes.Buffer
		code := doMain(append([]string{"compile", model, "--calib", filepath.Join(testfiles.Root(t), "examples", "testbed", "calib.pcap"), "--method", "minmax"}, args...), &out, &errs)
		return code, errs.String()
	}
	out := filepath.Join(dir, "m.nepco")
	for _, dump := range []string{out, out + "/", filepath.Join(dir, "x", "..", "m.nepco"), filepath.Join(out, "ir")} {
		if code, says := compile("-o", out, "--dump-ir", dump); code != 2 || !strings.Contains(says, "--dump-ir") {
			t.Errorf("--dump-ir %s: exit code %d: %s", dump, code, says)
		}
		if _, err := os.Stat(out); err == nil {
			t.Fatalf("--dump-ir %s left something at the output", dump)
		}
	}

	small := filepath.Join(dir, "small")
	if err := os.Mkdir(small, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("nepcoc-test", small, "tmpfs", 0, "size=64k"); err != nil {
		testfiles.Missing(t, "needs to mount a small file system: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(small, syscall.MNT_DETACH) })
	if err := os.WriteFile(filepath.Join(small, "mine"), make([]byte, 30<<10), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, dump := range []string{small, filepath.Join(small, "new")} {
		code, says := compile("-o", out, "--dump-ir", dump)
		if code != 1 || !strings.Contains(says, "no space left") {
			t.Errorf("on a full disk: exit code %d: %s", code, says)
		}
		if entries, err := os.ReadDir(small); err != nil || len(entries) != 1 || entries[0].Name() != "mine" {
			t.Errorf("%s: left behind: %v (%v)", dump, entries, err)
		}
	}
}
