package evasion

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"nepcoc/runtime/capture"
)

// Transform is one change to a flow.
type Transform struct {
	Name, What string
	// Segmentation tells that the packets themselves become others, as the sender may always have it:
	// a view of packets can't see through it.
	Segmentation bool
	// Depends tells that the hosts' view may change, by what can't be seen from where we stand: whether a
	// packet of small hop limit arrives, what was lost on the way here, which of two SYNs came first, what a file's checksums were
	// before a card filled them in, whether an application reads urgent bytes. Verdicts of such flows are to be marked.
	Depends bool
	// File tells that only in a file the change may be none: on a wire, checksums have no other form than the right one.
	File bool
	// TCP: for TCP only; IPv4, IPv6 likewise.
	TCP, UDP, IPv4, IPv6 bool
	// Apply changes a flow; other is one of another class. It may return p itself.
	Apply func(r *rand.Rand, p []Packet, other []Packet) []Packet
}

// Applies tells whether a flow can be changed so.
func (t *Transform) Applies(f *Flow) bool {
	p := &f.Packets[0]
	v4 := p.Src.Addr().Is4()
	if t.Depends && p.TTL <= 6 {
		return false // its own packets come no farther
	}
	return !(t.TCP && p.Proto != capture.ProtoTCP || t.UDP && p.Proto != capture.ProtoUDP || t.IPv4 && !v4 || t.IPv6 && v4)
}

