package drift

import (
	"fmt"
	"time"

	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/verdict"
)

// Comparison is what a capture's flows are like beside those that a bundle was calibrated or taught with.
type Comparison struct {
	// Drift is the answer: drift has begun in some window, or all flows together are above a bound.
	Drift bool `json:"drift"`
	// TooFew: there are too few flows for any feature to tell. That there is no Drift then says nothing.
	TooFew bool `json:"too_few,omitempty"`
	// Calibration is how many flows the bundle describes.
	Calibration int `json:"calibration_flows"`
	// Window is its flows, Looks how many windows were looked at, a quarter of one apart.
	Window int `json:"window"`
	Looks  int `json:"looks"`
	// Whole is of all flows together, Events are what an agent would have told of windows.
	Whole  State  `json:"whole"`
	Events []Told `json:"events"`
}

// Told is an event of a Comparison.
type Told struct {
	State string `json:"state"` // begin or end
	Time  string `json:"time"`  // of the latest packet of the window's flows
	Is    State  `json:"window"`
}

// Compare classifies a capture by the bundle's view and compares its flows with the bundle's. progress, where it is not nil, is called with the
// number of flows so far. An error that Known gives says that the bundle can't tell.
func Compare(b *bundle.Bundle, src capture.Source, o Options, progress func(flows int)) (*Comparison, *flow.Counters, error) {
	m, err := New(b, classify.Labels(b), o)
	if err != nil {
		return nil, nil, err
	}
	exec, err := classify.Engine(b)
	if err != nil {
		return nil, nil, err
	}
	c := classify.New(b, exec)
	c.Capacity = flow.DefaultCapacity
	r := &Comparison{Calibration: b.Manifest.Traffic.Flows, Window: o.Flows, Events: []Told{}}
	flows := 0
	counters, err := c.Flows(b, src, false, func(rec *verdict.Record) error {
		if e := m.Add(rec); e != nil {
			r.Drift = r.Drift || e.Begin
			r.Events = append(r.Events, Told{e.Name(), time.Unix(0, e.Time).UTC().Format(time.RFC3339), e.State})
		}
		if flows++; progress != nil {
			progress(flows)
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	_, r.Looks, _ = m.State()
	r.Whole = m.Whole()
	r.Drift = r.Drift || len(r.Whole.Over()) > 0
	r.TooFew = r.Whole.few() == len(r.Whole.Distances)
	return r, counters, nil
}

// few counts the features that have too few flows to tell.
func (s *State) few() (n int) {
	for i := range s.Distances {
		if s.Distances[i].Few {
			n++
		}
	}
	return n
}

// Answer is the comparison in a sentence.
func (c *Comparison) Answer() string {
	few, all := c.Whole.few(), len(c.Whole.Distances)
	switch over := c.Whole.String(); {
	case over != "":
		return "drift: " + over
	case c.Drift:
		return "drift in windows, not in all flows together"
	case c.TooFew:
		return "not told: of so few flows, and with these bounds, no feature could be above its own"
	case few > 0:
		return fmt.Sprintf("no drift in %d of %d features; for the others there are too few flows", all-few, all)
	}
	return "no drift"
}
