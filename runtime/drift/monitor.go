// Package drift compares the flows that get verdicts with those that a bundle was calibrated or taught with
// (bundle.Traffic), and says when they have become others, by what, and why where that can be seen.
//
// Features put flows into bins (features.go). The distance of two histograms is their Jensen-Shannon divergence in bits; its
// bound is what chance does with so few flows, and what calibration's own parts differ by (distance.go). All is a
// function of the flows in their order: the same on every CPU.
package drift

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"nepcoc/internal/plural"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/verdict"
)

// Options say what is compared, and when it is told.
type Options struct {
	// Flows is the size of a window. Where flows are few it takes as long as it takes: a smaller one would show their hour, not a change.
	Flows int
	// Windows is for how many windows on end a distance must be above its bound before that is told, and below before its end is.
	Windows int
	// Bound multiplies the bounds: above 1 less is told.
	Bound float64
}

// Defaults are those of Options.
var Defaults = Options{Flows: 512, Windows: 2, Bound: 1}

// Bounds of Options.
const (
	MinFlows   = 64
	MaxFlows   = 1 << 24
	MaxWindows = 100
)

// Validate says all that is wrong with options, each error beginning with the option's word.
func (o *Options) Validate() error {
	var errs []error
	if o.Flows < MinFlows || o.Flows > MaxFlows {
		errs = append(errs, fmt.Errorf("window: %s %s not within %d..%d", plural.Of(o.Flows, "flow"), plural.Verb(o.Flows, "is", "are"), MinFlows, MaxFlows))
	}
	if o.Windows < 1 || o.Windows > MaxWindows {
		errs = append(errs, fmt.Errorf("windows: %d is not within 1..%d", o.Windows, MaxWindows))
	}
	if !(o.Bound >= 0.01 && o.Bound <= 100) {
		errs = append(errs, fmt.Errorf("bound: %g times what chance does is not within 0.01..100", o.Bound))
	}
	return errors.Join(errs...)
}

// A window slides by a pane at a time, a quarter of it.
const panes = 4

// Distance is how far the flows are from calibration's, in one feature.
type Distance struct {
	Feature string `json:"feature"`
	Output  string `json:"output,omitempty"`
	// Bits is the Jensen-Shannon divergence, Bound what it must pass, Flows of how many flows.
	Bits  float64 `json:"distance"`
	Bound float64 `json:"bound"`
	Flows uint64  `json:"flows"`
	// Few: of so few flows, whatever they were like, no distance would be above its bound. That it isn't says nothing.
	Few bool `json:"too_few,omitempty"`
}

// Name is the feature's, with its output's.
func (d *Distance) Name() string {
	if d.Output == "" {
		return d.Feature
	}
	return d.Feature + " of " + d.Output
}

func (d *Distance) String() string {
	return fmt.Sprintf("%s %.3f (%.3f)", d.Name(), d.Bits, d.Bound)
}

// Over tells that the distance is above its bound.
func (d *Distance) Over() bool { return d.Bits > d.Bound }

// LabelShift is the share of flows to which an output gives a label, then and now.
type LabelShift struct {
	Output string  `json:"output"`
	Label  string  `json:"label"`
	Then   float64 `json:"then"`
	Now    float64 `json:"now"`
}

// State is what one window, or all flows, are like.
type State struct {
	Flows     uint64       `json:"flows"`
	Distances []Distance   `json:"distances"`
	Labels    []LabelShift `json:"labels"`
	// Causes name features that, where something is above its bound, say why: see Cause.
	Causes []string `json:"causes"`
}

// Over are the distances that are above their bounds.
func (s *State) Over() []Distance {
	list := []Distance{}
	for i := range s.Distances {
		if s.Distances[i].Over() {
			list = append(list, s.Distances[i])
		}
	}
	return list
}

// Event tells that drift has begun, or ended.
type Event struct {
	Begin bool
	Time  int64 // packet time, ns since 1970
	State State // of the window
}

// Monitor watches flows. It may be used by several goroutines.
type Monitor struct {
	opt    Options
	layout *layout
	labels [][]string // by output
	base   []uint64
	known  uint64 // flows of calibration

	mu      sync.Mutex
	past    [panes][]uint64 // the panes that are full, round and round
	flows   [panes]uint64
	cur     []uint64
	n       uint64 // flows in cur
	now     int64
	all     []uint64
	allN    uint64
	full    int   // panes so far
	over    []int // looks on end above the bound, by histogram
	quiet   int   // looks on end with none above
	drifted bool
	state   State // as of the last look
	looks   int
	window  []uint64
	far     []uint64 // see tells
}

// New makes a monitor of a bundle; labels are the names of each output's labels. An error says why there is none.
func New(b *bundle.Bundle, labels [][]string, o Options) (*Monitor, error) {
	t := b.Manifest.Traffic
	if err := Known(b); err != nil {
		return nil, err
	}
	if err := o.Validate(); err != nil {
		return nil, err
	}
	m := &Monitor{opt: o, labels: labels, known: uint64(t.Flows), layout: &layout{length: b.Program.Length}}
	all := layoutOf(b)
	for i := range all.hists {
		p := all.hists[i]
		for k := range t.Histograms {
			if h := &t.Histograms[k]; h.Feature == p.name && h.Output == p.of && len(h.Counts) == p.to-p.from {
				p.known = h
				m.layout.add(p, len(h.Counts))
			}
		}
	}
	if len(m.layout.hists) == 0 {
		return nil, fmt.Errorf("the bundle says nothing of its calibration's traffic that this version knows: compile or teach it again")
	}
	size := m.layout.size
	for _, counts := range []*[]uint64{&m.base, &m.cur, &m.all, &m.window, &m.far} {
		*counts = make([]uint64, size)
	}
	for i := range m.past {
		m.past[i] = make([]uint64, size)
	}
	for i := range m.layout.hists {
		p := &m.layout.hists[i]
		for k, c := range p.known.Counts {
			m.base[p.from+k] = uint64(c)
		}
	}
	m.over = make([]int, len(m.layout.hists))
	return m, nil
}

