package backends_test

import (
	"strings"
	"testing"

	"nepcoc/backends"
	"nepcoc/internal/randprog"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/engine"
)

func TestTargets(t *testing.T) {
	names := map[string]bool{}
	for _, m := range backends.Targets() {
		got, err := backends.LookupTarget(m.Name)
		if err != nil || got.Name != m.Name {
			t.Errorf("LookupTarget(%q): %v, %v", m.Name, got, err)
		}
		if names[m.Name] || m.Doc == "" || m.GHz <= 0 || m.Cores < 1 || m.L2 <= 0 || m.L3 < m.L2 {
			t.Errorf("%+v: taken name, or something is missing", m)
		}
		if _, err := engine.Describe(randprog.New(1), m.Kernel); err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
		c := m.Cost
		for _, x := range []float64{c.Gated, c.GatedNorm, c.MAC, c.MAC16, c.Element, c.Lookup, c.Step} {
			if !(x > 0) {
				t.Errorf("%s: a cost of %g: %+v", m.Name, x, c)
			}
		}
		names[m.Name] = true
	}
	_, err := backends.LookupTarget("bf9")
	if err == nil {
		t.Fatal("found target bf9")
	}
	for name := range names {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%v: does not name %s", err, name)
		}
	}
}

// TestEstimate: every step costs something, on every target, unless it is folded into
// another, and a shorter input never costs more.
func TestEstimate(t *testing.T) {
	for seed := range uint64(200) {
		p := randprog.New(seed)
		free := map[int]bool{}
		for _, j := range p.Folds() {
			free[j] = true
		}
		for _, m := range backends.Targets() {
			var before []backends.StepCost
			for _, n := range []int{p.Length, p.Length/2 + 1, 1} {
				costs := backends.Estimate(p, &m, n)
				if len(costs) != len(p.Steps) {
					t.Fatalf("seed %d: %d costs of %d steps", seed, len(costs), len(p.Steps))
				}
				for i, c := range costs {
					if c.Step != p.Steps[i].Name || c.Op != p.Steps[i].Op {
						t.Fatalf("seed %d: cost %d is of %s %s", seed, i, c.Op, c.Step)
					}
					if !(c.Cycles >= m.Cost.Step || free[i]) || c.MACs < 0 || c.WeightBytes < 0 || (c.OutputBytes <= 0 && !free[i]) {
						t.Errorf("seed %d, %s, %d tokens: %+v", seed, m.Name, n, c)
					}
					if us := c.Cycles / m.GHz / 1e3; c.Microseconds < us*0.999 || c.Microseconds > us*1.001 {
						t.Errorf("seed %d: %g cycles at %g GHz take %g us", seed, c.Cycles, m.GHz, c.Microseconds)
					}
					if before != nil && (c.Cycles > before[i].Cycles || c.MACs > before[i].MACs) {
						t.Errorf("seed %d: step %d costs more for %d tokens", seed, i, n)
					}
				}
				before = costs
			}
		}
	}
}

// A table that is stored narrow costs what the wide one would: it is widened once, not
// for each input.
func TestEstimateOfNarrowTable(t *testing.T) {
	m, err := backends.LookupTarget("bf3")
	if err != nil {
		t.Fatal(err)
	}
	tensor := func(d bundle.DType, shape ...int) bundle.Tensor {
		n := 1
		for _, x := range shape {
			n *= x
		}
		return bundle.NewTensor("", d, shape, make([]int32, n))
	}
	p := &bundle.Program{
		Length: 16, Vocab: 100,
		Values: []bundle.Value{{Name: "narrow", DType: bundle.I8, Rows: 16, Cols: 8}, {Name: "wide", DType: bundle.I8, Rows: 16, Cols: 64},
			{Name: "pooled", DType: bundle.I8, Rows: 1, Cols: 64}},
		Tensors: []bundle.Tensor{tensor(bundle.I8, 100, 8), tensor(bundle.I8, 64, 1, 8), tensor(bundle.I32, 64), tensor(bundle.I32, 64)},
		Steps: []bundle.Step{
			{Op: bundle.OpTokenTable, Name: "narrow", In: []int{}, TokenTable: &bundle.TokenTable{}},
			{Op: bundle.OpConv, Name: "wide", In: []int{0}, Out: 1, Conv: &bundle.Conv{K: 1, Stride: 1, Dilation: 1, Groups: 1, W: 1, Bias: 2, Pad: -1,
				Requant: bundle.Requant{Mult: 3, Shift: 1, Lo: -128, Hi: 127, Table: -1}}},
			{Op: bundle.OpPool, Name: "pooled", In: []int{1}, Out: 2, Pool: &bundle.Pool{Kind: "max", Over: "prefix"}},
		},
		Outputs: []bundle.Output{{Name: "out", Value: 2, Ending: bundle.EndLogits, Exp: -1}},
	}
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	c := backends.Estimate(p, m, 16)
	wide := m.Cost.Step + 16*64*m.Cost.Lookup
	if c[0].Cycles != 0 || c[0].MACs != 0 || c[1].Cycles != wide || c[1].MACs != 0 || c[1].WeightBytes != 16*64 {
		t.Errorf("narrow %+v, wide %+v; want 0 and %g cycles", c[0], c[1], wide)
	}
	// Another reader of the narrow rows: they are looked up, and widened, for each input.
	p.Values = append(p.Values, bundle.Value{Name: "too", DType: bundle.I8, Rows: 1, Cols: 8})
	p.Steps = append(p.Steps, bundle.Step{Op: bundle.OpPool, Name: "too", In: []int{0}, Out: 3, Pool: &bundle.Pool{Kind: "max", Over: "prefix"}})
	if c := backends.Estimate(p, m, 16); c[0].Cycles == 0 || c[1].MACs != 16*64*8 {
		t.Errorf("with another reader: narrow %+v, wide %+v", c[0], c[1])
	}
}
