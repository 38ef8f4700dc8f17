package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"nepcoc/backends"
	"nepcoc/internal/cli"
	"nepcoc/internal/files"
	"nepcoc/internal/plural"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/engine"
)

func newInspect() *cobra.Command {
	var asJSON bool
	var target string
	var length int
	cmd := &cobra.Command{
		Use:   "inspect BUNDLE",
		Short: "Show what is in a bundle: manifest, steps, memory, cost",
		Long: `inspect shows where a bundle came from, how good it was found to be, its steps
with their multiply-adds, bytes and estimated time on a target, and the memory it needs.
Estimates are sums of measured cycles per unit of work, without cache misses
or contention: just estimates.
` + exitCodes,
		Example: `  nepcoc inspect model.nepco
  nepcoc inspect model.nepco --target bf2 --length 32
  nepcoc inspect model.nepco --json | jq .steps`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := files.Read(args[0], bundle.Read)
			if err != nil {
				return err
			}
			given := target != ""
			if !given {
				target = b.Manifest.Target.Name
			}
			t, err := backends.LookupTarget(target)
			if given && err != nil {
				return cli.UsageError("--target: %w", err)
			}
			if err != nil {
				return fmt.Errorf("%s: %w (--target)", args[0], err)
			}
			if length == 0 {
				length = b.Program.Length
			}
			if length < 1 || length > b.Program.Length {
				return cli.UsageError("--length %d: the model takes 1 to %d tokens", length, b.Program.Length)
			}
			r, err := newInspection(b, t, length)
			if err != nil {
				return err
			}
			if asJSON {
				return cli.JSON(cmd.OutOrStdout(), r)
			}
			r.print(cmd.OutOrStdout())
			return nil
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&asJSON, "json", false, "print as JSON")
	fl.StringVar(&target, "target", "", "estimate for this machine instead of the bundle's: "+targetNames())
	fl.IntVar(&length, "length", 0, "estimate for a flow of this many tokens (default: a full one)")
	return cmd
}

// inspection is what inspect shows.
type inspection struct {
	Name   string `json:"name"`
	Digest string `json:"digest"`
	Signer string `json:"signed_by,omitempty"`
	// Says is what the signer says of the bundle.
	Says     *statement          `json:"says,omitempty"`
	Manifest bundle.Manifest     `json:"manifest"`
	Length   int                 `json:"length"`
	Vocab    int                 `json:"vocab"`
	Sides    int                 `json:"sides,omitempty"`
	Left     int                 `json:"left"`
	Right    int                 `json:"right"`
	Target   string              `json:"target"`
	Tokens   int                 `json:"tokens"`
	Steps    []backends.StepCost `json:"steps"`
	Shapes   []string            `json:"shapes"`
	// Parts says of each step whether it is local, looks at the whole sequence, or belongs to the head: bundle.Program.Parts.
	Parts     []string `json:"parts"`
	Estimated float64  `json:"estimated_us"`
	// Runs is what the engine does with the bundle on the target's kernels.
	Runs   engine.Description `json:"runs"`
	Golden int                `json:"golden_vectors"`
}

func newInspection(b *bundle.Bundle, t *backends.Target, n int) (*inspection, error) {
	p := b.Program
	runs, err := engine.Describe(p, t.Kernel)
	if err != nil {
		return nil, err
	}
	r := &inspection{
		Name: b.Name(), Digest: b.Digest.String(), Manifest: b.Manifest, Length: p.Length, Vocab: p.Vocab, Sides: p.Sides, Left: p.Left, Right: p.Right,
		Target: t.Name, Tokens: n, Steps: backends.Estimate(p, t, n), Runs: runs, Golden: len(b.Golden),
	}
	if b.Signature != nil {
		r.Signer = bundle.Fingerprint(b.Signature.Key)
		r.Says = newStatement(b.Signature.Statement)
	}
	if r.Parts, err = p.Parts(); err != nil {
		return nil, err
	}
	for i, s := range p.Steps {
		v := p.Values[s.Out]
		r.Shapes = append(r.Shapes, fmt.Sprintf("%s[%d,%d]", v.DType, v.Rows, v.Cols))
		r.Estimated += r.Steps[i].Microseconds
	}
	return r, nil
}

