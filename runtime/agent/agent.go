// Package agent is the daemon's pipeline: packets in, verdicts out, and
// everything that was not done counted.
//
//	source -> receiver -> batch -> worker -> chunk -> output
//
// A receiver (one thread per source) decodes frames in place and deals packets
// out to workers by a hash that is the same for both directions of a flow. A
// worker owns its flows: table, engine context, records. An output goroutine
// writes the lines. Batches and chunks are made at the start and go round, so
// nothing is allocated per packet or per flow, memory is bounded, and a queue
// that stays full shows as a drop that is counted: the packet path waits for it only
// while the ring behind it has room, a second at most. Where the source is a file the
// receiver waits for as long as it takes.
//
// Inference runs in the worker, between packets: a flow takes some tens of
// microseconds, less than handing it to another thread and back would add
// under load, and the batches in front of a worker ride out its flows.
// Likewise, tokens are kept as bytes and run in one go when the flow is ready:
// running them as packets arrive would save part of one inference off the last
// packet's latency, for 4 kB more per flow and an engine call per packet.
package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/drift"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// Options of an Agent.
type Options struct {
	// Sources, one receive thread each.
	Sources []capture.Source
	Model   *Model
	Workers int // 0: 1
	// FlowsPerWorker is the capacity of each worker's table; 0: the table's default.
	FlowsPerWorker int
	// Queue is the number of batches of each worker, 0: DefaultQueue.
	Queue int
	// Lossless makes receivers and workers wait for room where they would drop:
	// for files.
	Lossless bool
	// View is what to read otherwise than the bundle says. With tunnels and several sources the
	// two directions of a flow may come through different ones, and a little out of order.
	View bundle.ViewOverride
	// CommunityIDSeed is that of the events' Community IDs.
	CommunityIDSeed uint16
	// Unknown overrides the bundle's thresholds, if set.
	Unknown *float64
	// Alerts are the labels that raise an EVE alert.
	Alerts []string
	Format Format // nil: EVE
	// Totals writes a "flow" event when a flow has ended, with all that it carried; the verdicts' own
	// events are "nepco" then. Only with Format EVE.
	Totals bool
	// Explain says in each record what its verdicts stand on.
	Explain bool
	Sink    io.Writer // where lines go
	// Chunks is the number of buffers towards the sink, 0: DefaultChunks.
	Chunks int
	// Drain bounds what happens between the end of intake and Run's return.
	Drain time.Duration // 0: DefaultDrain
	// Drift says how flows are compared with those of calibration (see runtime/drift), nil: not at all. DriftEvents writes what
	// it finds to the sink, too, in EVE's form.
	Drift       *drift.Options
	DriftEvents bool
	// Keep is where the packets of flows go whose verdict is unknown, nil: nowhere.
	Keep *KeepConfig
	// Health is when losses are a problem, nil: DefaultHealth.
	Health *HealthConfig
	// Actions are what is done about verdicts, nil: nothing. They are told in EVE's form.
	Actions *Actions
	Log     *slog.Logger // nil: none
}

// Defaults of Options.
const (
	DefaultQueue  = 64
	DefaultChunks = 64
	DefaultDrain  = 10 * time.Second
)

// Agent is a pipeline. Run runs it once.
type Agent struct {
	opt       Options
	start     time.Time
	receivers []*receiver
	workers   []*worker
	out       *output
	kept      *keepFile // nil: flows are not kept
	acts      *actions  // nil: nothing is done

	model     atomic.Pointer[Model]
	copyBytes atomic.Int64
	tunnels   atomic.Bool // are opened; see setModel
	hosts     atomic.Bool // packets are checked as hosts do
	shards    flow.Seed   // of the hash that deals flows out to workers; a capture is dealt out the same way every time
	swapMu    sync.Mutex
	swaps     atomic.Uint64
	refused   atomic.Uint64
	losses    losses
	paces     paces
	drift     atomic.Pointer[watched]
	probation probation
	events    events

	emergencies atomic.Int64 // tables that are in one
	shedBefore  atomic.Uint64

	stopping atomic.Bool     // no more frames are wanted
	hurry    chan struct{}   // closed when the drain's time is over
	errs     [2]atomic.Int64 // when complain last spoke
}

