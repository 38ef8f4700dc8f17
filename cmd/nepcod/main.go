// Nepcod is the agent: it runs compiled bundles on the card.
//
// It is one static binary without cgo and imports runtime/... only; the
// compiler and its dependencies stay at home. internal/arrows enforces that.
//
// Exit codes: 0 all is well; 1 an input is bad or a check failed, with one
// line on standard error that says which and why; 2 wrong usage.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	os.Exit(doMain(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// doMain is main without the process around it, so that tests can run whole
// commands.
func doMain(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.Execute()
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(stderr, "nepcod: %v\n", err)
	if usage := (usageError{}); errors.As(err, &usage) {
		fmt.Fprintln(stderr, "See nepcod --help.")
		return exitUsage
	}
	return exitFailed
}

// usageError is a command line that makes no sense, as opposed to a file that
// is bad.
type usageError struct{ error }

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "nepcod",
		Short: "Classify network flows with a compiled bundle",
		Long: "Nepcod runs on the card: it turns packets into verdicts with nothing but a bundle.\n\n" +
			"Exit codes: 0 all is well, 1 an input is bad or a check failed, 2 wrong usage.",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q", args[0])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(newRun(), newCheckConfig(), newSelftest(), newVersion())
	return root
}

// exactArgs wants one argument for each name.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usageError{fmt.Errorf("%s: %s is missing", cmd.Name(), names[len(args)])}
		case len(args) > len(names):
			return usageError{fmt.Errorf("%s: unexpected argument %q", cmd.Name(), args[len(names)])}
		}
		return nil
	}
}
