// Package evasion changes flows as senders, networks and mirrors do, to see whether verdicts
// follow: what leaves the hosts' view of a connection alone must leave its verdict alone.
//
// It works on real flows: a capture's packets are taken apart, changed, and put together anew
// with right lengths and checksums, where the change isn't just to make those wrong.
package evasion

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
)

// Packet is a TCP or UDP packet, taken apart.
type Packet struct {
	Time           int64
	Dir            int // 0: from the flow's client
	Src, Dst       netip.AddrPort
	Proto          uint8
	TTL            uint8
	ID             uint16
	VLANs          []uint16
	Seq, Ack       uint32
	Flags          uint8
	Window, Urgent uint16
	Options        []byte // of TCP, padded to a multiple of 4
	Payload        []byte
	Extension      []byte              // IPv6 headers between the base header and TCP or UDP; first byte: kind of the first
	Spoil          func([]byte) []byte // changes the finished IP packet
	fragmentOffset int
	fragmentMore   bool
	fragment       []byte // what is behind the IP header, in place of TCP or UDP
}

// Flow is a flow's packets in order of time.
type Flow struct {
	Key     flow.Key // from the client
	First   int64
	Packets []Packet
}

// Flows takes a capture apart, up to perFlow packets of each flow. What the capture cut off is
// left out as if it had not been sent: sequence numbers are moved together. Of opt only what tells flows apart counts: tunnels and scope.
func Flows(src capture.Source, perFlow int, opt flow.Options) ([]Flow, error) {
	decode := capture.Decode
	if opt.Tunnels {
		decode = capture.DecodeInner
	}
	type state struct {
		flow  *Flow
		last  int64
		moved [2]renumber
	}
	index := map[flow.Key]*state{}
	var order []*state
	var f capture.Frame
	var p capture.Packet
	for {
		if err := src.Next(&f); err != nil {
			break
		}
		if decode(&f, &p) != capture.KindOK || p.Fragment || len(p.IP) < int(p.Payload) || !p.Headed() {
			continue
		}
		key := opt.Scope.KeyOf(&p)
		canon, _ := key.Canonical()
		s := index[canon]
		if s == nil || p.Time-s.last > 120e9 {
			if p.Proto == capture.ProtoTCP && p.Flags&(capture.FlagSYN|capture.FlagACK) == capture.FlagSYN|capture.FlagACK {
				key = key.Reverse()
			}
			s = &state{flow: &Flow{Key: key, First: p.Time}}
			index[canon] = s
			order = append(order, s)
		}
		s.last = p.Time
		if len(s.flow.Packets) == perFlow {
			continue
		}
		q := takeApart(&p)
		if opt.Scope.KeyOf(&p) != s.flow.Key {
			q.Dir = 1
		}
		if q.Proto == capture.ProtoTCP {
			size := uint32(max(0, p.Length-int(p.Payload)))
			q.Seq = s.moved[q.Dir].add(q.Seq, size, uint32(len(q.Payload)), q.Flags)
			q.Ack = s.moved[1-q.Dir].of(q.Ack)
		}
		s.flow.Packets = append(s.flow.Packets, q)
	}
	var flows []Flow
	for _, s := range order {
		flows = append(flows, *s.flow)
	}
	return flows, nil
}

func takeApart(p *capture.Packet) Packet {
	k := flow.KeyOf(p)
	q := Packet{Time: p.Time, Src: k.SrcAddr(), Dst: k.DstAddr(), Proto: p.Proto, TTL: p.IP[8], ID: binary.BigEndian.Uint16(p.IP[4:])}
	if p.V6 {
		q.TTL, q.ID = p.IP[7], 0
	}
	h := p.IP[p.L4:]
	size := p.Length - int(p.Payload)
	if p.Proto == capture.ProtoTCP {
		q.Seq, q.Ack = binary.BigEndian.Uint32(h[4:]), binary.BigEndian.Uint32(h[8:])
		q.Flags, q.Window = h[13], binary.BigEndian.Uint16(h[14:])
		q.Options = slices.Clone(h[20 : int(p.Payload)-p.L4])
	} else {
		size = min(size, int(binary.BigEndian.Uint16(h[4:]))-8)
	}
	body := p.IP[p.Payload:]
	q.Payload = slices.Clone(body[:max(0, min(len(body), size))])
	return q
}

// renumber maps the sequence numbers of one side to those without what was cut.
type renumber struct {
	old, new []uint32 // numbers that belong together, in order of appearance
}

func (r *renumber) add(seq, size, kept uint32, flags uint8) uint32 {
	n := seq
	if len(r.old) > 0 {
		n = r.of(seq)
	}
	syn := uint32(0)
	if flags&(capture.FlagSYN|capture.FlagFIN) != 0 {
		syn = 1
	}
	r.old, r.new = append(r.old, seq, seq+size+syn), append(r.new, n, n+kept+syn)
	return n
}

