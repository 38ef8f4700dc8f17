package fleet

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// A hub remembers what labels its groups' cards told of, for the page: from its own start, in up to historyPoints steps, which become
// twice as long whenever they would be more. Other hubs remember for themselves.
const (
	historyStep   = 15 * time.Second // longer than cards take between two reports
	historyPoints = 240
	historyLabels = 50 // of a group; the rest are together
	shownLabels   = 7
	leaderStep    = 2 * time.Second
)

// history is a group's.
type history struct {
	points []point
	step   int // how many samples a point is of
	last   map[string]counted
	labels map[string]bool
}

// point is what came in a step.
type point struct {
	from, to time.Time
	verdicts map[string]float64
	unknown  float64
	samples  int
}

func (p *point) flows() float64 {
	n := p.unknown
	for _, v := range p.verdicts {
		n += v
	}
	return n
}

// counted is what a card had told when it was looked at last.
type counted struct {
	since    time.Time
	digest   string
	verdicts map[string]float64
	unknown  float64
}

// remember takes samples until ctx ends.
func (w *web) remember(ctx context.Context, step time.Duration) {
	sample, leader := time.NewTicker(step), time.NewTicker(min(leaderStep, step))
	defer sample.Stop()
	defer leader.Stop()
	last := time.Now().UTC()
	take := func() {
		now := time.Now().UTC()
		w.sample(last, now)
		last = now
	}
	take()
	w.whoLeads(ctx)
	for {
		select {
		case <-ctx.Done():
			return
		case <-sample.C:
			take()
		case <-leader.C:
			w.whoLeads(ctx)
		}
	}
}

func (w *web) whoLeads(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leaderStep)
	defer cancel()
	name := ""
	if e, err := w.h.leader.Get(ctx, "hub"); err == nil {
		name = clean(string(e.Value()), 60)
	}
	w.mu.Lock()
	w.leader = name
	w.mu.Unlock()
}

// sample adds what cards have counted since the last one.
func (w *web) sample(from, to time.Time) {
	w.h.mu.Lock()
	cards := map[string]map[string]Status{}
	for name, c := range w.h.cards.groups {
		cards[name] = maps.Clone(c)
	}
	w.h.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, c := range cards {
		if w.history[name] == nil {
			w.history[name] = &history{step: 1, last: map[string]counted{}, labels: map[string]bool{}}
		}
		w.history[name].add(c, from, to)
	}
}

// add adds a sample. Of a card that is seen for the first time nothing is known of when it counted what it tells.
func (h *history) add(cards map[string]Status, from, to time.Time) {
	p := point{from: from, to: to, verdicts: map[string]float64{}, samples: 1}
	for name, s := range cards {
		a := s.Agent
		before, known := h.last[name]
		if s.Seen.IsZero() || a.Digest == "" {
			continue
		}
		h.last[name] = counted{a.Since, a.Digest, a.Verdicts, a.Unknown}
		if !known {
			continue
		}
		if before.digest != a.Digest || !before.since.Equal(a.Since) || a.Unknown < before.unknown {
			before = counted{} // counts began anew
		}
		for label, n := range a.Verdicts {
			if d := sane(n - before.verdicts[label]); d > 0 {
				p.verdicts[h.label(label)] += d
			}
		}
		p.unknown += sane(a.Unknown - before.unknown)
	}
	h.points = append(h.points, p)
	if n := len(h.points); n > 1 && h.points[n-2].samples < h.step {
		h.points[n-2].join(p)
		h.points = h.points[:n-1]
	}
	if len(h.points) > historyPoints {
		var half []point
		for i := 0; i+1 < len(h.points); i += 2 {
			h.points[i].join(h.points[i+1])
			half = append(half, h.points[i])
		}
		if len(h.points)%2 == 1 {
			half = append(half, h.points[len(h.points)-1])
		}
		h.points, h.step = half, 2*h.step
	}
}

func (p *point) join(q point) {
	p.to, p.unknown, p.samples = q.to, p.unknown+q.unknown, p.samples+q.samples
	for l, n := range q.verdicts {
		p.verdicts[l] += n
	}
}

// label is what a label counts as: groups have few, but a card may invent as many as it likes.
func (h *history) label(l string) string {
	l = clean(l, 60)
	if !h.labels[l] {
		if len(h.labels) >= historyLabels {
			return others
		}
		h.labels[l] = true
	}
	return l
}

// sane is a count that can be added to others.
func sane(x float64) float64 {
	if !(x > 0) {
		return 0
	}
	return min(x, 1e15)
}

func (h *history) begun() time.Time {
	if len(h.points) == 0 {
		return time.Time{}
	}
	return h.points[0].from
}

