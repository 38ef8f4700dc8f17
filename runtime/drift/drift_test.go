package drift

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"nepcoc/internal/testbundle"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/verdict"
)

// The divergence is 0 of equal shares, 1 of shares that have nothing in common, and in between what the formula gives.
func TestDistance(t *testing.T) {
	for _, c := range []struct {
		p, q []uint64
		want float64
		bins int
	}{
		{[]uint64{3, 1, 0}, []uint64{6, 2, 0}, 0, 2},
		{[]uint64{5, 0}, []uint64{0, 7}, 1, 2},
		{[]uint64{1, 1}, []uint64{1, 0}, 0.5*(0.5*math.Log2(0.5/0.75)+0.5*math.Log2(0.5/0.25)) + 0.5*math.Log2(1/0.75), 2},
		{[]uint64{0, 0}, []uint64{1, 0}, 0, 0},
	} {
		d, bins, _, _ := distance(c.p, c.q)
		back, _, _, _ := distance(c.q, c.p)
		if math.Abs(d-c.want) > 1e-12 || math.Abs(d-back) > 1e-12 || bins != c.bins {
			t.Errorf("%d and %d: %g (the other way %g) in %d bins, want %g in %d", c.p, c.q, d, back, bins, c.want, c.bins)
		}
	}
}

// Samples of one distribution pass what chance allows about as often as it says, once in a thousand, and are at its mean on average.
func TestChance(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct{ bins, n, m int }{{2, 300, 200}, {16, 400, 300}, {22, 1000, 512}} {
		const rounds = 2000
		over, sum, mean := 0, 0.0, 0.0
		for range rounds {
			p, q := make([]uint64, c.bins), make([]uint64, c.bins)
			for range c.n {
				p[r.IntN(c.bins)]++
			}
			for range c.m {
				q[r.IntN(c.bins)]++
			}
			d, bins, n, m := distance(p, q)
			sum, mean = sum+d, mean+expected(bins, n, m)
			if d > chance(bins, n, m) {
				over++
			}
		}
		if over > rounds/200 {
			t.Errorf("%+v: %d of %d pass what one in a thousand should", c, over, rounds)
		}
		if x := sum / mean; x < 0.9 || x > 1.1 {
			t.Errorf("%+v: the mean is %.2f times what it should be", c, x)
		}
	}
}

// flows are records of a made-up network: odd ones have another class, size and side.
func record(r *rand.Rand, odd bool) *verdict.Record {
	v := &verdict.Record{Packets: [2]uint64{2 + r.Uint64N(2), 2}, Bytes: [2]uint64{400 + r.Uint64N(300), 700}, Valid: 20 + r.IntN(8), Payload: 200 + r.IntN(200), Largest: 500}
	class, score := r.IntN(2), 0.8+r.Float64()/5
	if odd {
		v.Packets[1], v.Marks, score = 0, flow.MarkOneSided, r.Float64()
	}
	v.Verdicts = []verdict.Verdict{{Head: 0, Class: class, Score: score}}
	return v
}

func described(t *testing.T) (*bundle.Bundle, *rand.Rand) {
	t.Helper()
	b, err := testbundle.New(0, "class")
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 4))
	if b.Manifest.Traffic, err = Describe(b, 600, func(int) (*verdict.Record, error) { return record(r, false), nil }); err != nil {
		t.Fatal(err)
	}
	return b, r
}

// Drift is told once it has lasted for so many windows, with its cause and the labels, and its end as long after it; what lasts for less
// is not told.
func TestMonitor(t *testing.T) {
	b, r := described(t)
	for _, windows := range []int{1, 2, 3} {
		m, err := New(b, classify.Labels(b), Options{Flows: 200, Windows: windows, Bound: 1})
		if err != nil {
			t.Fatal(err)
		}
		feed := func(n int, odd bool) (at []int, events []*Event) {
			for i := range n {
				if e := m.Add(record(r, odd)); e != nil {
					at, events = append(at, i+1), append(events, e)
				}
			}
			return at, events
		}
		if _, e := feed(2000, false); e != nil {
			t.Fatalf("quiet traffic: %+v", e[0])
		}
		if windows > 1 {
			if _, e := feed(200*(windows-1), true); e != nil {
				t.Errorf("%d windows: told after one less: %+v", windows, e[0])
			}
			if _, e := feed(2000, false); e != nil {
				t.Errorf("%d windows: %+v", windows, e[0])
			}
		}
		at, e := feed(2000, true)
		// The first window that shows it may have less than a quarter of it, the last not all.
		if len(e) != 1 || !e[0].Begin || at[0] < 200*windows || at[0] > 200*windows+50 {
			t.Fatalf("%d windows: %d events, at %v flows", windows, len(e), at)
		}
		if s := &e[0].State; !slices.Equal(s.Causes, []string{"one_sided"}) || len(s.Labels) == 0 || s.Flows != 200 {
			t.Errorf("%+v", s)
		}
		if _, _, drifted := m.State(); !drifted {
			t.Error("drift has begun, and is not there")
		}
		at, e = feed(2000, false)
		if len(e) != 1 || e[0].Begin || at[0] < 200*windows || at[0] > 200*(windows+1)+50 {
			t.Errorf("%d windows: the end: %d events, at %v", windows, len(e), at)
		}
	}
}

