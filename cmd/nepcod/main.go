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
	cli.AddGroups(root,
		cli.Group{ID: "run", Title: "Classifying:", Commands: []*cobra.Command{newRun(restrict)}},
		cli.Group{ID: "before", Title: "Before it runs:", Commands: []*cobra.Command{newCheckConfig(), newSelftest(), newDoctor(), newLoad()}},
		cli.Group{ID: "beside", Title: "Beside it:", Commands: []*cobra.Command{newActions()}},
	)
	cli.AddVersion(root)
	return root
}
