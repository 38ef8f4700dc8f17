package flow

import (
	"encoding/binary"

	"nepcoc/runtime/capture"
)

// assembler puts datagrams together from their fragments, which Fragments hands
// to it in order and without duplicates, as Linux does: of fragments that overlap in
// anything but an exact copy the whole datagram is dropped (RFC 5722, and the same for IPv4), and so is
// one of which a fragment is missing. Its memory is of fixed size, made with
// the first fragment; where all of it is in use, the datagram that was begun first goes.
type assembler struct {
	parts [assemblies]assembly
	begun uint64
	spare []byte
}

const (
	assemblies = 64
	maxPacket  = 1<<16 - 1
)

// assembly is a datagram of which the fragments up to end have come.
type assembly struct {
	id    datagramID
	begun uint64 // when it was begun, by number; 0: free
	buf   []byte // IP header and the bytes behind it; fewer than end where the capture cut them
	head  int    // size of the header
	end   int    // bytes behind the header that have come
	cut   bool
	pkt   capture.Packet // the first fragment
}

type datagramID struct {
	src, dst [16]byte
	id       uint32
	tunnel   uint32
	proto    uint8
	v6       bool
}

func idOf(p *capture.Packet) (d datagramID) {
	d.id, d.tunnel, d.proto, d.v6 = p.FragID, p.Tunnel, p.FragProto, p.V6
	copy(d.src[:], p.Src())
	copy(d.dst[:], p.Dst())
	return d
}

// add takes a fragment. It reports KindOK where p has become a whole packet, else
// what the fragment is counted as.
func (a *assembler) add(p *capture.Packet) capture.Kind {
	s := a.find(idOf(p))
	if p.FragOffset == 0 {
		if s == nil {
			s = a.room()
		}
		gone, lost := s.pkt, s.begun != 0
		s.buf, a.spare = a.spare, s.buf
		a.begin(s, p)
		if lost {
			return a.spoilt(&gone, a.spare, p, capture.FaultLost)
		}
		return capture.IgnoredPart
	}
	if s == nil {
		return capture.IgnoredFragment // its datagram was dropped
	}
	payload := p.IP[p.FragAt:]
	size := p.Length - int(p.FragAt)
	switch {
	case int(p.FragOffset) < s.end:
		s.begun = 0
		return a.spoilt(&s.pkt, s.buf, p, capture.FaultOverlap)
	case int(p.FragOffset) > s.end || s.head+s.end+size > maxPacket:
		s.begun = 0
		return a.spoilt(&s.pkt, s.buf, p, capture.FaultLost)
	}
	s.pkt.Faults |= p.Faults
	if s.end += size; !s.cut {
		s.buf = append(s.buf, payload...)
		s.cut = len(payload) < size
	}
	if moreFragments(p) {
		return capture.IgnoredPart
	}
	s.begun = 0
	return s.whole(p)
}

// spoilt makes p a packet of a first fragment's flow that no host takes, so that the flow is marked.
func (a *assembler) spoilt(first *capture.Packet, head []byte, p *capture.Packet, why capture.Faults) capture.Kind {
	time := p.Time
	*p = *first
	p.IP, p.Time, p.Fragment, p.Faults = head, time, false, p.Faults|why
	return capture.KindOK
}

func (a *assembler) find(id datagramID) *assembly {
	for i := range a.parts {
		if s := &a.parts[i]; s.begun != 0 && s.id == id {
			return s
		}
	}
	return nil
}

// room is the place of a new datagram.
func (a *assembler) room() *assembly {
	oldest := &a.parts[0]
	for i := range a.parts {
		if s := &a.parts[i]; s.begun < oldest.begun {
			oldest = s
		}
	}
	return oldest
}

func (a *assembler) begin(s *assembly, p *capture.Packet) {
	a.begun++
	s.id, s.begun, s.pkt = idOf(p), a.begun, *p
	s.buf = s.buf[:0]
	if p.V6 {
		// Headers before the fragment header say how it travels, not what it is.
		s.buf = append(s.buf, p.IP[:40]...)
		s.buf[6] = p.FragProto
	} else {
		s.buf = append(s.buf, p.IP[:p.FragAt]...)
	}
	s.head = len(s.buf)
	s.buf = append(s.buf, p.IP[p.FragAt:]...)
	s.end = p.Length - int(p.FragAt)
	s.cut = len(p.IP) < p.Length
}

// moreFragments tells that a fragment is not the last of its datagram.
func moreFragments(p *capture.Packet) bool {
	if p.V6 {
		return p.IP[p.FragAt-5]&1 != 0
	}
	return p.IP[6]&0x20 != 0
}

// whole makes a packet of a datagram whose last fragment is p.
func (s *assembly) whole(p *capture.Packet) capture.Kind {
	b, faults := s.buf, s.pkt.Faults&capture.Dropped
	link := capture.LinkIPv6
	if p.V6 {
		binary.BigEndian.PutUint16(b[4:], uint16(s.end))
	} else {
		link = capture.LinkIPv4
		binary.BigEndian.PutUint16(b[2:], uint16(s.head+s.end))
		clear(b[6:8])
		clear(b[10:12])
		binary.BigEndian.PutUint16(b[10:], ^capture.HeaderSum(b[:s.head]))
	}
	f := capture.Frame{Data: b, Length: s.head + s.end, Time: p.Time, Link: link, Interface: int(s.pkt.Interface)}
	kind := capture.Decode(&f, p)
	p.Tunnel, p.Level, p.Shims, p.VLAN = s.pkt.Tunnel, s.pkt.Level, s.pkt.Shims, s.pkt.VLAN
	if kind != capture.KindOK {
		return kind
	}
	p.Verify(p.Length, s.pkt.Trust)
	if p.Faults == 0 && p.Trust != capture.TrustWire {
		// In a file: what cut the packet up did not mend the header's checksum.
		faults &^= capture.FaultIPChecksum
	}
	p.Faults |= faults
	return kind
}
