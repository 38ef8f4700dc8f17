package agent

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"nepcoc/internal/version"
)

// Health is what /healthz says, with status 200 where Status is "ok" and 503 otherwise.
type Health struct {
	// Status is ok, degraded (verdicts may be missing or less than they could be), stalled (a thread stands still: a
	// restart helps) or draining (the agent is about to end).
	Status string `json:"status"`
	// Problems are all that is wrong now, a line each.
	Problems []string `json:"problems,omitempty"`
	Digest   string   `json:"bundle_digest"`
	Bundle   string   `json:"bundle"`
	Version  string   `json:"version"` // of the agent
	Uptime   int64    `json:"uptime_s"`
	// Emergency: new flows come faster than the tables can hold them. The agent works as it
	// should, so the status is no worse for it. NewFlowsFrom are the source prefixes of most of them then.
	Emergency    bool     `json:"emergency"`
	NewFlowsFrom []string `json:"new_flows_from,omitempty"`
	// OnTrial: the bundle is new, and watched before it is remembered as good.
	OnTrial bool `json:"on_trial"`
	// Load is what the workers do; a new bundle is held to it.
	Load Load `json:"load"`
}

// HealthConfig is when the loss of packets or verdicts is a problem.
type HealthConfig struct {
	// Drops is the share of packets, and of verdicts, that may be lost within Window: 0 to 1. What has passed it
	// is a problem until it is back at half of it.
	Drops  float64       `yaml:"drops"`
	Window time.Duration `yaml:"window"`
}

// DefaultHealth is what holds without a configuration.
var DefaultHealth = HealthConfig{Drops: 0.01, Window: time.Minute}

// problemKind is one of the kinds of problems.
type problemKind int

const (
	problemStalled problemKind = iota
	problemInterface
	problemOutput
	problemDrops
	problemBundle
	problemActions
	numProblems
)

func (k problemKind) String() string {
	return [numProblems]string{"stalled", "interface", "output", "drops", "bundle", "actions"}[k]
}

// stalledAfter is how long a worker may go without finishing a batch while
// batches wait, a receiver without a sign of life, or a sink without taking what it was given.
const stalledAfter = 10 * time.Second

// linked is a source that knows how the link under it is.
type linked interface{ Link() error }

// problems says what is wrong now, by kind. Each ends by itself when its reason does.
func (a *Agent) problems() (all [numProblems][]string) {
	add := func(k problemKind, format string, args ...any) { all[k] = append(all[k], fmt.Sprintf(format, args...)) }
	old := a.now() - int64(stalledAfter)
	for i, w := range a.workers {
		if len(w.in) > 0 && w.beat.Load() < old {
			add(problemStalled, "worker %s does not take packets", workerName(i))
		}
	}
	said := map[string]bool{}
	for i, r := range a.receivers {
		if r.live != nil && r.beat.Load() < old {
			add(problemStalled, "receiver %s does not read packets", workerName(i))
		}
		if l, ok := r.src.(linked); ok {
			if err := l.Link(); err != nil && !said[err.Error()] { // several threads may read one interface
				said[err.Error()] = true
				add(problemInterface, "%v", err)
			}
		}
	}
	if s := a.out.problem(a.opt.Health.Window); s != "" {
		add(problemOutput, "%s", s)
	}
	if s := a.probation.problem.Load(); s != nil && *s != "" {
		add(problemBundle, "%s", *s)
	}
	if at := a.probation.asking.Load(); at != 0 && at < old {
		add(problemBundle, "the file system of the bundle, or of the keys, has not answered for %d s", (a.now()-at)/int64(time.Second))
	}
	if a.acts != nil {
		if s := a.acts.Problem(); s != "" {
			add(problemActions, "%s", s)
		}
	}
	all[problemDrops] = a.losses.problems(a.lossNow(), a.opt.Health)
	return all
}

// Health says how the agent is.
func (a *Agent) Health() Health {
	h := Health{Status: "ok", Digest: a.Model().Digest(), Bundle: a.Model().Bundle.Name(), Version: version.Version, Uptime: int64(time.Since(a.start).Seconds()),
		OnTrial: a.probation.onTrial.Load(), Load: a.Load()}
	for kind, said := range a.problems() {
		h.Problems = append(h.Problems, said...)
		if len(said) > 0 && h.Status == "ok" {
			h.Status = "degraded"
			if problemKind(kind) == problemStalled {
				h.Status = "stalled"
			}
		}
	}
	if a.stopping.Load() {
		h.Status = "draining"
	}
	if h.Emergency = a.emergencies.Load() > 0; h.Emergency {
		r := a.Report()
		h.NewFlowsFrom = sourceShares(r.Sources, r.SourceTotal)
	}
	return h
}

// loss is what has been lost so far.
type loss struct {
	packets, kernel, queue uint64
	records, output        uint64
}

