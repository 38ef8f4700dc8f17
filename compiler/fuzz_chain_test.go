package compiler_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nepcoc/compiler"
	"nepcoc/compiler/calibrate"
	"nepcoc/compiler/onnx"
	m "nepcoc/internal/onnxmodel"
	"nepcoc/ir"
	"nepcoc/ir/eval"
	"nepcoc/passes"
)

// chain writes a model of several operators in a row, chosen by data, nil
// where data ask for too little.
func chain(data []byte) []byte {
	if len(data) < 2 {
		return nil
	}
	opset := onnx.MinOpset + int(data[0])%(onnx.MaxOpset-onnx.MinOpset+1)
	var usable []*opCase
	for i := range opCases {
		c := &opCases[i]
		if strings.HasPrefix(c.name, "QDQ") {
			continue // rounds in the middle: floats that differ in the last bit come out a level apart
		}
		if c.at == inSequence && (c.channels == 0 || c.channels == opChannels) && c.from <= opset && (c.to == 0 || opset <= c.to) {
			usable = append(usable, c)
		}
	}
	g := m.New(opset)
	x := same3(g, embedded(g, tokens(g)))
	for _, b := range data[1:min(len(data), 7)] {
		x = usable[int(b)%len(usable)].build(g, x)
	}
	verdict(g, g.Reduce([]string{"ReduceMax", "ReduceMean", "ReduceSum"}[int(data[len(data)-1])%3], x, 0, 2), opChannels)
	return g.Bytes()
}

// FuzzChain: operators in any order are refused, or computed by the float
// passes as they stand in the model, and compile.
func FuzzChain(f *testing.F) {
	rng := rand.New(rand.NewPCG(4, 2))
	for range 200 {
		seed := make([]byte, 2+rng.IntN(5))
		for i := range seed {
			seed[i] = byte(rng.Uint32())
		}
		f.Add(seed)
	}
	path := filepath.Join(f.TempDir(), "model.onnx")
	f.Fuzz(func(t *testing.T, data []byte) {
		model := chain(data)
		g, _, err := onnx.Import(path, model)
		if err != nil {
			return // shapes that don't fit, or refused by name
		}
		if err := os.WriteFile(path, model, 0o644); err != nil {
			t.Fatal(err)
		}
		front, _, _, err := compiler.Front(path, onnx.Options{}, passes.Options{})
		var r *onnx.Refusal
		if err != nil {
			if !errors.As(err, &r) || strings.Contains(err.Error(), "BUG") {
				t.Fatalf("%+v", err)
			}
			return
		}
		if !sameResults(t, g, front) {
			return // numbers out of range
		}
		if _, err = compiler.Check(t.Context(), compiler.Options{Model: path}); err != nil && (!errors.As(err, &r) || strings.Contains(err.Error(), "BUG")) {
			t.Fatalf("%+v", err)
		}
	})
}

// sameResults compares the imported graph with what the float passes made of
// it; false where the model itself computes no finite numbers.
func sameResults(t *testing.T, g, front *ir.Graph) bool {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 3))
	machine, err := eval.Oracle(g)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		in := calibrate.Input{Tokens: make([]int32, opLength), Valid: opLength}
		ids := make([]int64, opLength)
		for i := range ids {
			ids[i] = int64(rng.IntN(opVocab))
			in.Tokens[i] = int32(ids[i])
		}
		out, err := machine.Run(map[string]*ir.Tensor{"tokens": {Type: g.Inputs[0].Type, Data: ids}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := calibrate.Float(front, []calibrate.Input{in}, nil)
		if err != nil {
			t.Fatal(err)
		}
		want, _ := out[g.OutputNames[0]].Floats()
		size := 0.0
		for _, x := range want {
			size = math.Max(size, math.Abs(x))
		}
		if !(size < 1e6) {
			return false
		}
		for i, x := range want {
			if y := float64(got[0][0][i]); !(math.Abs(x-y) <= 1e-3*(1+size)) {
				t.Fatalf("logit %d is %g in the model and %g after the float passes", i, x, y)
			}
		}
	}
	return true
}
