package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"nepcoc/internal/cli"
	"nepcoc/internal/version"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/privilege"
)

// runFlags are what the command line adds to the configuration.
type runFlags struct {
	config  string
	pcap    []string
	speed   float64
	sandbox bool
	view    bundle.ViewOverride
	agent.Config
}

func newRun(restrict restrictor) *cobra.Command {
	f := runFlags{Config: agent.DefaultConfig()}
	cmd := &cobra.Command{
		Use:   "run --bundle B (--iface IF | --pcap F [--speed X])",
		Short: "Classify live traffic or a capture",
		Long: `Run classifies the flows of an interface until SIGINT or SIGTERM, or those of a capture. Verdicts go to
standard output as Suricata EVE events, or where --output says.

SIGHUP, or a new file in the bundle's place, changes the model: flows that have begun finish with the model
they began with, and a bundle that can't be used changes nothing. SIGHUP also opens the output's file anew where it was
renamed, as it is by itself with the next verdict. An end that leaves flows without a verdict, or verdicts that were
not written, is exit code 1. What was seen, missed and decided is printed
at the end, and served as Prometheus metrics at --metrics.`,
		Example: `  nepcod run --bundle model.nepco --iface p0 --output /var/log/nepcod/eve.json --metrics :9477
  nepcod run --bundle model.nepco --pcap test.pcap --format json
  nepcod run --config /etc/nepcod/nepcod.yaml`,
		Args: cli.ExactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := f.resolve(cmd)
			if err != nil {
				return err
			}
			return runAgent(cmd, c, f.pcap, f.speed, restrict)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.config, "config", "", "configuration file; flags override it")
	fl.StringVar(&f.Bundle, "bundle", "", "bundle to run")
	fl.StringVar(&f.Interface, "iface", "", "network interface to capture from")
	fl.StringArrayVar(&f.pcap, "pcap", nil, "capture file to read instead; several are read one after another")
	fl.Float64Var(&f.speed, "speed", 0, "with --pcap: replay at the capture's pace times this; 0 is as fast as possible")
	fl.IntVar(&f.Workers, "workers", f.Workers, "threads that classify")
	fl.IntVar(&f.Receive.Threads, "threads", f.Receive.Threads, "threads that receive")
	fl.IntVar(&f.Flows, "flows", f.Flows, "flows held at once")
	cli.ViewFlags(fl, &f.view, cli.AsBundle)
	cli.UnknownFlag(fl, &f.UnknownThreshold, cli.AsBundle)
	cli.SeedFlag(fl, &f.Output.CommunityIDSeed)
	fl.StringVar(&f.Output.To, cli.OutputFlag, f.Output.To, "where verdicts go: - (standard output), a file, unix:SOCKET (a stream), or unix_dgram:SOCKET")
	fl.StringVar(&f.Output.Format, "format", f.Output.Format, "eve, json (as nepcoc run --json) or text")
	fl.BoolVar(&f.Output.Totals, "totals", false, "with --format eve: a flow event at each flow's end, with all that it carried; verdicts are nepco events then")
	fl.BoolVar(&f.Output.Explain, "explain", false, "name the bytes that each verdict stands on: why in its events")
	fl.BoolVar(&f.Drift.On, "drift", f.Drift.On, "compare verdicts with what the bundle says of its calibration's traffic (drift); --drift=false: don't")
	fl.StringVar(&f.Keep.To, "keep-unknown", "", "keep the packets of flows whose verdict is unknown in this capture file, 4 times 64 MiB at most (keep_unknown), to be labelled; they hold what people sent")
	fl.BoolVar(&f.sandbox, "sandbox", true, "take from the process what it doesn't need once its sockets are open: capabilities, system calls, files (sandbox); --sandbox=false: don't")
	fl.StringVar(&f.Metrics.Listen, "metrics", "", "serve /metrics and /healthz at this address; :PORT is on the loopback")
	fl.StringArrayVar(&f.TrustedKeys, "trusted-key", nil, "refuse a bundle not signed by this public key (PEM file; may be repeated)")
	fl.StringVar(&f.KeyList, "key-list", "", "keys that may sign bundles, and those that may no more: a list that a trusted key signed (nepcoc key list)")
	fl.StringVar(&f.State, "state", "", "remember the highest serial that ran in this file, and refuse lower ones; with --pcap, the state that --config names is only read")
	fl.StringVar(&f.AllowRollback, "allow-rollback", "", "run an older bundle for the reason that this file holds, signed (nepcoc sign --rollback-from)")
	return cmd
}

