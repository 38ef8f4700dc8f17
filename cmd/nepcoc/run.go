package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"nepcoc/compiler/calibrate"
	"nepcoc/internal/cli"
	"nepcoc/internal/files"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/explain"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/verdict"
)

func newRun() *cobra.Command {
	var r captureRun
	var asJSON, why bool
	var executor string
	var unknown *float64
	cmd := &cobra.Command{
		Use:   "run BUNDLE CAPTURE...|ARRAYS.npz",
		Short: "Classify every flow of a capture",
		Long: `run prints one line per flow: the first packet's time, the 5-tuple, packets, label,
score and margin, in the order in which flows became ready, then a mark=NAME for each thing that the verdict
should be doubted for (docs/marks.md says what they mean). With --json the lines are JSON objects, with marks in
"incomplete", "anomaly" and "insufficient".
Order and bytes are the same on every CPU and for both executors, and those of
nepcod run --pcap with --format json or text. Several captures are read one after
another, as one. What became of the packets is said at the end, on standard error.

For an .npz of arrays named like the model's inputs it prints the integer and
the scaled logits of each sample.
` + exitCodes,
		Example: `  nepcoc run model.nepco test.pcap
  nepcoc run model.nepco test.pcap --json --logits | jq .label
  nepcoc run model.nepco eval.npz --executor ref`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if r.capacity < 1 || r.capacity > flow.MaxCapacity {
				return cli.UsageError("--flows %d is not within 1..%d", r.capacity, flow.MaxCapacity)
			}
			b, err := files.Read(args[0], bundle.Read)
			if err != nil {
				return err
			}
			arrays, err := calibrate.IsArrays(args[1])
			if err != nil {
				return err
			}
			if !arrays {
				if _, err := classify.FlowOptions(b); err != nil {
					return fmt.Errorf("%s: %w", files.Show(args[0]), err)
				}
			}
			var c *classify.Classifier
			switch {
			case why && arrays:
				err = cli.UsageError("--explain: for captures only; arrays have no packets")
			case why && executor != "engine":
				err = cli.UsageError("--explain goes with --executor engine")
			case why:
				if c, err = newExplained(b); err != nil {
					err = fmt.Errorf("%s: %w", files.Show(args[0]), err)
				}
			default:
				c, err = newClassifier(b, executor)
			}
			if err != nil {
				return err
			}
			if unknown != nil {
				c.SetUnknown(*unknown)
			}
			w := cli.NewLines(cmd.OutOrStdout())
			switch {
			case arrays:
				err = meaningless(cmd, "for captures only; arrays have no packets, and their logits are printed anyway", "active-timeout", "community-id-seed", "flows", "interfaces", "logits", "tunnels", "vlans")
			case !asJSON:
				err = meaningless(cmd, "goes with --json", "logits")
			}
			if err != nil {
				return err
			}
			if arrays && len(args) > 2 {
				return cli.UsageError("run: %s holds arrays: it is read alone", args[1])
			}
			if arrays {
				err = runArrays(cmd.ErrOrStderr(), w, b, c, args[1], asJSON)
			} else {
				r.format = (*verdict.Record).AppendText
				if asJSON {
					r.format = (*verdict.Record).AppendJSON
				}
				err = r.run(cmd.ErrOrStderr(), w, b, c, args[1:])
			}
			if ferr := w.Flush(); err == nil {
				err = ferr
			}
			return err
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&asJSON, "json", false, "one JSON object per line")
	fl.BoolVar(&r.logits, "logits", false, "with --json: integer and scaled logits, too")
	fl.BoolVar(&why, "explain", false, "name the bytes that each verdict stands on (nepcoc explain shows them)")
	fl.StringVar(&executor, "executor", "engine", "engine (fast) or ref (the definition)")
	cli.UnknownFlag(fl, &unknown, cli.AsBundle)
	cli.SeedFlag(fl, &r.seed)
	fl.IntVar(&r.capacity, "flows", flow.DefaultCapacity, "flows held at once")
	cli.ViewFlags(fl, &r.view, cli.AsBundle)
	return cmd
}

// meaningless refuses those of the flags that were given, and says why: a line must not seem to do more than it does.
func meaningless(cmd *cobra.Command, why string, flags ...string) error {
	var given []string
	for _, name := range flags {
		if cmd.Flags().Changed(name) {
			given = append(given, "--"+name)
		}
	}
	if given == nil {
		return nil
	}
	return cli.UsageError("%s: %s", strings.Join(given, ", "), why)
}

func newClassifier(b *bundle.Bundle, executor string) (*classify.Classifier, error) {
	bind, ok := map[string]func(*bundle.Bundle) (classify.Executor, error){
		"engine": classify.Engine, "ref": classify.Reference,
	}[executor]
	if !ok {
		return nil, cli.UsageError("--executor %q: want engine or ref", executor)
	}
	x, err := bind(b)
	if err != nil {
		return nil, err
	}
	return classify.New(b, x), nil
}

// newExplained is a classifier that says what its verdicts stand on.
func newExplained(b *bundle.Bundle) (*classify.Classifier, error) {
	opt, err := classify.FlowOptions(b)
	if err != nil {
		return nil, err
	}
	x, err := explain.New(b, opt.Encoder)
	if err != nil {
		return nil, err
	}
	return classify.Explained(b, x), nil
}

// captureRun classifies a capture.
type captureRun struct {
	view     bundle.ViewOverride
	seed     uint16
	capacity int
	logits   bool
	format   func(*verdict.Record, []byte) []byte
}

func (o *captureRun) run(stderr, w io.Writer, b *bundle.Bundle, c *classify.Classifier, paths []string) error {
	src, err := capture.OpenAll(paths)
	if err != nil {
		return err
	}
	defer src.Close()
	view, notes := o.view.Of(b.Manifest.View)
	b.Manifest.View, c.Capacity, c.Seed = view, o.capacity, o.seed
	var line []byte
	n, err := c.Flows(b, src, o.logits, func(r *verdict.Record) error {
		line = append(o.format(r, line[:0]), '\n')
		_, err := w.Write(line)
		return err
	})
	if err != nil {
		return err
	}
	opt, err := classify.FlowOptions(b)
	if err != nil {
		return err
	}
	name := calibrate.Name(paths)
	for _, note := range append(notes, n.Notes(&opt)...) {
		fmt.Fprintf(stderr, "nepcoc: note: %s: %s\n", name, note)
	}
	for _, note := range src.Notes() {
		fmt.Fprintf(stderr, "nepcoc: note: %s\n", note)
	}
	fmt.Fprintf(stderr, "nepcoc: %s: %s\n", name, n)
	return nil
}
