package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"nepcoc/internal/cli"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/doctor"
)

// serviceConfig is the configuration of the package's service.
const serviceConfig = "/etc/nepcod/nepcod.yaml"

func newDoctor() *cobra.Command {
	var config, bundle, iface string
	var listen time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor [--config FILE]",
		Short: "Say what holds on this machine, and the way out where it is not well",
		Long: "Doctor looks at all that an agent with a configuration stands on: rights and sandbox, processor, clock, bundle and whose it is, interface, what merges packets, memory of the\n" +
			"rings, whether both directions are seen, output and disks. Each line is ok, warn (it runs, but could run better or more safely) or fail. It uses the configuration of run,\n" +
			"/etc/nepcod/nepcod.yaml where none is named, and changes nothing. Run it with the rights of the service, or as root.\n\n" +
			cli.ExitCodes("nothing fails", "something does"),
		Args: cli.ExactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if listen < 0 || listen > time.Hour {
				return cli.UsageError("doctor: --listen %v is not within 0s..1h", listen)
			}
			c := agent.DefaultConfig()
			var list []doctor.Finding
			if config == "" {
				if _, err := os.Stat(serviceConfig); !errors.Is(err, fs.ErrNotExist) {
					config = serviceConfig
				}
			}
			if config != "" {
				var err error
				var fields *agent.FieldErrors
				if c, err = agent.ReadConfig(config); err != nil && !errors.As(err, &fields) {
					return err
				}
				for _, e := range agent.Errors(err) {
					list = append(list, doctor.Finding{Check: "configuration", Status: doctor.Fail, Seen: e.Error(), WayOut: "mend " + config})
				}
				if err == nil {
					list = append(list, doctor.Finding{Check: "configuration", Status: doctor.OK, Seen: config})
				}
			}
			if bundle != "" {
				c.Bundle = bundle
			}
			if iface != "" {
				c.Interface = iface
			}
			list = append(list, doctor.Examine(c.Usable(), listen)...)
			if asJSON {
				if err := cli.JSON(cmd.OutOrStdout(), map[string]any{"ok": !doctor.Failed(list), "findings": list}); err != nil {
					return err
				}
			} else {
				for _, f := range list {
					fmt.Fprintf(cmd.OutOrStdout(), "%-4s  %-15s  %s\n", f.Status, f.Check, cli.Name(f.Seen))
					if f.WayOut != "" {
						fmt.Fprintf(cmd.OutOrStdout(), "%23s-> %s\n", "", f.WayOut)
					}
				}
			}
			if doctor.Failed(list) {
				return cli.ErrSilent
			}
			return nil
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&config, "config", "", "configuration file (default: "+serviceConfig+", where there is one)")
	fl.StringVar(&bundle, "bundle", "", "bundle, instead of the configuration's")
	fl.StringVar(&iface, "iface", "", "network interface, instead of the configuration's")
	fl.DurationVar(&listen, "listen", 2*time.Second, "how long to look at the traffic; 0s: not at all")
	fl.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
