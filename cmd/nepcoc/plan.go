package main

import (
	"fmt"
	"io"
	"math"
	"runtime"

	"github.com/spf13/cobra"

	"nepcoc/backends"
	"nepcoc/compiler/plan"
	"nepcoc/internal/cli"
	"nepcoc/internal/files"
	"nepcoc/internal/plural"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/flow"
)

func newPlan() *cobra.Command {
	var target, traffic, output string
	var cores, capacity int
	var apart, asJSON bool
	cmd := &cobra.Command{
		Use:   "plan BUNDLE --traffic CAPTURE|PROFILE",
		Short: "Say what rate a bundle holds on a machine, before it is bought",
		Long: `plan reads the shape of traffic from a capture and says how many flows and packets per second a number of cores holds,
how long a verdict takes (waiting for packets, queueing, inference), what memory that is, and what gives way first, each with
where the figure comes from and between what bounds it lies.

The shape can be written to a profile (-o) that holds no addresses and no content, and be given in place of the capture. Of target
host all costs are measured on this machine, in some seconds; run as root, the receive path, too. Of the cards inference is estimated from
cycles, and the packet path scaled from this machine's: just estimates. ` + "`nepcod load`" + ` proves them on the card. docs/plan.md has it all.
` + exitCodes,
		Example: `  nepcoc plan model.nepco --traffic link.pcap --target bf3 --cores 8
  nepcoc plan model.nepco --traffic link.pcap -o link.profile.yaml
  nepcoc plan model.nepco --traffic link.profile.yaml --target host --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := backends.LookupTarget(target)
			if err != nil {
				return cli.UsageError("--target: %w", err)
			}
			switch {
			case traffic == "":
				return cli.UsageError("plan: --traffic is missing: a capture, or a profile that plan has written of one")
			case cores < 0 || cores > 1024:
				return cli.UsageError("--cores %d is not within 1..1024", cores)
			case capacity < 0 || capacity > flow.MaxCapacity:
				return cli.UsageError("--flows %d is not within 1..%d", capacity, flow.MaxCapacity)
			}
			if output != "" {
				if err := notOver(output, args[0], traffic); err != nil {
					return err
				}
				if err := files.Writable(output); err != nil {
					return err
				}
			}
			if cores == 0 {
				if cores = t.Cores; t.Name == "host" {
					cores = runtime.NumCPU()
				}
			}
			b, err := files.Read(args[0], bundle.Read)
			if err != nil {
				return err
			}
			if _, err := classify.FlowOptions(b); err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			progress := cli.NewProgress(cmd.ErrOrStderr())
			defer progress.Done()
			p, open, err := readTraffic(b, traffic, progress)
			if err != nil {
				return err
			}
			costs, err := plan.CostsOf(b, t, p, open, progress)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			r, err := plan.New(b, t, p, costs, plan.Setup{Cores: cores, Flows: capacity, Apart: apart})
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			progress.Done()
			if output != "" {
				data, err := p.Encode()
				if err == nil {
					err = files.Output(output, data, cmd.OutOrStdout())
				}
				if err != nil || files.IsStdout(output) {
					return err
				}
			}
			if asJSON {
				return cli.JSON(cmd.OutOrStdout(), r)
			}
			printPlan(cmd.OutOrStdout(), r, t)
			return nil
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&target, "target", "bf3", "machine to plan for: "+targetNames())
	fl.StringVar(&traffic, "traffic", "", "capture of the traffic, or a profile of one")
	fl.IntVar(&cores, "cores", 0, "cores that the agent has (default: all of the target)")
	fl.IntVar(&capacity, "flows", 0, "flows that the agent holds at once (default: the agent's)")
	fl.BoolVar(&apart, "kernel-apart", false, "the kernel's work on packets is done by cores that the agent doesn't have")
	fl.StringVarP(&output, cli.OutputFlag, "o", "", "write the traffic's profile to this file; - prints it in place of the plan")
	fl.BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

// readTraffic reads a profile, or makes one of a capture; open then opens the capture once more.
func readTraffic(b *bundle.Bundle, path string, progress *cli.Progress) (p *plan.Profile, open func() (capture.Source, error), err error) {
	is, err := plan.IsProfile(path)
	if err != nil {
		return nil, nil, err
	}
	if is {
		if p, err = plan.ReadProfile(path); err != nil {
			return nil, nil, err
		}
		if p.Contract != b.Manifest.Contract.Hash {
			return nil, nil, fmt.Errorf("%s: its tokens and waits are of another traffic contract (%.12s) than the bundle's (%.12s): make a profile of the capture with this bundle (nepcoc plan -o)", path, p.Contract, b.Manifest.Contract.Hash)
		}
		return p, nil, nil
	}
	if files.IsStdin(path) {
		return nil, nil, fmt.Errorf("standard input: a capture is read twice: give a file, or a profile")
	}
	src, err := capture.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer src.Close()
	if p, err = plan.OfCapture(src, b, func(n int) { progress.Update("reading packets", n, 0) }); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, func() (capture.Source, error) { return capture.Open(path) }, nil
}

func printPlan(w io.Writer, r *plan.Plan, t *backends.Target) {
	p := r.Traffic
	between := func(x plan.Range, unit string) string {
		return fmt.Sprintf("%s%s (%s to %s)", plan.Figure(x.Value), unit, plan.Figure(x.Low), plan.Figure(x.High))
	}
	percent := func(x plan.Range) string {
		return fmt.Sprintf("%.3g %% (%.3g to %.3g)", 100*x.Value, 100*x.Low, 100*x.High)
	}
	kernel := "the kernel's work on packets among them"
	if r.Apart {
		kernel = "the kernel's work on packets on others"
	}
	rows := [][]string{
		{"bundle", r.Bundle},
		{"machine", fmt.Sprintf("%s, %s at work, %s", t.Doc, plural.Of(r.Cores, "core"), kernel)},
		{"traffic", fmt.Sprintf("%s flows/s, in the busiest second %.3g times as many; %.3g packets a flow, %.0f bytes a packet; %.3g %% of the flows have one or two", plan.Figure(p.FlowsPerS), p.Peak, p.PacketsPerFlow, p.BytesPerPacket, 100*p.Short)},
		{"", fmt.Sprintf("the model is run on %.3g %% of the flows, on %.0f tokens in the mean", 100*p.Evaluated, p.Tokens)},
		{"holds", fmt.Sprintf("%s, %s packets/s, %.3g Gbit/s", between(r.Flows, " flows/s"), plan.Figure(r.Packets.Value), r.Gbit)},
		{"this traffic", fmt.Sprintf("takes %s of that, in its busiest second %s: %s wanted", percent(r.Busy), percent(r.BusyPeak), plural.Of(int(r.NeedCores.Value), "core"))},
	}
	if p.Flows > 0 {
		rows[2][1] += fmt.Sprintf("; of %s in %.3g s", plural.Of(p.Flows, "flow"), p.Seconds)
	}
	for i, d := range r.Drops {
		name := "gives way"
		if i > 0 {
			name = ""
		}
		rows = append(rows, []string{name, d})
	}
	l := &r.Latency
	rows = append(rows, [][]string{
		{"to a verdict", fmt.Sprintf("%.3g %% of the flows wait for the packet that decides, %.3g ms from the first (99 %%: %.3g), the others for a timer, %.3g s from their last", 100*l.ByPacket, l.WaitP50, l.WaitP99, l.Timer)},
		{"", fmt.Sprintf("from then on %.0f us at most until the packet is looked at, %s behind others (in the busiest second %s), %.3g us of work, %.3g of it inference", l.Pickup, wait(l.Queue), wait(l.QueuePeak), l.Work, l.Inference)},
		{"memory", fmt.Sprintf("%s: flow table %s for %s, ring %s, queues %s, model %s, workers %s", cli.Bytes(r.Memory.All), cli.Bytes(r.Memory.Table), plural.Of(r.Memory.Flows, "flow"), cli.Bytes(r.Memory.Ring), cli.Bytes(r.Memory.Queues), cli.Bytes(r.Memory.Model), cli.Bytes(r.Memory.Workers))},
		{"", fmt.Sprintf("in the busiest seconds %s in the table at once: %s", plural.Of(r.Memory.Need, "flow")+plural.Verb(r.Memory.Need, " is", " are"), cli.Bytes(r.Memory.NeedBytes))},
		{"configure", fmt.Sprintf("receive.threads: %d, workers: %d", r.Threads, r.Workers)},
	}...)
	cli.Table(w, rows)
	c := r.Costs
	fmt.Fprintf(w, "\nwhat it stands on, ns of a core:\n")
	rows = [][]string{{"what", "ns", "from", "to", "source", ""}}
	for _, k := range []struct {
		name string
		c    *plan.Cost
	}{{"kernel, per packet", &c.Kernel}, {"receive, per packet", &c.Receive}, {"table, per packet", &c.Packet}, {"flow", &c.Flow}, {"inference, per flow", &c.Inference}} {
		rows = append(rows, []string{k.name, fmt.Sprintf("%.0f", k.c.NS), fmt.Sprintf("%.0f", k.c.Low), fmt.Sprintf("%.0f", k.c.High), k.c.Source, k.c.Why})
	}
	cli.Table(w, rows)
	if m := c.Model; m != nil {
		fmt.Fprintf(w, "\nthe same cost model on this machine, kernels %s: inference %.1f us estimated, %.1f us measured\n", m.Kernels, m.Estimated, m.Measured)
	}
	for _, n := range c.Notes {
		fmt.Fprintf(w, "note: %s\n", n)
	}
}

func wait(us float64) string {
	if math.IsInf(us, 1) {
		return "without end"
	}
	return fmt.Sprintf("%.3g us", us)
}
