package capture

import "encoding/binary"

// Bounds on what a frame can make Decode do. Real stacks are shallower; a
// deeper one is an attack or garbage.
const (
	// maxLayers is how many headers and tags there are between the link layer and
	// IP, a stack of MPLS labels counted as one.
	maxLayers = 8
	maxLabels = 16
	// maxExtensions is the bytes of a packet's IPv6 extension headers. Linux has no bound but the packet;
	// each header costs time, so there is one here, far above what is of use.
	maxExtensions = 2048
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

	// VLAN are the ids of the first two VLAN tags, the outer one first; 0: none, or a tag
	// that gives only a priority. Interface is the frame's.
	VLAN      [2]uint16
	Interface uint16
	// MAC are destination and source of the Ethernet header that the packet came in, of several the last; 0 where it
	// came in none.
	MAC [12]byte
	// Level is the number of tunnels that were opened on the way to the packet, and Tunnel the id
	// of the innermost one that has an id which is the same in both directions (a VNI,
	// a GRE key, an ERSPAN session); 0: none.
	Tunnel uint32
	Level  uint8
	// Shims is the number of headers between the Ethernet header and IP, but for one VLAN tag: more tags, MPLS, PPPoE, LLC and
	// others (see shims). 0: the packet is one that the system itself would take for IP.
	Shims uint8

	// Payload is where in IP the bytes behind the TCP or UDP header begin, L4
	// where that can't be told, len(IP) where the capture holds only part of the header; Faults is what Verify found, with
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

// Headed reports whether the capture holds the packet's whole TCP or UDP header, and that makes sense.
func (p *Packet) Headed() bool {
	size := int(p.Payload) - p.L4
	return p.L4 != 0 && (size >= 20 || size >= 8 && p.Proto == ProtoUDP)
}

// Decode reads a frame. p is valid only where the result is KindOK, and then
// holds a TCP or UDP packet or a later fragment of one. What stands between the link layer and
// IP is opened (see shims); tunnels are left closed, see DecodeInner.
func Decode(f *Frame, p *Packet) Kind {
	p.Time, p.Astray, p.Faults = f.Time, f.Astray, 0
	p.Tunnel, p.Level, p.Shims, p.VLAN, p.Interface = 0, 0, 0, [2]uint16{f.VLAN}, uint16(f.Interface)
	return decodeLink(f.Link, f.Data, p)
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
	for proto == extAH { // passed over, as in IPv6
		b = p.IP[ihl:]
		if len(b) < 8 {
			return MalformedIPv4Header
		}
		proto = b[0]
		if ihl += 8 + 4*int(b[1]); ihl > len(p.IP) || ihl > maxExtensions {
			return MalformedIPv4Header
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
	for {
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
		next = b[at]
		if at += size; at-40 > maxExtensions {
			return MalformedIPv6Extensions
		}
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
	// What the capture cut is no fault of the packet's: the ports are enough for its flow.
	cut := len(p.IP) < p.Length && len(b) >= 4
	switch proto {
	case ProtoTCP:
		if len(b) < 20 && (cut && p.Length-at >= 20 || p.Fragment && len(b) >= 4) {
			// The rest of the header is in the next fragment, or was not captured.
			p.Flags, p.Payload = 0, uint16(at)
			if len(b) > 13 {
				p.Flags = b[13]
			}
			break
		}
		// A wrong data offset is no reason to refuse the packet: nothing
		// here depends on where its payload begins.
		if len(b) < 20 {
			return MalformedTCP
		}
		p.Flags = b[13]
	case ProtoUDP:
		if len(b) < 8 && !(cut && p.Length-at >= 8) {
			return MalformedUDP
		}
		p.Flags = 0
	default:
		return ignored(proto)
	}
	p.SrcPort = binary.BigEndian.Uint16(b)
	p.DstPort = binary.BigEndian.Uint16(b[2:])
	switch {
	case len(b) >= 20 || len(b) >= 8 && proto == ProtoUDP:
		p.Payload = uint16(min(at+headerSize(p, b), len(p.IP)))
	case cut:
		p.Payload = uint16(len(p.IP))
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
	case protoIPIP, protoIPv6:
		return IgnoredIPIP
	case protoGRE:
		return IgnoredGRE
	case extESP:
		return IgnoredESP
	case 58:
		return IgnoredICMPv6
	case 89:
		return IgnoredOSPF
	case protoEtherIP, 115: // 115: L2TP version 3, whose cookie's length is agreed elsewhere
		return IgnoredEtherIP
	case 132:
		return IgnoredSCTP
	}
	return IgnoredTransport
}
