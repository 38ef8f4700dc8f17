package fleet

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// begun is when the rollouts of these tests begin.
var begun = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

func artifact(n int) Artifact {
	return Artifact{File: fmt.Sprintf("file%d", n), Digest: fmt.Sprintf("digest%d", n), Serial: uint64(n), Size: 1}
}

// running is a card that runs an artifact, well.
func running(a Artifact, order uint64, seen time.Time) Status {
	return Status{Wanted: a.File, Phase: Running, Order: order, At: seen, Seen: seen,
		Agent: Agent{Digest: a.Digest, Packets: 1000, Verdicts: map[string]float64{"a": 90}, Unknown: 10, Latency: 1e-3}}
}

// groupOf is a group of n cards that run artifact 1.
func groupOf(n int) (Group, map[string]Status) {
	cards := map[string]Status{}
	for i := range n {
		cards[fmt.Sprintf("card%03d", i)] = running(artifact(1), 1, begun)
	}
	return Group{Version: version, Name: "g", Stable: artifact(1)}, cards
}

func fastPlan() Plan {
	p := DefaultPlan()
	p.Bake = time.Minute
	return p
}

// What one card reports halts a rollout in its first stage, or doesn't.
func TestStageOne(t *testing.T) {
	for name, test := range map[string]struct {
		report func(s *Status)
		later  time.Duration
		halted string // part of the reason; "": it goes on
	}{
		"well":    {func(*Status) {}, 0, ""},
		"refused": {func(s *Status) { s.Phase, s.Reason = Refused, "golden vector 3" }, 0, "golden vector 3"},
		"slow":    {func(s *Status) { s.Agent.Latency = 3e-3 }, 0, "99 % of verdicts within 3 ms"},
		"slow, of few flows": {func(s *Status) {
			s.Agent.Latency, s.Agent.Verdicts, s.Agent.Unknown = 3e-3, map[string]float64{"a": 50}, 0
		}, 0, ""},
		"slower, as may be":   {func(s *Status) { s.Agent.Latency = 1.9e-3 }, 0, ""},
		"drops":               {func(s *Status) { s.Agent.Dropped = 100 }, 0, "of packets dropped"},
		"drift":               {func(s *Status) { s.Agent.Drift = true }, 0, "drift on 1 of 2 cards"},
		"unknown":             {func(s *Status) { s.Agent.Unknown = 100 }, 0, "are unknown"},
		"a problem":           {func(s *Status) { s.Agent.Problem = "port down" }, 0, "port down"},
		"silent":              {func(s *Status) { s.Seen = begun }, 2 * time.Minute, "has not reported"},
		"placed, too long":    {func(s *Status) { s.Phase = Placed }, 6 * time.Minute, "not running the bundle after"},
		"placed":              {func(s *Status) { s.Phase = Placed }, time.Minute, ""},
		"runs something else": {func(s *Status) { s.Agent.Digest = "other" }, 6 * time.Minute, "not running the bundle after"},
	} {
		t.Run(name, func(t *testing.T) {
			g, cards := groupOf(40)
			g, err := g.Begin("r", "me", artifact(2), fastPlan(), cards, begun)
			if err != nil {
				t.Fatal(err)
			}
			now := begun.Add(time.Second)
			for i, c := range g.Rollout.Cards[:2] {
				s := running(artifact(2), 2, now)
				if i == 1 {
					test.report(&s)
				}
				cards[c] = s
			}
			now = now.Add(test.later)
			for c, s := range cards {
				if s.Seen.After(begun) || g.Wants(c) == g.Stable {
					s.Seen = now
					cards[c] = s
				}
			}
			g, _ = g.Step(cards, now, begun)
			r := g.Rollout
			switch {
			case test.halted == "" && r.State != Advancing:
				t.Errorf("%s: %v", r.State, r.Reasons)
			case test.halted != "" && (r.State != Returning || !strings.Contains(strings.Join(r.Reasons, ";"), test.halted)):
				t.Errorf("%s: %v", r.State, r.Reasons)
			case r.Stage != 0 || r.Reached != 2:
				t.Errorf("stage %d, %d cards", r.Stage, r.Reached)
			}
		})
	}
}

