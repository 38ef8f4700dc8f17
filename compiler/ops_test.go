package compiler_test

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nepcoc/compiler"
	"nepcoc/compiler/onnx"
	"nepcoc/compiler/verify"
	m "nepcoc/internal/onnxmodel"
	"nepcoc/ir"
	"nepcoc/ir/eval"
)

// The models below look up tokens, convolve, do one thing in question, pool,
// and end in a linear layer: what a user's model would have around it.
const (
	opLength   = 24
	opVocab    = 40
	opChannels = 8
	opClasses  = 5
)

// place says where the operator in question stands.
type place int

const (
	inSequence place = iota // x is [1,8,24], the result [1,channels,anything]
	inHead                  // x is [1,8] after pooling, the result [1,channels]
	atEnd                   // x is [1,5], the result an output
)

// opCase is one use of an operator.
type opCase struct {
	name     string
	from, to int // opsets; 0: all that are read
	at       place
	channels int // of the result; 0: 8
	build    func(g *m.Model, x string) string
	// beside is how many numbers an input of that name has, which build reads; 0: there is none.
	beside int
	// mean pools by the mean: the maximum of a function that is bounded above says nothing.
	mean bool
	// dtype of the output; 0: float.
	dtype int
	// refused lists what the refusal must say; empty: it compiles.
	refused []string
	// agree is the least share of equal verdicts; 0: 0.95. loose is the error of the
	// logits relative to their spread that is put up with; 0: 0.1.
	agree, loose float64
	// apart is how far the float model may be from the graph as written; 0: verify's default.
	apart float64
}

func (c *opCase) opsets() []int {
	from, to := c.from, c.to
	if from == 0 { // with inputs for bounds and sizes, and all of its operators
		from = 11
		for _, name := range c.ops(onnx.MaxOpset) {
			if op := ir.LookupOp(name); op != nil {
				from = max(from, op.MinOpset)
			}
		}
	}
	if to == 0 {
		to = onnx.MaxOpset
	}
	if from == to {
		return []int{from}
	}
	all := []int{from, to}
	if from < 17 && to > 17 {
		all = []int{from, 17, to}
	}
	return all
}

// model is the file of the whole model.
func (c *opCase) model(opset int) []byte { return c.write(opset).Bytes() }

// ops are the operators in it.
func (c *opCase) ops(opset int) []string { return c.write(opset).Ops() }

func (c *opCase) write(opset int) *m.Model {
	g := m.New(opset)
	tokens := g.Input("tokens", m.I64, -1, opLength)
	x := g.Op("Gather", nil, g.RandomScaled(1, 0, opVocab, opChannels), tokens)
	x = g.Op("Transpose", m.Attrs{"perm": []int{0, 2, 1}}, x)
	x = g.Op("Conv", m.Attrs{"kernel_shape": []int{3}, "pads": []int{1, 1}}, x, g.Random(opChannels, opChannels, 3), g.RandomScaled(0.1, 0, opChannels))
	n := c.channels
	if n == 0 {
		n = opChannels
	}
	if c.at == inSequence {
		x = c.build(g, x)
		pool := "ReduceMax"
		if c.mean {
			pool = "ReduceMean"
		}
		x = g.Reduce(pool, x, 0, 2)
	} else {
		x = g.Reduce("ReduceMax", x, 0, 2)
		if c.at == inHead {
			x = c.build(g, x)
		} else {
			n = opChannels
		}
	}
	x = g.Op("Gemm", m.Attrs{"transB": 1}, x, g.Random(opClasses, n), g.RandomScaled(0.1, 0, opClasses))
	dtype := m.F32
	if c.at == atEnd {
		x = c.build(g, x)
		if c.dtype != 0 {
			dtype = c.dtype
		}
	}
	g.Output(x, dtype)
	return g
}

func TestOperators(t *testing.T) {
	all := slices.Concat(opCases, folded())
	for i := range all {
		c := &all[i]
		for _, opset := range c.opsets() {
			t.Run(fmt.Sprintf("%s/opset%d", c.name, opset), func(t *testing.T) {
				if testing.Short() && opset != c.opsets()[0] {
					t.Skip("one opset will do")
				}
				path := filepath.Join(t.TempDir(), "model.onnx")
				if err := os.WriteFile(path, c.model(opset), 0o644); err != nil {
					t.Fatal(err)
				}
				if len(c.refused) > 0 {
					refuses(t, path, c.refused)
					return
				}
				compiles(t, path, besideArrays(c.beside, tokenArrays(opLength, opVocab)), c.agree, c.loose, c.apart)
			})
		}
	}
	allMade(t)
}

// refuses checks that a model is refused as a whole, with reason and way out.
func refuses(t *testing.T, path string, says []string) {
	t.Helper()
	_, err := compiler.Check(t.Context(), compiler.Options{Model: path})
	if err == nil {
		t.Fatal("compiles, although it should be refused")
	}
	problems := compiler.Problems(err)
	if len(problems) == 0 {
		t.Fatalf("the error lists no problems: %v", err)
	}
	for _, p := range problems {
		if p.Kind == "" || p.Reason == "" || p.WayOut == "" || p.File != path {
			t.Errorf("incomplete: %+v", p)
		}
	}
	for _, s := range says {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("message lacks %q:\n%v", s, err)
		}
	}
	t.Log(err)
}

