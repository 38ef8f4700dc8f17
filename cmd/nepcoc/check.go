package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"nepcoc/compiler"
	"nepcoc/compiler/onnx"
	"nepcoc/internal/cli"
	"nepcoc/internal/plural"
	"nepcoc/runtime/bundle"
)

func newCheck() *cobra.Command {
	var asJSON, features bool
	var contract string
	var labels []string
	var output outputFlag
	var sizes sizeFlags
	cmd := &cobra.Command{
		Use:   "check MODEL.onnx",
		Short: "Say whether a model compiles, and everything that stands against it",
		Long: `check goes through all of a compile but calibration and writes nothing: the model, the
traffic contract and class names as compile finds them, the limits of a bundle. What
can't be taken is listed at once, the most decisive first: the node, its operator and
shapes, the reason, and what to change in PyTorch.

` + cli.ExitCodes("the model compiles", "it does not"),
		Example: `  nepcoc check model.onnx
  nepcoc check model.onnx --json | jq '.problems[].reason'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output.file != "" {
				return cli.UsageError("--output %s: check writes nothing; what an output of the model means is written NAME=KIND", output.file)
			}
			in, err := sizes.options(cmd.Flags().Changed)
			if err != nil {
				return err
			}
			progress := cli.NewProgress(cmd.ErrOrStderr())
			progress.Update("checking", 0, 0)
			o := compiler.Options{Model: args[0], Import: in, Outputs: output.outputs, Features: features}
			o.Find(contract, labels)
			res, err := compiler.Check(cmd.Context(), o)
			progress.Done()
			r := checkReport{Model: args[0], OK: err == nil}
			if err != nil {
				if r.Problems = compiler.Problems(err); r.Problems == nil {
					r.Problems = []onnx.Problem{{File: args[0], Reason: err.Error()}}
				}
			} else {
				r.Opset, r.Producer = res.Info.Opset, res.Info.Producer+" "+res.Info.ProducerVersion
				r.Inputs, r.Outputs = res.Inputs, res.Outputs
				for _, s := range res.Cost {
					r.Steps++
					r.MACs += s.MACs
				}
			}
			if asJSON {
				if jerr := cli.JSON(cmd.OutOrStdout(), r); jerr != nil {
					return jerr
				}
				if err != nil {
					return cli.ErrSilent
				}
				return nil
			}
			if err != nil {
				return err
			}
			r.print(cmd.OutOrStdout())
			return nil
		},
	}
	inputFlags(cmd.Flags(), &contract, &labels, &features)
	sizes.add(cmd.Flags())
	cmd.Flags().Var(&output, cli.OutputFlag, "NAME=KIND[:LABEL,...][@THRESHOLD,...], what an output of the model means (see compile)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

type checkReport struct {
	Model    string              `json:"model"`
	OK       bool                `json:"ok"`
	Opset    int                 `json:"opset,omitempty"`
	Producer string              `json:"producer,omitempty"`
	Inputs   []compiler.Input    `json:"inputs,omitempty"`
	Outputs  []bundle.OutputInfo `json:"outputs,omitempty"`
	Steps    int                 `json:"steps,omitempty"`
	MACs     int64               `json:"macs,omitempty"`
	Problems []onnx.Problem      `json:"problems,omitempty"`
}

func (r *checkReport) print(w io.Writer) {
	fmt.Fprintf(w, "%s: compiles (opset %d, %s): %s, %d multiply-adds per full input\n", cli.Name(r.Model), r.Opset, cli.Name(r.Producer), plural.Of(r.Steps, "step"), r.MACs)
	for _, in := range r.Inputs {
		fmt.Fprintf(w, "  input   %s: %s\n", in.Name, in.Means)
	}
	for i := range r.Outputs {
		fmt.Fprintf(w, "  output  %s\n", outputText(&r.Outputs[i]))
	}
}
