package act

import (
	"net/netip"
	"slices"

	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/verdict"
)

// Reason is why nothing is done about a verdict.
type Reason uint8

// The reasons. Those behind Unasked are of verdicts with a chosen label and score: what kept something from being done.
const (
	Wanted       Reason = iota
	Unasked             // no entry has this label, or the score is too low
	Unknown             // the label is the best candidate's only
	Insufficient        // the flow held too little payload
	Marked              // the verdict has a mark: it stands on less than what the hosts saw
	Allowed             // an address or port of the flow is on the allow list
	InTunnel            // the interface sees the tunnel's packets, not the flow's, or not all of them
	InLayers            // the interface sees MPLS, PPPoE, two VLAN tags or the like, not IP
	NoTransport         // neither TCP nor UDP
	Unproven            // the bundle is on trial, was returned from, or is no longer trusted
	NumReasons
)

var reasonNames = [NumReasons]string{"wanted", "unasked", "unknown", "insufficient", "marked", "allowed", "tunnel", "layers", "transport", "unproven"}

func (r Reason) String() string { return reasonNames[r] }

// Policy is what a configuration wants done. It is read only.
type Policy struct {
	entries  []entry
	prefixes []netip.Prefix
	ports    []portRange
}

type entry struct {
	labels map[string]bool
	score  float64
	effect Effect
}

// NewPolicy makes a policy of a valid configuration.
func NewPolicy(c *Config) *Policy {
	p := new(Policy)
	for i := range c.Rules {
		e := entry{labels: map[string]bool{}, score: *c.Rules[i].MinScore, effect: c.Rules[i].effect()}
		for _, l := range c.Rules[i].Labels {
			e.labels[l] = true
		}
		p.entries = append(p.entries, e)
	}
	for _, s := range c.Allow.Addresses {
		x, err := prefix(s)
		if err != nil {
			panic("BUG: " + err.Error())
		}
		p.prefixes = append(p.prefixes, x)
	}
	for _, s := range c.Allow.Ports {
		x, err := ports(s)
		if err != nil {
			panic("BUG: " + err.Error())
		}
		p.ports = append(p.ports, x)
	}
	return p
}

// Decide says what a verdict asks for: what the first entry says that one of its labels meets, or why nothing is done. scope is what
// tells the table's flows apart.
func (p *Policy) Decide(r *verdict.Record, scope flow.Scope) (Want, Reason) {
	kept := Unasked
	for i := range p.entries {
		e := &p.entries[i]
		label, score, why := e.meets(r.Verdicts)
		if why == Wanted {
			why = p.keeps(r)
		}
		if why != Wanted {
			if kept == Unasked {
				kept = why
			}
			continue
		}
		w := Want{Entry: i, Flow: Flow{Tagged: scope.VLANs}}
		w.Flow.Key, _ = r.Key.Canonical()
		w.Flow.Key.VLAN, w.Flow.Key.Interface = [2]uint16{}, 0
		if scope.VLANs {
			w.Flow.Key.VLAN = r.VLAN
		}
		w.Event = verdict.Action{Key: r.Key, First: r.First, VLAN: r.VLAN, Seed: r.Seed, Source: r.Source, Kind: e.effect.Kind.String(), Label: label, Score: score, Latency: -1, Held: -1}
		return w, Wanted
	}
	return Want{}, kept
}

// meets finds a label of the entry that the verdicts give with its score. Where none does, but one would if it were given, it says
// why it isn't.
func (e *entry) meets(list []verdict.Verdict) (label string, score float64, why Reason) {
	why = Unasked
	for i := range list {
		v := &list[i]
		if v.Multi {
			for k := range v.Given {
				g := &v.Given[k]
				switch {
				case !(g.Score >= e.score) || !e.has(v.Output, g.Label):
				case v.Insufficient:
					why = Insufficient
				case v.Unknown:
					why = Unknown
				default:
					return g.Label, g.Score, Wanted
				}
			}
			continue
		}
		if !(v.Score >= e.score) || !e.has(v.Output, v.Label) {
			continue
		}
		switch {
		case v.Insufficient:
			why = Insufficient
		case v.Unknown:
			why = Unknown
		default:
			return v.Label, v.Score, Wanted
		}
	}
	return "", 0, why
}

func (e *entry) has(output, label string) bool {
	return e.labels[label] || e.labels[output+"="+label]
}

// keeps says what of a flow keeps rules away from it.
func (p *Policy) keeps(r *verdict.Record) Reason {
	src, dst := r.Key.SrcAddr(), r.Key.DstAddr()
	switch {
	case r.Marks&flow.MarkInsufficient != 0:
		return Insufficient
	case r.Marks != 0:
		return Marked
	case r.Key.Proto != capture.ProtoTCP && r.Key.Proto != capture.ProtoUDP:
		return NoTransport
	case p.allows(r.Key.Proto, src) || p.allows(r.Key.Proto, dst):
		return Allowed
	case r.Level > 0 || r.Key.Tunnel != 0 || r.Apart && r.Shims == 0:
		return InTunnel
	case r.Shims > 0: // of the first, whatever came later
		return InLayers
	}
	return Wanted
}

// allows says whether an end of a flow is on the allow list. An IPv4 address that is written as one of IPv6 counts as both.
func (p *Policy) allows(proto uint8, end netip.AddrPort) bool {
	a := end.Addr()
	return slices.ContainsFunc(p.prefixes, func(x netip.Prefix) bool { return x.Contains(a) || x.Contains(a.Unmap()) }) ||
		slices.ContainsFunc(p.ports, func(r portRange) bool {
			return (r.proto == 0 || r.proto == proto) && r.lo <= end.Port() && end.Port() <= r.hi
		})
}
