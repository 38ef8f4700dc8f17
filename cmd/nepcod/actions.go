package main

import (
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"nepcoc/internal/cli"
	"nepcoc/internal/plural"
	"nepcoc/runtime/act"
)

func newActions() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "actions",
		Short: "Show or undo the rules that verdicts have put into the kernel",
		Long: "Actions shows and undoes what an agent with actions in its configuration has put in force: the rules in the kernel that\n" +
			"are marked as ours, whether that agent still runs or not. It needs CAP_NET_ADMIN.",
		Args: cli.ExactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, sub := range []struct {
		name, short, long string
		run               func(captured string) ([]act.Found, error)
		end               string
	}{
		{"list", "List the rules in force", "List prints a line for each rule: what is done, backend, flow, where, the verdict's label and event number, time left.", act.List, "in force"},
		{"flush", "Undo all rules",
			"Flush takes all rules away and prints them. An agent that runs notices within a second, says so at /healthz, and makes no\n" +
				"more rules until it is started again.", act.Flush, "undone"},
	} {
		var iface string
		c := &cobra.Command{
			Use: sub.name, Short: sub.short, Long: sub.long, Args: cli.ExactArgs(),
			RunE: func(cmd *cobra.Command, _ []string) error {
				found, err := sub.run(iface)
				for i := range found {
					fmt.Fprintln(cmd.OutOrStdout(), foundLine(&found[i]))
				}
				if _, missing := net.InterfaceByName(iface); err == nil && iface != "" && len(found) == 0 && missing != nil {
					err = fmt.Errorf("--iface %s: %w, nor are there rules of an agent that captured there: `ip link` lists the interfaces; without --iface all rules are meant", iface, missing)
				}
				if err != nil {
					return fmt.Errorf("actions %s: %w", sub.name, err)
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", plural.Of(len(found), "rule"), sub.end)
				return err
			},
		}
		c.Flags().StringVar(&iface, "iface", "", "only nftables' rules of the agent that captures from this interface, and flower's at it")
		cmd.AddCommand(c)
	}
	return cmd
}

func foundLine(f *act.Found) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s", f.Kind, f.Backend, f.Flow.Key)
	if f.Flow.Tagged {
		fmt.Fprintf(&b, " vlan=%d", f.Flow.Key.VLAN[0])
	}
	if f.Label != "" {
		fmt.Fprintf(&b, " label=%s", cli.Name(f.Label))
	}
	fmt.Fprintf(&b, " flow_id=%d left=%s at=%s", f.FlowID, f.Left.Round(time.Second), cli.Name(strings.Join(f.Where, ",")))
	return b.String()
}
