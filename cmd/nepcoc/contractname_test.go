package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nepcoc/internal/testfiles"
	"nepcoc/runtime/traffic"
)

// A contract file that was made from a built-in one, and still has its name, is not called by that name when it doesn't fit the
// model: the message names the file.
func TestContractFileIsNamed(t *testing.T) {
	model := filepath.Join(testfiles.Root(t), "examples", "model", "demo.onnx")
	for _, change := range []func(*traffic.Contract){
		func(c *traffic.Contract) { c.Length = 250 },
		func(c *traffic.Contract) { c.Encoding = "byte"; c.UseSEP, c.UseCLS = false, false },
	} {
		c, err := traffic.Named("nepco-bytes")
		if err != nil {
			t.Fatal(err)
		}
		change(&c)
		file := filepath.Join(t.TempDir(), "mine.yaml")
		if err := os.WriteFile(file, c.YAML(), 0o666); err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		code := doMain([]string{"check", model, "--contract", file}, &out, &errs)
		said := out.String() + errs.String()
		if code != 1 || !strings.Contains(said, file) || strings.Contains(said, "contract "+c.Name+" gives") {
			t.Errorf("exit code %d: %s", code, said)
		}
	}
}
