package main

import (
	"bytes"
	"testing"

	"nepcoc/compiler/labels"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/verdict"
)

// floatRight is how many flows of the test capture the float model gets right (../model/README.md).
const floatRight = 420

// One line per flow, and the integers keep the accuracy of the float model.
func TestCompileAndRun(t *testing.T) {
	b, err := compile("../model", "../testbed/calib.pcap")
	if err != nil {
		t.Fatal(err)
	}
	truth, err := labels.Read("../testbed/test.csv")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := classifyCapture(&out, b, "../testbed/test.pcap"); err != nil {
		t.Fatal(err)
	}
	if got := bytes.Count(out.Bytes(), []byte("\n")); got != len(truth.Rows) {
		t.Errorf("%d lines, the capture has %d flows", got, len(truth.Rows))
	}

	executor, err := classify.Engine(b)
	if err != nil {
		t.Fatal(err)
	}
	src, err := capture.Open("../testbed/test.pcap")
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	right := 0
	_, err = classify.New(b, executor).Flows(b, src, false, func(r *verdict.Record) error {
		if row, m := truth.Find(r.Key, r.First); m == labels.Fits && truth.Rows[row].Names[0] == r.Verdicts[0].Label {
			right++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d of %d flows right", right, len(truth.Rows))
	// Half a point of accuracy is what quantization may cost or give.
	if diff := right - floatRight; diff < -2 || diff > 2 {
		t.Errorf("%d of %d flows right, the float model has %d", right, len(truth.Rows), floatRight)
	}
}
