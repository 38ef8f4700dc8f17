package quantize

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"nepcoc/ir"
	"nepcoc/passes"
)

// twoLayers is a model of two hidden layers: 16 bits could help %x, %a, %b and %p. Its plans
// in order: 4 methods, 4 values alone, 2 to 4 of them, 3 other methods with all.
const twoLayers = `graph "g" {
  %tokens = input i64[2]
  %table = const f32[2,2] [1, -1, 0.5, 2]
  %w = const f32[2,2] [1, 0.5, -0.25, 1]
  %x = embed(%tokens, %table) : f32[2,2]
  %a = linear(%x, %w) : f32[2,2]
  %b = linear(%a, %w) : f32[2,2]
  %p = pool(%b) {kind="max"} : f32[2]
  %y = linear(%p, %w) : f32[2]
  output %y as "logits"
}`

// plan is what a fake measurement says of one plan, by the order of the plans.
type plan struct {
	changed int // of 100 verdicts
	err     float64
}

// searched runs the search with measurements that are made up: the n-th plan gets
// plans[n], all further ones the last.
func searched(t *testing.T, text string, o passes.Options, plans []plan, fail func(n int) error) (*passes.Context, error) {
	t.Helper()
	g, err := ir.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	ctx := &passes.Context{Options: o}
	ctx.Report.Local.Length = 2
	ctx.Calibrate = func(g *ir.Graph, observe func(*ir.Value, *ir.Tensor)) error {
		for _, node := range g.Nodes {
			v := node.Out()
			d := make([]float32, v.Type.Len())
			for i := range d {
				d[i] = float32(i%3) - 1
			}
			observe(v, &ir.Tensor{Type: v.Type, Data: d})
		}
		return nil
	}
	ctx.Measure = func(*ir.Graph) (passes.Fidelity, error) {
		if fail != nil {
			if err := fail(n); err != nil {
				return passes.Fidelity{}, err
			}
		}
		p := plans[min(n, len(plans)-1)]
		n++
		return passes.Fidelity{Samples: 100, Changed: p.changed, RelError: p.err, Blind: p.err > 1}, nil
	}
	_, err = Pass.Run(ctx, g)
	return ctx, err
}

var bound = passes.Options{MaxDisagreement: 0.01, MaxRelError: 0.03}

// Among the plans that keep the bound, the one with the least error is
// chosen: less error elsewhere does not make up for verdicts.
func TestSearchObjective(t *testing.T) {
	for name, tc := range map[string]struct {
		plans  []plan
		method string
		wide   int
	}{
		"the least error":                    {[]plan{{0, 0.02}, {0, 0.01}, {0, 0.025}, {0, 0.02}}, "percentile", 0},
		"the bound goes first":               {[]plan{{2, 0.001}, {1, 0.02}, {2, 0.001}, {1, 0.025}}, "percentile", 0},
		"the first of equals":                {[]plan{{0, 0.02}}, "minmax", 0},
		"fewer verdicts where errors agree":  {[]plan{{1, 0}, {0, 0}, {1, 0}, {0, 0}}, "percentile", 0},
		"16 bits where 8 don't keep it":      {[]plan{{9, 0.02}, {8, 0.02}, {7, 0.02}, {9, 0.01}, {0, 0.015}}, "entropy", 1},
		"16 bits that keep it, with more":    {[]plan{{9, 0.02}, {8, 0.02}, {7, 0.02}, {9, 0.01}, {9, 0.001}, {9, 0.03}, {9, 0.001}, {9, 0.02}, {1, 0.02}}, "entropy", 2},
		"16 bits where the error is large":   {[]plan{{0, 0.5}, {0, 0.4}, {0, 0.6}, {0, 0.6}, {0, 0.02}}, "percentile", 1},
		"errors of no number are no success": {[]plan{{0, math.NaN()}, {0, 0.02}, {0, math.Inf(1)}, {0, math.NaN()}}, "percentile", 0},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, err := searched(t, twoLayers, bound, tc.plans, nil)
			if err != nil {
				t.Fatal(err)
			}
			if q := ctx.Report.Quantize; q.Method != tc.method || len(q.Wide) != tc.wide {
				t.Errorf("%s with 16 bits in %v, want %s and %d values; tried %+v", q.Method, q.Wide, tc.method, tc.wide, q.Tried)
			}
		})
	}
}

