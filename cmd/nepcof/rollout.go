package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/user"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"nepcoc/fleet"
	"nepcoc/internal/cli"
	"nepcoc/internal/files"
	"nepcoc/runtime/bundle"
)

// stages reads --stage: numbers of cards, percents, all.
func stages(list []string) (all []fleet.Stage, err error) {
	for _, s := range list {
		var stage fleet.Stage
		var err error
		if percent, ok := strings.CutSuffix(s, "%"); ok {
			stage.Percent, err = strconv.ParseFloat(strings.TrimSpace(percent), 64)
		} else if s == "all" {
			stage.Percent = 100
		} else {
			stage.Cards, err = strconv.Atoi(s)
		}
		if err != nil {
			return nil, cli.UsageError("--stage: %q is no number of cards, no percent, and not all", s)
		}
		all = append(all, stage)
	}
	return all, nil
}

func newRollout() *cobra.Command {
	var p place
	var group, back string
	var list []string
	var wait, asJSON bool
	plan := fleet.DefaultPlan()
	cmd := &cobra.Command{
		Use:   "rollout BUNDLE --group G",
		Short: "Bring a bundle to a group's cards, by stages",
		Long: `Rollout gives a bundle to a group's cards, stage by stage. Each stage's cards must run it within --timeout and are then watched for --bake; what is worse with it than it was with
the stage before halts the rollout, and takes all cards back (with --stay they stay as they are, for you to look). A card that was silent
for a minute before its stage is not waited for: it takes the bundle when it comes back. A stage that adds no card (5 % of ten, after two) is passed over: nobody new would be watched.

Cards refuse a bundle with a lower serial than they ran. So that they can go back, give the signed reason for that, too:
    nepcoc sign OLD --key signer.pem --rollback-from SERIAL --reason "new one failed" -o back.note

What a stage is compared on is in its story (nepcof status). Where there are too few flows (--min-flows), or --bake is so short that there are none, a stage holds with
"nothing compared": the next is then compared with what was before it.

With --wait the exit code is 0 only where all cards that were reached run the bundle in the end.`,
		Example: `  nepcof rollout better.nepco --group racks --back back.note --wait
  nepcof rollout better.nepco --group racks --stage 1,10%,all --bake 1h --approve`,
		Args: cli.ExactArgs("BUNDLE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needed(cmd, "group"); err != nil {
				return err
			}
			var err error
			if plan.Stages, err = stages(list); err != nil {
				return err
			}
			if err := plan.Check(); err != nil {
				return cli.UsageError("rollout: %w", err)
			}
			data, err := files.All(args[0], bundle.MaxFileSize)
			if err != nil {
				return err
			}
			b, err := bundle.Read(args[0], bytes.NewReader(data))
			if err != nil {
				return err
			}
			var note []byte
			if back != "" {
				if note, err = files.All(back, 64<<10); err != nil {
					return err
				}
			}
			ctx, stop := untilSignal() // a bundle may be on its way for longer than commands ask
			defer stop()
			return p.with(ctx, cmd, func(ctx context.Context, c *fleet.Client) error {
				before, err := c.Group(ctx, group)
				if err != nil {
					return err
				}
				to, from := fleet.NewArtifact(data, b), before.Stable
				if to.Serial == 0 {
					warn(cmd, "%s is not signed: cards whose agents have trusted_keys refuse it", files.Show(args[0]))
				}
				if !from.IsZero() && to.Serial > from.Serial && back == "" {
					warn(cmd, "without --back NOTE cards can't go back from serial %d to %d: nepcoc sign OLD --key KEY --rollback-from %d --reason TEXT -o NOTE", to.Serial, from.Serial, to.Serial)
				}
				if back != "" {
					if err := fleet.CheckBack(files.Show(back), note, from, to); err != nil {
						return fmt.Errorf("--back: %w: nepcoc sign OLD --key KEY --rollback-from %d --reason TEXT -o NOTE makes one, of the group's present bundle, OLD", err, to.Serial)
					}
				}
				progress := cli.NewProgress(cmd.ErrOrStderr())
				g, err := c.Rollout(ctx, group, operator(), data, b, string(note), plan, func(done, total int) { progress.Update("sending the bundle", done, total) })
				progress.Done()
				if err != nil {
					return err
				}
				if wait {
					return untilOver(cmd, c, g, asJSON)
				}
				if asJSON {
					return cli.JSON(cmd.OutOrStdout(), g.Rollout)
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "rollout %s: %v to %s of group %s; stages: %s; nepcof status %s shows how it goes\n", g.Rollout.ID, g.Rollout.To, fleet.CountCards(len(g.Rollout.Cards)), group, g.Rollout.StageLine(), group)
				return err
			})
		},
	}
	p.flags(cmd)
	groupFlag(cmd, &group, "group whose cards are to run the bundle")
	jsonFlag(cmd, &asJSON)
	fl := cmd.Flags()
	fl.StringSliceVar(&list, "stage", []string{"2", "5%", "25%", "all"}, "how many cards each stage goes to: numbers, percents, and all in the end")
	fl.DurationVar(&plan.Bake, "bake", plan.Bake, "how long all of a stage's cards are watched with the bundle")
	fl.DurationVar(&plan.Timeout, "timeout", plan.Timeout, "how long a stage's cards may take to run the bundle")
	fl.BoolVar(&plan.Approve, "approve", false, "ask for nepcof approve before each stage after the first")
	fl.BoolVar(&plan.Stay, "stay", false, "cards stay with the bundle where the rollout halts")
	fl.StringVar(&back, "back", "", "signed reason to run the group's present bundle again (nepcoc sign --rollback-from)")
	fl.Float64Var(&plan.Limits.Drops, "max-drops", plan.Limits.Drops, "halt where the share of dropped packets grows by more than this")
	fl.Float64Var(&plan.Limits.Unknown, "max-unknown", plan.Limits.Unknown, "halt where the share of unknown verdicts grows by more than this")
	fl.Float64Var(&plan.Limits.Latency, "max-latency", plan.Limits.Latency, "halt where the 99th percentile of latency is more than so many times what it was")
	fl.IntVar(&plan.Limits.Flows, "min-flows", plan.Limits.Flows, "how many flows a share of unknown verdicts must be of to be compared, and those of one card for its latency to count")
	fl.BoolVar(&plan.Limits.Drift, "drift-halts", plan.Limits.Drift, "halt where a card tells of drift, and none did before; --drift-halts=false: don't")
	fl.BoolVar(&wait, "wait", false, "wait for its end, and tell what happens")
	return cmd
}

