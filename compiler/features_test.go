package compiler_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nepcoc/compiler"
	"nepcoc/compiler/calibrate"
	"nepcoc/compiler/verify"
	"nepcoc/internal/files"
	"nepcoc/internal/npzfile"
	m "nepcoc/internal/onnxmodel"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/traffic"
)

// A flow's features as they are: packets, bytes, seconds, ratios. Each has an offset and a unit of its own; the
// first never varies, the second has a heavy tail. The rule: class k raises the features 8k to 8k+7 by one
// deviation.
const (
	featCount   = 40
	featClasses = 5
)

func featUnit(f int) (offset, unit float64) {
	unit = math.Pow(10, float64(f%10)-3) // 0.001 to 1,000,000
	return 3 * unit * float64(f%7-3), unit
}

// featSamples draws samples and their classes.
func featSamples(seed uint64, n int) (x []float32, class []int64) {
	rng := rand.New(rand.NewPCG(seed, 3))
	for range n {
		k := rng.IntN(featClasses)
		class = append(class, int64(k))
		for f := range featCount {
			offset, unit := featUnit(f)
			z := rng.NormFloat64()
			if f/8 == k {
				z++
			}
			switch f {
			case 0:
				z = 0
			case 1:
				z = math.Exp(z) - 1
			}
			x = append(x, float32(offset+unit*z))
		}
	}
	return x, class
}

// scaler is how a model brings features to one range.
type scaler int

const (
	scaleFirst  scaler = iota // subtracts and divides first, as an exported pipeline does
	scaleFolded               // has it in the weights of its first layer
	scaleNorm                 // begins with a BatchNormalization
)

