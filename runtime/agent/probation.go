package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"nepcoc/runtime/bundle"
	"nepcoc/runtime/trust"
)

// ProbationConfig is what a new bundle has to stand: what it may take before it runs, and what it may do to the agent's work for a while. What does not
// stand it is returned from.
type ProbationConfig struct {
	// Time is how long a new bundle is watched; 0: not at all, it is good as soon as it runs.
	Time time.Duration `yaml:"time"`
	// Load is how long a bundle may take to be read and proved, Size how many bytes it may have.
	Load time.Duration `yaml:"load"`
	Size int64         `yaml:"size"`
	// Budget is the share of the workers' time that running the model on the flows that come may take, with all else that they do. OverBudget is what
	// becomes of a bundle above it: refuse or warn. Rate are the flows per second that are reckoned with where fewer come.
	Budget     float64 `yaml:"budget"`
	OverBudget string  `yaml:"over_budget"`
	Rate       float64 `yaml:"rate"`
	// Drops is the share of packets by which more may be dropped than before, Unknown the share of verdicts by which more may be unknown, and
	// Latency what 99 % of the verdicts may take from the packet that decides.
	Drops   float64       `yaml:"drops"`
	Unknown float64       `yaml:"unknown"`
	Latency time.Duration `yaml:"latency"`
}

// DefaultProbation is what holds without a configuration.
var DefaultProbation = ProbationConfig{
	Time: 2 * time.Minute, Load: time.Minute, Size: 256 << 20, Budget: 0.8, OverBudget: refuseIt, Drops: 0.02, Unknown: 0.3, Latency: time.Second,
}

// The words of OverBudget.
const refuseIt, warnOnly = "refuse", "warn"

// Validate says all that is wrong; see Errors.
func (p *ProbationConfig) Validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("probation."+field+": "+format, args...))
	}
	for _, f := range []struct {
		field     string
		v, lo, hi time.Duration
	}{{"time", p.Time, 0, 24 * time.Hour}, {"load", p.Load, 100 * time.Millisecond, time.Hour}, {"latency", p.Latency, time.Millisecond, time.Hour}} {
		if f.v < f.lo || f.v > f.hi {
			bad(f.field, "%v is not within %v..%v", f.v, f.lo, f.hi)
		}
	}
	for _, f := range []struct {
		field string
		v     float64
	}{{"budget", p.Budget}, {"drops", p.Drops}, {"unknown", p.Unknown}} {
		if !(f.v >= 0 && f.v <= 1) {
			bad(f.field, "%g is not within 0..1", f.v)
		}
	}
	if p.Size < 1 || p.Size > bundle.MaxFileSize {
		bad("size", "%d is not within 1..%d", p.Size, bundle.MaxFileSize)
	}
	if !(p.Rate >= 0 && p.Rate <= 1e9) {
		bad("rate", "%g is not within 0..1e9", p.Rate)
	}
	if p.OverBudget != refuseIt && p.OverBudget != warnOnly {
		bad("over_budget", "%q is none of %s, %s", p.OverBudget, refuseIt, warnOnly)
	}
	return errors.Join(errs...)
}

// probation is what an agent knows of the bundles that it runs.
type probation struct {
	mu    sync.Mutex
	good  *Model // the latest that stood its trial, to be returned to; nil: it lies in a file
	trial *trial // of the model that runs; nil: it has stood it
	// distrusted is the model of which it has been said that its signer is no longer trusted.
	distrusted *Model
	ran        map[string]ran // by digest: what ran since the start

	// Of what follows anybody may ask, whatever mu waits for.

	// problem says why the configuration's bundle is not the one that runs, or that what runs is no longer trusted; nil: all is well.
	problem atomic.Pointer[string]
	onTrial atomic.Bool
	returns atomic.Uint64
	asking  atomic.Int64 // since when a file system has not answered (Agent.now); 0: it has
	// withdrawn is the model that was returned from last: flows that began with it are not judged by it.
	withdrawn atomic.Pointer[Model]
}

