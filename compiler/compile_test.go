package compiler_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nepcoc/compiler"
	"nepcoc/internal/npzfile"
	m "nepcoc/internal/onnxmodel"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/refexec"
	"nepcoc/runtime/traffic"
)

// tiny writes a token model with a mask, and calibration data for it.
func tiny(t *testing.T, vocab int) compiler.Options {
	t.Helper()
	const length = 16
	g := m.New(13)
	src, seg := g.Input("src", m.I64, -1, length), g.Input("seg", m.I64, -1, length)
	x := g.Op("Transpose", m.Attrs{"perm": []int{0, 2, 1}}, g.Op("Gather", nil, g.Random(vocab, 6), src))
	x = g.Op("Relu", nil, g.Op("Conv", m.Attrs{"pads": []int{1, 1}, "kernel_shape": []int{3}}, x, g.Random(6, 6, 3), g.Random(6)))
	keep := g.Op("Cast", m.Attrs{"to": m.F32}, g.Unsqueeze(seg, 1))
	p := g.Reduce("ReduceMax", g.Op("Mul", nil, x, keep), 0, 2)
	y := g.Op("Gemm", m.Attrs{"transB": 1}, p, g.Random(3, 6), g.Random(3))
	g.Node("", "Identity", nil, []string{y}, []string{"logits"})
	g.Output("logits", m.F32)
	dir := t.TempDir()
	o := compiler.Options{Model: filepath.Join(dir, "tiny.onnx"), Calib: filepath.Join(dir, "calib.npz"), MaxDisagreement: compiler.DefaultMaxDisagreement}
	if err := os.WriteFile(o.Model, g.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	ids, mask := tinyInputs(vocab)
	n := len(ids) / length
	npzfile.Write(t, o.Calib, map[string]npzfile.Array{"src": {Shape: []int{n, length}, Data: ids}, "seg": {Shape: []int{n, length}, Data: mask}})
	return o
}

func tinyInputs(vocab int) (ids, mask []int64) {
	const n, length = 30, 16
	ids, mask = make([]int64, n*length), make([]int64, n*length)
	for i := range ids {
		if p := i % length; p <= (i/length)%length {
			ids[i], mask[i] = int64(i*7%vocab), 1
		}
	}
	return ids, mask
}

// A contract of raw bytes has 256 ids and padding.
func rawContract(t *testing.T, vocab, length int) traffic.Contract {
	t.Helper()
	for _, name := range traffic.Names() {
		if c, err := traffic.Named(name); err == nil && c.Vocab() == vocab {
			c.Length = length
			return c
		}
	}
	t.Fatalf("no built-in contract of %d ids", vocab)
	return traffic.Contract{}
}

// TestDeterministic: the same inputs give the same file, and its own vectors hold.
func TestDeterministic(t *testing.T) {
	o := tiny(t, 40)
	o.Labels = [][]string{{"a", "b", "c"}}
	var files [][]byte
	for range 2 {
		res, err := compiler.Compile(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		data, err := bundle.Encode(res.Bundle, bundle.Options{})
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, data)
		if len(res.Notes) == 0 || !strings.Contains(res.Notes[0], "no traffic contract") {
			t.Errorf("notes %q", res.Notes)
		}
		if len(res.Cost) != len(res.Bundle.Program.Steps) || res.Target.Name != "bf3" || len(res.Report.Passes) != len(compiler.Passes()) {
			t.Errorf("%d costs, target %s, %d passes", len(res.Cost), res.Target.Name, len(res.Report.Passes))
		}
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("two compiles differ")
	}
	b, err := bundle.Decode(files[0])
	if err != nil {
		t.Fatal(err)
	}
	mf := b.Manifest
	if mf.Contract.YAML != "" || mf.Model.TokenInput != "src" || mf.Model.MaskInput != "seg" || mf.Outputs[0].Labels[2] != "c" ||
		mf.Calibration.Samples != 30 || mf.Measured.Agreement < 0.9 || mf.Sizes.MACs == 0 || mf.Sizes.Weights == 0 {
		t.Errorf("%+v", mf)
	}
	x, err := refexec.New(b.Program)
	if err != nil {
		t.Fatal(err)
	}
	lengths := map[int]bool{}
	for i, v := range b.Golden {
		lengths[v.Valid] = true
		got, err := x.Run(v.Tokens, v.Valid)
		if err != nil {
			t.Fatal(err)
		}
		for k := range got[0] {
			if got[0][k] != v.Logits[0][k] {
				t.Fatalf("vector %d: %v, stored %v", i, got[0], v.Logits[0])
			}
		}
	}
	if !lengths[1] || !lengths[16] {
		t.Errorf("golden vectors of lengths %v: the shortest and the longest are missing", lengths)
	}
}

// Labels in arrays give an accuracy of the measured inputs; what they can't show is said.
func TestMeasured(t *testing.T) {
	o := tiny(t, 40)
	labels := make([]int64, 30)
	for i := range labels {
		labels[i] = 2
	}
	relabel(t, o.Calib, labels)
	res, err := compiler.Compile(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	c, m := &res.Bundle.Manifest.Calibration, &res.Bundle.Manifest.Measured
	if c.Samples != 30 || c.Distinct != 30 || c.Observed != 22 || m.Samples != 8 || m.Seen || m.Labelled != 8 {
		t.Errorf("%+v, %+v", c, m)
	}
	for _, want := range []string{"the figures stand on 8 samples only", "all 8 labelled samples have the same label, \"2\""} {
		if !slices.ContainsFunc(m.Warnings, func(w string) bool { return strings.Contains(w, want) }) {
			t.Errorf("no warning %q in %q", want, m.Warnings)
		}
	}
	for i := range labels { // no class of the model
		labels[i] = 77
	}
	relabel(t, o.Calib, labels)
	if res, err = compiler.Compile(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	m = &res.Bundle.Manifest.Measured
	if m.Labelled != 0 || !slices.ContainsFunc(m.Warnings, func(w string) bool { return strings.Contains(w, "none of the measured samples has a label") }) {
		t.Errorf("%+v", m)
	}
}

// relabel gives the arrays of tiny labels.
func relabel(t *testing.T, path string, labels []int64) {
	t.Helper()
	ids, mask := tinyInputs(40)
	shape := []int{len(labels), len(ids) / len(labels)}
	npzfile.Write(t, path, map[string]npzfile.Array{"src": {Shape: shape, Data: ids}, "seg": {Shape: shape, Data: mask}, "label": {Shape: []int{len(labels)}, Data: labels}})
}

func TestCompileErrors(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(t *testing.T, o *compiler.Options)
		want   string
	}{
		"target":   {func(_ *testing.T, o *compiler.Options) { o.Target = "bf9" }, "unknown target"},
		"model":    {func(_ *testing.T, o *compiler.Options) { o.Model += ".none" }, ".none"},
		"no calib": {func(_ *testing.T, o *compiler.Options) { o.Calib += ".none.npz" }, ".none.npz"},
		"method":   {func(_ *testing.T, o *compiler.Options) { o.Method = "guess" }, "unknown calibration method"},
		"step":     {func(_ *testing.T, o *compiler.Options) { o.TableStep = 65 }, "want 1 to 64"},
		"labels": {func(_ *testing.T, o *compiler.Options) { o.Labels = [][]string{{"a", "b"}} },
			`output "logits" has 3 classes, its label file 2 lines`},
		"label files": {func(_ *testing.T, o *compiler.Options) { o.Labels = [][]string{{"a", "b", "c"}, {"d"}} }, "labels for 2 outputs, the model has 1"},
		"capture without contract": {func(t *testing.T, o *compiler.Options) {
			o.Calib = filepath.Join(t.TempDir(), "calib.pcap")
		}, "no built-in traffic contract has 40 token ids"},
		"contract of another vocabulary": {func(t *testing.T, o *compiler.Options) {
			c := traffic.Default()
			c.Length = 16
			o.Contract = &c
		}, "the model knows 40 token ids"},
		"contract of another length": {func(t *testing.T, o *compiler.Options) {
			*o = tiny(t, 65541)
			c := traffic.Default()
			o.Contract = &c
		}, "16"},
		"contract of another encoding": {func(t *testing.T, o *compiler.Options) {
			c := traffic.Default()
			for _, name := range traffic.Names() {
				if b, err := traffic.Named(name); err == nil && b.Encoding == traffic.EncodingByte255 {
					c = b
				}
			}
			o.Contract = &c
		}, "the traffic contract gives byte/255"},
	} {
		t.Run(name, func(t *testing.T) {
			o := tiny(t, 40)
			tc.change(t, &o)
			if _, err := compiler.Compile(t.Context(), o); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := compiler.Compile(ctx, tiny(t, 40)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A built-in contract is found by the vocabulary, and takes the model's length.
func TestBuiltInContract(t *testing.T) {
	o := tiny(t, 65541)
	res, err := compiler.Compile(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	c, err := traffic.Parse("manifest", []byte(res.Bundle.Manifest.Contract.YAML))
	if err != nil || c.Length != 16 || c.Vocab() != 65541 {
		t.Errorf("%+v, %v", c, err)
	}
	want := rawContract(t, 65541, 16)
	if c.Hash() == want.Hash() {
		return
	}
	want.Name = c.Name
	if c.Hash() != want.Hash() {
		t.Errorf("contract %s, want %s", c.YAML(), want.YAML())
	}
}

func TestCheck(t *testing.T) {
	o := tiny(t, 40)
	res, err := compiler.Check(t.Context(), compiler.Options{Model: o.Model})
	if err != nil {
		t.Fatal(err)
	}
	if res.Bundle != nil || len(res.Cost) == 0 || res.Report.Local.Vocab != 40 || !res.Report.Local.Masked {
		t.Errorf("%+v", res.Report.Local)
	}
	if ps := compiler.Problems(errors.New("disk full")); ps != nil {
		t.Errorf("problems of an error that is not about the model: %v", ps)
	}
	if _, err := compiler.Check(t.Context(), compiler.Options{Model: o.Calib}); err == nil || !strings.Contains(err.Error(), "calib.npz") {
		t.Errorf("not a model: %v", err)
	}
}
