package explain

import (
	"encoding/hex"
	"slices"

	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// Packet is a packet of a flow, or one side's stream, as far as it was kept: what a dump shows.
type Packet struct {
	Number uint64   `json:"number,omitempty"` // in the flow, from 1; 0: a stream
	Side   string   `json:"side"`
	Bytes  HexBytes `json:"bytes"` // from the first layer on
	Fields []Field  `json:"fields"`
}

// HexBytes are bytes that are written as hexadecimal digits.
type HexBytes []byte

// MarshalText implements encoding.TextMarshaler.
func (b HexBytes) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, b), nil }

// Packets are the packets that a flow's tokens are made of, in the stream view the streams, with the names of their bytes. It is called
// within Ready, of a trail with fields.
func (t *Trail) Packets(f *flow.Flow) (list []Packet) {
	kept := t.flows[f.Seq]
	if kept == nil {
		return nil
	}
	if t.stream {
		for side := range sides {
			if b := t.streamBytes(kept, side); len(b) > 0 {
				list = append(list, Packet{Side: sides[side], Bytes: b, Fields: Application(b)})
			}
		}
		return list
	}
	for i := range kept.list {
		k := &kept.list[i]
		p := Packet{Number: k.number, Side: sides[k.side]}
		if t.link > 0 {
			p.Bytes = append(append(p.Bytes, k.keep.MAC[:]...), 0x08, 0)
			if k.keep.IP[0]>>4 == 6 {
				p.Bytes[12], p.Bytes[13] = 0x86, 0xdd
			}
		}
		p.Bytes = append(p.Bytes, k.keep.IP...)
		for _, field := range Fields(t.link, &k.keep) {
			if field.Part != "payload" {
				p.Fields = append(p.Fields, field)
				continue
			}
			from := field.From
			names := Application(p.Bytes[from:field.To])
			if k.had > 0 { // what the receiver had is no longer there
				p.Bytes = slices.Insert(p.Bytes, from, make([]byte, k.had)...)
				p.Fields = append(p.Fields, Field{From: from, To: from + k.had, Name: "payload that had come", Part: "payload"})
				from += k.had
			}
			for _, a := range names {
				a.From, a.To = a.From+from, a.To+from
				p.Fields = append(p.Fields, a)
			}
		}
		list = append(list, p)
	}
	return list
}

// streamBytes are the bytes of a side's stream that enter, up to the first that no packet brought.
func (t *Trail) streamBytes(kept *packets, side int) []byte {
	budget := t.contract.ClientBytes
	if side == traffic.Server {
		budget = t.contract.ServerBytes
	}
	b, have := make([]byte, budget), make([]bool, budget)
	for i := range kept.list {
		p := &kept.list[i]
		if p.side != side {
			continue
		}
		payload := p.keep.IP[min(p.from, len(p.keep.IP)):]
		for k, x := range payload[:min(p.size, len(payload))] {
			if at := p.at + int64(k); at >= 0 && at < int64(budget) && !have[at] {
				b[at], have[at] = x, true
			}
		}
	}
	n := 0
	for n < budget && have[n] {
		n++
	}
	return b[:n]
}

// Name fills in the names of ranges: the fields that they touch, in their order.
func Name(ranges []Range, list []Packet) {
	for i := range ranges {
		r := &ranges[i]
		if r.Fact != "" {
			continue
		}
		for k := range list {
			from, to, ok := r.In(&list[k])
			for _, f := range list[k].Fields {
				if ok && f.From < to && f.To > from {
					r.Fields = append(r.Fields, f.Name)
				}
			}
		}
	}
}

// In tells where a range lies in a packet or stream: [from,to), as far as there are bytes.
func (r *Range) In(p *Packet) (from, to int, ok bool) {
	switch {
	case r.Fact != "" || r.Side != p.Side || (p.Number == 0) != (r.Stream >= 0) || p.Number > 0 && p.Number != r.Packet:
		return 0, 0, false
	case p.Number == 0:
		from = int(r.Stream)
	default:
		from = r.Offset
	}
	return min(from, len(p.Bytes)), min(from+r.Length, len(p.Bytes)), true
}