// featModel is a network that follows the rule: a hidden unit for each class and sign.
func featModel(t *testing.T, how scaler, shape ...int) string {
	t.Helper()
	g := m.New(17)
	x := g.Input("x", m.F32, append([]int{-1}, shape...)...)
	if len(shape) > 1 {
		x = g.Op("Flatten", nil, x)
	}
	vec := func(f func(i int) float64, n int, dims ...int) string {
		d := make([]float32, n)
		for i := range d {
			d[i] = float32(f(i))
		}
		return g.Const(m.Tensor{Dims: dims, Data: d})
	}
	offset := func(f int) float64 { o, _ := featUnit(f); return o }
	unit := func(f int) float64 { _, u := featUnit(f); return u }
	switch how {
	case scaleFirst:
		x = g.Op("Div", nil, g.Op("Sub", nil, x, vec(offset, featCount, featCount)), vec(unit, featCount, featCount))
	case scaleNorm:
		one, zero := func(int) float64 { return 1 }, func(int) float64 { return 0 }
		x = g.Op("BatchNormalization", attrs{"epsilon": 0.0}, x, vec(one, featCount, featCount), vec(zero, featCount, featCount),
			vec(offset, featCount, featCount), vec(func(f int) float64 { return unit(f) * unit(f) }, featCount, featCount))
	}
	const hidden = 2 * featClasses
	weight := func(i int) float64 {
		o, f := i/featCount, i%featCount
		w := 0.02 * math.Sin(float64(i))
		if f/8 == o/2 {
			w = 0.5
		}
		if o%2 == 1 {
			w = -w
		}
		if how == scaleFolded {
			w /= unit(f)
		}
		return w
	}
	bias := func(o int) float64 {
		b := 0.1
		for f := range featCount {
			if how == scaleFolded {
				b -= weight(o*featCount+f) * offset(f)
			}
		}
		return b
	}
	x = g.Op("Relu", nil, g.Op("Gemm", attrs{"transB": 1}, x, vec(weight, hidden*featCount, hidden, featCount), vec(bias, hidden, hidden)))
	head := func(i int) float64 {
		switch k, o := i/hidden, i%hidden; {
		case o/2 != k:
			return 0.01 * math.Cos(float64(i))
		case o%2 == 1:
			return -1
		}
		return 1
	}
	g.Output(g.Op("Gemm", attrs{"transB": 1}, x, vec(head, hidden*featClasses, featClasses, hidden)), m.F32)
	path := filepath.Join(t.TempDir(), "features.onnx")
	if err := os.WriteFile(path, g.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// featFile writes samples; change may spoil them.
func featFile(t *testing.T, seed uint64, n int, change func(x []float32), shape ...int) string {
	t.Helper()
	x, class := featSamples(seed, n)
	if change != nil {
		change(x)
	}
	path := filepath.Join(t.TempDir(), fmt.Sprintf("features%d.npz", seed))
	npzfile.Write(t, path, map[string]npzfile.Array{"x": {Shape: append([]int{n}, shape...), Data: x}, "label": {Shape: []int{n}, Data: class}})
	return path
}

// A model over features is compiled for arrays: each feature has the range that calibration found, whatever
// its unit, and integers are as right as the float model is on the features themselves.
func TestFeatureModels(t *testing.T) {
	for _, tc := range []struct {
		name  string
		how   scaler
		shape []int
	}{
		{"scaled inside", scaleFirst, []int{featCount}},
		{"scaled in the weights", scaleFolded, []int{featCount}},
		{"batch norm", scaleNorm, []int{featCount}},
		{"column", scaleFirst, []int{featCount, 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := compiler.Options{Model: featModel(t, tc.how, tc.shape...), Calib: featFile(t, 1, 600, nil, tc.shape...)}
			path, _, res := compile(t, o)
			if len(res.Inputs) != 1 || !strings.Contains(res.Inputs[0].Means, "features") {
				t.Errorf("inputs %+v", res.Inputs)
			}
			again, _, _ := compile(t, o)
			a, b := read(t, path), read(t, again)
			if !bytes.Equal(a, b) {
				t.Error("two compiles gave different bytes")
			}
			r := holds(t, verify.Options{Bundle: path, Model: o.Model, Tensors: featFile(t, 2, 2000, nil, tc.shape...), MinAgreement: 0.97, Random: 16}, 0.97)
			s := r.Output[0]
			t.Logf("accuracy: float %.4f, integer %.4f; notes %q", s.Float.Accuracy, s.Integer.Accuracy, r.Notes)
			if s.Float.Accuracy < 0.85 || s.Integer.Accuracy < s.Float.Accuracy-0.005 {
				t.Errorf("accuracy: float %.4f, integer %.4f: want the rule followed, and at most half a point less", s.Float.Accuracy, s.Integer.Accuracy)
			}
			packets(t, path)
		})
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// packets checks that nothing can feed the bundle packets.
func packets(t *testing.T, path string) {
	t.Helper()
	b, err := files.Read(path, bundle.Read)
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Manifest.Model.Features) != b.Program.Length || b.Manifest.Contract.YAML != "" {
		t.Errorf("%d ranges of %d features, contract %q", len(b.Manifest.Model.Features), b.Program.Length, b.Manifest.Contract.YAML)
	}
	for _, err := range []error{func() error { _, err := classify.FlowOptions(b); return err }(), func() error { _, err := classify.Contract(b); return err }()} {
		if err == nil || !strings.Contains(err.Error(), "features, not bytes") || !strings.Contains(err.Error(), ".npz") {
			t.Errorf("packets: %v", err)
		}
	}
}

// The float model is the one that was exported: outputs that another runtime would store are those of
// the features themselves, not of the levels that integers see.
func TestFeaturesStored(t *testing.T) {
	g := m.New(17)
	x := g.Input("x", m.F32, -1, 4)
	g.Output(g.Op("Gemm", attrs{"transB": 1}, x, g.Const(m.Tensor{Dims: []int{2, 4}, Data: []float32{1, 0.5, 0, -1, 0, 1, 1, 0}})), m.F32)
	model := filepath.Join(t.TempDir(), "linear.onnx")
	if err := os.WriteFile(model, g.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(4, 4))
	var in, out []float32
	for range 200 {
		v := []float32{rng.Float32(), 3 * rng.Float32(), -rng.Float32(), rng.Float32() / 3}
		in = append(in, v...)
		out = append(out, v[0]+0.5*v[1]-v[3], v[1]+v[2])
	}
	npz := filepath.Join(t.TempDir(), "stored.npz")
	npzfile.Write(t, npz, map[string]npzfile.Array{"x": {Shape: []int{200, 4}, Data: in}, "expect.Gemm_2": {Shape: []int{200, 2}, Data: out}})
	path, _, res := compile(t, compiler.Options{Model: model, Calib: npz})
	// Against what the levels stand for the error would be that of the logits alone, a hundredth of this.
	if e := res.Report.Quantize.Fidelity.MaxError; e < 3./254/4 {
		t.Errorf("compile measures an error of %g: less than half a level of the widest feature", e)
	} else {
		t.Logf("compile measures an error of %g", e)
	}
	r := holds(t, verify.Options{Bundle: path, Model: model, Tensors: npz, MinAgreement: 0.97}, 0.97)
	if s := r.Output[0].Stored; s == nil {
		t.Error("nothing stored was compared")
	}
}

// What lies outside of the ranges is taken to their ends, counted and said; what is no number is an error
// that says where.
func TestFeaturesOutside(t *testing.T) {
	o := compiler.Options{Model: featModel(t, scaleFirst, featCount), Calib: featFile(t, 1, 600, nil, featCount)}
	path, _, _ := compile(t, o)
	b, err := files.Read(path, bundle.Read)
	if err != nil {
		t.Fatal(err)
	}
	far := featFile(t, 5, 50, func(x []float32) {
		for i := range x {
			if f := i % featCount; f != 2 {
				offset, unit := featUnit(f)
				x[i] = float32(offset + 0.5*unit) // inside, but for the constant one
			}
		}
		x[2], x[featCount+2] = 1e30, -1e30
		for i := 2 * featCount; i < len(x); i += featCount {
			x[i+2] = 0
		}
		for i := 0; i < len(x); i += featCount {
			x[i] = float32(func() float64 { o, _ := featUnit(0); return o }())
		}
		x[0] = 1
	}, featCount)
	s, err := calibrate.ForBundle(far, b)
	if err != nil {
		t.Fatal(err)
	}
	if s.Inputs[0].Tokens[2] != bundle.FeatureLevels-1 || s.Inputs[1].Tokens[2] != 0 {
		t.Errorf("ids %d and %d of 1e30 and -1e30", s.Inputs[0].Tokens[2], s.Inputs[1].Tokens[2])
	}
	note := strings.Join(s.Notes, "\n")
	if !strings.Contains(note, "3 of 2000 numbers of x lie outside of the ranges") || !strings.Contains(note, "feature 2 most often") {
		t.Errorf("notes %q", s.Notes)
	}
	r, err := verify.Run(verify.Options{Bundle: path, Model: o.Model, Tensors: far})
	if err != nil || !strings.Contains(strings.Join(r.Notes, "\n"), "outside of the ranges") {
		t.Errorf("%v, notes %q", err, r.Notes)
	}
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1))} {
		file := featFile(t, 6, 20, func(x []float32) { x[3*featCount+7] = bad }, featCount)
		where := fmt.Sprintf("x[3,7] is %g", bad)
		if _, err := calibrate.ForBundle(file, b); err == nil || !strings.Contains(err.Error(), where) || !strings.Contains(err.Error(), file) {
			t.Errorf("%v, want %s", err, where)
		}
		o.Calib = file
		if _, err := compiler.Compile(t.Context(), o); err == nil || !strings.Contains(err.Error(), where) {
			t.Errorf("compile: %v, want %s", err, where)
		}
	}
}

