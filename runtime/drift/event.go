package drift

import (
	"cmp"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"
)

// body is what an event's line says.
type body struct {
	State    string       `json:"state"`
	Flows    uint64       `json:"flows"`
	Features []Distance   `json:"features"`
	Labels   []LabelShift `json:"labels"`
	Causes   []string     `json:"causes"`
}

// Shown is how many labels an event lists, those that have moved most first.
const Shown = 12

// Name is what the event is called.
func (e *Event) Name() string {
	if e.Begin {
		return "begin"
	}
	return "end"
}

// AppendEVE appends the event as a line of Suricata's EVE, without a newline: nepco.drift is what there is to say, in the fields of
// docs/drift.md, bundle and digest name what is compared with.
func (e *Event) AppendEVE(b []byte, bundle, digest string) []byte {
	line := struct {
		Timestamp string `json:"timestamp"`
		EventType string `json:"event_type"`
		Nepco     struct {
			Drift  body   `json:"drift"`
			Bundle string `json:"bundle"`
			Digest string `json:"digest"`
		} `json:"nepco"`
	}{Timestamp: time.Unix(0, e.Time).UTC().Format("2006-01-02T15:04:05.000000-0700"), EventType: "nepco"}
	line.Nepco.Drift = body{e.Name(), e.State.Flows, e.State.Over(), e.State.Moved(Shown), e.State.Causes}
	line.Nepco.Bundle, line.Nepco.Digest = bundle, digest
	text, err := json.Marshal(&line)
	if err != nil {
		panic("BUG: " + err.Error()) // no number of it is infinite, and its names are text
	}
	return append(b, text...)
}

// String is the event in a line for people.
func (e *Event) String() string {
	if !e.Begin {
		return "the traffic is as it was when the bundle was made, again"
	}
	text := "the traffic is not as it was when the bundle was made: " + e.State.String()
	for _, c := range e.State.Causes {
		text += "; " + Cause(c)
	}
	return text
}

// String lists what is above its bound.
func (s *State) String() string {
	var list []string
	for _, d := range s.Over() {
		list = append(list, d.String())
	}
	return strings.Join(list, ", ")
}

// Moved are the n labels at most whose share has changed most.
func (s *State) Moved(n int) []LabelShift {
	list := slices.Clone(s.Labels)
	slices.SortStableFunc(list, func(a, b LabelShift) int { return cmp.Compare(math.Abs(b.Now-b.Then), math.Abs(a.Now-a.Then)) })
	return list[:min(n, len(list))]
}
