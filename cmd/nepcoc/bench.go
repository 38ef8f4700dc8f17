package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"nepcoc/internal/cli"
	"nepcoc/internal/files"
	"nepcoc/internal/plural"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/engine"
)

func newBench() *cobra.Command {
	var threads, length, chunk int
	var evade bool
	var pcap, labels string
	var seconds float64
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "bench BUNDLE",
		Short: "Measure the time per flow on this machine",
		Long: `bench classifies inputs of random tokens, one after the other per thread, and prints
the median and the 99th percentile of the time per flow, flows per second of all
threads together, and the share of each step. Random tokens read the token table all
over, as the worst traffic would.

With --stream N it also measures how long the verdict takes after the last chunk, when
a flow's tokens come N at a time, against the same length at once.

With --evasion it measures no time: it changes the flows of a labelled capture in all the ways in which
senders, networks and mirrors can (what hosts drop, repeat, cut otherwise, fragment, reorder), and says
how many verdicts stay right and how many of the others carry a mark.

Figures are of this machine, now: compare only figures of one run.
` + exitCodes,
		Example: `  nepcoc bench model.nepco
  nepcoc bench model.nepco --threads 2 --length 32 --json
  nepcoc bench model.nepco --stream 32
  nepcoc bench model.nepco --evasion --pcap test.pcap --labels test.csv`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := files.Read(args[0], bundle.Read)
			if err != nil {
				return err
			}
			if evade != (pcap != "") || evade != (labels != "") {
				return cli.UsageError("--evasion, --pcap and --labels go together")
			}
			if evade {
				progress := cli.NewProgress(cmd.ErrOrStderr())
				r, err := benchEvasion(b, pcap, labels, progress)
				progress.Done()
				if err != nil {
					return err
				}
				if asJSON {
					return cli.JSON(cmd.OutOrStdout(), r)
				}
				r.print(cmd.OutOrStdout())
				return nil
			}
			if length == 0 { // not given: see cli.Run
				length = b.Program.Length
			}
			switch {
			case length < 1 || length > b.Program.Length:
				return cli.UsageError("--length %d: the model takes 1 to %d tokens", length, b.Program.Length)
			case chunk < 0 || chunk > length:
				return cli.UsageError("--stream %d: a flow of %d tokens comes in chunks of 1 to %d", chunk, length, length)
			case threads < 1 || threads > 1024:
				return cli.UsageError("--threads %d is not within 1..1024", threads)
			case !(seconds > 0 && seconds <= 3600):
				return cli.UsageError("--seconds %g: want more than 0 and at most 3600", seconds)
			}
			r, err := bench(b, threads, length, chunk, time.Duration(seconds*float64(time.Second)))
			if err != nil {
				return err
			}
			if asJSON {
				return cli.JSON(cmd.OutOrStdout(), r)
			}
			r.print(cmd.OutOrStdout())
			return nil
		},
	}
	fl := cmd.Flags()
	fl.IntVar(&threads, "threads", 1, "workers, each with memory of its own, sharing the bundle")
	fl.IntVar(&length, "length", 0, "tokens per flow (default: a full input)")
	fl.IntVar(&chunk, "stream", 0, "also measure flows that come in chunks of this many tokens")
	fl.Float64Var(&seconds, "seconds", 2, "how long to measure")
	fl.BoolVar(&evade, "evasion", false, "change the flows of --pcap and say what becomes of their verdicts")
	fl.StringVar(&pcap, "pcap", "", "with --evasion: capture of the flows")
	fl.StringVar(&labels, "labels", "", "with --evasion: CSV of the capture's labels")
	fl.BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

// benchReport are the figures of one run.
type benchReport struct {
	Kernel      string      `json:"kernel"`
	Threads     int         `json:"threads"`
	Length      int         `json:"length"`
	Flows       int         `json:"flows"`
	P50         float64     `json:"p50_us"`
	P99         float64     `json:"p99_us"`
	FlowsPerSec float64     `json:"flows_per_s"`
	BindMS      float64     `json:"bind_ms"`
	Steps       []stepShare `json:"steps"`
	// Stream is nil where it was not asked for.
	Stream *streamReport `json:"stream,omitempty"`
}

// stepShare is what a step takes in the mean, with the clock read after each step: the sum is no quantile
// of whole flows.
type stepShare struct {
	Step  string  `json:"step"`
	US    float64 `json:"mean_us"`
	Share float64 `json:"share"`
}

