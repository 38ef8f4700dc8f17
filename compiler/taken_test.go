package compiler_test

import (
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"nepcoc/compiler"
	"nepcoc/compiler/onnx"
	"nepcoc/compiler/verify"
	"nepcoc/internal/testfiles"
)

// Files that were refused once: weights in a second file, in half precision, quantised already. Their
// verdicts are those of the float model. The first and the last are nepco_byte_h64 of the zoo in another form.
func TestTakenFiles(t *testing.T) {
	file := func(name string) string { return testfiles.Path(t, "refuse", name, "model.onnx") }
	calib, eval := testfiles.Path(t, "zoo", "nepco_byte_h64", "calib.npz"), testfiles.Path(t, "zoo", "nepco_byte_h64", "eval.npz")
	t.Run("external_data", func(t *testing.T) {
		b, _, _ := compile(t, compiler.Options{Model: file("external_data"), Calib: calib})
		holds(t, verify.Options{Bundle: b, Model: file("external_data"), Tensors: eval, Random: 32}, 0.97)
	})
	t.Run("qdq_static", func(t *testing.T) {
		b, _, res := compile(t, compiler.Options{Model: file("qdq_static"), Calib: calib})
		r, err := verify.Run(verify.Options{Bundle: b, Tensors: eval, Random: 32, MinAgreement: 0.97})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range r.Checks {
			t.Log(c.Name, c.Held, "of", c.Cases)
			if !c.OK {
				t.Errorf("%s: %s", c.Name, c.Detail)
			}
		}
		if notes := strings.Join(res.Report.Notes, "; "); !strings.Contains(notes, "quantised already") {
			t.Errorf("the report doesn't say that the model was quantised: %s", notes)
		}
		if m := res.Report.Quantize.Method; m != "given" {
			t.Errorf("ranges by %s, not the model's own", m)
		}
	})
	t.Run("fp16_weights", func(t *testing.T) {
		dir := t.TempDir()
		in := rename(tokenArrays(128, 261), "src")
		calib, eval := filepath.Join(dir, "calib.npz"), filepath.Join(dir, "eval.npz")
		writeArrays(t, calib, in(rand.New(rand.NewPCG(1, 1)), 100))
		writeArrays(t, eval, in(rand.New(rand.NewPCG(1, 2)), 200))
		b, _, res := compile(t, compiler.Options{Model: file("fp16_weights"), Calib: calib, MaxDisagreement: 0.03})
		holds(t, verify.Options{Bundle: b, Model: file("fp16_weights"), Tensors: eval, Random: 32}, 0.97)
		if notes := strings.Join(res.Notes, "; "); !strings.Contains(notes, "float16 is read as float32") {
			t.Errorf("the report doesn't speak of float16: %s", notes)
		}
	})
}

// rename gives the only array another name.
func rename(in arrays, name string) arrays {
	return func(rng *rand.Rand, n int) map[string]array { return map[string]array{name: in(rng, n)["tokens"]} }
}

// A model of dynamic length compiles with the option that its refusal names, and is verified with what the
// bundle remembers of it.
func TestDynamicLength(t *testing.T) {
	model := testfiles.Path(t, "refuse", "dynamic_length", "model.onnx")
	ps := problems(t, model)
	way := regexp.MustCompile(`--length (\d+)`).FindStringSubmatch(ps[0].WayOut)
	named := regexp.MustCompile(`--set-dim (\w+)=(\d+)`).FindStringSubmatch(ps[0].WayOut)
	if way == nil || named == nil {
		t.Fatalf("names no option: %s", ps[0].WayOut)
	}
	number := func(s string) int { n, _ := strconv.Atoi(s); return n }
	// Inputs of the same kind.
	calib, eval := testfiles.Path(t, "zoo", "nepco_byte_h64", "calib.npz"), testfiles.Path(t, "zoo", "nepco_k3", "calib.npz")
	for name, in := range map[string]onnx.Options{
		"length": {Length: number(way[1])}, "set-dim": {Sizes: map[string]int{named[1]: number(named[2])}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := compiler.Check(t.Context(), compiler.Options{Model: model, Import: in}); err != nil {
				t.Fatal(err)
			}
			b, _, _ := compile(t, compiler.Options{Model: model, Import: in, Calib: calib, MaxDisagreement: 0.13})
			r, err := verify.Run(verify.Options{Bundle: b, Model: model, Tensors: eval, Random: 32, MinAgreement: 0.97})
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range r.Checks {
				if !c.OK {
					t.Errorf("%s: %s", c.Name, c.Detail)
				}
			}
		})
	}
}
