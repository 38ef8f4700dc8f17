package explain

import (
	"fmt"
	"slices"

	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// Trail remembers which packets the tokens of a table's flows are made of, until their verdicts. It is for one goroutine.
type Trail struct {
	enc      *traffic.Encoder
	contract traffic.Contract
	stream   bool
	link     int
	bytes    int // that are kept of each packet
	flows    map[uint64]*packets
	free     []*packets
}

// packets are those of a flow, in the order in which they entered.
type packets struct{ list []packet }

type packet struct {
	number uint64 // in the flow, from 1
	side   int
	// In the packets view: what entered (see traffic.Encoder.Entered), and how many bytes of payload were left out.
	header, payload, had int
	// In the stream view: where payload begins in the packet, where it lies in the stream, its size.
	from, size int
	at         int64
	keep       traffic.Packet // IP is a copy, nil unless bytes are kept
}

// maxPackets bounds what a flow keeps in the stream view, where any number of packets may bring a few bytes each.
const maxPackets = 256

// NewTrail makes a trail for a table with this encoder. With fields, packets are kept as far as they can enter, for Range.Fields and
// Packets; else a few numbers each.
func NewTrail(enc *traffic.Encoder, fields bool) *Trail {
	t := &Trail{enc: enc, contract: enc.Contract(), flows: map[uint64]*packets{}}
	t.stream = t.contract.View == traffic.ViewStream
	if t.contract.FirstLayer == traffic.LayerEthernet {
		t.link = traffic.EthernetBytes
	}
	if fields {
		t.bytes = t.contract.PacketBytes()
	}
	return t
}

// Took is for flow.Options.Took.
func (t *Trail) Took(k flow.Taken) {
	p := &k.Packet
	f := t.flows[k.Seq]
	if f == nil {
		if n := len(t.free); n > 0 {
			f, t.free = t.free[n-1], t.free[:n-1]
		} else {
			f = new(packets)
		}
		t.flows[k.Seq] = f
	}
	e := packet{number: k.Number, side: int(p.Side)}
	if t.stream {
		e.from, e.at, e.size = p.Payload, k.At, p.Size
		if e.size == 0 || e.at+int64(e.size) <= 0 || !t.enc.WantsAt(e.side, max(0, e.at)) || len(f.list) == maxPackets {
			return
		}
	} else {
		e.header, e.payload = t.enc.Entered(p)
		e.had = int(k.At)
	}
	if t.bytes > 0 {
		e.keep = *p
		e.keep.IP = slices.Clone(p.IP[:min(len(p.IP), t.bytes)])
	}
	f.list = append(f.list, e)
}

// Drop forgets a flow. Every flow is dropped when it has its verdict or goes without.
func (t *Trail) Drop(seq uint64) {
	if f := t.flows[seq]; f != nil {
		delete(t.flows, seq)
		if f.list = f.list[:0]; t.bytes == 0 && len(t.free) < 64 {
			t.free = append(t.free, f)
		}
	}
}

// Range is a run of bytes of a flow that a verdict stands on, or a fact of the flow that its tokens hold.
type Range struct {
	// Packet is the number of the packet in the flow, from 1, in both directions; 0 where it is not known. Offset is that of the
	// first byte in it, counted from the IP header on, or from the Ethernet header, where the contract begins there.
	Packet uint64 `json:"packet,omitempty"`
	Side   string `json:"side"` // client, server
	Offset int    `json:"offset"`
	Length int    `json:"length"`
	// Stream is, in the stream view, the offset of the first byte in the side's stream; then a range may span packets. -1 in the packets view.
	Stream int64 `json:"stream"`
	// Fact names what is no byte: transport, client, server, length; gap[3] is a number beside the tokens, of the third packet that enters.
	Fact string `json:"fact,omitempty"`
	// Share of the evidence: that of all ranges of the flow, also of those too small to be named, is 1.
	Share float64 `json:"share"`
	// Fields are the names of the bytes, where packets were kept.
	Fields []string `json:"fields,omitempty"`

	from, to int // tokens
}

var sides = [...]string{traffic.Client: "client", traffic.Server: "server"}

// Ranges says which bytes of a flow tokens stand for that a verdict stands on.
//
// weights has a number for each valid token, 0 or more. Tokens of at least threshold of the largest are named, those that lie side by
// side in one range; the ranges with the largest shares come first. It is called within Ready.
func (t *Trail) Ranges(f *flow.Flow, weights []float64, threshold float64) []Range {
	return t.AppendRanges(nil, f, weights, threshold)
}

// AppendRanges is Ranges in memory that was used before; list is empty.
func (t *Trail) AppendRanges(list []Range, f *flow.Flow, weights []float64, threshold float64) []Range {
	top, sum := 0.0, 0.0
	for _, w := range weights {
		top = max(top, w)
		sum += w
	}
	if top == 0 {
		return list
	}
	for i, w := range weights {
		if w == 0 || w < threshold*top {
			continue
		}
		r, ok := t.place(f, i)
		if !ok {
			continue
		}
		r.Share, r.from, r.to = w/sum, i, i+1
		if n := len(list); n > 0 && list[n-1].meets(&r) {
			last := &list[n-1]
			last.Length += r.Length
			last.Share += r.Share
			last.to = r.to
			continue
		}
		list = append(list, r)
	}
	slices.SortStableFunc(list, func(a, b Range) int {
		switch {
		case a.Share > b.Share:
			return -1
		case a.Share < b.Share:
			return 1
		}
		return 0
	})
	return list
}

// meets tells whether next begins where r ends.
func (r *Range) meets(next *Range) bool {
	switch {
	case r.to != next.from || r.Fact != "" || next.Fact != "" || r.Side != next.Side:
		return false
	case r.Stream >= 0:
		return r.Stream+int64(r.Length) == next.Stream
	}
	return r.Packet == next.Packet && r.Offset+r.Length == next.Offset
}

// place is where id i of a flow comes from: a token or, behind those, a number of a packet that stands beside them.
func (t *Trail) place(f *flow.Flow, i int) (r Range, ok bool) {
	r.Stream = -1
	if beside := i - t.contract.Length; beside >= 0 {
		r.Fact = fmt.Sprintf("%s[%d]", t.contract.Numbers[beside/t.contract.Packets], beside%t.contract.Packets+1)
		return r, true
	}
	o, isBytes := f.Origin(i)
	if !isBytes {
		r.Fact = t.contract.Fact(f.Tokens[i])
		return r, r.Fact != ""
	}
	r.Length = o.Bytes
	kept := t.flows[f.Seq]
	if t.stream {
		r.Side, r.Stream = sides[o.Side], int64(o.Offset)
		if kept != nil {
			for k := range kept.list {
				if p := &kept.list[k]; p.side == o.Side && p.at <= r.Stream && r.Stream < p.at+int64(p.size) {
					r.Packet, r.Offset = p.number, t.link+p.from+int(r.Stream-p.at)
					break
				}
			}
		}
		return r, true
	}
	if kept == nil || o.Packet >= len(kept.list) {
		return r, false
	}
	p := &kept.list[o.Packet]
	r.Packet, r.Side, r.Offset = p.number, sides[p.side], o.Offset
	if o.Offset >= p.header {
		r.Offset = p.payload + p.had + o.Offset - p.header
	}
	return r, true
}
