package compiler

import (
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"unicode"

	"nepcoc/internal/version"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/drift"
	"nepcoc/runtime/refexec"
	"nepcoc/runtime/verdict"
)

// assemble makes the bundle around a program: golden vectors and manifest.
func (c *compilation) assemble(p *bundle.Program) error {
	golden, err := c.golden(p)
	if err != nil {
		return err
	}
	q := c.res.Report.Quantize
	m := bundle.Manifest{
		Format: bundle.FormatVersion, Tool: "nepcoc " + version.Version, Name: c.Name,
		Model: bundle.Model{File: fileName(c.Model), SHA256: c.res.Info.SHA256,
			Producer: strings.TrimSpace(c.res.Info.Producer + " " + c.res.Info.ProducerVersion), Opset: c.res.Info.Opset,
			TokenInput: c.res.Report.Local.TokenInput, MaskInput: c.res.Report.Local.MaskInput,
			Features: c.res.Report.Local.Features, Sides: c.res.Report.Local.Sides, Sizes: c.res.Info.Sizes},
		Target:      bundle.Target{Name: c.res.Target.Name},
		Calibration: bundle.Calibration{Method: q.Method, Samples: len(c.calib.Inputs), Distinct: c.parts.Distinct, Observed: len(c.parts.Observe), SourceSHA256: c.calib.SHA256},
	}
	if m.Name == "" {
		m.Name = strings.TrimSuffix(m.Model.File, ".onnx")
	}
	if m.Model.Version = c.ModelVersion; m.Model.Version == "" {
		m.Model.Version = c.res.Info.ModelVersion
		if err := bundle.CheckName(m.Model.Version); err != nil {
			m.Model.Version = ""
			c.res.Notes = append(c.res.Notes, fmt.Sprintf("the model's own version is left out: %v; give one (--model-version)", err))
		}
	}
	if l := c.res.Report.Local; l.Masked && l.MaskInput == "" {
		m.Model.PadToken = &l.PadToken
	}
	if !c.noContract {
		m.Contract = bundle.Contract{YAML: string(c.contract.YAML()), Hash: c.contract.Hash()}
	}
	m.View, m.MinPayload = c.View, c.MinPayload
	m.Outputs = c.outputs
	if c.CalibLabels != "" {
		if err := c.readLabels(); err != nil {
			return err
		}
	}
	if c.meter != nil { // a check has no data
		if m.Measured, err = c.figures(p, m.Outputs); err != nil {
			return err
		}
	}
	if c.CalibLabels != "" {
		if err := c.calibrateScores(p); err != nil {
			return err
		}
	}
	m.Sizes.Weights = p.WeightBytes()
	for _, s := range c.res.Cost {
		m.Sizes.MACs += s.MACs
	}
	for _, v := range q.Wide {
		m.Notes = append(m.Notes, bundle.StepNote{Step: v, Note: "kept at 16 bits"})
	}
	c.res.Bundle = &bundle.Bundle{Manifest: m, Program: p, Golden: golden}
	if c.KnownPass > 0 && !c.checking {
		if err := c.know(c.res.Bundle); err != nil {
			return err
		}
	}
	if c.meter != nil && !c.noContract {
		return c.describe(c.res.Bundle)
	}
	return nil
}

// describe stores what calibration's flows look like to the finished bundle, for the agent to compare with.
func (c *compilation) describe(b *bundle.Bundle) (err error) {
	b.Manifest.Traffic, err = drift.Calibration(b, len(c.calib.Inputs), func(i int, r *verdict.Record) ([]int32, int) {
		if c.calib.Flows != nil {
			verdicts := r.Verdicts
			*r = c.calib.Flows[i]
			r.Verdicts = verdicts
		}
		return c.calib.Inputs[i].Tokens, c.calib.Inputs[i].Valid
	})
	return err
}

// rounded keeps the digits that every CPU agrees on.
func rounded(x float64) float64 { return math.Round(x*1e4) / 1e4 }

// fileName is the model's name as a manifest can hold it: text, without folders of any
// system.
func fileName(path string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == '/' || r == '\\' {
			return unicode.ReplacementChar
		}
		return r
	}, filepath.Base(path))
}

// golden computes the vectors by which a card proves itself: calibration
// inputs spread over the set, and random tokens of short, odd and full length,
// which reach values that real traffic may not.
func (c *compilation) golden(p *bundle.Program) ([]bundle.Golden, error) {
	x, err := refexec.New(p)
	if err != nil {
		return nil, err
	}
	var gs []bundle.Golden
	for _, in := range c.calib.Spread(goldenVectors) {
		gs = append(gs, bundle.Golden{Tokens: in.Tokens, Valid: in.Valid})
	}
	rng := rand.New(rand.NewPCG(1, 2))
	masked := c.res.Report.Local.Masked
	for _, n := range []int{1, 2, p.Length/2 + 1, p.Length} {
		if !masked {
			n = p.Length
		}
		tokens := make([]int32, p.Length)
		for i := range n {
			tokens[i] = int32(rng.IntN(p.Vocab))
		}
		for i := n; i < p.Length; i++ {
			tokens[i] = int32(c.contract.Pad)
		}
		for range p.Sides {
			tokens = append(tokens, int32(rng.IntN(bundle.SideIDs)))
		}
		gs = append(gs, bundle.Golden{Tokens: tokens, Valid: n})
	}
	for i := range gs {
		if gs[i].Logits, err = x.Run(gs[i].Tokens, gs[i].Valid); err != nil {
			return nil, fmt.Errorf("golden vector %d: %w", i, err)
		}
	}
	return gs, nil
}