// Transforms are all of them.
var Transforms = []Transform{
	{Name: "none", What: "packets put together anew, unchanged", Apply: func(_ *rand.Rand, p, _ []Packet) []Packet { return p }},

	// Ahead of the flow.
	{Name: "bad-checksum-first", What: "five packets of another class's flow ahead, with a wrong TCP or UDP checksum", Apply: ahead(func(p *Packet) { p.Spoil = flipChecksum })},
	{Name: "bad-ip-checksum-first", What: "the same with a wrong IP header checksum", IPv4: true, Apply: ahead(func(p *Packet) { p.Spoil = flipIPChecksum })},
	{Name: "no-length-first", What: "the same with an IP total length of 0", IPv4: true, Apply: ahead(func(p *Packet) { p.Spoil = noLength })},
	{Name: "bad-offset-first", What: "the same with a TCP data offset below its header's size", TCP: true, Apply: ahead(func(p *Packet) { p.Spoil = badOffset })},
	{Name: "bad-udp-length-first", What: "the same with a UDP length below its header's size", UDP: true, Apply: ahead(func(p *Packet) { p.Spoil = badUDPLength })},
	{Name: "no-ack-first", What: "the same without the flag ACK, which no host takes", TCP: true, Apply: ahead(func(p *Packet) { p.Flags = 0 })},
	{Name: "syn-rst-first", What: "the same with the flags SYN and RST", TCP: true, Apply: ahead(func(p *Packet) { p.Flags = capture.FlagSYN | capture.FlagRST })},
	{Name: "ttl-1-first", What: "the same with a hop limit of 1 and no connection", TCP: true, Apply: ahead(func(p *Packet) { p.TTL, p.Flags = 1, capture.FlagACK })},
	{Name: "ttl-1-udp-first", What: "the same in UDP: whether it arrives depends on where the sensor stands", UDP: true, Depends: true, Apply: ahead(func(p *Packet) { p.TTL = 1 })},
	{Name: "bare-acks-first", What: "five bare ACKs ahead", TCP: true, Apply: ahead(func(p *Packet) { p.Flags, p.Payload, p.Seq = capture.FlagACK, nil, 77 })},
	{Name: "other-syn-first", What: "a SYN with another sequence number ahead, unanswered", TCP: true, Apply: withSYN(func(_ *rand.Rand, p []Packet) []Packet {
		s := before(p, p[0], 1)
		s[0].Seq += 777777
		return append(s, p...)
	})},
	{Name: "refused-first", What: "a connection to the same ports, refused, a second ahead", TCP: true, Apply: withSYN(func(_ *rand.Rand, p []Packet) []Packet {
		s := before(p, p[0], 1)
		s[0].Seq += 777777
		s[0].Time -= 1e9
		rst := answer(&s[0], nil)
		rst.Flags, rst.Ack, rst.Seq = capture.FlagRST|capture.FlagACK, s[0].Seq+1, 0
		return append([]Packet{s[0], rst}, p...)
	})},
	{Name: "forgotten-first", What: "between SYN and its repetition, the server goes on with a connection of the same ports that the client has forgotten, and resets", TCP: true, Apply: withSYN(func(_ *rand.Rand, p []Packet) []Packet {
		s := before(p, p[0], 1)
		s[0].Time -= 1e9
		old := answer(&s[0], []byte("250 the rest of another conversation\r\n"))
		old.Flags, old.Seq, old.Ack = capture.FlagACK|8, 7000, s[0].Seq+50000
		rst := answer(&old, nil)
		rst.Flags, rst.Seq, rst.Ack = capture.FlagRST, old.Ack, 0
		return append([]Packet{s[0], old, rst}, p...)
	})},
	{Name: "port-reuse", What: "the same 5-tuple carried another class's connection, closed three seconds before", TCP: true, Apply: portReuse},

	// Within it.
	{Name: "syn-five-times", What: "the SYN sent five times", TCP: true, Apply: withSYN(func(_ *rand.Rand, p []Packet) []Packet { return slices.Concat(before(p, p[0], 4), p) })},
	{Name: "synack-twice", What: "its answer sent twice", TCP: true, Apply: each(func(p *Packet) []Packet {
		if p.Flags&(capture.FlagSYN|capture.FlagACK) == capture.FlagSYN|capture.FlagACK {
			return []Packet{*p, *p}
		}
		return []Packet{*p}
	})},
	{Name: "mirror-twice", What: "every packet seen twice", Apply: copies(func(*Packet) {})},
	{Name: "mirror-ttl", What: "every packet seen twice, before and behind a router", Apply: copies(func(p *Packet) { p.TTL-- })},
	{Name: "mirror-vlan", What: "every packet seen twice, with and without a VLAN tag", Apply: copies(func(p *Packet) { p.VLANs = []uint16{7} })},
	{Name: "retransmissions", What: "every segment with payload sent again after 200 ms", TCP: true, Apply: again(func(p *Packet) {})},
	{Name: "overlapping-retransmissions", What: "every segment sent again without its first byte", TCP: true, Apply: again(func(p *Packet) { p.Seq, p.Payload = p.Seq+1, p.Payload[1:] })},
	{Name: "keep-alives", What: "a keep-alive behind every segment", TCP: true, Apply: again(func(p *Packet) {
		p.Seq, p.Payload = p.Seq+uint32(len(p.Payload))-1, nil
	})},
	{Name: "keep-alives-with-a-byte", What: "the same with the last byte once more", TCP: true, Apply: again(func(p *Packet) {
		n := len(p.Payload) - 1
		p.Seq, p.Payload = p.Seq+uint32(n), p.Payload[n:]
	})},
	{Name: "repeated-acks", What: "every bare ACK three times", TCP: true, Apply: each(func(p *Packet) []Packet {
		if p.Flags == capture.FlagACK && len(p.Payload) == 0 {
			return []Packet{*p, *p, *p}
		}
		return []Packet{*p}
	})},
	{Name: "bad-checksum-within", What: "before every segment one with other bytes and a wrong checksum", Apply: shadow(func(p *Packet) { p.Spoil = flipChecksum })},
	{Name: "outside-window", What: "before every segment one with other bytes, beyond the window", TCP: true, Apply: shadow(func(p *Packet) { p.Seq += 1 << 30 })},
	{Name: "old-sequence", What: "before every segment one with other bytes at numbers long acknowledged", TCP: true, Apply: shadow(func(p *Packet) { p.Seq -= 1 << 20 })},
	{Name: "rst-outside", What: "an RST beyond the window before every segment", TCP: true, Apply: shadow(func(p *Packet) { p.Seq, p.Flags, p.Payload = p.Seq+5000, capture.FlagRST, nil })},
	{Name: "rst-bad-checksum", What: "an RST with a wrong checksum before every segment", TCP: true, Apply: shadow(func(p *Packet) { p.Flags, p.Payload, p.Spoil = capture.FlagRST, nil, flipChecksum })},
	{Name: "fin-bad-checksum", What: "the same with FIN", TCP: true, Apply: shadow(func(p *Packet) { p.Flags, p.Payload, p.Spoil = capture.FlagFIN|capture.FlagACK, nil, flipChecksum })},
	{Name: "syn-within", What: "a SYN with another number before every segment: its receiver knows better", TCP: true, Apply: shadow(func(p *Packet) { p.Flags, p.Payload, p.Seq = capture.FlagSYN, nil, p.Seq+999999 })},
	{Name: "ttl-1-within", What: "before every segment one with other bytes and a hop limit of 1", TCP: true, Depends: true, Apply: shadow(func(p *Packet) { p.TTL = 1 })},
	{Name: "options-padded", What: "TCP options filled up with NOPs", TCP: true, Apply: each(func(p *Packet) []Packet {
		q := *p
		q.Options = slices.Clone(p.Options)
		for len(q.Options) < 40 {
			q.Options = append(q.Options, 1)
		}
		return []Packet{q}
	})},

	// Cut otherwise.
	{Name: "one-byte-writes", What: "the first 16 bytes of each side in segments of one byte", TCP: true, Segmentation: true, Apply: split(func(done, n int) int {
		if done < 16 {
			return 1
		}
		return n
	})},
	{Name: "segments-of-8", What: "segments of 8 bytes", TCP: true, Segmentation: true, Apply: split(func(_, n int) int { return min(n, 8) })},
	{Name: "segments-halved", What: "every segment in two", TCP: true, Segmentation: true, Apply: split(func(_, n int) int { return (n + 1) / 2 })},
	{Name: "segments-reordered", What: "segments of 24 bytes, each two swapped", TCP: true, Segmentation: true, Apply: func(r *rand.Rand, p, o []Packet) []Packet {
		return swap(split(func(_, n int) int { return min(n, 24) })(r, p, o))
	}},
	{Name: "offload-merged", What: "segments of one side merged, as receive offload does", TCP: true, Segmentation: true, Apply: merge},

	// On the way.
	{Name: "fragments", What: "IP fragments of 16 bytes", Segmentation: false, Apply: fragments(16, func(f []Packet) []Packet { return f })},
	{Name: "fragments-reversed", What: "the same, the last first", Apply: fragments(16, func(f []Packet) []Packet { slices.Reverse(f); return f })},
	{Name: "fragments-twice", What: "the same, each twice", Apply: fragments(16, func(f []Packet) []Packet {
		var out []Packet
		for _, p := range f {
			out = append(out, p, p)
		}
		return out
	})},
	{Name: "vlan", What: "a VLAN tag on every packet of one side", Apply: each(func(p *Packet) []Packet {
		q := *p
		if q.Dir == 0 {
			q.VLANs = []uint16{100}
		}
		return []Packet{q}
	})},
	{Name: "qinq", What: "two VLAN tags on every packet", Apply: each(func(p *Packet) []Packet { q := *p; q.VLANs = []uint16{100, 200}; return []Packet{q} })},
	{Name: "ipv6-options", What: "destination options before the transport header", IPv6: true, Apply: each(func(p *Packet) []Packet {
		q := *p
		q.Extension = []byte{60, q.Proto, 0, 1, 4, 0, 0, 0, 0}
		return []Packet{q}
	})},
	{Name: "ip-ids", What: "other IP identifications", IPv4: true, Apply: func(r *rand.Rand, p, _ []Packet) []Packet {
		mask := uint16(r.Uint32()) // what was equal stays equal: a copy of a packet has its number
		return each(func(p *Packet) []Packet { q := *p; q.ID ^= mask; return []Packet{q} })(r, p, nil)
	}},
	{Name: "windows", What: "windows a little smaller", TCP: true, Apply: each(func(p *Packet) []Packet { q := *p; q.Window -= q.Window / 16; return []Packet{q} })},
}

