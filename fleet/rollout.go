package fleet

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strings"
	"time"

	"nepcoc/runtime/trust"
)

// Group is the one document that says what a group of cards runs.
type Group struct {
	Version int    `json:"version"`
	Name    string `json:"name"`
	// Stable is what cards run that no rollout has reached.
	Stable Artifact `json:"stable,omitzero"`
	// Rollout is the one under way, or the last.
	Rollout *Rollout `json:"rollout,omitempty"`
	// Removal is under way, where bundles that the group doesn't need are removed from the servers.
	Removal *Removal `json:"removal,omitempty"`
}

// State is where a rollout is.
type State string

const (
	Advancing State = "running"   // cards take the bundle, or are watched with it
	Waiting   State = "waiting"   // the stage held; an operator's approval is asked for the next
	Halted    State = "halted"    // nothing more is ordered; cards stay with what they have
	Returning State = "returning" // cards go back
	Done      State = "done"
	Returned  State = "returned"
)

// Over is true where nothing more will happen by itself.
func (s State) Over() bool { return s == Done || s == Returned }

// Plan is how a rollout goes.
type Plan struct {
	Stages []Stage `json:"stages"`
	// Bake is how long all cards of a stage are watched with the bundle, Timeout how long they may take to run it.
	Bake    time.Duration `json:"bake"`
	Timeout time.Duration `json:"timeout"`
	Limits  Limits        `json:"limits"`
	// Approve asks for an operator's word before each stage after the first, Stay leaves cards with the bundle where a rollout halts.
	Approve bool `json:"approve,omitempty"`
	Stay    bool `json:"stay,omitempty"`
}

// Stage is up to how many cards a stage goes: a number, or a share of the group's in percent.
type Stage struct {
	Cards   int     `json:"cards,omitempty"`
	Percent float64 `json:"percent,omitempty"`
}

// of is the stage's number of n cards: one at least.
func (s Stage) of(n int) int {
	k := s.Cards
	if s.Percent > 0 {
		k = int(s.Percent * float64(n) / 100)
	}
	return min(max(k, 1), n)
}

func (s Stage) String() string {
	switch {
	case s.Percent == 100:
		return "all"
	case s.Percent > 0:
		return fmt.Sprintf("%g %%", s.Percent)
	}
	return CountCards(s.Cards)
}

// CountCards is a number of cards in words.
func CountCards(n int) string { return quantity(float64(n), "card") }

// quantity is a number of things, of which each is called what.
func quantity(n float64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return count(n) + " " + what + "s"
}

// Limits are by how much cards with the new bundle may be worse than those of the stage before (for the first: than the group's with the old one).
type Limits struct {
	Drops   float64 `json:"drops"`   // share of packets dropped, more by
	Unknown float64 `json:"unknown"` // share of verdicts that are unknown, more by
	Latency float64 `json:"latency"` // the 99th percentile of latency, times
	Drift   bool    `json:"drift"`   // whether drift that wasn't there before halts
	// Flows is how many flows a share of unknown verdicts must be of to be compared, and those of one card for its latency to count: of fewer than a
	// hundred, the 99th percentile is the slowest one.
	Flows int `json:"flows"`
}

// DefaultPlan goes over two cards, a twentieth and a quarter to all.
func DefaultPlan() Plan {
	return Plan{
		Stages:  []Stage{{Cards: 2}, {Percent: 5}, {Percent: 25}, {Percent: 100}},
		Bake:    10 * time.Minute,
		Timeout: 5 * time.Minute,
		Limits:  Limits{Drops: 0.01, Unknown: 0.1, Latency: 2, Drift: true, Flows: 100},
	}
}

// maxStages bounds a plan: it is part of the group's document.
const maxStages = 100

