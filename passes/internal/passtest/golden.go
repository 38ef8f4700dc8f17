// Package passtest tests a pass by texts: testdata/NAME.txt holds a comment
// and, as in a txtar archive, the graph before and the graph after the pass
// (or the message by which the pass refuses). Besides the texts it compares
// what both graphs compute.
//
//	go test ./passes/... -update
//
// writes the texts anew; the difference is to be read before it is committed.
package passtest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"nepcoc/internal/golden"
	"nepcoc/ir"
	"nepcoc/passes"
)

// Case is one golden file and what must be true of it whatever the text says:
// a careless -update can't turn a case around.
type Case struct {
	Name string // testdata/Name.txt
	// Has and Not list operators that the result must and must not contain.
	Has, Not []string
	// Refused says that the pass must report problems instead of a graph.
	Refused bool
	Options passes.Options
}

// Golden runs the pass on every case and fails on files that no case names.
func Golden(t *testing.T, p passes.Pass, cases []Case) {
	var known []string
	for _, c := range cases {
		known = append(known, c.Name+".txt")
		t.Run(c.Name, func(t *testing.T) { run(t, p, c) })
	}
	golden.Orphans(t, "testdata", known...)
}

func run(t *testing.T, p passes.Pass, c Case) {
	path := filepath.Join("testdata", c.Name+".txt")
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(archive.Files) == 0 || archive.Files[0].Name != "before" {
		t.Fatalf("%s: the first section must be -- before --", path)
	}
	before, err := ir.Parse(string(archive.Files[0].Data))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	ctx := &passes.Context{Options: c.Options}
	m, err := passes.NewManager([]passes.Pass{{Name: p.Name, Run: p.Run}})
	if err != nil {
		t.Fatal(err)
	}
	after, err := m.Run(ctx, before.Clone())
	section := txtar.File{Name: "after"}
	switch {
	case err != nil && !c.Refused:
		t.Fatal(err)
	case err == nil && c.Refused:
		t.Fatalf("the pass takes what it must refuse:\n%s", ir.Print(after))
	case err != nil:
		section = txtar.File{Name: "refused", Data: []byte(err.Error() + "\n")}
	default:
		section.Data = []byte(Text(t, after))
		checkOps(t, c, after)
		inputs := RandomInputs(before, 7)
		adapted := make([]map[string]*ir.Tensor, len(inputs))
		for i := range inputs {
			adapted[i] = Adapt(t, after, inputs[i], ctx.Report.Local)
		}
		Compare(t, p.Name, Evaluate(t, after, adapted), Expected(t, before, inputs), 1e-5)
	}
	if golden.Update() {
		archive.Files = []txtar.File{{Name: "before", Data: []byte(Text(t, before))}, section}
		if err := os.WriteFile(path, txtar.Format(archive), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	if len(archive.Files) != 2 || archive.Files[1].Name != section.Name {
		t.Fatalf("%s has no section -- %s --: run with -update and read the difference", path, section.Name)
	}
	if d := cmp.Diff(strings.Split(string(archive.Files[1].Data), "\n"), strings.Split(string(section.Data), "\n")); d != "" {
		t.Errorf("%s differs (-file +now):\n%s", path, d)
	}
}

func checkOps(t *testing.T, c Case, g *ir.Graph) {
	t.Helper()
	var ops []string
	for _, n := range g.Nodes {
		ops = append(ops, n.Op)
	}
	for _, op := range c.Has {
		if !slices.Contains(ops, op) {
			t.Errorf("no %s in the result: %s", op, strings.Join(ops, ", "))
		}
	}
	for _, op := range c.Not {
		if slices.Contains(ops, op) {
			t.Errorf("%s in the result: %s", op, strings.Join(ops, ", "))
		}
	}
}

// Text is the graph with every constant in place.
func Text(t *testing.T, g *ir.Graph) string {
	t.Helper()
	var b strings.Builder
	if err := ir.Fprint(&b, g, ir.PrintOptions{Inline: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