// New makes the pipeline, without starting it.
func New(o Options) (*Agent, error) {
	if len(o.Sources) == 0 || o.Model == nil || o.Sink == nil {
		panic("BUG: agent.New needs a source, a model and a sink")
	}
	for _, d := range []struct {
		v   *int
		def int
	}{{&o.Workers, 1}, {&o.FlowsPerWorker, flow.DefaultCapacity}, {&o.Queue, DefaultQueue}, {&o.Chunks, DefaultChunks}} {
		if *d.v == 0 {
			*d.v = d.def
		}
	}
	if o.Drain == 0 {
		o.Drain = DefaultDrain
	}
	if o.Format == nil {
		o.Format = Formats["eve"]
	}
	if o.Health == nil {
		o.Health = &DefaultHealth
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	// Receivers hold a batch open per worker, workers, actions and events a chunk.
	o.Queue = max(o.Queue, len(o.Sources)+1)
	o.Chunks = max(o.Chunks, o.Workers+3)
	a := &Agent{opt: o, start: time.Now(), hurry: make(chan struct{})}
	a.shards = flow.NewSeed()
	if o.Lossless {
		a.shards = flow.FixedSeed(0)
	}
	a.setModel(o.Model)
	a.out = newOutput(o.Sink, o.Chunks, a.hurry, a.complain, a.now)
	if o.Keep != nil && o.Keep.To != "" {
		var err error
		if a.kept, err = newKeepFile(*o.Keep, a.complain); err != nil {
			return nil, err
		}
	}
	if o.Actions != nil {
		a.acts = a.newActions(o.Actions)
	}
	for range o.Workers {
		w, err := newWorker(a, o.Queue)
		if err != nil {
			return nil, err
		}
		a.workers = append(a.workers, w)
	}
	for _, src := range o.Sources {
		a.receivers = append(a.receivers, newReceiver(a, src))
	}
	return a, nil
}

// told tells that workers get packets of several live sources, one of which may be later than
// another; see flow.Options.Told.
func (a *Agent) told() bool {
	for _, src := range a.opt.Sources {
		if _, live := src.(capture.Live); !live {
			return false
		}
	}
	return len(a.opt.Sources) > 1
}

// reached is the time that all sources have come to, 0 where one has not begun; that of r is
// own. A packet that waits in one ring is not late because another ring is empty.
func (a *Agent) reached(r *receiver, own int64) int64 {
	for _, o := range a.receivers {
		if o != r {
			own = min(own, o.reached.Load())
		}
	}
	return own
}

// now is the time since the agent was made, in nanoseconds, from a clock that
// nobody sets.
func (a *Agent) now() int64 { return int64(time.Since(a.start)) }

func (a *Agent) setModel(m *Model) {
	// Receivers must copy enough before workers begin flows with the model.
	// They never copy less again: flows of the old model go on.
	a.copyBytes.Store(max(a.copyBytes.Load(), int64(copyBytes(m.encoder.Contract()))))
	// Flows of the old model that are in a tunnel, or are one, get no more packets where the view
	// changes, and end by their timeout.
	a.tunnels.Store(a.view(m).Tunnels)
	a.hosts.Store(m.encoder.Contract().Accept == traffic.AcceptHosts)
	a.watch(m) // before workers take it
	a.model.Store(m)
}

// view is what is read for a model's flows.
func (a *Agent) view(m *Model) bundle.View {
	v, _ := a.opt.View.Of(m.Bundle.Manifest.View)
	return v
}

// Model is the one that new flows begin with.
func (a *Agent) Model() *Model { return a.model.Load() }

// Swap makes m the model that new flows begin with, as soon as each worker is
// between two batches. Flows finish with the model that they began with.
func (a *Agent) Swap(m *Model) {
	a.swapMu.Lock()
	defer a.swapMu.Unlock()
	a.setModel(m)
	a.swaps.Add(1)
}

// complain logs an error of the packet path, at most once a second and kind.
func (a *Agent) complain(what string, err error) {
	last := &a.errs[0]
	if what == "output" {
		last = &a.errs[1]
	}
	now := a.now()
	if t := last.Load(); (t == 0 || now-t > int64(time.Second)) && last.CompareAndSwap(t, now) {
		a.opt.Log.Error(what, "error", err)
	}
}

// emergency says that one has begun in a table, or is over: once for all tables.
func (a *Agent) emergency(on bool, sources *flow.Sources) {
	if on {
		if a.emergencies.Add(1) > 1 {
			return
		}
		a.shedBefore.Store(a.Report().Flow.Shed)
		message := "emergency: new flows come faster than the flow table can hold them; those of one packet make room first"
		if !a.opt.Lossless {
			message += ", without a verdict"
		}
		a.opt.Log.Warn(message, "new_flows_from", strings.Join(sourceShares(flow.Top(3, sources)), ", "))
		return
	}
	if a.emergencies.Add(-1) == 0 {
		a.opt.Log.Warn("emergency over", "flows_without_verdict", a.Report().Flow.Shed-a.shedBefore.Load())
	}
}

// sourceShares says which part of the flows that began lately came from each prefix.
func sourceShares(top []flow.Source, total flow.SourceCount) (list []string) {
	for _, p := range top {
		list = append(list, fmt.Sprintf("%s %d%%", p.Prefix, 100*p.Flows/max(total.Flows, 1)))
	}
	return list
}

// Run runs the pipeline until the sources end or ctx is done; then it takes no
// more packets, gives every flow its verdict, writes what there is, and comes
// back within Options.Drain and a second. The report is final; the error is
// that of the first source that failed, or says what is not accounted for.
func (a *Agent) Run(ctx context.Context) (*Report, error) {
	var receivers, workers sync.WaitGroup
	errs, worked := make(chan error, len(a.receivers)), make(chan bool)
	go a.out.run()
	if a.kept != nil {
		go a.kept.run()
	}
	if a.acts != nil {
		go a.acts.Run()
		defer a.acts.Close() // also where the packet path does not end
	}
	ended := make(chan struct{})
	defer close(ended)
	go a.watchHealth(ended)
	for _, w := range a.workers {
		workers.Go(w.run)
	}
	for _, r := range a.receivers {
		receivers.Go(func() {
			if err := r.run(); err != nil {
				errs <- err
			}
		})
	}
	go func() {
		receivers.Wait()
		for _, w := range a.workers {
			close(w.in)
		}
		workers.Wait()
		close(worked)
		if a.kept != nil {
			close(a.kept.queue)
			<-a.kept.done
		}
		if a.acts != nil {
			a.acts.Close()
		}
		a.events.end()
		close(a.out.queue)
	}()

	var failed error
	var late, tooLate <-chan time.Time
	for stop, running := ctx.Done(), true; running; {
		select {
		case <-a.out.done:
			running = false
		case err := <-errs:
			// The other sources end, too: half the traffic would give wrong
			// verdicts, and a restart may bring back the whole.
			if failed == nil {
				failed = err
				late = time.After(a.opt.Drain)
			}
			a.stop()
		case <-stop:
			stop, late = nil, time.After(a.opt.Drain)
			a.stop()
		case <-late:
			late, tooLate = nil, time.After(time.Second)
			close(a.hurry)
		case <-tooLate:
			running = false // a sink that does not take anything
		}
	}
	select {
	case err := <-errs:
		if failed == nil {
			failed = err
		}
	default:
	}
	report := a.Report()
	select {
	case <-worked:
		if failed == nil {
			failed = report.Check()
		}
	default:
		if failed == nil {
			failed = fmt.Errorf("the packet path did not end within %v and a second: its counts are not final", a.opt.Drain)
		}
	}
	return report, failed
}

// stop ends the intake.
func (a *Agent) stop() {
	a.stopping.Store(true)
	for _, r := range a.receivers {
		if r.live != nil {
			r.live.Stop()
		}
	}
}

// hurried tells whether the drain's time is over.
func (a *Agent) hurried() bool {
	select {
	case <-a.hurry:
		return true
	default:
		return false
	}
}

// Close closes the sources.
func (a *Agent) Close() error {
	var err error
	for _, r := range a.receivers {
		err = errors.Join(err, r.src.Close())
	}
	return err
}
