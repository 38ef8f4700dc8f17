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
	"nepcoc/runtime/privilege"
)

func main() {
	os.Exit(cli.Run(newRoot(privilege.Restrict), os.Args[1:], os.Stdout, os.Stderr))
}

// doMain is main without the process around it, which it restricts in nothing, so that tests can run whole
// commands.
func doMain(args []string, stdout, stderr io.Writer) int {
	return cli.Run(newRoot(nil), args, stdout, stderr)
}

// A restrictor takes from the process what it doesn't need; see privilege.Restrict.
type restrictor func(privilege.Config, privilege.Needs) (*privilege.Report, error)

// newRoot makes the commands. restrict is nil where the process is not theirs.
func newRoot(restrict restrictor) *cobra.Command {
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
	for _, g := range []struct {
		id, title string
		commands  []*cobra.Command
	}{
		{"run", "Classifying:", []*cobra.Command{newRun(restrict)}},
		{"before", "Before it runs:", []*cobra.Command{newCheckConfig(), newSelftest(), newDoctor(), newLoad()}},
		{"beside", "Beside it:", []*cobra.Command{newActions()}},
	} {
		root.AddGroup(&cobra.Group{ID: g.id, Title: g.title})
		for _, c := range g.commands {
			c.GroupID = g.id
			root.AddCommand(c)
		}
	}
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
