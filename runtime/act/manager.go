package act

import (
	"container/heap"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"nepcoc/internal/plural"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/verdict"
)

// Result is what became of a rule that was wanted.
type Result uint8

// The results.
const (
	Done      Result = iota // in force
	DryRun                  // would have been
	Refused                 // by the kernel
	Already                 // the flow has a rule
	Overflow                // the queue was full
	TooMany                 // max_rules
	TooFast                 // rules_per_second
	Stopped                 // rules are no longer made: somebody flushed them, or the agent ends
	Withdrawn               // the verdict's model was barred while it waited
	NumResults
)

var resultNames = [NumResults]string{"done", "dry_run", "refused", "already", "overflow", "max_rules", "rules_per_second", "stopped", "withdrawn"}

func (r Result) String() string { return resultNames[r] }

// Ending is what ended a rule.
type Ending uint8

// The endings.
const (
	EndTime      Ending = iota // its time was over
	EndExit                    // the agent's end
	EndFlushed                 // somebody else took it away
	EndRestart                 // one of an agent that was killed, found at the start
	EndWithdrawn               // its verdict's model is barred
	NumEndings
)

var endingNames = [NumEndings]string{"time", "exit", "flushed", "restart", "withdrawn"}

func (e Ending) String() string { return endingNames[e] }

// Options of a Manager.
type Options struct {
	Config  Config  // valid, with rules
	Backend Backend // nil where Config.DryRun
	// Found are rules of an earlier run that were taken away at the start; their end is told.
	Found []Found
	// Emit writes an event, by one goroutine at a time. wait: the writer may be waited for. Flush is called when some have been
	// written and nothing else is to be done at once.
	Emit  func(a *verdict.Action, wait bool)
	Flush func()
	Log   *slog.Logger
}

// Manager is what is in force.
type Manager struct {
	opt    Options
	policy *Policy
	queue  chan Want
	stop   chan struct{}
	done   chan struct{}
	once   sync.Once

	withheld [NumReasons]atomic.Uint64

	mu       sync.Mutex // what metrics read
	stats    Stats
	failed   error // the kernel's latest refusal
	failedAt time.Time
	stopped  error // why no rules are made any more

	// Owned by run.
	rules  map[Flow]*held
	ids    map[uint32]bool // of rules in force, and of those on their way
	times  expiries
	round  []*held // in the order in which they are looked at; those that have ended are taken out then
	nextID uint32
	tokens float64
	filled time.Time
	spoke  time.Time
}

// Stats is what a manager has counted.
type Stats struct {
	Backend  string // empty in a dry run
	Withheld [NumReasons]uint64
	Results  [NumKinds][NumResults]uint64
	Ended    [NumKinds][NumEndings]uint64
	Active   [NumKinds]int // in force now
	Hardware int           // of these in hardware, wholly
	Queued   int
}

// held is a rule in force.
type held struct {
	rule     Rule
	event    verdict.Action
	barred   *atomic.Bool
	began    time.Time
	until    time.Time
	hardware string
	place    int // in times
}

// expiries is a heap of rules, the first one ends first.
type expiries []*held

func (h expiries) Len() int           { return len(h) }
func (h expiries) Less(i, k int) bool { return h[i].until.Before(h[k].until) }
func (h expiries) Swap(i, k int)      { h[i], h[k] = h[k], h[i]; h[i].place, h[k].place = i, k }
func (h *expiries) Push(x any)        { e := x.(*held); e.place = len(*h); *h = append(*h, e) }
func (h *expiries) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}

// NewManager makes a manager. Run must be called, and then Close.
func NewManager(o Options) *Manager {
	if o.Config.DryRun != (o.Backend == nil) {
		panic("BUG: a dry run has no backend, anything else has one")
	}
	m := &Manager{
		opt: o, policy: NewPolicy(&o.Config), queue: make(chan Want, o.Config.Queue), stop: make(chan struct{}), done: make(chan struct{}),
		rules: map[Flow]*held{}, ids: map[uint32]bool{}, tokens: float64(o.Config.RulesPerSecond),
	}
	if o.Backend != nil {
		m.stats.Backend = o.Backend.Name()
	}
	return m
}

// Offer asks for what a verdict asks for, if it asks for something. It never waits; any goroutine may call it. Once barred is set, nothing that
// the verdict's model says is done, and within checkEvery what was done is undone.
func (m *Manager) Offer(r *verdict.Record, scope flow.Scope, barred *atomic.Bool) {
	w, why := m.policy.Decide(r, scope)
	if why == Wanted && barred.Load() {
		why = Unproven
	}
	if why != Wanted {
		if why != Unasked {
			m.withheld[why].Add(1)
		}
		return
	}
	w.At, w.Barred = time.Now(), barred
	select {
	case m.queue <- w:
	default:
		m.mu.Lock()
		m.stats.Results[m.policy.entries[w.Entry].effect.Kind][Overflow]++
		m.mu.Unlock()
	}
}

