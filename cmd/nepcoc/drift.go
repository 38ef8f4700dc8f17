package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"nepcoc/compiler/calibrate"
	"nepcoc/internal/cli"
	"nepcoc/internal/files"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/drift"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/verdict"
)

// driftReport is what nepcoc drift --json prints.
type driftReport struct {
	Bundle  string `json:"bundle"`
	Capture string `json:"capture"`
	// Drift is the answer: an event has begun, or all flows together are above a bound.
	Drift bool `json:"drift"`
	// Window is its flows, Looks how many windows were looked at, a quarter of one apart.
	Window int          `json:"window"`
	Looks  int          `json:"looks"`
	Whole  drift.State  `json:"whole"`
	Events []driftEvent `json:"events"`
}

type driftEvent struct {
	State string      `json:"state"` // begin or end
	Time  string      `json:"time"`
	Is    drift.State `json:"window"`
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

Exit code 1 says that there is drift: all flows together are above a bound, or windows are for as long as would raise an event.
` + cli.ExitCodes("no drift", "drift, or\nbad input"),
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
				printDrift(w, r)
				err = w.Flush()
			}
			if err == nil && r.Drift {
				err = fmt.Errorf("%s: its flows are not as those that %s was calibrated with", r.Capture, r.Bundle)
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
	c, err := newClassifier(b, "engine")
	if err != nil {
		return nil, err
	}
	m, err := drift.New(b, classify.Labels(b), o)
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
	b.Manifest.View, c.Capacity = view, flow.DefaultCapacity
	r := &driftReport{Bundle: files.Show(args[0]), Capture: calibrate.Name(args[1:]), Window: o.Flows, Events: []driftEvent{}}
	progress := cli.NewProgress(stderr)
	flows := 0
	counters, err := c.Flows(b, src, false, func(rec *verdict.Record) error {
		if e := m.Add(rec); e != nil {
			r.Drift = r.Drift || e.Begin
			r.Events = append(r.Events, driftEvent{e.Name(), time.Unix(0, e.Time).UTC().Format(time.RFC3339), e.State})
		}
		if flows++; flows%1000 == 0 {
			progress.Update("classifying flows", flows, 0)
		}
		return nil
	})
	progress.Done()
	if err != nil {
		return nil, err
	}
	for _, note := range append(notes, src.Notes()...) {
		fmt.Fprintf(stderr, "nepcoc: note: %s\n", note)
	}
	if flows == 0 {
		return nil, fmt.Errorf("%s: no flow to compare: %s", r.Capture, counters)
	}
	_, r.Looks, _ = m.State()
	r.Whole = m.Whole()
	r.Drift = r.Drift || len(r.Whole.Over()) > 0
	if flows < drift.MinFlows {
		fmt.Fprintf(stderr, "nepcoc: note: %d flows only: small differences don't show\n", flows)
	}
	return r, nil
}

func printDrift(w io.Writer, r *driftReport) {
	rows := [][]string{{"feature", "distance", "bound", "flows", ""}}
	for _, d := range r.Whole.Distances {
		over := ""
		if d.Over() {
			over = "drift"
		}
		rows = append(rows, []string{d.Name(), fmt.Sprintf("%.4f", d.Bits), fmt.Sprintf("%.4f", d.Bound), fmt.Sprint(d.Flows), over})
	}
	cli.Table(w, rows)
	fmt.Fprintln(w)
	rows = [][]string{{"label", "then", "now"}}
	for _, l := range r.Whole.Moved(drift.Shown) {
		rows = append(rows, []string{l.Output + "=" + l.Label, cli.Percent(l.Then), cli.Percent(l.Now)})
	}
	cli.Table(w, rows)
	if n := len(r.Whole.Labels) - drift.Shown; n > 0 {
		fmt.Fprintf(w, "  and %d that have moved less\n", n)
	}
	fmt.Fprintln(w)
	for _, e := range r.Events {
		fmt.Fprintf(w, "%s: drift %ss %s\n", e.Time, e.State, e.Is.String())
	}
	for _, c := range r.Whole.Causes {
		fmt.Fprintf(w, "cause: %s\n", drift.Cause(c))
	}
	answer := "no drift"
	if r.Drift {
		answer = "drift: " + r.Whole.String()
		if len(r.Whole.Over()) == 0 {
			answer = "drift in windows, not in all flows together"
		}
	}
	fmt.Fprintf(w, "%s: %d flows, %d windows of %d: %s\n", r.Capture, r.Whole.Flows, r.Looks, r.Window, answer)
}