// Known says why a bundle can't tell what its calibration's traffic was like.
func Known(b *bundle.Bundle) error {
	switch t := b.Manifest.Traffic; {
	case t == nil:
		return fmt.Errorf("the bundle does not say what its calibration's traffic was like, so drift can't be told: compile or teach it again with this version")
	case t.Version != bundle.TrafficVersion:
		return fmt.Errorf("the bundle describes its calibration's traffic in version %d, this program reads %d: compile or teach it again, or update", t.Version, bundle.TrafficVersion)
	}
	return nil
}

// Add counts a flow that has its verdicts. It returns an event where one begins or ends with it.
func (m *Monitor) Add(r *verdict.Record) *Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = max(m.now, r.Last)
	m.layout.count(r, m.cur)
	m.n++
	if m.n*panes < uint64(m.opt.Flows) {
		return nil
	}
	return m.turn()
}

// turn ends a pane, and looks at the window that ends with it.
func (m *Monitor) turn() *Event {
	at := m.full % panes
	m.past[at], m.cur = m.cur, m.past[at]
	m.flows[at], m.n = m.n, 0
	clear(m.cur)
	add(m.all, m.past[at])
	m.allN += m.flows[at]
	if m.full++; m.full < panes {
		return nil
	}
	clear(m.window)
	var n uint64
	for i := range m.past {
		add(m.window, m.past[i])
		n += m.flows[i]
	}
	m.looks++
	m.state = m.compare(m.window, n)
	return m.judge()
}

// looksFor is how many looks, a pane apart, make so many windows. What lasts for a window less is seen in fewer.
func (m *Monitor) looksFor() int { return panes * m.opt.Windows }

func (m *Monitor) judge() *Event {
	any, long := false, false
	for i := range m.state.Distances {
		if !m.state.Distances[i].Over() {
			m.over[i] = 0
			continue
		}
		any = true
		m.over[i]++
		long = long || m.over[i] >= m.looksFor()
	}
	if m.quiet++; any {
		m.quiet = 0
	}
	switch {
	case long && !m.drifted:
		m.drifted = true
	case m.drifted && m.quiet >= m.looksFor():
		m.drifted = false
	default:
		return nil
	}
	return &Event{Begin: m.drifted, Time: m.now, State: m.state}
}

// compare looks at counts of n flows.
func (m *Monitor) compare(counts []uint64, n uint64) State {
	s := State{Flows: n, Labels: []LabelShift{}, Causes: []string{}}
	for i := range m.layout.hists {
		p := &m.layout.hists[i]
		was, is := m.base[p.from:p.to], counts[p.from:p.to]
		bits, bins, inBase, in := distance(was, is)
		inBase, in = min(inBase, m.known), min(in, n) // a flow may have several labels, which come and go together
		d := Distance{Feature: p.name, Output: p.of, Bits: rounded(bits), Bound: m.bound(p, bins, inBase, in), Flows: in}
		d.Few = !d.Over() && !m.tells(p, was, in)
		if p.flow != nil && p.flow.cause != "" {
			grown := is[1]*inBase > was[1]*in
			if grown && d.Bits > rounded(m.opt.Bound*bound(causeFloor, p.known.Swing, bins, inBase, in)) {
				s.Causes = append(s.Causes, p.name)
			}
		}
		if p.name == labelFeature && in > 0 {
			for k, name := range m.labels[p.head] {
				if was[k]+is[k] > 0 {
					s.Labels = append(s.Labels, LabelShift{p.of, name, rounded(float64(was[k]) / float64(inBase)), rounded(float64(is[k]) / float64(in))})
				}
			}
		}
		s.Distances = append(s.Distances, d)
	}
	if len(s.Over()) == 0 {
		s.Causes = []string{}
	}
	return s
}

// bound is what a feature's distance must pass.
func (m *Monitor) bound(p *place, bins int, n, flows uint64) float64 {
	return rounded(m.opt.Bound * bound(floor, p.known.Swing, bins, n, flows))
}

// tells says whether so many flows could be above a feature's bound at all: the farthest are those that all lie where calibration had fewest.
func (m *Monitor) tells(p *place, was []uint64, flows uint64) bool {
	if flows == 0 {
		return false
	}
	far := m.far[:len(was)]
	clear(far)
	far[slices.Index(was, slices.Min(was))] = flows
	bits, bins, n, _ := distance(was, far)
	return rounded(bits) > m.bound(p, bins, min(n, m.known), flows)
}

// Deaf says why no window can be above any bound, whatever its flows are like; nil where some can.
func (m *Monitor) Deaf() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.layout.hists {
		p := &m.layout.hists[i]
		was := m.base[p.from:p.to]
		if m.tells(p, was, uint64(m.opt.Flows)) {
			return nil
		}
	}
	return fmt.Errorf("drift can't be told: no window of %d flows, against %d of calibration and with bounds times %g, can be above a bound: calibrate with more flows, or choose a larger window or smaller bounds",
		m.opt.Flows, m.known, m.opt.Bound)
}

// State is that of the latest window, zero before there was one; looks is how many there have been, a quarter of a window apart; drifted tells
// that drift has begun and not ended.
func (m *Monitor) State() (s State, looks int, drifted bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state, m.looks, m.drifted
}

// Whole compares all flows so far.
func (m *Monitor) Whole() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	counts := make([]uint64, m.layout.size)
	copy(counts, m.all)
	add(counts, m.cur)
	return m.compare(counts, m.allN+m.n)
}