// arrays makes n samples of a model's inputs by name.
type arrays func(rng *rand.Rand, n int) map[string]array

// array is what a .npy file holds.
type array struct {
	shape []int
	data  any // []int64, []int32, []uint8, []float32
}

func tokenArrays(length, vocab int) arrays {
	return func(rng *rand.Rand, n int) map[string]array {
		ids := make([]int64, n*length)
		for i := range ids {
			ids[i] = int64(rng.IntN(vocab))
		}
		return map[string]array{"tokens": {[]int{n, length}, ids}}
	}
}

// besideArrays adds numbers of several magnitudes for an input "beside".
func besideArrays(width int, of arrays) arrays {
	if width == 0 {
		return of
	}
	return func(rng *rand.Rand, n int) map[string]array {
		in := of(rng, n)
		numbers := make([]float32, n*width)
		for i := range numbers {
			numbers[i] = float32((rng.NormFloat64() + float64(i%width)) * math.Pow(10, float64(i%width%4-1)))
		}
		in["beside"] = array{[]int{n, width}, numbers}
		return in
	}
}

// compiles compiles a model and verifies it on inputs it was not calibrated
// with: imported graph = float passes, float ~ integer, reference = engine.
func compiles(t *testing.T, path string, inputs arrays, agree, loose float64, apart ...float64) *compiler.Result {
	t.Helper()
	if agree == 0 {
		agree = 0.95
	}
	if loose == 0 {
		loose = 0.13
	}
	dir, rng := t.TempDir(), rand.New(rand.NewPCG(1, 2))
	calib, test := filepath.Join(dir, "calib.npz"), filepath.Join(dir, "test.npz")
	inputs(rng, 64)                                                 // what follows is drawn as it always was
	writeArrays(t, calib, inputs(rand.New(rand.NewPCG(3, 4)), 200)) // 64 for ranges, the others to measure on
	in := inputs(rng, 128)
	expect(t, path, in, 128)
	writeArrays(t, test, in)
	b, _, res := compile(t, compiler.Options{Model: path, Calib: calib, DumpIR: filepath.Join(dir, "ir"), MaxDisagreement: 0.03}) // random models: ties are common
	collect(t, filepath.Join(dir, "ir"))
	o := verify.Options{Bundle: b, Model: path, Tensors: test, Random: 32}
	if len(apart) > 0 {
		o.Tolerance = apart[0]
	}
	r := holds(t, o, agree)
	for _, out := range r.Output {
		if !(out.RelError <= loose) {
			t.Errorf("%s: the error of the logits is %.4f of their spread, want at most %g (worst step %s)", out.Name, out.RelError, loose, r.Worst)
		}
	}
	return res
}

// expect runs the imported graph, before any pass, and adds what it computes.
func expect(t *testing.T, path string, in map[string]array, n int) {
	t.Helper()
	g, _, err := onnx.ImportFile(path, onnx.Options{})
	if err != nil {
		t.Fatal(err)
	}
	machine, err := eval.Oracle(g)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		feed := make(map[string]*ir.Tensor)
		for _, v := range g.Inputs {
			feed[v.Name] = in[v.Name].row(i, v.Type)
		}
		out, err := machine.Run(feed)
		if err != nil {
			t.Fatal(err)
		}
		for name, x := range out {
			d, _ := x.Floats()
			a := in["expect."+name]
			all, _ := a.data.([]float32)
			for _, y := range d {
				all = append(all, float32(y))
			}
			in["expect."+name] = array{[]int{n, len(d)}, all}
		}
	}
}

// row is sample i as a tensor of the model's input type.
func (a array) row(i int, t ir.Type) *ir.Tensor {
	n := t.Len()
	out := &ir.Tensor{Type: t}
	switch d := a.data.(type) {
	case []int64:
		out.Data = d[i*n : (i+1)*n]
	case []int32:
		out.Data = d[i*n : (i+1)*n]
	case []uint8:
		out.Data = d[i*n : (i+1)*n]
	case []float32:
		out.Data = d[i*n : (i+1)*n]
	}
	return out
}

// writeArrays writes an .npz as numpy.savez does.
func writeArrays(t *testing.T, path string, in map[string]array) {
	t.Helper()
	var file bytes.Buffer
	z := zip.NewWriter(&file)
	for name, a := range in {
		descr := map[string]string{"[]int64": "<i8", "[]int32": "<i4", "[]uint8": "|u1", "[]float32": "<f4"}[fmt.Sprintf("%T", a.data)]
		dims := strings.Trim(strings.Join(strings.Fields(fmt.Sprint(a.shape)), ", "), "[]")
		header := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': (%s,), }\n", descr, dims)
		w, err := z.Create(name + ".npy")
		if err == nil {
			_, err = fmt.Fprintf(w, "\x93NUMPY\x01\x00%c%c%s", len(header)&255, len(header)>>8, header)
		}
		if err = errors.Join(err, binary.Write(w, binary.LittleEndian, a.data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, file.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
