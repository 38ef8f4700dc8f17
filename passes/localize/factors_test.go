package localize_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"nepcoc/ir"
	"nepcoc/passes"
	"nepcoc/passes/localize"
)

// wordEmbedding is a model of rows x width that a linear layer widens to cols, with act after it.
func wordEmbedding(rows, width, cols int, act string) string {
	r := rand.New(rand.NewPCG(1, 1))
	numbers := func(n int) string {
		s := make([]string, n)
		for i := range s {
			s[i] = fmt.Sprint(float32(r.IntN(200)-100) / 64)
		}
		return strings.Join(s, ", ")
	}
	return fmt.Sprintf(`graph "words" {
  %%src = input i64[6]
  %%table = const f32[%d,%d] [%s]
  %%e = embed(%%src, %%table) : f32[6,%[2]d]
  %%w = const f32[%[4]d,%[2]d] [%[5]s]
  %%b = const f32[%[4]d] [%[6]s]
  %%x = linear(%%e, %%w, %%b)%[7]s : f32[6,%[4]d]
  %%p = pool(%%x) {kind="max"} : f32[%[4]d]
  output %%p as "logits"
}
`, rows, width, numbers(rows*width), cols, numbers(cols*width), numbers(cols), act)
}

// The factors of a large table stay beside it; a small one, one that is no product, and one whose
// factors are no smaller, are just tables.
func TestFactors(t *testing.T) {
	for _, c := range []struct {
		name, model string
		factors     bool
	}{
		{"large", wordEmbedding(4100, 8, 260, ""), true},
		{"small", wordEmbedding(100, 8, 260, ""), false},
		{"activation", wordEmbedding(4100, 8, 260, ` {act="relu"}`), false},
		{"no narrower", wordEmbedding(4100, 260, 260, ""), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, err := ir.Parse(c.model)
			if err != nil {
				t.Fatal(err)
			}
			before := g.Clone()
			m, err := passes.NewManager([]passes.Pass{{Name: localize.Pass.Name, Run: localize.Pass.Run}})
			if err != nil {
				t.Fatal(err)
			}
			if g, err = m.Run(&passes.Context{}, g); err != nil {
				t.Fatal(err)
			}
			embed := g.Nodes[0]
			if embed.Op != "embed" || (len(embed.Inputs) > 2) != c.factors {
				t.Fatalf("%s with %d inputs, want factors: %v", embed.Op, len(embed.Inputs), c.factors)
			}
			if !c.factors {
				return
			}
			for i, name := range []string{"table", "w", "b"} {
				if got := embed.Inputs[2+i].Name; got != name {
					t.Errorf("factor %d is %q, want %q", i, got, name)
				}
			}
			if got, want := before.Nodes[0].Inputs[1].Type.Shape, embed.Inputs[2].Type.Shape; got[0] != want[0] || got[1] != want[1] {
				t.Errorf("narrow rows %v, want %v", got, want)
			}
		})
	}
}
