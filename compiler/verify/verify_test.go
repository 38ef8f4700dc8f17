package verify_test

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"nepcoc/compiler"
	"nepcoc/compiler/verify"
	"nepcoc/internal/npzfile"
	"nepcoc/internal/onnxmodel"
	"nepcoc/internal/testbundle"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/traffic"
)

// demo is the repository's own model, compiled once.
var demo struct {
	sync.Once
	data []byte
	err  error
}

func examples(t *testing.T, elem ...string) string {
	return filepath.Join(append([]string{testfiles.Root(t), "examples"}, elem...)...)
}

// calibPcap is the beginning of the calibration capture: some 30 flows.
func calibPcap(t *testing.T) string {
	t.Helper()
	return cutPcap(t, 120)
}

// cutPcap is so many packets of it.
func cutPcap(t *testing.T, packets int) string {
	t.Helper()
	data, err := os.ReadFile(examples(t, "testbed", "calib.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	end := 24
	for range packets {
		end += 16 + int(binary.LittleEndian.Uint32(data[end+8:]))
	}
	path := filepath.Join(t.TempDir(), "calib.pcap")
	if err := os.WriteFile(path, data[:end], 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// compileDemo compiles it anew; knownPass is compile's.
func compileDemo(t *testing.T, calib string, knownPass float64) (*bundle.Bundle, error) {
	text, err := os.ReadFile(examples(t, "model", "demo.contract.yaml"))
	if err != nil {
		return nil, err
	}
	c, err := traffic.Parse("demo.contract.yaml", text)
	if err != nil {
		return nil, err
	}
	labels, err := os.ReadFile(examples(t, "model", "demo.labels.txt"))
	if err != nil {
		return nil, err
	}
	res, err := compiler.Compile(t.Context(), compiler.Options{
		Model: examples(t, "model", "demo.onnx"), Calib: calib, KnownPass: knownPass,
		Contract: &c, Labels: [][]string{strings.Fields(string(labels))}, MaxDisagreement: compiler.DefaultMaxDisagreement, Method: "minmax",
	})
	if err != nil {
		return nil, err
	}
	return res.Bundle, nil
}

func demoBundle(t *testing.T) *bundle.Bundle {
	t.Helper()
	demo.Do(func() {
		var b *bundle.Bundle
		if b, demo.err = compileDemo(t, calibPcap(t), 0); demo.err == nil {
			demo.data, demo.err = bundle.Encode(b, bundle.Options{})
		}
	})
	if demo.err != nil {
		t.Fatal(demo.err)
	}
	b, err := bundle.Decode(demo.data)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, b *bundle.Bundle) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.nepco")
	if err := testbundle.Write(path, b, bundle.Options{}); err != nil {
		t.Fatal(err)
	}
	return path
}

func checks(r *verify.Report) map[string]verify.Check {
	m := make(map[string]verify.Check)
	for _, c := range r.Checks {
		m[c.Name] = c
	}
	return m
}

func TestCapture(t *testing.T) {
	path := write(t, demoBundle(t))
	r, err := verify.Run(verify.Options{Bundle: path, Model: examples(t, "model", "demo.onnx"),
		Pcap: calibPcap(t), Labels: examples(t, "testbed", "calib.csv"), Random: 20})
	if err != nil {
		t.Fatal(err)
	}
	if !r.OK() || r.Bundle != path || r.Digest == "" || r.Kernel == "" || r.Flows == 0 || r.Worst == "" || len(r.Steps) == 0 {
		t.Errorf("%+v", r)
	}
	c := checks(r)
	if c["golden vectors"].Cases == 0 || c["reference = engine, flows"].Cases != r.Flows || c["reference = engine, random tokens"].Cases != 20 {
		t.Errorf("%+v", r.Checks)
	}
	o := r.Output[0]
	a := o.Agreement
	if a < 0.98 || o.Samples != r.Flows || o.Cosine < 0.99 || o.Float == nil || o.Integer == nil {
		t.Fatalf("%+v", o)
	}
	if o.Float.Labelled == 0 || o.Float.Accuracy < 0.8 || math.Abs(o.Float.Accuracy-o.Integer.Accuracy) > 1-a+1e-9 {
		t.Errorf("float %+v, integer %+v", o.Float, o.Integer)
	}
	for _, s := range r.Steps {
		if !(s.RelError >= 0 && s.RelError < 0.2) {
			t.Errorf("step %s: error %g", s.Step, s.RelError)
		}
	}
	// Without a model: judged against labels, compared with nothing. The reference runs no more flows than it is to.
	r, err = verify.Run(verify.Options{Bundle: path, Pcap: calibPcap(t), Labels: examples(t, "testbed", "calib.csv"), RefInputs: 5})
	if err != nil {
		t.Fatal(err)
	}
	if c := checks(r)["reference = engine, flows"]; c.Cases != 5 || c.Held != 5 || r.Flows <= 5 {
		t.Errorf("of %d flows: %+v", r.Flows, c)
	}
	if o := r.Output[0]; o.Float != nil || o.Samples != 0 || o.Integer == nil || len(r.Steps) != 0 {
		t.Errorf("without a model: %+v", o)
	}
}

// The bundle alone: its own vectors and random tokens.
// A bundle with belonging has steps that no float model has. All else is compared as without.
func TestBelonging(t *testing.T) {
	pcap := examples(t, "testbed", "calib.pcap")
	b, err := compileDemo(t, pcap, 0.95)
	if err != nil {
		t.Fatal(err)
	}
	o := verify.Options{Bundle: write(t, b), Model: examples(t, "model", "demo.onnx"), Pcap: pcap, Random: 5}
	r, err := verify.Run(o)
	if err != nil {
		t.Fatal(err)
	}
	if !r.OK() || r.Known[0].LeftOut != nil || r.Known[0].Unknown == 0 || len(r.Steps) == 0 || len(r.Output) != 1 {
		t.Errorf("%+v", r)
	}
	for _, s := range r.Steps {
		if strings.Contains(s.Step, "belonging") {
			t.Errorf("an error of step %s, which no float model has", s.Step)
		}
	}

	// Areas under curves are of 10 flows each at least; of others it is said that they are too few. Accuracy says how many it counts that get no label.
	o = verify.Options{Bundle: o.Bundle, Pcap: pcap, Labels: examples(t, "testbed", "calib.csv"), Foreign: []string{cutPcap(t, 24)}, RefInputs: 1}
	if r, err = verify.Run(o); err != nil {
		t.Fatal(err)
	}
	k := r.Known[0]
	if k.Foreign == nil || k.Foreign.Flows == 0 || k.Foreign.Flows >= 10 || k.Score != nil || k.Belonging != nil || r.OK() {
		t.Errorf("few foreign flows: %+v, score %+v, belonging %+v", k.Foreign, k.Score, k.Belonging)
	}
	if !strings.Contains(strings.Join(r.NotCompared, "\n"), "are too few to tell: give 10 of each at least") {
		t.Errorf("not said: %q", r.NotCompared)
	}
	flows := 0
	for _, l := range k.LeftOut {
		if flows += l.Flows; l.Flows < 10 || slices.Contains(k.TooFew, l.Class) {
			t.Errorf("%d flows of %s, AUROC %g", l.Flows, l.Class, l.AUROC)
		}
	}
	if flows == 0 || len(k.TooFew) == 0 || len(k.TooFew)+len(k.LeftOut) != 22 {
		t.Errorf("%d classes left out, too few flows of %q", len(k.LeftOut), k.TooFew)
	}
	if k.Withheld != k.Insufficient+k.Unknown || k.Withheld == 0 {
		t.Errorf("%d without a label: %+v", k.Withheld, k.Share)
	}
}

// Where there is no flow to tell apart, no figure says how well that goes.
func TestForeignWithoutPayload(t *testing.T) {
	b := demoBundle(t)
	b.Manifest.MinPayload = bundle.MinPayloadOf(1 << 16)
	r, err := verify.Run(verify.Options{Bundle: write(t, b), Pcap: calibPcap(t), Foreign: []string{calibPcap(t)}})
	if err != nil {
		t.Fatal(err)
	}
	k := r.Known[0]
	if k.Foreign == nil || k.Foreign.Insufficient != k.Foreign.Flows || k.Score != nil || k.Belonging != nil {
		t.Errorf("%+v, score %+v, belonging %+v", k, k.Score, k.Belonging)
	}
	if !slices.ContainsFunc(r.NotCompared, func(s string) bool { return strings.HasPrefix(s, "known and foreign") }) {
		t.Errorf("not said: %q", r.NotCompared)
	}
	if r.OK() || checks(r)["known and foreign flows"].OK {
		t.Error("what was asked for was not compared, and all is well")
	}
}

// What was asked for and could be done of no flow is a check that failed, with the reason.
func TestNothingToMeasure(t *testing.T) {
	b := demoBundle(t)
	b.Manifest.MinPayload = bundle.MinPayloadOf(1 << 16)
	o := verify.Options{Bundle: write(t, b), Pcap: calibPcap(t), Robust: true, RobustFlows: 8}
	r, err := verify.Run(o)
	if err != nil {
		t.Fatal(err)
	}
	if c := checks(r)["robustness"]; r.OK() || c.OK || !strings.Contains(c.Detail, "too little payload") {
		t.Errorf("%+v", c)
	}
	o.RobustIfAny = true
	if r, err = verify.Run(o); err != nil || !r.OK() {
		t.Errorf("%v, %+v", err, r.Checks)
	}
	values, err := testbundle.EveryKind(2)
	if err != nil {
		t.Fatal(err)
	}
	for i := range values.Manifest.Outputs { // no output makes a verdict that could be explained
		values.Manifest.Outputs[i] = bundle.OutputInfo{Name: values.Manifest.Outputs[i].Name, Kind: bundle.KindValues}
	}
	if r, err = verify.Run(verify.Options{Bundle: write(t, values), Pcap: calibPcap(t), Explain: true}); err == nil && r.OK() {
		t.Errorf("explained: %+v, %q", r.Checks, r.NotCompared)
	}
}

// Foreign traffic that nothing can be said of is said to be not compared, output by output: labels and values have no one score, and no belonging.
func TestForeignOfOtherKinds(t *testing.T) {
	b, err := testbundle.EveryKind(2)
	if err != nil {
		t.Fatal(err)
	}
	o := verify.Options{Bundle: write(t, b), Pcap: calibPcap(t), Foreign: []string{calibPcap(t)}}
	r, err := verify.Run(o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b.Manifest.Outputs {
		info := &b.Manifest.Outputs[i]
		told := slices.ContainsFunc(r.Known, func(k verify.KnownStats) bool { return k.Output == info.Name && k.Foreign != nil })
		said := slices.ContainsFunc(r.NotCompared, func(s string) bool { return strings.HasPrefix(s, "known and foreign flows of "+info.Name+":") })
		if k := slices.IndexFunc(r.Known, func(k verify.KnownStats) bool { return k.Output == info.Name }); k >= 0 && r.Known[k].NoBelonging != (info.EffectiveKind() == bundle.KindLabels) {
			t.Errorf("output %s of %s: %+v", info.Name, info.EffectiveKind(), r.Known[k])
		} else if k < 0 && info.EffectiveKind() != bundle.KindValues {
			t.Errorf("output %s of %s: nothing says what gets no label", info.Name, info.EffectiveKind())
		}
		if told == said {
			t.Errorf("output %s of %s: figures %v, said that there are none %v: %q", info.Name, info.EffectiveKind(), told, said, r.NotCompared)
		}
	}
	o.Foreign = nil
	if r, err = verify.Run(o); err != nil || slices.ContainsFunc(r.NotCompared, func(s string) bool { return strings.HasPrefix(s, "known") }) {
		t.Errorf("not asked for: %v, %q", err, r.NotCompared)
	}
}

func TestBundleAlone(t *testing.T) {
	r, err := verify.Run(verify.Options{Bundle: write(t, demoBundle(t)), Random: 70})
	if err != nil || !r.OK() || len(r.Output) != 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	if c := checks(r); len(c) != 2 || len(r.NotCompared) != 1 {
		t.Errorf("%+v", r)
	}
}

// Without golden vectors nothing says what the bundle was compiled to compute.
func TestNoGolden(t *testing.T) {
	b := demoBundle(t)
	b.Golden = nil
	r, err := verify.Run(verify.Options{Bundle: write(t, b), Random: 10})
	if err != nil {
		t.Fatal(err)
	}
	if c := checks(r)["golden vectors"]; r.OK() || c.OK || !strings.Contains(c.Detail, "compile it again") {
		t.Errorf("%+v", c)
	}
}

// A golden vector that the program does not compute is found, and named.
func TestTamperedGolden(t *testing.T) {
	b := demoBundle(t)
	b.Golden[3].Logits[0][2] ^= 1
	r, err := verify.Run(verify.Options{Bundle: write(t, b)})
	if err != nil {
		t.Fatal(err)
	}
	c := checks(r)["golden vectors"]
	if r.OK() || c.OK || !strings.HasPrefix(c.Detail, `golden vector 3, output "logits": logit 2 is `) {
		t.Errorf("%+v", c)
	}
	// So is one weight that is off by one.
	b = demoBundle(t)
	p := b.Program
	for i := range p.Steps {
		if conv := p.Steps[i].Conv; conv != nil {
			p.Tensors[conv.Bias].Data[1] ^= 0x40
		}
	}
	r, err = verify.Run(verify.Options{Bundle: write(t, b), Random: 10})
	if err != nil {
		t.Fatal(err)
	}
	if got := checks(r); got["golden vectors"].OK || !got["reference = engine, random tokens"].OK {
		t.Errorf("%+v", r.Checks)
	}
}

func TestErrors(t *testing.T) {
	good := write(t, demoBundle(t))
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	other := demoBundle(t)
	other.Manifest.Model.SHA256 = strings.Repeat("ab", 32)
	unlabelled := demoBundle(t)
	unlabelled.Manifest.Outputs[0].Labels = nil
	bare := demoBundle(t)
	bare.Manifest.Contract = bundle.Contract{}
	model, pcap, csv := examples(t, "model", "demo.onnx"), calibPcap(t), examples(t, "testbed", "calib.csv")
	text, err := os.ReadFile(csv)
	if err != nil {
		t.Fatal(err)
	}
	header, _, _ := strings.Cut(string(text), "\n")
	for name, tc := range map[string]struct {
		o    verify.Options
		want string
	}{
		"no bundle":        {verify.Options{Bundle: filepath.Join(dir, "none")}, "none"},
		"not a bundle":     {verify.Options{Bundle: model}, "demo.onnx"},
		"other model":      {verify.Options{Bundle: write(t, other), Model: model, Pcap: pcap}, "is not the model"},
		"no model":         {verify.Options{Bundle: good, Model: filepath.Join(dir, "none.onnx"), Pcap: pcap}, "none.onnx"},
		"no inputs":        {verify.Options{Bundle: good, Model: model}, "needs inputs to compare on"},
		"no capture":       {verify.Options{Bundle: good, Pcap: filepath.Join(dir, "none.pcap")}, "none.pcap"},
		"not a capture":    {verify.Options{Bundle: good, Pcap: model}, "demo.onnx"},
		"no contract":      {verify.Options{Bundle: write(t, bare), Pcap: pcap}, "no traffic contract"},
		"no class names":   {verify.Options{Bundle: write(t, unlabelled), Pcap: pcap, Labels: csv}, "--labels"},
		"labels of others": {verify.Options{Bundle: good, Pcap: pcap, Labels: file("others.csv", header+"\n6,10.0.0.1,1,10.0.0.2,2,1.5,Web,3,none\n")}, "labels none of the"},
		"no labels":        {verify.Options{Bundle: good, Pcap: pcap, Labels: filepath.Join(dir, "none.csv")}, "none.csv"},
		"no arrays":        {verify.Options{Bundle: good, Tensors: filepath.Join(dir, "none.npz")}, "none.npz"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := verify.Run(tc.o); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

// Labels that are no class of the model are counted, not judged.
func TestUnknownLabels(t *testing.T) {
	text, err := os.ReadFile(examples(t, "testbed", "calib.csv"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	columns := strings.Split(lines[0], ",")
	at := -1
	for i, c := range columns {
		if c == "label" {
			at = i
		}
	}
	f := strings.Split(lines[1], ",")
	f[at] = "Carrier pigeon"
	lines[1] = strings.Join(f, ",")
	path := filepath.Join(t.TempDir(), "labels.csv")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	r, err := verify.Run(verify.Options{Bundle: write(t, demoBundle(t)), Pcap: calibPcap(t), Labels: path})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Notes) == 0 || !strings.Contains(r.Notes[0], "1 flow has a label that is no class of the model: \"Carrier pigeon\"") {
		t.Errorf("notes %q", r.Notes)
	}
	if r.Output[0].Integer.Labelled != r.Flows-1 {
		t.Errorf("%d of %d flows judged", r.Output[0].Integer.Labelled, r.Flows)
	}
}

// byteModel reads raw bytes as floats: how they are scaled is the user's to
// say, and verification must understand it as the compile did.
func byteModel(t *testing.T, dir string) string {
	g := onnxmodel.New(13)
	x := g.Input("x", onnxmodel.F32, -1, 1, 16)
	c := g.Op("Conv", onnxmodel.Attrs{"pads": []int{1, 1}, "kernel_shape": []int{3}}, x, g.Random(6, 1, 3), g.Random(6))
	p := g.Reduce("ReduceMax", g.Op("Relu", nil, c), 0, 2)
	y := g.Op("Gemm", onnxmodel.Attrs{"transB": 1}, p, g.Random(4, 6), g.Random(4))
	g.Node("", "Identity", nil, []string{y}, []string{"logits"})
	g.Output("logits", onnxmodel.F32)
	path := filepath.Join(dir, "bytes.onnx")
	if err := os.WriteFile(path, g.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestArrays(t *testing.T) {
	dir := t.TempDir()
	model, arrays := byteModel(t, dir), filepath.Join(dir, "x.npz")
	data := make([]float32, 40*16)
	for i := range data {
		data[i] = float32(i * 37 % 251)
	}
	in := map[string]npzfile.Array{"x": {Shape: []int{40, 1, 16}, Data: data}}
	npzfile.Write(t, arrays, in)
	res, err := compiler.Compile(t.Context(), compiler.Options{Model: model, Calib: arrays, ByteEncoding: "byte", MaxDisagreement: 0.01})
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, res.Bundle)
	r, err := verify.Run(verify.Options{Bundle: path, Model: model, Tensors: arrays, Random: 5})
	if err != nil {
		t.Fatal(err)
	}
	if !r.OK() || r.Output[0].Agreement < 0.97 || r.Output[0].RelError > 0.05 {
		t.Errorf("%+v", r.Output)
	}
	if c := checks(r)["float = integer"]; strings.Contains(c.Detail, "tell little") {
		t.Errorf("40 samples are called few: %+v", c)
	}
	few := filepath.Join(dir, "few.npz")
	npzfile.Write(t, few, map[string]npzfile.Array{"x": {Shape: []int{9, 1, 16}, Data: data[:9*16]}})
	if r, err = verify.Run(verify.Options{Bundle: path, Model: model, Tensors: few}); err != nil || !strings.Contains(checks(r)["float = integer"].Detail, "so few tell little") {
		t.Errorf("9 samples are not called few: %v, %+v", err, checks(r)["float = integer"])
	}
	in["expect.logits"] = npzfile.Array{Shape: []int{40, 3}, Data: make([]float32, 120)}
	npzfile.Write(t, arrays, in)
	if _, err := verify.Run(verify.Options{Bundle: path, Model: model, Tensors: arrays}); err == nil || !strings.Contains(err.Error(), "3 values per sample") {
		t.Errorf("stored outputs of another width: %v", err)
	}
	in["expect.logits"] = npzfile.Array{Shape: []int{40, 4}, Data: make([]float32, 160)}
	npzfile.Write(t, arrays, in)
	r, err = verify.Run(verify.Options{Bundle: path, Model: model, Tensors: arrays})
	if err != nil || r.Output[0].Stored == nil || !(*r.Output[0].Stored.MaxDifference > 1) || r.OK() {
		t.Errorf("%+v, %v", r, err)
	}
}
