package model_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"nepcoc/compiler"
	"nepcoc/compiler/verify"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/traffic"
)

var compiled = sync.OnceValues(func() (*bundle.Bundle, error) {
	o := compiler.Options{Model: "stream.onnx", Calib: "../testbed/calib.pcap", MaxDisagreement: compiler.DefaultMaxDisagreement}
	o.Find("", nil)
	res, err := compiler.Compile(context.Background(), o)
	if err != nil {
		return nil, err
	}
	return res.Bundle, nil
})

// streamBundle is the model of the stream view, compiled once.
func streamBundle(t *testing.T) *bundle.Bundle {
	t.Helper()
	b, err := compiled()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The model of the stream view: its contract is the built-in one, and its integers are right where the
// float model is.
func TestStreamModel(t *testing.T) {
	own, err := traffic.ReadFile("stream.contract.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if c, err := traffic.Named("nepco-stream"); err != nil || c.Hash() != own.Hash() {
		t.Errorf("stream.contract.yaml is not the built-in nepco-stream: %v", err)
	}
	if testing.Short() {
		t.Skip("compiles a model")
	}
	data, err := bundle.Encode(streamBundle(t), bundle.Options{})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "stream.nepco")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := verify.Run(verify.Options{Bundle: file, Model: "stream.onnx", Pcap: "../testbed/test.pcap", Labels: "../testbed/test.csv", MinAgreement: 0.99, Random: 8})
	if err != nil {
		t.Fatal(err)
	}
	if s := r.Output[0].Integer; !r.OK() || s == nil || s.Labelled != 441 || s.Accuracy < 0.99 {
		t.Errorf("%+v, integers %+v", r.Checks, s)
	}
}