// mixChart is the label mix and the unknown share over time, in the units of the SVG's view box.
type mixChart struct {
	Columns  []mixColumn
	Legend   []mixLabel
	Unknown  []string // pieces of a line, as points
	Dots     []mixDot // pieces of one point
	Most     string   // the top of the unknown share's scale
	Half     string
	From, To time.Time
	Ticks    []mixTick
	Flows    float64
}

type mixColumn struct {
	X, W  float64
	Parts []mixPart
}

type mixPart struct {
	Y, H  float64
	Class string
}

type mixLabel struct {
	Name, Class string
	Share       float64
}

type mixDot struct{ X, Y float64 }

type mixTick struct {
	X    float64
	Text string
	Side string
}

// Where plots lie in their view box of 400 by 150.
const (
	chartLeft, chartRight = 46, 392
	chartTop, chartBottom = 8, 122
)

// chart draws what is remembered; nil: no flow came.
func (h *history) chart() *mixChart {
	c := &mixChart{}
	totals := map[string]float64{}
	unknown, most := 0.0, 0.0
	for i := range h.points {
		p := &h.points[i]
		for l, n := range p.verdicts {
			totals[l] += n
		}
		unknown += p.unknown
		most = max(most, share(p.unknown, p.flows()))
		c.Flows += p.flows()
	}
	if c.Flows == 0 {
		return nil
	}
	names := slices.SortedFunc(maps.Keys(totals), func(a, b string) int {
		if (a == others) != (b == others) {
			return cmp.Compare(btoi(a == others), btoi(b == others))
		}
		return cmp.Or(cmp.Compare(totals[b], totals[a]), strings.Compare(a, b))
	})
	class, rest := map[string]string{}, 0.0
	for i, l := range names {
		if i < shownLabels && l != others {
			class[l] = fmt.Sprintf("l%d", i)
			c.Legend = append(c.Legend, mixLabel{l, class[l], share(totals[l], c.Flows)})
		} else {
			rest += totals[l]
		}
	}
	if rest > 0 {
		c.Legend = append(c.Legend, mixLabel{others, "lo", share(rest, c.Flows)})
	}
	c.Legend = append(c.Legend, mixLabel{"unknown", "lu", share(unknown, c.Flows)})

	scale := 1.0
	for _, s := range []float64{0.01, 0.02, 0.05, 0.1, 0.2, 0.5} {
		if most <= s {
			scale = s
			break
		}
	}
	c.Most, c.Half = fmt.Sprintf("%g %%", 100*scale), fmt.Sprintf("%g %%", 50*scale)
	c.From, c.To = h.points[0].from, h.points[len(h.points)-1].to
	length := max(c.To.Sub(c.From).Seconds(), 1e-3)
	x := func(t time.Time) float64 {
		return chartLeft + float64((chartRight-chartLeft)*t.Sub(c.From).Seconds()/length)
	}
	y := func(share float64) float64 { return chartBottom - float64((chartBottom-chartTop)*share) }
	var piece []string
	var dot mixDot
	end := func() {
		if len(piece) == 1 {
			c.Dots = append(c.Dots, dot)
		} else if len(piece) > 1 {
			c.Unknown = append(c.Unknown, strings.Join(piece, " "))
		}
		piece = nil
	}
	for i := range h.points {
		p := &h.points[i]
		flows := p.flows()
		if flows == 0 { // a gap, not a zero
			end()
			continue
		}
		column := mixColumn{X: tenth(x(p.from)), W: max(0.5, tenth(x(p.to)-x(p.from)-0.3))}
		at := 0.0
		part := func(n float64, class string) {
			if n > 0 {
				top := at + share(n, flows)
				column.Parts = append(column.Parts, mixPart{tenth(y(top)), tenth(y(at) - y(top)), class})
				at = top
			}
		}
		left := flows - p.unknown
		for _, l := range names {
			if class[l] != "" {
				part(p.verdicts[l], class[l])
				left -= p.verdicts[l]
			}
		}
		if left > 1e-9*flows {
			part(left, "lo")
		}
		part(p.unknown, "lu")
		c.Columns = append(c.Columns, column)
		dot = mixDot{tenth(x(p.from)/2 + x(p.to)/2), tenth(y(share(p.unknown, flows) / scale))}
		piece = append(piece, fmt.Sprintf("%g,%g", dot.X, dot.Y))
	}
	end()
	form := "15:04:05"
	if length > 3600 {
		form = "15:04"
	}
	if length > 20*3600 {
		form = "01-02 15:04"
	}
	c.Ticks = []mixTick{{chartLeft, c.From.UTC().Format(form), "start"}, {chartRight, c.To.UTC().Format(form) + " UTC", "end"}}
	return c
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func tenth(x float64) float64 { return math.Round(10*x) / 10 }