// A stage of which nothing could be compared says so, counts as no proof, and is not what the next is held to: that stays what was before.
func TestNothingCompared(t *testing.T) {
	const few = 99
	for name, test := range map[string]struct {
		flows   float64 // of the first stage's two cards together
		second  float64 // latency of the second's
		unknown float64 // of the second's, of 100
		blind   []int
		halted  string // in the second
		tells   string // of the first
	}{
		"no flows, then well":    {0, 1e-3, 10, []int{1}, "", "nothing compared (0 flows with 4,000 before; needed: 100)"},
		"few flows, then well":   {few, 1e-3, 10, []int{1}, "", "nothing compared (99 flows with 4,000 before; needed: 100)"},
		"no flows, then slow":    {0, 3e-3, 10, []int{1}, "99 % of verdicts within 3 ms, 1 ms before", "nothing compared"},
		"no flows, then unknown": {0, 1e-3, 50, []int{1}, "of verdicts are unknown, 10.0 % before", "nothing compared"},
		"no card has enough":     {150, 1e-3, 10, nil, "", "compared on 150 flows with 4,000 before, but for latency, which needs 100 of one card"},
		"flows":                  {200, 1e-3, 10, nil, "", "compared on 200 flows with 4,000 before"},
	} {
		t.Run(name, func(t *testing.T) {
			g, cards := groupOf(40)
			plan := fastPlan()
			plan.Bake, plan.Stages = 0, []Stage{{Cards: 2}, {Percent: 50}, {Percent: 100}}
			g, err := g.Begin("r", "me", artifact(2), plan, cards, begun)
			if err != nil {
				t.Fatal(err)
			}
			run := func(change func(a *Agent)) {
				for _, c := range g.Rollout.Cards[:g.Rollout.Reached] {
					s := running(artifact(2), 2, begun)
					change(&s.Agent)
					cards[c] = s
				}
				g, _ = g.Step(cards, begun, begun)
			}
			run(func(a *Agent) {
				a.Verdicts, a.Unknown = map[string]float64{"a": test.flows / 2 * 0.9}, test.flows/2*0.1
			})
			r := g.Rollout
			if r.Stage != 1 || !slices.Equal(r.Blind, test.blind) || !strings.HasSuffix(r.Events[2].Text, test.tells) && !strings.Contains(r.Events[2].Text, test.tells+" (") {
				t.Fatalf("stage %d, blind %v, %v", r.Stage, r.Blind, r.Events)
			}
			run(func(a *Agent) {
				a.Verdicts, a.Unknown, a.Latency = map[string]float64{"a": 100 - test.unknown}, test.unknown, test.second
			})
			if test.halted != "" {
				if r = g.Rollout; r.State != Returning || !strings.Contains(strings.Join(r.Reasons, ";"), test.halted) {
					t.Errorf("%s: %v", r.State, r.Reasons)
				}
				return
			}
			run(func(*Agent) {})
			r = g.Rollout
			if last := r.Events[len(r.Events)-1].Text; r.State != Done || strings.Contains(last, "nothing was compared in 1 of 3 stages") != (len(test.blind) > 0) {
				t.Errorf("%s: %s", r.State, last)
			}
		})
	}
}