// Batch bounds the rules that a backend is given at once, withdrawAtOnce those that are withdrawn at a check. checkEvery is how often the backend is asked whether
// rules are still there, and they are looked at for models that are barred; lookAtOnce are asked for one by one each time, in turns: of 10,000 each in five minutes.
const (
	Batch          = 64
	withdrawAtOnce = 1024
	checkEvery     = time.Second
	lookAtOnce     = 32
)

// Run works until Close.
func (m *Manager) Run() {
	defer close(m.done)
	m.filled = time.Now()
	for _, f := range m.opt.Found {
		m.restarted(f)
	}
	m.opt.Found = nil
	m.opt.Flush()
	check := time.NewTicker(checkEvery)
	defer check.Stop()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if len(m.times) > 0 {
			timer.Reset(max(0, time.Until(m.times[0].until)))
		} else {
			timer.Reset(time.Hour)
		}
		select {
		case <-m.stop:
			m.end()
			return
		case w := <-m.queue:
			batch := []Want{w}
			for len(batch) < Batch && len(m.queue) > 0 {
				batch = append(batch, <-m.queue)
			}
			m.begin(batch)
		case <-timer.C:
		case <-check.C:
			m.check()
			m.withdraw()
		}
		m.expire()
		m.opt.Flush()
	}
}

// Close undoes what is in force and comes back when that is done, or can't be.
func (m *Manager) Close() {
	m.once.Do(func() { close(m.stop) })
	<-m.done
}

// begin puts wanted rules in force, as far as bounds and the kernel let it.
func (m *Manager) begin(batch []Want) {
	now := time.Now()
	m.tokens = min(float64(m.opt.Config.RulesPerSecond), m.tokens+now.Sub(m.filled).Seconds()*float64(m.opt.Config.RulesPerSecond))
	m.filled = now
	var hs []*held
	asked := map[Flow]bool{}
	for i := range batch {
		w := &batch[i]
		kind := m.policy.entries[w.Entry].effect.Kind
		switch {
		case m.stopped != nil:
			m.count(kind, Stopped)
		case w.Barred.Load():
			m.count(kind, Withdrawn)
		case m.rules[w.Flow] != nil || asked[w.Flow]:
			m.count(kind, Already)
		case len(m.rules)+len(hs) >= m.opt.Config.MaxRules:
			m.count(kind, TooMany)
			m.say("max_rules: %s in force, no more are made", plural.Of(m.opt.Config.MaxRules, "rule"))
		case m.tokens < 1:
			m.count(kind, TooFast)
			m.say("rules_per_second: more than %d a second are asked for", m.opt.Config.RulesPerSecond)
		default:
			m.tokens--
			asked[w.Flow] = true
			e := &m.opt.Config.Rules[w.Entry]
			h := &held{event: w.Event, barred: w.Barred, began: w.At}
			h.rule = Rule{ID: m.id(), Entry: w.Entry, Flow: w.Flow, For: e.limit(), Until: now.Add(e.limit()).Unix(), Effect: e.effect(), Label: w.Event.Label, FlowID: w.Event.FlowID()}
			h.event.DryRun, h.event.Backend, h.event.Limit = m.opt.Config.DryRun, "none", e.limit().Seconds()
			hs = append(hs, h)
		}
	}
	if len(hs) == 0 {
		return
	}
	errs := make([]error, len(hs))
	if b := m.opt.Backend; b != nil {
		rules := make([]Rule, len(hs))
		for i, h := range hs {
			rules[i] = h.rule
			h.event.Backend = b.Name()
		}
		errs = b.Add(rules)
	}
	for i, h := range hs {
		err := errs[i]
		if err == nil {
			err = m.stopped // by one before it: all of them are undone
		}
		if err != nil {
			m.refuse(h, err)
		} else {
			m.hold(h)
		}
	}
}

// id is a number that no rule in force has.
func (m *Manager) id() uint32 {
	for {
		if m.nextID = m.nextID%MaxID + 1; !m.ids[m.nextID] {
			m.ids[m.nextID] = true
			return m.nextID
		}
	}
}

