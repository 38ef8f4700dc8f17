package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"nepcoc/compiler/verify"
	"nepcoc/internal/cli"
)

func newVerify() *cobra.Command {
	var o verify.Options
	var minAgreement float64
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "verify BUNDLE",
		Short: "Walk the chain of truth: float = integer, reference = engine",
		Long: `verify proves a bundle: its golden vectors, then reference executor = engine to
the bit on every input and on random tokens of every length. With the model it
also compares the integer verdicts with the float model's, names the step at which
most of the error enters, and with labels gives accuracy and macro-F1 of both.
` + exitCodes,
		Example: `  nepcoc verify model.nepco
  nepcoc verify model.nepco --model model.onnx --pcap test.pcap --labels test.csv
  nepcoc verify model.nepco --model model.onnx --tensors eval.npz --min-agreement 0.97 --json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.Labels != "" && o.Pcap == "" {
				return cli.UsageError("--labels goes with --pcap")
			}
			if !(minAgreement >= 0 && minAgreement <= 1) {
				return cli.UsageError("--min-agreement %g is not within 0..1", minAgreement)
			}
			if o.Random < 0 || o.Random > 1<<20 {
				return cli.UsageError("--random %d is not within 0..%d", o.Random, 1<<20)
			}
			o.Bundle = args[0]
			progress := cli.NewProgress(cmd.ErrOrStderr())
			o.Progress = progress.Update
			r, err := verify.Run(o)
			progress.Done()
			if err != nil {
				return err
			}
			agreement, compared := r.Agreement()
			good := r.OK() && (!compared || agreement >= minAgreement)
			if asJSON {
				if err := cli.JSON(cmd.OutOrStdout(), struct {
					*verify.Report
					MinAgreement float64 `json:"min_agreement"`
					OK           bool    `json:"ok"`
				}{r, minAgreement, good}); err != nil {
					return err
				}
			} else {
				printVerify(cmd.OutOrStdout(), r, minAgreement)
			}
			if !good {
				return cli.ErrSilent
			}
			return nil
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&o.Model, "model", "", "the .onnx that the bundle was compiled from")
	fl.StringVar(&o.Pcap, "pcap", "", "capture to compare on")
	fl.StringVar(&o.Labels, "labels", "", "CSV of the capture's labels (proto,src,sport,dst,dport,time,label)")
	fl.StringVar(&o.Tensors, "tensors", "", ".npz of arrays to compare on, instead of a capture")
	fl.Float64Var(&minAgreement, "min-agreement", 0.99, "least share of equal verdicts between float and integer")
	fl.IntVar(&o.Random, "random", 256, "random inputs for reference = engine")
	fl.BoolVar(&asJSON, "json", false, "print the report as JSON")
	cmd.MarkFlagsMutuallyExclusive("pcap", "tensors")
	return cmd
}

func printVerify(w io.Writer, r *verify.Report, minAgreement float64) {
	fmt.Fprintf(w, "%s (%.12s), kernels %s\n", r.Bundle, r.Digest, r.Kernel)
	var rows [][]string
	for _, c := range r.Checks {
		rows = append(rows, []string{c.Name, fmt.Sprintf("%d cases", c.Cases), mark(c.OK), c.Detail})
	}
	for _, o := range r.Output {
		of := "" // which output, where there are several
		if len(r.Output) > 1 {
			of = " of " + o.Name
		}
		if o.Samples > 0 {
			ok := o.Agreement >= minAgreement
			rows = append(rows,
				[]string{"float = integer" + of, fmt.Sprintf("%d of %d verdicts", o.Samples-len(o.Differing), o.Samples), mark(ok),
					fmt.Sprintf("%s (at least %s)", cli.Percent(o.Agreement), cli.Percent(minAgreement))},
				[]string{"logits" + of, fmt.Sprintf("cosine %.5f", o.Cosine), "", fmt.Sprintf("worst error %.4g, %s of the spread", o.MaxError, cli.Percent(o.RelError))})
		}
		if o.Expected != nil {
			rows = append(rows, []string{"float = stored outputs" + of, fmt.Sprintf("max |difference| %.3g", *o.Expected), "", ""})
		}
	}
	cli.Table(w, rows)
	for _, o := range r.Output {
		if o.Integer == nil {
			continue
		}
		rows = [][]string{{"", "accuracy", "macro-F1", "labelled"}}
		if o.Float != nil {
			rows = append(rows, []string{"float", fmt.Sprintf("%.4f", o.Float.Accuracy), fmt.Sprintf("%.4f", o.Float.MacroF1), fmt.Sprint(o.Float.Labelled)})
		}
		rows = append(rows, []string{"integer", fmt.Sprintf("%.4f", o.Integer.Accuracy), fmt.Sprintf("%.4f", o.Integer.MacroF1), fmt.Sprint(o.Integer.Labelled)})
		cli.Table(w, rows)
	}
	if r.Worst != "" {
		rows = [][]string{{"step", "operator", "error", "added here"}}
		for _, s := range r.Steps {
			name := s.Step
			if name == r.Worst {
				name += " (most)"
			}
			rows = append(rows, []string{name, s.Op, cli.Percent(s.RelError), cli.Percent(s.Added)})
		}
		cli.Table(w, rows)
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