// watch sets the trial, nil: none.
func (p *probation) watch(t *trial) {
	p.trial = t
	p.onTrial.Store(t != nil)
}

// enter is what comes before a model runs: it shares what is said of its bundle with those of it that ran before, whose rules may be in force still.
func (p *probation) enter(m *Model) {
	if before, ok := p.ran[m.Digest()]; ok {
		m.barred = before.barred
	}
	if p.ran == nil {
		p.ran = map[string]ran{}
	}
	p.ran[m.Digest()] = ran{m.Bundle.Signature, m.barred} // its latest signature
}

// ran is what is still to be known of a bundle that ran: it may have been long ago.
type ran struct {
	signature *bundle.Signature // nil: it had none
	barred    *atomic.Bool      // see Model
}

// says sets what is the problem.
func (p *probation) says(problem string) { p.problem.Store(&problem) }

// trial is the time in which a model is watched.
type trial struct {
	model  *Model
	begun  int64 // Agent.now
	before sample
	past   []sample // the latest, trialSamples at most
}

// sample is what an agent has counted so far, as far as trials look at it.
type sample struct {
	packets, lost     uint64
	verdicts, unknown uint64 // of the model that new flows begin with
	decision          durations
}

// share is part/of.
func share(part, of uint64) float64 { return float64(part) / float64(max(of, 1)) }

// In a trial, what was dropped and how long verdicts took is looked at over the latest trialSamples-1 intervals of trialEvery. It counts only
// with so many packets, latencies and verdicts at least: a few tell nothing.
const (
	trialSamples                              = 6
	leastPackets, leastDecided, leastVerdicts = 100, 20, 200
)

// trialEvery is how often a trial of so long is looked at.
func trialEvery(d time.Duration) time.Duration {
	return min(max(d/60, 10*time.Millisecond), time.Second)
}

func (a *Agent) sample() (s sample) {
	r := a.Report()
	s.packets, s.lost = r.Read, r.Kernel.Dropped+r.QueueDropped
	if r.Live {
		s.packets = r.Kernel.Received
	}
	s.verdicts, s.unknown = r.fresh.verdicts, r.fresh.unknown
	for _, w := range a.workers {
		s.decision.read(&w.lat.decision)
	}
	return s
}

// fault says which bound of a trial was passed, "" where none was.
func (t *trial) fault(now *sample, c *ProbationConfig) string {
	if len(t.past) == trialSamples {
		then := &t.past[0]
		packets, lost := now.packets-then.packets, now.lost-then.lost
		before := share(t.before.lost, t.before.packets)
		if x := share(lost, packets); packets >= leastPackets && x > before+c.Drops {
			return fmt.Sprintf("%.3g %% of packets are dropped, and %.3g %% were before: more than probation.drops, %g %%, allows", 100*x, 100*before, 100*c.Drops)
		}
		d := now.decision.since(&then.decision)
		if d.count >= leastDecided {
			// A machine that was as slow before is not this model's fault.
			if x, before := d.quantile(0.99), t.before.decision.quantile(0.99); x > c.Latency.Seconds() && !(x <= 2*before) {
				return fmt.Sprintf("1 %% of verdicts take %.3g s or more from the packet that decides: more than probation.latency, %v, allows", x, c.Latency)
			}
		}
	}
	if now.verdicts >= leastVerdicts && t.before.verdicts >= leastVerdicts {
		if x, before := share(now.unknown, now.verdicts), share(t.before.unknown, t.before.verdicts); x > before+c.Unknown {
			return fmt.Sprintf("%.3g %% of verdicts are unknown, and %.3g %% were of the bundle before: more than probation.unknown, %g %%, allows", 100*x, 100*before, 100*c.Unknown)
		}
	}
	return ""
}

