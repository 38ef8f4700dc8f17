package drift

import (
	"math"

	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/verdict"
)

// layout is where each histogram's counts lie in one list.
type layout struct {
	length int
	hists  []place
	size   int // of the list
}

// place is one histogram.
type place struct {
	flow   *feature // one of these
	output *outputFeature
	head   int // of an output feature
	name   string
	of     string // the output's name
	from   int
	to     int
	known  *bundle.Histogram
}

// layoutOf has a place for each feature that a bundle's flows can have.
func layoutOf(b *bundle.Bundle) *layout {
	l := &layout{length: b.Program.Length}
	for i := range features {
		f := &features[i]
		l.add(place{flow: f, name: f.name}, f.bins)
	}
	for i := range b.Manifest.Outputs {
		o := &b.Manifest.Outputs[i]
		for k := range outputFeatures {
			f := &outputFeatures[k]
			if kind := o.EffectiveKind(); f.fits(kind) {
				cols := b.Program.Values[b.Program.Outputs[i].Value].Cols
				l.add(place{output: f, head: i, name: f.name, of: o.Name}, f.bins(kind.NumLabels(cols)))
			}
		}
	}
	return l
}

func (l *layout) add(p place, bins int) {
	p.from, p.to = l.size, l.size+bins
	l.size = p.to
	l.hists = append(l.hists, p)
}

// count adds a flow.
func (l *layout) count(r *verdict.Record, counts []uint64) {
	for i := range l.hists {
		h := &l.hists[i]
		if h.flow != nil {
			if bin := h.flow.of(r, l.length); bin >= 0 {
				counts[h.from+bin]++
			}
			continue
		}
		for k := range r.Verdicts {
			if v := &r.Verdicts[k]; v.Head == h.head {
				h.output.add(v, counts[h.from:h.to])
			}
		}
	}
}

// Describe says what n flows look like, in the order in which they came, by which parts of them are compared.
// at gives each with its verdicts; it may reuse the record. Features that are not known of the flows are left out. It is nil where there are no flows.
func Describe(b *bundle.Bundle, n int, at func(i int) (*verdict.Record, error)) (*bundle.Traffic, error) {
	if n == 0 {
		return nil, nil
	}
	l := layoutOf(b)
	parts := make([][]uint64, max(1, min(n/partFlows, maxParts)))
	for p := range parts {
		parts[p] = make([]uint64, l.size)
	}
	for i := range n {
		r, err := at(i)
		if err != nil {
			return nil, err
		}
		l.count(r, parts[i*len(parts)/n])
	}
	t := &bundle.Traffic{Version: bundle.TrafficVersion, Flows: n}
	whole := make([]uint64, l.size)
	for _, p := range parts {
		add(whole, p)
	}
	for i := range l.hists {
		h := &l.hists[i]
		counts := whole[h.from:h.to]
		if total(counts) == 0 {
			continue
		}
		out := bundle.Histogram{Feature: h.name, Output: h.of, Swing: swing(h, parts, counts), Counts: make([]int, len(counts))}
		if h.output != nil && h.output.fitted {
			out.Swing = max(out.Swing, 1000*ceiling)
		}
		for k, c := range counts {
			out.Counts[k] = int(c)
		}
		t.Histograms = append(t.Histograms, out)
	}
	return t, nil
}

// Flows are compared in as many consecutive parts of at least partFlows.
const partFlows, maxParts = 64, 8

// swing is the largest distance of a part from the rest, less what chance makes of it on average, in thousandths of a bit. Flows of
// one time and place come in crowds: their windows differ by more than those of flows that were drawn.
func swing(h *place, parts [][]uint64, whole []uint64) int {
	most := 0.0
	rest := make([]uint64, len(whole))
	for _, p := range parts {
		part := p[h.from:h.to]
		for k := range rest {
			rest[k] = whole[k] - part[k]
		}
		d, bins, n, m := distance(rest, part)
		most = max(most, d-expected(bins, n, m))
	}
	return int(math.Ceil(rounded(most) * 1000))
}

func add(to, from []uint64) {
	for i, n := range from {
		to[i] += n
	}
}

func total(counts []uint64) (n uint64) {
	for _, c := range counts {
		n += c
	}
	return n
}

// Calibration is Describe of n inputs of which flow gives the tokens; it writes into the record, which is empty, what else is known.
func Calibration(b *bundle.Bundle, n int, flow func(i int, r *verdict.Record) (tokens []int32, valid int)) (*bundle.Traffic, error) {
	exec, err := classify.Engine(b)
	if err != nil {
		return nil, err
	}
	c := classify.New(b, exec)
	var r verdict.Record
	return Describe(b, n, func(i int) (*verdict.Record, error) {
		r = verdict.Record{Verdicts: r.Verdicts}
		tokens, valid := flow(i, &r)
		if r.Valid == 0 {
			r.Valid = valid
		}
		_, err := c.Run(tokens, valid)
		c.Fill(&r, false)
		return &r, err
	})
}
