package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"nepcoc/fleet"
	"nepcoc/internal/cli"
)

// groupStatus is what `nepcof status --json` prints of each group, in the API's words (docs/fleet-page.md).
type groupStatus struct {
	Name  string `json:"name"`
	Cards int    `json:"cards"`
	// Reporting are those that have reported within a minute, Refusing those that refuse what they are ordered.
	Reporting int             `json:"reporting"`
	Refusing  int             `json:"refusing"`
	Stable    *fleet.Artifact `json:"stable,omitempty"`
	// Versions are what those run that report.
	Versions []fleet.VersionCount `json:"versions"`
	Rollout  *fleet.Rollout       `json:"rollout,omitempty"`
}

func newStatus() *cobra.Command {
	var p place
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status [GROUP]",
		Short: "What groups run, and how a rollout goes",
		Long:  "Status says of each group, or of one, what its cards run, and how its latest rollout went or goes.",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return cli.UsageError("status: unexpected argument %q", args[1])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.ask(cmd, func(ctx context.Context, c *fleet.Client) error {
				groups, err := c.Groups(ctx)
				if err != nil {
					return err
				}
				cards, err := c.Cards(ctx)
				if err != nil {
					return err
				}
				all, now := []groupStatus{}, c.Now(ctx)
				names := maps.Clone(cards)
				for name := range groups {
					names[name] = cards[name]
				}
				for _, name := range slices.Sorted(maps.Keys(names)) {
					if len(args) == 0 || args[0] == name {
						all = append(all, newGroupStatus(name, groups[name], cards[name], now))
					}
				}
				if len(args) == 1 && len(all) == 0 {
					return noGroup(args[0])
				}
				if asJSON {
					return cli.JSON(cmd.OutOrStdout(), all)
				}
				if len(all) == 0 {
					return noCards(cmd)
				}
				for i := range all {
					all[i].print(cmd.OutOrStdout())
				}
				return nil
			})
		},
	}
	p.flags(cmd)
	jsonFlag(cmd, &asJSON)
	return cmd
}

func newGroupStatus(name string, g fleet.Group, cards map[string]fleet.Status, now time.Time) groupStatus {
	s := groupStatus{Name: name, Cards: len(cards), Versions: []fleet.VersionCount{}, Rollout: g.Rollout}
	if !g.Stable.IsZero() {
		s.Stable = &g.Stable
	}
	running := map[string]int{}
	for _, c := range cards {
		if c.Phase == fleet.Refused {
			s.Refusing++
		}
		if !c.Reports(now) {
			continue
		}
		if s.Reporting++; c.Agent.Digest != "" {
			running[c.Agent.Digest]++
		}
	}
	for _, digest := range slices.Sorted(maps.Keys(running)) {
		s.Versions = append(s.Versions, fleet.VersionCount{Digest: digest, Cards: running[digest]})
	}
	return s
}

func (s *groupStatus) print(out io.Writer) {
	// What cards and operators wrote must not speak to a terminal.
	say := func(format string, args ...any) { fmt.Fprintln(out, cli.Name(fmt.Sprintf(format, args...))) }
	say("%s: %s; reporting: %d, refusing their bundle: %d", s.Name, fleet.CountCards(s.Cards), s.Reporting, s.Refusing)
	if s.Stable != nil {
		say("  bundle   %v", *s.Stable)
	}
	for _, v := range s.Versions {
		say("  running  %.12s on %d", v.Digest, v.Cards)
	}
	r := s.Rollout
	if r == nil {
		return
	}
	say("  rollout  %s of %v: %s, stage %d of %d, %d of %s", r.ID, r.To, r.State, r.Stage+1, len(r.Plan.Stages), r.Reached, fleet.CountCards(len(r.Cards)))
	say("  stages   %s", r.StageLine())
	for _, why := range r.Reasons {
		say("  reason   %s", why)
	}
	for _, e := range r.Events {
		say("  %s  %s", e.At.UTC().Format(time.DateTime), e.Text)
	}
}

func noGroup(name string) error {
	return fmt.Errorf("group %s: there is none; nepcof status lists them", name)
}

// exists says where there is no such group: it has neither cards nor a rollout.
func exists(ctx context.Context, c *fleet.Client, group string) error {
	g, err := c.Group(ctx, group)
	if err != nil || g.Rollout != nil {
		return err
	}
	members, err := c.Members(ctx)
	if err == nil && len(members[group]) == 0 {
		err = noGroup(group)
	}
	return err
}

func noCards(cmd *cobra.Command) error {
	_, err := fmt.Fprintln(cmd.OutOrStdout(), "no cards: nepcof enrol makes a token for one")
	return err
}

