// Package robust measures how many verdicts of a bundle change when its inputs do: bytes of flows, the most decisive ones or any, and
// packets that are padded, lost, doubled or swapped. It works on the compiled integers, as the agent does.
//
// The changes are random, from a seed: what is measured is no bound on what someone finds who looks for the worst change.
package robust

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"nepcoc/compiler/calibrate"
	"nepcoc/internal/evasion"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/engine"
	"nepcoc/runtime/explain"
	"nepcoc/runtime/flow"
)

// Options say what is measured.
type Options struct {
	Seed uint64
	// Flows bounds the flows that are changed, spread evenly over the set; 0: all.
	Flows int
	// Captures are the files that the set was read from; where there are none, no packets are changed.
	Captures []string
	// NoCaptures says why there are none, where the set is no array's.
	NoCaptures string
	Progress   func(done, total int)
}

// Report is what was measured.
type Report struct {
	Seed    uint64   `json:"seed"`
	Outputs []Output `json:"outputs"`
	// NotMeasured says what was asked for and could not be.
	NotMeasured []string `json:"not_measured,omitempty"`
}

// Output has the figures of one output that gives verdicts.
type Output struct {
	Name string `json:"name"`
	// By says what a flow's class is in Row.Classes: its "label", or the "verdict" where flows have none.
	By   string `json:"classes_by"`
	Rows []Row  `json:"rows"` // of changes that some flow was given
}

// Kinds of rows.
const (
	KindDecisive = "most decisive bytes" // those whose blanking takes most off the margin
	KindRandom   = "random bytes"        // as many others
	KindPackets  = "packets"
)

// Row is one change: of how many flows the verdict became another.
type Row struct {
	Kind   string `json:"kind"`
	Change string `json:"change"`
	// Share is the part of a flow's bytes that was changed, at least one token; 0 for packets.
	Share float64 `json:"share,omitempty"`
	// Tokens is the mean number of tokens changed in a flow.
	Tokens  float64 `json:"tokens,omitempty"`
	Flows   int     `json:"flows"`
	Flipped int     `json:"flipped"`
	// Unknown are those of Flipped whose new verdict is unknown or insufficient.
	Unknown int     `json:"flipped_unknown"`
	Classes []Class `json:"classes"` // those that flows have, in the output's order
}

// Class is a row's part for the flows of one class.
type Class struct {
	Class   string `json:"class"`
	Flows   int    `json:"flows"`
	Flipped int    `json:"flipped"`
}

// Rate is the share of verdicts that became others.
func (r *Row) Rate() float64 { return float64(r.Flipped) / float64(max(1, r.Flows)) }

// Told is how many verdicts became others, and their share where there are flows enough for one.
func (r *Row) Told(percent func(float64) string) string {
	if r.Flows < calibrate.LeastFlows {
		return fmt.Sprintf("%d: too few flows for a share", r.Flipped)
	}
	return fmt.Sprintf("%d (%s)", r.Flipped, percent(r.Rate()))
}

// Shares are the parts of a flow's bytes that are changed.
var Shares = []float64{0.01, 0.02, 0.03, 0.04, 0.05}

// packets is how many packets of a flow are changed: more than any contract waits for.
const packets = 12

// Measure changes the inputs of a set, which was read for the bundle.
func Measure(b *bundle.Bundle, e *engine.Engine, set *calibrate.Set, o Options) (*Report, error) {
	m := &meter{Options: o, b: b, engine: e, set: set}
	for i := range b.Manifest.Outputs {
		info := &b.Manifest.Outputs[i]
		if info.EffectiveKind() == bundle.KindValues {
			continue
		}
		m.outputs = append(m.outputs, i)
		m.labels = append(m.labels, set.LabelsOf(info.Name, i == 0))
	}
	r := &Report{Seed: o.Seed}
	if m.outputs == nil {
		r.NotMeasured = append(r.NotMeasured, "the model gives values and no verdict")
		return r, nil
	}
	if err := m.bytes(); err != nil {
		return nil, err
	}
	reason, err := m.changedPackets()
	if err != nil {
		return nil, err
	}
	if reason != "" {
		r.NotMeasured = append(r.NotMeasured, reason)
	}
	few := 0
	for i := range set.Inputs {
		if m.insufficient(m.payload(i)) {
			few++
		}
	}
	if few > 0 {
		r.NotMeasured = append(r.NotMeasured, fmt.Sprintf("%d of %d flows: too little payload for a verdict that could change", few, len(set.Inputs)))
	}
	// A row of no flow would say that nothing has become another.
	var none []string
	m.rows = slices.DeleteFunc(m.rows, func(t *tally) bool {
		some := slices.ContainsFunc(t.flows, func(r []result) bool { return r != nil })
		if !some {
			none = append(none, t.change)
		}
		return !some
	})
	if none != nil {
		r.NotMeasured = append(r.NotMeasured, strings.Join(none, ", ")+": no flow to change")
	}
	heads := classify.Heads(b)
	for k, i := range m.outputs {
		out := Output{Name: heads[i].Name, By: "verdict", Rows: []Row{}}
		if m.labelled(k) {
			out.By = "label"
		}
		for _, row := range m.rows {
			out.Rows = append(out.Rows, row.of(k, heads[i].Labels))
		}
		r.Outputs = append(r.Outputs, out)
	}
	return r, nil
}