// Check says all that is wrong with a plan.
func (p *Plan) Check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if n := len(p.Stages); n == 0 || n > maxStages {
		bad("a rollout of %d stages: one, all, at least, and %d at most", n, maxStages)
	}
	for i, s := range p.Stages {
		if (s.Cards > 0) == (s.Percent > 0) || s.Cards < 0 || s.Percent < 0 || s.Percent > 100 {
			bad("stage %d: a number of cards, or a share above 0 and up to 100 %%", i+1)
		}
	}
	if n := len(p.Stages); n > 0 && p.Stages[n-1].Percent != 100 {
		bad("the last stage must be all cards")
	}
	if p.Bake < 0 || p.Timeout <= 0 {
		bad("bake time %v, timeout %v: the one can't be negative, the other must be above zero", p.Bake, p.Timeout)
	}
	// JSON, in which plans are kept, has no infinity.
	if l := p.Limits; !(l.Drops >= 0) || !(l.Unknown >= 0) || !(l.Latency > 0) || l.Flows < 0 || math.IsInf(l.Drops+l.Unknown+l.Latency, 1) {
		bad("limits: drops, unknown and flows can't be negative, latency must be above zero; 1e9 is as good as no limit, and infinity is no number here")
	}
	return errors.Join(errs...)
}

// Rollout is one bundle on its way to a group's cards.
type Rollout struct {
	ID    string    `json:"id"`
	By    string    `json:"by,omitempty"`
	Begun time.Time `json:"begun"`
	From  Artifact  `json:"from,omitzero"`
	To    Artifact  `json:"to"`
	Plan  Plan      `json:"plan"`

	State State `json:"state"`
	// Stage is the index of the stage, Since when it began, Steady when all of its cards ran the bundle (zero: not yet).
	Stage  int       `json:"stage"`
	Since  time.Time `json:"since"`
	Steady time.Time `json:"steady,omitzero"`
	// Cards are the group's in the order that stages take them, the first Reached of them have been ordered to run To.
	Cards   []string `json:"cards"`
	Reached int      `json:"reached"`
	// Again is how often an operator had it go on after a halt.
	Again int `json:"again,omitempty"`
	// Away are those that didn't report when their stage began: nobody waits for them, and they take the bundle when they come back.
	Away []string `json:"away,omitempty"`
	// Troubled are those whose agent had a problem before the rollout: that does not halt it.
	Troubled []string `json:"troubled,omitempty"`
	// Before is what this stage is compared with: the stage before, or what was before that where nothing of it could be compared.
	Before Figures `json:"before"`
	// Missing are those of the group that did not run the bundle as it ended: they were away.
	Missing []string `json:"missing,omitempty"`
	// Blind are the stages, from 1, that held though nothing could be compared: cards ran the bundle, and that is all that is known.
	Blind []int `json:"blind,omitempty"`
	// Passed are the stages, from 1, that add no card, so that there is nobody new to watch: they are, or were, passed over.
	Passed []int `json:"passed,omitempty"`
	// Reasons are why a rollout was halted.
	Reasons []string `json:"reasons,omitempty"`
	Events  []Event  `json:"events,omitempty"`
}

// Event is one line of a rollout's story.
type Event struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// Story follows the events of one rollout after another, so that each is told once.
type Story struct {
	rollout string
	last    Event
}

// New are the events of a rollout that were not given before.
func (s *Story) New(r *Rollout) []Event {
	if s.rollout != r.ID {
		*s = Story{rollout: r.ID}
	}
	from := 0
	for i, e := range r.Events {
		if e.At.Equal(s.last.At) && e.Text == s.last.Text {
			from = i + 1
		}
	}
	if n := len(r.Events); n > 0 {
		s.last = r.Events[n-1]
	}
	return r.Events[from:]
}

// maxEvents bounds a rollout's story, maxReasons what is said of many cards.
const (
	maxEvents  = 100
	maxReasons = 10
	maxStory   = 128 << 10 // bytes of all events, of which JSON may make six times as many: servers take documents of 1 MiB
)

func (r *Rollout) tell(now time.Time, format string, args ...any) {
	r.Events = append(r.Events, Event{now, fmt.Sprintf(format, args...)})
	size := 0
	for _, e := range r.Events {
		size += len(e.Text)
	}
	for len(r.Events) > 2 && (len(r.Events) > maxEvents || size > maxStory) { // how it began stays, and the last
		size -= len(r.Events[1].Text)
		r.Events = slices.Delete(r.Events, 1, 2)
	}
}

// Figures are of several cards together.
type Figures struct {
	Cards   int     `json:"cards"`
	Flows   float64 `json:"flows"`
	Packets float64 `json:"packets"`
	Drops   float64 `json:"drops"`
	Unknown float64 `json:"unknown"`
	// Latency is the median of the 99th percentiles, in seconds, of the cards that had flows enough; 0: none had.
	Latency float64 `json:"latency"`
	Drift   int     `json:"drift"` // how many cards tell of drift
}