func newCards() *cobra.Command {
	var p place
	var group string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "cards [--group G]",
		Short: "All cards, and how each is",
		Long:  "Cards lists the fleet's cards, or a group's: when each reported last, what it runs, what is wrong, its lines.",
		Args:  cli.ExactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.ask(cmd, func(ctx context.Context, c *fleet.Client) error {
				cards, err := c.Cards(ctx)
				if err != nil {
					return err
				}
				all := []fleet.Status{}
				for _, g := range slices.Sorted(maps.Keys(cards)) {
					for _, name := range slices.Sorted(maps.Keys(cards[g])) {
						if group == "" || group == g {
							all = append(all, cards[g][name])
						}
					}
				}
				if group != "" && len(all) == 0 {
					if err := exists(ctx, c, group); err != nil {
						return err
					}
				}
				if asJSON {
					return cli.JSON(cmd.OutOrStdout(), all)
				}
				if len(all) == 0 {
					return noCards(cmd)
				}
				now := c.Now(ctx)
				rows := [][]string{{"group", "card", "seen", "state", "runs", "flows", "unknown", "dropped", "lines", "waiting", "lost", "what is wrong"}}
				for _, s := range all {
					rows = append(rows, cardRow(s, now))
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

func cardRow(s fleet.Status, now time.Time) []string {
	seen := "never"
	if !s.Seen.IsZero() {
		seen = now.Sub(s.Seen).Round(time.Second).String() + " ago"
	}
	var wrong []string
	for _, w := range []string{s.Reason, s.Agent.Problem} {
		if w != "" {
			wrong = append(wrong, cli.Name(w))
		}
	}
	if s.Agent.Drift {
		wrong = append(wrong, "drift")
	}
	a := &s.Agent
	return []string{s.Group, s.Card, seen, cli.Name(string(s.Phase)), cli.Name(fmt.Sprintf("%.12s", a.Digest)), fmt.Sprintf("%.0f", a.Flows()), cli.Percent(a.UnknownShare()), cli.Percent(a.DropShare()),
		fmt.Sprint(s.Lines.Sent), fmt.Sprint(s.Lines.Stored - min(s.Lines.Stored, s.Lines.Sent+s.Lines.Dropped)), fmt.Sprint(s.Lines.Dropped), strings.Join(wrong, "; ")}
}

// ending is an output that something is written to without end: that ends when a write fails, as where nobody reads any more.
type ending struct {
	io.Writer
	end func()
}

func (e *ending) Write(b []byte) (int, error) {
	n, err := e.Writer.Write(b)
	if err != nil {
		e.end()
	}
	return n, err
}

func newTail() *cobra.Command {
	var p place
	var group string
	var lines bool
	cmd := &cobra.Command{
		Use:   "tail [--group G] [--lines]",
		Short: "What happens now: rollouts' events, or a group's lines",
		Long:  "Tail prints the events of rollouts as they come or, with --lines, what a group's cards send from now on, each line after its card's name, until SIGINT or until nobody reads any more.",
		Args:  cli.ExactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if lines && group == "" {
				return cli.UsageError("tail: --lines wants --group")
			}
			ctx, stop := untilSignal()
			defer stop()
			c, err := p.dial(ctx, cmd)
			if err != nil {
				return err
			}
			defer c.Close()
			ctx, end := context.WithCancel(ctx)
			defer end()
			out := &ending{cmd.OutOrStdout(), end}
			if lines {
				return c.Ended(c.Tail(ctx, group, func(card string, text []byte) {
					for line := range bytes.Lines(text) {
						fmt.Fprintf(out, "%s\t%s", card, cli.Escape(string(line)))
					}
				}, func(subject string, why error) { warn(cmd, "lines on %s are left out: %v", subject, why) }))
			}
			if group != "" {
				if err := exists(ctx, c, group); err != nil {
					return c.Ended(err)
				}
			}
			told := map[string]*fleet.Story{}
			for begun := false; ; begun = true {
				groups, err := c.Groups(ctx)
				if err != nil && ctx.Err() == nil && (!begun || errors.Is(err, nats.ErrConnectionClosed)) {
					return c.Ended(err)
				}
				for _, name := range slices.Sorted(maps.Keys(groups)) {
					r := groups[name].Rollout
					if r == nil || group != "" && group != name {
						continue
					}
					t := told[name]
					if t == nil {
						t = &fleet.Story{}
						told[name] = t
						if !begun { // what was before
							t.New(r)
						}
					}
					tell(out, name+": ", t.New(r))
				}
				select {
				case <-time.After(every):
				case <-ctx.Done():
					return nil
				}
			}
		},
	}
	p.flags(cmd)
	groupFlag(cmd, &group, "only this group's")
	cmd.Flags().BoolVar(&lines, "lines", false, "what cards send, instead of rollouts' events")
	return cmd
}
