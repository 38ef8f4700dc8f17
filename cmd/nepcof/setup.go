package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"nepcoc/fleet"
	"nepcoc/internal/cli"
	"nepcoc/internal/files"
)

func newInit() *cobra.Command {
	var hosts []string
	var url string
	cmd := &cobra.Command{
		Use:   "init DIR [--host H]",
		Short: "Make a fleet: its keys, credentials and certificates",
		Long: `Init makes a fleet's folder: keys of its own NATS accounts, credentials of hub and operators, a certificate authority and a certificate for
its servers, which cards reach under the names of --host. Keep the folder with the hub. For an operator's machine copy
` + strings.Join(fleet.OperatorFiles, ", ") + ` and ` + fileURL + `: with those, commands change what groups run, but can't speak for hub or cards.
Its keys sign no bundles: cards run what the keys that their agents trust have signed, whoever has the hub.`,
		Example: `  nepcof init /var/lib/nepcof/fleet --host hub.example
  nepcof init fleet --host a.example --host b.example --host c.example`,
		Args: cli.ExactArgs("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if url == "" {
				for _, h := range hosts {
					url += ",tls://" + net.JoinHostPort(h, "4222")
				}
				url = strings.TrimPrefix(url, ",")
			}
			if url == "" {
				url = "tls://127.0.0.1:4222"
			}
			// Hosts first: the address is made of them.
			if cmd.Flags().Changed("nats") {
				if err := fleet.CheckURLs(url); err != nil {
					return err
				}
			}
			if err := fleet.InitAccess(args[0], hosts); err != nil {
				return err
			}
			if err := files.WriteNew(filepath.Join(args[0], fileURL), []byte(url+"\n"), 0o644); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: a new fleet, at %s; next: nepcof hub --fleet %s\n", cli.Name(args[0]), url, cli.Name(args[0]))
			return err
		},
	}
	cmd.Flags().StringArrayVar(&hosts, "host", nil, "name or address under which cards reach the servers (may be repeated); localhost always is one")
	cmd.Flags().StringVar(&url, "nats", "", "where the servers are, if not at port 4222 of the hosts")
	return cmd
}

func newEnrol() *cobra.Command {
	var p place
	var group, output, url string
	cmd := &cobra.Command{
		Use:   "enrol CARD --group G --fleet DIR -o TOKEN",
		Short: "Make a token with which a card joins, once",
		Long: `Enrol writes a token: good for a day and for one card, which makes its own key with it and gets credentials for its own subjects only. It takes a hub's
folder, since only that may make credentials. Who has the token can be that card: bring it there by a way that you trust, and remove it.`,
		Example: `  nepcof enrol card-07 --group racks --fleet /var/lib/nepcof/fleet -o card-07.token
  ssh card-07 sudo -u nepcof nepcof card --enrol - < card-07.token`,
		Args: cli.ExactArgs("CARD"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needed(cmd, "group", cli.OutputFlag); err != nil {
				return err
			}
			if !files.IsStdout(output) { // before a token is made that nobody has
				if _, err := os.Lstat(output); err == nil {
					return fmt.Errorf("%s: is there already, and tokens go into new files: remove it, or give another -o", files.Show(output))
				}
				if info, err := os.Stat(filepath.Dir(output)); err != nil || !info.IsDir() {
					return fmt.Errorf("%s: there is no folder for it: make %s, or give another -o", files.Show(output), files.Show(filepath.Dir(output)))
				}
			}
			if url != "" {
				if err := fleet.CheckURLs(url); err != nil {
					return err
				}
			}
			return p.ask(cmd, func(ctx context.Context, c *fleet.Client) error {
				if url == "" {
					url = p.url
				}
				before, err := c.Enrolled(ctx, group, args[0])
				if err != nil {
					return err
				}
				if !before.IsZero() {
					warn(cmd, "card %s of group %s was enrolled at %s: the token puts another in its place. Where that one is lost, or not to be trusted, nepcof revoke it first", args[0], group, before.Format(time.RFC3339))
				}
				t, err := c.NewToken(ctx, group, args[0], url)
				if err != nil {
					return err
				}
				text, err := json.MarshalIndent(t, "", "  ")
				if err != nil {
					return err
				}
				text = append(text, '\n')
				if files.IsStdout(output) {
					return files.Output(output, text, cmd.OutOrStdout())
				}
				return files.WriteNew(output, text, 0o600)
			})
		},
	}
	p.flags(cmd)
	groupFlag(cmd, &group, "group that the card belongs to")
	cmd.Flags().StringVarP(&output, cli.OutputFlag, "o", "", "file for the token, a new one; - is standard output")
	cmd.Flags().StringVar(&url, "url", "", "where the card finds the servers, if elsewhere than this command does")
	return cmd
}

func newRevoke() *cobra.Command {
	var p place
	var group string
	var operators bool
	cmd := &cobra.Command{
		Use:   "revoke CARD --group G | revoke --operator",
		Short: "Take a card's, or the operators', credentials back",
		Long: `Revoke takes a card from the fleet: the servers cut its connection and refuse its credentials, hubs and sinks believe nothing that it seals, and tokens that wait for
it are void. A rollout doesn't wait for it. What its agent runs it goes on with; nepcof enrol lets the card in again, with a new key. With --operator the operators' credentials
are made anew, and those before are refused: bring ` + fleet.FileOperatorCreds + ` and ` + fleet.FileAccount + ` to the operators' machines.

It takes the folder that init made. A hub with its own server has it within seconds. NATS servers of one's own want the new ` + fleet.FileConf + `, and nats-server --signal reload.`,
		Example: `  nepcof revoke card-07 --group racks --fleet /var/lib/nepcof/fleet
  nepcof revoke --operator --fleet /var/lib/nepcof/fleet`,
		Args: func(cmd *cobra.Command, args []string) error {
			if operators {
				return cli.ExactArgs()(cmd, args)
			}
			return cli.ExactArgs("CARD")(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if operators {
				if cmd.Flags().Changed("group") {
					return cli.UsageError("revoke: --operator is of no group")
				}
				a, err := p.open(cmd)
				if err == nil {
					err = a.RevokeOperator()
				}
				if err == nil {
					_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: new credentials; those before are refused once the servers have %s\n", cli.Name(p.dir), fleet.FileConf)
				}
				return err
			}
			if err := needed(cmd, "group"); err != nil {
				return err
			}
			return p.ask(cmd, func(ctx context.Context, c *fleet.Client) error {
				if err := c.Revoke(ctx, group, args[0]); err != nil {
					return err
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "card %s of group %s: is no longer of the fleet; its credentials are refused once the servers have %s\n", args[0], group, fleet.FileConf)
				return err
			})
		},
	}
	p.flags(cmd)
	groupFlag(cmd, &group, "group that the card belongs to")
	cmd.Flags().BoolVar(&operators, "operator", false, "the operators' credentials, instead of a card's")
	return cmd
}