// figures are of the cards that run the bundle.
func (l *Limits) figures(cards map[string]Status, names []string, digest string) (f Figures) {
	var latencies []float64
	var dropped, unknown float64
	for _, name := range names {
		a := cards[name].Agent
		if a.Digest != digest {
			continue
		}
		f.Cards++
		f.Flows += a.Flows()
		f.Packets += a.Packets + a.Dropped
		dropped += a.Dropped
		unknown += a.Unknown
		if a.Flows() >= l.enough() {
			latencies = append(latencies, a.Latency)
		}
		if a.Drift {
			f.Drift++
		}
	}
	f.Drops, f.Unknown = share(dropped, f.Packets), share(unknown, f.Flows)
	if slices.Sort(latencies); len(latencies) > 0 {
		f.Latency = latencies[len(latencies)/2]
	}
	return f
}

// enough is how many flows something must be of to be compared.
func (l *Limits) enough() float64 { return float64(max(l.Flows, 1)) }

// comparable says what of f can be compared with before. What can't be isn't held against a bundle, nor does it speak for it.
func (l *Limits) comparable(f, before Figures) (drops, unknown, latency bool) {
	return f.Packets > 0 && before.Packets > 0, f.Flows >= l.enough() && before.Flows >= l.enough(), f.Latency > 0 && before.Latency > 0
}

// worse says by which limits f is worse than before.
func (l *Limits) worse(f, before Figures) (why []string) {
	drops, unknown, latency := l.comparable(f, before)
	if drops && f.Drops > before.Drops+l.Drops {
		why = append(why, fmt.Sprintf("%.1f %% of packets dropped, %.1f %% before", 100*f.Drops, 100*before.Drops))
	}
	if unknown && f.Unknown > before.Unknown+l.Unknown {
		why = append(why, fmt.Sprintf("%.1f %% of verdicts are unknown, %.1f %% before", 100*f.Unknown, 100*before.Unknown))
	}
	if latency && f.Latency > before.Latency*l.Latency {
		why = append(why, fmt.Sprintf("99 %% of verdicts within %.3g ms, %.3g ms before", 1e3*f.Latency, 1e3*before.Latency))
	}
	if l.Drift && f.Drift > 0 && before.Drift == 0 {
		why = append(why, fmt.Sprintf("drift on %d of %s, on none before", f.Drift, CountCards(f.Cards)))
	}
	return why
}

// compared says what the comparison of f with before stands on, and whether that is anything at all.
func (l *Limits) compared(f, before Figures) (string, bool) {
	_, unknown, latency := l.comparable(f, before)
	text := fmt.Sprintf("%s with %s before", quantity(f.Flows, "flow"), count(before.Flows))
	switch {
	case !unknown: // drops alone tell of no model
		return fmt.Sprintf("nothing compared (%s; needed: %s)", text, count(l.enough())), false
	case !latency:
		return fmt.Sprintf("compared on %s, but for latency, which needs %s of one card", text, count(l.enough())), true
	}
	return "compared on " + text, true
}

// lost is how long a card may be silent before it counts as away.
var lost = time.Minute // changed by tests only

// Reports is true where a card has reported lately. What was seen later than now was seen before the servers' clock was set back: nobody knows when.
func (s Status) Reports(now time.Time) bool { return !s.Seen.IsZero() && now.Sub(s.Seen).Abs() < lost }