// No plan keeps the bound: the pass says so, with the best that it found.
func TestSearchMisses(t *testing.T) {
	for name, tc := range map[string]struct {
		plans []plan
		want  Missed
	}{
		"verdicts":      {[]plan{{50, 0.2}, {40, 0.3}, {60, 0.1}, {40, 0.2}, {40, 0.3}}, Missed{Method: "entropy", Fidelity: passes.Fidelity{Samples: 100, Changed: 40, RelError: 0.2}}},
		"error alone":   {[]plan{{0, 4}, {0, 3}}, Missed{Method: "percentile", Fidelity: passes.Fidelity{Samples: 100, RelError: 3}}},
		"not a number":  {[]plan{{0, math.NaN()}}, Missed{Method: "minmax", Fidelity: passes.Fidelity{Samples: 100, RelError: math.NaN()}}},
		"with 16 bits":  {[]plan{{50, 0.2}, {50, 0.2}, {50, 0.2}, {50, 0.2}, {50, 0.2}, {50, 0.2}, {50, 0.2}, {50, 0.2}, {9, 0.1}, {8, 0.1}, {5, 0.1}, {50, 1}}, Missed{Method: "minmax", Wide: []string{"a", "b", "p", "x"}, Fidelity: passes.Fidelity{Samples: 100, Changed: 5, RelError: 0.1}}},
		"other methods": {[]plan{{50, 0.2}, {50, 0.3}, {50, 0.3}, {50, 0.3}, {50, 0.3}, {50, 0.3}, {50, 0.3}, {50, 0.3}, {50, 0.3}, {50, 0.3}, {50, 0.3}, {3, 0.1}, {50, 1}}, Missed{Method: "percentile", Wide: []string{"a", "b", "p", "x"}, Fidelity: passes.Fidelity{Samples: 100, Changed: 3, RelError: 0.1}}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := searched(t, twoLayers, bound, tc.plans, nil)
			var m *Missed
			if !errors.As(err, &m) {
				t.Fatalf("got %v, want a *Missed", err)
			}
			if m.Method != tc.want.Method || m.Fidelity.Changed != tc.want.Fidelity.Changed || m.Allowed != 1 ||
				!(m.Fidelity.RelError == tc.want.Fidelity.RelError || math.IsNaN(tc.want.Fidelity.RelError)) ||
				tc.want.Wide != nil && !slices.Equal(m.Wide, tc.want.Wide) {
				t.Errorf("%+v, want %+v", m, tc.want)
			}
		})
	}
	// A user who allows every verdict to change gets a program all the same.
	all := bound
	all.MaxDisagreement = 1
	if _, err := searched(t, twoLayers, all, []plan{{100, math.NaN()}}, nil); err != nil {
		t.Errorf("--max-disagreement 1: %v", err)
	}
}

// Errors come out of the search, whatever it was trying: a cancelled compile
// ends, and a broken program is not taken for one that needs other bits.
func TestSearchErrors(t *testing.T) {
	for _, want := range []error{context.Canceled, errors.New("BUG: the compiler made an invalid program")} {
		for n := range 14 {
			_, err := searched(t, twoLayers, bound, []plan{{50, 0.2}}, func(i int) error {
				if i == n {
					return want
				}
				return nil
			})
			if !errors.Is(err, want) {
				t.Errorf("plan %d fails with %q: the search says %v", n, want, err)
			}
		}
	}
}

