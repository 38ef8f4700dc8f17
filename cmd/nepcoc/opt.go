package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"nepcoc/compiler"
	"nepcoc/compiler/onnx"
	"nepcoc/internal/cli"
	"nepcoc/internal/files"
	"nepcoc/ir"
	"nepcoc/passes"
)

func newOpt() *cobra.Command {
	var names []string
	var out string
	var list bool
	var sizes sizeFlags
	cmd := &cobra.Command{
		Use:   "opt --passes=P,... GRAPH.ir|MODEL.onnx",
		Short: "Run single passes on textual IR",
		Long: `opt reads a graph as text (see compile --dump-ir) or imports an ONNX model, runs
the named passes in the order given, checks the graph after each, and prints the result.
Constants too long for the text are files in the folder constants beside the
graph, where --dump-ir puts them.
quantize needs calibration data and runs only within compile.
` + exitCodes,
		Example: `  nepcoc opt --list
  nepcoc opt --passes=canonical,localize model.onnx
  nepcoc opt --passes=fuse ir/02-localize.ir -o fused.ir`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if list {
				rows := [][]string{{"pass", "what it is for"}}
				for _, p := range compiler.Passes() {
					rows = append(rows, []string{p.Name, p.Doc})
				}
				cli.Table(cmd.OutOrStdout(), rows)
				return nil
			}
			if len(args) == 0 {
				return cli.UsageError("no graph given: want a .ir or .onnx file")
			}
			in, err := sizes.options(cmd.Flags().Changed)
			if err != nil {
				return err
			}
			return runOpt(cmd.OutOrStdout(), args[0], in, names, out)
		},
	}
	cmd.Flags().StringSliceVar(&names, "passes", nil, "passes to run, in this order")
	cmd.Flags().StringVarP(&out, cli.OutputFlag, "o", "", "file to write (default: standard output)")
	sizes.add(cmd.Flags())
	cmd.Flags().BoolVar(&list, "list", false, "list the passes")
	return cmd
}

func runOpt(w io.Writer, path string, in onnx.Options, names []string, out string) error {
	if out != "" {
		if err := notOver(out, path); err != nil {
			return err
		}
		if err := files.Writable(out); err != nil {
			return fmt.Errorf("--output %w", err)
		}
	}
	var run []passes.Pass
	for _, name := range names {
		p, err := findPass(name)
		if err != nil {
			return err
		}
		p.Requires, p.After = nil, nil // a single pass is on its own
		run = append(run, p)
	}
	g, err := readGraph(path, in)
	if err != nil {
		return err
	}
	m, err := passes.NewManager(run)
	if err != nil {
		return err
	}
	if g, err = m.Run(&passes.Context{}, g); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if out == "" || files.IsStdout(out) {
		return ir.Fprint(w, g, ir.PrintOptions{})
	}
	var text strings.Builder
	if err := ir.Fprint(&text, g, ir.PrintOptions{Resources: constants(out)}); err != nil {
		return err
	}
	return files.Write(out, []byte(text.String()))
}

// constants is the folder beside a textual graph that holds the data of its
// long constants.
func constants(path string) ir.Resources {
	return ir.DirResources(filepath.Join(filepath.Dir(path), "constants"))
}

func findPass(name string) (passes.Pass, error) {
	var known []string
	for _, p := range compiler.Passes() {
		if p.Name == name {
			return p, nil
		}
		known = append(known, p.Name)
	}
	return passes.Pass{}, cli.UsageError("no pass %q: want some of %s", name, strings.Join(known, ", "))
}

// maxText bounds a textual graph; that of the published model has 400 kB.
const maxText = 1 << 30

func readGraph(path string, in onnx.Options) (*ir.Graph, error) {
	model := strings.EqualFold(filepath.Ext(path), ".onnx")
	if files.IsStdin(path) { // has no ending
		const text = "graph "
		head, err := files.Head(path, len(text))
		if err != nil {
			return nil, err
		}
		model = string(head) != text
	}
	if model {
		g, _, err := onnx.ImportFile(path, in)
		return g, err
	}
	data, err := files.All(path, maxText)
	if err != nil {
		return nil, err
	}
	g, err := ir.ParseWith(string(data), constants(path))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return g, nil
}
