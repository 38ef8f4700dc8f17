package compiler_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nepcoc/compiler"
	"nepcoc/compiler/verify"
	"nepcoc/internal/npzfile"
	m "nepcoc/internal/onnxmodel"
	"nepcoc/runtime/traffic"
)

// byteModel reads 32 numbers; divided inside where inside isn't 1.
func byteModel(t *testing.T, inside float64) string {
	t.Helper()
	g := m.New(17)
	x := g.Input("x", m.F32, -1, 1, 32)
	if inside != 1 {
		x = g.Op("Div", nil, x, g.Scalar(inside))
	}
	x = g.Op("Relu", nil, conv(8, 1, 5, nil)(g, x))
	verdict(g, g.Reduce("ReduceMax", x, 0, 2), 8)
	path := filepath.Join(t.TempDir(), "bytes.onnx")
	if err := os.WriteFile(path, g.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// numbers writes 64 samples of 32 random bytes, as value has them.
func numbers(t *testing.T, value func(b int) float32) string {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	data := make([]float32, 64*32)
	for i := range data {
		data[i] = value(rng.IntN(256))
	}
	path := filepath.Join(t.TempDir(), "numbers.npz")
	npzfile.Write(t, path, map[string]npzfile.Array{"x": {Shape: []int{64, 1, 32}, Data: data}})
	return path
}

// What a float input holds is what the contract says, or without one what the arrays show: bytes, bytes
// divided by 255, or with a mean and a deviation. A contract that fits is never called unfit, and the
// report says how the input is read.
func TestInputDomain(t *testing.T) {
	normalized := traffic.Normalized(127.5, 127.5)
	for _, tc := range []struct {
		name     string
		inside   float64
		encoding traffic.Encoding
		contract bool
		says     string
	}{
		{"bytes, divided inside", 255, traffic.EncodingByte, true, "bytes 0..255, as the traffic contract says"},
		{"bytes, divided inside, by the arrays", 255, traffic.EncodingByte, false, "bytes 0..255; a traffic contract says otherwise"},
		{"byte/255", 1, traffic.EncodingByte255, true, "as byte/255, as the traffic contract says"},
		{"byte/255 by the arrays", 1, traffic.EncodingByte255, false, "as byte/255; a traffic contract says otherwise"},
		{"mean and deviation", 1, normalized, true, "as (byte-127.5)/127.5, as the traffic contract says"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := compiler.Options{Model: byteModel(t, tc.inside), Calib: numbers(t, tc.encoding.Value)}
			if tc.contract {
				c, _ := traffic.Named("byte")
				c.Encoding, c.Length = tc.encoding, 32
				o.Contract = &c
			}
			path, _, res := compile(t, o)
			if len(res.Inputs) != 1 || !strings.Contains(res.Inputs[0].Means, tc.says) {
				t.Errorf("inputs %+v, want %q", res.Inputs, tc.says)
			}
			holds(t, verify.Options{Bundle: path, Model: o.Model, Tensors: o.Calib, MinAgreement: 0.95, Random: 16}, 0.95)
		})
	}
}

// Features of a flow are told from bytes, and refused with the way out.
func TestFeatures(t *testing.T) {
	o := compiler.Options{Model: byteModel(t, 1), Calib: numbers(t, func(b int) float32 { return float32(b)/37 - 2.3 })}
	_, err := compiler.Compile(t.Context(), o)
	p := compiler.Problems(err)
	if len(p) != 1 || p[0].Node != "x" || !strings.Contains(p[0].Reason, "features of a flow") || !strings.Contains(p[0].WayOut, "encoding: (byte-127.5)/127.5") {
		t.Fatalf("%v", err)
	}
	// The way out that the message names.
	c, _ := traffic.Named("byte")
	c.Encoding, c.Length = traffic.Normalized(2.3*37, 37), 32
	o.Contract = &c
	if _, err := compiler.Compile(t.Context(), o); err != nil {
		t.Error(err)
	}
}