// of is the new number of an old one: the distance to the nearest known one before it is kept.
func (r *renumber) of(seq uint32) uint32 {
	best := -1
	for i, o := range r.old {
		if d := seq - o; int32(d) >= 0 && (best < 0 || int32(o-r.old[best]) >= 0) {
			best = i
		}
	}
	if best < 0 {
		return seq
	}
	return r.new[best] + (seq - r.old[best])
}

// Frame is the packet as an Ethernet frame.
func (p *Packet) Frame() capture.Frame {
	b := make([]byte, 12, 128)
	for _, v := range p.VLANs {
		b = append(b, 0x81, 0, byte(v>>8), byte(v))
	}
	ip := p.ip()
	if p.Src.Addr().Is4() {
		b = append(b, 8, 0)
	} else {
		b = append(b, 0x86, 0xdd)
	}
	b = append(b, ip...)
	return capture.Frame{Data: b, Length: len(b), Time: p.Time, Link: capture.LinkEthernet}
}

func (p *Packet) ip() []byte {
	body := p.fragment
	if body == nil {
		body = p.transport()
	}
	src, dst := p.Src.Addr(), p.Dst.Addr()
	var b []byte
	if src.Is4() {
		b = make([]byte, 20, 20+len(body))
		b[0], b[8], b[9] = 0x45, p.TTL, p.Proto
		binary.BigEndian.PutUint16(b[2:], uint16(20+len(body)))
		binary.BigEndian.PutUint16(b[4:], p.ID)
		frag := uint16(p.fragmentOffset / 8)
		if p.fragmentMore {
			frag |= 0x2000
		}
		binary.BigEndian.PutUint16(b[6:], frag)
		copy(b[12:], src.AsSlice())
		copy(b[16:], dst.AsSlice())
		binary.BigEndian.PutUint16(b[10:], ^sum(b, 0))
	} else {
		next, ext := p.Proto, []byte(nil)
		if len(p.Extension) > 0 {
			next, ext = p.Extension[0], p.Extension[1:]
		}
		if p.fragment != nil {
			ext = binary.BigEndian.AppendUint16([]byte{p.Proto, 0}, uint16(p.fragmentOffset))
			if p.fragmentMore {
				ext[3] |= 1
			}
			ext, next = binary.BigEndian.AppendUint32(ext, uint32(p.ID)+1), 44
		}
		b = make([]byte, 40, 40+len(ext)+len(body))
		b[0], b[6], b[7] = 0x60, next, p.TTL
		binary.BigEndian.PutUint16(b[4:], uint16(len(ext)+len(body)))
		copy(b[8:], src.AsSlice())
		copy(b[24:], dst.AsSlice())
		b = append(b, ext...)
	}
	b = append(b, body...)
	if p.Spoil != nil {
		b = p.Spoil(b)
	}
	return b
}

// transport is the TCP segment or UDP datagram, with its checksum.
func (p *Packet) transport() []byte {
	var b []byte
	field := 6
	if p.Proto == capture.ProtoTCP {
		field = 16
		b = make([]byte, 20, 20+len(p.Options)+len(p.Payload))
		binary.BigEndian.PutUint32(b[4:], p.Seq)
		binary.BigEndian.PutUint32(b[8:], p.Ack)
		b[12], b[13] = byte(20+len(p.Options))<<2, p.Flags
		binary.BigEndian.PutUint16(b[14:], p.Window)
		binary.BigEndian.PutUint16(b[18:], p.Urgent)
		b = append(b, p.Options...)
	} else {
		b = make([]byte, 8, 8+len(p.Payload))
		binary.BigEndian.PutUint16(b[4:], uint16(8+len(p.Payload)))
	}
	binary.BigEndian.PutUint16(b, p.Src.Port())
	binary.BigEndian.PutUint16(b[2:], p.Dst.Port())
	b = append(b, p.Payload...)
	pseudo := slices.Concat(p.Src.Addr().AsSlice(), p.Dst.Addr().AsSlice(), []byte{0, p.Proto}, binary.BigEndian.AppendUint16(nil, uint16(len(b))))
	binary.BigEndian.PutUint16(b[field:], ^sum(b, sum(pseudo, 0)))
	return b
}

// sum is the Internet checksum's sum of b, going on from another.
func sum(b []byte, from uint16) uint16 {
	s := uint32(from)
	for i, x := range b {
		s += uint32(x) << (8 * (1 - i&1))
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// Source yields the packets of flows in order of time.
func Source(packets []Packet) capture.Source {
	var m capture.Memory
	for i := range packets {
		f := packets[i].Frame()
		m.Add(&f)
	}
	return &m
}
