package evasion

import (
	"math/rand/v2"

	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// Seen is what a sensor makes of one flow.
type Seen struct {
	Tokens []int32
	Valid  int
	Marks  flow.Marks
	// Payload is how many bytes of payload the tokens hold.
	Payload int
	// Flows is how many flows it sees with the flow's 5-tuple. This is the first that goes on once
	// the flow itself has begun; where none does, the last.
	Flows int
}

// See is SeeAs by a contract alone.
func See(c traffic.Contract, packets []Packet, first int64) (s Seen, err error) {
	enc, err := traffic.NewEncoder(c)
	if err != nil {
		return s, err
	}
	return SeeAs(flow.Options{Encoder: enc}, packets, first)
}

// SeeAs runs a flow's packets, however changed, through a table of its own; first is when the flow
// itself begins. Of opt the encoder and the active timeout count: packets that were put together anew are in no tunnel and no VLAN.
func SeeAs(opt flow.Options, packets []Packet, first int64) (s Seen, err error) {
	best, own := ^uint64(0), false
	in, err := flow.NewInput(flow.Options{Encoder: opt.Encoder, Active: opt.Active, Capacity: 16, Ready: func(f *flow.Flow) {
		s.Flows++
		switch late := f.Last >= first; {
		case late && (!own || f.Seq < best), !late && !own:
			own, best = late, f.Seq
			s.Tokens, s.Valid, s.Marks, s.Payload = append(s.Tokens[:0], f.Tokens...), f.Valid, f.Marks, f.Payload
		}
	}})
	if err != nil {
		return s, err
	}
	return s, in.Run(Source(packets))
}

// Run changes a flow; the same seed changes it the same way.
func (t *Transform) Run(f *Flow, other *Flow, seed uint64) []Packet {
	packets := make([]Packet, len(f.Packets))
	copy(packets, f.Packets)
	return t.Apply(rand.New(rand.NewPCG(seed, 1)), packets, other.Packets)
}

// Other is a flow of the same transport whose class is another one's, for what a
// transform mixes in: classes has the class of each flow.
func Other(flows []Flow, classes []int, i int) *Flow {
	for k := 1; k <= len(flows); k++ {
		o := &flows[(i+k*37)%len(flows)]
		if classes[(i+k*37)%len(flows)] != classes[i] && o.Packets[0].Proto == flows[i].Packets[0].Proto && o.payload() > 20 {
			return o
		}
	}
	return &flows[i]
}

// Whole tells that the flow's beginning was captured: without its SYN, nobody can tell what a TCP
// connection's hosts take.
func (f *Flow) Whole() bool {
	p := &f.Packets[0]
	return p.Proto != capture.ProtoTCP || p.Flags&(capture.FlagSYN|capture.FlagACK) == capture.FlagSYN
}

func (f *Flow) payload() (n int) {
	for i := range f.Packets {
		n += len(f.Packets[i].Payload)
	}
	return n
}

// Load takes a capture file apart: see Flows.
func Load(path string, perFlow int, opt flow.Options) ([]Flow, error) {
	src, err := capture.Open(path)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	return Flows(src, perFlow, opt)
}
