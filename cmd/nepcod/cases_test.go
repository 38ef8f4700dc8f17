package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"nepcoc/internal/testbundle"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/bundle"
)

// A snap length that leaves less of a packet than the contract takes is refused, one that leaves
// enough is not: cN.yaml asks for N bytes, the contract takes 128 behind Ethernet's 14.
func TestSnapLengthCases(t *testing.T) {
	dir := t.TempDir()
	b, err := testbundle.New(1, "class")
	if err != nil {
		t.Fatal(err)
	}
	model := filepath.Join(dir, "model.nepco")
	if err := testbundle.Write(model, b, bundle.Options{}); err != nil {
		t.Fatal(err)
	}
	for _, path := range testfiles.Glob(t, "cases/32-snaplen/c*.yaml") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		config := filepath.Join(dir, filepath.Base(path))
		text = regexp.MustCompile(`(?m)^bundle: .*`).ReplaceAll(text, []byte("bundle: "+model))
		if err := os.WriteFile(config, text, 0o644); err != nil {
			t.Fatal(err)
		}
		snap, err := strconv.Atoi(regexp.MustCompile(`\d+`).FindString(filepath.Base(path)))
		if err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		code := doMain([]string{"check-config", config}, &out, &errs)
		refused := regexp.MustCompile(`receive.snaplen: \d+ cuts packets below the 128 bytes .*: at least 142`).Match(errs.Bytes())
		if refused != (snap < 142) || refused && code != 1 {
			t.Errorf("%s: exit code %d: %s%s", filepath.Base(path), code, out.String(), errs.String())
		}
	}
}