// ahead puts five packets of another flow's bytes, changed, before the first.
func ahead(change func(*Packet)) func(*rand.Rand, []Packet, []Packet) []Packet {
	return func(r *rand.Rand, p, other []Packet) []Packet {
		head := before(p, p[0], 5)
		for i := range head {
			h := &head[i]
			if p[0].Dir == 1 {
				h.Src, h.Dst, h.Dir = h.Dst, h.Src, 0
			}
			h.Seq, h.Ack, h.Flags, h.Options = 1000+uint32(100*i), 1, capture.FlagACK|8, nil
			h.Payload = foreign(other, i)
			change(h)
		}
		return append(head, p...)
	}
}

// foreign are bytes of another class's flow.
func foreign(other []Packet, i int) []byte {
	var with [][]byte
	for _, p := range other {
		if len(p.Payload) > 0 {
			with = append(with, p.Payload)
		}
	}
	if len(with) == 0 {
		return []byte("GET / HTTP/1.1\r\n\r\n")
	}
	return with[i%len(with)]
}

// before makes n copies of a packet that come a millisecond apart before the first.
func before(p []Packet, q Packet, n int) []Packet {
	var out []Packet
	for i := range n {
		c := q
		c.Time = p[0].Time - int64(n-i)*1e6
		out = append(out, c)
	}
	return out
}

