// Package nodetest runs the ONNX standard's own backend node tests through
// the importer and the interpreter. It holds tests only: package eval itself
// must not import the compiler.
package nodetest

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	"nepcoc/compiler/onnx"
	"nepcoc/internal/testfiles"
	"nepcoc/ir"
	"nepcoc/ir/eval"
)

// Debian's libonnx-testdata puts the suite here.
const suiteDir = "/usr/share/libonnx-testdata/data/node"

// suiteOpset is the newest opset of that suite.
const suiteOpset = 17

// tolerance is relative to max(1, |expected|).
const tolerance = 1e-5

// TestSuite runs every case all of whose operators are in the table. A case
// passes, or it is skipped with a reason that names a documented limit, or it
// fails.
func TestSuite(t *testing.T) {
	dirs, err := filepath.Glob(filepath.Join(suiteDir, "test_*"))
	if err != nil {
		t.Fatal(err)
	}
	if len(dirs) == 0 {
		testfiles.Missing(t, "no cases in %s: install libonnx-testdata", suiteDir)
	}
	passed, skipped, foreign := 0, make(map[string][]string), 0
	tested := make(map[string]bool)
	for _, dir := range dirs {
		name := strings.TrimPrefix(filepath.Base(dir), "test_")
		m, err := loadModel(dir)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !inTable(m) {
			foreign++
			continue
		}
		limit, err := runCase(dir, m)
		switch {
		case limit != "":
			skipped[limit] = append(skipped[limit], name)
		case err != nil:
			t.Errorf("%s %v opset %d: %v", name, m.ops, m.opset, err)
		default:
			passed++
			for _, op := range m.ops {
				tested[op] = true
			}
		}
	}
	var reasons []string
	count := 0
	for r, names := range skipped {
		count += len(names)
		reasons = append(reasons, fmt.Sprintf("%4d  %s: %s", len(names), r, strings.Join(names, " ")))
	}
	sort.Strings(reasons)
	t.Logf("%d passed, %d skipped, %d of operators outside the table; skipped:\n%s", passed, count, foreign, strings.Join(reasons, "\n"))
	for _, op := range ir.Ops(ir.GroupONNX) {
		if !tested[op.Name] && op.MinOpset <= suiteOpset { // younger ones have numbers in ir/eval's own tests
			t.Errorf("%s: no case of the standard's was compared", op.Name)
		}
	}
	if passed < 200 {
		t.Errorf("only %d cases passed: the suite or the way it is run has changed", passed)
	}
}

func loadModel(dir string) (*model, error) {
	b, err := os.ReadFile(filepath.Join(dir, "model.onnx"))
	if err != nil {
		return nil, err
	}
	return parseModel(b)
}

func inTable(m *model) bool {
	for _, op := range m.ops {
		if o := ir.LookupOp(op); o == nil || o.Group != ir.GroupONNX {
			return false
		}
	}
	return len(m.ops) > 0
}

// documented are the limits that may excuse a case, by what the importer says.
var documented = []struct {
	kind onnx.Kind
	text string // in the reason; "" is any
	name string
}{
	{onnx.ElementType, "", "element type not taken"},
	{onnx.OpsetVersion, "", "opset outside 7 to 21"},
	{onnx.Unsupported, "training mode", "training mode"},
	{onnx.Unsupported, "output", "second output (indices, mask)"},
	{onnx.Shape, "wants rank", "rank not taken"},
	{onnx.Shape, "element", "empty input"},
}

// runCase gives the name of the limit that excuses a case, or its error.
func runCase(dir string, m *model) (limit string, err error) {
	for _, p := range slices.Concat(m.inputs, m.outputs) {
		if p.elem == 0 {
			return "input or output is no tensor", nil
		}
		if _, ok := elemTypes[p.elem]; !ok {
			return "element type not taken", nil
		}
	}
	in, raw, err := loadTensors(dir, "input", len(m.inputs))
	if err != nil {
		return "", err
	}
	want, _, err := loadTensors(dir, "output", len(m.outputs))
	if err != nil {
		return "", err
	}
	// Which inputs give shapes, or otherwise must be known at compile time,
	// is for the importer to say: first only those that look like it are
	// constants, then all but the first, then all.
	var last error
	for _, constant := range []func(i int) bool{
		func(i int) bool { return i > 0 && in[i].DType == ir.I64 && len(in[i].Shape) <= 1 },
		func(i int) bool { return i > 0 },
		func(int) bool { return true },
	} {
		g, _, err := onnx.Import("case", m.wrap(in, raw, constant))
		if err != nil {
			last = err
			continue
		}
		return "", compare(g, m, in, want)
	}
	var refusal *onnx.Refusal
	if errors.As(last, &refusal) {
		for _, p := range refusal.Problems {
			if p.Kind == onnx.Quantized {
				return "", direct(m, in, want)
			}
			for _, d := range documented {
				if p.Kind == d.kind && strings.Contains(p.Reason, d.text) {
					return d.name, nil
				}
			}
		}
	}
	return "", last
}

const (
	wrapped = "wrapped/"
	dummy   = "dummy"
)