func (a *Agent) lossNow() loss {
	r := a.Report()
	l := loss{packets: r.Read, kernel: r.Kernel.Dropped, queue: r.QueueDropped, records: r.Records + r.Ends + r.Events, output: r.OutputDropped + r.OutputFailed + r.OutputTooLarge}
	if r.Live {
		l.packets = r.Kernel.Received
	}
	return l
}

// lossSamples is in how many parts a window is looked at: it is that much longer at most than it should be.
const lossSamples = 12

// losses remembers what was lost at the beginnings of the latest parts of a window.
type losses struct {
	mu   sync.Mutex
	past [lossSamples]loss
	n    int
	// bad: of packets and of verdicts more were lost than may be, and it has not ended. Losses about the bound would
	// else begin and end a problem, and raise an alert, each few seconds.
	bad [2]bool
}

func (s *losses) sample(l loss) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.past[s.n%lossSamples] = l
	s.n++
}

// window is what was lost since the window's beginning.
func (s *losses) window(now loss) loss {
	s.mu.Lock()
	defer s.mu.Unlock()
	then := s.then()
	return loss{now.packets - then.packets, now.kernel - then.kernel, now.queue - then.queue, now.records - then.records, now.output - then.output}
}

// then is the window's beginning.
func (s *losses) then() (l loss) {
	if s.n >= lossSamples {
		l = s.past[s.n%lossSamples]
	}
	return l // while the window has not passed: all since the start
}

// problems says which share of losses since the window's beginning passes the bound.
func (s *losses) problems(now loss, c *HealthConfig) (said []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	then := s.then()
	share := func(bad *bool, part, of uint64) (percent float64, bound string) {
		x := float64(part) / float64(max(of, 1))
		switch {
		case part > 0 && x > c.Drops:
			*bad, bound = true, fmt.Sprintf("more than %g %%", 100*c.Drops)
		case *bad && part > 0 && x > c.Drops/2:
			bound = fmt.Sprintf("it was more than %g %%, and is not back at half of that", 100*c.Drops)
		default:
			*bad = false
		}
		return 100 * x, bound
	}
	kernel, queue := now.kernel-then.kernel, now.queue-then.queue
	if x, bound := share(&s.bad[0], kernel+queue, now.packets-then.packets); bound != "" {
		said = append(said, fmt.Sprintf("%.3g %% of packets were dropped within %v, %d by the kernel and %d before workers: %s", x, c.Window, kernel, queue, bound))
	}
	output := now.output - then.output
	if x, bound := share(&s.bad[1], output, now.records-then.records); bound != "" {
		said = append(said, fmt.Sprintf("%.3g %% of verdicts were lost within %v, %d, since the output was too slow for them or refused them: %s", x, c.Window, output, bound))
	}
	return said
}

// watchHealth samples what is lost, and logs when a kind of problem begins and ends, until ended is closed.
func (a *Agent) watchHealth(ended <-chan struct{}) {
	var was [numProblems]bool
	t := time.NewTicker(max(a.opt.Health.Window/lossSamples, time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-ended:
			return
		case <-t.C:
			a.losses.sample(a.lossNow())
			a.paces.sample(a.pace())
			for k, said := range a.problems() {
				switch kind := problemKind(k); {
				case len(said) > 0 && !was[k]:
					a.opt.Log.Warn(strings.Join(said, "; "), "problem", kind)
				case len(said) == 0 && was[k]:
					a.opt.Log.Info("no longer so", "problem", kind)
				}
				was[k] = len(said) > 0
			}
		}
	}
}

// pace is what workers have done so far.
type pace struct {
	at              int64 // Agent.now
	flows           uint64
	busy, inference time.Duration
}

// paces remembers it at the beginnings of the latest parts of a window.
type paces struct {
	mu   sync.Mutex
	past [lossSamples]pace
	n    int
}

func (s *paces) sample(p pace) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.past[s.n%lossSamples] = p
	s.n++
}

// then is the window's beginning; while it has not passed, the start.
func (s *paces) then() (p pace) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n >= lossSamples {
		p = s.past[s.n%lossSamples]
	}
	return p
}

func (a *Agent) pace() pace {
	p := pace{at: a.now()}
	for _, w := range a.workers {
		p.busy += time.Duration(w.busy.Load())
		p.inference += time.Duration(w.lat.inference.sum.Load())
		w.mu.Lock()
		p.flows += w.pub.flow.Decided()
		w.mu.Unlock()
	}
	return p
}

// Load is what the workers have had to do within the health's window.
func (a *Agent) Load() Load {
	now, then := a.pace(), a.paces.then()
	l := Load{Workers: atOnce(len(a.workers)), PerFlow: a.Model().perFlow}
	if s := time.Duration(now.at - then.at).Seconds(); s > 0 {
		l.Flows = float64(now.flows-then.flows) / s
		l.Other = max(((now.busy-then.busy)-(now.inference-then.inference)).Seconds()/s, 0)
	}
	return l
}