// answer is an empty packet in the other direction.
func answer(p *Packet, payload []byte) Packet {
	q := *p
	q.Src, q.Dst, q.Dir, q.Payload, q.Options = p.Dst, p.Src, 1-p.Dir, payload, nil
	q.Time += 1e5
	return q
}

// withSYN applies to flows whose SYN was captured.
func withSYN(f func(*rand.Rand, []Packet) []Packet) func(*rand.Rand, []Packet, []Packet) []Packet {
	return func(r *rand.Rand, p, _ []Packet) []Packet {
		if p[0].Flags&(capture.FlagSYN|capture.FlagACK) != capture.FlagSYN {
			return p
		}
		return f(r, p)
	}
}

// each replaces every packet.
func each(f func(*Packet) []Packet) func(*rand.Rand, []Packet, []Packet) []Packet {
	return func(_ *rand.Rand, p, _ []Packet) (out []Packet) {
		for i := range p {
			out = append(out, f(&p[i])...)
		}
		return out
	}
}

// copies adds a changed copy behind every packet, some microseconds later.
func copies(change func(*Packet)) func(*rand.Rand, []Packet, []Packet) []Packet {
	return each(func(p *Packet) []Packet {
		q := *p
		q.Time += 20e3
		change(&q)
		return []Packet{*p, q}
	})
}

// again adds a changed copy of segments with payload, sent again before the next packet.
func again(change func(*Packet)) func(*rand.Rand, []Packet, []Packet) []Packet {
	return each(func(p *Packet) []Packet {
		if len(p.Payload) < 2 || p.Flags&capture.FlagSYN != 0 {
			return []Packet{*p}
		}
		q := *p
		q.Flags &^= capture.FlagFIN
		q.Time += 1e3
		change(&q)
		return []Packet{*p, q}
	})
}

// shadow puts a packet with other bytes before every segment with payload.
func shadow(change func(*Packet)) func(*rand.Rand, []Packet, []Packet) []Packet {
	return func(r *rand.Rand, p, other []Packet) []Packet {
		n := 0
		return each(func(p *Packet) []Packet {
			if len(p.Payload) == 0 || p.Flags&capture.FlagSYN != 0 {
				return []Packet{*p}
			}
			q := *p
			q.Flags &^= capture.FlagFIN
			q.Time -= 1e3
			b := foreign(other, n)
			n++
			q.Payload = filled(b, len(p.Payload))
			change(&q)
			return []Packet{q, *p}
		})(r, p, other)
	}
}

// split cuts payload into pieces: size tells the next one's, of n bytes left when done were sent by that side.
func split(size func(done, n int) int) func(*rand.Rand, []Packet, []Packet) []Packet {
	return func(r *rand.Rand, p, _ []Packet) []Packet {
		var done [2]int
		return each(func(p *Packet) (out []Packet) {
			if len(p.Payload) == 0 || p.Flags&capture.FlagSYN != 0 {
				return []Packet{*p}
			}
			rest, at := p.Payload, 0
			for len(rest) > 0 {
				n := size(done[p.Dir], len(rest))
				q := *p
				q.Seq, q.Payload, q.Time = p.Seq+uint32(at), rest[:n], p.Time+int64(at)*10
				if n < len(rest) {
					q.Flags &^= capture.FlagFIN | 8
				}
				rest, at, done[p.Dir] = rest[n:], at+n, done[p.Dir]+n
				out = append(out, q)
			}
			return out
		})(r, p, nil)
	}
}

// swap exchanges neighbours with payload of one side.
func swap(p []Packet) []Packet {
	for i := 1; i < len(p); i++ {
		a, b := &p[i-1], &p[i]
		if a.Dir == b.Dir && len(a.Payload) > 0 && len(b.Payload) > 0 && b.Flags&capture.FlagFIN == 0 {
			*a, *b = *b, *a
			a.Time, b.Time = b.Time, a.Time
			i++
		}
	}
	return p
}

