package agent

import (
	"errors"
	"fmt"
	"strings"

	"nepcoc/internal/plural"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
)

// Report is what an agent has counted. While it runs the figures of different
// threads are of slightly different moments; after Run they balance.
type Report struct {
	// Kernel is what the sources' own counters say, for those that have some
	// (Live).
	Kernel capture.Stats
	Live   bool
	// Read are the frames read from the sources, Bytes their length on the wire.
	Read, Bytes uint64
	// Flow has the frames by kind, and the flows.
	Flow flow.Counters
	// QueueDropped are the packets dropped because their worker was behind.
	QueueDropped uint64
	// Open are the flows in the tables, Undecided those without a verdict.
	Open, Undecided int
	// Abandoned are flows that became ready when the drain's time was over, and
	// got no verdict, Failed those that the engine refused, Withdrawn those whose model was returned from (see ProbationConfig), and which the one
	// before could not judge, since it reads other bytes of flows.
	Abandoned, Failed, Withdrawn uint64
	// Verdicts are one per flow and output of its model that makes some; Named name a label or
	// several, Unknown were below their threshold, Insufficient of flows with too little payload, None have none of the labels that they could have. Labels
	// counts each label of each output by itself, and the others by output.
	Verdicts, Named, Unknown, Insufficient, None uint64
	Labels                                       map[OutputLabel]uint64
	Alerts                                       uint64
	// Marked are the records with each mark, by its name.
	Marked map[string]uint64
	// Records are the flows whose verdicts are to be written. Written were taken by the sink, OutputDropped found its queue
	// full, OutputFailed were refused by it, OutputTooLarge don't fit into a datagram; Waiting are on their
	// way, after Run in a sink that takes nothing.
	Records, Written, OutputDropped, OutputFailed, OutputTooLarge, Waiting uint64
	OutputBytes                                                            uint64
	// Ends are the flows whose end is to be written, too (Options.Totals), NoEnds those that left the table without a
	// verdict, or when time was over.
	Ends, NoEnds uint64
	// Events are those of drift and of actions.
	Events      uint64
	OutputError error // why the sink last refused some
	// Swaps counts changes of the model, SwapsRefused those that were not made, Returns those among Swaps that went back.
	Swaps, SwapsRefused, Returns uint64
	// Emergencies are the tables that are in one now; see flow.Options.
	Emergencies int
	// Sources are the source prefixes that most flows came from lately, of SourceTotal.
	Sources     []flow.Source
	SourceTotal flow.SourceCount
	// Models are those in use, in the worker that has most: the one that new
	// flows begin with, those that flows still hold, and one that the worker has
	// yet to take. Tables likewise.
	Models, Tables int

	batches, chunks int // in the queues
	fresh           fresh
}

// SourcesShown is the number of source prefixes that are told of.
const SourcesShown = 5