// A convolution reads all features with one range, so that the model's own scaling is what makes them alike.
func TestFeaturesConvolved(t *testing.T) {
	build := func(scale func(g *m.Model, x string) string) string {
		g := m.New(17)
		x := scale(g, g.Input("x", m.F32, -1, 1, featCount))
		x = g.Op("Relu", nil, conv(8, 1, 5, nil)(g, x))
		verdict(g, g.Reduce("ReduceMax", x, 0, 2), 8)
		path := filepath.Join(t.TempDir(), "conv.onnx")
		if err := os.WriteFile(path, g.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	standard := func(sign float32) func(g *m.Model, x string) string {
		return func(g *m.Model, x string) string {
			mean, factor := make([]float32, featCount), make([]float32, featCount)
			for f := range featCount {
				o, u := featUnit(f)
				mean[f], factor[f] = float32(o), float32(1/u)
				if f%3 == 0 {
					factor[f] *= sign
				}
			}
			x = g.Op("Sub", nil, x, g.Const(m.Tensor{Dims: []int{featCount}, Data: mean}))
			return g.Op("Mul", nil, x, g.Const(m.Tensor{Dims: []int{featCount}, Data: factor}))
		}
	}
	// One range for all has no room for a heavy tail.
	even := func(x []float32) {
		offset, unit := featUnit(1)
		for i := 1; i < len(x); i += featCount {
			x[i] = float32(offset + unit*math.Log(1+(float64(x[i])-offset)/unit))
		}
	}
	alike := func(x []float32) {
		even(x)
		for i := range x {
			offset, unit := featUnit(i % featCount)
			x[i] = (x[i] - float32(offset)) / float32(unit)
		}
	}
	for name, tc := range map[string]struct {
		model string
		data  func(x []float32)
	}{
		"scaled inside":     {build(standard(1)), even},
		"some turned":       {build(standard(-1)), even},
		"alike as they are": {build(func(_ *m.Model, x string) string { return x }), alike},
		"divided by 3":      {build(func(g *m.Model, x string) string { return g.Op("Div", nil, x, g.Scalar(3)) }), alike},
	} {
		t.Run(name, func(t *testing.T) {
			path, _, _ := compile(t, compiler.Options{Model: tc.model, Calib: featFile(t, 1, 400, tc.data, 1, featCount)})
			r := holds(t, verify.Options{Bundle: path, Model: tc.model, Tensors: featFile(t, 2, 400, tc.data, 1, featCount), MinAgreement: 0.95, Random: 8}, 0.95)
			if e := r.Output[0].RelError; e > 0.15 {
				t.Errorf("error %.3f of the logits' spread", e)
			}
			packets(t, path)
		})
	}
}

// An image of numbers, such as bytes from 0 to 1 in float: the windows of a convolution over both axes are read with one range.
func TestFeaturesImage(t *testing.T) {
	g := m.New(17)
	x := g.Op("Mul", nil, g.Input("x", m.F32, -1, 1, 5, featCount/5), g.Scalar(1.0/3))
	x = g.Op("Conv", attrs{"pads": []int{1, 1, 1, 1}, "strides": []int{1, 2}}, x, g.Random(8, 1, 3, 3), g.RandomScaled(0.1, 0, 8))
	verdict(g, g.Reduce("ReduceMax", g.Op("Relu", nil, x), 0, 2, 3), 8)
	model := filepath.Join(t.TempDir(), "image.onnx")
	if err := os.WriteFile(model, g.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	alike := func(x []float32) {
		for i := range x {
			offset, unit := featUnit(i % featCount)
			x[i] = min((x[i]-float32(offset))/float32(unit), 4)
		}
	}
	path, _, res := compile(t, compiler.Options{Model: model, Calib: featFile(t, 1, 400, alike, 1, 5, featCount/5), MaxDisagreement: 0.05})
	holds(t, verify.Options{Bundle: path, Model: model, Tensors: featFile(t, 2, 400, alike, 1, 5, featCount/5), MinAgreement: 0.95, Random: 8}, 0.95)
	everyKernelPath(t, res)
	packets(t, path)
}

// What can't be read with ranges is refused, and the way out works.
func TestFeaturesRefused(t *testing.T) {
	model := func(first func(g *m.Model, x string) string) string {
		g := m.New(17)
		x := first(g, g.Input("x", m.F32, -1, featCount))
		g.Output(linear(featClasses, featCount)(g, x), m.F32)
		path := filepath.Join(t.TempDir(), "refused.onnx")
		if err := os.WriteFile(path, g.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	refused := func(o compiler.Options, says ...string) {
		t.Helper()
		_, err := compiler.Compile(t.Context(), o)
		for _, s := range says {
			if err == nil || !strings.Contains(err.Error(), s) {
				t.Errorf("%v, want %q", err, s)
			}
		}
	}
	calib := featFile(t, 1, 400, nil, featCount)
	refused(compiler.Options{Model: model(apply("Tanh", nil)), Calib: calib}, "Tanh", "features of a flow", "before the model")
	refused(compiler.Options{Model: model(func(g *m.Model, x string) string {
		return g.Op("Add", nil, x, g.Op("Mul", nil, x, x))
	}), Calib: calib}, "/Add_", "/Mul_", "before the model")
	// The way out: what the model did first is done to the data.
	done := featFile(t, 1, 400, func(x []float32) {
		for i := range x {
			x[i] = float32(math.Tanh(float64(x[i])))
		}
	}, featCount)
	compile(t, compiler.Options{Model: model(func(_ *m.Model, x string) string { return x }), Calib: done})

	plain := compiler.Options{Model: featModel(t, scaleFirst, featCount), Calib: calib, Features: true}
	c, _ := traffic.Named("byte")
	c.Length = featCount
	both := plain
	both.Contract = &c
	refused(compiler.Options{Model: tiny(t, 40).Model, Calib: calib, Features: true}, "no input holds numbers", "leave out --features")
	refused(both, "--features", "traffic contract", "leave out one of the two")
	capture := plain
	capture.Calib = filepath.Join(t.TempDir(), "calib.pcap")
	if err := os.WriteFile(capture.Calib, []byte("\xd4\xc3\xb2\xa1"), 0o644); err != nil {
		t.Fatal(err)
	}
	refused(capture, "calib.pcap", "features", ".npz")

	// Whole numbers, as counters are, look like bytes: the user says that they are features.
	counts := func(seed uint64) string {
		return featFile(t, seed, 400, func(x []float32) {
			for i := range x {
				offset, unit := featUnit(i % featCount)
				x[i] = float32(math.Round(math.Max(0, math.Min(255, float64(20*(x[i]-float32(offset))/float32(unit)+100)))))
			}
		}, featCount)
	}
	counted := compiler.Options{Model: model(func(_ *m.Model, x string) string { return x }), Calib: counts(1)}
	if _, _, res := compile(t, counted); !strings.Contains(res.Inputs[0].Means, "bytes 0..255") || !strings.Contains(res.Inputs[0].Means, "--features") {
		t.Errorf("inputs %+v", res.Inputs)
	}
	counted.Features = true
	path, _, res := compile(t, counted)
	if !strings.Contains(res.Inputs[0].Means, "features") {
		t.Errorf("inputs %+v", res.Inputs)
	}
	packets(t, path)
	holds(t, verify.Options{Bundle: path, Model: counted.Model, Tensors: counts(2), MinAgreement: 0.95}, 0.95)
}

// Without data a check can't tell bytes from features, and says so.
func TestFeaturesCheck(t *testing.T) {
	o := compiler.Options{Model: featModel(t, scaleFirst, featCount)}
	res, err := compiler.Check(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if s := res.Inputs[0].Means; !strings.Contains(s, "bytes or features can't be told without data") {
		t.Error(s)
	}
	o.Features = true
	if res, err = compiler.Check(t.Context(), o); err != nil || !strings.Contains(res.Inputs[0].Means, "features") {
		t.Errorf("%v %+v", err, res)
	}
}