// benchInputs is the number of different inputs a worker cycles through.
const benchInputs = 64

func bench(b *bundle.Bundle, threads, length, chunk int, d time.Duration) (*benchReport, error) {
	start := time.Now()
	e, err := engine.Bind(b.Program, engine.Options{})
	if err != nil {
		return nil, err
	}
	r := &benchReport{Kernel: e.KernelPath(), Threads: threads, Length: length, BindMS: float64(time.Since(start)) / 1e6}
	times := make([][]time.Duration, threads)
	errs := make([]error, threads)
	var wg sync.WaitGroup
	begin := time.Now()
	for w := range threads {
		wg.Go(func() { times[w], errs[w] = benchWorker(e, b.Program, uint64(w), length, d) })
	}
	wg.Wait()
	elapsed := time.Since(begin)
	var all []time.Duration
	for w := range threads {
		if errs[w] != nil {
			return nil, errs[w]
		}
		all = append(all, times[w]...)
	}
	slices.Sort(all)
	us := func(q float64) float64 { return float64(all[int(q*float64(len(all)-1))]) / 1e3 }
	r.Flows, r.P50, r.P99 = len(all), us(0.5), us(0.99)
	r.FlowsPerSec = float64(len(all)) / elapsed.Seconds()
	if r.Steps, err = shares(e, b.Program, length); err == nil && chunk > 0 {
		r.Stream, err = benchStream(e, b.Program, length, chunk, d)
	}
	return r, err
}

// benchTokens draws the inputs of one worker.
func benchTokens(p *bundle.Program, seed uint64, length int) [][]int32 {
	rng := rand.New(rand.NewPCG(seed, 17))
	in := make([][]int32, benchInputs)
	for i := range in {
		in[i] = make([]int32, p.Length)
		for k := range length {
			in[i][k] = int32(rng.IntN(p.Vocab))
		}
		for range p.Sides {
			in[i] = append(in[i], int32(rng.IntN(bundle.SideIDs)))
		}
	}
	return in
}

func benchWorker(e *engine.Engine, p *bundle.Program, seed uint64, length int, d time.Duration) ([]time.Duration, error) {
	ctx, out, in := e.NewContext(), e.NewOutput(), benchTokens(p, seed, length)
	for _, tokens := range in { // warm up
		if err := ctx.Run(tokens, length, out); err != nil {
			return nil, err
		}
	}
	times := make([]time.Duration, 0, 1<<16)
	end := time.Now().Add(d)
	for i := 0; ; i++ {
		t := time.Now()
		if t.After(end) && len(times) > 0 {
			return times, nil
		}
		if err := ctx.Run(in[i%benchInputs], length, out); err != nil {
			return nil, err
		}
		times = append(times, time.Since(t))
	}
}

// shares runs with the clock read after every step.
func shares(e *engine.Engine, p *bundle.Program, length int) ([]stepShare, error) {
	ctx, out := e.NewContext(), e.NewOutput()
	ctx.Profile = &engine.Profile{}
	for range 10 {
		for _, tokens := range benchTokens(p, 0, length) {
			if err := ctx.Run(tokens, length, out); err != nil {
				return nil, err
			}
		}
	}
	total := 0.0
	for _, ns := range ctx.Profile.Nanoseconds {
		total += float64(ns)
	}
	var s []stepShare
	for i, name := range e.StepNames() {
		ns := float64(ctx.Profile.Nanoseconds[i])
		s = append(s, stepShare{name, ns / float64(ctx.Profile.Runs) / 1e3, ns / total})
	}
	return s, nil
}

func (r *benchReport) print(w io.Writer) {
	fmt.Fprintf(w, "%s of %s, %s, kernels %s, bound in %.1f ms\n", plural.Of(r.Flows, "flow"), plural.Of(r.Length, "token"), plural.Of(r.Threads, "thread"), r.Kernel, r.BindMS)
	fmt.Fprintf(w, "  p50 %.1f us, p99 %.1f us, %.0f flows/s\n", r.P50, r.P99, r.FlowsPerSec)
	if r.Stream != nil {
		r.Stream.print(w)
	}
	rows := [][]string{{"step", "mean us", "share"}}
	for _, s := range r.Steps {
		rows = append(rows, []string{s.Step, fmt.Sprintf("%.2f", s.US), fmt.Sprintf("%.1f %%", 100*s.Share)})
	}
	cli.Table(w, rows)
}
