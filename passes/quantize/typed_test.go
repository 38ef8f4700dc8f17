package quantize

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"nepcoc/ir"
)

// TestBrokenIntegerGraphsAreRefused breaks the integer graphs that this pass makes, one thing at a time: the
// checker, which runs after each pass, must refuse each.
func TestBrokenIntegerGraphsAreRefused(t *testing.T) {
	ops, broken := map[string]bool{}, 0
	for _, c := range goldenCases {
		if c.refused != "" {
			continue
		}
		archive, err := txtar.ParseFile(filepath.Join("testdata", c.name+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		float, err := ir.Parse(string(archive.Files[0].Data))
		if err != nil {
			t.Fatal(err)
		}
		expand(float, func(string, ...any) {})
		obs, err := observe(calibrated(float, draw(float, 8)), float)
		if err != nil {
			t.Fatal(err)
		}
		x, err := quantizeGraph(t, float, obs, c.opts)
		if err != nil {
			t.Fatal(err)
		}
		g, store := x.g, ir.MemoryResources{}
		if err := ir.Check(g); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		var text, again strings.Builder
		if err := ir.Fprint(&text, g, ir.PrintOptions{Resources: store}); err != nil {
			t.Fatal(err)
		}
		parsed, err := ir.ParseWith(text.String(), store)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if err := ir.Fprint(&again, parsed, ir.PrintOptions{Resources: store}); err != nil || again.String() != text.String() || ir.Check(parsed) != nil {
			t.Errorf("%s: does not survive being printed and parsed: %v", c.name, err)
		}
		for i, n := range g.Nodes {
			if ir.LookupOp(n.Op).Group != ir.GroupInteger {
				t.Fatalf("%s: %s in an integer graph", c.name, n.Op)
			}
			ops[n.Op] = true
			for what, change := range breaks(n) {
				g := g.Clone()
				change(g.Nodes[i])
				broken++
				if ir.Check(g) == nil {
					t.Errorf("%s: %s with %s is taken", c.name, n.Op, what)
				}
			}
		}
	}
	if len(ops) != len(ir.Ops(ir.GroupInteger)) {
		t.Errorf("only %v are tried, of %d operators", slices.Sorted(maps.Keys(ops)), len(ir.Ops(ir.GroupInteger)))
	}
	t.Logf("%d broken graphs of %d operators", broken, len(ops))
}

// breaks are changes that make a node wrong whatever the operator.
func breaks(n *ir.Node) map[string]func(*ir.Node) {
	all := map[string]func(*ir.Node){
		"a float result":        func(n *ir.Node) { n.Outputs[0].Type.DType = ir.F32 },
		"an unknown attribute":  func(n *ir.Node) { n.Attrs = with(n.Attrs, "surprise", 1) },
		"two results":           func(n *ir.Node) { n.Outputs = append(n.Outputs, &ir.Value{Name: "more", Type: n.Out().Type, Def: n}) },
		"no inputs":             func(n *ir.Node) { n.Inputs = nil },
		"a result of more rank": func(n *ir.Node) { n.Outputs[0].Type.Shape = append([]int{2}, n.Outputs[0].Type.Shape...) },
	}
	if n.Op != "int_slice" { // whose count of elements is what is declared
		all["another dimension of the result"] = func(n *ir.Node) {
			s := slices.Clone(n.Outputs[0].Type.Shape)
			s[len(s)-1]++
			n.Outputs[0].Type.Shape = s
		}
	}
	op := ir.LookupOp(n.Op)
	for k := range n.Attrs {
		all["attribute "+k+" of another type"] = func(n *ir.Node) { n.Attrs = with(n.Attrs, k, []float64{1}) }
		if a := op.Attr(k); a != nil && a.Required {
			all["no attribute "+k] = func(n *ir.Node) { n.Attrs = with(n.Attrs, k, nil) }
		}
	}
	for i, v := range n.Inputs {
		if v == nil {
			continue
		}
		all[fmt.Sprintf("input %d of floats", i)] = func(n *ir.Node) { retype(n.Inputs[i], ir.F32, n.Inputs[i].Type.Shape) }
		if v.Const != nil {
			all[fmt.Sprintf("input %d of more rank", i)] = func(n *ir.Node) {
				retype(n.Inputs[i], v.Type.DType, append([]int{1, 1, 1}, v.Type.Shape...))
			}
		}
	}
	return all
}

func with(a ir.Attrs, key string, value any) ir.Attrs {
	b := maps.Clone(a)
	if b == nil {
		b = ir.Attrs{}
	}
	if b[key] = value; value == nil {
		delete(b, key)
	}
	return b
}

// retype changes what a value is, consistently: only its readers can find fault.
func retype(v *ir.Value, d ir.DType, shape []int) {
	v.Type = ir.Type{DType: d, Shape: shape}
	switch {
	case v.Const != nil && d == ir.F32:
		v.Const = &ir.Tensor{Type: v.Type, Data: make([]float32, v.Type.Len())}
	case v.Const != nil:
		v.Const = &ir.Tensor{Type: v.Type, Data: v.Const.Data}
	}
}