// add keeps a sample to compare later ones with.
func (t *trial) add(s sample) {
	if t.past = append(t.past, s); len(t.past) > trialSamples {
		t.past = t.past[1:]
	}
}

// since is what was added after then.
func (d *durations) since(then *durations) durations {
	x := *d
	for i := range x.buckets {
		x.buckets[i] -= then.buckets[i]
	}
	x.count, x.sum = d.count-then.count, d.sum-then.sum
	return x
}

// beginTrial has a model watched that runs from now on; before is what the agent did with the one before.
func (a *Agent) beginTrial(m *Model, before sample) {
	a.probation.watch(&trial{model: m, begun: a.now(), before: before})
	a.opt.Log.Info("the bundle is on trial", "digest", m.Digest())
	a.tell("begin", m, nil, "")
}

// before is what the agent does with the model that a new one is compared with.
func (a *Agent) before() sample {
	if t := a.probation.trial; t != nil {
		return t.before
	}
	s := a.sample()
	l := a.losses.window(a.lossNow())
	s.packets, s.lost = l.packets, l.kernel+l.queue
	return s
}

// watches tells whether a model that is new here is to be watched first.
func (a *Agent) watches(c *Config) bool { return c.Probation.Time > 0 && !a.opt.Lossless }

// probe watches the bundle that is on trial, until ctx is done.
func (a *Agent) probe(ctx context.Context, c *Config) {
	t := time.NewTicker(trialEvery(c.Probation.Time))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			a.endTrial(c)
			return
		case <-t.C:
			a.look(c)
		}
	}
}

// endTrial is the end of an agent in order: its start is no failure of the bundle that is on trial.
func (a *Agent) endTrial(c *Config) {
	p := &a.probation
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.trial != nil {
		c.update(func(s *trust.State) {
			if s.Trial != nil {
				t := *s.Trial
				t.Starts = 0
				s.Trial = &t
			}
		})
	}
}

// look is one look at the bundle that is on trial.
func (a *Agent) look(c *Config) {
	p := &a.probation
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.trial
	if t == nil {
		return
	}
	now := a.sample()
	fault := t.fault(&now, &c.Probation)
	t.add(now)
	switch {
	case fault != "":
		a.goBack(c, fault)
	case a.now()-t.begun >= int64(c.Probation.Time):
		p.watch(nil)
		p.good = t.model
		t.model.barred.Store(false)
		a.opt.Log.Info("the bundle has stood its trial", "digest", t.model.Digest())
		a.tell("stood", t.model, nil, "")
		a.settle(c, t.model)
	}
}

// settle remembers a model that has stood its trial.
func (a *Agent) settle(c *Config, m *Model) {
	// The file first: a state without it would find the one before too old.
	if err := c.keepGood(m); err != nil {
		a.opt.Log.Error("the last good bundle can't be kept", "error", err)
	}
	if err := c.remember(m); err != nil {
		a.opt.Log.Error(err.Error())
		a.probation.says(err.Error())
	}
}

// lastGood is the model to return to from the one that runs: the latest that stood its trial and is still acceptable.
func (a *Agent) lastGood(c *Config) (m *Model, why error) {
	running := a.Model()
	if g := a.probation.good; g != nil && g != running {
		p, err := c.policy()
		if err == nil && (p == nil || p.Accept(g.Bundle.Signature, g.Bundle.Digest) == nil) {
			return g, nil
		}
	}
	return c.loadGood(running.Digest())
}

