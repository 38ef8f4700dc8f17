package main

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nepcoc/internal/npzfile"
	m "nepcoc/internal/onnxmodel"
	"nepcoc/internal/testfiles"
)

// A model over features of a flow, by the commands: it compiles with arrays, classifies arrays, says what lies outside of
// its ranges, and whoever gives it packets is told why it can't read them.
func TestFeatureCommands(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	g := m.New(17)
	x := g.Input("x", m.F32, -1, 6)
	x = g.Op("Relu", nil, g.Op("Gemm", m.Attrs{"transB": 1}, x, g.Random(12, 6)))
	g.Output(g.Op("Gemm", m.Attrs{"transB": 1}, x, g.Random(3, 12)), m.F32)
	if err := os.WriteFile(in("m.onnx"), g.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(8, 8))
	data := make([]float32, 200*6)
	for i := range data {
		data[i] = float32(rng.NormFloat64()) * float32(1+i%6)
	}
	npzfile.Write(t, in("calib.npz"), map[string]npzfile.Array{"x": {Shape: []int{200, 6}, Data: data}})
	npzfile.Write(t, in("far.npz"), map[string]npzfile.Array{"x": {Shape: []int{1, 6}, Data: []float32{0, 0, 1e9, 0, 0, 0}}})
	capture := filepath.Join(testfiles.Root(t), "examples", "testbed", "test.pcap")

	o := nepcoc(t, "compile", in("m.onnx"), "--calib", in("calib.npz"), "-o", in("m.nepco"))
	if o.code != 0 || !strings.Contains(o.stdout, "x: 6 features, each in 255 levels") || strings.Contains(o.stdout, "no traffic contract") {
		t.Fatalf("exit code %d: %s%s", o.code, o.stdout, o.stderr)
	}
	taken(t, in("m.nepco"), in("calib.npz"))
	if o := nepcoc(t, "run", in("m.nepco"), in("far.npz")); o.code != 0 || !strings.Contains(o.stderr, "note: 1 of 6 numbers of x lie outside of the ranges") || strings.Count(o.stdout, "\n") != 1 {
		t.Errorf("exit code %d: %s%s", o.code, o.stdout, o.stderr)
	}
	agent, err := buildAgent()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(in("nepcod.yaml"), []byte("bundle: "+in("m.nepco")+"\ninterface: lo\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, run := range map[string]func() (string, int){
		"run": func() (string, int) { o := nepcoc(t, "run", in("m.nepco"), capture); return o.stderr, o.code },
		"verify --pcap": func() (string, int) {
			o := nepcoc(t, "verify", in("m.nepco"), "--pcap", capture)
			return o.stderr, o.code
		},
		"nepcod run":   func() (string, int) { return exitOf(t, agent, "run", "--bundle", in("m.nepco"), "--pcap", capture) },
		"selftest":     func() (string, int) { return exitOf(t, agent, "selftest", in("m.nepco")) },
		"check-config": func() (string, int) { return exitOf(t, agent, "check-config", in("nepcod.yaml")) },
	} {
		if out, code := run(); code != 1 || !strings.Contains(out, "reads features, not bytes: it can't read packets; give it arrays (.npz)") {
			t.Errorf("%s: exit code %d: %s", name, code, out)
		}
	}
	// Packets don't hold features, whatever the flag says.
	if o := nepcoc(t, "compile", in("m.onnx"), "--calib", capture, "--features", "-o", in("x.nepco")); o.code != 1 || !strings.Contains(o.stderr, "features can't be read from packets: calibrate with an .npz") {
		t.Errorf("exit code %d: %s", o.code, o.stderr)
	}
	if _, err := os.Stat(in("x.nepco")); err == nil {
		t.Error("a refused compile left a bundle")
	}
	if o := nepcoc(t, "check", in("m.onnx")); o.code != 0 || !strings.Contains(o.stdout, "bytes or features can't be told without data (--features)") {
		t.Errorf("exit code %d: %s%s", o.code, o.stdout, o.stderr)
	}
	if o := nepcoc(t, "check", in("m.onnx"), "--features"); o.code != 0 || !strings.Contains(o.stdout, "x: 6 features") {
		t.Errorf("exit code %d: %s%s", o.code, o.stdout, o.stderr)
	}
}
