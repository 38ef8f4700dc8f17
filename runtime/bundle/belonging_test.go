package bundle_test

import (
	"strings"
	"testing"

	"nepcoc/internal/testbundle"
	"nepcoc/runtime/bundle"
)

// placed is a bundle whose classes have a belonging of two dimensions.
func placed(t *testing.T) *bundle.Bundle {
	t.Helper()
	b, err := testbundle.EveryKind(0)
	if err != nil {
		t.Fatal(err)
	}
	p := b.Program
	value := -1
	for i := range p.Values {
		if p.Values[i].Rows == 1 && p.Values[i].DType != bundle.I32 {
			value = i
		}
	}
	if value < 0 {
		t.Fatal("no vector")
	}
	cols, classes := p.Values[value].Cols, p.Values[p.Outputs[0].Value].Cols
	add := func(name string, d bundle.DType, shape ...int) int {
		n := d.Size()
		for _, s := range shape {
			n *= s
		}
		p.Tensors = append(p.Tensors, bundle.Tensor{Name: name, DType: d, Shape: shape, Data: make([]byte, n)})
		return len(p.Tensors) - 1
	}
	p.Belonging = []bundle.Belonging{{Output: 0, Value: value, One: add("one", bundle.I8, cols, 1, 1), Mean: add("mean", bundle.I32, cols), Scale: add("scale", bundle.I32, cols), ScaleShift: 4,
		W: add("w", bundle.I8, 2, 1, cols), Bias: add("b", bundle.I32, 2), Mult: add("mult", bundle.I32, 2), Shift: 4, Prototypes: add("prototypes", bundle.I16, classes, 2)}}
	b.Manifest.Outputs[0].Known = &bundle.Known{Pass: 0.9, Bound: 5, Quantiles: []int64{1, 4, 9, 16}, Flows: 4, Classes: make([]int, classes)}
	for i := range b.Golden {
		b.Golden[i].Logits = append(b.Golden[i].Logits, make([]int32, 2))
	}
	return b
}

// What an executor relies on is checked, of a program and of what the manifest says of it.
func TestBelonging(t *testing.T) {
	data, err := bundle.Encode(placed(t), bundle.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bundle.Decode(data); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		change     func(b *bundle.Bundle, g *bundle.Belonging, k *bundle.Known)
	}{
		{"output", "output 9", func(_ *bundle.Bundle, g *bundle.Belonging, _ *bundle.Known) { g.Output = 9 }},
		{"twice", "output 0 of", func(b *bundle.Bundle, g *bundle.Belonging, _ *bundle.Known) {
			b.Program.Belonging = append(b.Program.Belonging, *g)
		}},
		{"value", "value -1", func(_ *bundle.Bundle, g *bundle.Belonging, _ *bundle.Known) { g.Value = -1 }},
		{"tensor", "tensor 99999", func(_ *bundle.Bundle, g *bundle.Belonging, _ *bundle.Known) { g.Mean = 99999 }},
		{"no vector", "no vector", func(_ *bundle.Bundle, g *bundle.Belonging, _ *bundle.Known) { g.W = g.Bias }},
		{"prototypes", "prototypes", func(_ *bundle.Bundle, g *bundle.Belonging, _ *bundle.Known) { g.Prototypes = g.W }},
		{"columns", "w", func(_ *bundle.Bundle, g *bundle.Belonging, _ *bundle.Known) { g.W = g.One }},
		{"shift", "shift", func(_ *bundle.Bundle, g *bundle.Belonging, _ *bundle.Known) { g.Shift = 63 }},
		{"manifest only", "only", func(b *bundle.Bundle, _ *bundle.Belonging, _ *bundle.Known) { b.Program.Belonging = nil }},
		{"program only", "only", func(b *bundle.Bundle, _ *bundle.Belonging, _ *bundle.Known) { b.Manifest.Outputs[0].Known = nil }},
		{"pass", "pass", func(_ *bundle.Bundle, _ *bundle.Belonging, k *bundle.Known) { k.Pass = 0 }},
		{"bound", "bound", func(_ *bundle.Bundle, _ *bundle.Belonging, k *bundle.Known) { k.Bound = -1 }},
		{"quantiles", "in order", func(_ *bundle.Bundle, _ *bundle.Belonging, k *bundle.Known) { k.Quantiles = []int64{2, 1} }},
		{"no quantiles", "0 quantiles", func(_ *bundle.Bundle, _ *bundle.Belonging, k *bundle.Known) { k.Quantiles = nil }},
		{"classes", "prototypes of", func(_ *bundle.Bundle, _ *bundle.Belonging, k *bundle.Known) { k.Classes = []int{0} }},
		{"min payload", "min_payload", func(b *bundle.Bundle, _ *bundle.Belonging, _ *bundle.Known) { b.Manifest.MinPayload = -2 }},
		{"golden", "golden", func(b *bundle.Bundle, _ *bundle.Belonging, _ *bundle.Known) {
			b.Golden[0].Logits = b.Golden[0].Logits[:4]
		}},
	} {
		b := placed(t)
		c.change(b, &b.Program.Belonging[0], b.Manifest.Outputs[0].Known)
		if _, err := bundle.Encode(b, bundle.Options{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// The share of known flows that are as far or farther, at, between and beyond the quantiles.
func TestShare(t *testing.T) {
	k := bundle.Known{Quantiles: []int64{1, 4, 4, 16}}
	for d, want := range map[int64]float64{0: 1, 1: 1, 2: 0.75, 4: 0.75, 5: 0.25, 16: 0.25, 17: 0} {
		if got := float64(k.Share(d)) / bundle.ProbabilityOne; got != want {
			t.Errorf("distance %d: %g, want %g", d, got, want)
		}
	}
}
