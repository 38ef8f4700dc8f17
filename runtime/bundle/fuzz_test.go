package bundle_test

import (
	"bytes"
	"testing"

	"nepcoc/internal/randprog"
	"nepcoc/runtime/arith"
	"nepcoc/runtime/bundle"
)

// wrap is a bundle around a random program.
func wrap(p *bundle.Program) *bundle.Bundle {
	b := &bundle.Bundle{Program: p, Manifest: bundle.Manifest{Format: bundle.FormatVersion, Tool: "test"}}
	tokens, valid := randprog.Input(p, 1)
	if p.Sides > 0 {
		b.Manifest.Model.Sides = []bundle.SideInput{{Name: "side", Grids: make([]arith.Grid, p.Sides)}}
	}
	g := bundle.Golden{Tokens: tokens, Valid: valid}
	for _, o := range p.Outputs {
		b.Manifest.Outputs = append(b.Manifest.Outputs, bundle.OutputInfo{Name: o.Name})
		g.Logits = append(g.Logits, make([]int32, p.Values[o.Value].Cols))
	}
	b.Golden = []bundle.Golden{g}
	return b
}

func TestRandomRoundTrip(t *testing.T) {
	for seed := range uint64(200) {
		data, err := bundle.Encode(wrap(randprog.New(seed)), bundle.Options{Mappable: seed%5 == 0})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		b, err := bundle.Decode(data)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		again, err := bundle.Encode(b, bundle.Options{Mappable: seed%5 == 0})
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if !bytes.Equal(data, again) {
			t.Fatalf("seed %d: encoding again gives other bytes", seed)
		}
	}
}

// FuzzDecode feeds the decoder files whose checksums are made right, so that
// it gets past them: no panic, and what is accepted is valid and stable.
//
// Run it with -fuzzminimizetime=20x: by default the engine spends a minute on
// shrinking each input of these sizes, and hardly any on new ones. Look at the
// number of execs before believing a run.
func FuzzDecode(f *testing.F) {
	for _, data := range bundle.Seeds(f) {
		f.Add(data)
	}
	for seed := range uint64(100) {
		if raw := bundle.EncodeRaw(f, wrap(randprog.New(seed))); len(raw) < 8<<10 {
			f.Add(raw)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		data = bytes.Clone(data)
		bundle.Reseal(data)
		checkDecode(t, data)
	})
}

// FuzzSections changes the sections one by one, so that changes of length reach
// the JSON and the weights too. See FuzzDecode for how to run it.
func FuzzSections(f *testing.F) {
	for _, data := range bundle.Seeds(f) {
		if b, err := bundle.Decode(data); err == nil {
			m, p, w, g := bundle.Parts(f, b)
			f.Add(m, p, w, g)
		}
	}
	for seed := range uint64(60) {
		if m, p, w, g := bundle.Parts(f, wrap(randprog.New(seed))); len(w) < 8<<10 {
			f.Add(m, p, w, g)
		}
	}
	f.Fuzz(func(t *testing.T, m, p, w, g []byte) { checkDecode(t, bundle.Assemble(m, p, w, g)) })
}

// checkDecode: a file is refused, or what comes out is valid and stable.
func checkDecode(t *testing.T, data []byte) {
	b, err := bundle.Decode(data)
	if err != nil {
		return
	}
	if err := b.Program.Validate(); err != nil {
		t.Fatalf("accepted, but: %v", err)
	}
	first, err := bundle.Encode(b, bundle.Options{})
	if err != nil {
		t.Fatalf("accepted, but can't be encoded: %v", err)
	}
	c, err := bundle.Decode(first)
	if err != nil {
		t.Fatalf("accepted, but not when encoded again: %v", err)
	}
	second, err := bundle.Encode(c, bundle.Options{})
	if err != nil || !bytes.Equal(first, second) {
		t.Fatalf("not stable when encoded again: %v", err)
	}
}