// wrap rewrites a case so that the importer, which takes models of batch 1,
// takes it whatever its shapes are: every input gets a leading dimension of
// 1, taken off by a Reshape; inputs that are to be constants become
// initializers; a zero from a further input is added to numeric outputs, so
// that they aren't constants.
func (m *model) wrap(in []*ir.Tensor, raw [][]byte, constant func(int) bool) []byte {
	graph := slices.Clone(m.kept)
	for _, n := range m.nodes {
		graph = appendBytes(graph, 1, n)
	}
	for i, p := range m.inputs {
		if constant(i) {
			// A later field wins: the tensor gets the input's name.
			graph = appendBytes(graph, 5, appendBytes(slices.Clone(raw[i]), 8, []byte(p.name)))
			continue
		}
		graph = appendBytes(graph, 11, port{wrapped + p.name, p.elem, append([]int{1}, in[i].Shape...)}.encode())
		graph = appendBytes(graph, 5, shapeTensor(p.name+"/shape", in[i].Shape))
		graph = appendBytes(graph, 1, node("Reshape", []string{wrapped + p.name, p.name + "/shape"}, []string{p.name}))
	}
	graph = appendBytes(graph, 11, port{dummy, 1, []int{1}}.encode())
	graph = appendBytes(graph, 5, shapeTensor(dummy+"/shape", nil))
	graph = appendBytes(graph, 1, node("Reshape", []string{dummy, dummy + "/shape"}, []string{dummy + "/scalar"}))
	for i, p := range m.outputs {
		if elemTypes[p.elem] == ir.Bool {
			graph = appendBytes(graph, 12, p.encode())
			continue
		}
		zero, sum := fmt.Sprintf("zero/%d", i), wrapped+p.name
		graph = appendBytes(graph, 1, node("Cast", []string{dummy + "/scalar"}, []string{zero}, intAttr("to", p.elem)))
		graph = appendBytes(graph, 1, node("Add", []string{p.name, zero}, []string{sum}))
		graph = appendBytes(graph, 12, port{sum, p.elem, p.shape}.encode())
	}
	return appendBytes(slices.Clone(m.head), 7, graph)
}

func compare(g *ir.Graph, m *model, in, want []*ir.Tensor) error {
	machine, err := eval.New(g)
	if err != nil {
		return err
	}
	feed := map[string]*ir.Tensor{}
	for _, v := range g.Inputs {
		if v.Name == dummy {
			feed[dummy] = ir.Float32s([]float32{0}, 1)
			continue
		}
		i := slices.IndexFunc(m.inputs, func(p port) bool { return wrapped+p.name == v.Name })
		feed[v.Name] = &ir.Tensor{Type: ir.Type{DType: in[i].DType, Shape: append([]int{1}, in[i].Shape...)}, Data: in[i].Data}
	}
	got, err := machine.Run(feed)
	if err != nil {
		return err
	}
	for i, p := range m.outputs {
		out := got[p.name]
		if out == nil {
			out = got[wrapped+p.name]
		}
		if out == nil {
			return fmt.Errorf("no output %s", p.name)
		}
		if !out.Type.Equal(want[i].Type) {
			return fmt.Errorf("output %s is %s, want %s", p.name, out.Type, want[i].Type)
		}
		if err := near(out, want[i]); err != nil {
			return fmt.Errorf("output %s: %w", p.name, err)
		}
	}
	return nil
}

// direct evaluates a case of one operator without the importer, which refuses
// quantised models as a whole.
func direct(m *model, in, want []*ir.Tensor) error {
	if len(m.ops) != 1 || m.attrs > 0 {
		return fmt.Errorf("%v with %d attributes: only one operator without attributes runs without the importer", m.ops, m.attrs)
	}
	got, err := eval.Node(&ir.Node{Op: m.ops[0], Outputs: []*ir.Value{{}}}, in)
	if err != nil {
		return err
	}
	if !got[0].Type.Equal(want[0].Type) {
		return fmt.Errorf("result is %s, want %s", got[0].Type, want[0].Type)
	}
	return near(got[0], want[0])
}

func near(got, want *ir.Tensor) error {
	if x, ok := got.Data.([]bool); ok {
		if !slices.Equal(x, want.Data.([]bool)) {
			return fmt.Errorf("got %v, want %v", x, want.Data)
		}
		return nil
	}
	a, _ := got.Floats()
	b, _ := want.Floats()
	for i := range a {
		if a[i] == b[i] || a[i] != a[i] && b[i] != b[i] {
			continue
		}
		if !(math.Abs(a[i]-b[i]) <= tolerance*max(1, math.Abs(b[i]))) {
			return fmt.Errorf("element %d is %g, want %g", i, a[i], b[i])
		}
	}
	return nil
}

func loadTensors(dir, kind string, n int) (ts []*ir.Tensor, raw [][]byte, err error) {
	for i := range n {
		b, err := os.ReadFile(filepath.Join(dir, "test_data_set_0", fmt.Sprintf("%s_%d.pb", kind, i)))
		if err != nil {
			return nil, nil, err
		}
		t, err := parseTensor(b)
		if err != nil {
			return nil, nil, fmt.Errorf("%s %d: %w", kind, i, err)
		}
		ts, raw = append(ts, t), append(raw, b)
	}
	return ts, raw, nil
}
