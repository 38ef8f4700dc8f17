package compiler_test

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"nepcoc/backends"
	"nepcoc/backends/c"
	"nepcoc/compiler"
	"nepcoc/compiler/verify"
	"nepcoc/internal/files"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/bundle"
)

// compile compiles a model and returns the bundle's path and size.
func compile(t *testing.T, o compiler.Options) (path string, size int, res *compiler.Result) {
	t.Helper()
	if o.MaxDisagreement == 0 {
		o.MaxDisagreement = compiler.DefaultMaxDisagreement
	}
	res, err := compiler.Compile(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	tiles(t, res)
	data, err := bundle.Encode(res.Bundle, bundle.Options{})
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "model.nepco")
	if err := files.Write(path, data); err != nil {
		t.Fatal(err)
	}
	return path, len(data), res
}

// holds runs the chain of truth and fails on what must hold for every model:
// reference = engine to the bit, float = ONNX Runtime within the default tolerance, and a share
// of equal verdicts.
func holds(t *testing.T, o verify.Options, minAgreement float64) *verify.Report {
	t.Helper()
	r, err := verify.Run(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range r.Checks {
		if !c.OK {
			t.Errorf("%s: %s", c.Name, c.Detail)
		}
	}
	for _, out := range r.Output {
		// What a failure is looked up in; -v shows it for all.
		line := fmt.Sprintf("%s: agreement %.4f of %d, cosine %.5f, relative error %.4f, worst step %s", out.Name, out.Agreement, out.Samples, out.Cosine, out.RelError, r.Worst)
		if out.Stored != nil {
			line += fmt.Sprintf(", float vs stored %.2g", *out.Stored.MaxDifference)
		}
		t.Log(line)
		if out.Agreement < minAgreement {
			t.Errorf("%s: %.4f of the verdicts agree with float, want at least %.4f", out.Name, out.Agreement, minAgreement)
		}
	}
	return r
}

// The trained models: their verdicts on 748 real flows.
func TestTrainedModels(t *testing.T) {
	if testing.Short() {
		t.Skip("compiles the published model")
	}
	classes, err := os.ReadFile(testfiles.Path(t, "traffic", "classes.txt"))
	if err != nil {
		t.Fatal(err)
	}
	pcap, labels := testfiles.Path(t, "traffic", "test.pcap"), testfiles.Path(t, "traffic", "test.csv")
	for name, agreement := range map[string]float64{"nepco-small": 0.995, "nepco": 0.998} {
		t.Run(name, func(t *testing.T) {
			model := testfiles.Path(t, "models", name+".onnx")
			path, size, res := compile(t, compiler.Options{
				Model: model, Calib: testfiles.Path(t, "traffic", "calib.pcap"), Labels: [][]string{strings.Fields(string(classes))},
			})
			t.Logf("%d bytes, compiled in %v, 16 bits kept: %v", size, res.Time, res.Report.Quantize.Wide)
			if size > 9_000_000 {
				t.Errorf("the bundle has %d bytes, want at most 9 MB", size)
			}
			t.Run("c", func(t *testing.T) { smallInC(t, inC(t, path)) })
			r := holds(t, verify.Options{Bundle: path, Model: model, Pcap: pcap, Labels: labels, Random: 256}, agreement)
			float, integer := r.Output[0].Float, r.Output[0].Integer
			if float == nil || integer == nil {
				t.Fatal("no flow was found in the label file")
			}
			t.Logf("accuracy %.4f float, %.4f integer; macro-F1 %.4f, %.4f; %d labelled flows", float.Accuracy, integer.Accuracy, float.MacroF1, integer.MacroF1, float.Labelled)
			if r.Flows != 748 || float.Labelled != 748 {
				t.Errorf("%d verdicts, %d of them for labelled flows; test.csv has 748", r.Flows, float.Labelled)
			}
			if d := math.Abs(float.Accuracy - integer.Accuracy); d > 0.005 {
				t.Errorf("accuracy differs by %.4f, want at most 0.5 points", d)
			}
			if d := math.Abs(float.MacroF1 - integer.MacroF1); d > 0.002 {
				t.Errorf("macro-F1 differs by %.4f, want at most 0.2 points", d)
			}
			// The stored token ids and logits of the same flows.
			holds(t, verify.Options{Bundle: path, Model: model, Tensors: testfiles.Path(t, "models", name+".test.npz")}, agreement)
		})
	}
}

// The zoo: small models as people export them.
func TestZoo(t *testing.T) {
	for _, dir := range testfiles.Glob(t, "zoo/*") {
		name := filepath.Base(dir)
		t.Run(name, func(t *testing.T) {
			if testing.Short() && name != "nepco_byte_h64" {
				t.Skip("one of the zoo will do")
			}
			text, err := os.ReadFile(filepath.Join(dir, "meta.json"))
			if err != nil {
				t.Fatal(err)
			}
			var meta struct{ Expect string }
			if err := json.Unmarshal(text, &meta); err != nil {
				t.Fatal(err)
			}
			if meta.Expect != "compile" {
				t.Fatalf("meta.json expects %q", meta.Expect)
			}
			model := filepath.Join(dir, "model.onnx")
			path, size, res := compile(t, compiler.Options{Model: model, Calib: filepath.Join(dir, "calib.npz")})
			t.Logf("%d bytes, compiled in %v, method %s, 16 bits kept: %v", size, res.Time, res.Report.Quantize.Method, res.Report.Quantize.Wide)
			t.Run("c", func(t *testing.T) { inC(t, path) })
			r := holds(t, verify.Options{Bundle: path, Model: model, Tensors: filepath.Join(dir, "eval.npz"), Random: 128}, 0.97)
			for _, out := range r.Output {
				if out.Stored == nil {
					t.Errorf("eval.npz has no expected values of output %q", out.Name)
				}
			}
		})
	}
}

// inC holds the code that a bundle is written as to its golden vectors.
func inC(t *testing.T, path string) (dir string) {
	t.Helper()
	testfiles.Tool(t, "gcc")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Decode(data)
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	built, err := c.Artifact.Build(b, backends.ArtifactOptions{Symbol: "zoo"})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range built {
		if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("sh", "-c", "gcc -std=c99 -O2 -Wall -Wextra -Werror -o selftest selftest.c nepco_zoo.c && ./selftest")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), " 0 wrong logits") {
		t.Errorf("%v\n%.3000s", err, out)
	}
	return dir
}

// smallInC holds the code in a folder to a context of 64 KiB, and to 60 KB compiled for arm64 without its tables.
func smallInC(t *testing.T, dir string) {
	t.Helper()
	header, err := os.ReadFile(filepath.Join(dir, "nepco_zoo.h"))
	if err != nil {
		t.Fatal(err)
	}
	context := 0
	_, after, _ := strings.Cut(string(header), "_CTX_BYTES ")
	if _, err := fmt.Sscan(after, &context); err != nil || context > 65536 {
		t.Errorf("a context of %d bytes: %v", context, err)
	}
	if n := testfiles.CodeSize(t, filepath.Join(dir, "nepco_zoo.c")); n > 60_000 {
		t.Errorf("%d bytes of code", n)
	}
}