// Report adds up what has been published so far.
func (a *Agent) Report() *Report {
	r := &Report{
		Labels: map[OutputLabel]uint64{}, Marked: map[string]uint64{}, Written: a.out.written.Load(), OutputFailed: a.out.failed.Load(), OutputTooLarge: a.out.tooLarge.Load(),
		OutputBytes: a.out.bytes.Load(), Swaps: a.swaps.Load(), SwapsRefused: a.refused.Load(), Returns: a.probation.returns.Load(),
		chunks: len(a.out.queue),
	}
	r.Waiting = a.out.sent.Load() - r.Written - r.OutputFailed - r.OutputTooLarge // sent was read last: never below 0
	if err := a.out.last.Load(); err != nil {
		r.OutputError = *err
	}
	for _, rc := range a.receivers {
		if rc.live != nil {
			if s, err := rc.live.Stats(); err == nil {
				r.Live = true
				r.Kernel.Add(&s)
			}
		}
		c := rc.counts()
		r.Read += c.read
		r.Bytes += c.bytes
		r.QueueDropped += c.noRoom
		r.Flow.Held += c.held
		r.Flow.Add(&c.unread)
		for k, n := range c.kinds {
			r.Flow.Frames[k] += n
		}
	}
	model := a.Model()
	const all = flow.Incomplete | flow.Anomaly | flow.MarkInsufficient // without a gap
	var sources []*flow.Sources
	for _, w := range a.workers {
		r.batches += len(w.in)
		w.mu.Lock()
		c := w.pub
		for _, l := range c.labels {
			if l.n > 0 {
				r.Labels[l.OutputLabel] += l.n
			}
			switch l.Special {
			case Unknown:
				r.Unknown += l.n
			case Insufficient:
				r.Insufficient += l.n
			case None:
				r.None += l.n
			}
		}
		src := *w.src
		w.mu.Unlock()
		sources = append(sources, &src)
		r.Emergencies += c.emergency
		r.Flow.Add(&c.flow)
		r.Open += c.open
		r.Undecided += c.undecided
		r.Verdicts += c.verdicts
		r.Named += c.named
		r.Abandoned += c.abandoned
		r.Failed += c.failed
		r.Withdrawn += c.withdrawn
		r.Alerts += c.alerts
		for i := range all.Count() {
			r.Marked[all.Name(i)] += c.marks[i]
		}
		r.Records += c.records
		r.Ends += c.ends
		r.NoEnds += c.noEnds
		r.Events += c.events
		r.OutputDropped += c.lost
		if c.cur != model {
			c.models++
		} else {
			r.fresh.verdicts += c.fresh.verdicts
			r.fresh.unknown += c.fresh.unknown
		}
		r.Models, r.Tables = max(r.Models, c.models), max(r.Tables, c.tables)
	}
	if a.acts != nil {
		r.OutputDropped += a.acts.lost.Load()
		r.Events += a.acts.events.Load()
	}
	r.Sources, r.SourceTotal = flow.Top(SourcesShown, sources...)
	a.events.mu.Lock()
	r.Events += a.events.made
	r.OutputDropped += a.events.lost
	a.events.mu.Unlock()
	return r
}

// Check is the law of conservation; it holds after Run.
//
//	packets received = read + dropped by the kernel
//	packets read     = decoded + ignored + refused + malformed + dropped for want of room
//	                 + held fragments (none after Run)
//	flows            = decided (early ones of evicted flows among them) + shed + active
//	flows decided    = records + abandoned + failed + withdrawn
//	verdicts         = named + unknown + insufficient + without a label
//	flows that left  = ends + without one, where ends are written
//	records + ends + events = written + dropped + refused by the sink + too large + waiting
func (r *Report) Check() error {
	var errs []error
	law := func(what string, whole uint64, parts string, args ...uint64) {
		var sum uint64
		list := make([]any, len(args))
		for i, n := range args {
			sum += n
			list[i] = n
		}
		if sum != whole {
			errs = append(errs, fmt.Errorf("not accounted for: %d %s, but "+parts, append([]any{whole, what}, list...)...))
		}
	}
	if r.Live {
		law("packets received", r.Kernel.Received, "%d read + %d dropped by the kernel", r.Read, r.Kernel.Dropped)
	}
	law("packets read", r.Read, "%d decoded + %d ignored + %d refused + %d malformed + %d dropped in queues + %d held fragments",
		r.Flow.Joined(), r.Flow.Ignored(), r.Flow.Refused(), r.Flow.Malformed(), r.QueueDropped, r.Flow.Held)
	law("flows", r.Flow.Flows, "%d verdicts + %d shed + %d active", r.Flow.Decided(), r.Flow.Shed, uint64(r.Undecided))
	law("flows decided", r.Flow.Decided(), "%d records + %d abandoned + %d failed + %d withdrawn", r.Records, r.Abandoned, r.Failed, r.Withdrawn)
	law("verdicts", r.Verdicts, "%d named + %d unknown + %d insufficient + %d without a label", r.Named, r.Unknown, r.Insufficient, r.None)
	if r.Ends+r.NoEnds > 0 {
		law("flows that left", r.Flow.Closed, "%d ends + %d without one", r.Ends, r.NoEnds)
	}
	law("records, ends and events", r.Records+r.Ends+r.Events, "%d written + %d dropped + %d refused by the output + %d too large + %d waiting",
		r.Written, r.OutputDropped, r.OutputFailed, r.OutputTooLarge, r.Waiting)
	return errors.Join(errs...)
}

