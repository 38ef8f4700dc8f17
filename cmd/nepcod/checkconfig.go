package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"nepcoc/internal/cli"
	"nepcoc/internal/plural"
	"nepcoc/runtime/agent"
)

func newCheckConfig() *cobra.Command {
	return &cobra.Command{
		Use:   "check-config FILE",
		Short: "Check a configuration file and all that it names",
		Long: "Check-config answers as run --config FILE would: it reads the configuration, loads and proves its bundle (signature,\n" +
			"traffic contract), looks whether the interface can be captured from, the output written and the metrics\n" +
			"served, and says all that is wrong at once. It captures nothing and writes nothing, so it can be used beside a\n" +
			"running agent, before SIGHUP or a restart.",
		Args: cli.ExactArgs("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := agent.ReadConfig(args[0])
			var fields *agent.FieldErrors
			if err != nil && !errors.As(err, &fields) {
				return err
			}
			m, notes, other := c.Preflight()
			if wrong := append(agent.Errors(err), agent.Errors(other)...); len(wrong) > 0 {
				return allWrong(args[0], errors.Join(wrong...))
			}
			if c.Interface == "" {
				notes = append(notes, "interface: is missing: run needs --iface or --pcap")
			}
			if note := c.ReaderNote(); note != "" {
				notes = append(notes, note)
			}
			for _, s := range notes {
				fmt.Fprintf(cmd.ErrOrStderr(), "nepcod: note: %s: %s\n", args[0], s)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: good; bundle %s, %s, %s equal\n",
				cli.Name(args[0]), cli.Name(c.Bundle), m.Digest(), plural.Of(len(m.Bundle.Golden), "golden vector"))
			return err
		},
	}
}

// allWrong is one message of all that is wrong. The file, where there is one, is its subject.
func allWrong(file string, err error) error {
	errs := agent.Errors(err)
	if file != "" {
		file += ": "
	}
	if len(errs) == 1 {
		return fmt.Errorf("%s%w", file, errs[0])
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s%d things are wrong:", file, len(errs))
	for _, e := range errs {
		fmt.Fprintf(&b, "\n  %v", e)
	}
	return errors.New(b.String())
}
