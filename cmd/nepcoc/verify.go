package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"nepcoc/compiler/verify"
	"nepcoc/internal/cli"
	"nepcoc/internal/files"
	"nepcoc/internal/plural"
	"nepcoc/runtime/bundle"
)

func newVerify() *cobra.Command {
	var o verify.Options
	var pcaps, trusted []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify BUNDLE",
		Short: "Walk the chain of truth: float = integer, reference = engine",
		Long: `verify proves a bundle: its golden vectors, then reference executor = engine to
the bit on every input and on random tokens of every length. With the model it
also compares the integer verdicts with the float model's, names the step at which
most of the error enters, and with labels gives accuracy and macro-F1 of both.

An .npz of arrays may hold labels (label, or label.OUTPUT: the index of the class,
-1 for none) and outputs that another runtime computed (expect.OUTPUT). The float
model must then be within --tolerance of those, relative to their range; without
a model, the integer verdicts are compared with them. What nothing was given for
is listed as not compared.

A label file is CSV with a line of column names: proto, src, sport, dst, dport, time
(of the flow's first packet), and label, the name of the class (label.OUTPUT for
an output that is not the first). Times are seconds, milli-, micro- or
nanoseconds since 1970, or dates (2023-11-14T22:13:20.25Z; without a zone: UTC).
Of a capture it says how many flows are unknown or insufficient; with --foreign CAPTURE, how well
score and belonging tell that other traffic apart; with labels, and a bundle that tells what it knows
(--known-pass), each class's flows from the others' without its prototype. docs/unknown.md has what that means.

Fewer than half of the flows labelled is a failure unless --partial-labels is given.

With --explain it measures how faithful explanations are (nepcoc explain, run --explain): what blanking all that they name, bytes,
facts and numbers, takes off the margin, against as many drawn at random of all that could be named, medians over the
capture's flows, 10 at least. Those of nepcoc explain are held to --min-faithful.

--robust changes inputs and counts the verdicts that become others: when the 1 to 5 % most
decisive bytes of a flow, or as many others, are replaced by random ones, and when
packets are padded, lost, doubled or swapped (docs/report.md says how). --seed draws
other changes. They are no attack: whoever looks for the worst change finds more.
` + exitCodes,
		Example: `  nepcoc verify model.nepco
  nepcoc verify model.nepco --model model.onnx --pcap test.pcap --labels test.csv
  nepcoc verify model.nepco --pcap test.pcap --explain
  nepcoc verify model.nepco --model model.onnx --tensors eval.npz --min-agreement 0.97 --json
  nepcoc verify model.nepco --pcap test.pcap --labels test.csv --robust`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(pcaps) > 0 {
				o.Pcap, o.PcapMore = pcaps[0], pcaps[1:]
			}
			if o.Labels != "" && o.Pcap == "" {
				return cli.UsageError("--labels goes with --pcap")
			}
			if o.Pcap == "" {
				if err := meaningless(cmd, "goes with --pcap", "explain", "tunnels", "vlans", "interfaces", "active-timeout"); err != nil {
					return err
				}
			}
			if len(o.Foreign) > 0 && o.Pcap == "" {
				return cli.UsageError("--foreign goes with --pcap, the known traffic")
			}
			if o.PartialLabels && o.Labels == "" {
				return cli.UsageError("--partial-labels goes with --labels")
			}
			if o.Model != "" && o.Pcap == "" && o.Tensors == "" {
				return cli.UsageError("--model needs inputs to compare on: give --pcap or --tensors")
			}
			if !(o.MinAgreement >= 0 && o.MinAgreement <= 1) {
				return cli.UsageError("--min-agreement %g is not within 0..1", o.MinAgreement)
			}
			if !(o.Tolerance > 0 && o.Tolerance <= 1) {
				return cli.UsageError("--tolerance %g is not above 0 and at most 1", o.Tolerance)
			}
			if o.Random < 0 || o.Random > 1<<20 {
				return cli.UsageError("--random %d is not within 0..%d", o.Random, 1<<20)
			}
			if !o.Explain {
				if err := meaningless(cmd, "goes with --explain", "min-faithful"); err != nil {
					return err
				}
			}
			if !(o.MinFaithful >= 0) {
				return cli.UsageError("--min-faithful %g is below 0", o.MinFaithful)
			}
			if o.Robust && o.Pcap == "" && o.Tensors == "" {
				return cli.UsageError("--robust needs inputs to change: give --pcap or --tensors")
			}
			if !o.Robust {
				if err := meaningless(cmd, "goes with --robust", "seed", "robust-flows"); err != nil {
					return err
				}
			}
			if o.RobustFlows < 0 {
				return cli.UsageError("--robust-flows %d is below 0", o.RobustFlows)
			}
			for _, name := range trusted {
				key, err := files.Read(name, bundle.ReadPublicKey)
				if err != nil {
					return err
				}
				o.Trusted = append(o.Trusted, key)
			}
			o.Bundle = args[0]
			progress := cli.NewProgress(cmd.ErrOrStderr())
			o.Progress = progress.Update
			r, err := verify.Run(o)
			progress.Done()
			if err != nil {
				return err
			}
			if asJSON {
				if err := cli.JSON(cmd.OutOrStdout(), struct {
					*verify.Report
					MinAgreement float64 `json:"min_agreement"`
					Tolerance    float64 `json:"tolerance"`
					OK           bool    `json:"ok"`
				}{r, o.MinAgreement, o.Tolerance, r.OK()}); err != nil {
					return err
				}
			} else {
				printVerify(cmd.OutOrStdout(), r)
			}
			if !r.OK() {
				return cli.ErrSilent
			}
			return nil
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&o.Model, "model", "", "the .onnx that the bundle was compiled from")
	fl.StringArrayVar(&pcaps, "pcap", nil, "capture to compare on; several are read one after another, as one")
	cli.ViewFlags(fl, &o.View, cli.AsBundle)
	fl.StringArrayVar(&trusted, "trusted-key", nil, "hold the bundle to this public key, which must have signed it, and to its own time (PEM file; may be repeated)")
	fl.StringVar(&o.Labels, "labels", "", "CSV of the capture's labels (proto,src,sport,dst,dport,time,label)")
	fl.BoolVar(&o.PartialLabels, "partial-labels", false, "be satisfied with labels of fewer than half of the flows")
	fl.StringArrayVar(&o.Foreign, "foreign", nil, "capture of other traffic than the model was made for, to say how well that is told apart from --pcap's; several are read as one")
	fl.StringVar(&o.Tensors, "tensors", "", ".npz of arrays to compare on, instead of a capture")
	fl.Float64Var(&o.Tolerance, "tolerance", verify.DefaultTolerance, "largest difference of the float model to outputs stored in the .npz, relative to their range")
	fl.Float64Var(&o.MinAgreement, "min-agreement", 0.99, "least share of equal verdicts between float and integer")
	fl.IntVar(&o.Random, "random", 256, "random inputs for reference = engine")
	fl.BoolVar(&o.Explain, "explain", false, "with --pcap: measure explanations, by blanking what they name")
	fl.Float64Var(&o.MinFaithful, "min-faithful", verify.DefaultFaithful, "with --explain: how many times as much as what is drawn at random what is named must count")
	fl.BoolVar(&o.Robust, "robust", false, "change bytes and packets of the inputs, and count the verdicts that become others")
	robustFlags(fl, &o, 0)
	fl.BoolVar(&asJSON, "json", false, "print the report as JSON")
	cmd.MarkFlagsMutuallyExclusive("pcap", "tensors")
	return cmd
}