// A value for which the sums that read it leave no 16 bits is left at 8, and the search
// goes on without it.
func TestSearchSkipsUnfit(t *testing.T) {
	const positions, columns = 1000, 60
	weights := strings.TrimSuffix(strings.Repeat("1,", 2*positions*columns), ",")
	table := strings.TrimSuffix(strings.Repeat("1,", 2*columns), ",")
	text := fmt.Sprintf(`graph "g" {
  %%tokens = input i64[%[1]d]
  %%table = const f32[2,%[2]d] [%[4]s]
  %%wide = const f32[2,%[3]d] [%[5]s]
  %%w = const f32[2,2] [1, 0.5, -0.25, 1]
  %%x = embed(%%tokens, %%table) : f32[%[1]d,%[2]d]
  %%f = flatten(%%x) : f32[%[3]d]
  %%a = linear(%%f, %%wide) : f32[2]
  %%b = linear(%%a, %%w) : f32[2]
  %%y = linear(%%b, %%w) : f32[2]
  output %%y as "logits"
}`, positions, columns, positions*columns, table, weights)
	ctx, err := searched(t, text, bound, []plan{{50, 0.2}, {50, 0.2}, {50, 0.2}, {50, 0.2}, {0, 0.01}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if q := ctx.Report.Quantize; !slices.Equal(q.Wide, []string{"a"}) {
		t.Errorf("16 bits kept: %v, want a alone: 60,000 products of 16 bits don't fit a sum", q.Wide)
	}
}

// The bound is compared with counts, and one verdict of few may be bad luck.
func TestAllowed(t *testing.T) {
	for _, tc := range []struct {
		share   float64
		n, want int
	}{
		{0.01, 100, 1}, {0.01, 199, 1}, {0.01, 200, 2}, {0.01, 1000, 10}, {0.29, 100, 29},
		{0.01, 99, 1}, {0.01, 11, 1}, {0.01, 10, 0}, {0.01, 3, 0}, {0.01, 1, 0},
		{0, 1000, 0}, {0.5, 1, 1}, {1, 1, 1}, {0.0001, 100, 0},
	} {
		if got := allowed(tc.share, tc.n); got != tc.want {
			t.Errorf("%g of %d: %d may change, want %d", tc.share, tc.n, got, tc.want)
		}
	}
}

// A large token table is small at first, narrow or coarse; where that costs verdicts, its rows
// get all of their 8 bits before anything else gets 16.
func TestSearchWidensTable(t *testing.T) {
	narrow := strings.Replace(twoLayers, "embed(%tokens, %table)", "embed(%tokens, %table, %table, %w)", 1)
	missing := slices.Repeat([]plan{{5, 0.02}}, len(Methods()))
	for name, c := range map[string]struct {
		text  string
		step  int
		plans []plan
		tried int
		noted bool
	}{
		"narrow rows keep the bound": {narrow, 0, []plan{{0, 0.02}}, 4, false},
		"rows of 8 bits do":          {narrow, 0, append(missing, plan{0, 0.01}), 5, true},
		"a step was asked for":       {narrow, 2, append(missing, plan{0, 0.01}), 5, false}, // the fifth keeps 16 bits
		"a small table":              {twoLayers, 0, append(missing, plan{0, 0.01}), 5, false},
	} {
		t.Run(name, func(t *testing.T) {
			o := bound
			o.TableStep = c.step
			ctx, err := searched(t, c.text, o, c.plans, nil)
			if err != nil {
				t.Fatal(err)
			}
			q := ctx.Report.Quantize
			noted := slices.ContainsFunc(ctx.Report.Notes, func(s string) bool { return strings.Contains(s, "token table") })
			if len(q.Tried) != c.tried && c.noted || noted != c.noted || c.noted && len(q.Wide) != 0 {
				t.Errorf("%d plans, 16 bits for %v, notes %q; want %d plans and a note: %v", len(q.Tried), q.Wide, ctx.Report.Notes, c.tried, c.noted)
			}
		})
	}
}
