// Nepcof rolls bundles out to many cards and gathers their verdicts: the hub, what runs beside the agent on each card, and the operator's commands.
//
// It has the network and no packets: it imports neither the packet path nor the compiler, and the agent imports nothing of it. internal/arrows enforces that.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"nepcoc/fleet"
	"nepcoc/internal/cli"
	"nepcoc/internal/files"
)

func main() { os.Exit(doMain(os.Args[1:], os.Stdout, os.Stderr)) }

// doMain is main without the process around it, so that tests can run whole commands.
func doMain(args []string, stdout, stderr io.Writer) int {
	return cli.Run(newRoot(), args, stdout, stderr)
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "nepcof",
		Short: "Roll bundles out to many cards and gather their verdicts",
		Long: "Nepcof brings a signed bundle to a fleet's cards by stages, stops by itself where something is wrong, and gathers verdicts.\n\n" +
			cli.ExitCodes("all is well", "an input is bad, a rollout did not end\nwell, or the fleet could not be reached"),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return cli.UsageError("unknown command %q", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cli.AddGroups(root,
		cli.Group{ID: "set-up", Title: "Setting up:", Commands: []*cobra.Command{newInit(), newEnrol(), newRevoke()}},
		cli.Group{ID: "run", Title: "Running:", Commands: []*cobra.Command{newHub(), newCard(), newSink()}},
		cli.Group{ID: "rollout", Title: "Rolling out:", Commands: []*cobra.Command{newRollout(), newApprove(), newHalt(), newBack(), newPrune()}},
		cli.Group{ID: "watch", Title: "Watching:", Commands: []*cobra.Command{newStatus(), newCards(), newBundles(), newTail()}},
	)
	cli.AddVersion(root)
	return root
}

// needed says which flags are missing.
func needed(cmd *cobra.Command, names ...string) error {
	for _, name := range names {
		if !cmd.Flags().Changed(name) {
			return cli.UsageError("%s: --%s is missing", cmd.Name(), name)
		}
	}
	return nil
}

// fileURL, in a fleet's folder, is where its servers are.
const fileURL = "url"

// place is where a fleet is: the flags of every command that speaks to its servers.
type place struct{ dir, url string }

const fleetVariable = "NEPCOF_FLEET"

func (p *place) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&p.dir, "fleet", os.Getenv(fleetVariable), "the fleet's folder, which init made (or "+fleetVariable+")")
	cmd.Flags().StringVar(&p.url, "nats", "", "the fleet's servers: tls://HOST:PORT, several with commas between (default: what init was told)")
}

// open reads the fleet's folder, and where its servers are.
func (p *place) open(cmd *cobra.Command) (*fleet.Access, error) {
	if p.dir == "" {
		return nil, cli.UsageError("%s: --fleet is missing: the folder that nepcof init made", cmd.Name())
	}
	a, err := fleet.OpenAccess(p.dir)
	if err != nil {
		return nil, err
	}
	if p.url == "" {
		text, err := files.All(filepath.Join(p.dir, fileURL), 4096)
		if err != nil {
			return nil, fmt.Errorf("%w: give --nats", err)
		}
		p.url = strings.TrimSpace(string(text))
	}
	return a, fleet.CheckURLs(p.url)
}

// dial connects to the fleet's servers.
func (p *place) dial(ctx context.Context, cmd *cobra.Command, opts ...nats.Option) (*fleet.Client, error) {
	a, err := p.open(cmd)
	if err != nil {
		return nil, err
	}
	c, err := a.Dial(ctx, p.url, "nepcof "+cmd.Name(), opts...)
	if err != nil {
		return nil, err
	}
	if err := c.Ready(); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// askTime is how long a command waits for the fleet's servers.
const askTime = time.Minute

// asking is a command's context: until askTime has passed, or a signal.
func asking() (context.Context, func()) {
	ctx, stop := untilSignal()
	ctx, cancel := context.WithTimeout(ctx, askTime)
	return ctx, func() { cancel(); stop() }
}

// ask gives f a connection to the fleet's servers, for as long as a command asks.
func (p *place) ask(cmd *cobra.Command, f func(context.Context, *fleet.Client) error) error {
	ctx, stop := asking()
	defer stop()
	return p.with(ctx, cmd, f)
}

// with gives f a connection to the fleet's servers, and ctx.
func (p *place) with(ctx context.Context, cmd *cobra.Command, f func(context.Context, *fleet.Client) error) error {
	c, err := p.dial(ctx, cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Ended(f(ctx, c))
}

func untilSignal() (context.Context, func()) {
	return signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
}

func newLog(cmd *cobra.Command, level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
}

// groupFlag is --group.
func groupFlag(cmd *cobra.Command, group *string, usage string) {
	cmd.Flags().StringVar(group, "group", "", usage)
}

func jsonFlag(cmd *cobra.Command, asJSON *bool) {
	cmd.Flags().BoolVar(asJSON, "json", false, "print JSON")
}
