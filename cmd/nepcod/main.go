// Nepcod is the agent: it runs compiled bundles on the card.
//
// It is one static binary without cgo, made of runtime/... and internal/... only; the
// compiler and its dependencies stay at home. internal/arrows enforces that.
package main

import (
	"io"
	"os"

	"github.com/spf13/cobra"

	"nepcoc/internal/cli"
)

func main() { os.Exit(doMain(os.Args[1:], os.Stdout, os.Stderr)) }

// doMain is main without the process around it, so that tests can run whole
// commands.
func doMain(args []string, stdout, stderr io.Writer) int {
	return cli.Run(newRoot(), args, stdout, stderr)
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "nepcod",
		Short: "Classify network flows with a compiled bundle",
		Long: "Nepcod runs on the card: it turns packets into verdicts with nothing but a bundle.\n\n" +
			cli.ExitCodes("all is well", "an input is bad, a check failed, or\nverdicts were lost"),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return cli.UsageError("unknown command %q", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddCommand(newRun(), newCheckConfig(), newSelftest(), newLoad())
	cli.AddVersion(root)
	return root
}

// exactArgs wants one argument for each name.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return cli.UsageError("%s: %s is missing", cmd.Name(), names[len(args)])
		case len(args) > len(names):
			return cli.UsageError("%s: unexpected argument %q", cmd.Name(), args[len(names)])
		}
		return nil
	}
}
