package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"nepcoc/internal/cli"
	"nepcoc/internal/files"
	"nepcoc/internal/plural"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/load"
)

// loadFlags are those of nepcod load.
type loadFlags struct {
	iface, bundle, eve, of               string
	rate, packetRate, max, loss, precise float64
	poisson, find, json                  bool
	length, gap, late, patience, longest time.Duration
}

func newLoad() *cobra.Command {
	var f loadFlags
	cmd := &cobra.Command{
		Use:   "load CAPTURE --iface IF --rate N [--bundle B --eve FILE]",
		Short: "Send a capture's flows at a rate, and judge the verdicts under load",
		Long: `Load sends the flows of a capture from an interface, both directions, again and again, each time between hosts of new
addresses (198.18.0.0/15 and 2001:2::/48, which are set apart for measuring), so that all of them are new flows to
the agent that listens at the other end. Checksums are right, frames go to nobody's hardware address.

With --bundle and --eve, the events that the agent writes, it says what became of each flow: verdicts that are lost, late, or have
another label than the flow has in the capture at rest (nepcoc run). --find looks for the highest rate at which no more than --loss
of the verdicts are. Where the events are on another machine, judge them later: load CAPTURE --of REPORT --bundle B --eve FILE, where REPORT
is what --json printed.

It sends what it is told to where it is told to: use a link that nothing else needs.

` + cli.ExitCodes("all was sent, and no more verdicts than --loss were lost, late or other", "an input is bad, the rate could\nnot be kept, or more were"),
		Example: `  nepcod load test.pcap --iface veth0 --rate 5000 --length 30s
  nepcod load test.pcap --iface p0 --rate 20000 --poisson --bundle model.nepco --eve /var/log/nepcod/eve.json
  nepcod load test.pcap --iface p0 --find --bundle model.nepco --eve unix:/run/nepcod/eve.sock`,
		Args: cli.ExactArgs("CAPTURE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			r, err := f.run(ctx, cmd.ErrOrStderr(), args[0])
			if err != nil {
				return err
			}
			if f.json {
				err = cli.JSON(cmd.OutOrStdout(), r)
			} else {
				r.print(cmd.OutOrStdout())
			}
			if err != nil {
				return err
			}
			return r.failure(&f)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.iface, "iface", "", "interface to send from; there is no default")
	fl.Float64Var(&f.rate, "rate", 1000, "flows begun per second; with --find: the first rate that is tried")
	fl.Float64Var(&f.packetRate, "packet-rate", 0, "packets per second, instead of --rate")
	fl.BoolVar(&f.poisson, "poisson", false, "flows begin at random, independent of each other, instead of evenly")
	fl.DurationVar(&f.length, "length", 10*time.Second, "how long flows are begun; with --find: at each rate")
	fl.DurationVar(&f.gap, "gap", 10*time.Millisecond, "longest pause between two packets of a flow")
	fl.StringVar(&f.bundle, "bundle", "", "bundle that the agent runs: what verdicts must be")
	fl.StringVar(&f.eve, "eve", "", "where the agent's EVE events come from: the file that it writes, or unix:SOCKET, where load listens")
	fl.DurationVar(&f.late, "late", 100*time.Millisecond, "a verdict is late that comes later after the packet that decided it (latency_us)")
	fl.Float64Var(&f.loss, "loss", 0.001, "share of the verdicts that may be lost, late or other than at rest")
	fl.DurationVar(&f.patience, "patience", 3*time.Second, "how long no verdict may come before those that are missing are lost")
	fl.DurationVar(&f.longest, "wait", 10*time.Second, "longest timer of the contract that is waited for at the end; verdicts that wait for longer ones are not judged")
	fl.BoolVar(&f.find, "find", false, "look for the highest rate that holds")
	fl.Float64Var(&f.max, "max-rate", 1e7, "with --find: highest rate that is tried, in flows/s")
	fl.Float64Var(&f.precise, "precision", 0.05, "with --find: how near to the highest rate, as a share of it")
	fl.StringVar(&f.of, "of", "", "send nothing: judge the run that this report (--json) is of, by the events in --eve")
	fl.BoolVar(&f.json, "json", false, "print JSON")
	return cmd
}

// maxLength bounds a run.
const maxLength = 24 * time.Hour

// check refuses a command line that can't be meant.
func (f *loadFlags) check(cmd *cobra.Command) error {
	changed := cmd.Flags().Changed
	judged := f.bundle != "" && f.eve != ""
	switch {
	case f.of != "" && (f.iface != "" || f.find || !judged):
		return cli.UsageError("load: --of sends nothing: it goes with --bundle and --eve, not with --iface or --find")
	case f.of == "" && f.iface == "":
		return cli.UsageError("load: --iface is missing: name the interface to send from (ip link lists them)")
	case (f.bundle != "") != (f.eve != ""):
		return cli.UsageError("load: --bundle and --eve go together")
	case f.find && !judged:
		return cli.UsageError("load: --find needs --bundle and --eve: without verdicts nobody knows what was lost")
	case changed("rate") && changed("packet-rate"):
		return cli.UsageError("load: --rate and --packet-rate exclude each other")
	case f.length <= 0 || f.length > maxLength:
		return cli.UsageError("load: --length %v is not within 1ns..%v", f.length, maxLength)
	case f.gap < 0 || f.late <= 0 || f.patience <= 0 || f.longest < 0:
		return cli.UsageError("load: --gap, --late, --patience and --wait want times above 0")
	case !(f.loss >= 0 && f.loss < 1):
		return cli.UsageError("load: --loss %g is not within 0..1", f.loss)
	case !(f.precise >= 0.001 && f.precise < 1):
		return cli.UsageError("load: --precision %g is not within 0.001..1", f.precise)
	}
	for _, r := range []struct {
		name string
		v    float64
	}{{"rate", f.rate}, {"packet-rate", f.packetRate}, {"max-rate", f.max}} {
		if (changed(r.name) || r.name == "rate") && !(r.v >= 0.001 && r.v <= 1e9) {
			return cli.UsageError("load: --%s %g is not within 0.001..1e9", r.name, r.v)
		}
	}
	return nil
}

// loadReport is what `nepcod load --json` prints.
type loadReport struct {
	Capture   string         `json:"capture"`
	Interface string         `json:"interface,omitempty"`
	Flows     int            `json:"capture_flows"`
	Packets   float64        `json:"packets_per_flow"`
	Bytes     float64        `json:"bytes_per_packet"`
	Left      map[string]int `json:"left_out,omitempty"` // frames, by why
	TooLarge  int            `json:"flows_too_large,omitempty"`
	// NotCompared are the capture's flows whose labels depend on addresses or pauses; nil where none are judged.
	NotCompared *int `json:"flows_not_compared,omitempty"`
	// Gap, Idle and Tunnels are what the flows were read by; see load.Options.
	Gap     float64 `json:"gap_ms"`
	Idle    float64 `json:"idle_ms"`
	Tunnels bool    `json:"tunnels"`

	Runs []loadRun `json:"runs"`
	// Capacity is what --find has found.
	Capacity *capacity `json:"capacity,omitempty"`

	judged bool
	loss   float64
}

// loadRun is one rate.
type loadRun struct {
	Rate        float64 `json:"offered_flows_per_s"`
	PacketRate  float64 `json:"offered_packets_per_s"`
	Poisson     bool    `json:"poisson"`
	Seconds     float64 `json:"seconds"`
	SentRate    float64 `json:"sent_flows_per_s"`
	SentPackets float64 `json:"sent_packets_per_s"`
	BehindMS    float64 `json:"behind_ms"` // time that the sender could not keep up
	Kept        bool    `json:"rate_kept"`
	// Ended is when the last packet was sent, by this machine's clock.
	Ended time.Time `json:"ended"`
	load.Sent
	Verdicts *load.Verdicts `json:"verdicts,omitempty"`
}

type capacity struct {
	Flows   float64 `json:"flows_per_s"`
	Packets float64 `json:"packets_per_s"`
	// Limited: it is the sender's, which could not send faster.
	Limited bool `json:"sender_limited"`
	// Waiting is the share of the verdicts that wait for longer than a rate was tried: they cost nothing in that time.
	Waiting float64 `json:"share_waiting"`
}

// findTries is how often --find tries a rate until it holds: a machine has other things to do now and then.
const findTries = 3

// behindShare is how much of a run the sender may be behind.
const behindShare = 0.1

func (f *loadFlags) run(ctx context.Context, stderr io.Writer, path string) (*loadReport, error) {
	var b *bundle.Bundle
	var before *loadReport
	var err error
	if f.of != "" {
		if before, err = readLoadReport(f.of); err != nil {
			return nil, err
		}
	}
	o := load.Options{Gap: f.gap}
	if f.bundle != "" {
		if b, err = files.Read(f.bundle, bundle.Read); err != nil {
			return nil, err
		}
		opt, err := classify.FlowOptions(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.bundle, err)
		}
		o.Tunnels, o.Idle = opt.Tunnels, opt.Encoder.Contract().Idle
	}
	if before != nil {
		o.Gap, o.Idle, o.Tunnels = time.Duration(before.Gap*1e6), time.Duration(before.Idle*1e6), before.Tunnels
	}
	if files.IsStdin(path) && b != nil {
		return nil, fmt.Errorf("standard input: can't be read twice, to be sent and to be judged: give a file")
	}
	progress := cli.NewProgress(stderr)
	defer progress.Done()
	o.Progress = func(n int) { progress.Update("reading packets", n, 0) }
	script, err := readScript(path, o)
	if err != nil {
		return nil, err
	}
	r := &loadReport{Capture: path, Interface: f.iface, Left: script.Left, Gap: float64(o.Gap) / 1e6, Idle: float64(o.Idle) / 1e6, Tunnels: o.Tunnels, judged: b != nil, loss: f.loss}
	var wire *load.Interface
	if before == nil {
		if wire, err = load.Open(f.iface); err != nil {
			return nil, err
		}
		defer wire.Close()
		if load.HasDefaultRoute(f.iface) {
			progress.Done()
			fmt.Fprintf(stderr, "nepcod: warning: %s is this machine's way to other networks: what is sent from it may get there; use a link of its own\n", cli.Name(f.iface))
		}
		r.TooLarge = script.Fit(wire.MTU)
	} else if r.TooLarge = before.TooLarge; r.TooLarge > 0 {
		return nil, fmt.Errorf("%s: %s left out for the interface's MTU: judge while sending", f.of, plural.Of(r.TooLarge, "flow")+plural.Verb(r.TooLarge, " was", " were"))
	}
	if len(script.Flows) == 0 {
		return nil, fmt.Errorf("%s: each flow has packets larger than the interface's MTU, %d: ip link set %s mtu 9000, or capture where they are not merged (ethtool -K IF gro off)", path, wire.MTU, f.iface)
	}
	r.Flows, r.Packets = len(script.Flows), script.Packets()
	bytes := 0
	for i := range script.Flows {
		bytes += script.Flows[i].Bytes()
	}
	r.Bytes = float64(bytes) / float64(r.Flows) / r.Packets
	var events *load.Events
	if b != nil {
		progress.Update("classifying", 0, 0)
		not, err := expect(script, b, path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		r.NotCompared = &not
		if events, err = load.OpenEvents(f.eve, before != nil); err != nil {
			return nil, err
		}
		defer events.Close()
	}
	if before != nil {
		for _, run := range before.Runs {
			if run.Failed > 0 {
				return nil, fmt.Errorf("%s: packets were refused by the system: judge while sending", f.of)
			}
			j := script.NewJudge(&run.Sent, f.late)
			if _, err := events.Read(j.Event); err != nil {
				return nil, err
			}
			// Verdicts of timers that were not over when the file was written, or copied, are not lost.
			after := maxLength
			if info, err := os.Stat(f.eve); err == nil && !run.Ended.IsZero() {
				after = max(info.ModTime().Sub(run.Ended), 0)
			}
			v := j.Verdicts(after)
			run.Verdicts = &v
			r.Runs = append(r.Runs, run)
			events.Close()
			if events, err = load.OpenEvents(f.eve, true); err != nil {
				return nil, err
			}
		}
		return r, nil
	}
	rate := f.rate
	if f.packetRate > 0 {
		rate = f.packetRate / r.Packets
	}
	clock := load.NewMachine()
	next := rand.Uint32() // so that a run after this one has other flows
	once := func(rate float64) (*loadRun, error) {
		how := load.Rate{Flows: rate, Poisson: f.poisson, Length: f.length, Seed: uint64(next)}
		if f.find {
			progress.Update(fmt.Sprintf("%.0f flows/s", rate), 0, 0)
		} else {
			progress.Update("sending", 0, 0)
		}
		sent, err := script.Run(ctx, how, next, clock, wire)
		if err != nil {
			return nil, err
		}
		next += uint32(sent.Flows)
		s := sent.Took.Seconds()
		run := loadRun{
			Rate: rate, PacketRate: rate * r.Packets, Poisson: f.poisson, Seconds: s, SentRate: float64(sent.Flows) / s, SentPackets: float64(sent.Packets) / s,
			BehindMS: float64(sent.Behind) / 1e6, Kept: float64(sent.Behind) <= behindShare*float64(sent.Took), Ended: time.Now().UTC(), Sent: *sent,
		}
		if events != nil {
			progress.Update("waiting for verdicts", 0, 0)
			v, err := script.NewJudge(sent, f.late).Wait(ctx, events, clock, f.patience, f.longest)
			if err != nil {
				return nil, err
			}
			run.Verdicts = &v
		}
		r.Runs = append(r.Runs, run)
		return &r.Runs[len(r.Runs)-1], ctx.Err()
	}
	if !f.find {
		_, err := once(rate)
		if err != nil && !errors.Is(err, context.Canceled) {
			return nil, err
		}
		return r, nil
	}
	reached := map[float64]float64{} // what was sent, by what was offered
	best, limited, err := load.Find(rate, f.max, f.precise, func(rate float64) (holds, offered bool, err error) {
		for range findTries {
			run, err := once(rate)
			if err != nil {
				return false, false, err
			}
			if holds, offered = run.holds(f.loss), run.Kept; holds && offered {
				reached[rate] = run.SentRate
				break
			}
		}
		return holds, offered, nil
	})
	if err != nil {
		return nil, err
	}
	r.Capacity = &capacity{Flows: reached[best], Packets: reached[best] * r.Packets, Limited: limited, Waiting: script.Waiting(f.length)}
	return r, nil
}

func readScript(path string, o load.Options) (*load.Script, error) {
	src, err := capture.Open(path)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	s, err := load.ReadScript(src, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

func expect(s *load.Script, b *bundle.Bundle, path string) (int, error) {
	src, err := capture.Open(path)
	if err != nil {
		return 0, err
	}
	defer src.Close()
	return s.Expect(b, src)
}

// maxSent bounds the flows of a run: a day at 24,800 a second.
const maxSent = 1 << 31

// readLoadReport reads what --json printed.
func readLoadReport(path string) (*loadReport, error) {
	data, err := files.All(path, 64<<20)
	if err != nil {
		return nil, err
	}
	r := new(loadReport)
	impossible := func(run loadRun) bool { return run.Sent.Flows < 0 || run.Sent.Flows > maxSent }
	if err := json.Unmarshal(data, r); err != nil || len(r.Runs) == 0 || slices.ContainsFunc(r.Runs, impossible) {
		return nil, fmt.Errorf("%s: is no report of nepcod load --json", path)
	}
	return r, nil
}

// bad is how many verdicts are not as they should be.
func (r *loadRun) bad() int { return r.Verdicts.Lost + r.Verdicts.Late + r.Verdicts.Different }

// holds tells whether no more than a share of the verdicts are lost, late or other.
func (r *loadRun) holds(loss float64) bool {
	return float64(r.bad()) <= loss*float64(r.Verdicts.Expected)
}

func (r *loadReport) failure(f *loadFlags) error {
	if r.Capacity != nil {
		if r.Capacity.Flows == 0 {
			return fmt.Errorf("no rate holds: at the lowest, %.3g flows/s, more than %g of the verdicts are lost, late or other", r.Runs[len(r.Runs)-1].Rate, f.loss)
		}
		return nil
	}
	for i := range r.Runs {
		run := &r.Runs[i]
		if f.of == "" && !run.Kept {
			return fmt.Errorf("the rate was not kept: this machine's sender was behind for %.0f ms of %.1f s: lower --rate, or give it a core of its own (taskset)", run.BehindMS, run.Seconds)
		}
		if run.Failed > 0 {
			return fmt.Errorf("%s refused by the system: lower --rate", plural.Of(run.Failed, "packet")+plural.Verb(run.Failed, " was", " were"))
		}
		if run.Verdicts != nil && !run.holds(f.loss) {
			return fmt.Errorf("of %s %d %s lost, %d late and %d other than at rest: more than %g (--loss)", plural.Of(run.Verdicts.Expected, "verdict"), run.Verdicts.Lost, plural.Verb(run.Verdicts.Lost, "is", "are"), run.Verdicts.Late, run.Verdicts.Different, f.loss)
		}
	}
	return nil
}

func (r *loadReport) print(w io.Writer) {
	fmt.Fprintf(w, "capture    %s: %s, %.1f packets a flow, %.0f bytes a packet\n", cli.Name(r.Capture), plural.Of(r.Flows, "flow"), r.Packets, r.Bytes)
	var left []string
	for _, why := range slices.Sorted(maps.Keys(r.Left)) {
		left = append(left, fmt.Sprintf("%s (%s)", plural.Of(r.Left[why], "frame"), why))
	}
	if r.TooLarge > 0 {
		left = append(left, fmt.Sprintf("%s with packets larger than the interface's MTU", plural.Of(r.TooLarge, "flow")))
	}
	if left != nil {
		fmt.Fprintf(w, "left out   %s\n", strings.Join(left, ", "))
	}
	if r.NotCompared != nil && *r.NotCompared > 0 {
		fmt.Fprintf(w, "compared   all but %s, whose labels depend on addresses or on pauses that were made shorter\n", plural.Of(*r.NotCompared, "flow"))
	}
	if r.Capacity == nil {
		for i := range r.Runs {
			r.Runs[i].print(w)
		}
		return
	}
	rows := [][]string{{"flows/s", "packets/s", "verdicts", "lost", "late", "other label", "waiting", "p50 us", "p99 us", ""}}
	for i := range r.Runs {
		run, v := &r.Runs[i], r.Runs[i].Verdicts
		word := "holds"
		switch {
		case !run.Kept:
			word = "not kept by the sender"
		case !run.holds(r.loss):
			word = "too much"
		}
		rows = append(rows, []string{
			fmt.Sprintf("%.0f", run.Rate), fmt.Sprintf("%.0f", run.PacketRate), fmt.Sprint(v.Expected), fmt.Sprint(v.Lost), fmt.Sprint(v.Late), fmt.Sprint(v.Different), fmt.Sprint(v.Waiting),
			number(v.P50), number(v.P99), word,
		})
	}
	cli.Table(w, rows)
	what := "capacity"
	if r.Capacity.Limited {
		what = "at least (the sender's bound)"
	}
	fmt.Fprintf(w, "%s   %.0f flows/s, %.0f packets/s\n", what, r.Capacity.Flows, r.Capacity.Packets)
	if s := r.Capacity.Waiting; s > 0 {
		fmt.Fprintf(w, "note       %.0f %% of the verdicts wait for a timer that is longer than a rate was tried: their inference came later, and is not in the figure; a longer --length has it\n", 100*s)
	}
}

// number is a figure that there may not be.
func number(x float64) string {
	if x != x {
		return "-"
	}
	return fmt.Sprintf("%.0f", x)
}

func (r *loadRun) print(w io.Writer) {
	pace := "evenly"
	if r.Poisson {
		pace = "at random"
	}
	fmt.Fprintf(w, "offered    %.0f flows/s, %.0f packets/s, %s, for %.1f s\n", r.Rate, r.PacketRate, pace, r.Seconds)
	kept := "the pace was kept"
	if r.BehindMS > 0 {
		kept = fmt.Sprintf("%.0f ms behind in all", r.BehindMS)
	}
	fmt.Fprintf(w, "sent       %s (%.0f/s), %s (%.0f/s), %s; %d failed; %s\n", plural.Of(r.Flows, "flow"), r.SentRate, plural.Of(r.Packets, "packet"), r.SentPackets, cli.Bytes(r.Bytes), r.Failed, kept)
	v := r.Verdicts
	if v == nil {
		return
	}
	fmt.Fprintf(w, "verdicts   %d expected = %d as at rest + %d other (%d of them marked) + %d not compared + %d lost + %d that wait for a timer; %d twice\n",
		v.Expected, v.Right, v.Different, v.DifferentMarked, v.NotCompared, v.Lost, v.Waiting, v.Extra)
	if v.Waiting > 0 {
		fmt.Fprintf(w, "note       of those that wait nothing is known: they come when their timer is over (docs/plan.md)\n")
	}
	fmt.Fprintf(w, "latency    p50 %s us, p99 %s us, longest %s us, from the deciding packet to the verdict, of %d; %d late\n", number(v.P50), number(v.P99), number(v.Worst), v.Timed, v.Late)
	for _, d := range v.Examples {
		fmt.Fprintf(w, "other      %s: %s at rest, %s here\n", d.Flow, cli.Name(d.Want), cli.Name(d.Got))
	}
}
