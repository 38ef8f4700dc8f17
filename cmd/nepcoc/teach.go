package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"nepcoc/compiler/calibrate"
	"nepcoc/compiler/dataset"
	"nepcoc/internal/cli"
	"nepcoc/internal/files"
	"nepcoc/internal/plural"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/drift"
	"nepcoc/runtime/teach"
	"nepcoc/runtime/verdict"
)

func newTeach() *cobra.Command {
	var o setFlags
	var out, task, mode string
	var pcaps []string
	var add, asJSON bool
	var unknown *float64
	var minPayload int
	var knownPass float64
	cmd := &cobra.Command{
		Use:   "teach ENCODER.nepco --pcap CAPTURE --labels LABELS.csv -o NEW.nepco",
		Short: "Teach an encoder's bundle a new task, without PyTorch",
		Long: `teach puts a new head on the frozen encoder of a bundle: it computes the pooled features of each labelled flow with
the integer engine, finds a regularised softmax regression on them (or, for one to five flows a class, the nearest mean of a
class: --mode prototype), quantises it into one more layer, and writes a bundle that nepcod runs as any other. How
well it does is cross-validated: of flows, and of whole recordings where there are at least five, that it was not taught with.

Scores are calibrated on the flows that were held back, and verdicts below a score under which those were more often wrong than right are
unknown; --unknown-threshold says otherwise.

With --known-pass flows that lie far from all classes are unknown, too, whatever their score: docs/unknown.md.

ENCODER.nepco is a bundle whose output is features (examples/foundation), or one that teach has made: with --add that one
keeps its tasks, which then share the encoder, and gains one; a task of the same name is taught anew, for which all its
flows are needed, those of new classes and of old ones.

--pcap takes a token set (nepcoc tokens) in place of captures, too; it must be made by the encoder's contract.
The same flows give the same bundle on every CPU.
` + exitCodes,
		Example: `  nepcoc teach encoder.nepco --pcap train.pcap --labels train.csv -o app.nepco
  nepcoc teach encoder.nepco --pcap captures/ --label-from folder --task device -o device.nepco
  nepcoc teach app.nepco --pcap iot.pcap --labels iot.csv --task device --add -o both.nepco`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains([]teach.Mode{teach.Softmax, teach.Prototype}, teach.Mode(mode)) {
				return cli.UsageError("--mode %q: want softmax or prototype", mode)
			}
			if err := teach.CheckName(task); err != nil {
				return cli.UsageError("--task: %w", err)
			}
			if len(pcaps) == 0 {
				return cli.UsageError("no flows to learn from: give --pcap CAPTURE, FOLDER or SET.npz")
			}
			if err := notOver(out, append(o.inputs(pcaps), args[0])...); err != nil {
				return err
			}
			if err := files.Writable(out); err != nil {
				return err
			}
			b, err := files.Read(args[0], bundle.Read)
			if err != nil {
				return err
			}
			contract, err := classify.Contract(b)
			if err != nil {
				return err
			}
			o.asBundle = b
			set, err := o.read(cmd, pcaps)
			if err != nil {
				return err
			}
			if err := set.Fits(files.Show(pcaps[0]), dataset.ForBundle(args[0], contract, b.Manifest.View)); err != nil {
				return err
			}
			learn, without, err := taskOf(set, task)
			if err != nil {
				return fmt.Errorf("%s: %w", files.Show(pcaps[0]), err)
			}
			remarks := set.Remarks()
			if without != nil {
				remarks = append(remarks, "classes without a flow to learn from are left out: "+strings.Join(without, ", "))
			}
			for _, note := range remarks {
				fmt.Fprintf(cmd.ErrOrStderr(), "nepcoc: note: %s\n", note)
			}
			if err := learn.Check(); err != nil {
				return fmt.Errorf("%s: %w", calibrate.Name(pcaps), err)
			}
			progress := cli.NewProgress(cmd.ErrOrStderr())
			opt := teach.Options{Mode: teach.Mode(mode), Add: add, Unknown: unknown, MinPayload: b.Manifest.MinPayload, Progress: progress.Update}
			if err := checkKnownPass(cmd, knownPass); err != nil {
				return err
			}
			opt.KnownPass = knownPass
			if cmd.Flags().Changed("min-payload") {
				if opt.MinPayload, err = minPayloadOf(minPayload); err != nil {
					return err
				}
			}
			made, report, err := teach.Teach(b, learn, opt)
			progress.Done()
			if err != nil {
				return fmt.Errorf("%s: %w", files.Show(args[0]), err)
			}
			if made.Manifest.Traffic, err = trafficOf(made, set); err != nil {
				return err
			}
			data, err := bundle.Encode(made, bundle.Options{})
			if err != nil {
				return err
			}
			if err := files.Output(out, data, cmd.OutOrStdout()); err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			if files.IsStdout(out) {
				w = cmd.ErrOrStderr()
			}
			if asJSON {
				return cli.JSON(w, report)
			}
			printTaught(w, files.Show(out), len(data), report)
			return nil
		},
	}
	o.addLabels(cmd)
	fl := cmd.Flags()
	fl.StringArrayVar(&pcaps, "pcap", nil, "capture or folder of captures, or a token set (.npz); may be given several times")
	fl.StringVar(&task, "task", "class", "name of the new output")
	fl.StringVar(&mode, "mode", string(teach.Softmax), "softmax, or prototype for one to five flows a class")
	cli.UnknownFlag(fl, &unknown, "default: below which cross-validation is more often wrong than right; 0: none is")
	minPayloadFlag(fl, &minPayload)
	knownPassFlag(fl, &knownPass)
	fl.BoolVar(&add, "add", false, "keep the tasks that the bundle has")
	fl.StringVarP(&out, cli.OutputFlag, "o", "", "bundle to write")
	fl.BoolVar(&asJSON, "json", false, "the report as JSON")
	cmd.MarkFlagRequired(cli.OutputFlag)
	return cmd
}