func warn(cmd *cobra.Command, format string, args ...any) {
	fmt.Fprintf(cmd.ErrOrStderr(), "nepcof: note: "+format+"\n", args...)
}

// operator is who gives a command, for the rollout's story.
func operator() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}

// every is how often a command looks at what happens.
const every = 500 * time.Millisecond

// untilOver tells of a rollout until nothing more will happen by itself. Where it waits for approval, or was halted, that is the end, too.
func untilOver(cmd *cobra.Command, c *fleet.Client, g fleet.Group, asJSON bool) error {
	ctx, stop := untilSignal()
	defer stop()
	id := g.Rollout.ID
	progress := cli.NewProgress(cmd.ErrOrStderr())
	var told fleet.Story
	for {
		r := g.Rollout
		if r == nil || r.ID != id {
			return fmt.Errorf("rollout %s: another took its place", id)
		}
		if !asJSON {
			progress.Done()
			tell(cmd.OutOrStdout(), "", told.New(r))
		}
		if r.State != fleet.Advancing && r.State != fleet.Returning {
			progress.Done()
			if asJSON {
				if err := cli.JSON(cmd.OutOrStdout(), r); err != nil {
					return err
				}
			}
			switch r.State {
			case fleet.Done:
				if n := len(r.Missing); n > 0 {
					return fmt.Errorf("rollout %s is done, but not on %d of %s, which take it when they come back: %s", id, n, fleet.CountCards(len(r.Cards)), fleet.Several(r.Missing))
				}
				return nil
			case fleet.Waiting:
				return fmt.Errorf("rollout %s waits: nepcof approve %s, or nepcof %s %s", id, g.Name, r.Ending(), g.Name)
			case fleet.Halted:
				other := fmt.Sprintf("nepcof back %s takes it back", g.Name)
				if r.From.IsZero() {
					other = "another rollout may follow: there is nothing to go back to"
				}
				return fmt.Errorf("rollout %s was halted: %s; nepcof approve %s goes on, %s", id, strings.Join(r.Reasons, "; "), g.Name, other)
			}
			return fmt.Errorf("rollout %s was taken back: %s", id, strings.Join(r.Reasons, "; "))
		}
		progress.Update(fmt.Sprintf("stage %d of %d: %d of %s", r.Stage+1, len(r.Plan.Stages), r.Reached, fleet.CountCards(len(r.Cards))), 0, 0)
		select {
		case <-time.After(every):
		case <-ctx.Done():
			return errors.New("no longer waited for; the rollout goes on")
		}
		now, err := c.Group(ctx, g.Name)
		if err != nil {
			if errors.Is(err, nats.ErrConnectionClosed) {
				return c.Ended(err)
			}
			if ctx.Err() != nil {
				continue
			}
			progress.Update("the servers don't answer", 0, 0) // the connection comes back by itself
			continue
		}
		g = now
	}
}