// Lost says how many verdicts there are not: flows that got none, and verdicts that were not written. It is nil where
// each flow's verdict was written, and of use after Run. Flows that were shed are none of them: they go without by the rules.
func (r *Report) Lost() error {
	var errs []error
	if n := r.Abandoned + uint64(r.Undecided); n > 0 {
		errs = append(errs, fmt.Errorf("%d of %s got no verdict: the time for a stop was over (drain)", n, plural.Of(r.Flow.Flows, "flow")))
	}
	if r.Failed > 0 {
		errs = append(errs, fmt.Errorf("%d of %s got no verdict: the model could not be run on them", r.Failed, plural.Of(r.Flow.Flows, "flow")))
	}
	what := plural.Of(r.Records, "verdict")
	if r.Ends > 0 {
		what += fmt.Sprintf(" and %s of flows", plural.Of(r.Ends, "end"))
	}
	switch n := r.OutputFailed + r.OutputDropped + r.OutputTooLarge + r.Waiting; {
	case n == 0:
	case r.OutputError != nil:
		errs = append(errs, fmt.Errorf("%d of %s could not be written: %w", n, what, r.OutputError))
	default:
		errs = append(errs, fmt.Errorf("%d of %s could not be written: the output was too slow", n, what))
	}
	return inOneLine(errs)
}

// inOneLine joins errors, as errors.Join does, in one line.
func inOneLine(errs []error) error {
	var err error
	for _, e := range errs {
		if err == nil {
			err = e
		} else {
			err = fmt.Errorf("%w; %w", err, e)
		}
	}
	return err
}

// String is one line for the log.
func (r *Report) String() string {
	s := fmt.Sprintf("%s = %d decoded + %d ignored + %d refused + %d malformed + %d dropped in queues", plural.Of(r.Read, "packet"),
		r.Flow.Joined(), r.Flow.Ignored(), r.Flow.Refused(), r.Flow.Malformed(), r.QueueDropped)
	if r.Live {
		s += fmt.Sprintf(", %d dropped by the kernel", r.Kernel.Dropped)
	}
	s += fmt.Sprintf("; %s = %s (%d evicted, %d unknown, %d insufficient, %d abandoned) + %d shed + %d active; %s = %d written + %d dropped",
		plural.Of(r.Flow.Flows, "flow"), plural.Of(r.Flow.Decided(), "verdict"), r.Flow.Verdicts[flow.ReasonEvicted], r.Unknown, r.Insufficient, r.Abandoned, r.Flow.Shed, r.Undecided,
		plural.Of(r.Records+r.Ends+r.Events, "record"), r.Written, r.OutputDropped+r.OutputFailed+r.OutputTooLarge+r.Waiting)
	if r.Withdrawn > 0 {
		s += fmt.Sprintf("; %s withheld of bundles that were returned from", plural.Of(r.Withdrawn, "verdict"))
	}
	if r.Flow.Emergencies > 0 {
		s += fmt.Sprintf("; %s of full tables", plural.Of(r.Flow.Emergencies, "emergency"))
	}
	if kinds := r.Flow.Kinds(); len(kinds) > 0 {
		s += "; " + strings.Join(kinds, ", ")
	}
	return s
}

// Notes says in plain words what of the traffic the verdicts could not be made from, and
// what was read otherwise than the bundle says.
func (a *Agent) Notes(r *Report) []string {
	m := a.Model()
	_, notes := a.opt.View.Of(m.Bundle.Manifest.View)
	if s := r.MergedNote(); s != "" {
		notes = append(notes, s)
	}
	return append(notes, r.Flow.Notes(&flow.Options{Encoder: m.encoder, Tunnels: a.view(m).Tunnels})...)
}
