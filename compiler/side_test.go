package compiler_test

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nepcoc/compiler"
	"nepcoc/compiler/calibrate"
	"nepcoc/compiler/npz"
	"nepcoc/compiler/verify"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

const sidesModel, testbedCalib = "testdata/forms/sides.onnx", "../examples/testbed/calib.pcap"

// besideContract feeds testdata/forms/sides.onnx from packets: 48 bytes and a padding id, six lengths, six gaps.
func besideContract(t *testing.T) traffic.Contract {
	t.Helper()
	c, err := traffic.Named("byte")
	if err != nil {
		t.Fatal(err)
	}
	c.Name, c.Encoding, c.Pad, c.Length = "beside", traffic.EncodingToken, 256, 48
	c.Packets, c.Numbers = 6, []traffic.Number{traffic.NumberLength, traffic.NumberGap}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return c
}

// Numbers beside the sequence from packets: calibrated, verified, and run as the bundle's own commands do, of which each
// must give the model the numbers that the flow table makes.
func TestSidesOfPackets(t *testing.T) {
	c := besideContract(t)
	path, _, res := compile(t, compiler.Options{Model: sidesModel, Contract: &c, Calib: testbedCalib, MaxDisagreement: 0.03})
	holds(t, verify.Options{Bundle: path, Model: sidesModel, Pcap: testbedCalib, Random: 16}, 0.97)
	everyKernelPath(t, res)
	p := res.Bundle.Program
	if p.Sides != 12 || len(res.Bundle.Manifest.Model.Sides) != 2 {
		t.Fatalf("%d ids beside the sequence, inputs %+v", p.Sides, res.Bundle.Manifest.Model.Sides)
	}
	set, err := calibrate.FromCapture([]string{testbedCalib}, c, bundle.View{})
	if err != nil {
		t.Fatal(err)
	}
	src, err := capture.Open(testbedCalib)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	fo, err := classify.OptionsFor(c, bundle.View{})
	if err != nil {
		t.Fatal(err)
	}
	flows, _, err := flow.CollectAll(src, fo)
	if err != nil || len(flows) != len(set.Inputs) {
		t.Fatal(err, len(flows), len(set.Inputs))
	}
	several, inputs := 0, make(map[string]int) // these come in the order of verdicts, flows in that of their first packets
	for _, in := range set.Inputs {
		inputs[fmt.Sprint(in.Tokens)]++
	}
	for i, f := range flows {
		numbers := f.Tokens[48:]
		if inputs[fmt.Sprint(f.Tokens)]--; inputs[fmt.Sprint(f.Tokens)] < 0 {
			t.Fatalf("flow %d: no input has numbers %v", i, numbers)
		}
		if packets := min(6, int(f.Packets[0]+f.Packets[1])); packets > 1 && slices.Max(numbers[:6]) > 0 && slices.Max(numbers[6:]) > 0 {
			several++
		}
	}
	if several < len(flows)/2 {
		t.Errorf("%d of %d flows have lengths and gaps", several, len(flows))
	}
	// The numbers reach the verdict: the same tokens with others give other logits.
	e, err := classify.Engine(res.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	out := [][]int32{make([]int32, 6)}
	changed := 0
	for _, in := range set.Inputs {
		logits := func(ids []int32) []int32 {
			if err := e.Run(ids, in.Valid, out); err != nil {
				t.Fatal(err)
			}
			return slices.Clone(out[0])
		}
		other := slices.Clone(in.Tokens)
		for i := range 6 {
			other[48+i] = 1460 - other[48+i]%1460
		}
		if !slices.Equal(logits(in.Tokens), logits(other)) {
			changed++
		}
	}
	if changed < len(set.Inputs)*9/10 {
		t.Errorf("other lengths change the logits of %d of %d flows", changed, len(set.Inputs))
	}
}

// What doesn't fit is refused with a way out, and who follows it gets a bundle.
func TestSidesRefused(t *testing.T) {
	fits := besideContract(t)
	none, few := fits, fits
	none.Numbers = nil
	few.Packets = 5
	plain := "testdata/forms/padding_id.onnx"
	for _, tc := range []struct {
		name, model string
		c           *traffic.Contract
		calib, want string
	}{
		{"no contract", sidesModel, nil, testbedCalib, "the model reads 12 numbers beside its tokens, and no built-in traffic contract gives any: write one that does (nepcoc contract init; numbers: [length, direction, gap] of so many packets), and give it (--contract FILE); or calibrate with arrays"},
		{"none", sidesModel, &none, testbedCalib, "the model reads 12 numbers beside its tokens, traffic contract beside gives none: write which facts of how many packets they are"},
		{"few", sidesModel, &few, testbedCalib, "the model reads 12 numbers beside its tokens, traffic contract beside gives 10, 2 of each of 5 packets: write other numbers or packets"},
		{"too many", plain, &fits, testbedCalib, "the model reads no numbers beside its tokens, traffic contract beside gives 12: write numbers: []"},
	} {
		o := compiler.Options{Model: tc.model, Contract: tc.c, Calib: tc.calib, MaxDisagreement: 0.03}
		if _, err := compiler.Compile(t.Context(), o); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: compile: %v, want %s", tc.name, err, tc.want)
		}
		if tc.c == nil {
			continue
		}
		if _, err := compiler.Check(t.Context(), o); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: check: %v, want %s", tc.name, err, tc.want)
		}
	}
	// The ways out: that contract for this model, none for arrays, and no numbers for a model without.
	compile(t, compiler.Options{Model: sidesModel, Calib: "testdata/forms/sides.npz", MaxDisagreement: 0.03})
	compile(t, compiler.Options{Model: plain, Contract: &none, Calib: testbedCalib, MaxDisagreement: 0.03})
	for _, c := range []*traffic.Contract{nil, &fits} {
		if _, err := compiler.Check(t.Context(), compiler.Options{Model: sidesModel, Contract: c}); err != nil {
			t.Errorf("check: %v", err)
		}
	}
}

