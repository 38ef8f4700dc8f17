package capture

import (
	"encoding/binary"
	"fmt"
)

// LinkType is a capture's link-layer type, as registered for pcap files.
type LinkType uint16

// The link types that Decode reads. 12 and 14 are what raw IP captures carry
// when they were written with a system's own number instead of the registered
// one.
const (
	LinkNull     LinkType = 0
	LinkEthernet LinkType = 1
	LinkRawBSD   LinkType = 12
	LinkRawOBSD  LinkType = 14
	LinkRaw      LinkType = 101
	LinkLoop     LinkType = 108
	LinkSLL      LinkType = 113
	LinkIPv4     LinkType = 228
	LinkIPv6     LinkType = 229
	LinkSLL2     LinkType = 276
)

var linkNames = map[LinkType]string{
	LinkNull: "BSD loopback", LinkEthernet: "Ethernet", LinkRawBSD: "raw IP", LinkRawOBSD: "raw IP", LinkRaw: "raw IP",
	LinkLoop: "OpenBSD loopback", LinkSLL: "Linux cooked v1", LinkIPv4: "raw IPv4", LinkIPv6: "raw IPv6", LinkSLL2: "Linux cooked v2",
}

func (l LinkType) String() string {
	if n := linkNames[l]; n != "" {
		return n
	}
	return fmt.Sprintf("link type %d", uint16(l))
}

// Supported reports whether Decode reads frames of this type.
func (l LinkType) Supported() bool { return linkNames[l] != "" }

// Bounds on what a frame can make Decode do. Real stacks are shallower; a
// deeper one is an attack or garbage.
const (
	maxTags       = 8
	maxExtensions = 8
)

// Transport protocols of flows.
const (
	ProtoTCP = 6
	ProtoUDP = 17
)

// TCP flags of Packet.Flags.
const (
	FlagFIN = 1 << 0
	FlagSYN = 1 << 1
	FlagRST = 1 << 2
	FlagACK = 1 << 4
)

// Packet is the decoded view of a frame. It points into the frame's bytes.
type Packet struct {
	// IP are the bytes from the IP header on, cut to the IP total length (so
	// that link-layer padding never enters) and to what was captured.
	IP []byte
	// Length is the IP total length, also where the capture cut the packet.
	Length int
	Time   int64 // nanoseconds since 1970
	Astray bool  // no timer goes by Time; see Frame

	// L4 is where the TCP or UDP header begins in IP; 0 for a later fragment,
	// which has none: then the ports are not known from this packet.
	L4               int
	SrcPort, DstPort uint16

	V6    bool
	Proto uint8 // ProtoTCP or ProtoUDP
	Flags uint8 // TCP flags

	// Fragment tells whether the packet is one; FragID joins fragments of one
	// packet, together with the addresses and FragProto.
	Fragment  bool
	FragProto uint8
	FragID    uint32
	// FragOffset is the fragment's place in its packet, and FragAt where in IP
	// the bytes begin that lie there.
	FragOffset, FragAt uint16

	// Payload is where in IP the bytes behind the TCP or UDP header begin, L4
	// where that can't be told; Faults is what Verify found, with
	// what trust in the packet's checksums.
	Payload uint16
	Faults  Faults
	Trust   Trust
}

// Src and Dst are the addresses, 4 or 16 bytes, in place.
func (p *Packet) Src() []byte {
	if p.V6 {
		return p.IP[8:24]
	}
	return p.IP[12:16]
}

// Dst is the destination address.
func (p *Packet) Dst() []byte {
	if p.V6 {
		return p.IP[24:40]
	}
	return p.IP[16:20]
}

// Later reports whether the packet is a fragment other than the first.
func (p *Packet) Later() bool { return p.Fragment && p.L4 == 0 }

const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherIPv6 = 0x86dd
)

// isTag tells VLAN tags: 802.1Q, 802.1ad, and what predates it.
func isTag(ethertype uint16) bool {
	switch ethertype {
	case 0x8100, 0x88a8, 0x9100, 0x9200, 0x9300:
		return true
	}
	return false
}