// hold is what follows a rule that is in force.
func (m *Manager) hold(h *held) {
	kind, result := h.rule.Effect.Kind, DryRun
	if b := m.opt.Backend; b != nil {
		result = Done
		h.hardware = b.Hardware(h.rule)
	}
	// Its time begins when the kernel has it, and the kernel's own ends first: were a rule forgotten here that is in force there still, another one for its flow
	// would be taken for it by the kernel, and end with it.
	now := time.Now()
	h.until = now.Add(h.rule.For)
	h.event.Hardware = h.hardware
	e := h.event
	e.Event, e.Time, e.Latency = "begin", now.UnixNano(), now.Sub(h.began).Seconds()
	h.began = now
	m.rules[h.rule.Flow] = h
	m.round = append(m.round, h)
	heap.Push(&m.times, h)
	m.mu.Lock()
	m.stats.Results[kind][result]++
	if result == Done {
		m.stats.Active[kind]++
		if h.hardware == "yes" {
			m.stats.Hardware++
		}
	}
	m.mu.Unlock()
	m.opt.Emit(&e, false)
}

// refuse is what follows one that the kernel has refused.
func (m *Manager) refuse(h *held, err error) {
	delete(m.ids, h.rule.ID)
	m.count(h.rule.Effect.Kind, Refused)
	e := h.event
	e.Event, e.Time, e.Error = "refused", time.Now().UnixNano(), err.Error()
	m.opt.Emit(&e, false)
	m.mu.Lock()
	m.failed, m.failedAt = err, time.Now()
	m.mu.Unlock()
	m.say("the kernel refuses a rule: %v", err)
	if errors.Is(err, ErrGone) {
		m.gone(err)
	}
}

// expire ends the rules whose time is over.
func (m *Manager) expire() {
	now := time.Now()
	var over []*held
	for len(m.times) > 0 && len(over) < Batch && !m.times[0].until.After(now) {
		over = append(over, heap.Pop(&m.times).(*held))
	}
	if len(over) == 0 {
		return
	}
	if b := m.opt.Backend; b != nil && !b.Expires() {
		if err := m.delete(over); err != nil {
			m.say("rules whose time is over can't be deleted: %v", err)
			// They are in force until that works.
			for _, h := range over {
				h.until = now.Add(time.Second)
				heap.Push(&m.times, h)
			}
			if errors.Is(err, ErrGone) {
				m.gone(err)
			}
			return
		}
	}
	for _, h := range over {
		m.ended(h, EndTime, false)
	}
}

// delete takes rules out of the kernel.
func (m *Manager) delete(hs []*held) error {
	rules := make([]Rule, len(hs))
	for i, h := range hs {
		rules[i] = h.rule
	}
	return m.opt.Backend.Delete(rules)
}

// withdraw ends rules of models that are barred, so many at once that others need not wait for long. What can't be deleted is tried again.
func (m *Manager) withdraw() {
	var out []*held
	for _, h := range m.times {
		if h.barred.Load() && len(out) < withdrawAtOnce {
			out = append(out, h)
		}
	}
	if len(out) == 0 {
		return
	}
	if m.opt.Backend != nil {
		if err := m.delete(out); err != nil {
			m.say("rules of a bundle that was returned from can't be deleted: %v", err)
			if errors.Is(err, ErrGone) {
				m.gone(err)
			}
			return
		}
	}
	for _, h := range out {
		heap.Remove(&m.times, h.place)
		m.ended(h, EndWithdrawn, false)
	}
}

// ended tells that a rule is no longer in force.
func (m *Manager) ended(h *held, why Ending, wait bool) {
	now := time.Now()
	delete(m.rules, h.rule.Flow)
	delete(m.ids, h.rule.ID)
	e := h.event
	e.Event, e.Time, e.Held, e.Why = "end", now.UnixNano(), max(0, now.Sub(h.began).Seconds()), why.String()
	m.mu.Lock()
	if m.opt.Backend != nil {
		m.stats.Ended[h.rule.Effect.Kind][why]++
		m.stats.Active[h.rule.Effect.Kind]--
		if h.hardware == "yes" {
			m.stats.Hardware--
		}
	}
	m.mu.Unlock()
	m.opt.Emit(&e, wait)
}

// restarted tells the end of a rule that an earlier run left.
func (m *Manager) restarted(f Found) {
	m.mu.Lock()
	m.stats.Ended[f.Kind][EndRestart]++
	m.mu.Unlock()
	m.opt.Emit(&verdict.Action{
		Key: f.Flow.Key, VLAN: f.Flow.Key.VLAN, ID: f.FlowID, Time: time.Now().UnixNano(), Event: "end", Kind: f.Kind.String(), Backend: f.Backend, Label: f.Label, Latency: -1, Held: -1, Why: EndRestart.String(),
	}, false)
}