// merge joins neighbouring segments of one side.
func merge(_ *rand.Rand, p, _ []Packet) (out []Packet) {
	for i := range p {
		if n := len(out); n > 0 {
			a, b := &out[n-1], &p[i]
			if a.Dir == b.Dir && len(a.Payload) > 0 && len(b.Payload) > 0 && a.Flags&(capture.FlagSYN|capture.FlagFIN) == 0 && b.Seq == a.Seq+uint32(len(a.Payload)) {
				a.Payload = slices.Concat(a.Payload, b.Payload)
				a.Flags |= b.Flags
				a.Ack = b.Ack
				continue
			}
		}
		out = append(out, p[i])
	}
	return out
}

// fragments cuts packets into IP fragments with size bytes each behind the IP header, in
// the order that arrange gives them.
func fragments(size int, arrange func([]Packet) []Packet, late ...int64) func(*rand.Rand, []Packet, []Packet) []Packet {
	return func(r *rand.Rand, p, _ []Packet) []Packet {
		// Packets that had equal numbers, being copies, have equal ones again; over IPv6 each has its own.
		mask, ids, bodies := uint16(r.Uint32()), map[uint16]uint16{}, map[string]bool{}
		next := mask
		return each(func(p *Packet) []Packet {
			body := p.transport()
			if len(body) <= size {
				return []Packet{*p}
			}
			id, known := ids[p.ID]
			if !known || !bodies[string(body)] || p.Src.Addr().Is6() {
				next++
				id = next
			}
			ids[p.ID], bodies[string(body)] = id, true
			var out []Packet
			for at := 0; at < len(body); at += size {
				q := *p
				end := min(at+size, len(body))
				q.ID, q.fragment, q.fragmentOffset, q.fragmentMore = id, body[at:end], at, end < len(body)
				out = append(out, q)
			}
			out = arrange(out)
			for i := range out {
				out[i].Time = p.Time + int64(i)*100
			}
			for _, l := range late {
				out[len(out)-1].Time += l
			}
			return out
		})(r, p, nil)
	}
}

func portReuse(r *rand.Rand, p, other []Packet) []Packet {
	if p[0].Flags&(capture.FlagSYN|capture.FlagACK) != capture.FlagSYN {
		return p
	}
	syn := p[0]
	syn.Time, syn.Seq = p[0].Time-3e9, p[0].Seq-1<<20
	synack := answer(&syn, nil)
	synack.Flags, synack.Seq, synack.Ack = capture.FlagSYN|capture.FlagACK, 500, syn.Seq+1
	data := syn
	data.Flags, data.Seq, data.Ack, data.Payload, data.Options = capture.FlagACK|8, syn.Seq+1, 501, foreign(other, 0), nil
	data.Time += 2e5
	fin := data
	fin.Flags, fin.Seq, fin.Payload = capture.FlagFIN|capture.FlagACK, data.Seq+uint32(len(data.Payload)), nil
	fin.Time += 1e5
	fin2 := answer(&fin, nil)
	fin2.Seq, fin2.Ack = 501, fin.Seq+1
	last := fin
	last.Flags, last.Seq, last.Ack = capture.FlagACK, fin.Seq+1, 502
	last.Time += 2e5
	return append([]Packet{syn, synack, data, fin, fin2, last}, p...)
}

// What makes a finished packet one that no host takes.

func headerOf(b []byte) int {
	if b[0]>>4 == 4 {
		return 20
	}
	return 40
}

func flipChecksum(b []byte) []byte {
	at := headerOf(b) + 16
	if b[6] == capture.ProtoUDP && b[0]>>4 == 6 || b[9] == capture.ProtoUDP && b[0]>>4 == 4 {
		at = headerOf(b) + 6
	}
	b[at] ^= 0x5a
	b[at+1] ^= 0xa5
	return b
}

func flipIPChecksum(b []byte) []byte { b[10] ^= 0x5a; b[11] ^= 0xa5; return b }

func noLength(b []byte) []byte {
	b[2], b[3] = 0, 0
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^sum(b[:20], 0))
	return b
}

func badOffset(b []byte) []byte { b[headerOf(b)+12] = 4 << 4; return b }

func badUDPLength(b []byte) []byte { b[headerOf(b)+4], b[headerOf(b)+5] = 0, 3; return b }