// goBack returns from the model that runs. It holds probation's lock.
func (a *Agent) goBack(c *Config, reason string) {
	p := &a.probation
	from := a.Model()
	from.barred.Store(true)
	onTrial := p.trial != nil
	p.watch(nil)
	good, why := a.lastGood(c)
	if good == nil {
		text := fmt.Sprintf("bundle %.12s should be returned from: %s; there is no other that may run", from.Digest(), reason)
		about := []any{"reason", reason, "digest", from.Digest()}
		if why != nil {
			said := inOneLine(Errors(why))
			text, about = fmt.Sprintf("%s: %v", text, said), append(about, "error", said)
		}
		p.says(text)
		a.opt.Log.Error("there is no bundle to return to, so this one runs on", about...)
		a.tell("kept", from, nil, reason)
		return
	}
	p.withdrawn.Store(from)
	p.enter(good)
	good.barred.Store(false)
	a.Swap(good)
	p.good = good
	p.returns.Add(1)
	p.says(fmt.Sprintf("bundle %.12s was returned from: %s; %.12s runs in its place, until there is another in %s", from.Digest(), reason, good.Digest(), c.Bundle))
	a.opt.Log.Error("returned to the bundle before", "reason", reason, "from", from.Digest(), "digest", good.Digest())
	a.tell("returned", good, from, reason)
	if !onTrial {
		return // it is refused for the same reason when it is read again
	}
	if err := c.update(func(s *trust.State) {
		r := &trust.Returned{Digest: from.Digest(), Reason: reason}
		if from.Bundle.Signature != nil {
			r.Serial = from.Bundle.Signature.Serial
		}
		if from.file != nil {
			r.Modified = from.file.ModTime().UTC()
		}
		s.Trial, s.Returned = nil, r
	}); err != nil {
		a.opt.Log.Error(err.Error())
	}
}

// checkSigner returns from a model whose signer is no longer trusted, as far as there is another: what a thief has signed shall not run because it was there first.
// Where there is none it runs on, since an agent without a model sees nothing, and is a problem until there is.
func (a *Agent) checkSigner(c *Config) {
	policy, err := c.policy()
	if err != nil || policy == nil {
		return
	}
	if err := c.see(policy); err != nil {
		a.opt.Log.Error(err.Error())
	}
	p := &a.probation
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.ran { // what one before did may be in force still
		if r.signature != nil && policy.Signer(r.signature.Key) != nil {
			r.barred.Store(true)
		}
	}
	m := a.Model()
	if m.Bundle.Signature == nil || p.distrusted == m {
		return
	}
	if err := policy.Signer(m.Bundle.Signature.Key); err != nil {
		p.distrusted = m
		a.goBack(c, err.Error())
	}
}

// tell writes an event of the bundle that runs, m: what has begun or ended; from is the one that was returned from.
func (a *Agent) tell(what string, m, from *Model, reason string) {
	if !a.opt.DriftEvents {
		return
	}
	line := struct {
		Timestamp string `json:"timestamp"`
		EventType string `json:"event_type"`
		Nepco     struct {
			Trial struct {
				State  string `json:"state"`
				From   string `json:"from,omitempty"`
				Reason string `json:"reason,omitempty"`
			} `json:"trial"`
			Bundle string `json:"bundle"`
			Digest string `json:"digest"`
		} `json:"nepco"`
	}{Timestamp: time.Now().UTC().Format("2006-01-02T15:04:05.000000-0700"), EventType: "nepco"}
	line.Nepco.Trial.State, line.Nepco.Trial.Reason = what, reason
	if from != nil {
		line.Nepco.Trial.From = from.Bundle.Digest.Short()
	}
	line.Nepco.Bundle, line.Nepco.Digest = m.Bundle.Name(), m.Bundle.Digest.Short()
	text, err := json.Marshal(&line)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	a.event(text)
}

// events are lines that no worker writes.
type events struct {
	mu         sync.Mutex
	over       bool // the output takes no more
	made, lost uint64
}

// event writes a line of no flow, or counts it as lost where the output has no room.
func (a *Agent) event(line []byte) {
	e := &a.events
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over {
		return
	}
	e.made++
	c := a.out.take(false)
	if c == nil {
		e.lost++
		return
	}
	c.buf = append(append(c.buf, line...), '\n')
	c.ends = append(c.ends, len(c.buf))
	a.out.send(c)
}

// end is the last event's.
func (e *events) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.over = true
}
