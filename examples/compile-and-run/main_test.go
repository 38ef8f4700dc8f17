package main

import (
	"bytes"
	"testing"

	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/verdict"
)

// One line per flow, and the integers keep the accuracy that the model's README states.
func TestCompileAndRun(t *testing.T) {
	b, err := compile("../model", "../testbed/calib.pcap")
	if err != nil {
		t.Fatal(err)
	}
	labels, err := verdict.ReadLabels("../testbed/test.csv")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := classifyCapture(&out, b, "../testbed/test.pcap"); err != nil {
		t.Fatal(err)
	}
	if got := bytes.Count(out.Bytes(), []byte("\n")); got != len(labels.Rows) {
		t.Errorf("%d lines, the capture has %d flows", got, len(labels.Rows))
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
		if row, ok := labels.Find(r.Key, r.First); ok && labels.Rows[row].Name == r.Label {
			right++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	accuracy := float64(right) / float64(len(labels.Rows))
	t.Logf("%d of %d flows right: %.4f", right, len(labels.Rows), accuracy)
	if accuracy < 0.95 {
		t.Errorf("accuracy %.4f, want at least 0.95", accuracy)
	}
}
