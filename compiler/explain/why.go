package explain

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/explain"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/verdict"
)

// Verdict is a flow with what its verdicts stand on.
type Verdict struct {
	Number  int      `json:"number"` // from 1, in the order of first packets
	Key     string   `json:"key"`
	Time    int64    `json:"time_ns"` // of the first packet
	Reason  string   `json:"reason"`
	Marks   []string `json:"marks"`
	Tokens  int      `json:"tokens"`
	Outputs []Why    `json:"outputs"`
	// Packets are what the tokens are made of, in the stream view each side's bytes.
	Packets []explain.Packet `json:"packets"`
}

// Why is what one output's verdict stands on.
type Why struct {
	Output string `json:"output"`
	// Label is what the verdict says: a label, or a word in its place, "unknown" or "insufficient", and then Candidate is the label that it
	// would have. Empty where of any number of labels none is given.
	Label     string `json:"label"`
	Candidate string `json:"candidate,omitempty"`
	// Against is the next label, whose logit the margin is the distance from; empty where that is a threshold. Where none is given it is
	// the label that was nearest to its threshold.
	Against string `json:"against,omitempty"`
	// Margin is in the model's units of logits, and so is Drop: how much of it goes where all bytes of Ranges are blanked.
	Margin float64         `json:"logit_margin"`
	Drop   float64         `json:"logit_drop"`
	Bytes  int             `json:"bytes"` // that are named
	Ranges []explain.Range `json:"ranges"`
	// Fields are the protocol fields that they lie in, the largest share first.
	Fields []FieldShare `json:"fields"`
	// Weights are those of all tokens; see explain.Runner.Exact.
	Weights []float64 `json:"-"`
}

// FieldShare is a field's part of what a verdict stands on.
type FieldShare struct {
	Name  string  `json:"name"`
	Share float64 `json:"share"`
}

// byField adds up the shares of ranges by field, byte by byte.
func byField(ranges []explain.Range, packets []explain.Packet) (list []FieldShare) {
	add := func(name string, share float64) {
		i := slices.IndexFunc(list, func(f FieldShare) bool { return f.Name == name })
		if i < 0 {
			i, list = len(list), append(list, FieldShare{Name: name})
		}
		list[i].Share += share
	}
	for i := range ranges {
		r := &ranges[i]
		if r.Fact != "" {
			add("fact: "+r.Fact, r.Share)
		}
		for k := range packets {
			from, to, ok := r.In(&packets[k])
			for _, f := range packets[k].Fields {
				if n := min(f.To, to) - max(f.From, from); ok && n > 0 {
					add(f.Name, r.Share*float64(n)/float64(r.Length))
				}
			}
		}
	}
	slices.SortStableFunc(list, func(a, b FieldShare) int { return cmp.Compare(b.Share, a.Share) })
	return list
}

// Select says which flows are explained.
type Select struct {
	Flow int   // a number; 0: all
	Key  *Ends // only these hosts and ports, in either direction; nil: all
	// Some, where it is set, says by their numbers which are.
	Some func(number int) bool
}

// Ends are the two ends of flows.
type Ends struct {
	A, B  netip.AddrPort
	Proto string // TCP or UDP
}

// ParseEnds reads a:p-b:p/proto; addresses of IPv6 stand in brackets.
func ParseEnds(s string) (*Ends, error) {
	ends, proto, ok := strings.Cut(s, "/")
	a, b, both := strings.Cut(ends, "-")
	e := &Ends{Proto: strings.ToUpper(proto)}
	var err, errB error
	e.A, err = netip.ParseAddrPort(a)
	e.B, errB = netip.ParseAddrPort(b)
	if !ok || !both || err != nil || errB != nil || e.Proto != "TCP" && e.Proto != "UDP" {
		return nil, fmt.Errorf("%q: want two ends and a protocol, such as 10.0.0.1:40000-10.0.0.2:443/tcp or [2001:db8::1]:5353-[2001:db8::2]:53/udp", s)
	}
	// Packets' addresses are never IPv4 ones within IPv6.
	e.A, e.B = netip.AddrPortFrom(e.A.Addr().Unmap(), e.A.Port()), netip.AddrPortFrom(e.B.Addr().Unmap(), e.B.Port())
	return e, nil
}

func (e *Ends) are(k flow.Key) bool {
	a, b := k.SrcAddr(), k.DstAddr()
	return k.ProtoName() == e.Proto && (a == e.A && b == e.B || a == e.B && b == e.A)
}

// Explainer explains the verdicts of a bundle.
type Explainer struct {
	// Flows says how flows are made of packets.
	Flows flow.Options
	b     *bundle.Bundle
	x     *explain.Explainer
}