// sideArrays are rows of sides.npz, as arrays to be spoilt.
func sideArrays(t *testing.T, n int) map[string]array {
	t.Helper()
	f, err := npz.Open("testdata/forms/sides.npz")
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]array)
	for _, name := range []string{"bytes", "lengths", "times"} {
		a, err := f.Array(name)
		if err != nil {
			t.Fatal(err)
		}
		width := a.Len() / a.Shape[0]
		var rows []float32
		if d, ok := a.Floats(); ok {
			for _, x := range d[:n*width] {
				rows = append(rows, float32(x))
			}
		} else {
			ints, _ := a.Ints()
			for _, x := range ints[:n*width] {
				rows = append(rows, float32(x))
			}
		}
		out[name] = array{[]int{n, width}, rows}
	}
	return out
}

// Arrays that can't be what the model reads are refused by file, array and row, for compiling and for running alike.
func TestSideArraysRefused(t *testing.T) {
	c := besideContract(t)
	_, _, packets := compile(t, compiler.Options{Model: sidesModel, Contract: &c, Calib: testbedCalib, MaxDisagreement: 0.03})
	_, _, arrays := compile(t, compiler.Options{Model: sidesModel, Calib: "testdata/forms/sides.npz", MaxDisagreement: 0.03})
	for _, tc := range []struct {
		name  string
		spoil func(a map[string]array)
		want  string
		b     *bundle.Bundle
	}{
		{"missing", func(a map[string]array) { delete(a, "times") }, `no array "times": it must hold the model's numbers beside the sequence, one row per sample (the file has: bytes, lengths)`, arrays.Bundle},
		{"width", func(a map[string]array) { a["lengths"] = array{[]int{20, 5}, make([]float32, 100)} }, `array "lengths" has the shape [20 5]: want [samples,6]`, arrays.Bundle},
		{"rows", func(a map[string]array) { a["lengths"] = array{[]int{19, 6}, make([]float32, 114)} }, `20 rows of "bytes" but 19 of "lengths"`, arrays.Bundle},
		{"NaN", func(a map[string]array) { a["times"].data.([]float32)[3*6+2] = float32(math.NaN()) }, "times[3,2] is NaN: what stands beside the sequence is a number; replace what is missing as in training", arrays.Bundle},
		{"infinite", func(a map[string]array) { a["times"].data.([]float32)[7*6] = float32(math.Inf(-1)) }, "times[7,0] is -Inf: what stands beside the sequence is a number", arrays.Bundle},
		{"no whole number", func(a map[string]array) {}, "times[0,0] is ", packets.Bundle},
	} {
		a := sideArrays(t, 20)
		tc.spoil(a)
		path := filepath.Join(t.TempDir(), "spoilt.npz")
		writeArrays(t, path, a)
		want := path + ": " + tc.want
		if _, err := calibrate.ForBundle(path, tc.b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: run: %v, want %s", tc.name, err, want)
		}
		if tc.b == packets.Bundle {
			continue
		}
		if _, err := compiler.Compile(t.Context(), compiler.Options{Model: sidesModel, Calib: path, MaxDisagreement: 1}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: compile: %v, want %s", tc.name, err, want)
		}
	}
	// Far outside of what calibration saw: taken to the ends, and said.
	a := sideArrays(t, 20)
	a["times"].data.([]float32)[8] = 1e30
	path := filepath.Join(t.TempDir(), "far.npz")
	writeArrays(t, path, a)
	set, err := calibrate.ForBundle(path, arrays.Bundle)
	if err != nil || set.Inputs[1].Tokens[48+6+2] != bundle.SideIDs-1 || !strings.Contains(fmt.Sprint(set.Notes), "1 of 120 numbers of times lie far outside of what calibration saw") {
		t.Errorf("%v, notes %v", err, set)
	}
}

// An executor takes as many ids as the program has, no others.
func TestSideInputsChecked(t *testing.T) {
	_, _, res := compile(t, compiler.Options{Model: sidesModel, Calib: "testdata/forms/sides.npz", MaxDisagreement: 0.03})
	p, g := res.Bundle.Program, res.Bundle.Golden[0]
	for _, tc := range []struct {
		ids  []int32
		want string
	}{
		{g.Tokens[:48], "input has 0 numbers beside 48 tokens, the program takes 12"},
		{append(slices.Clone(g.Tokens), 0), "input has 13 numbers beside"},
		{append(slices.Clone(g.Tokens[:59]), -1), "number 11 beside the sequence is -1, ids are 0 to 16777215"},
		{append(slices.Clone(g.Tokens[:59]), bundle.SideIDs), "number 11 beside the sequence is 16777216"},
	} {
		if err := p.CheckInput(tc.ids, 48); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%v, want %s", err, tc.want)
		}
	}
}
