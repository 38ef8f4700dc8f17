package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"nepcoc/fleet"
	"nepcoc/internal/cli"
	"nepcoc/internal/files"
)

func newHub() *cobra.Command {
	var p place
	var o fleet.HubOptions
	var listen, store, web string
	cmd := &cobra.Command{
		Use:   "hub --fleet DIR [--listen HOST:PORT | --nats URL]",
		Short: "Move rollouts on, order, enrol cards",
		Long: `Hub moves rollouts on by what cards report. By itself it is the fleet's NATS server, too (--listen, --store); with --nats it uses servers that are there:
a cluster of three, each with the folder's nats-access.conf included. Any number of hubs may run: one leads, and another takes over within seconds.
All state is in the servers, none in the hub. It runs until SIGINT or SIGTERM.`,
		Example: `  nepcof hub --fleet /var/lib/nepcof/fleet --store /var/lib/nepcof/store --http :8443
  nepcof hub --fleet fleet --nats tls://a.example:4222,tls://b.example:4222,tls://c.example:4222 --replicas 3`,
		Args: cli.ExactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) (result error) {
			cluster := cmd.Flags().Changed("nats")
			if cluster && (cmd.Flags().Changed("listen") || cmd.Flags().Changed("store")) {
				return cli.UsageError("hub: --nats is for servers that are there, --listen and --store for one of its own")
			}
			if err := o.Check(); err != nil {
				return cli.UsageError("hub: %w", err)
			}
			a, err := p.open(cmd)
			if err != nil {
				return err
			}
			if err := a.CheckHub(); err != nil {
				return err
			}
			ctx, stop := untilSignal()
			defer stop()
			ctx, end := context.WithCancel(ctx)
			defer end()
			broken := make(chan error, 1)
			defer func() {
				select {
				case why := <-broken:
					result = errors.Join(result, why)
				default:
				}
			}()
			o.Log = newLog(cmd, slog.LevelInfo)
			if o.Name, err = os.Hostname(); err != nil {
				return err
			}
			url := p.url
			if !cluster {
				mine, err := only(store)
				if err != nil {
					return err
				}
				defer mine.Close()
				s, err := a.Serve(listen, store, o.Log, func(why error) {
					select {
					case broken <- why:
					default:
					}
					end()
				})
				if err != nil {
					return err
				}
				defer s.WaitForShutdown()
				defer s.Shutdown()
				go a.KeepAccounts(ctx, s, o.Log)
				address := s.Addr().(*net.TCPAddr)
				host := address.IP
				if host.IsUnspecified() {
					host = net.IPv4(127, 0, 0, 1)
				}
				url = "tls://" + net.JoinHostPort(host.String(), fmt.Sprint(address.Port))
				o.Log.Info("NATS server", "address", address.String(), "store", store)
			}
			h, err := untilThere(ctx, o.Log, func() (*fleet.Hub, error) {
				c, err := a.Dial(ctx, url, "hub "+o.Name, fleet.Lasting(o.Log))
				if err != nil {
					return nil, err
				}
				h, err := fleet.NewHub(ctx, c, o)
				if err != nil {
					c.Close()
				}
				return h, err
			})
			if err != nil {
				return err
			}
			defer h.Close()
			if web == "" {
				return h.Run(ctx)
			}
			l, err := net.Listen("tcp", web)
			if err != nil {
				return fmt.Errorf("--http: %w", err)
			}
			o.Log.Info("page and API", "address", l.Addr().String())
			ctx, cancel := context.WithCancel(ctx)
			served := make(chan error, 1)
			go func() {
				defer cancel()
				served <- h.ServeWeb(ctx, l)
			}()
			err = h.Run(ctx)
			cancel()
			return errors.Join(err, <-served)
		},
	}
	p.flags(cmd)
	cmd.Flags().StringVar(&listen, "listen", ":4222", "where its own NATS server listens")
	cmd.Flags().StringVar(&store, "store", "/var/lib/nepcof/store", "folder of its own NATS server: all that the fleet knows, and lines")
	cmd.Flags().StringVar(&web, "http", "", "serve the web page, API and metrics at this address, by TLS; view.token in the fleet's folder lets look, web.token act, too")
	cmd.Flags().IntVar(&o.Replicas, "replicas", 1, "how many of the servers store everything: 3 of a cluster")
	cmd.Flags().DurationVar(&o.LinesAge, "lines-age", 7*24*time.Hour, "how long lines are kept in the servers")
	cmd.Flags().Int64Var(&o.LinesBytes, "lines-bytes", 10<<30, "how much is kept of each group's lines, in bytes; the oldest are dropped, which sinks report")
	return cmd
}