// New prepares a bundle; an error says why there are no explanations of it.
func New(b *bundle.Bundle) (*Explainer, error) {
	opt, err := classify.FlowOptions(b)
	if err != nil {
		return nil, err
	}
	if err := classify.CheckPackets(b); err != nil {
		return nil, err
	}
	x, err := explain.New(b, opt.Encoder)
	if err != nil {
		return nil, err
	}
	return &Explainer{opt, b, x}, nil
}

// Verdicts explains the verdicts of a capture's flows, by blanking token by token (see runtime/explain), and calls emit with each.
func (e *Explainer) Verdicts(src capture.Source, which Select, emit func(*Verdict) error) (*flow.Counters, error) {
	r, trail := e.x.NewRunner(), explain.NewTrail(e.Flows.Encoder, true)
	cls := classify.New(e.b, r)
	wanted := func(seq uint64) bool {
		return (which.Flow == 0 || seq+1 == uint64(which.Flow)) && (which.Some == nil || which.Some(int(seq)+1))
	}
	opt := e.Flows
	opt.Took = func(p flow.Taken) {
		if wanted(p.Seq) {
			trail.Took(p)
		}
	}
	var failed error
	flows := 0
	opt.Ready = func(f *flow.Flow) {
		flows++
		defer trail.Drop(f.Seq)
		if failed != nil || !wanted(f.Seq) || which.Key != nil && !which.Key.are(f.Key) {
			return
		}
		var v *Verdict
		if v, failed = why(f, r, cls, trail); failed == nil {
			failed = emit(v)
		}
	}
	in, err := flow.NewInput(opt)
	if err != nil {
		return nil, err
	}
	err = in.Run(src)
	if failed != nil {
		return nil, failed
	}
	if err == nil && which.Flow > flows {
		err = NoFlow{which.Flow, flows}
	}
	return in.Counters(), err
}

// NoFlow says that a capture has no flow of a number.
type NoFlow struct{ Number, Flows int }

func (e NoFlow) Error() string {
	if e.Flows == 0 {
		return fmt.Sprintf("flow %d: the capture has none", e.Number)
	}
	return fmt.Sprintf("flow %d: the capture has flows 1 to %d", e.Number, e.Flows)
}

func why(f *flow.Flow, r *explain.Runner, cls *classify.Classifier, trail *explain.Trail) (*Verdict, error) {
	if _, err := cls.Run(f.Tokens, f.Valid); err != nil {
		return nil, err
	}
	var rec verdict.Record
	rec.FromFlow(f)
	cls.Fill(&rec, false)
	packets := trail.Packets(f)
	v := &Verdict{Number: int(f.Seq) + 1, Key: f.Key.String(), Time: f.First, Reason: f.Reason.String(), Marks: listed(rec.Marks.Names()), Tokens: f.Valid, Packets: listed(packets)}
	for k := range rec.Verdicts {
		said := &rec.Verdicts[k]
		i := said.Head
		h, logits := &cls.Heads[i], slices.Clone(cls.Logits()[i])
		what, ok := h.Explained(logits)
		if !ok {
			continue
		}
		weights, err := r.Exact(i, what, logits)
		if err != nil {
			return nil, err
		}
		w := Why{Output: h.Name, Weights: slices.Clone(weights), Margin: float64(what.Margin(logits)) * h.Scale, Ranges: trail.Ranges(f, weights, explain.Threshold)}
		explain.Name(w.Ranges, packets)
		w.Fields = byField(w.Ranges, packets)
		if w.Label, w.Against = names(h, what); said.Withheld() != "" {
			w.Label, w.Candidate = said.Withheld(), w.Label
		}
		w.Ranges, w.Fields = listed(w.Ranges), listed(w.Fields)
		for _, k := range w.Ranges {
			w.Bytes += k.Length
		}
		d, err := r.Blanking(i, what, logits, explain.Named(weights, explain.Threshold))
		if err != nil {
			return nil, err
		}
		w.Drop = d * h.Scale
		v.Outputs = append(v.Outputs, w)
	}
	return v, nil
}

// listed is a list that is one in JSON, too, where it is empty.
func listed[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// names are the labels of a verdict and of what its margin is from.
func names(h *classify.Head, v explain.Verdict) (label, against string) {
	switch {
	case h.Kind == bundle.KindLabels && v.Up < 0:
		return "", h.Labels[v.Down]
	case h.Kind == bundle.KindBinary && v.Up < 0:
		return h.Labels[0], ""
	case h.Kind == bundle.KindBinary:
		return h.Labels[1], ""
	case v.Down < 0:
		return h.Labels[v.Up], ""
	}
	return h.Labels[v.Up], h.Labels[v.Down]
}
