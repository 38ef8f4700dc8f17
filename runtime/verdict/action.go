package verdict

import (
	"strconv"

	"nepcoc/runtime/flow"
)

// Action is what was done, or was not, about a verdict: a rule for the flow's packets that is in force from now on, one that has
// ended, or one that was refused. See package act.
type Action struct {
	Key    flow.Key // as the verdict's
	First  int64    // the flow's first packet, ns since 1970
	VLAN   [2]uint16
	Seed   uint16 // of the Community ID
	Source *Source
	// ID is the flow_id of a rule that another process made, whose First nobody knows; 0: by First.
	ID uint64

	Time    int64  // of the event, ns since 1970
	Event   string // begin, end, refused
	Kind    string // mark, mirror, rate-limit, drop
	Backend string // nftables, flower, none in a dry run
	DryRun  bool
	Label   string  // empty leaves it out
	Score   float64 // of the label; 0 leaves it out
	// Limit is the rule's time in seconds; 0 leaves it out.
	Limit float64
	// Hardware is "yes", "partly" or "no"; empty leaves it out.
	Hardware string
	// Latency is from the verdict to the rule, in seconds, and Held how long it was in force; below 0 leaves them out.
	Latency, Held float64
	// Why is what ended it, Error why it was refused.
	Why, Error string
}

// FlowID is the number that all events of the action's flow have.
func (a *Action) FlowID() uint64 {
	if a.ID != 0 {
		return a.ID
	}
	return (&Record{Key: a.Key, First: a.First}).flowID()
}

// AppendEVE appends the action as an EVE event of type "nepco" with an object nepco.action, without a newline. It has the
// flow_id of the verdict's own event.
func (a *Action) AppendEVE(b []byte) []byte {
	r := Record{Key: a.Key, First: a.First, Last: a.Time, VLAN: a.VLAN, Source: a.Source}
	b = r.appendEVEHeadID(b, "nepco", a.FlowID())
	b = append(b, `,"community_id":"`...)
	b = AppendCommunityID(b, a.Seed, a.Key)
	b = append(b, `","nepco":{"action":{"event":`...)
	b = appendString(b, a.Event)
	b = append(b, `,"kind":`...)
	b = appendString(b, a.Kind)
	b = append(b, `,"dry_run":`...)
	b = strconv.AppendBool(b, a.DryRun)
	b = append(b, `,"backend":`...)
	b = appendString(b, a.Backend)
	if a.Label != "" {
		b = append(b, `,"label":`...)
		b = appendString(b, a.Label)
	}
	if a.Score != 0 {
		b = append(b, `,"score":`...)
		b = appendFloat(b, a.Score)
	}
	if a.Limit != 0 {
		b = append(b, `,"limit_s":`...)
		b = appendFloat(b, a.Limit)
	}
	if a.Hardware != "" {
		b = append(b, `,"in_hardware":`...)
		b = appendString(b, a.Hardware)
	}
	if a.Latency >= 0 {
		b = append(b, `,"latency_us":`...)
		b = appendFloat(b, a.Latency*1e6)
	}
	if a.Held >= 0 {
		b = append(b, `,"held_s":`...)
		b = appendFloat(b, a.Held)
	}
	if a.Why != "" {
		b = append(b, `,"why":`...)
		b = appendString(b, a.Why)
	}
	if a.Error != "" {
		b = append(b, `,"error":`...)
		b = appendString(b, a.Error)
	}
	b = append(b, '}')
	return append(r.appendSource(b), "}}"...)
}
