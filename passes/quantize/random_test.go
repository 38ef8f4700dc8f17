package quantize

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"testing"

	"nepcoc/ir"
)

// quantizeAndCheck quantizes g and checks every step on calibration inputs.
// refused is an error that names the problem.
func quantizeAndCheck(t testing.TB, g *ir.Graph, opts Options) (refused, wrong error) {
	t.Helper()
	if err := ir.Check(g); err != nil {
		t.Fatal(err)
	}
	expand(g, func(string, ...any) {})
	inputs := draw(g, 6)
	obs := observations(t, g, inputs)
	x, err := quantizeGraph(t, g, obs, opts)
	if err != nil {
		return err, nil
	}
	for _, s := range inputs[:3] {
		if err := checkSteps(t, x, s); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// TestEachRule draws graphs with one operator between the token table and the
// reduction, for every operator.
func TestEachRule(t *testing.T) {
	for _, all := range []map[string]func(*drawer, *ir.Value) *ir.Value{blocks, moving} {
		for _, name := range slices.Sorted(maps.Keys(all)) {
			t.Run(name, func(t *testing.T) {
				for seed := range uint64(40) {
					d, x := newDrawer(seed, 9, 12, 5+int(seed%3))
					d.finish(all[name](d, x))
					tryDrawn(t, d, seed)
				}
			})
		}
	}
}

func tryDrawn(t *testing.T, d *drawer, seed uint64) {
	t.Helper()
	if d.err != nil {
		return // the operator did not fit
	}
	for _, opts := range []Options{{Method: Methods()[seed%4]}, {WideAll: true}} {
		refused, wrong := quantizeAndCheck(t, d.g.Clone(), opts)
		var problems ir.Problems
		if refused != nil && (!errors.As(refused, &problems) || containsBug(refused)) {
			t.Errorf("seed %d: %v\n%s", seed, refused, ir.Print(d.g))
		}
		if refused != nil {
			t.Logf("seed %d: refused: %v", seed, refused)
		}
		if wrong != nil {
			t.Errorf("seed %d, %+v: %v", seed, opts, wrong)
			if testing.Verbose() {
				t.Log(ir.Print(d.g))
			}
		}
	}
}

func containsBug(err error) bool {
	s := fmt.Sprint(err)
	for i := range len(s) - 3 {
		if s[i:i+3] == "BUG" {
			return true
		}
	}
	return false
}

// TestRandomGraphs draws deeper graphs of all operators.
func TestRandomGraphs(t *testing.T) {
	n := 150
	if testing.Short() {
		n = 30
	}
	for seed := range uint64(n) {
		tryDrawn(t, randomGraph(seed), seed)
		tryDrawn(t, wholeGraph(seed), seed)
	}
}

// wholeGraph draws a graph that works on positions and channels in turn.
func wholeGraph(seed uint64) *drawer {
	d, x := newDrawer(seed+2000, 8+int(seed%5), 10, 4+int(seed%4))
	for range 2 + d.pick(3) {
		x = moving[d.oneOf(slices.Sorted(maps.Keys(moving))...)](d, x)
		x = blocks[d.oneOf("conv", "linear", "act", "residual", "window", "squeeze")](d, x)
	}
	d.finish(x)
	return d
}

func randomGraph(seed uint64) *drawer {
	var names []string
	for name := range blocks {
		names = append(names, name)
	}
	sort.Strings(names)
	d, x := newDrawer(seed+1000, 8+int(seed%5), 10, 4+int(seed%4))
	for range 1 + d.pick(5) {
		x = blocks[names[d.pick(len(names))]](d, x)
	}
	d.finish(x)
	return d
}
