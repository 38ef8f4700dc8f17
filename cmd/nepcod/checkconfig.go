package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"nepcoc/runtime/agent"
)

func newCheckConfig() *cobra.Command {
	return &cobra.Command{
		Use:   "check-config FILE",
		Short: "Check a configuration file and the bundle that it names",
		Long: "Check-config reads a configuration as run does, and loads and proves its bundle. It opens no interface\n" +
			"and writes nothing, so it can be used beside a running agent, before SIGHUP or a restart.",
		Args: exactArgs("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := agent.ReadConfig(args[0])
			if err != nil {
				return err
			}
			if c.Bundle == "" {
				return fmt.Errorf("%s: bundle: is missing", args[0])
			}
			m, err := c.Load()
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: good; bundle %s, %s, %d golden vectors equal\n",
				args[0], c.Bundle, m.Digest(), len(m.Bundle.Golden))
			return err
		},
	}
}