// check asks whether some of the rules are still there. Those that somebody has taken away one by one have ended; others are made as before.
func (m *Manager) check() {
	b := m.opt.Backend
	if b == nil || m.stopped != nil {
		return
	}
	hs := m.next(lookAtOnce)
	some := make([]Rule, len(hs))
	for i, h := range hs {
		some[i] = h.rule
	}
	lost, err := b.Check(some)
	if errors.Is(err, ErrGone) {
		m.gone(err)
	} else if err != nil {
		m.say("the rules in force can't be looked at: %v", err)
	}
	for _, i := range lost {
		h := hs[i]
		heap.Remove(&m.times, h.place)
		m.ended(h, EndFlushed, false)
		m.say("somebody has taken a rule away before its time was over: %s %s", h.rule.Effect.Kind, h.rule.Flow.Key)
	}
}

// next are the rules whose turn it is to be looked at, at most so many, but for those that are about to end and may have.
func (m *Manager) next(most int) (list []*held) {
	for range len(m.round) {
		if len(list) == most {
			break
		}
		h := m.round[0]
		m.round = m.round[1:]
		if m.rules[h.rule.Flow] != h {
			continue // it has ended
		}
		m.round = append(m.round, h)
		if time.Until(h.until) > time.Second {
			list = append(list, h)
		}
	}
	return list
}

// gone is what follows rules that somebody else has taken away: they are told ended, and no more are made. Whoever flushes them
// does not want them back a moment later.
func (m *Manager) gone(err error) {
	if m.stopped != nil {
		return
	}
	if undo := m.opt.Backend.Undo(); undo != nil {
		err = fmt.Errorf("%w; and what is left of them can't be taken away: %w", err, undo)
	}
	m.opt.Log.Error("actions are off until a restart: " + err.Error())
	m.mu.Lock()
	m.stopped = err
	m.mu.Unlock()
	for len(m.times) > 0 {
		m.ended(heap.Pop(&m.times).(*held), EndFlushed, false)
	}
}

// end undoes everything.
func (m *Manager) end() {
	for len(m.queue) > 0 {
		w := <-m.queue
		m.count(m.policy.entries[w.Entry].effect.Kind, Stopped)
	}
	if b := m.opt.Backend; b != nil {
		if err := b.Undo(); err != nil {
			rest := "they end by their times"
			if !b.Expires() {
				rest = "nepcod actions flush takes them away"
			}
			m.opt.Log.Error(fmt.Sprintf("%s could not be undone, %s: %v", plural.Of(len(m.times), "rule"), rest, err))
			m.opt.Flush()
			return
		}
	}
	for len(m.times) > 0 {
		m.ended(heap.Pop(&m.times).(*held), EndExit, true)
	}
	m.opt.Flush()
}

func (m *Manager) count(kind Kind, r Result) {
	m.mu.Lock()
	m.stats.Results[kind][r]++
	m.mu.Unlock()
}

// say logs what goes wrong with rules, at most once a second.
func (m *Manager) say(format string, args ...any) {
	if now := time.Now(); now.Sub(m.spoke) >= time.Second {
		m.spoke = now
		m.opt.Log.Warn("actions: " + fmt.Sprintf(format, args...))
	}
}

// Stats is what has been counted so far; any goroutine may call it.
func (m *Manager) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stats
	for i := range s.Withheld {
		s.Withheld[i] = m.withheld[i].Load()
	}
	s.Queued = len(m.queue)
	return s
}

// refusalTold is how long a refusal of the kernel is a problem.
const refusalTold = time.Minute

// Problem says what is wrong with actions now; empty where nothing is.
func (m *Manager) Problem() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.stopped != nil:
		return "actions are off until a restart: " + m.stopped.Error()
	case m.failed != nil && time.Since(m.failedAt) < refusalTold:
		return "actions: the kernel refuses rules: " + m.failed.Error()
	}
	return ""
}

// String is a line about what was done, for the log; empty where nothing was asked for.
func (s *Stats) String() string {
	var parts []string
	for k := range NumKinds {
		for r := range NumResults {
			if n := s.Results[k][r]; n > 0 {
				parts = append(parts, fmt.Sprintf("%d %s %s", n, k, Result(r)))
			}
		}
	}
	for r := Unasked + 1; r < NumReasons; r++ {
		if n := s.Withheld[r]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d withheld (%s)", n, r))
		}
	}
	return strings.Join(parts, ", ")
}