// A feature that a bundle does not have is not compared, and one of another size is not either; a bundle without
// any says so, as does one that is newer.
func TestOtherVersions(t *testing.T) {
	b, _ := described(t)
	o := Defaults
	b.Manifest.Traffic.Histograms = append(b.Manifest.Traffic.Histograms[:2:2], bundle.Histogram{Feature: "size", Counts: []int{1, 2}}, bundle.Histogram{Feature: "to come", Counts: []int{1, 2}})
	m, err := New(b, classify.Labels(b), o)
	if err != nil {
		t.Fatal(err)
	}
	if s := m.Whole(); len(s.Distances) != 2 {
		t.Errorf("%+v", s.Distances)
	}
	b.Manifest.Traffic.Version++
	if _, err := New(b, classify.Labels(b), o); err == nil || !strings.Contains(err.Error(), "in version 2") {
		t.Error(err)
	}
	b.Manifest.Traffic = nil
	if _, err := New(b, classify.Labels(b), o); err == nil || !strings.Contains(err.Error(), "compile or teach it again") {
		t.Error(err)
	}
	if _, err := New(b, nil, Options{}); err == nil {
		t.Error("options of zero are taken")
	}
}

// What is not known of flows from arrays is left out, and what chance leaves of parts is no swing.
func TestDescribe(t *testing.T) {
	b, r := described(t)
	for i := range b.Manifest.Traffic.Histograms {
		if h := &b.Manifest.Traffic.Histograms[i]; h.Swing > 1000*floor {
			t.Errorf("flows that were drawn have a swing of %d: %+v", h.Swing, h)
		}
	}
	names := func(of func() *verdict.Record) (list []string) {
		d, err := Describe(b, 300, func(int) (*verdict.Record, error) { return of(), nil })
		if err != nil {
			t.Fatal(err)
		}
		for i := range d.Histograms {
			list = append(list, d.Histograms[i].Feature)
		}
		return list
	}
	if got := names(func() *verdict.Record { v := record(r, false); v.Packets = [2]uint64{}; v.Largest = 0; return v }); !slices.Equal(got, []string{"tokens", "score", "label"}) {
		t.Error(got)
	}
	if got := names(func() *verdict.Record { v := record(r, false); v.Largest = 0; return v }); slices.Contains(got, "merged") || !slices.Contains(got, "cut") {
		t.Error(got)
	}
	placed, err := Describe(b, 300, func(int) (*verdict.Record, error) {
		v := record(r, false)
		v.Verdicts[0].Placed, v.Verdicts[0].Belonging = true, r.Float64()
		return v, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if k := slices.IndexFunc(placed.Histograms, func(h bundle.Histogram) bool { return h.Feature == "belonging" }); k < 0 || placed.Histograms[k].Swing != 150 {
		t.Errorf("belonging: %+v", placed.Histograms)
	}
	// Parts that differ are no drift.
	n := 0
	d, err := Describe(b, 600, func(int) (*verdict.Record, error) { n++; return record(r, n > 300), nil })
	if err != nil {
		t.Fatal(err)
	}
	for i := range d.Histograms {
		if h := &d.Histograms[i]; h.Feature == "one_sided" && h.Swing < 300 {
			t.Errorf("half of the flows are one-sided, in one piece: a swing of %d", h.Swing)
		}
	}
}

// Every flow, whatever it is, has a bin.
func TestBins(t *testing.T) {
	for _, r := range []verdict.Record{
		{}, {Valid: 1 << 20, Packets: [2]uint64{math.MaxInt64, math.MaxInt64}, Bytes: [2]uint64{math.MaxInt64, math.MaxInt64}, Payload: math.MaxInt64, Largest: 65535, Repeats: 255, Marks: math.MaxUint16},
		{Valid: 1, Packets: [2]uint64{1, 0}}, {Packets: [2]uint64{0, 1}, Bytes: [2]uint64{0, 1}, Largest: 1},
	} {
		for i := range features {
			if f := &features[i]; f.of(&r, 128) >= f.bins {
				t.Errorf("%s of %+v: bin %d of %d", f.name, r, f.of(&r, 128), f.bins)
			}
		}
	}
	if share(1) != shares-1 || share(0) != 0 {
		t.Error("shares")
	}
}