// againTime is how long untilThere waits before it tries again.
var againTime = 2 * time.Second // changed by tests only

// untilThere begins something at the fleet's servers, and tries again while they start: those of a cluster answer nothing before they have chosen who leads.
// What they refuse for good (503 is for a while) is an error at once.
func untilThere[T any](ctx context.Context, log *slog.Logger, begin func() (T, error)) (T, error) {
	for begun := time.Now(); ; {
		t, err := begin()
		var api *jetstream.APIError
		if err == nil || ctx.Err() != nil || errors.As(err, &api) && api.Code != http.StatusServiceUnavailable || time.Since(begun) > askTime {
			return t, err
		}
		log.Warn("the servers don't answer", "why", err)
		select {
		case <-time.After(againTime):
		case <-ctx.Done():
		}
	}
}

// serve answers HTTP at --metrics until ctx ends. It returns once it listens.
func serve(ctx context.Context, log *slog.Logger, listen string, handler http.Handler) error {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("--metrics: %w", err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	log.Info("serving HTTP", "address", l.Addr().String())
	context.AfterFunc(ctx, func() { server.Close() })
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("HTTP ended", "why", err)
		}
	}()
	return nil
}

func newCard() *cobra.Command {
	var dir, enrol, config, socket, program string
	var size int64
	var report time.Duration
	cmd := &cobra.Command{
		Use:   "card [--enrol TOKEN]",
		Short: "Bring bundles to the agent on this card, and its lines to the hub",
		Long: `Card runs beside nepcod on each card. It fetches the bundle that it is ordered, has nepcod selftest judge it by the service's configuration, and puts it in the
bundle's place, where the agent takes it up. It takes the agent's lines from a socket, keeps them on disk while the servers are away
(up to --store-bytes; the oldest are dropped and counted), and reports how the agent is. The agent itself has no network connection.

With --enrol it joins the fleet by a token, and ends. In the agent's configuration:
    bundle: /var/lib/nepcof/model.nepco            # a file that card may write
    allow_rollback: /var/lib/nepcof/back.note      # likewise; for reasons to go back
    output:
      to: unix:/run/nepcof/lines.sock`,
		Example: `  sudo -u nepcof nepcof card --enrol - < card-07.token
  systemctl enable --now nepcof-card`,
		Args: cli.ExactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if enrol != "" {
				return enrolCard(cmd, dir, enrol)
			}
			if size < fleet.LeastStore || report < leastReport {
				return cli.UsageError("card: --store-bytes %d, --report %v: the least are %d and %v", size, report, fleet.LeastStore, leastReport)
			}
			agent, err := fleet.OpenNepcod(program, config, socket)
			if err != nil {
				return err
			}
			mine, err := only(dir)
			if err != nil {
				return err
			}
			defer mine.Close()
			ctx, stop := untilSignal()
			defer stop()
			log := newLog(cmd, slog.LevelInfo)
			store, err := fleet.OpenStore(ctx, filepath.Join(dir, "lines"), size, log)
			if err != nil {
				return err
			}
			defer store.Close()
			card, err := fleet.OpenCard(fleet.CardOptions{Dir: dir, Runner: agent, Report: report, Log: log, Lines: store})
			if err != nil {
				return err
			}
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			listening := make(chan error, 1)
			go func() {
				defer cancel()
				listening <- store.Listen(ctx, socket, func(err error) { log.Error("lines could not be stored", "why", err) })
			}()
			log.Info("card", "group", card.Group, "name", card.Name(), "socket", socket)
			err = card.Run(ctx)
			cancel()
			return errors.Join(err, <-listening)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&dir, "dir", "/var/lib/nepcof/card", "folder of this card: its key, what it was ordered, lines that wait")
	fl.StringVar(&enrol, "enrol", "", "join the fleet by this token, once; - is standard input")
	fl.StringVar(&config, "agent-config", "/etc/nepcod/nepcod.yaml", "the agent's configuration")
	fl.StringVar(&socket, "socket", "/run/nepcof/lines.sock", "where the agent's lines come from: its output.to is unix: and this")
	fl.StringVar(&program, "nepcod", "nepcod", "the agent's program")
	fl.Int64Var(&size, "store-bytes", 1<<30, "how much of the lines is kept while the servers are away")
	fl.DurationVar(&report, "report", 10*time.Second, "how often it reports at least")
	return cmd
}

