package load

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/verdict"
)

// Verdict is what is compared of one: its labels, and how it came about.
type Verdict struct {
	Labels string // of all outputs, in one text
	Reason string // flow.Reason
	// Wait is how long after the flow's last packet it comes: 0 where a packet decides.
	Wait time.Duration
}

// event is what is read of an EVE event.
type event struct {
	Type string     `json:"event_type"`
	Src  netip.Addr `json:"src_ip"`
	Dst  netip.Addr `json:"dest_ip"`
	Says *struct {
		said
		Outputs []struct {
			Output string `json:"output"`
			said
		} `json:"outputs"`
		Decided    string   `json:"decided"`
		Tokens     *int     `json:"tokens"` // not of an event of the flow's end
		Latency    float64  `json:"latency_us"`
		Incomplete []string `json:"incomplete"`
	} `json:"nepco"`
}

// said is what one output says.
type said struct {
	Label  *string `json:"label"`
	Labels []struct {
		Label string `json:"label"`
	} `json:"labels"`
}

func (s *said) String() string {
	if s.Label != nil {
		return *s.Label
	}
	var all []string
	for _, l := range s.Labels {
		all = append(all, l.Label)
	}
	return "[" + strings.Join(all, " ") + "]"
}

// parse reads an EVE event; false where it is no verdict.
func parse(line []byte, e *event) bool {
	*e = event{}
	return json.Unmarshal(line, e) == nil && (e.Type == "flow" || e.Type == "nepco") && e.Says != nil && e.Says.Tokens != nil
}

// labels is the text of all outputs.
func (e *event) labels() string {
	if e.Says.Outputs == nil {
		return e.Says.String()
	}
	var all []string
	for i := range e.Says.Outputs {
		o := &e.Says.Outputs[i]
		all = append(all, o.Output+"="+o.String())
	}
	return strings.Join(all, " ")
}

// Expect finds what the verdicts on the script's flows must be: those of the capture, which src reads once more. The labels of a flow
// are compared only where they are the same for its packets as they are sent, in two instances: a
// contract may take addresses, and a pause that is made shorter may have ended the flow. How many are not is returned.
func (s *Script) Expect(b *bundle.Bundle, src capture.Source) (not int, err error) {
	x, err := classify.Engine(b)
	if err != nil {
		return 0, err
	}
	opt, err := classify.FlowOptions(b)
	if err != nil {
		return 0, err
	}
	c := opt.Encoder.Contract()
	waits := map[flow.Reason]time.Duration{
		flow.ReasonClosed: c.CloseLinger, flow.ReasonQuiet: c.Quiet, flow.ReasonIdle: c.Idle, flow.ReasonEnd: c.Idle,
	}
	var line []byte
	classified := func(src capture.Source, each func(r *verdict.Record, v Verdict)) error {
		_, err := classify.New(b, x).Flows(b, src, false, func(r *verdict.Record) error {
			var e event
			if line = r.AppendEVE(line[:0]); !parse(line, &e) {
				panic("BUG: an event that can't be read: " + string(line))
			}
			each(r, Verdict{Labels: e.labels(), Reason: r.Reason.String(), Wait: waits[r.Reason]})
			return nil
		})
		return err
	}
	// At rest: a capture's flow may be several of the table's.
	type named struct {
		first int64
		Verdict
	}
	rest := make(map[flow.Key][]named, len(s.Flows)) // of the script's flows: a capture may hold any number of others
	for i := range s.Flows {
		k, _ := s.Flows[i].Key.Canonical()
		rest[k] = nil
	}
	if err := classified(src, func(r *verdict.Record, v Verdict) {
		k, _ := r.Key.FiveTuple().Canonical()
		if list, sent := rest[k]; sent {
			rest[k] = append(list, named{r.First, v})
		}
	}); err != nil {
		return 0, err
	}
	for _, list := range rest {
		slices.SortStableFunc(list, func(a, b named) int { return int(min(max(a.first-b.first, -1), 1)) })
	}
	sent := [2][][]Verdict{}
	for i := range sent {
		sent[i] = make([][]Verdict, len(s.Flows))
		base := uint32(i) * 0x5bd1e995
		if err := classified(s.memory(base), func(r *verdict.Record, v Verdict) {
			if n, ok := Instance(r.Key.SrcAddr().Addr(), r.Key.DstAddr().Addr()); ok && n-base < uint32(len(s.Flows)) {
				sent[i][n-base] = append(sent[i][n-base], v)
			}
		}); err != nil {
			return 0, err
		}
	}
	until := map[flow.Key]int64{} // the next flow's beginning, from the last to the first
	for i := len(s.Flows) - 1; i >= 0; i-- {
		f := &s.Flows[i]
		f.want = sent[0][i]
		k, _ := f.Key.Canonical()
		end, later := until[k]
		until[k] = f.First
		var own []Verdict
		for _, v := range rest[k] {
			if v.first >= f.First && (!later || v.first < end) {
				own = append(own, v.Verdict)
			}
		}
		same := func(a, b Verdict) bool { return a.Labels == b.Labels }
		f.compared = slices.EqualFunc(own, sent[0][i], same) && slices.EqualFunc(own, sent[1][i], same)
		if !f.compared {
			not++
		}
	}
	if not == len(s.Flows) {
		return not, fmt.Errorf("no flow has the same label when its addresses are others: the bundle's contract takes them (blank: [addresses, checksums])")
	}
	return not, nil
}

// memory is a capture of one instance of each flow, the first of which is base.
func (s *Script) memory(base uint32) *capture.Memory {
	m := new(capture.Memory)
	var b []byte
	now := int64(1e18)
	for i := range s.Flows {
		f := &s.Flows[i]
		for k := range f.packets {
			p := &f.packets[k]
			b = p.frame(b, base+uint32(i))
			m.Add(&capture.Frame{Data: b, Length: len(b), Time: now + int64(p.at), Link: capture.LinkEthernet})
		}
		now += int64(f.Length()) + 1e6
	}
	return m
}

// Waiting is the share of the verdicts that come later after their flow's last packet than a time.
func (s *Script) Waiting(than time.Duration) float64 {
	n, all := 0, 0
	for i := range s.Flows {
		for _, v := range s.Flows[i].want {
			if all++; v.Wait > than {
				n++
			}
		}
	}
	return float64(n) / float64(max(all, 1))
}