// Decode reads a frame. p is valid only where the result is KindOK, and then
// holds a TCP or UDP packet or a later fragment of one. Tunnels are left closed;
// see DecodeInner.
func Decode(f *Frame, p *Packet) Kind {
	p.Time, p.Astray, p.Faults = f.Time, f.Astray, 0
	return decodeLink(f.Link, f.Data, p)
}

func decodeLink(link LinkType, b []byte, p *Packet) Kind {
	var ethertype uint16
	switch link {
	case LinkEthernet:
		if len(b) < 14 {
			return MalformedLink
		}
		ethertype, b = binary.BigEndian.Uint16(b[12:]), b[14:]
	case LinkSLL:
		if len(b) < 16 {
			return MalformedLink
		}
		ethertype, b = binary.BigEndian.Uint16(b[14:]), b[16:]
	case LinkSLL2:
		if len(b) < 20 {
			return MalformedLink
		}
		ethertype, b = binary.BigEndian.Uint16(b), b[20:]
	case LinkNull, LinkLoop:
		// An address family in the byte order of the machine that captured,
		// different for IPv6 on every system: the IP version says it better.
		if len(b) < 4 {
			return MalformedLink
		}
		b = b[4:]
	case LinkRaw, LinkRawBSD, LinkRawOBSD, LinkIPv4, LinkIPv6:
	default:
		return IgnoredLinkType
	}
	for tags := 0; isTag(ethertype); tags++ {
		if tags == maxTags {
			return MalformedTags
		}
		if len(b) < 4 {
			return MalformedLink
		}
		ethertype, b = binary.BigEndian.Uint16(b[2:]), b[4:]
	}
	switch ethertype {
	case etherIPv4:
		if len(b) > 0 && b[0]>>4 != 4 {
			return MalformedIPVersion
		}
		return decodeIPv4(b, p)
	case etherIPv6:
		if len(b) > 0 && b[0]>>4 != 6 {
			return MalformedIPVersion
		}
		return decodeIPv6(b, p)
	case etherARP:
		return IgnoredARP
	case 0: // no ethertype: the version decides
		if link == LinkEthernet || link == LinkSLL || link == LinkSLL2 {
			return IgnoredNotIP
		}
		if len(b) == 0 {
			return MalformedLink
		}
		switch v := b[0] >> 4; {
		case v == 4 && link != LinkIPv6:
			return decodeIPv4(b, p)
		case v == 6 && link != LinkIPv4:
			return decodeIPv6(b, p)
		}
		return MalformedIPVersion
	}
	return IgnoredNotIP
}

func decodeIPv4(b []byte, p *Packet) Kind {
	if len(b) < 20 {
		return MalformedIPv4Header
	}
	ihl := int(b[0]&15) * 4
	total := int(binary.BigEndian.Uint16(b[2:]))
	if total == 0 {
		// A packet handed to the network card for segmentation, captured
		// before it was cut: the field has no room for its length.
		total = len(b)
	}
	if ihl < 20 || ihl > len(b) {
		return MalformedIPv4Header
	}
	if total < ihl {
		return MalformedIPv4Length
	}
	p.Length = total
	p.IP = b[:min(total, len(b))]
	p.V6 = false
	frag := binary.BigEndian.Uint16(b[6:])
	proto := b[9]
	p.Fragment = frag&0x3fff != 0 // more fragments, or an offset
	if p.Fragment {
		p.FragID = uint32(binary.BigEndian.Uint16(b[4:]))
		p.FragProto = proto
		p.FragOffset, p.FragAt = frag<<3, uint16(ihl)
		if frag&0x1fff != 0 {
			return later(p, proto)
		}
	}
	return decodeTransport(p, proto, ihl)
}

// IPv6 extension headers.
const (
	extHopByHop    = 0
	extRouting     = 43
	extFragment    = 44
	extESP         = 50
	extAH          = 51
	extNone        = 59
	extDestination = 60
	extMobility    = 135
	extHIP         = 139
	extShim6       = 140
)