// meter measures.
type meter struct {
	Options
	b       *bundle.Bundle
	engine  *engine.Engine
	set     *calibrate.Set
	outputs []int     // that give verdicts
	labels  [][][]int // of them, by input
	rows    []*tally
	explain *explain.Explainer // nil without a contract
}

func (m *meter) labelled(k int) bool {
	return slices.ContainsFunc(m.labels[k], func(l []int) bool { return l != nil })
}

// tally is a row for all outputs, with what became of each flow.
type tally struct {
	kind, change string
	share        float64
	flows        [][]result // by flow, then by output; nil: not changed
	tokens       []int      // changed, by flow
}

// result is one verdict before and after.
type result struct {
	classes          []int // of the flow, by label or verdict
	flipped, unknown bool
}

func newTally(kind, change string, share float64, n int) *tally {
	return &tally{kind, change, share, make([][]result, n), make([]int, n)}
}

// of is the row of one output.
func (t *tally) of(k int, names []string) Row {
	r := Row{Kind: t.kind, Change: t.change, Share: t.share}
	flows, flipped := make([]int, len(names)), make([]int, len(names))
	for i, f := range t.flows {
		if f == nil {
			continue
		}
		r.Flows++
		r.Tokens += float64(t.tokens[i])
		if f[k].flipped {
			r.Flipped++
			if f[k].unknown {
				r.Unknown++
			}
		}
		for _, c := range f[k].classes {
			flows[c]++
			if f[k].flipped {
				flipped[c]++
			}
		}
	}
	r.Tokens /= float64(max(1, r.Flows))
	for c, n := range flows {
		if n > 0 {
			r.Classes = append(r.Classes, Class{names[c], n, flipped[c]})
		}
	}
	return r
}

// runner runs inputs and decides, for one goroutine.
type runner struct {
	m   *meter
	cls *classify.Classifier
}

// verdict is what one output says: the classes or labels that it names or, where it gives none, would.
type verdict struct {
	classes  []int
	withheld bool // unknown or insufficient: no label is given
}

func (m *meter) newRunner() *runner {
	return &runner{m, classify.New(m.b, m.engine.NewContext())}
}

// run gives the verdicts of all outputs that make some, of a flow whose tokens hold so many bytes of payload.
func (r *runner) run(tokens []int32, valid, payload int) ([]verdict, error) {
	res, err := r.cls.Run(tokens, valid)
	if err != nil {
		return nil, err
	}
	var list []verdict
	for _, i := range r.m.outputs {
		v := verdict{withheld: res[i].Unknown || payload < r.cls.MinPayload}
		if r.cls.Heads[i].Kind == bundle.KindLabels {
			for _, l := range res[i].Given {
				v.classes = append(v.classes, l.Index)
			}
		} else {
			v.classes = []int{res[i].Class}
		}
		list = append(list, v)
	}
	return list, nil
}

// compare is what changes made of verdicts: another label, a label that is no longer given, or one where none was. after is nil where no
// flow was left. flow is an index of the set, -1 where it isn't known.
func (m *meter) compare(before, after []verdict, flow int) []result {
	list := make([]result, len(before))
	for k := range before {
		r := &list[k]
		if r.classes = before[k].classes; m.labelled(k) {
			r.classes = nil
			if flow >= 0 {
				r.classes = m.labels[k][flow]
			}
		}
		r.flipped, r.unknown = true, true
		if after != nil {
			r.flipped = before[k].withheld != after[k].withheld || !after[k].withheld && !slices.Equal(before[k].classes, after[k].classes)
			r.unknown = after[k].withheld
		}
	}
	return list
}

// payload is how many bytes of payload the tokens of a flow of the set hold; of arrays nobody knows, and each has a verdict.
func (m *meter) payload(flow int) int {
	if m.set.Flows == nil {
		return math.MaxInt
	}
	return m.set.Flows[flow].Payload
}

// insufficient tells that a flow has no verdict that could change.
func (m *meter) insufficient(payload int) bool { return payload < m.b.Manifest.LeastPayload() }

// rng draws for one flow: the same for the same seed, whatever else is measured.
func (m *meter) rng(flow int) *rand.Rand { return rand.New(rand.NewPCG(m.Seed, uint64(flow))) }

