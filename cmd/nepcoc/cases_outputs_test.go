package main

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// A model's output is what its graph says: never one class with score 1, never a class
// per position.
func init() {
	refused := []string{`result per position`, `way out: reduce over positions before the output`}
	caseRows = append(caseRows,
		caseRow{file: "outputs/i_sigmoid.onnx", args: []string{"compile", "$F", "--calib", "$TESTBED/calib.pcap", "-o", "$TMP/m.nepco", "--output", "logits=binary:benign,malicious@0.3"},
			want: []string{`output +logits: binary, benign or from 0.3 on malicious`}, after: bothSides},
		caseRow{file: "outputs/i_sigmoid.onnx", args: []string{"check", "$F"}, want: []string{`output +logits: binary, 0 or from 0.5 on 1`}},
		caseRow{file: "outputs/s2s1.onnx", args: []string{"check", "$F"}, exit: 1, want: refused, not: []string{"compiles"}},
		caseRow{file: "outputs/s2s1.onnx", args: []string{"compile", "$F", "--calib", "$TESTBED/calib.pcap", "-o", "$TMP/m.nepco"}, exit: 1, want: refused},
		caseRow{file: "outputs/s2s3.onnx", args: []string{"check", "$F"}, exit: 1, want: refused, not: []string{"compiles"}},
		caseRow{file: "outputs/s2s3.onnx", args: []string{"compile", "$F", "--calib", "$TESTBED/calib.pcap", "-o", "$TMP/m.nepco"}, exit: 1, want: refused},
	)
}

// bothSides runs the detector that a row compiled: its verdicts fall on both sides of the threshold, with
// the scores of their own sides.
func bothSides(t *testing.T, tmp, _ string) {
	t.Helper()
	out, err := exec.Command("nepcoc", "run", filepath.Join(tmp, "m.nepco"), "../../examples/testbed/test.pcap").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, re := range []string{`label=benign score=0\.[7-9]\d+`, `label=malicious score=0\.[3-6]\d+`} {
		if !regexp.MustCompile(re).Match(out) {
			t.Errorf("no line has %s", re)
		}
	}
}