func decodeIPv6(b []byte, p *Packet) Kind {
	if len(b) < 40 {
		return MalformedIPv6Header
	}
	total := 40 + int(binary.BigEndian.Uint16(b[4:]))
	next := b[6]
	if total == 40 && next != extNone {
		// A jumbogram, whose length is in an option, or a packet of more than
		// 64 KiB that offload has made or was to cut: there is no room for its length.
		total = len(b)
	}
	p.Length = total
	b = b[:min(total, len(b))]
	p.IP = b
	p.V6 = true
	p.Fragment = false
	at := 40
	for n := 0; ; n++ {
		var size int
		switch next {
		case extHopByHop, extRouting, extDestination, extMobility, extHIP, extShim6:
			if len(b) < at+8 {
				return MalformedIPv6Extension
			}
			size = 8 + 8*int(b[at+1])
		case extAH:
			if len(b) < at+8 {
				return MalformedIPv6Extension
			}
			size = 8 + 4*int(b[at+1])
		case extFragment:
			if len(b) < at+8 {
				return MalformedIPv6Extension
			}
			size = 8
			off := binary.BigEndian.Uint16(b[at+2:])
			// An "atomic" fragment is the whole packet: nothing to join.
			if off&0xfff9 != 0 && !p.Fragment {
				p.Fragment = true
				p.FragProto = b[at]
				p.FragID = binary.BigEndian.Uint32(b[at+4:])
				p.FragOffset, p.FragAt = off&^7, uint16(at+8) // of few, short headers
				if off>>3 != 0 {
					// Extension headers may hide the transport protocol of
					// later fragments; the first fragment tells it.
					return later(p, b[at])
				}
			}
		default:
			return decodeTransport(p, next, at)
		}
		if n == maxExtensions {
			return MalformedIPv6Extensions
		}
		next = b[at]
		at += size
		if at > len(b) {
			return MalformedIPv6Extension
		}
	}
}

// later finishes a fragment other than the first: its payload has no ports.
func later(p *Packet, proto uint8) Kind {
	p.L4, p.SrcPort, p.DstPort, p.Flags, p.Payload = 0, 0, 0, 0, 0
	p.Proto = proto
	switch proto {
	case ProtoTCP, ProtoUDP, extHopByHop, extRouting, extDestination, extAH:
		return KindOK
	}
	return ignored(proto)
}

func decodeTransport(p *Packet, proto uint8, at int) Kind {
	b := p.IP[at:]
	p.Proto, p.L4 = proto, at
	switch proto {
	case ProtoTCP:
		if p.Fragment && len(b) >= 4 && len(b) < 20 {
			// The rest of the header is in the next fragment.
			p.Flags, p.Payload = 0, uint16(at)
			break
		}
		// A wrong data offset is no reason to refuse the packet: nothing
		// here depends on where its payload begins.
		if len(b) < 20 {
			return MalformedTCP
		}
		p.Flags = b[13]
	case ProtoUDP:
		if len(b) < 8 {
			return MalformedUDP
		}
		p.Flags = 0
	default:
		return ignored(proto)
	}
	p.SrcPort = binary.BigEndian.Uint16(b)
	p.DstPort = binary.BigEndian.Uint16(b[2:])
	if len(b) >= 8 && (proto == ProtoUDP || len(b) >= 20) {
		p.Payload = uint16(min(at+headerSize(p, b), len(p.IP)))
	}
	return KindOK
}

// headerSize is the length of the transport header, 0 where it contradicts itself.
func headerSize(p *Packet, b []byte) int {
	if p.Proto == ProtoUDP {
		return 8
	}
	if n := int(b[12]>>4) * 4; n >= 20 && n <= p.Length-p.L4 {
		return n
	}
	return 0
}

func ignored(proto uint8) Kind {
	switch proto {
	case 1:
		return IgnoredICMP
	case 2:
		return IgnoredIGMP
	case 47:
		return IgnoredGRE
	case extESP:
		return IgnoredESP
	case 58:
		return IgnoredICMPv6
	case 132:
		return IgnoredSCTP
	}
	return IgnoredTransport
}