// tell writes a rollout's events that are new, with a prefix.
func tell(w io.Writer, prefix string, events []fleet.Event) {
	for _, e := range events {
		fmt.Fprintf(w, "%s  %s%s\n", e.At.UTC().Format(time.TimeOnly), prefix, cli.Name(e.Text))
	}
}

// word is a command that gives an operator's word on a group's rollout.
func word(use, short, long string, reasons bool, give func(ctx context.Context, c *fleet.Client, group, reason string) (fleet.Group, error)) *cobra.Command {
	var p place
	var reason string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   use + " GROUP",
		Short: short,
		Long:  long,
		Args:  cli.ExactArgs("GROUP"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.ask(cmd, func(ctx context.Context, c *fleet.Client) error {
				if reason == "" {
					reason = use + " by " + operator()
				}
				g, err := give(ctx, c, args[0], reason)
				if err != nil {
					return err
				}
				if asJSON {
					return cli.JSON(cmd.OutOrStdout(), g.Rollout)
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "rollout %s of group %s: %s\n", g.Rollout.ID, g.Name, g.Rollout.State)
				return err
			})
		},
	}
	p.flags(cmd)
	jsonFlag(cmd, &asJSON)
	if reasons {
		cmd.Flags().StringVar(&reason, "reason", "", "why, for the rollout's story")
	}
	return cmd
}

func newHalt() *cobra.Command {
	return word("halt", "Stop a rollout: cards stay with what they have",
		"Halt stops a group's rollout: nothing more is ordered, and cards stay with what they have. Approve goes on, back takes it back.", true,
		func(ctx context.Context, c *fleet.Client, group, reason string) (fleet.Group, error) {
			return c.Halt(ctx, group, reason)
		})
}

func newBack() *cobra.Command {
	return word("back", "Take a rollout back, also one that is done",
		"Back orders a group's cards to the bundle that they ran before the rollout. Those that have taken up a higher serial need the signed reason that rollout --back was given.", true,
		func(ctx context.Context, c *fleet.Client, group, reason string) (fleet.Group, error) {
			return c.Back(ctx, group, reason)
		})
}

func newApprove() *cobra.Command {
	return word("approve", "Let a rollout that waits, or was halted, go on",
		"Approve lets a rollout that waits for its next stage begin it, and one that was halted go on with its own.", false,
		func(ctx context.Context, c *fleet.Client, group, _ string) (fleet.Group, error) {
			return c.Approve(ctx, group)
		})
}