// A stage that adds no card is not watched: it would be the same cards once more. Which stages those are is known from the beginning.
func TestStagesThatAddNone(t *testing.T) {
	for name, test := range map[string]struct {
		cards   int
		stages  []Stage
		approve bool
		old     bool // begun by a version that watched each stage
		passed  []int
		line    string
		reached []int // of each stage that is watched
	}{
		"none":     {80, DefaultPlan().Stages, false, false, nil, "2 cards, 5 %, 25 %, all", []int{2, 4, 20, 80}},
		"default":  {40, DefaultPlan().Stages, false, false, []int{2}, "2 cards, 5 % (adds no card), 25 %, all", []int{2, 10, 40}},
		"one card": {1, DefaultPlan().Stages, false, false, []int{2, 3, 4}, "2 cards, 5 % (adds no card), 25 % (adds no card), all (adds no card)", []int{1}},
		"amid":     {3, []Stage{{Percent: 1}, {Percent: 10}, {Cards: 2}, {Cards: 1}, {Percent: 100}}, false, false, []int{2, 4}, "1 %, 10 % (adds no card), 2 cards, 1 card (adds no card), all", []int{1, 2, 3}},
		"approved": {3, []Stage{{Percent: 1}, {Percent: 10}, {Percent: 100}, {Percent: 100}}, true, false, []int{2, 4}, "1 %, 10 % (adds no card), all, all (adds no card)", []int{1, 3}},
		"old":      {3, []Stage{{Percent: 1}, {Percent: 10}, {Percent: 100}, {Percent: 100}}, false, true, []int{2, 4}, "1 %, 10 % (adds no card), all, all (adds no card)", []int{1, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			g, cards := groupOf(test.cards)
			plan := fastPlan()
			plan.Stages, plan.Approve = test.stages, test.approve
			g, err := g.Begin("r", "me", artifact(2), plan, cards, begun)
			if err != nil {
				t.Fatal(err)
			}
			if test.old {
				g.Rollout.Passed = nil
			} else if r := g.Rollout; !slices.Equal(r.Passed, test.passed) || r.StageLine() != test.line {
				t.Errorf("passed over: %v, %q", r.Passed, r.StageLine())
			}
			now := begun
			for _, want := range test.reached {
				r := g.Rollout
				if r.Reached != want || r.State != Advancing || slices.Contains(test.passed, r.Stage+1) {
					t.Fatalf("stage %d, %s, %d reached, not %d", r.Stage+1, r.State, r.Reached, want)
				}
				// Steady, then watched: two steps, and an operator's word.
				for range 2 {
					now = now.Add(plan.Bake)
					for i, c := range r.Cards {
						a := artifact(1)
						if i < r.Reached {
							a = artifact(2)
						}
						cards[c] = running(a, 2, now)
					}
					// A card that joins meanwhile is of no stage, and changes none.
					cards["joined"] = running(artifact(1), 2, now)
					g, _ = g.Step(cards, now, begun)
				}
				if want < test.cards && test.approve {
					p := newProgress(&g, cards, now)
					if last := g.Rollout.Events[len(g.Rollout.Events)-1].Text; g.Rollout.State != Waiting || last != "waiting for approval of stage 3" || p.Ahead != 3 || p.Next != 3 || !p.Stages[1].None || p.Stages[2].None {
						t.Fatalf("%s, %q, page: %+v", g.Rollout.State, last, p)
					}
					if g, err = g.Approve(cards, now); err != nil {
						t.Fatal(err)
					}
				}
			}
			r := g.Rollout
			if r.State != Done || r.Stage != len(test.stages)-1 || !slices.Equal(r.Passed, test.passed) || r.StageLine() != test.line {
				t.Errorf("%s, stage %d, passed over: %v, %q", r.State, r.Stage, r.Passed, r.StageLine())
			}
			for _, number := range test.passed {
				told := fmt.Sprintf("stage %d of %d, %v: adds no card, passed over", number, len(test.stages), test.stages[number-1])
				if !slices.ContainsFunc(r.Events, func(e Event) bool { return e.Text == told }) {
					t.Errorf("%q is not in %v", told, r.Events)
				}
			}
			if g.Wants("joined") != artifact(2) {
				t.Errorf("the card that joined wants %v", g.Wants("joined"))
			}
		})
	}
}