// overrides are the flags that stand for a field of the configuration.
var overrides = map[string]func(c, flags *agent.Config){
	"bundle":            func(c, f *agent.Config) { c.Bundle = f.Bundle },
	"iface":             func(c, f *agent.Config) { c.Interface = f.Interface },
	"workers":           func(c, f *agent.Config) { c.Workers = f.Workers },
	"threads":           func(c, f *agent.Config) { c.Receive.Threads = f.Receive.Threads },
	"flows":             func(c, f *agent.Config) { c.Flows = f.Flows },
	"tunnels":           func(c, f *agent.Config) { c.Receive.Tunnels = f.Receive.Tunnels },
	"vlans":             func(c, f *agent.Config) { c.Receive.VLANs = f.Receive.VLANs },
	"interfaces":        func(c, f *agent.Config) { c.Receive.Interfaces = f.Receive.Interfaces },
	"active-timeout":    func(c, f *agent.Config) { c.ActiveTimeout = f.ActiveTimeout },
	"unknown-threshold": func(c, f *agent.Config) { c.UnknownThreshold = f.UnknownThreshold },
	"community-id-seed": func(c, f *agent.Config) { c.Output.CommunityIDSeed = f.Output.CommunityIDSeed },
	"output":            func(c, f *agent.Config) { c.Output.To = f.Output.To },
	"format":            func(c, f *agent.Config) { c.Output.Format = f.Output.Format },
	"totals":            func(c, f *agent.Config) { c.Output.Totals = f.Output.Totals },
	"explain":           func(c, f *agent.Config) { c.Output.Explain = f.Output.Explain },
	"drift":             func(c, f *agent.Config) { c.Drift.On = f.Drift.On },
	"metrics":           func(c, f *agent.Config) { c.Metrics.Listen = f.Metrics.Listen },
	"keep-unknown":      func(c, f *agent.Config) { c.Keep.To = f.Keep.To },
	"trusted-key":       func(c, f *agent.Config) { c.TrustedKeys = f.TrustedKeys },
	"key-list":          func(c, f *agent.Config) { c.KeyList = f.KeyList },
	"state":             func(c, f *agent.Config) { c.State = f.State },
	"allow-rollback":    func(c, f *agent.Config) { c.AllowRollback = f.AllowRollback },
}

// resolve joins the configuration file and the flags.
func (f *runFlags) resolve(cmd *cobra.Command) (*agent.Config, error) {
	f.Receive.Tunnels, f.Receive.VLANs, f.Receive.Interfaces, f.ActiveTimeout = f.view.Tunnels, f.view.VLANs, f.view.Interfaces, f.view.ActiveTimeout
	c := f.Config
	if f.config != "" {
		var err error
		if c, err = agent.ReadConfig(f.config); err != nil {
			return nil, err
		}
		for name, set := range overrides {
			if cmd.Flags().Changed(name) {
				set(&c, &f.Config)
			}
		}
	}
	if !f.sandbox {
		c.Sandbox = privilege.Config{}
	}
	if err := c.Validate(); err != nil {
		return nil, cli.UsageError("%w", allWrong("", err))
	}
	switch {
	case c.Bundle == "":
		return nil, cli.UsageError("run: --bundle is missing")
	case len(f.pcap) == 0 && c.Interface == "":
		return nil, cli.UsageError("run: one of --iface and --pcap is needed")
	case len(f.pcap) > 0 && cmd.Flags().Changed("iface"):
		return nil, cli.UsageError("run: --iface and --pcap exclude each other")
	case !(f.speed >= 0 && f.speed <= maxSpeed) || f.speed > 0 && len(f.pcap) == 0:
		return nil, cli.UsageError("run: --speed wants a positive number up to %g, and --pcap", float64(maxSpeed))
	}
	if len(f.pcap) > 0 {
		c.Interface = ""
		if !cmd.Flags().Changed("state") {
			c.OnlyRead() // a bundle that is tried on a capture is none that ran here
		}
	}
	if err := c.Overwrites(append([]string{f.config}, f.pcap...)...); err != nil {
		return nil, cli.UsageError("run: %w", err)
	}
	return &c, nil
}

// maxSpeed is more than any machine replays.
const maxSpeed = 1e9

// sources opens what to read. notes is asked at the end.
func sources(c *agent.Config, pcap []string, speed float64) (list []capture.Source, notes func() []string, err error) {
	notes = func() []string { return nil }
	if len(pcap) == 0 {
		rings, err := c.Rings()
		for _, r := range rings {
			list = append(list, r)
		}
		return list, notes, err
	}
	files, err := capture.OpenAll(pcap)
	if err != nil {
		return nil, nil, err
	}
	if speed > 0 {
		return []capture.Source{capture.NewReplay(files, speed)}, files.Notes, nil
	}
	return []capture.Source{files}, files.Notes, nil
}

