package main

import (
	"bytes"
	"fmt"

	"github.com/spf13/cobra"

	"nepcoc/compiler/report"
	"nepcoc/internal/cli"
	"nepcoc/internal/files"
	"nepcoc/internal/plural"
)

func newReport() *cobra.Command {
	var o report.Options
	var pcaps []string
	var asJSON bool
	var out string
	cmd := &cobra.Command{
		Use:   "report BUNDLE --pcap CAPTURE",
		Short: "One page on a model: right, sure, robust, fast, and on how many flows that stands",
		Long: `report verifies a bundle on a capture and writes what was found for everyone who has to decide about it or to mend it:
what the model sees, which classes it takes for which, how far scores can be trusted, accuracy against coverage, what
becomes of verdicts when bytes and packets change, drift from calibration's traffic, leaks in the captures, error per step, time and memory on the target,
and the flows that are wrong by time and address. Every figure says on how many flows it stands; what there is nothing
for is listed with the reason. docs/report.md explains each figure.

With -o it is one HTML file that loads nothing and runs no script, for a browser or a printer; without, text. --json is all of it
for programs. Labels make the half of it that speaks of right and wrong, the model that of float and integer.
` + "\n" + cli.ExitCodes("the report was written, and all checks held", "bad input, or a check that failed; the report is there and says which"),
		Example: `  nepcoc report model.nepco --pcap test.pcap --labels test.csv --model model.onnx -o report.html
  nepcoc report model.nepco --pcap test.pcap --labels test.csv | less
  nepcoc report model.nepco --pcap test.pcap --labels test.csv --json | jq '.outputs[0].wrong[].flow'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			v := &o.Verify
			if len(pcaps) == 0 {
				return cli.UsageError("a report needs traffic: give --pcap")
			}
			if asJSON && out != "" {
				return cli.UsageError("--json writes to standard output: leave -o out, or send it to a file")
			}
			if v.PartialLabels && v.Labels == "" {
				return cli.UsageError("--partial-labels goes with --labels")
			}
			if v.RobustFlows < 0 {
				return cli.UsageError("--robust-flows %d is below 0", v.RobustFlows)
			}
			if !(v.MinAgreement >= 0 && v.MinAgreement <= 1) {
				return cli.UsageError("--min-agreement %g is not within 0..1", v.MinAgreement)
			}
			if out != "" {
				if err := notOver(out, append(append([]string{args[0], v.Labels, v.Model}, pcaps...), v.Foreign...)...); err != nil {
					return err
				}
				if err := files.Writable(out); err != nil {
					return err
				}
			}
			v.Bundle, v.Pcap, v.PcapMore = args[0], pcaps[0], pcaps[1:]
			progress := cli.NewProgress(cmd.ErrOrStderr())
			v.Progress = progress.Update
			r, err := report.Make(o)
			progress.Done()
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			switch {
			case asJSON:
				err = cli.JSON(w, r)
			case out != "":
				var b bytes.Buffer
				if err = r.HTML(&b); err == nil {
					err = files.Output(out, b.Bytes(), w)
				}
				if err == nil && !files.IsStdout(out) {
					fmt.Fprintf(w, "%s: report on %s\n", cli.Name(files.Show(out)), plural.Of(r.Flows, "flow"))
				}
			default:
				r.Text(w)
			}
			if err != nil {
				return err
			}
			if !r.OK {
				return fmt.Errorf("a check failed: %s", r.FirstFailed())
			}
			return nil
		},
	}
	fl := cmd.Flags()
	v := &o.Verify
	fl.StringArrayVar(&pcaps, "pcap", nil, "capture to report on; several are read one after another, as one")
	fl.StringArrayVar(&v.Foreign, "foreign", nil, "capture of other traffic than the model was made for, to say how well that is told apart from --pcap's; several are read as one")
	fl.StringVar(&v.Labels, "labels", "", "CSV of the capture's labels (proto,src,sport,dst,dport,time,label)")
	fl.BoolVar(&v.PartialLabels, "partial-labels", false, "be satisfied with labels of fewer than half of the flows")
	fl.StringVar(&v.Model, "model", "", "the .onnx that the bundle was compiled from: compare float and integer, too")
	fl.Float64Var(&v.MinAgreement, "min-agreement", 0.99, "least share of equal verdicts between float and integer")
	fl.IntVar(&v.Random, "random", 64, "random inputs for reference = engine")
	fl.StringVar(&o.Target, "target", "", "estimate costs for this machine instead of the bundle's: "+targetNames())
	robustFlags(fl, v, 256)
	v.Robust = true
	cli.ViewFlags(fl, &v.View, cli.AsBundle)
	fl.StringVarP(&out, cli.OutputFlag, "o", "", "write one HTML file")
	fl.BoolVar(&asJSON, "json", false, "all of it as JSON")
	return cmd
}
