package backends_test

import (
	"strings"
	"testing"

	"nepcoc/backends"
	"nepcoc/internal/randprog"
)

func TestTargets(t *testing.T) {
	names := map[string]bool{}
	for _, m := range backends.Targets() {
		got, err := backends.LookupTarget(m.Name)
		if err != nil || got.Name != m.Name {
			t.Errorf("LookupTarget(%q): %v, %v", m.Name, got, err)
		}
		if names[m.Name] || m.Doc == "" || m.GHz <= 0 || m.Cores < 1 || m.L1 <= 0 || m.L2 < m.L1 || m.L3 < m.L2 {
			t.Errorf("%+v: taken name, or something is missing", m)
		}
		if m.Arch != "arm64" && m.Arch != "amd64" {
			t.Errorf("%s: architecture %q", m.Name, m.Arch)
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

// TestEstimate: every step costs something, on every target, and a shorter
// input never costs more.
func TestEstimate(t *testing.T) {
	for seed := range uint64(200) {
		p := randprog.New(seed)
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
					if !(c.Cycles >= m.Cost.Step) || c.MACs < 0 || c.WeightBytes < 0 || c.OutputBytes <= 0 {
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
