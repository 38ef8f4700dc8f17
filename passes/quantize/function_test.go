package quantize

import (
	"fmt"
	"math"
	"testing"

	"nepcoc/ir"
	"nepcoc/ir/acts"
	"nepcoc/ir/eval"
)

// Every function of the table, alone and, where it fuses, carried by a layer,
// computes in integers what it is in floats; and were it another function of the
// table, that would be found out.
func TestEachFunction(t *testing.T) {
	told := 0
	for _, f := range acts.Funcs() {
		for _, carried := range []bool{false, true} {
			if carried && !f.Fuses() {
				continue
			}
			t.Run(fmt.Sprintf("%s/carried=%v", f.Name, carried), func(t *testing.T) {
				for seed := range uint64(12) {
					d, n := drawFunction(f, carried, seed)
					if d.err != nil {
						t.Fatal(d.err)
					}
					inputs := draw(d.g, 6)
					x, err := quantizeGraph(t, d.g, observations(t, d.g, inputs), Options{WideAll: seed%4 == 3})
					if err != nil {
						t.Fatalf("seed %d: %v\n%s", seed, err, ir.Print(d.g))
					}
					for _, s := range inputs {
						if err := checkSteps(t, x, s); err != nil {
							t.Errorf("seed %d: %v", seed, err)
						}
					}
					told += mistaken(t, x, n, carried, inputs)
				}
			})
		}
	}
	if told < 1000 {
		t.Errorf("only %d functions were told from others", told)
	}
}

// drawFunction draws a graph with one use of a function, on inputs for which it
// has finite results.
func drawFunction(f *acts.Func, carried bool, seed uint64) (*drawer, *ir.Node) {
	d, x := newDrawer(seed+7000, 9, 12, 5)
	data := x.Def.Inputs[1].Const.Data.([]float32)
	for i := range data {
		data[i] = float32(d.rng.NormFloat64())
	}
	switch f.Name {
	case "log", "sqrt", "pow", "reciprocal":
		for i := range data {
			data[i] = 0.2 + float32(math.Abs(float64(data[i])))
		}
	}
	attrs := ir.Attrs{}
	for _, p := range f.Params {
		attrs[p.Name] = p.Default
	}
	switch f.Name {
	case "clip":
		attrs["min"], attrs["max"] = -0.4, 0.9
	case "pow":
		attrs["alpha"] = 2.5
	}
	in := []*ir.Value{x}
	if f.SlopeInput {
		delete(attrs, "alpha")
		in = append(in, d.vec(d.rng.NormFloat64, 5))
	}
	if !carried {
		attrs["fn"] = f.Name
		x = d.op("act", attrs, in...)
	} else {
		carry := ir.Attrs{"act": f.Name, "pad_left": 1, "pad_right": 1}
		for k, v := range attrs {
			carry["act_"+k] = v
		}
		x = d.op("conv", carry, x, d.normal(0.3, 5, 3, 5), d.vec(d.rng.NormFloat64, 5))
	}
	n := x.Def
	d.finish(x)
	return d, n
}

// mistaken counts the functions that are told from the one of n. It is an error
// if one isn't whose results differ by a twentieth of their range, or by an
// eighth where a layer carries it, whose own rounding comes first.
func mistaken(t *testing.T, x *quantized, n *ir.Node, carried bool, inputs []sample) (told int) {
	t.Helper()
	key, prefix, least := "fn", "", 1.0/20
	if carried {
		key, prefix, least = "act", "act_", 1.0/8
	}
	own := n.Attrs
	defer func() { n.Attrs = own }()
	for _, g := range acts.Funcs() {
		if g.SlopeInput || n.Input(1) != nil && !carried || carried && !g.Fuses() {
			continue
		}
		other := ir.Attrs{key: g.Name}
		for k, v := range own {
			if k != key && (len(k) < 4 || k[:4] != "act_") && carried {
				other[k] = v
			}
		}
		for _, p := range g.Params {
			other[prefix+p.Name] = p.Default
		}
		n.Attrs = own
		if apart := furthest(t, x, n, other, inputs); apart < least {
			continue
		}
		n.Attrs = other
		found := false
		for _, s := range inputs {
			found = found || checkSteps(t, x, s) != nil
		}
		if !found {
			t.Errorf("a table of %s passes for %s", own[key], g.Name)
		}
		told++
	}
	return told
}

// furthest is how far n's results are from those with other attributes, of
// their range. Both are computed of what the step's inputs stand for, and limited to
// what n's integers can stand for.
func furthest(t *testing.T, x *quantized, n *ir.Node, other ir.Attrs, inputs []sample) float64 {
	t.Helper()
	form := x.q.vals[n.Out()]
	least, most := x.q.bounds(n.Out(), form.val.Type.DType)
	limit := func(y float32) float64 {
		return min(max(float64(y), form.scale[0]*float64(least)+form.offset[0]), form.scale[0]*float64(most)+form.offset[0])
	}
	lo, hi, apart := math.Inf(1), math.Inf(-1), 0.0
	for _, s := range inputs {
		vals := x.trace(t, s)
		in := make([]*ir.Tensor, len(n.Inputs))
		for i, v := range n.Inputs {
			if v.Const != nil {
				in[i] = v.Const
			} else {
				in[i], _ = x.real(v, vals)
			}
		}
		m := *n
		m.Attrs = other
		a, err := eval.Node(n, in)
		if err != nil {
			t.Fatal(err)
		}
		b, err := eval.Node(&m, in)
		if err != nil {
			t.Fatal(err)
		}
		for i, y := range a[0].Data.([]float32) {
			lo, hi = min(lo, float64(y)), max(hi, float64(y))
			if d := math.Abs(limit(y) - limit(b[0].Data.([]float32)[i])); d == d {
				apart = max(apart, d)
			}
		}
	}
	return apart / (hi - lo)
}
