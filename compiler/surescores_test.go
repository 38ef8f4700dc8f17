package compiler_test

import (
	"os"
	"strings"
	"testing"

	"nepcoc/compiler"
	"nepcoc/runtime/traffic"
)

// Labelled flows that the model has all right don't say how sure its scores may be: they stay as they are. With errors among them, they are calibrated.
func TestScoresWithoutErrors(t *testing.T) {
	read := func(file string) []byte {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, tc := range []struct {
		model      string
		calibrated bool
	}{{"stream", false}, {"demo", true}} {
		model, calib := "../examples/model/"+tc.model, "../examples/testbed/calib"
		c, err := traffic.Parse(model+".contract.yaml", read(model+".contract.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		_, _, res := compile(t, compiler.Options{Model: model + ".onnx", Calib: calib + ".pcap", CalibLabels: calib + ".csv", Method: "minmax", MaxDisagreement: 0.05,
			Contract: &c, Labels: [][]string{strings.Fields(string(read(model + ".labels.txt")))}})
		said := strings.Contains(strings.Join(res.Notes, "\n"), "no errors to tell by how sure a score may be")
		if got := res.Bundle.Manifest.Outputs[0].Temperature; (got != 0) != tc.calibrated || said == tc.calibrated || got != 0 && got < 0.1 {
			t.Errorf("%s: temperature %g, notes %q", tc.model, got, res.Notes)
		}
	}
}