// leastReport is how often a card may report at most.
const leastReport = 100 * time.Millisecond

func enrolCard(cmd *cobra.Command, dir, token string) error {
	text, err := files.All(token, 1<<20)
	if err != nil {
		return err
	}
	var t fleet.Token
	if err := json.Unmarshal(text, &t); err != nil || t.ID == "" {
		return fmt.Errorf("%s: no token of nepcof enrol", files.Show(token))
	}
	ctx, stop := asking()
	defer stop()
	if err := fleet.Enrol(ctx, dir, &t); err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: card %s of group %s; the token is used up\n", cli.Name(dir), t.Card, t.Group)
	return err
}

func newSink() *cobra.Command {
	var p place
	var o fleet.SinkOptions
	var metrics string
	cmd := &cobra.Command{
		Use:   "sink --group G --dir DIR",
		Short: "Write a group's lines to files, each once",
		Long: `Sink writes what a group's cards send to DIR/lines.ndjson, each line once and with the card's name in it ("nepco_card"). Full files are called lines-NUMBER.ndjson.
Where lines are missing (a card's store was full, or the sink was away for longer than the servers keep lines), a line "nepco_gap" says how many. One sink
per folder; it goes on where it ended. packaging/fleet has configuration for Vector and Fluent Bit to read the files.`,
		Example: `  nepcof sink --fleet fleet --group racks --dir /var/log/nepcof/racks --keep 30 --metrics :9478`,
		Args:    cli.ExactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needed(cmd, "group", "dir"); err != nil {
				return err
			}
			if err := o.Check(); err != nil {
				return cli.UsageError("sink: %w", err)
			}
			mine, err := only(o.Dir)
			if err != nil {
				return err
			}
			defer mine.Close()
			ctx, stop := untilSignal()
			defer stop()
			o.Log = newLog(cmd, slog.LevelInfo)
			var c *fleet.Client
			if _, err = p.open(cmd); err == nil {
				c, err = untilThere(ctx, o.Log, func() (*fleet.Client, error) { return p.dial(ctx, cmd, fleet.Lasting(o.Log)) })
			}
			if err != nil {
				return err
			}
			defer c.Close()
			s, err := fleet.OpenSink(c, o)
			if err != nil {
				return err
			}
			var counts atomic.Pointer[fleet.SinkCounts]
			counts.Store(&fleet.SinkCounts{})
			if metrics != "" {
				if metrics[0] == ':' {
					metrics = "127.0.0.1" + metrics
				}
				err := serve(ctx, o.Log, metrics, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { sinkMetrics(w, o.Group, counts.Load()) }))
				if err != nil {
					return err
				}
			}
			return s.Run(ctx, func(n fleet.SinkCounts) {
				if before := counts.Load(); n.Missing > before.Missing {
					o.Log.Warn("lines are missing", "group", o.Group, "lines", n.Missing-before.Missing)
				}
				counts.Store(&n)
			})
		},
	}
	p.flags(cmd)
	groupFlag(cmd, &o.Group, "group whose lines are written")
	fl := cmd.Flags()
	fl.StringVar(&o.Dir, "dir", "", "folder of the files")
	fl.Int64Var(&o.Size, "size", 256<<20, "when a new file is begun, in bytes; 0: never")
	fl.IntVar(&o.Keep, "keep", 0, "how many full files are kept (default: all)")
	fl.StringVar(&metrics, "metrics", "", "serve /metrics at this address; :PORT is on the loopback")
	return cmd
}

// sinkMetrics writes a sink's counts in Prometheus' form.
func sinkMetrics(w io.Writer, group string, n *fleet.SinkCounts) {
	for _, m := range []struct {
		name, kind, help string
		value            uint64
	}{
		{"lines_total", "counter", "Lines written.", n.Lines},
		{"lines_again_total", "counter", "Lines that came twice and were left out.", n.Again},
		{"lines_missing_total", "counter", "Lines that were dropped before they came here.", n.Missing},
		{"batches_refused_total", "counter", "Messages that no card of the group sealed.", n.Refused},
		{"lag_messages", "gauge", "Messages in the servers that aren't written yet.", n.Lag},
	} {
		fmt.Fprintf(w, "# HELP nepcof_sink_%s %s\n# TYPE nepcof_sink_%s %s\nnepcof_sink_%s{group=%q} %d\n", m.name, m.help, m.name, m.kind, m.name, group, m.value)
	}
}