func runAgent(cmd *cobra.Command, c *agent.Config, pcap []string, speed float64, restrict restrictor) error {
	model, notes, err := c.Preflight()
	if err == nil {
		err = c.Remember(model)
	} else {
		err = errors.Join(append(agent.Errors(err), agent.Errors(c.RememberList())...)...)
	}
	if err != nil {
		return allWrong("", err)
	}
	for _, s := range notes {
		fmt.Fprintf(cmd.ErrOrStderr(), "nepcod: note: %s\n", s)
	}
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	// The reader of a pipe does not come back, unlike a socket's: the agent ends.
	stdout := &pipe{w: cli.Unchecked(cmd.OutOrStdout()), broken: stop}
	sink, err := openSink(ctx, log, c.Output.To, stdout, len(pcap) > 0)
	if err != nil {
		return fmt.Errorf("--output %w", err)
	}
	src, note, err := sources(c, pcap, speed)
	if err != nil {
		return err
	}
	actions, err := c.OpenActions(len(pcap) > 0)
	if err != nil {
		return err
	}
	defer actions.Close()
	if len(pcap) == 0 && (actions == nil || actions.Backend == nil) {
		if n := c.RulesInForce(); n > 0 {
			log.Warn("actions: rules are in force that this agent has not made: another's, or left by one that was killed", "rules", n, "undo", "nepcod actions flush")
		}
	}
	if len(pcap) == 0 {
		if n := agent.RulesOverdue(); n > 0 {
			log.Warn("actions: rules are in force whose time is over: left by an agent that was killed, or made before the clock was set", "rules", n, "undo", "nepcod actions flush")
		}
	}
	opt := c.Options()
	opt.Actions = actions
	opt.Sources, opt.Model, opt.Sink, opt.Log, opt.Lossless = src, model, sink, log, len(pcap) > 0
	a, err := agent.New(opt)
	if err != nil {
		return err
	}
	defer a.Close()

	var listener net.Listener
	if c.Metrics.Listen != "" {
		if listener, err = agent.Listen(c.Metrics.Listen); err != nil {
			return fmt.Errorf("metrics: %w", err)
		}
		defer listener.Close()
	}
	// Whatever has to be opened with the rights of the start is open.
	if restrict != nil {
		if err := sandbox(log, restrict, c.Sandbox, c.Needs(pcap...)); err != nil {
			return err
		}
	}

	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGHUP)
	defer signal.Stop(again)
	watching, cancel := context.WithCancel(ctx)
	watched := make(chan bool)
	go func() {
		a.Watch(watching, c, again, c.Watch)
		close(watched)
	}()
	defer func() {
		cancel()
		select {
		case <-watched: // what it remembers is written
		case <-time.After(time.Second):
		}
	}()
	if listener != nil {
		server := a.Server()
		go server.Serve(listener)
		defer server.Close()
		log.Info("serving /metrics and /healthz", "address", listener.Addr().String())
	}
	go a.Supervise(watching)
	go a.Advise(watching)

	if len(pcap) == 0 {
		log.Info("started", "version", version.Version, "interface", c.Interface, "bundle", model.Path, "digest", model.Digest(), "kernels", model.Kernels(),
			"threads", c.Receive.Threads, "workers", c.Workers)
	}
	report, err := a.Run(ctx)
	for _, s := range append(note(), a.Notes(report)...) {
		fmt.Fprintf(cmd.ErrOrStderr(), "nepcod: note: %s\n", s)
	}
	log.Info("ended: " + report.String())
	if lost := report.Lost(); err == nil {
		err = lost
	} else if lost != nil {
		err = fmt.Errorf("%w; %w", err, lost)
	}
	return err
}

// openSink is agent.OpenSink. A capture waits until the reader of a FIFO comes, since all of its verdicts are wanted; an interface does not: packets would pass unseen, and systemd
// takes an agent for one that doesn't start.
func openSink(ctx context.Context, log *slog.Logger, name string, stdout io.Writer, wait bool) (io.Writer, error) {
	now, cancel := context.WithCancel(ctx)
	cancel()
	sink, err := agent.OpenSink(now, name, stdout)
	if !errors.Is(err, agent.ErrNoReader) {
		return sink, err
	}
	if !wait {
		log.Warn("output: a FIFO that nobody reads: verdicts are lost, and counted, until somebody does", "output", name)
		return sink, nil
	}
	log.Info("output: a FIFO that nobody reads: waiting for its reader", "output", name)
	return agent.OpenSink(ctx, name, stdout)
}

// sandbox restricts the process, and says what came of it: a part that doesn't hold is a warning each time.
func sandbox(log *slog.Logger, restrict restrictor, c privilege.Config, n privilege.Needs) error {
	r, err := restrict(c, n)
	if err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	held := []any{}
	for _, p := range r.Parts {
		switch {
		case p.Off:
			log.Warn("sandbox: "+p.Name+" is switched off", "instead", "sandbox."+p.Name+": true")
		case !p.Held:
			log.Warn("sandbox: "+p.Name+" does not hold", "error", p.Err)
		default:
			held = append(held, p.Name, p.Says)
			if p.Lacks != "" {
				log.Warn("sandbox: "+p.Name+" holds in part", "lacks", p.Lacks)
			}
		}
	}
	if len(held) > 0 {
		log.Info("sandboxed", held...)
	}
	for _, w := range r.Warnings {
		log.Warn("sandbox: " + w)
	}
	return nil
}

// pipe is standard output; broken is called when its reader has gone away.
type pipe struct {
	w        io.Writer
	broken   func()
	isBroken atomic.Bool
}

// Unwrap is what it writes to.
func (p *pipe) Unwrap() io.Writer { return p.w }

func (p *pipe) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	if errors.Is(err, syscall.EPIPE) && !p.isBroken.Swap(true) {
		p.broken()
	}
	return n, err
}
