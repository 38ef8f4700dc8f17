package main

import (
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"nepcoc/backends"
	"nepcoc/compiler"
	"nepcoc/internal/cli"
	"nepcoc/internal/files"
	"nepcoc/internal/plural"
	"nepcoc/passes/quantize"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/teach"
	"nepcoc/runtime/traffic"
)

type compileFlags struct {
	calib                                                     []string
	calibLabels, target, contract, dumpIR, method, sign, emit string
	name, modelVersion                                        string
	outputFlag
	sizeFlags
	labels, unknown []string
	maxDisagreement float64
	tableStep       int
	json, features  bool
	minPayload      int
	knownPass       float64
	view            bundle.ViewOverride
	says            statementFlags
}

func newCompile() *cobra.Command {
	var f compileFlags
	cmd := &cobra.Command{
		Use:   "compile MODEL.onnx --calib CAPTURE|ARRAYS.npz -o OUT.nepco",
		Short: "Compile a model to a bundle",
		Long: `compile imports an ONNX model, simplifies it, measures the ranges of its
activations on calibration data, quantizes it to integers, plans it for a
target and writes one bundle.

Calibration data are a capture of real traffic (pcap, pcapng), or an .npz of
arrays named like the model's inputs, first axis = sample. A few hundred flows
of the kind that the card will see are enough. Ranges are found on one part of
them (64 at most), figures measured on another (300 at most), each different flow
once; fewer than 16 are not parted. Plans are compared by the measured part, so that
verify on other traffic gives the figures that had no part in any choice.

The traffic contract says which bytes of a flow the model sees. Without
--contract, MODEL.contract.yaml beside the model is used, else the built-in whose
vocabulary is the model's. Without one, numbers in an .npz that can't be bytes are features of a flow: each
is read in 255 levels of its range there, and the bundle takes arrays, no packets. Labels: one class name per line, in the order of
the model's outputs; MODEL.labels.txt beside the model is found by itself.

An output's kind follows from the model: several logits or a softmax are classes, one of which is given;
one logit or a sigmoid of it is binary, the second of two names given from a threshold
on; several sigmoids are labels, any number of them. --output NAME=KIND says otherwise, or names and thresholds
(0.5 where there are none): --output score=binary:benign,malicious@0.9,
--output tags=labels:scan,tunnel@0.5,0.7. values are numbers without a verdict, for arrays only.
` + exitCodes,
		Example: `  nepcoc compile model.onnx --calib traffic.pcap -o model.nepco
  nepcoc compile model.onnx --calib arrays.npz --labels classes.txt --target host -o m.nepco
  nepcoc compile model.onnx --calib traffic.pcap -o m.nepco --output score=binary:benign,malicious@0.9
  nepcoc compile model.onnx --calib traffic.pcap -o m.nepco --max-disagreement 0.001 --dump-ir ir/
  nepcoc compile model.onnx --calib traffic.pcap --emit c -o model-c/`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return runCompile(cmd, args[0], &f) },
	}
	fl := cmd.Flags()
	fl.StringArrayVar(&f.calib, "calib", nil, "capture or .npz to calibrate with (required); several captures are read one after another, as one")
	fl.VarP(&f.outputFlag, cli.OutputFlag, "o", "bundle to write, or the folder of --emit c (required); - is standard output, the report then goes to standard error.\nAlso NAME=KIND[:LABEL,...][@THRESHOLD,...], once per output of the model: see above")
	fl.StringVar(&f.name, "name", "", "what events and metrics call the bundle (default: the model's file name without its ending)")
	fl.StringVar(&f.modelVersion, "model-version", "", "version of the model, for events and metrics (default: what the model says of itself)")
	fl.StringVar(&f.target, "target", "bf3", "machine to plan for: "+targetNames())
	inputFlags(fl, &f.contract, &f.labels, &f.features)
	f.sizeFlags.add(fl)
	fl.StringVar(&f.calibLabels, "calib-labels", "", "CSV of the calibration capture's labels: gives accuracy, checks the order of the class names, calibrates the scores (temperature)")
	fl.StringArrayVar(&f.unknown, "unknown-threshold", nil, "score below which verdicts are unknown; NAME=SCORE for one output of several")
	minPayloadFlag(fl, &f.minPayload)
	knownPassFlag(fl, &f.knownPass)
	fl.StringVar(&f.method, "method", "", "force a calibration method ("+strings.Join(quantize.Methods(), ", ")+") instead of the one that measures best")
	fl.Float64Var(&f.maxDisagreement, "max-disagreement", compiler.DefaultMaxDisagreement, "share of measured inputs whose verdict may change: values are kept at 16 bits until it holds, and a compile that can't keep it fails")
	fl.IntVar(&f.tableStep, "table-step", 0, "make elements of the token table multiples of this, 1 to 64: a coarser table makes a smaller bundle (default: 1; of a table over 1 MiB the narrow rows that it is a product of, else 5)")
	cli.ViewFlags(fl, &f.view, cli.AsOff)
	fl.StringVar(&f.dumpIR, "dump-ir", "", "write the graph after each pass to this folder")
	fl.StringVar(&f.emit, "emit", compiler.Artifacts()[0].Name, "what to write: "+artifactText())
	fl.StringVar(&f.sign, "sign", "", "sign the bundle with this Ed25519 private key (PEM)")
	f.says.add(fl)
	fl.BoolVar(&f.json, "json", false, "print the report as JSON")
	cmd.MarkFlagRequired("calib")
	cmd.MarkFlagRequired(cli.OutputFlag)
	cmd.RegisterFlagCompletionFunc("target", cobra.FixedCompletions(strings.Split(targetNames(), ", "), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// minPayloadFlag adds the flag that says how much payload a verdict takes.
func minPayloadFlag(fl *pflag.FlagSet, n *int) {
	fl.IntVar(n, "min-payload", bundle.DefaultMinPayload, "bytes of payload that a flow's tokens must hold for a verdict: flows with fewer are insufficient; 0: none is")
}

// knownPassFlag adds the flag that makes far flows unknown.
func knownPassFlag(fl *pflag.FlagSet, share *float64) {
	fl.Float64Var(share, "known-pass", 0, "share of known traffic, say 0.99, that is to belong to the classes: flows that lie farther from all of them are unknown (default: no such bound)")
}

func checkKnownPass(cmd *cobra.Command, share float64) error {
	if cmd.Flags().Changed("known-pass") && !(share > 0 && share <= 1) {
		return cli.UsageError("--known-pass %g is not above 0 and at most 1", share)
	}
	return nil
}

// knownText is a report on what an output knows.
func knownText(r *teach.KnownReport) string {
	of := "labelled flows"
	if !r.Labelled {
		of = "flows, by the model's own verdicts,"
	}
	s := fmt.Sprintf("known to %s: %s (%s) of %d %s in %s of %s; %s of %d that were held back pass (asked: %s)",
		r.Output, plural.Of(r.Classes, "class"), plural.Of(r.Prototypes, "prototype"), r.Flows, of, plural.Of(r.Dimensions, "dimension"), plural.Of(r.Features, "feature"), cli.Percent(r.Passed), r.Held, cli.Percent(r.Pass))
	for _, n := range r.Notes {
		s += "; " + n
	}
	return s
}

// minPayloadOf is the manifest's field for the flag's value.
func minPayloadOf(n int) (int, error) {
	if n < 0 || n > bundle.MaxMinPayload {
		return 0, cli.UsageError("--min-payload %d is not within 0..%d", n, bundle.MaxMinPayload)
	}
	return bundle.MinPayloadOf(n), nil
}

// inputFlags are the files that belong to a model, see compiler.Options.Find, or what stands for one.
func inputFlags(fl *pflag.FlagSet, contract *string, labels *[]string, features *bool) {
	fl.StringVar(contract, "contract", "", "traffic contract: a YAML file or a built-in ("+strings.Join(traffic.Names(), ", ")+")")
	fl.StringArrayVar(labels, "labels", nil, "file of class names, one per line; once per output of the model")
	fl.BoolVar(features, "features", false, "the model's numbers are features of a flow, not bytes, even if they look like bytes: for arrays only")
}

func targetNames() string {
	var names []string
	for _, t := range backends.Targets() {
		names = append(names, t.Name)
	}
	return strings.Join(names, ", ")
}

func artifactText() string {
	var kinds []string
	for _, a := range compiler.Artifacts() {
		kinds = append(kinds, a.Name+", "+a.Doc)
	}
	return strings.Join(kinds, "; ")
}

func runCompile(cmd *cobra.Command, model string, f *compileFlags) error {
	o := compiler.Options{
		Model: model, Calib: f.calib[0], CalibMore: f.calib[1:], Target: f.target, Method: f.method, TableStep: f.tableStep,
		MaxDisagreement: f.maxDisagreement, DumpIR: f.dumpIR, CalibLabels: f.calibLabels,
	}
	if _, err := backends.LookupTarget(f.target); err != nil {
		return cli.UsageError("--target: %w", err)
	}
	artifact, err := compiler.LookupArtifact(f.emit)
	if err != nil {
		return cli.UsageError("--emit: %w", err)
	}
	switch {
	case f.method != "" && !slices.Contains(quantize.Methods(), f.method):
		return cli.UsageError("--method %q: want one of %s", f.method, strings.Join(quantize.Methods(), ", "))
	case f.tableStep < 0 || f.tableStep > 64:
		return cli.UsageError("--table-step %d is not within 1..64", f.tableStep)
	case !(f.maxDisagreement >= 0 && f.maxDisagreement <= 1):
		return cli.UsageError("--max-disagreement %g is not within 0..1", f.maxDisagreement)
	case f.file == "":
		return cli.UsageError("required flag \"output\" has no file: -o OUT.nepco")
	}
	unknown, err := parseUnknown(f.unknown)
	if err != nil {
		return cli.UsageError("--unknown-threshold %w", err)
	}
	if o.Import, err = f.sizeFlags.options(cmd.Flags().Changed); err != nil {
		return err
	}
	if o.MinPayload, err = minPayloadOf(f.minPayload); err != nil {
		return err
	}
	if err := checkKnownPass(cmd, f.knownPass); err != nil {
		return err
	}
	o.KnownPass = f.knownPass
	o.Unknown, o.Outputs, o.Features = unknown, f.outputs, f.features
	beside := strings.TrimSuffix(model, filepath.Ext(model)) // what Find takes
	read := slices.Concat([]string{model, f.contract, f.calibLabels, f.sign, beside + ".contract.yaml", beside + ".labels.txt"}, f.calib, f.labels)
	if err := notOver(f.file, read...); err != nil {
		return err
	}
	if f.dumpIR != "" && !files.IsStdout(f.file) && files.Within(f.dumpIR, f.file) {
		return cli.UsageError("--dump-ir %s would make a folder of --output %s: name two places", f.dumpIR, f.file)
	}
	for _, v := range [][2]string{{"name", f.name}, {"model-version", f.modelVersion}} {
		if err := bundle.CheckName(v[1]); err != nil {
			return cli.UsageError("--%s: %w", v[0], err)
		}
	}
	if err := writable(artifact, f.file); err != nil {
		return err
	}
	o.Find(f.contract, f.labels)
	o.View, _ = f.view.Of(bundle.View{})
	opts := backends.ArtifactOptions{}
	if f.sign != "" {
		key, err := files.Read(f.sign, bundle.ReadPrivateKey)
		if err != nil {
			return err
		}
		opts.Key = key
		if opts.Statement, err = f.says.statement(cmd, time.Now()); err != nil {
			return err
		}
	} else if err := meaningless(cmd, "goes with --sign", statementFlagNames...); err != nil {
		return err
	}
	o.Name, o.ModelVersion = f.name, f.modelVersion
	progress := cli.NewProgress(cmd.ErrOrStderr())
	o.Progress = progress.Update
	res, err := compiler.Compile(cmd.Context(), o)
	progress.Done()
	if err != nil {
		return err
	}
	for _, part := range res.Info.Data { // what the model itself names
		if err := notOver(f.file, filepath.Join(filepath.Dir(model), part)); err != nil {
			return err
		}
	}
	built, err := artifact.Build(res.Bundle, opts)
	if err != nil {
		return fmt.Errorf("%s: %w", model, err)
	}
	// The bundle's report must not get into it.
	report := cmd.OutOrStdout()
	if files.IsStdout(f.file) {
		report = cmd.ErrOrStderr()
	}
	n, err := writeArtifact(artifact, f.file, built, cmd.OutOrStdout())
	if err != nil {
		return err
	}
	r := newCompileReport(res, f.file, n)
	if f.json {
		return cli.JSON(report, r)
	}
	r.print(report)
	return nil
}

// compileReport is what compile says it did.
type compileReport struct {
	Output      string               `json:"output"`
	Bytes       int                  `json:"bytes"`
	Model       bundle.Model         `json:"model"`
	Target      string               `json:"target"`
	Contract    string               `json:"contract"`
	Inputs      []compiler.Input     `json:"inputs"`
	Outputs     []bundle.OutputInfo  `json:"outputs"`
	Region      region               `json:"region"`
	Calibration bundle.Calibration   `json:"calibration"`
	Measured    bundle.Measured      `json:"measured"`
	Wide        []string             `json:"wide,omitempty"`
	Tried       []tried              `json:"tried"`
	Passes      []passTime           `json:"passes"`
	Estimate    float64              `json:"estimated_us"`
	Steps       []backends.StepCost  `json:"steps"`
	Known       []*teach.KnownReport `json:"known,omitempty"`
	Notes       []string             `json:"notes,omitempty"`
	Seconds     float64              `json:"seconds"`
	targetDescr string
	unit        string // what one input is called
}

type region struct {
	Left  int  `json:"left"`
	Right int  `json:"right"`
	Whole bool `json:"whole,omitempty"`
}

type tried struct {
	Method    string  `json:"method"`
	Wide      int     `json:"wide"`
	Agreement float64 `json:"agreement"`
	RelError  float64 `json:"rel_error"`
}

type passTime struct {
	Pass  string  `json:"pass"`
	MS    float64 `json:"ms"`
	Nodes int     `json:"nodes"`
}

func newCompileReport(res *compiler.Result, out string, size int) *compileReport {
	m, q, l := &res.Bundle.Manifest, &res.Report.Quantize, &res.Report.Local
	r := &compileReport{
		Output: out, Bytes: size, Model: m.Model, Target: res.Target.Name, Contract: contractText(m.Contract.Hash), Inputs: res.Inputs, Outputs: m.Outputs,
		Region: region{l.Left, l.Right, l.Whole}, Calibration: m.Calibration, Measured: m.Measured, Wide: q.Wide,
		Known: res.Known, Steps: res.Cost, Notes: append(res.Notes, res.Report.Notes...), Seconds: res.Time.Seconds(), targetDescr: res.Target.Doc, unit: res.Unit,
	}
	for _, t := range q.Tried {
		r.Tried = append(r.Tried, tried{t.Method, t.Wide, t.Fidelity.Agreement(), t.Fidelity.RelError})
	}
	for _, p := range res.Report.Passes {
		r.Passes = append(r.Passes, passTime{p.Pass, float64(p.Time) / float64(time.Millisecond), p.Nodes})
	}
	for _, s := range res.Cost {
		r.Estimate += s.Microseconds
	}
	return r
}

func (r *compileReport) print(w io.Writer) {
	fmt.Fprintf(w, "%s: %s for %s (%s)\n", cli.Name(r.Output), cli.Bytes(int64(r.Bytes)), r.Target, r.targetDescr)
	if r.Region.Whole {
		fmt.Fprintln(w, "  local region    ends where the model looks at all positions: nepcoc inspect says which steps are local")
	} else {
		fmt.Fprintf(w, "  local region    %s to the left, %d to the right\n", plural.Of(r.Region.Left, "position"), r.Region.Right)
	}
	for _, in := range r.Inputs {
		fmt.Fprintf(w, "  input           %s: %s\n", in.Name, in.Means)
	}
	for i := range r.Outputs {
		fmt.Fprintf(w, "  output          %s\n", outputText(&r.Outputs[i]))
	}
	c, m := &r.Calibration, &r.Measured
	fmt.Fprintf(w, "  calibration     %s, the best of %s; ranges of %d of %d %s (%d distinct)\n", c.Method, plural.Of(len(r.Tried), "plan"), c.Observed, c.Samples, r.unit, c.Distinct)
	for _, row := range measuredRows(m, "distinct "+r.unit) {
		fmt.Fprintf(w, "  %-15s %s\n", row[0], row[1])
	}
	for _, k := range r.Known {
		fmt.Fprintf(w, "  known           %s\n", knownText(k))
	}
	if len(r.Wide) > 0 {
		fmt.Fprintf(w, "  16 bits kept    %s\n", strings.Join(r.Wide, ", "))
	}
	fmt.Fprintf(w, "  one flow        %.0f us estimated on %s (just an estimate; see inspect)\n", r.Estimate, r.Target)
	for _, n := range r.Notes {
		fmt.Fprintf(w, "  note            %s\n", n)
	}
	for _, n := range m.Warnings {
		fmt.Fprintf(w, "  warning         %s\n", n)
	}
	fmt.Fprintf(w, "compiled in %.1f s\n", r.Seconds)
}

// measuredRows are the figures of a bundle as people read them. unit is what one
// input is called.
func measuredRows(m *bundle.Measured, unit string) [][]string {
	on := "that no range was found on"
	if m.Seen {
		on = "that ranges were found on"
	}
	logits := fmt.Sprintf("logits cosine %.4f, worst error %.4g", m.Cosine, m.MaxError)
	if m.RelError > 0 {
		logits += fmt.Sprintf(", %s of their spread", cli.Percent(m.RelError))
	}
	same := int(math.Round(m.Agreement * float64(m.Samples)))
	rows := [][]string{
		{"measured", fmt.Sprintf("on %d %s %s", m.Samples, unit, on)},
		{"float = integer", fmt.Sprintf("%d of %s (%s), %s", same, plural.Of(m.Samples, "verdict"), cli.Percent(m.Agreement), logits)},
	}
	if m.Labelled > 0 {
		rows = append(rows, []string{"accuracy", fmt.Sprintf("float %s, integer %s of %d labelled %s", cli.Percent(m.FloatAccuracy), cli.Percent(m.IntegerAccuracy), m.Labelled, unit)})
	}
	return rows
}