// Where another card takes the place of those that left, the stages to come are reckoned anew.
func TestStageLeftThenPassed(t *testing.T) {
	g, cards := groupOf(4)
	plan := fastPlan()
	plan.Bake, plan.Stages = 0, []Stage{{Cards: 1}, {Cards: 2}, {Percent: 100}}
	g, err := g.Begin("1", "me", artifact(2), plan, cards, begun)
	if err != nil {
		t.Fatal(err)
	}
	names := g.Rollout.Cards
	delete(cards, names[0])
	for range 2 {
		g, _ = g.Step(cards, begun, begun)
	}
	if r := g.Rollout; r.Reached != 2 || r.Stage != 0 || !slices.Equal(r.Passed, []int{2}) {
		t.Fatalf("%d reached, stage %d, passed over: %v", r.Reached, r.Stage, r.Passed)
	}
	cards[names[1]] = running(artifact(2), 9, begun)
	g, _ = g.Step(cards, begun, begun)
	if r := g.Rollout; r.Reached != 4 || r.Stage != 2 || r.State != Advancing {
		t.Errorf("%d reached, stage %d, %s", r.Reached, r.Stage, r.State)
	}
}

// One of a thing is one thing.
func TestOneOfAThing(t *testing.T) {
	l := DefaultPlan().Limits
	l.Flows = 1
	one := Figures{Cards: 1, Flows: 1, Packets: 1}
	if text, known := l.compared(one, one); !known || text != "compared on 1 flow with 1 before, but for latency, which needs 1 of one card" {
		t.Error(text)
	}
	if text, known := l.compared(one, Figures{}); known || text != "nothing compared (1 flow with 0 before; needed: 1)" {
		t.Error(text)
	}
	r := &Rollout{State: Advancing, Plan: Plan{Limits: l, Stages: []Stage{{Percent: 100}}}, Blind: []int{1}}
	for now, want := range map[Figures]string{
		one:                  "Compared on 1 flow with 1 before, but for latency, which needs 1 flow of one card. Nothing was compared in 1 of 1 stage watched.",
		{Cards: 1, Flows: 0}: "Nothing compared: 0 flows, 1 before, needed: 1; nothing is known of how the bundle does. Nothing was compared in 1 of 1 stage watched.",
	} {
		r.Before = one
		if got := (&progress{Rollout: r, Now: now}).Compared(); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
	if got := (Stage{Cards: 1}).String() + ", " + CountCards(1) + ", " + CountCards(2); got != "1 card, 1 card, 2 cards" {
		t.Error(got)
	}
	bad := regexp.MustCompile(`\b1 (bytes|characters|files|flows|cards)\b`)
	for _, err := range []error{(&HubOptions{Replicas: 1, LinesBytes: 1}).Check(), (&SinkOptions{Group: "g", Size: 1, Keep: -1}).Check()} {
		if err == nil || bad.MatchString(err.Error()) {
			t.Error(err)
		}
	}
}

// What was silent while no hub listened is held against no card, for as long as a card may be silent; and no stage begins with cards that had no time to be heard.
func TestNewLeader(t *testing.T) {
	g, cards := groupOf(10)
	plan := fastPlan()
	plan.Bake = 0
	g, err := g.Begin("r", "me", artifact(2), plan, cards, begun)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range g.Rollout.Cards[:2] {
		cards[c] = running(artifact(2), 2, begun)
	}
	heard := begun.Add(time.Hour)
	now := heard.Add(lost / 2)
	g, _ = g.Step(cards, now, heard)
	if r := g.Rollout; r.State != Advancing || r.Stage != 0 {
		t.Fatalf("%s, stage %d: %v", r.State, r.Stage, r.Reasons)
	}
	for _, c := range g.Rollout.Cards[:2] {
		cards[c] = running(artifact(2), 2, now)
	}
	g, _ = g.Step(cards, now, heard)
	if r := g.Rollout; r.State != Advancing || r.Stage != 0 {
		t.Fatalf("%s, stage %d, away %v", r.State, r.Stage, r.Away)
	}
	for _, c := range g.Rollout.Cards[2:] {
		cards[c] = running(artifact(1), 1, now)
	}
	g, _ = g.Step(cards, now, heard)
	if r := g.Rollout; r.State != Advancing || r.Stage == 0 || len(r.Away) > 0 {
		t.Fatalf("%s, stage %d, away %v", r.State, r.Stage, r.Away)
	}
	g, _ = g.Step(cards, now.Add(2*lost), heard)
	if r := g.Rollout; r.State != Returning {
		t.Fatalf("%s after all were silent", r.State)
	}
}

// A rollout that is done names the cards that were away, and not those that are no longer of the group.
func TestMissing(t *testing.T) {
	g, cards := groupOf(4)
	plan := fastPlan()
	plan.Bake, plan.Stages = 0, []Stage{{Percent: 100}}
	cards["card001"] = Status{}
	g, err := g.Begin("r", "me", artifact(2), plan, cards, begun)
	if err != nil {
		t.Fatal(err)
	}
	for name := range cards {
		if name != "card001" {
			cards[name] = running(artifact(2), 2, begun)
		}
	}
	delete(cards, "card002")
	for range 2 {
		g, _ = g.Step(cards, begun, begun)
	}
	if r := g.Rollout; r.State != Done || !slices.Equal(r.Missing, []string{"card001"}) {
		t.Errorf("%s, missing %v, %v", r.State, r.Missing, r.Events)
	}
}

// A group whose first rollout halted has nothing to go back to: another may follow.
func TestFirstHalted(t *testing.T) {
	g, cards := groupOf(3)
	g.Stable = Artifact{}
	g, err := g.Begin("r", "me", artifact(2), fastPlan(), cards, begun)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Begin("s", "me", artifact(3), fastPlan(), cards, begun); err == nil || !strings.Contains(err.Error(), "nepcof halt") {
		t.Errorf("while it runs: %v", err)
	}
	c := g.Rollout.Cards[0]
	cards[c] = Status{Wanted: artifact(2).File, Phase: Refused, Reason: "no", Seen: begun}
	g, _ = g.Step(cards, begun, begun)
	if g.Rollout.State != Halted {
		t.Fatal(g.Rollout.State)
	}
	if _, err := g.Back("x", begun); err == nil {
		t.Error("went back to nothing")
	}
	if g, err = g.Begin("s", "me", artifact(3), fastPlan(), cards, begun); err != nil {
		t.Fatal(err)
	}
	if w := g.Wants(g.Rollout.Cards[0]); w != artifact(3) {
		t.Errorf("wants %v", w)
	}
}

func TestBeginRefuses(t *testing.T) {
	g, cards := groupOf(3)
	away := map[string]Status{"a": {}}
	under, err := g.Begin("r", "me", artifact(2), fastPlan(), cards, begun)
	if err != nil {
		t.Fatal(err)
	}
	bad := fastPlan()
	bad.Stages = bad.Stages[:2]
	for name, f := range map[string]func() (Group, error){
		"under way":    func() (Group, error) { return under.Begin("s", "", artifact(3), fastPlan(), cards, begun) },
		"same":         func() (Group, error) { return g.Begin("s", "", artifact(1), fastPlan(), cards, begun) },
		"lower serial": func() (Group, error) { return g.Begin("s", "", artifact(0), fastPlan(), cards, begun) },
		"no cards":     func() (Group, error) { return g.Begin("s", "", artifact(2), fastPlan(), nil, begun) },
		"nobody there": func() (Group, error) { return g.Begin("s", "", artifact(2), fastPlan(), away, begun) },
		"plan":         func() (Group, error) { return g.Begin("s", "", artifact(2), bad, cards, begun) },
		"halt nothing": func() (Group, error) { return g.Halt("", begun) },
		"back nothing": func() (Group, error) { return g.Back("", begun) },
		"approve":      func() (Group, error) { return under.Approve(cards, begun) },
		"approve none": func() (Group, error) { return g.Approve(cards, begun) },
		"being removed": func() (Group, error) {
			removing := g
			removing.Removal = &Removal{Files: []string{artifact(2).File}}
			return removing.Begin("s", "", artifact(2), fastPlan(), cards, begun)
		},
		"NaN of limits": func() (Group, error) {
			p := fastPlan()
			p.Limits.Drops = nan()
			return g.Begin("s", "", artifact(2), p, cards, begun)
		},
	} {
		if after, err := f(); err == nil {
			t.Errorf("%s: %+v", name, after.Rollout)
		}
	}
}

// Two rollouts of a group that begin in the same second have two IDs: a form on the page, and who waits, mean one of them.
func TestBeginSameSecond(t *testing.T) {
	g, cards := groupOf(3)
	g.Stable = Artifact{}
	ids := map[string]bool{}
	for i := range 3 {
		var err error
		if g, err = g.Begin("20260102-030405", "me", artifact(2+i), fastPlan(), cards, begun); err != nil {
			t.Fatal(err)
		}
		ids[g.Rollout.ID] = true
		if g, err = g.Halt("no", begun); err != nil {
			t.Fatal(err)
		}
	}
	if len(ids) != 3 {
		t.Errorf("%v", ids)
	}
}

func nan() float64 { var zero float64; return zero / zero }

// walker is a random fleet: what its cards were ordered, run and tell.
type walker struct {
	*rand.Rand
	t       *testing.T
	now     time.Time
	heard   time.Time
	order   uint64
	cards   map[string]*walking
	reports map[string]Status
}

type walking struct {
	order  Order
	status Status
	away   bool
	bad    map[string]string // by file: what goes wrong
}

// move orders as a hub does, lets some cards follow, and some of those report; some reports are old ones.
func (w *walker) move(g *Group) {
	w.now = w.now.Add(time.Duration(w.IntN(20)) * time.Second)
	if w.IntN(40) == 0 {
		w.now = w.now.Add(time.Duration(w.IntN(300)) * time.Second)
		w.heard = w.now // another hub leads
	}
	for name, c := range w.cards {
		if a := g.Wants(name); !a.IsZero() && c.order.Artifact.File != a.File && w.IntN(5) > 0 {
			c.order = Order{Number: w.order, Artifact: a}
		}
		if w.IntN(60) == 0 {
			c.away = !c.away
		}
		if c.away || w.IntN(3) == 0 {
			continue
		}
		old := c.status
		s := &c.status
		if s.Order != c.order.Number {
			s.Order, s.Wanted, s.Phase, s.Reason = c.order.Number, c.order.Artifact.File, Fetching, ""
		} else if s.Phase == Fetching {
			s.Phase = Placed
		} else if s.Phase == Placed {
			switch c.bad[s.Wanted] {
			case "refuses":
				s.Phase, s.Reason = Refused, "no"
			case "hangs":
			default:
				*s = running(c.order.Artifact, s.Order, w.now)
				switch c.bad[s.Wanted] {
				case "slow":
					s.Agent.Latency = 1
				case "goes back":
					if w.IntN(3) == 0 {
						s.Phase, s.Reason = Refused, "went back"
					}
				}
			}
		}
		s.At, s.Seen = w.now, w.now
		if w.IntN(8) == 0 { // late: the last one again, or nothing
			if old.Seen = w.now; w.IntN(2) == 0 {
				w.reports[name] = old
			}
			continue
		}
		w.reports[name] = *s
	}
}

// Random walks of rollouts over cards that fail, vanish, come back and tell late hold what rollouts promise.
func TestWalks(t *testing.T) {
	walks := 400
	if testing.Short() {
		walks = 60
	}
	ends := map[State]int{}
	for seed := range walks {
		w := &walker{Rand: rand.New(rand.NewPCG(uint64(seed), 1)), t: t, now: begun, heard: begun, order: 1, cards: map[string]*walking{}, reports: map[string]Status{}}
		g, reports := groupOf(1 + w.IntN(30))
		if w.IntN(5) == 0 {
			g.Stable = Artifact{}
		}
		w.reports = reports
		kinds := []string{"", "", "", "", "", "", "refuses", "hangs", "slow", "goes back"}
		bad := map[string]bool{}
		all := w.IntN(6) == 0 // the bundle is bad, not a card
		for name, s := range reports {
			c := &walking{order: Order{Number: 1, Artifact: artifact(1)}, status: s, bad: map[string]string{}}
			if w.IntN(2) == 0 {
				c.bad["file2"] = kinds[w.IntN(len(kinds))]
			}
			if all {
				c.bad["file2"] = "refuses"
			}
			bad[name] = c.bad["file2"] != ""
			c.away = w.IntN(15) == 0
			w.cards[name] = c
		}
		plan := fastPlan()
		plan.Bake, plan.Approve, plan.Stay = time.Duration(w.IntN(60))*time.Second, w.IntN(4) == 0, w.IntN(4) == 0
		g, err := g.Begin("r", "me", artifact(2), plan, w.reports, w.now)
		if err != nil {
			t.Fatal(seed, err)
		}
		from := g.Stable
		for step := 0; ; step++ {
			if step > 3000 {
				t.Fatalf("walk %d does not end: %s since %v at %v: %v", seed, g.Rollout.State, g.Rollout.Since, w.now, g.Rollout.Events)
			}
			w.order++
			before := g
			kept, _ := json.Marshal(before)
			g, _ = w.step(g)
			if now, _ := json.Marshal(before); string(now) != string(kept) {
				t.Fatalf("walk %d: a step changed the document that it was given", seed)
			}
			w.holds(seed, before, g, from)
			if r := g.Rollout; r.State.Over() || r.State == Halted && r.From.IsZero() {
				break
			}
			w.move(&g)
		}
		ends[g.Rollout.State]++
		if all && (g.Stable == artifact(2) || g.Rollout.Stage > 0) {
			t.Errorf("walk %d: a bundle that all refuse came to stage %d, %s", seed, g.Rollout.Stage, g.Rollout.State)
		}
		w.settles(seed, g)
	}
	t.Log(ends)
	if len(ends) < 3 {
		t.Errorf("walks end in %v only", ends)
	}
}

// step is a hub's step, or an operator's word.
func (w *walker) step(g Group) (Group, error) {
	r := g.Rollout
	switch {
	case r.State == Waiting && w.IntN(10) == 0:
		return g.Approve(w.reports, w.now)
	case r.State == Halted && w.IntN(10) == 0 && w.IntN(3) > 0:
		return g.Back("enough", w.now)
	case r.State == Halted && w.IntN(10) == 0:
		return g.Approve(w.reports, w.now)
	case w.IntN(200) == 0:
		return g.Halt("stop", w.now)
	case w.IntN(200) == 0:
		return g.Back("back", w.now)
	}
	g, _ = g.Step(w.reports, w.now, w.heard)
	return g, nil
}

// holds checks one step.
func (w *walker) holds(seed int, before, g Group, from Artifact) {
	w.t.Helper()
	r := g.Rollout
	wanted := map[string]bool{}
	names := slices.Collect(maps.Keys(w.cards))
	many := g.wanted(names)
	for _, name := range names {
		a := g.Wants(name)
		if a != many[name] {
			w.t.Fatalf("walk %d: %s wants %v or %v", seed, name, a, many[name])
		}
		wanted[a.File] = true
		if i := slices.Index(r.Cards, name); a == r.To && r.State != Done && i >= r.Reached {
			w.t.Fatalf("walk %d: %s is not reached, and wants the bundle", seed, name)
		}
	}
	if len(wanted) > 2 {
		w.t.Fatalf("walk %d: wanted at once: %v", seed, wanted)
	}
	if r.Reached < before.Rollout.Reached || r.Stage < before.Rollout.Stage || r.Reached > len(r.Cards) {
		w.t.Fatalf("walk %d: reached %d after %d, stage %d after %d", seed, r.Reached, before.Rollout.Reached, r.Stage, before.Rollout.Stage)
	}
	last := len(r.Plan.Stages) - 1
	if r.State != Done && r.Stage > before.Rollout.Stage+1 || r.State == Done && r.Stage != last {
		for i := before.Rollout.Stage + 1; i < r.Stage; i++ {
			if !slices.Contains(r.Passed, i+1) || r.Plan.Stages[i].of(len(r.Cards)) > before.Rollout.Reached {
				w.t.Fatalf("walk %d: from stage %d to %d, %s, passed over: %v", seed, before.Rollout.Stage, r.Stage, r.State, r.Passed)
			}
		}
	}
	if r.State == Done && r.Reached != len(r.Cards) {
		w.t.Fatalf("walk %d: done, with %d of %d reached", seed, r.Reached, len(r.Cards))
	}
	if r.Stage > before.Rollout.Stage && r.State == Advancing && r.Reached == before.Rollout.Reached {
		w.t.Fatalf("walk %d: stage %d adds no card", seed, r.Stage)
	}
	if g.Stable != before.Stable && r.State != Done && r.State != Returning {
		w.t.Fatalf("walk %d: the stable bundle changed, %s", seed, r.State)
	}
	if r.State == Done && g.Stable != r.To || r.State != Done && g.Stable != from {
		w.t.Fatalf("walk %d: %s with %v", seed, r.State, g.Stable)
	}
	if r.Stage > before.Rollout.Stage || r.State == Done && before.Rollout.State != Done {
		for _, name := range r.Cards[:before.Rollout.Reached] {
			s := w.reports[name]
			if !slices.Contains(before.Rollout.Away, name) && (s.Wanted != r.To.File || s.Phase != Running || !s.Reports(w.now)) {
				w.t.Fatalf("walk %d: stage %d was left with %s: %+v", seed, before.Rollout.Stage, name, s)
			}
			if s.Wanted == r.To.File && s.Phase == Refused && s.Reports(w.now) {
				w.t.Fatalf("walk %d: stage %d was left with %s, which refused", seed, before.Rollout.Stage, name)
			}
		}
	}
	if len(r.Events) > maxEvents || len(r.Reasons) > maxReasons+2 {
		w.t.Fatalf("walk %d: %d events, %d reasons", seed, len(r.Events), len(r.Reasons))
	}
}

// settles lets all cards come back, and asks that each is ordered what its group wants.
func (w *walker) settles(seed int, g Group) {
	w.t.Helper()
	if g.Stable.IsZero() {
		return
	}
	for _, c := range w.cards {
		c.away = false
	}
	w.order++
	for range 60 {
		w.move(&g)
	}
	for name, c := range w.cards {
		if c.order.Artifact.File != g.Wants(name).File {
			w.t.Errorf("walk %d: %s was ordered %v at the end, and wants %v", seed, name, c.order.Artifact, g.Wants(name))
		}
	}
}

// A document of version 1 is read as it was written then.
func TestOldDocuments(t *testing.T) {
	name := filepath.Join("testdata", "group-v1.json")
	g, cards := groupOf(3)
	g, err := g.Begin("20300102-030405", "me", artifact(2), DefaultPlan(), cards, begun)
	if err != nil {
		t.Fatal(err)
	}
	g.Rollout.Away, g.Rollout.Troubled = []string{"card001"}, []string{"card002"}
	// Weren't there at first: one flow was enough, and each stage was watched.
	g.Rollout.Plan.Limits.Flows, g.Rollout.Passed = 0, nil
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	old, err := readGroup("g", text)
	if err != nil {
		t.Fatal(err)
	}
	for i := range g.Rollout.Events { // a story's words change
		if i < len(old.Rollout.Events) && old.Rollout.Events[i].Text != "" {
			g.Rollout.Events[i].Text = old.Rollout.Events[i].Text
		}
	}
	if !reflect.DeepEqual(old, g) {
		t.Errorf("read %+v\nwant %+v", old, g)
	}
	if _, err := readGroup("g", []byte(`{"version": 2, "name": "g"}`)); err == nil {
		t.Error("a document of version 2 is read")
	}
}