func (r *inspection) print(w io.Writer) {
	m := &r.Manifest
	rows := [][]string{
		{"bundle", r.Name},
		{"digest", r.Digest},
		{"model", fmt.Sprintf("%s%s (sha256 %.12s, %s, opset %d)", cli.Name(m.Model.File), cli.Name(versionText(m.Model.Version)), m.Model.SHA256, cli.Name(m.Model.Producer), m.Model.Opset)},
		{"compiled by", fmt.Sprintf("%s, format %d, for %s", m.Tool, m.Format, m.Target.Name)},
		{"contract", fmt.Sprintf("%s, %d tokens of %d ids", contractText(m.Contract.Hash), r.Length, r.Vocab) + besideText(r.Sides)},
		{"local region", r.regionText()},
		{"calibration", calibrationText(&m.Calibration)},
		{"its traffic", trafficText(m.Traffic)},
	}
	unit := "distinct inputs"
	if m.Calibration.Distinct == 0 { // version 1 did not count them
		unit = "inputs"
	}
	rows = append(rows, measuredRows(&m.Measured, unit)...)
	for _, warning := range m.Measured.Warnings {
		rows = append(rows, []string{"warning", warning})
	}
	rows = append(rows, [][]string{
		{"weights", fmt.Sprintf("%s, %d multiply-adds per full input", cli.Bytes(m.Sizes.Weights), m.Sizes.MACs)},
		{"memory", fmt.Sprintf("%s per worker on %s (kernels: %s), %s at a time", cli.Bytes(int64(r.Runs.Arena)), r.Target, r.Runs.Kernel, tileText(r.Runs.Tile))},
		{"streaming", streamText(r.Runs.Streams, r.Runs.State)},
		{"golden vectors", fmt.Sprint(r.Golden)},
	}...)
	if r.Signer != "" {
		rows = append(rows, []string{"signed by", r.Signer + ", " + r.Says.text})
	}
	if n := m.LeastPayload(); n > 0 {
		rows = append(rows, []string{"insufficient", fmt.Sprintf("flows whose tokens hold less than %s of payload", plural.Of(n, "byte"))})
	}
	for _, o := range m.Outputs {
		rows = append(rows, []string{"output", outputText(&o)})
		if t := o.Taught; t != nil {
			rows = append(rows, []string{"taught", fmt.Sprintf("%s: %s on %s of %s, cross-validated accuracy %.4f, macro-F1 %.4f", o.Name, t.Mode, plural.Of(t.Flows, "flow"), plural.Of(t.Groups, "recording"), t.Accuracy, t.MacroF1)})
		}
	}
	cli.Table(w, rows)
	fmt.Fprintf(w, "\nsteps, estimated on %s for %d tokens (just estimates):\n", r.Target, r.Tokens)
	rows = [][]string{{"step", "operator", "part", "result", "multiply-adds", "weights", "cycles", "us"}}
	var macs, bytes int64
	var cycles float64
	for i, s := range r.Steps {
		rows = append(rows, []string{s.Step, s.Op, r.Parts[i], r.Shapes[i], fmt.Sprint(s.MACs), cli.Bytes(s.WeightBytes), fmt.Sprintf("%.0f", s.Cycles), fmt.Sprintf("%.2f", s.Microseconds)})
		macs, bytes, cycles = macs+s.MACs, bytes+s.WeightBytes, cycles+s.Cycles
	}
	rows = append(rows, []string{"all", "", "", "", fmt.Sprint(macs), cli.Bytes(bytes), fmt.Sprintf("%.0f", cycles), fmt.Sprintf("%.2f", r.Estimated)})
	cli.Table(w, rows)
}

// regionText is the receptive field of what is pooled, or how much of the program is local where that is the whole sequence.
func (r *inspection) regionText() string {
	whole := 0
	local := 0
	for _, part := range r.Parts {
		switch part {
		case "whole":
			whole++
		case "local":
			local++
		}
	}
	if whole > 0 {
		return fmt.Sprintf("%s; the %d behind %s at all positions", plural.Of(local, "step"), whole, plural.Verb(whole, "it looks", "it look"))
	}
	return fmt.Sprintf("%s to the left, %d to the right", plural.Of(r.Left, "position"), r.Right)
}

func versionText(v string) string {
	if v == "" {
		return ""
	}
	return ", version " + v
}

// trafficText says how far drift can be told.
func trafficText(t *bundle.Traffic) string {
	if t == nil {
		return "not described: no drift can be told"
	}
	return fmt.Sprintf("described by %s of %s", plural.Of(len(t.Histograms), "feature"), plural.Of(t.Flows, "flow"))
}

func calibrationText(c *bundle.Calibration) string {
	if c.Distinct == 0 {
		return fmt.Sprintf("%s on %s", c.Method, plural.Of(c.Samples, "input"))
	}
	return fmt.Sprintf("%s, ranges of %d of %s (%d distinct)", c.Method, c.Observed, plural.Of(c.Samples, "input"), c.Distinct)
}

// contractText is a short form of the contract's hash.
func contractText(hash string) string {
	if hash == "" {
		return "none (arrays only)"
	}
	return hash[:12]
}

func streamText(streams bool, state int) string {
	if !streams {
		return fmt.Sprintf("no: a flow's tokens are kept (%s) and computed at its end", cli.Bytes(int64(state)))
	}
	return fmt.Sprintf("yes: at most %s of state per flow", cli.Bytes(int64(state)))
}

func tileText(t int) string {
	if t == 0 {
		return "all positions"
	}
	return plural.Of(t, "position")
}

// statement is a bundle.Statement as JSON; what isn't said is left out.
type statement struct {
	Serial    uint64     `json:"serial,omitempty"`
	NotBefore *time.Time `json:"not_before,omitempty"`
	Expires   *time.Time `json:"expires,omitempty"`

	text string
}

func newStatement(s bundle.Statement) *statement {
	r := &statement{Serial: s.Serial, text: saysText(s)}
	if !s.NotBefore.IsZero() {
		r.NotBefore = &s.NotBefore
	}
	if !s.Expires.IsZero() {
		r.Expires = &s.Expires
	}
	return r
}