// robustFlags are those of whoever changes inputs.
func robustFlags(fl *pflag.FlagSet, o *verify.Options, flows int) {
	fl.Uint64Var(&o.Seed, "seed", 1, "what the changes are drawn by: the same seed makes the same ones")
	fl.IntVar(&o.RobustFlows, "robust-flows", flows, "change so many flows at most, spread evenly; 0: all")
}

func printVerify(w io.Writer, r *verify.Report) {
	fmt.Fprintf(w, "%s (%.12s), kernels %s\n", cli.Name(r.Bundle), r.Digest, r.Kernel)
	of := func(o *verify.OutputStats) string { // which output, where there are several
		if len(r.Output) == 1 {
			return ""
		}
		return "of " + o.Name
	}
	var rows [][]string
	for _, c := range r.Checks {
		count := fmt.Sprintf("%d of %d %s", c.Held, c.Cases, c.Unit)
		if c.Unit == "cases" && c.OK {
			count = plural.Of(c.Cases, "case")
		}
		rows = append(rows, []string{c.Name, count, mark(c.OK), c.Detail})
	}
	for i := range r.Output {
		o := &r.Output[i]
		if o.Samples > 0 {
			what := "the spread"
			if o.Constant {
				what = "their size (they are the same for all inputs)"
			}
			rows = append(rows, []string{strings.TrimSpace("logits " + of(o)), fmt.Sprintf("cosine %.5f", o.Cosine), "", fmt.Sprintf("worst error %.4g, %s of %s", o.MaxError, cli.Percent(o.RelError), what)})
		}
	}
	cli.Table(w, rows)
	for i := range r.Output {
		o := &r.Output[i]
		if o.Integer == nil {
			continue
		}
		rows = [][]string{{of(o), "accuracy", "macro-F1", "labelled", "of classes"}}
		add := func(what string, s *verify.Score) {
			if s != nil {
				rows = append(rows, []string{what, fmt.Sprintf("%.4f", s.Accuracy), fmt.Sprintf("%.4f", s.MacroF1), fmt.Sprint(s.Labelled), s.Basis()})
			}
		}
		add("float", o.Float)
		add("integer", o.Integer)
		cli.Table(w, rows)
		if i := slices.IndexFunc(r.Known, func(k verify.KnownStats) bool { return k.Output == o.Name }); i >= 0 && r.Known[i].Withheld > 0 {
			fmt.Fprintf(w, "  counting %s that get no label by what they would have been\n", plural.Of(r.Known[i].Withheld, "flow"))
		}
	}
	for i := range r.Known {
		printKnown(w, &r.Known[i], len(r.Known) > 1)
	}
	if r.Worst != "" {
		rows = [][]string{{"step", "operator", fmt.Sprintf("error on %s", plural.Of(r.StepInputs, "input")), "added here"}}
		for _, s := range r.Steps {
			name := s.Step
			if name == r.Worst {
				name += " (most)"
			}
			rows = append(rows, []string{name, s.Op, cli.Percent(s.RelError), cli.Percent(s.Added)})
		}
		cli.Table(w, rows)
	}
	if len(r.Explained) > 0 {
		named := "tokens named, of those that could be"
		if r.Explained[0].Numbers != nil {
			named = "tokens and numbers named, of those that could be"
		}
		rows = [][]string{{"explanations, medians", "flows", named, "logit margin falls by", "by as many at random", "ratio"}}
		for i := range r.Explained {
			e := &r.Explained[i]
			name := ""
			if len(r.Explained) > 1 {
				name = " of " + cli.Name(e.Output)
			}
			for _, f := range []struct {
				name string
				*verify.Faithful
			}{{"explain", &e.Exact}, {"run --explain", &e.Quick}} {
				ratio := ""
				switch {
				case f.Ratio > 0:
					ratio = fmt.Sprintf("%.1f", f.Ratio)
				case f.Named > 0:
					ratio = "those at random take nothing off"
				}
				n := fmt.Sprintf("%g of %g", f.Tokens, e.Nameable)
				if e.Numbers != nil {
					n += fmt.Sprintf(" (numbers in %s)", plural.Of(f.WithNumbers, "flow"))
				}
				rows = append(rows, []string{f.name + name, fmt.Sprint(e.Flows), n, fmt.Sprintf("%.3g", f.Named), fmt.Sprintf("%.3g", f.Random), ratio})
			}
			if n := e.Numbers; n != nil {
				rows = append(rows, []string{"all numbers blanked" + name, fmt.Sprint(e.Flows), fmt.Sprintf("%g", n.Count), fmt.Sprintf("%.3g", n.Drop), "", ""})
			}
		}
		cli.Table(w, rows)
	}
	if r.Robust != nil {
		r.Robust.Text(w)
	}
	for _, n := range r.NotCompared {
		fmt.Fprintf(w, "not compared  %s\n", n)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", n)
	}
}

