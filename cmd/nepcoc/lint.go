package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"nepcoc/compiler/calibrate"
	"nepcoc/compiler/dataset"
	"nepcoc/internal/cli"
	"nepcoc/internal/plural"
)

func newLint() *cobra.Command {
	var o setFlags
	var asJSON bool
	bounds := dataset.DefaultBounds
	cmd := &cobra.Command{
		Use:   "lint SET.npz|CAPTURE|FOLDER...",
		Short: "Find what gives labels away without being the traffic's nature",
		Long: `lint guesses each labelled flow's class from one thing at a time: the time of its first packet, addresses, single
header fields, single bytes of payload. A guess is the class that flows of other recordings with the same value have, or,
of numbers, the class of the nearest; cross-validated by recording (the group of each flow), or of flows of other parts
where the set has parts. Its gain is what it makes up
for between always naming the commonest class (0) and being right every time (1).

Of time, addresses and header fields a gain above their bound is a leak: they are habits of the recording or of the
machines. A byte of payload may be the traffic's nature; one that tells nearly everything alone is worth a look.
Besides: flows that are in several parts, classes from a single recording, positions that are always the same.
Each finding comes with the line that removes it.
` + "\n" + cli.ExitCodes("nothing gives the labels away", "something does, too few flows, or bad input"),
		Example: `  nepcoc lint set.npz
  nepcoc lint train.pcap --labels train.csv --contract nepco
  nepcoc lint captures/ --label-from folder --contract my.yaml --json | jq '.findings[] | select(.leak)'`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			for name, bound := range map[string]float64{"recording": bounds.Recording, "header": bounds.Header, "payload": bounds.Payload, "duplicates": bounds.Doubles} {
				if !(bound >= 0 && bound <= 1) {
					return cli.UsageError("--%s-bound %g is not within 0..1", name, bound)
				}
			}
			set, err := o.read(cmd, args)
			if err != nil {
				return err
			}
			for _, note := range set.Remarks() {
				fmt.Fprintf(cmd.ErrOrStderr(), "nepcoc: note: %s\n", note)
			}
			lint, err := set.Lint(bounds)
			if err != nil {
				return fmt.Errorf("%s: %w", calibrate.Name(args), err)
			}
			w := cmd.OutOrStdout()
			if asJSON {
				err = cli.JSON(w, lint)
			} else {
				printLint(w, lint)
			}
			switch {
			case err != nil:
			case lint.Leaks() > 0:
				err = fmt.Errorf("%d of the findings give labels away (bounds: --header-bound and others)", lint.Leaks())
			case lint.TooFew:
				err = fmt.Errorf("%s: what gives labels away can't be told: of so few flows, or so few of other classes than the commonest, nothing would stand out: give more", calibrate.Name(args))
			}
			return err
		},
	}
	o.add(cmd)
	fl := cmd.Flags()
	fl.Float64Var(&bounds.Recording, "recording-bound", bounds.Recording, "gain above which times and addresses are leaks")
	fl.Float64Var(&bounds.Header, "header-bound", bounds.Header, "gain above which a header field is a leak")
	fl.Float64Var(&bounds.Payload, "payload-bound", bounds.Payload, "gain above which a single byte of payload is a leak")
	fl.Float64Var(&bounds.Doubles, "duplicates-bound", bounds.Doubles, "share of a later part's flows that an earlier part may have")
	fl.BoolVar(&asJSON, "json", false, "the findings as JSON")
	return cmd
}

// manyFindings is how many that are no leaks are shown.
const manyFindings = 10

func printLint(w io.Writer, l *dataset.Lint) {
	rows := [][]string{{"", "finding", "accuracy", "gain", "flows", "what removes it"}}
	rest := 0
	for _, f := range l.Findings {
		mark := "leak"
		if !f.Leak {
			if mark = "note"; len(rows) > manyFindings+l.Leaks() {
				rest++
				continue
			}
		}
		rows = append(rows, []string{mark, f.Name, fmt.Sprintf("%.3f", f.Accuracy), fmt.Sprintf("%.2f", f.Gain), fmt.Sprint(f.Flows), f.Remedy})
	}
	if len(rows) > 1 {
		cli.Table(w, rows)
	}
	if rest > 0 {
		fmt.Fprintf(w, "and %d more that are no leaks (--json lists them)\n", rest)
	}
	for _, n := range l.Notes {
		fmt.Fprintf(w, "note: %s\n", n)
	}
	if l.Constant > 0 {
		fmt.Fprintf(w, "note: %s %s the same token in every flow\n", plural.Of(l.Constant, "position"), plural.Verb(l.Constant, "holds", "hold"))
	}
	leaks := fmt.Sprint(l.Leaks())
	if l.TooFew {
		leaks += " (too few flows to tell)"
	}
	if l.Within {
		leaks += ", within recordings only"
	}
	fmt.Fprintf(w, "%s of %s and %s; the commonest class alone: %.3f; leaks: %s\n", plural.Of(l.Flows, "flow"), plural.Of(l.Classes, "class"), plural.Of(l.Groups, "recording"), l.Majority, leaks)
}
