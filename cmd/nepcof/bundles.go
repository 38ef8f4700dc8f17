package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"nepcoc/fleet"
	"nepcoc/internal/cli"
)

func newBundles() *cobra.Command {
	var p place
	var group string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "bundles [--group G]",
		Short: "All bundles in the servers, and what needs each",
		Long: `Bundles lists the bundles that the fleet's servers hold, or those of a group: the file's SHA-256, how much of it is there, when its last part came, and what needs it:
    stable   it is what the group runs
    rollout  a rollout that isn't over brings it
    back     nepcof back would lead to it, from the group's latest rollout
    order    a card's order names it still
Where there is nothing of that, nobody can need it any more: nepcof prune removes it.`,
		Args: cli.ExactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.ask(cmd, func(ctx context.Context, c *fleet.Client) error {
				all, err := bundlesOf(ctx, c, group)
				if err != nil {
					return err
				}
				if asJSON {
					return cli.JSON(cmd.OutOrStdout(), all)
				}
				if len(all) == 0 {
					_, err := fmt.Fprintln(cmd.OutOrStdout(), "no bundles: nepcof rollout brings them")
					return err
				}
				rows := [][]string{{"group", "file", "size", "put", "bundle", "needed for"}}
				for _, s := range all {
					rows = append(rows, bundleRow(s))
				}
				cli.Table(cmd.OutOrStdout(), rows)
				return nil
			})
		},
	}
	p.flags(cmd)
	groupFlag(cmd, &group, "only this group's")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// bundlesOf are the bundles of a group, which must be there, or ("") of all.
func bundlesOf(ctx context.Context, c *fleet.Client, group string) ([]fleet.Stored, error) {
	all, err := c.Bundles(ctx, group)
	if err == nil && group != "" && len(all) == 0 {
		err = exists(ctx, c, group)
	}
	if all == nil {
		all = []fleet.Stored{}
	}
	return all, err
}

func bundleRow(s fleet.Stored) []string {
	name := "not known" // the servers have the file's SHA-256 only
	if s.Bundle != nil {
		name = s.Bundle.String()
	}
	return []string{s.Group, fmt.Sprintf("%.12s", s.File), cli.Bytes(s.Size), s.Put.Format(time.DateTime), name, neededFor(s)}
}

func neededFor(s fleet.Stored) string {
	var words []string
	for _, u := range s.Uses {
		words = append(words, string(u))
	}
	if s.Removing {
		words = append(words, "nothing, is being removed")
	} else if len(words) == 0 {
		words = append(words, "nothing")
	}
	return strings.Join(words, ", ")
}

func newPrune() *cobra.Command {
	var p place
	var group string
	var dry, asJSON bool
	cmd := &cobra.Command{
		Use:   "prune [--group G]",
		Short: "Remove bundles from the servers that nobody can need any more",
		Long: `Prune removes the bundles that nepcof bundles shows to be needed for nothing, of all groups or of one: the hub that leads does it, and prune waits for that. What a group
runs, what a rollout that isn't over brings, what the way back of a group's latest rollout leads to, and what a card's order names stays. So it does where a rollout
begins at the same moment. A rollout may bring a bundle again that was removed: it is sent anew.

With --dry-run it says what would be removed, and removes nothing.`,
		Args: cli.ExactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.ask(cmd, func(ctx context.Context, c *fleet.Client) error {
				var gone []fleet.Stored
				var err error
				did := "removed"
				if dry {
					did = "would be removed"
					if gone, err = bundlesOf(ctx, c, group); err != nil {
						return err
					}
					gone = slices.DeleteFunc(gone, func(s fleet.Stored) bool { return len(s.Uses) > 0 })
				} else if gone, err = c.Prune(ctx, group); err == nil && len(gone) == 0 {
					if _, err := bundlesOf(ctx, c, group); err != nil { // there may be no such group
						return err
					}
				}
				if asJSON {
					if gone == nil {
						gone = []fleet.Stored{}
					}
					return errors.Join(cli.JSON(cmd.OutOrStdout(), gone), err)
				}
				for _, s := range gone {
					fmt.Fprintf(cmd.OutOrStdout(), "group %s: %.12s, %s, put %s: %s\n", s.Group, s.File, cli.Bytes(s.Size), s.Put.Format(time.DateTime), did)
				}
				if err == nil && len(gone) == 0 {
					_, err = fmt.Fprintln(cmd.OutOrStdout(), "nothing to remove: each bundle is needed")
				}
				return err
			})
		},
	}
	p.flags(cmd)
	groupFlag(cmd, &group, "only this group's")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "say what would be removed, and remove nothing")
	jsonFlag(cmd, &asJSON)
	return cmd
}