// taskOf is what a set's flows of the training part teach; without parts, all. Classes that none of them has are left out
// and returned: nothing can be learnt of them.
func taskOf(set *dataset.Set, name string) (t *teach.Task, without []string, err error) {
	t = &teach.Task{Name: name}
	train := 0
	if len(set.Splits) > 1 {
		if train = slices.Index(set.Splits, "train"); train < 0 {
			return nil, nil, fmt.Errorf("its parts are %s: the one to learn from must be called train", strings.Join(set.Splits, ", "))
		}
	}
	learnt := func(f *dataset.Flow) bool { return f.Label >= 0 && f.Split == train }
	has := make([]bool, len(set.Labels))
	for i := range set.Flows {
		if f := &set.Flows[i]; learnt(f) {
			has[f.Label] = true
		}
	}
	class := make([]int, len(set.Labels))
	for k, label := range set.Labels {
		if class[k] = len(t.Labels); has[k] {
			t.Labels = append(t.Labels, label)
		} else {
			without = append(without, label)
		}
	}
	for i := range set.Flows {
		if f := &set.Flows[i]; learnt(f) {
			t.Examples = append(t.Examples, teach.Example{Tokens: set.Padded(f), Valid: len(f.Tokens), Label: class[f.Label], Group: f.Group, Payload: f.Payload})
		}
	}
	return t, without, nil
}

// trafficOf is what the flows that a bundle was taught with look like to it.
func trafficOf(b *bundle.Bundle, set *dataset.Set) (*bundle.Traffic, error) {
	train := max(0, slices.Index(set.Splits, "train"))
	var flows []*dataset.Flow
	for i := range set.Flows {
		if f := &set.Flows[i]; f.Label >= 0 && f.Split == train {
			flows = append(flows, f)
		}
	}
	return drift.Calibration(b, len(flows), func(i int, r *verdict.Record) ([]int32, int) {
		f := flows[i]
		r.Packets, r.Bytes, r.Marks, r.Payload, r.Largest, r.Repeats = f.Packets, f.Bytes, f.Marks, f.Payload, int(f.Largest), int(f.Repeats)
		return set.Padded(f), len(f.Tokens)
	})
}

func printTaught(w io.Writer, name string, size int, r *teach.Report) {
	rows := [][]string{{"class", "flows", "recall", "precision"}}
	for k, l := range r.Labels {
		rows = append(rows, []string{l, fmt.Sprint(r.Count[k]), fmt.Sprintf("%.3f", r.Recall[k]), fmt.Sprintf("%.3f", r.Precision[k])})
	}
	cli.Table(w, rows)
	how := "flow by flow"
	if r.ByGroup {
		how = fmt.Sprintf("by %s", plural.Of(r.Groups, "recording"))
	}
	fmt.Fprintf(w, "cross-validated (%d folds, %s): accuracy %.4f, macro-F1 %.4f\n", r.Folds, how, r.Accuracy, r.MacroF1)
	if r.Threshold > 0 {
		fmt.Fprintf(w, "unknown below a score of %g: %d of %s held back; accuracy of the others %.4f\n", r.Threshold, r.Unknown, plural.Of(r.Flows, "flow"), r.KnownAccuracy)
	}
	if r.Known != nil {
		fmt.Fprintln(w, knownText(r.Known))
	}
	fmt.Fprintf(w, "integers = real numbers: %s of the flows' classes\n", cli.Percent(r.Agreement))
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", n)
	}
	fmt.Fprintf(w, "%s: task %s of %s on %s, %s\n", name, r.Task, plural.Of(len(r.Labels), "class"), plural.Of(r.Width, "feature"), cli.Bytes(int64(size)))
}
