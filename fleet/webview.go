package fleet

import (
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
)

//go:embed web.gohtml
var webPages string

var pages = template.Must(template.New("").Funcs(template.FuncMap{
	"clean":   func(s string) string { return clean(s, 400) },
	"short":   func(s string) string { return clean(s, 40) },
	"percent": percent,
	"count":   count,
	"ms": func(seconds float64) string {
		if ms := 1e3 * seconds; !math.IsInf(ms, 0) {
			return fmt.Sprintf("%.3g ms", ms)
		}
		return "–"
	},
	"cards":   CountCards,
	"of":      quantity,
	"date":    func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
	"several": Several,
	"inc":     func(i int) int { return i + 1 },
	"path":    url.PathEscape,
}).Parse(webPages))

// clean is text of a stranger's as a page shows it: up to so many characters, none of which is a control's or turns the direction of others.
func clean(s string, most int) string {
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n++; n > most {
			b.WriteString("…")
			break
		}
		if !unicode.IsGraphic(r) && r != ' ' {
			r = '\u00b7'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// percent is a share of so many; what is of nothing isn't known.
func percent(share, of float64) string {
	switch {
	case !(of > 0) || math.IsInf(of, 0):
		return "–"
	case share == 0 || share == 1:
		return fmt.Sprintf("%.0f %%", 100*share)
	case share < 0.001:
		return "< 0.1 %"
	}
	return fmt.Sprintf("%.1f %%", 100*share)
}

// count is a number with its thousands apart.
func count(x any) string {
	text := ""
	switch x := x.(type) {
	case float64:
		if math.IsInf(x, 0) {
			return "–" // a card may tell of anything
		}
		if x >= 1e15 {
			return fmt.Sprintf("%.3g", x)
		}
		text = fmt.Sprintf("%.0f", x)
	default:
		text = fmt.Sprint(x)
	}
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

// span is a time in words: the largest unit, and the next.
func span(d time.Duration) string {
	switch {
	case d < 2*time.Second:
		return "1 s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}

// view is the fleet at a moment, as this hub knows it.
type view struct {
	Now    time.Time
	Begun  time.Time // when this hub began to remember
	Hub    string
	Leads  bool
	Leader string
	Deaf   string // why all of it may be old
	Alerts []alert
	Groups []groupView
}

// alert is what somebody should look at.
type alert struct {
	Group string
	Text  string
	Bad   bool // else: worth knowing
}

// groupView is one group.
type groupView struct {
	Group
	Cards    []cardView // those first that need a look
	Fresh    int        // how many report
	Versions []versionView
	Ordered  Artifact // what the rollout's reached cards are to run, or all
	Progress *progress
	Alerts   []alert
	Mix      *mixChart
	Began    time.Time
}

// versionView is a bundle and the cards that run it, of those that report.
type versionView struct {
	Digest, Text string
	Figures      Figures
}

// cardView is one card.
type cardView struct {
	Status
	Group  string
	Card   string
	Fresh  bool   // has reported lately: else nothing of it is known to hold still
	Never  bool   // has not reported ever
	Age    string // of the last report
	State  string // in words
	Class  string // of the words: good, bad, wait, old
	Runs   string
	Orders string // what it should run, where that isn't what it does
	rank   int
}

// Heard is true where figures of the agent are there and hold.
func (c *cardView) Heard() bool { return c.Fresh && c.Agent.Digest != "" }

// DropShown and DropOf are the share of packets that were dropped, and of how many.
func (c *cardView) DropShown() float64 { return c.Agent.DropShare() }
func (c *cardView) DropOf() float64    { return c.Agent.Packets + c.Agent.Dropped }

// Verdicts are the shares of labels, the largest first.
func (c *cardView) Verdicts() (list []labelShare) {
	all := c.Agent.Flows()
	for _, l := range slices.Sorted(maps.Keys(c.Agent.Verdicts)) {
		list = append(list, labelShare{l, c.Agent.Verdicts[l], share(c.Agent.Verdicts[l], all)})
	}
	slices.SortStableFunc(list, func(a, b labelShare) int { return cmp.Compare(b.Count, a.Count) })
	return list[:min(len(list), 50)]
}

type labelShare struct {
	Label        string
	Count, Share float64
}

// progress is a rollout as the page shows it.
type progress struct {
	*Rollout
	Class   string
	Stages  []stageView
	Running int // of the reached cards: run the bundle and report
	Now     Figures
	Watched string // how long the stage is watched still
	// Ahead is the number, from 1, of the next stage that adds a card, and Next how many it reaches.
	Ahead, Next int
	Halting, Backing, Approving,
	Continuing bool // what an operator may do
}

type stageView struct {
	Text  string
	Cards int
	None  bool   // adds no card
	State string // done, now, next, stopped
}

// look is the fleet now.
func (w *web) look() view {
	h := w.h
	v := view{Now: h.clock.now(), Begun: w.begun, Hub: h.o.Name, Leads: h.Leads(), Deaf: h.deaf()}
	h.mu.Lock()
	groups, cards, troubles := map[string]Group{}, map[string]map[string]Status{}, maps.Clone(h.troubles)
	unread := maps.Clone(h.unread)
	for name, g := range h.groups {
		groups[name] = g.value
	}
	for name, c := range h.cards.groups {
		cards[name] = maps.Clone(c)
	}
	h.mu.Unlock()
	for name := range cards {
		if _, ok := groups[name]; !ok {
			groups[name] = Group{Version: version, Name: name}
		}
	}
	w.mu.Lock()
	v.Leader = w.leader
	w.mu.Unlock()
	if v.Leads {
		v.Leader = v.Hub
	}
	if v.Deaf != "" {
		v.Alerts = append(v.Alerts, alert{Text: v.Deaf + ": what is shown here may be old", Bad: true})
	} else if v.Leader == "" && time.Since(v.Begun) > leaseTime {
		v.Alerts = append(v.Alerts, alert{Text: "no hub leads: no rollout moves on", Bad: true})
	}
	if n := h.refused.Load(); n > 0 {
		v.Alerts = append(v.Alerts, alert{Text: fmt.Sprintf("%s refused since this hub began: not sealed by an enrolled card, or older than what was known", quantity(float64(n), "report"))})
	}
	for _, name := range slices.Sorted(maps.Keys(groups)) {
		g := newGroupView(groups[name], cards[name], v.Now)
		w.mu.Lock()
		if past := w.history[name]; past != nil {
			g.Mix, g.Began = past.chart(), past.begun()
		}
		w.mu.Unlock()
		for _, why := range []string{troubles[name], unread[name]} {
			if why != "" {
				g.Alerts = append([]alert{{name, why, true}}, g.Alerts...)
			}
		}
		v.Groups = append(v.Groups, g)
		v.Alerts = append(v.Alerts, g.Alerts...)
	}
	return v
}

func (v view) group(name string) *groupView {
	for i := range v.Groups {
		if v.Groups[i].Name == name {
			return &v.Groups[i]
		}
	}
	return nil
}

func newGroupView(g Group, cards map[string]Status, now time.Time) groupView {
	v := groupView{Group: g, Ordered: g.Stable}
	if r := g.Rollout; r != nil && !r.State.Over() && r.State != Returning {
		v.Ordered = r.To
	}
	names := slices.Sorted(maps.Keys(cards))
	wants := g.wanted(names)
	var fresh []string
	digests := map[string]int{}
	for _, name := range names {
		c := newCardView(&g, name, cards[name], wants[name], now)
		if c.Fresh {
			v.Fresh++
			fresh = append(fresh, name)
			if d := c.Agent.Digest; d != "" {
				digests[d]++
			}
		}
		v.Cards = append(v.Cards, c)
	}
	slices.SortStableFunc(v.Cards, func(a, b cardView) int { return a.rank - b.rank })
	limits := DefaultPlan().Limits
	if g.Rollout != nil {
		limits = g.Rollout.Plan.Limits
	}
	for d := range digests {
		v.Versions = append(v.Versions, versionView{d, g.nameOf(d), limits.figures(cards, fresh, d)})
	}
	slices.SortFunc(v.Versions, func(a, b versionView) int {
		if d := b.Figures.Cards - a.Figures.Cards; d != 0 {
			return d
		}
		return strings.Compare(a.Digest, b.Digest)
	})
	if g.Rollout != nil {
		v.Progress = newProgress(&g, cards, now)
	}
	v.alert()
	return v
}

// nameOf is a digest as people know it.
func (g *Group) nameOf(digest string) string {
	known := []Artifact{g.Stable}
	if r := g.Rollout; r != nil {
		known = append(known, r.To, r.From)
	}
	for _, a := range known {
		if a.Digest == digest && digest != "" {
			return a.title()
		}
	}
	return fmt.Sprintf("%.12s", digest)
}

// title is an artifact with its model's name.
func (a Artifact) title() string {
	if a.Name == "" || a.IsZero() {
		return a.String()
	}
	return a.Name + " " + a.String()
}

// Title is for templates.
func (g *groupView) Title(a Artifact) string { return clean(a.title(), 80) }

// Order of cards on the page.
const (
	rankBad = iota
	rankSilent
	rankUnder
	rankWarn
	rankWell
)

func newCardView(g *Group, name string, s Status, want Artifact, now time.Time) cardView {
	c := cardView{Status: s, Group: g.Name, Card: name, Fresh: s.Reports(now), Never: s.Seen.IsZero(), Runs: g.nameOf(s.Agent.Digest)}
	if !c.Never {
		c.Age = span(now.Sub(s.Seen))
	}
	if !want.IsZero() && want.Digest != s.Agent.Digest {
		c.Orders = want.title()
	}
	phase := clean(string(s.Phase), 20)
	switch {
	case c.Never:
		c.State, c.Class, c.rank = "has not reported", "old", rankSilent
	case !c.Fresh:
		c.State, c.Class, c.rank = "silent for "+c.Age+"; was "+phase, "old", rankSilent
	case s.Phase == Refused:
		c.State, c.Class, c.rank = phase, "bad", rankBad
	case s.Agent.Problem != "":
		c.State, c.Class, c.rank = phase+", agent has a problem", "bad", rankBad
	case s.Phase == Running && c.Orders == "":
		c.State, c.Class, c.rank = phase, "good", rankWell
		if s.Agent.Drift || s.Agent.DropShare() > notedDrops || s.Lines.Dropped > 0 {
			c.rank = rankWarn
		}
	case s.Phase == Idle:
		c.State, c.Class, c.rank = "no order yet", "wait", rankUnder
	default:
		c.State, c.Class, c.rank = phase, "wait", rankUnder
		if s.Phase == Running {
			c.State = "running, has another order"
		}
	}
	return c
}

// notedDrops is from which share of packets on the page speaks of drops.
const notedDrops = 0.01

func newProgress(g *Group, cards map[string]Status, now time.Time) *progress {
	r := g.Rollout
	p := &progress{Rollout: r, Class: map[State]string{Done: "good", Halted: "bad", Returning: "bad", Returned: "bad"}[r.State]}
	var fresh []string
	for _, name := range r.Cards[:r.Reached] {
		if s := cards[name]; s.Reports(now) {
			fresh = append(fresh, name)
			if r.runs(s) {
				p.Running++
			}
		}
	}
	p.Now = r.Plan.Limits.figures(cards, fresh, r.To.Digest)
	p.Ahead = r.ahead() + 1
	before := 0
	for i, s := range r.Plan.Stages {
		sv := stageView{Text: s.String(), Cards: max(before, s.of(len(r.Cards))), None: slices.Contains(r.Passed, i+1)}
		before = sv.Cards
		switch {
		case i < r.Stage || i == r.Stage && (r.State == Done || r.State == Waiting):
			sv.State = "done"
		case i == r.Stage && r.State == Advancing:
			sv.State = "now"
		case i == r.Stage:
			sv.State = "stopped"
		default:
			sv.State = "next"
		}
		if i+1 == p.Ahead {
			p.Next = sv.Cards
		}
		p.Stages = append(p.Stages, sv)
	}
	if left := r.Plan.Bake - now.Sub(r.Steady); r.State == Advancing && !r.Steady.IsZero() && left > 0 {
		p.Watched = span(left)
	}
	p.Halting = r.State == Advancing || r.State == Waiting
	p.Backing = !r.From.IsZero() && r.State != Returning && r.State != Returned
	p.Approving, p.Continuing = r.State == Waiting, r.State == Halted
	return p
}

// Words is the state in words.
func (p *progress) Words() string {
	switch p.State {
	case Advancing:
		return "under way"
	case Waiting:
		return "waits for approval"
	case Returning:
		return "cards go back"
	case Returned:
		return "taken back"
	}
	return clean(string(p.State), 20)
}

// Compared says what the figures stand on.
func (p *progress) Compared() string {
	_, unknown, latency := p.Plan.Limits.comparable(p.Now, p.Before)
	text := fmt.Sprintf("Compared on %s with %s before.", quantity(p.Now.Flows, "flow"), count(p.Before.Flows))
	switch {
	case !unknown:
		text = fmt.Sprintf("Nothing compared: %s, %s before, needed: %s; nothing is known of how the bundle does.", quantity(p.Now.Flows, "flow"), count(p.Before.Flows), count(p.Plan.Limits.enough()))
	case !latency:
		text = strings.TrimSuffix(text, ".") + fmt.Sprintf(", but for latency, which needs %s of one card.", quantity(p.Plan.Limits.enough(), "flow"))
	}
	if n := len(p.Blind); n > 0 {
		text += fmt.Sprintf(" Nothing was compared in %d of %s.", n, p.watched())
	}
	return text
}

// Story is told from its end.
func (p *progress) Story() []Event {
	e := slices.Clone(p.Events)
	slices.Reverse(e)
	return e
}

// alert collects what somebody should look at.
func (g *groupView) alert() {
	add := func(bad bool, format string, args ...any) {
		g.Alerts = append(g.Alerts, alert{g.Name, fmt.Sprintf(format, args...), bad})
	}
	if p := g.Progress; p != nil {
		var why []string
		for _, r := range p.Reasons {
			why = append(why, clean(r, 300))
		}
		if p.Class == "bad" {
			add(true, "rollout %s: %s: %s", p.ID, p.Words(), strings.Join(why, "; "))
		} else if p.Approving {
			add(false, "rollout %s waits for approval of stage %d", p.ID, p.Ahead)
		}
	}
	for _, k := range []struct {
		bad  bool
		what string
		is   func(c *cardView) bool
		why  func(c *cardView) string
	}{
		{true, "refused what was ordered, or went back from it", func(c *cardView) bool { return c.Fresh && c.Phase == Refused }, func(c *cardView) string { return c.Reason }},
		{true, "agent has a problem", func(c *cardView) bool { return c.Fresh && c.Agent.Problem != "" }, func(c *cardView) string { return c.Agent.Problem }},
		{true, "silent for more than " + span(lost), func(c *cardView) bool { return !c.Fresh && !c.Never }, nil},
		{false, "has not reported since its enrolment", func(c *cardView) bool { return c.Never }, nil},
		{false, "tells of drift", func(c *cardView) bool { return c.Fresh && c.Agent.Drift }, nil},
		{false, "drops more than 1 % of packets", func(c *cardView) bool { return c.Fresh && c.Agent.DropShare() > notedDrops }, nil},
		{false, "lost lines: its store was full", func(c *cardView) bool { return c.Lines.Dropped > 0 }, nil},
	} {
		var names []string
		why := ""
		for i := range g.Cards {
			if c := &g.Cards[i]; k.is(c) {
				names = append(names, c.Card)
				if why == "" && k.why != nil {
					why = ": " + clean(k.why(c), 200)
				}
			}
		}
		if n := len(names); n == 1 {
			add(k.bad, "%s: %s%s", names[0], k.what, why)
		} else if n > 1 {
			if why != "" {
				why = "; the first" + why
			}
			add(k.bad, "%s: %s (%s)%s", CountCards(n), k.what, Several(names), why)
		}
	}
}

// shownCards is how many a group's page lists unless all are asked for.
const shownCards = 100

// Shown are the cards that a page lists.
func (g *groupView) Shown(all bool) []cardView {
	if all {
		return g.Cards
	}
	return g.Cards[:min(len(g.Cards), shownCards)]
}

// Left is how many it doesn't.
func (g *groupView) Left(all bool) int { return len(g.Cards) - len(g.Shown(all)) }

// groupJSON is what the API says of a group.
type groupJSON struct {
	Group
	Cards    int              `json:"cards"`
	Fresh    int              `json:"reporting"`
	Versions []VersionCount   `json:"versions"`
	Alerts   []string         `json:"alerts"`
	Compared *comparisonsJSON `json:"compared,omitempty"`
}

// VersionCount is how many cards run a bundle, of those that report: in the API, and of nepcof status --json.
type VersionCount struct {
	Digest string `json:"digest"`
	Cards  int    `json:"cards"`
}

// comparisonsJSON are what a rollout's reached cards show with the bundle.
type comparisonsJSON struct {
	Running int     `json:"running"`
	Flows   float64 `json:"flows"`
	Before  float64 `json:"flows_before"`
}

func (v view) groupsJSON() any {
	list := []groupJSON{}
	for _, g := range v.Groups {
		j := groupJSON{Group: g.Group, Cards: len(g.Cards), Fresh: g.Fresh, Versions: []VersionCount{}, Alerts: []string{}}
		for _, x := range g.Versions {
			j.Versions = append(j.Versions, VersionCount{x.Digest, x.Figures.Cards})
		}
		for _, a := range g.Alerts {
			j.Alerts = append(j.Alerts, a.Text)
		}
		if p := g.Progress; p != nil {
			j.Compared = &comparisonsJSON{p.Running, finite(p.Now.Flows), finite(p.Before.Flows)}
		}
		list = append(list, j)
	}
	return map[string]any{"version": version, "at": v.Now, "hub": v.Hub, "leader": v.Leader, "problem": v.Deaf, "groups": list}
}

// finite is x where it is a number: a card may tell of anything.
func finite(x float64) float64 {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return 0
	}
	return x
}

// cardJSON is what the API says of a card.
type cardJSON struct {
	Status
	Fresh bool `json:"reporting"`
}

func (w *web) cardsJSON(rw http.ResponseWriter, r *http.Request) {
	v := w.look()
	list, only := []cardJSON{}, r.FormValue("group")
	if only != "" && v.group(only) == nil {
		http.Error(rw, "there is no group of that name", http.StatusNotFound)
		return
	}
	for _, g := range v.Groups {
		for _, c := range g.Cards {
			if only == "" || g.Name == only {
				list = append(list, cardJSON{c.Status, c.Fresh})
			}
		}
	}
	answer(rw, map[string]any{"version": version, "at": v.Now, "problem": v.Deaf, "cards": list})
}