// silent is true for a card that could have been heard and wasn't.
func silent(s Status, now, heard time.Time) bool {
	return !s.Reports(now) && now.Sub(heard) >= lost
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Ending is the command that ends a rollout: a group's first has nothing to go back to.
func (r *Rollout) Ending() string {
	if r.From.IsZero() {
		return "halt"
	}
	return "back"
}

// Begin is the group with a new rollout under way.
func (g Group) Begin(id, by string, to Artifact, plan Plan, cards map[string]Status, now time.Time) (Group, error) {
	if r := g.Rollout; r != nil && !r.State.Over() && !(r.State == Halted && r.From.IsZero()) { // the one there is no way back from
		return g, fmt.Errorf("group %s: rollout %s is %s: wait for its end, or end it with nepcof %s %s", g.Name, r.ID, r.State, r.Ending(), g.Name)
	}
	if err := plan.Check(); err != nil {
		return g, err
	}
	if len(cards) == 0 {
		return g, fmt.Errorf("group %s has no cards: nepcof enrol makes a token for one", g.Name)
	}
	if to.File == g.Stable.File {
		return g, fmt.Errorf("group %s runs %v already", g.Name, to)
	}
	if g.Removal.has(to.File) {
		return g, fmt.Errorf("group %s: %v is being removed from the servers since %s: try again in a moment, with a hub that leads", g.Name, to, g.Removal.Begun.UTC().Format(time.RFC3339))
	}
	if from := g.Stable; !from.IsZero() && to.Serial < from.Serial {
		return g, fmt.Errorf("bundle has serial %d, and the group runs one of serial %d: cards refuse it; sign it with a higher --serial", to.Serial, from.Serial)
	}
	if last := g.Rollout; last != nil && strings.HasPrefix(last.ID, id) { // begun in the same second
		id = last.ID + "-2"
	}
	r := &Rollout{ID: id, By: by, Begun: now, From: g.Stable, To: to, Plan: plan, State: Advancing, Stage: -1}
	for name, s := range cards {
		r.Cards = append(r.Cards, name)
		if s.Agent.Problem != "" {
			r.Troubled = append(r.Troubled, name)
		}
	}
	slices.Sort(r.Troubled)
	// The order is by chance, but the same on each hub; first those that report and are well.
	rank := func(name string) int {
		switch s := cards[name]; {
		case !s.Reports(now):
			return 2
		case s.Agent.Problem != "":
			return 1
		}
		return 0
	}
	slices.SortFunc(r.Cards, func(a, b string) int {
		if d := rank(a) - rank(b); d != 0 {
			return d
		}
		if x, y := hash(id+a), hash(id+b); x != y {
			if x < y {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	if rank(r.Cards[0]) == 2 {
		return g, fmt.Errorf("no card of group %s has reported within %v: see nepcof cards --group %s", g.Name, lost, g.Name)
	}
	r.tell(now, "%v to %s of group %s; before: %v", to, CountCards(len(r.Cards)), g.Name, r.From)
	r.next(cards, now)
	g.Rollout = r
	return g, nil
}

func hash(s string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(s))
	return h.Sum32()
}

// next begins the next stage.
func (r *Rollout) next(cards map[string]Status, now time.Time) {
	limits := &r.Plan.Limits
	if r.Stage < 0 {
		r.Before = limits.figures(cards, r.Cards, r.From.Digest)
	} else if f := r.now(cards); f.Flows >= limits.enough() {
		r.Before = f
	}
	r.pass(r.ahead(), now)
	r.Stage++
	r.State, r.Since, r.Steady = Advancing, now, time.Time{}
	reached := max(r.Plan.Stages[r.Stage].of(len(r.Cards)), r.Reached)
	r.reach(reached, cards, now)
	r.tell(now, "stage %d of %d, %v: %s", r.Stage+1, len(r.Plan.Stages), r.Plan.Stages[r.Stage], CountCards(r.Reached))
}

// reach has the rollout reach so many cards. Those that don't report now are not waited for.
func (r *Rollout) reach(n int, cards map[string]Status, now time.Time) {
	for _, name := range r.Cards[r.Reached:n] {
		if !cards[name].Reports(now) {
			r.Away = append(r.Away, name)
		}
	}
	r.Reached = n
	r.Passed = slices.DeleteFunc(r.Passed, func(number int) bool { return number > r.Stage+1 })
	for i := r.Stage + 1; i < len(r.Plan.Stages); i++ {
		if most := r.Plan.Stages[i].of(len(r.Cards)); most > n {
			n = most
		} else {
			r.Passed = append(r.Passed, i+1)
		}
	}
}

// ahead is the index of the next stage that adds a card; where none does, of the last.
func (r *Rollout) ahead() int {
	i, last := r.Stage+1, len(r.Plan.Stages)-1
	for i < last && r.Plan.Stages[i].of(len(r.Cards)) <= r.Reached {
		i++
	}
	return min(i, last)
}

// pass passes over the stages before one, which add no card: they would watch the same ones again.
func (r *Rollout) pass(before int, now time.Time) {
	for r.Stage+1 < before {
		r.Stage++
		if number := r.Stage + 1; !slices.Contains(r.Passed, number) { // begun by an earlier version
			r.Passed = append(r.Passed, number)
		}
		r.tell(now, "stage %d of %d, %v: adds no card, passed over", r.Stage+1, len(r.Plan.Stages), r.Plan.Stages[r.Stage])
	}
}

// StageLine says in a line which stages a rollout has, and which of them add no card.
func (r *Rollout) StageLine() string {
	var all []string
	for i, s := range r.Plan.Stages {
		text := s.String()
		if slices.Contains(r.Passed, i+1) {
			text += " (adds no card)"
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}

// Wants is what a card of the group is to run.
func (g *Group) Wants(card string) Artifact {
	r := g.Rollout
	if r == nil || r.State.Over() || r.State == Returning {
		return g.Stable
	}
	if i := slices.Index(r.Cards, card); i >= 0 && i < r.Reached {
		return r.To
	}
	return g.Stable
}

// wanted is Wants for many cards.
func (g *Group) wanted(cards []string) map[string]Artifact {
	w := make(map[string]Artifact, len(cards))
	for _, c := range cards {
		w[c] = g.Stable
	}
	if r := g.Rollout; r != nil && !r.State.Over() && r.State != Returning {
		for _, c := range r.Cards[:r.Reached] {
			if _, ok := w[c]; ok {
				w[c] = r.To
			}
		}
	}
	return w
}

// try is Order.Try of an artifact that a card of the group is to run; "": it is no rollout's.
func (g *Group) try(a Artifact) string {
	r := g.Rollout
	if r == nil || a.File != r.To.File || a.File == g.Stable.File {
		return ""
	}
	return fmt.Sprintf("%d.%d", r.Begun.UnixNano(), r.Again)
}

// CheckBack says why a note is no reason to run the artifact from again after to. Whose signature it has is for cards to judge.
func CheckBack(name string, note []byte, from, to Artifact) error {
	r, err := trust.PeekRollback(name, bytes.NewReader(note))
	switch {
	case err != nil:
		return err
	case r.From != to.Serial:
		return fmt.Errorf("%s: is a reason to go back from serial %d, and the bundle has serial %d", name, r.From, to.Serial)
	case !from.IsZero() && (r.To != from.Serial || r.Digest != from.Digest):
		return fmt.Errorf("%s: is a reason to go back to %.12s (serial %d), and the group runs %v", name, r.Digest, r.To, from)
	}
	return nil
}

// Step is the group a moment later, by what its cards report, and whether anything changed. It has no other input: each hub that sees the same moves it alike.
// Heard is since when cards could be heard without a break: what was silent before lay with the servers or the hub, and is held against no card.
func (g Group) Step(cards map[string]Status, now, heard time.Time) (Group, bool) {
	if g.Rollout == nil {
		return g, false
	}
	r := g.Rollout.clone()
	g.Rollout = &r
	if r.setBack(now) {
		return g, true
	}
	switch r.State {
	case Advancing, Waiting:
		if r.part(cards, now) {
			return g, true
		}
		why := r.failures(cards, now, heard)
		if len(why) > 0 {
			g.stop(why, now, !r.Plan.Stay)
			return g, true
		}
		if r.State == Waiting {
			return g, false
		}
		changed := g.advance(cards, now, heard)
		return g, changed
	case Returning:
		left := 0
		for _, name := range r.Cards[:r.Reached] {
			s, ok := cards[name]
			if ok && !silent(s, now, heard) && (s.Wanted != r.From.File || s.Phase != Running && s.Phase != Refused) {
				left++
			}
		}
		// Those that are away are not waited for, nor those that won't go back: the order stands, and ends says who they are.
		if left == 0 || now.Sub(latest(r.Since, heard)) > r.Plan.Timeout {
			r.State = Returned
			r.tell(now, "back to %v: %s", r.From, r.ends(cards, r.From))
			return g, true
		}
	}
	return g, false
}

// setBack has what began later than now begin now: the servers' clock was set back, and for so long nothing would be late.
func (r *Rollout) setBack(now time.Time) (changed bool) {
	for _, t := range []*time.Time{&r.Since, &r.Steady} {
		if t.After(now.Add(lost)) {
			*t, changed = now, true
		}
	}
	return changed
}

// part lets cards go that are no longer of the group: nobody waits for them.
func (r *Rollout) part(cards map[string]Status, now time.Time) (changed bool) {
	for _, name := range r.Cards {
		if _, ok := cards[name]; !ok && !slices.Contains(r.Away, name) {
			r.Away, changed = append(r.Away, name), true
			r.tell(now, "%s is no longer of the group", name)
		}
	}
	return changed
}

func (r *Rollout) clone() Rollout {
	c := *r
	c.Blind, c.Passed = slices.Clone(r.Blind), slices.Clone(r.Passed)
	c.Cards, c.Away, c.Missing, c.Reasons, c.Events = slices.Clone(r.Cards), slices.Clone(r.Away), slices.Clone(r.Missing), slices.Clone(r.Reasons), slices.Clone(r.Events)
	return c
}

// advance moves on where the stage's cards all run the bundle, and have for the bake time.
func (g *Group) advance(cards map[string]Status, now, heard time.Time) bool {
	r := g.Rollout
	for i, name := range r.Cards {
		s := cards[name]
		switch {
		case slices.Contains(r.Away, name):
		case i < r.Reached && (!r.runs(s) || !s.Reports(now)):
			return false
		// The next stage's cards had no time to be heard.
		case !s.Reports(now) && !silent(s, now, heard) && s.Seen.Add(lost).After(r.Begun):
			return false
		}
	}
	// A stage that all of its cards left, or were away from, has shown nothing: another card takes their place.
	if r.Reached < len(r.Cards) && !slices.ContainsFunc(r.Cards[:r.Reached], func(name string) bool { return r.runs(cards[name]) }) {
		r.reach(r.Reached+1, cards, now)
		r.Since, r.Steady = now, time.Time{}
		r.tell(now, "no card of the stage is left to run it: %s takes their place", r.Cards[r.Reached-1])
		return true
	}
	changed := false
	if r.Steady.IsZero() {
		r.Steady, changed = now, true
	}
	if now.Sub(r.Steady) < r.Plan.Bake {
		return changed
	}
	compared, known := r.Plan.Limits.compared(r.now(cards), r.Before)
	if !known && !slices.Contains(r.Blind, r.Stage+1) { // an approved one is held again
		r.Blind = append(r.Blind, r.Stage+1)
	}
	r.tell(now, "stage %d held: %s, %s", r.Stage+1, r.ends(cards, r.To), compared)
	switch {
	case r.Reached == len(r.Cards): // no stage that is left adds any
		r.pass(len(r.Plan.Stages), now)
		r.State, g.Stable = Done, r.To
		for _, name := range r.missing(cards, r.To) {
			if _, ok := cards[name]; ok {
				r.Missing = append(r.Missing, name)
			}
		}
		if len(r.Blind) > 0 {
			r.tell(now, "done; nothing was compared in %d of %s: that cards run the bundle says nothing of how it does", len(r.Blind), r.watched())
		} else {
			r.tell(now, "done")
		}
	case r.Plan.Approve:
		r.State = Waiting
		r.tell(now, "waiting for approval of stage %d", r.ahead()+1)
	default:
		r.next(cards, now)
	}
	return true
}

// watched is how many stages have cards of their own.
func (r *Rollout) watched() string {
	return quantity(float64(len(r.Plan.Stages)-len(r.Passed)), "stage") + " watched"
}

// now are the figures of the cards that the rollout reached.
func (r *Rollout) now(cards map[string]Status) Figures {
	return r.Plan.Limits.figures(cards, r.Cards[:r.Reached], r.To.Digest)
}

// runs is true where a card runs the rollout's bundle by the rollout's order.
func (r *Rollout) runs(s Status) bool {
	return s.Wanted == r.To.File && s.Phase == Running && s.Agent.Digest == r.To.Digest
}

// ends says in how many cards an artifact has arrived, and where not.
func (r *Rollout) ends(cards map[string]Status, a Artifact) string {
	not := r.missing(cards, a)
	text := fmt.Sprintf("it runs on %d of %s", r.Reached-len(not), CountCards(r.Reached))
	if len(not) > 0 {
		text += ", not on " + Several(not)
	}
	return text
}

// missing are the cards reached that don't run an artifact.
func (r *Rollout) missing(cards map[string]Status, a Artifact) (not []string) {
	for _, name := range r.Cards[:r.Reached] {
		if s := cards[name]; s.Wanted != a.File || s.Phase != Running {
			not = append(not, name)
		}
	}
	return not
}

// Several names a few of many.
func Several(names []string) string {
	if len(names) > maxReasons {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxReasons], ", "), len(names)-maxReasons)
	}
	return strings.Join(names, ", ")
}

// failures are why a rollout must not go on.
func (r *Rollout) failures(cards map[string]Status, now, heard time.Time) (why []string) {
	var late []string
	for _, name := range r.Cards[:r.Reached] {
		s := cards[name]
		away := slices.Contains(r.Away, name)
		switch {
		case s.Wanted == r.To.File && s.Phase == Refused && (!away || s.Reports(now)):
			why = append(why, fmt.Sprintf("%s: %s", name, s.Reason))
		case away:
		case silent(s, now, heard):
			why = append(why, fmt.Sprintf("%s has not reported since %s", name, s.Seen.UTC().Format(time.RFC3339)))
		case r.runs(s):
			if s.Agent.Problem != "" && !slices.Contains(r.Troubled, name) {
				why = append(why, fmt.Sprintf("%s: %s", name, s.Agent.Problem))
			}
		case now.Sub(latest(r.Since, heard)) > r.Plan.Timeout:
			late = append(late, name)
		}
	}
	if len(late) > 0 {
		why = append(why, fmt.Sprintf("not running the bundle after %v: %s", r.Plan.Timeout, Several(late)))
	}
	return append(why, r.Plan.Limits.worse(r.now(cards), r.Before)...)
}

// stop halts a rollout, and takes it back if that is wanted and there is anything to go back to.
func (g *Group) stop(why []string, now time.Time, back bool) {
	r := g.Rollout
	if n := len(why) - maxReasons; n > 0 {
		why = append(why[:maxReasons:maxReasons], fmt.Sprintf("and %d more", n))
	}
	r.Reasons = why
	r.State = Halted
	r.tell(now, "halted: %s", strings.Join(why, "; "))
	if back {
		if err := g.turnBack(now); err != nil {
			r.tell(now, "%v", err)
		}
	}
}

// turnBack orders the cards back to what they ran.
func (g *Group) turnBack(now time.Time) error {
	r := g.Rollout
	if r.From.IsZero() {
		return fmt.Errorf("group %s ran no bundle before: there is nothing to go back to", g.Name)
	}
	if r.State == Done {
		r.Reached = len(r.Cards)
	}
	r.State, r.Since, g.Stable = Returning, now, r.From
	r.tell(now, "back to %v", r.From)
	return nil
}

// Halt stops a rollout by an operator's word: cards stay with what they have.
func (g Group) Halt(reason string, now time.Time) (Group, error) {
	r := g.Rollout
	if r == nil || r.State != Advancing && r.State != Waiting {
		return g, fmt.Errorf("group %s: no rollout is under way", g.Name)
	}
	c := r.clone()
	g.Rollout = &c
	g.stop([]string{short(reason)}, now, false)
	return g, nil
}

// Back takes a rollout back, also one that is done.
func (g Group) Back(reason string, now time.Time) (Group, error) {
	r := g.Rollout
	if r == nil || r.State == Returning || r.State == Returned {
		return g, fmt.Errorf("group %s: no rollout to take back", g.Name)
	}
	c := r.clone()
	g.Rollout = &c
	if reason = short(reason); !slices.Contains(c.Reasons, reason) {
		c.Reasons = append(c.Reasons, reason)
	}
	err := g.turnBack(now)
	return g, err
}

// Approve lets a waiting rollout begin its next stage, and a halted one go on with its own.
func (g Group) Approve(cards map[string]Status, now time.Time) (Group, error) {
	r := g.Rollout
	if r == nil || r.State != Waiting && r.State != Halted {
		return g, fmt.Errorf("group %s: no rollout waits for approval", g.Name)
	}
	c := r.clone()
	g.Rollout = &c
	if c.State == Waiting {
		if why := c.failures(cards, now, time.Time{}); len(why) > 0 {
			return g, fmt.Errorf("group %s: stage %d did not hold: %s", g.Name, c.Stage+1, strings.Join(why, "; "))
		}
		c.next(cards, now)
		return g, nil
	}
	c.State, c.Since, c.Steady, c.Reasons = Advancing, now, time.Time{}, nil
	c.Again++
	c.tell(now, "goes on")
	return g, nil
}