// bytes changes tokens of flows. With several outputs, decisive is what is so for the first that gives verdicts.
func (m *meter) bytes() error {
	v, err := newValues(m.b)
	if err != nil {
		return err
	}
	at := calibrate.Spread(len(m.set.Inputs), m.Flows)
	first := len(m.rows)
	for _, kind := range []string{KindDecisive, KindRandom} {
		for _, s := range Shares {
			m.rows = append(m.rows, newTally(kind, fmt.Sprintf("%.0f %% %s", 100*s, kind), s, len(at)))
		}
	}
	rows := m.rows[first:]
	if err := m.explainer(); err != nil {
		return err
	}
	var done counter
	return calibrate.Parallel(len(at), func() (func(i int) error, error) {
		r := m.newRunner()
		weigh, err := m.weigher(r, v)
		if err != nil {
			return nil, err
		}
		var changed []int32
		return func(i int) error {
			in := &m.set.Inputs[at[i]]
			before, err := r.run(in.Tokens, in.Valid, m.payload(at[i]))
			if err != nil {
				return err
			}
			open := v.open(in) // positions that hold bytes
			if len(open) == 0 || m.insufficient(m.payload(at[i])) {
				return nil
			}
			weights, err := weigh(in, open)
			if err != nil {
				return err
			}
			ranked := slices.Clone(open)
			slices.SortStableFunc(ranked, func(a, b int) int { return cmp.Compare(weights[b], weights[a]) })
			rng := m.rng(at[i])
			shuffled := slices.Clone(open)
			rng.Shuffle(len(shuffled), func(a, b int) { shuffled[a], shuffled[b] = shuffled[b], shuffled[a] })
			other := make([]int32, len(in.Tokens)) // what each position becomes: the same in all rows
			for _, p := range open {
				other[p] = v.other(in.Tokens[p], rng)
			}
			for k, row := range rows {
				list := ranked
				if row.kind == KindRandom {
					list = shuffled
				}
				n := max(1, int(math.Round(Shares[k%len(Shares)]*float64(len(open)))))
				changed = append(changed[:0], in.Tokens...)
				for _, p := range list[:n] {
					changed[p] = other[p]
				}
				after, err := r.run(changed, in.Valid, m.payload(at[i]))
				if err != nil {
					return err
				}
				row.flows[i], row.tokens[i] = m.compare(before, after, at[i]), n
			}
			done.tell(m.Progress, len(at))
			return nil
		}, nil
	})
}

// changedPackets changes the packets of flows whose beginning was captured. The reason says why none were.
func (m *meter) changedPackets() (reason string, err error) {
	if m.Captures == nil {
		return "changed packets: " + cmp.Or(m.NoCaptures, "the inputs are arrays"), nil
	}
	opt, err := classify.FlowOptions(m.b)
	if err != nil {
		return "", err
	}
	type id struct {
		key  flow.Key
		time int64
	}
	known := map[id]int{}
	for i := range m.set.Flows {
		key, _ := m.set.Flows[i].Key.Canonical()
		known[id{key, m.set.Flows[i].First}] = i
	}
	var flows []evasion.Flow
	var of []int // index of the set
	for _, path := range m.Captures {
		all, err := evasion.Load(path, packets, opt)
		if err != nil {
			return "", err
		}
		for i := range all {
			key, _ := all[i].Key.Canonical()
			if k, ok := known[id{key, all[i].First}]; ok && all[i].Whole() {
				flows, of = append(flows, all[i]), append(of, k)
			}
		}
	}
	if len(flows) == 0 {
		return "changed packets: no flow whose beginning was captured", nil
	}
	at := calibrate.Spread(len(flows), m.Flows)
	first := len(m.rows)
	for _, t := range evasion.Disturbances {
		m.rows = append(m.rows, newTally(KindPackets, t.Name, 0, len(at)))
	}
	rows := m.rows[first:]
	return "", calibrate.Parallel(len(at), func() (func(i int) error, error) {
		r := m.newRunner()
		return func(i int) error {
			f := &flows[at[i]]
			base, err := evasion.SeeAs(opt, f.Packets, f.First)
			if err != nil || base.Flows == 0 || m.insufficient(base.Payload) {
				return err
			}
			before, err := r.run(base.Tokens, base.Valid, base.Payload)
			if err != nil {
				return err
			}
			for k := range rows {
				t := &evasion.Disturbances[k]
				seen, err := evasion.SeeAs(opt, t.Run(f, f, m.Seed+uint64(of[at[i]])), f.First)
				if err != nil {
					return err
				}
				var after []verdict
				if seen.Flows > 0 {
					if after, err = r.run(seen.Tokens, seen.Valid, seen.Payload); err != nil {
						return err
					}
				}
				rows[k].flows[i] = m.compare(before, after, of[at[i]])
			}
			return nil
		}, nil
	})
}
