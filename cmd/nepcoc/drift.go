package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"nepcoc/compiler/calibrate"
	"nepcoc/compiler/report"
	"nepcoc/internal/cli"
	"nepcoc/internal/files"
	"nepcoc/internal/plural"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/drift"
)

// driftReport is what nepcoc drift --json prints.
type driftReport struct {
	Bundle  string `json:"bundle"`
	Capture string `json:"capture"`
	*drift.Comparison
}

func newDrift() *cobra.Command {
	o := drift.Defaults
	var view bundle.ViewOverride
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "drift BUNDLE CAPTURE...",
		Short: "Compare a capture's flows with those that a bundle was calibrated with",
		Long: `drift classifies a capture and compares its flows with those that the bundle was calibrated or taught with: scores and label mix of each
output, lengths, packet counts, sizes, and how many flows are one-sided, cut, of lost, merged or repeated packets. It prints a
distance for each (Jensen-Shannon divergence, in bits: 0 is the same, 1 has nothing in common), what it must pass to count, and the label mix
then and now; where it can be seen, why. nepcod does the same while it runs: docs/drift.md.

There is drift where all flows together are above a bound, or windows are for as long as would raise an event. Where flows are so few
that none could be above a bound whatever they were like, there is no answer, which is an error.

` + cli.ExitCodes("no drift", "drift, too few flows, or bad input (the message says which)"),
		Example: `  nepcoc drift model.nepco today.pcap
  nepcoc drift model.nepco monday.pcap tuesday.pcap --window 2048
  nepcoc drift model.nepco today.pcap --json | jq .whole.causes`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.Validate(); err != nil {
				return cli.UsageError("drift: %w", err)
			}
			b, err := files.Read(args[0], bundle.Read)
			if err != nil {
				return err
			}
			r, err := driftOf(cmd, b, args, o, view)
			if err != nil {
				return err
			}
			if asJSON {
				err = cli.JSON(cmd.OutOrStdout(), r)
			} else {
				w := cli.NewLines(cmd.OutOrStdout())
				report.DriftText(w, r.Comparison)
				fmt.Fprintf(w, "%s: %s\n", cli.Name(r.Capture), r.Answer())
				err = w.Flush()
			}
			switch {
			case err != nil:
			case r.Drift:
				err = fmt.Errorf("%s: its flows are not as those that %s was calibrated with", r.Capture, r.Bundle)
			case r.TooFew:
				err = fmt.Errorf("%s: drift can't be told: whatever its flows were like, no feature would be above its bound: give more of them", r.Capture)
			}
			return err
		},
	}
	fl := cmd.Flags()
	fl.IntVar(&o.Flows, "window", o.Flows, "flows of a window")
	fl.IntVar(&o.Windows, "windows", o.Windows, "for how many windows on end a distance must be above its bound")
	fl.Float64Var(&o.Bound, "bound", o.Bound, "bounds times this: above 1 less counts as drift")
	fl.BoolVar(&asJSON, "json", false, "the report as JSON")
	cli.ViewFlags(fl, &view, cli.AsBundle)
	return cmd
}

func driftOf(cmd *cobra.Command, b *bundle.Bundle, args []string, o drift.Options, override bundle.ViewOverride) (*driftReport, error) {
	opt, err := classify.FlowOptions(b)
	if err == nil {
		_, err = drift.New(b, classify.Labels(b), o)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", files.Show(args[0]), err)
	}
	src, err := capture.OpenAll(args[1:])
	if err != nil {
		return nil, err
	}
	defer src.Close()
	stderr := cmd.ErrOrStderr()
	view, notes := override.Of(b.Manifest.View)
	b.Manifest.View = view
	progress := cli.NewProgress(stderr)
	c, counters, err := drift.Compare(b, src, o, func(flows int) { progress.Update("classifying flows", flows, 0) })
	progress.Done()
	if err != nil {
		return nil, err
	}
	r := &driftReport{Bundle: files.Show(args[0]), Capture: calibrate.Name(args[1:]), Comparison: c}
	if c.Whole.Flows == 0 {
		return nil, fmt.Errorf("%s: no flow to compare: %s", r.Capture, counters)
	}
	for _, note := range append(append(notes, counters.Notes(&opt)...), src.Notes()...) {
		fmt.Fprintf(stderr, "nepcoc: note: %s\n", note)
	}
	if c.Whole.Flows < drift.MinFlows && !c.TooFew {
		fmt.Fprintf(stderr, "nepcoc: note: %s only: small differences don't show\n", plural.Of(c.Whole.Flows, "flow"))
	}
	return r, nil
}
