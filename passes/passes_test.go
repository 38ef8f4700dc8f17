package passes_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nepcoc/ir"
	"nepcoc/passes"
)

func keep(_ *passes.Context, g *ir.Graph) (*ir.Graph, error) { return g, nil }

func smallGraph(t *testing.T) *ir.Graph {
	t.Helper()
	g, err := ir.Parse("graph \"g\" {\n  %x = input f32[2,1]\n  %y = pool(%x) {kind=\"max\"} : f32[1]\n  output %y as \"y\"\n}\n")
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestOrder(t *testing.T) {
	before := passes.Pass{Name: "before", Run: keep}
	requires := passes.Pass{Name: "requires", Run: keep, Requires: []passes.Order{{Pass: "before", Why: "reason one"}}}
	after := passes.Pass{Name: "after", Run: keep, After: []passes.Order{{Pass: "before", Why: "reason two"}}}
	for _, c := range []struct {
		name  string
		table []passes.Pass
		want  string
	}{
		{"right order", []passes.Pass{before, requires, after}, ""},
		{"only after", []passes.Pass{after}, ""},
		{"required pass missing", []passes.Pass{requires}, "reason one"},
		{"required pass later", []passes.Pass{requires, before}, "reason one"},
		{"after, but before", []passes.Pass{after, before}, "reason two"},
		{"twice", []passes.Pass{before, before}, "twice"},
		{"no Run", []passes.Pass{{Name: "x"}}, "no Run"},
	} {
		_, err := passes.NewManager(c.table)
		if got := fmt.Sprint(err); (err == nil) != (c.want == "") || !strings.Contains(got, c.want) && c.want != "" {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestManagerNamesTheCulprit(t *testing.T) {
	problem := ir.Problems{{Node: "n", Op: "Op", Reason: "no reason"}}
	for _, c := range []struct {
		name string
		run  func(*passes.Context, *ir.Graph) (*ir.Graph, error)
		want string
	}{
		{"panic", func(*passes.Context, *ir.Graph) (*ir.Graph, error) { panic("oh") }, "BUG: pass culprit: panic: oh"},
		{"refuses", func(*passes.Context, *ir.Graph) (*ir.Graph, error) { return nil, problem }, "no reason"},
		{"nothing", func(*passes.Context, *ir.Graph) (*ir.Graph, error) { return nil, nil }, "no graph and no error"},
		{"breaks the graph", func(_ *passes.Context, g *ir.Graph) (*ir.Graph, error) {
			g.Nodes[0].Op = "no_such_op"
			return g, nil
		}, "pass culprit: BUG: broken graph"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := passes.NewManager([]passes.Pass{{Name: "innocent", Run: keep}, {Name: "culprit", Run: c.run}})
			if err != nil {
				t.Fatal(err)
			}
			ctx := &passes.Context{}
			_, err = m.Run(ctx, smallGraph(t))
			var e *passes.Error
			if !errors.As(err, &e) || e.Pass != "culprit" || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v, want %q", err, c.want)
			}
			if len(ctx.Report.Passes) < 1 || ctx.Report.Passes[0].Pass != "innocent" {
				t.Errorf("timings: %v", ctx.Report.Passes)
			}
			if long := fmt.Sprintf("%+v", err); e.Stack != nil && !strings.Contains(long, "goroutine") {
				t.Errorf("%%+v has no stack: %s", long)
			}
			var ps ir.Problems
			if c.name == "refuses" && !errors.As(err, &ps) {
				t.Error("the pass's problems are lost")
			}
		})
	}
}

func TestDump(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dump")
	m, err := passes.NewManager([]passes.Pass{{Name: "one", Run: keep}, {Name: "two", Run: keep}})
	if err != nil {
		t.Fatal(err)
	}
	m.DumpDir = dir
	if _, err := m.Run(&passes.Context{}, smallGraph(t)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"00-input.ir", "01-one.ir", "02-two.ir"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		g, err := ir.ParseWith(string(text), ir.DirResources(filepath.Join(dir, "constants")))
		if err != nil || ir.Print(g) != ir.Print(smallGraph(t)) {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
}
