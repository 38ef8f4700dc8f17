package passes_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nepcoc/compiler/npz"
	"nepcoc/compiler/onnx"
	"nepcoc/internal/testfiles"
	"nepcoc/ir"
	"nepcoc/ir/eval"
	"nepcoc/passes"
	"nepcoc/passes/canonical"
	"nepcoc/passes/fuse"
	"nepcoc/passes/internal/passtest"
	"nepcoc/passes/localize"
)

// tolerance of a float pass, relative to the largest output of the model.
const tolerance = 1e-4

type model struct{ name, onnx, npz string }

func models(t *testing.T) []model {
	var out []model
	for _, f := range testfiles.Glob(t, "zoo/*/model.onnx") {
		dir := filepath.Dir(f)
		out = append(out, model{filepath.Base(dir), f, filepath.Join(dir, "eval.npz")})
	}
	for _, f := range testfiles.Glob(t, "models/*.onnx") {
		base := strings.TrimSuffix(f, ".onnx")
		out = append(out, model{filepath.Base(base), f, base + ".test.npz"})
	}
	return out
}

// TestModelsKeepTheirMeaning runs the float passes one after another over
// every model and compares the outputs with those of the imported graph.
func TestModelsKeepTheirMeaning(t *testing.T) {
	for _, m := range models(t) {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			imported, _, err := onnx.ImportFile(m.onnx, onnx.Options{})
			if err != nil {
				t.Fatal(err)
			}
			samples := 8
			if testing.Short() {
				samples = 2
			}
			inputs := readInputs(t, m.npz, imported, samples)
			want := passtest.Expected(t, imported, inputs)
			ctx := &passes.Context{}
			g := imported.Clone()
			for _, p := range []passes.Pass{canonical.Pass, localize.Pass, fuse.Pass} {
				mgr, err := passes.NewManager([]passes.Pass{{Name: p.Name, Run: p.Run}})
				if err != nil {
					t.Fatal(err)
				}
				if g, err = mgr.Run(ctx, g); err != nil {
					t.Fatal(err)
				}
				in := make([]map[string]*ir.Tensor, len(inputs))
				for i := range inputs {
					in[i] = passtest.Adapt(t, g, inputs[i], ctx.Report.Local)
				}
				passtest.Compare(t, p.Name, passtest.Evaluate(t, g, in), want, tolerance)
			}
			for _, n := range g.Nodes {
				if op := ir.LookupOp(n.Op); op.Group != ir.GroupCanonical && op.Group != ir.GroupFused {
					t.Errorf("%s is left of the imported operators", n.Op)
				}
			}
			l := ctx.Report.Local
			t.Logf("local: left %d right %d stride %d whole %v masked %v vocab %d length %d encoding %s", l.Left, l.Right, l.Stride, l.Whole, l.Masked, l.Vocab, l.Length, l.Encoding)
			t.Log(shape(g))
		})
	}
}

// shape is the list of operators with the sizes of their results.
func shape(g *ir.Graph) string {
	var b strings.Builder
	for _, n := range g.Nodes {
		fmt.Fprintf(&b, "\n%s%v", n.Op, n.Out().Type.Shape)
		if act := n.Str("act", n.Str("fn", n.Str("kind", ""))); act != "" {
			fmt.Fprintf(&b, " %s", act)
		}
		if n.Op == "conv" {
			fmt.Fprintf(&b, " k%d s%d g%d", n.Inputs[1].Type.Shape[1], n.Int("stride", 1), n.Int("groups", 1))
		}
		if n.Op == "gated_conv" {
			fmt.Fprintf(&b, " k%d residual=%v norm=%v", n.Int("k", 0), n.Input(1) != nil, n.Input(8) != nil)
		}
	}
	return b.String()
}

func readInputs(t *testing.T, path string, g *ir.Graph, samples int) []map[string]*ir.Tensor {
	t.Helper()
	f, err := npz.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]map[string]*ir.Tensor, samples)
	for _, v := range g.Inputs {
		all, err := f.Array(v.Name)
		if err != nil {
			t.Fatal(err)
		}
		for i := range out {
			row, err := npz.Row(all, i*all.Shape[0]/samples)
			if err != nil {
				t.Fatal(err)
			}
			if out[i] == nil {
				out[i] = make(map[string]*ir.Tensor)
			}
			out[i][v.Name] = row
		}
	}
	return out
}

// TestReceptiveField changes one token at a time and looks which positions of
// what is pooled notice it.
func TestReceptiveField(t *testing.T) {
	for _, m := range models(t) {
		t.Run(m.name, func(t *testing.T) {
			g, _, err := onnx.ImportFile(m.onnx, onnx.Options{})
			if err != nil {
				t.Fatal(err)
			}
			mgr, err := passes.NewManager([]passes.Pass{canonical.Pass, localize.Pass})
			if err != nil {
				t.Fatal(err)
			}
			ctx := &passes.Context{}
			if g, err = mgr.Run(ctx, g); err != nil {
				t.Fatal(err)
			}
			l := ctx.Report.Local
			reached := measure(t, g, l, 6)
			t.Logf("left %d of %d, right %d of %d", reached.left, l.Left, reached.right, l.Right)
			if reached.left < l.Left/2 || reached.right < l.Right/2 {
				t.Errorf("tokens reach %d positions to the left and %d to the right, far from the computed %d and %d", reached.left, reached.right, l.Left, l.Right)
			}
		})
	}
}

type reach struct{ left, right int }

// measure changes tokens one by one, reports positions that notice what they
// must not, and returns how far tokens were seen to reach.
func measure(t *testing.T, g *ir.Graph, l passes.Local, tries int) reach {
	t.Helper()
	ends := make(map[*ir.Value]bool) // what is reduced over positions
	for _, n := range g.Nodes {
		if n.Op == "pool" || n.Op == "flatten" {
			ends[n.Inputs[0]] = true
		}
	}
	machine, err := eval.New(g)
	if err != nil {
		t.Fatal(err)
	}
	var now map[*ir.Value][]float32
	machine.Observe = func(v *ir.Value, x *ir.Tensor) {
		if ends[v] {
			now[v] = slices.Clone(x.Data.([]float32))
		}
	}
	tokens := make([]int64, l.Length)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range tokens {
		tokens[i] = rng.Int64N(int64(l.Vocab))
	}
	observe := func() map[*ir.Value][]float32 {
		now = make(map[*ir.Value][]float32)
		in := map[string]*ir.Tensor{"tokens": ir.Int64s(tokens, l.Length)}
		if l.Masked {
			in["valid"] = ir.Int64s([]int64{int64(l.Length)})
		}
		if _, err := machine.Run(in); err != nil {
			t.Fatal(err)
		}
		return now
	}
	before := observe()
	reached := reach{}
	for range tries {
		j := rng.IntN(l.Length)
		old := tokens[j]
		tokens[j] = (old + 1 + rng.Int64N(int64(l.Vocab)-1)) % int64(l.Vocab)
		for v, after := range observe() {
			width := v.Type.Shape[1]
			for p := range v.Type.Shape[0] {
				if slices.Equal(after[p*width:(p+1)*width], before[v][p*width:(p+1)*width]) {
					continue
				}
				first, last := p*l.Stride-l.Left, p*l.Stride+l.Right
				if j < first || j > last {
					t.Errorf("token %d reaches position %d of %s, whose tokens are %d to %d", j, p, v.Name, first, last)
				}
				reached.left, reached.right = max(reached.left, p*l.Stride-j), max(reached.right, j-p*l.Stride)
			}
		}
		tokens[j] = old
	}
	return reached
}