func mark(ok bool) string {
	if ok {
		return "ok"
	}
	return "FAILED"
}

// printKnown prints what gets no label, and how well foreign flows are told apart.
func printKnown(w io.Writer, k *verify.KnownStats, several bool) {
	of := ""
	if several {
		of = "of " + k.Output
	}
	rows := [][]string{{of, "flows", "insufficient", "unknown", "AUROC", "passes at 95 %"}}
	add := func(what string, s *verify.Share, a *verify.Apart) {
		row := []string{what, "", "", "", "", ""}
		if s != nil {
			row[1], row[2], row[3] = fmt.Sprint(s.Flows), part(s.Insufficient, s.Flows), part(s.Unknown, s.Flows)
			if k.NoBelonging {
				row[3] = "not judged"
			}
		}
		if a != nil {
			row[4], row[5] = fmt.Sprintf("%.4f", a.AUROC), cli.Percent(a.FPR95)
		}
		rows = append(rows, row)
	}
	add("capture", &k.Share, nil)
	if k.Foreign != nil {
		add("foreign", k.Foreign, nil)
		if k.Score != nil {
			add("  by score", nil, k.Score)
		}
		if k.Belonging != nil {
			add("  by belonging", nil, k.Belonging)
		}
	}
	for i := range k.LeftOut {
		l := &k.LeftOut[i]
		add("without "+l.Class, &verify.Share{Flows: l.Flows}, &l.Apart)
		rows[len(rows)-1][2], rows[len(rows)-1][3] = "", ""
	}
	if n := len(k.LeftOut); n > 0 {
		mean := verify.Mean(k.LeftOut)
		add(fmt.Sprintf("mean of %d classes", n), nil, &mean)
		rows[len(rows)-1] = append(rows[len(rows)-1], "flatters: the model has seen them")
	}
	if k.Score == nil && k.Belonging == nil && len(k.LeftOut) == 0 { // nothing to tell known flows apart from
		for i := range rows {
			rows[i] = rows[i][:4]
		}
	}
	cli.Table(w, rows)
	if len(k.TooFew) > 0 {
		fmt.Fprintf(w, "  too few flows to tell, so not left out: %s\n", strings.Join(k.TooFew, ", "))
	}
	if k.NoBelonging {
		fmt.Fprintln(w, "  of several labels belonging isn't judged: a flow that is like none of the known ones may be given some all the same")
	}
}

// part is a number and its share.
func part(n, of int) string {
	return fmt.Sprintf("%d (%s)", n, cli.Percent(float64(n)/float64(max(1, of))))
}
