package calibrate_test

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"nepcoc/compiler/calibrate"
	"nepcoc/internal/npzfile"
	"nepcoc/ir"
	"nepcoc/passes"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/traffic"
)

var tokens = passes.Local{Length: 3, Vocab: 10, Encoding: "token", TokenInput: "src", MaskInput: "seg"}

func bytes255() passes.Local {
	l := tokens
	l.Vocab, l.Encoding, l.MaskInput = 256, "byte/255", ""
	return l
}

type arrays = map[string]npzfile.Array

func i64(shape []int, d ...int64) npzfile.Array   { return npzfile.Array{Shape: shape, Data: d} }
func f32(shape []int, d ...float32) npzfile.Array { return npzfile.Array{Shape: shape, Data: d} }

func write(t *testing.T, a arrays) string {
	path := filepath.Join(t.TempDir(), "calib.npz")
	npzfile.Write(t, path, a)
	return path
}

func good() arrays {
	return arrays{
		"src": i64([]int{2, 3}, 1, 2, 3, 9, 0, 0), "seg": i64([]int{2, 3}, 1, 1, 1, 1, 0, 0),
		"label": i64([]int{2}, 1, -1), "expect.logits": f32([]int{2, 2}, 0.5, 1, 2, 3),
	}
}

func TestFromArrays(t *testing.T) {
	s, err := calibrate.FromArrays(write(t, good()), tokens, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Inputs) != 2 || s.Inputs[0].Valid != 3 || s.Inputs[1].Valid != 1 || !slices.Equal(s.Inputs[1].Tokens, []int32{9, 0, 0}) {
		t.Errorf("inputs %+v", s.Inputs)
	}
	if !reflect.DeepEqual(s.LabelsOf("logits", true), [][]int{{1}, nil}) || len(s.Expect["logits"]) != 2 || s.Expect["logits"][1][0] != 2 || len(s.SHA256) != 64 {
		t.Errorf("%+v", s)
	}
	// Labels may be rows of ones and zeros.
	many := good()
	many["label.tags"] = i64([]int{2, 3}, 0, 0, 0, 1, 0, 1)
	if m, err := calibrate.FromArrays(write(t, many), tokens, nil); err != nil || !reflect.DeepEqual(m.LabelsOf("tags", false), [][]int{{}, {0, 2}}) {
		t.Errorf("%v, %+v", err, m)
	}
	many["label.tags"] = i64([]int{2, 3}, 0, 0, 0, 1, 2, 1)
	if _, err := calibrate.FromArrays(write(t, many), tokens, nil); err == nil || !strings.Contains(err.Error(), "label.tags[1,1] is 2: want 1 where the sample has the label") {
		t.Error(err)
	}
	// Any number type will do; a mask may be of truth values.
	a := good()
	a["src"] = f32([]int{2, 3}, 1, 2, 3, 9, 0, 0)
	a["seg"] = npzfile.Array{Shape: []int{2, 1, 3}, Data: []bool{true, true, true, true, false, false}}
	b, err := calibrate.FromArrays(write(t, a), tokens, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.EqualFunc(s.Inputs, b.Inputs, func(x, y calibrate.Input) bool { return x.Valid == y.Valid && slices.Equal(x.Tokens, y.Tokens) }) {
		t.Errorf("%+v, want %+v", b.Inputs, s.Inputs)
	}
	b, err = calibrate.FromArrays(write(t, arrays{"src": f32([]int{1, 3}, 0, 17.0/255, 1)}), bytes255(), nil)
	if err != nil || !slices.Equal(b.Inputs[0].Tokens, []int32{0, 17, 255}) || b.Inputs[0].Valid != 3 {
		t.Errorf("bytes: %+v, %v", b, err)
	}
}

func TestFromArraysErrors(t *testing.T) {
	nan := float32(math.NaN())
	set := func(name string, a npzfile.Array) func(arrays) { return func(m arrays) { m[name] = a } }
	for name, tc := range map[string]struct {
		local  passes.Local
		change func(arrays)
		want   string
	}{
		"no tokens":        {tokens, func(m arrays) { delete(m, "src") }, `no array "src"`},
		"no mask":          {tokens, func(m arrays) { delete(m, "seg") }, `no array "seg"`},
		"other length":     {tokens, set("src", i64([]int{3, 2}, 1, 2, 3, 9, 0, 0)), "want [samples,3]"},
		"transposed mask":  {tokens, set("seg", i64([]int{3, 2}, 1, 1, 1, 1, 0, 0)), "want [samples,3]"},
		"one dimension":    {tokens, set("src", i64([]int{6}, 1, 2, 3, 9, 0, 0)), "want [samples,3]"},
		"no dimension":     {tokens, set("src", i64(nil, 1)), "want [samples,3]"},
		"empty":            {tokens, set("src", i64([]int{0, 3})), "want [samples,3]"},
		"fewer masks":      {tokens, set("seg", i64([]int{1, 3}, 1, 1, 1)), `2 rows of "src" but 1 of "seg"`},
		"hole in the mask": {tokens, set("seg", i64([]int{2, 3}, 1, 0, 1, 1, 0, 0)), "valid positions must come first"},
		"mask of two":      {tokens, set("seg", i64([]int{2, 3}, 1, 2, 0, 1, 0, 0)), "valid positions must come first"},
		"empty mask":       {tokens, set("seg", i64([]int{2, 3}, 1, 1, 1, 0, 0, 0)), "at least one position"},
		"unknown token":    {tokens, set("src", i64([]int{2, 3}, 1, 2, 10, 9, 0, 0)), "token id 10 is not in 0..9"},
		"negative token":   {tokens, set("src", i64([]int{2, 3}, 1, 2, -1, 9, 0, 0)), "token id -1"},
		"fraction":         {tokens, set("src", f32([]int{2, 3}, 1, 2, 0.5, 9, 0, 0)), "token id 0.5"},
		"not a number":     {tokens, set("src", f32([]int{2, 3}, 1, 2, nan, 9, 0, 0)), "token id NaN"},
		"not a byte":       {bytes255(), set("src", f32([]int{1, 3}, 0, 0.5, 1)), "0.5 is not a byte value"},
		"byte too large":   {bytes255(), set("src", f32([]int{1, 3}, 0, 2, 1)), "2 is not a byte value"},
		"byte of no value": {bytes255(), set("src", f32([]int{1, 3}, 0, nan, 1)), "NaN is not a byte value"},
		"too few labels":   {tokens, set("label", i64([]int{1}, 1)), "its first axis must count the 2 samples, one class each"},
		"fraction label":   {tokens, set("label", f32([]int{2}, 1, 0.5)), "want the index of a class"},
		"no label":         {tokens, set("label", f32([]int{2}, 1, nan)), "want the index of a class"},
		"ragged expect":    {tokens, set("expect.logits", f32([]int{3}, 1, 2, 3)), "has the shape [3]: its first axis must count the 2 samples"},
	} {
		t.Run(name, func(t *testing.T) {
			a := good()
			tc.change(a)
			if tc.local.Encoding == "byte/255" {
				delete(a, "label")
				delete(a, "expect.logits")
			}
			path := write(t, a)
			_, err := calibrate.FromArrays(path, tc.local, nil)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
			if !strings.Contains(err.Error(), path) {
				t.Errorf("%v: does not name the file", err)
			}
		})
	}
	if _, err := calibrate.FromArrays(filepath.Join(t.TempDir(), "none.npz"), tokens, nil); err == nil {
		t.Error("read a file that does not exist")
	}
}

// A capture without packets, and one without flows, can't calibrate.
func TestFromCaptureErrors(t *testing.T) {
	dir := t.TempDir()
	header := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	for _, x := range []uint32{4<<16 | 2, 0, 0, 65535, 1} {
		header = binary.LittleEndian.AppendUint32(header, x)
	}
	arp := append(header, make([]byte, 16)...) // one record of 14 bytes, no IP
	binary.LittleEndian.PutUint32(arp[len(header)+8:], 14)
	binary.LittleEndian.PutUint32(arp[len(header)+12:], 14)
	arp = append(arp, make([]byte, 14)...)
	for name, data := range map[string][]byte{"empty.pcap": header, "arp.pcap": arp, "none.pcap": {}, "text.pcap": []byte("not a capture at all, but long enough")} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := calibrate.FromCapture([]string{path}, traffic.Default(), bundle.View{}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSpread(t *testing.T) {
	s := calibrate.Set{Inputs: make([]calibrate.Input, 10)}
	for i := range s.Inputs {
		s.Inputs[i].Valid = i
	}
	var got []int
	for _, in := range s.Spread(4) {
		got = append(got, in.Valid)
	}
	if !slices.Equal(got, []int{0, 2, 5, 7}) || len(s.Spread(10)) != 10 || len(s.Spread(99)) != 10 {
		t.Errorf("picked %v", got)
	}
}

// Compare by hand: scale 0.5, two samples of two logits.
func TestCompare(t *testing.T) {
	float := [][]float32{{1, 0}, {0, 2}}
	ints := [][]int32{{2, 0}, {4, 2}} // 1,0 and 2,1
	o := judgeOf("logits", 2, bundle.OutputInfo{})
	c := calibrate.Compare(float, ints, o)
	// Means 0.5 and 1; spread 0.25*2+1*2 = 2.5; errors 0, 0, 4, 1.
	if c.Samples != 2 || c.Agreement != 0.5 || !slices.Equal(c.Differing, []int{1}) || c.MaxError != 2 {
		t.Errorf("%+v", c)
	}
	if want := math.Sqrt(5 / 2.5); math.Abs(c.RelError-want) > 1e-12 {
		t.Errorf("relative error %g, want %g", c.RelError, want)
	}
	if want := (1 + 1/math.Sqrt(5)) / 2; math.Abs(c.Cosine-want) > 1e-9 {
		t.Errorf("cosine %g, want %g", c.Cosine, want)
	}
	// A model that ends in ArgMax: labels against logits.
	c = calibrate.Compare([][]float32{{0}, {1}}, ints, judgeOf("argmax", 2, bundle.OutputInfo{}))
	if c.Agreement != 0.5 || c.Cosine != 1 || c.RelError != 0 || !slices.Equal(c.Differing, []int{1}) {
		t.Errorf("argmax: %+v", c)
	}
	if c := calibrate.Compare(nil, nil, o); c.Samples != 0 || c.RelError != 0 {
		t.Errorf("nothing: %+v", c)
	}
}

// judgeOf is a judge of an output with n logits of scale 0.5, and a table of exp.
func judgeOf(ending bundle.Ending, n int, info bundle.OutputInfo) *calibrate.Judge {
	exp := make([]byte, 4*2048)
	for i := range 2048 {
		binary.LittleEndian.PutUint32(exp[4*i:], uint32(math.Round(math.Exp(-float64(i)/128)*(1<<24))))
	}
	mult := 64.0 // 128 entries per unit
	if info.Temperature != 0 {
		mult /= info.Temperature // as the compiler scales it
	}
	p := &bundle.Program{
		Values:  []bundle.Value{{Rows: 1, Cols: n, DType: bundle.I32}},
		Tensors: []bundle.Tensor{{Name: "exp", DType: bundle.I32, Shape: []int{2048}, Data: exp}},
		Outputs: []bundle.Output{{Ending: ending, Scale: 0.5, ExpMult: int32(mult)}},
	}
	return calibrate.NewJudge(p, 0, &info)
}

// Float and integer verdicts of the same logits are the same, whatever the model makes of them, at every
// threshold and temperature: one logit is never one class for all inputs.
func TestJudge(t *testing.T) {
	sigmoid := func(x float64) float32 { return float32(1 / (1 + math.Exp(-x))) }
	for _, threshold := range []float64{0.1, 0.5, 0.9} {
		for _, temperature := range []float64{0, 2} {
			binary := bundle.OutputInfo{Kind: bundle.KindBinary, Thresholds: []float64{threshold}, Temperature: temperature}
			labels := bundle.OutputInfo{Kind: bundle.KindLabels, Thresholds: []float64{threshold, 0.5}, Temperature: temperature}
			for _, ending := range []bundle.Ending{bundle.EndLogits, bundle.EndSigmoid} {
				one, two := judgeOf(ending, 1, binary), judgeOf(ending, 2, labels)
				seen := map[int]bool{}
				for q := int32(-40); q <= 40; q++ {
					value := float32(q) / 2
					other := float32(-q) / 2
					if ending == bundle.EndSigmoid {
						value, other = sigmoid(float64(q)/2), sigmoid(-float64(q)/2)
					}
					f, i := one.Float([]float32{value}), one.Integer([]int32{q})
					if !slices.Equal(f, i) || len(i) != 1 {
						t.Errorf("%s, threshold %g, temperature %g: logit %d: float %d, integer %d", ending, threshold, temperature, q, f, i)
					}
					seen[i[0]] = true
					if f, i := two.Float([]float32{value, other}), two.Integer([]int32{q, -q}); !slices.Equal(f, i) {
						t.Errorf("%s, threshold %g, temperature %g: logits %d, %d: float %d, integer %d", ending, threshold, temperature, q, -q, f, i)
					}
				}
				if len(seen) != 2 {
					t.Errorf("%s, threshold %g: verdicts %v of all logits", ending, threshold, seen)
				}
			}
		}
	}
	if v := judgeOf("logits", 3, bundle.OutputInfo{Kind: bundle.KindValues}); v.Float([]float32{1, 2, 3}) != nil || v.Integer([]int32{1, 2, 3}) != nil {
		t.Error("values have a verdict")
	}
}

func TestReal(t *testing.T) {
	v := []int32{2, 0, -2}
	e := math.E
	sum := e + 1 + 1/e
	for ending, want := range map[bundle.Ending][]float64{
		"logits": {1, 0, -1}, "argmax": {1, 0, -1},
		"softmax":     {e / sum, 1 / sum, 1 / e / sum},
		"log_softmax": {1 - math.Log(sum), -math.Log(sum), -1 - math.Log(sum)},
	} {
		for i, x := range calibrate.Real(v, &bundle.Output{Ending: ending, Scale: 0.5}) {
			if math.Abs(x-want[i]) > 1e-12 {
				t.Errorf("%s[%d] = %g, want %g", ending, i, x, want[i])
			}
		}
	}
	// Far apart, nothing overflows.
	for i, x := range calibrate.Real([]int32{math.MaxInt32, math.MinInt32}, &bundle.Output{Ending: bundle.EndSoftmax, Scale: 1}) {
		if x != float64(1-i) {
			t.Errorf("saturated softmax: %g", x)
		}
	}
}

func TestFloatAndObserve(t *testing.T) {
	g, err := ir.Parse(`graph "g" {
  %tokens = input i64[3]
  %valid = input i64[]
  %table = const f32[3,1] [1, 10, 100]
  %x = embed(%tokens, %table) : f32[3,1]
  %p = pool(%x, %valid) {kind="sum"} : f32[1]
  output %p as "logits"
}`)
	if err != nil {
		t.Fatal(err)
	}
	inputs := []calibrate.Input{{Tokens: []int32{0, 1, 2}, Valid: 2}, {Tokens: []int32{2, 2, 0}, Valid: 3}}
	res, err := calibrate.Float(g, inputs, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res[0][0][0] != 11 || res[0][1][0] != 201 {
		t.Errorf("%v", res)
	}
	var seen []string
	if err := calibrate.Observe(g, inputs, func(v *ir.Value, x *ir.Tensor) { seen = append(seen, v.Name) }); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(seen, " "); got != "valid x p valid x p" {
		t.Errorf("observed %s", got)
	}
}

// Agreement that a program without a thought would reach is none.
func TestBlind(t *testing.T) {
	for name, tc := range map[string]struct {
		c    calibrate.Comparison
		want bool
	}{
		"follows":            {calibrate.Comparison{Samples: 100, Commonest: 60, Differing: []int{1}, RelError: 0.01}, false},
		"an outlier's error": {calibrate.Comparison{Samples: 100, Commonest: 60, RelError: 5}, false},
		"always the same":    {calibrate.Comparison{Samples: 100, Commonest: 99, Differing: []int{1}, RelError: 5}, true},
		"close, but rare":    {calibrate.Comparison{Samples: 100, Commonest: 99, Differing: []int{1}, RelError: 0.1}, false},
		"one verdict":        {calibrate.Comparison{Samples: 100, Commonest: 100, RelError: 5}, false},
		"no number":          {calibrate.Comparison{Samples: 100, Commonest: 99, Differing: []int{1}, RelError: math.NaN()}, true},
	} {
		if got := tc.c.Blind(); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
