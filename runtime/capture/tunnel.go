package capture

import "encoding/binary"

// Tunnels that DecodeInner opens.
const (
	protoIPIP = 4
	protoIPv6 = 41
	protoGRE  = 47
	portVXLAN = 4789
	// maxTunnels bounds how deep tunnels in tunnels are opened.
	maxTunnels = 4
)

// Decoder is Decode, or with tunnels DecodeInner.
func Decoder(tunnels bool) func(*Frame, *Packet) Kind {
	if tunnels {
		return DecodeInner
	}
	return Decode
}

// Tunnelled tells whether a packet that Decode called kind carries another one, which
// DecodeInner would have read in its place.
func (p *Packet) Tunnelled(kind Kind) bool {
	link, payload := p.tunnel(kind)
	if payload == nil {
		return false
	}
	var inner Packet
	k := decodeLink(link, payload, &inner)
	return k != IgnoredNotIP && k != IgnoredARP
}

// DecodeInner is Decode, but goes into tunnels (GRE, VXLAN, IP in IP) and reads
// the packet that they carry. A tunnel whose payload is no IP packet is what
// Decode makes of it: a VXLAN packet is its outer UDP flow's, a GRE packet is
// ignored. So is a fragment of a tunnel's packet, which is not put together.
func DecodeInner(f *Frame, p *Packet) Kind {
	kind := Decode(f, p)
	for range maxTunnels {
		link, payload := p.tunnel(kind)
		if payload == nil {
			return kind
		}
		var inner Packet
		k := decodeLink(link, payload, &inner)
		if k == IgnoredNotIP || k == IgnoredARP {
			return kind
		}
		inner.Time, inner.Astray = p.Time, p.Astray
		*p, kind = inner, k
	}
	return kind
}

// tunnel finds what a packet that Decode called kind carries; nil if it is no
// tunnel. p is set for ignored transports, too.
func (p *Packet) tunnel(kind Kind) (LinkType, []byte) {
	switch {
	case kind == KindOK:
		if p.Proto != ProtoUDP || p.DstPort != portVXLAN || p.Fragment {
			return 0, nil
		}
		b := p.IP[p.L4+8:]
		const flagVNI = 0x08
		if len(b) < 8 || b[0]&flagVNI == 0 {
			return 0, nil
		}
		return LinkEthernet, b[8:]
	case kind != IgnoredGRE && kind != IgnoredTransport || p.Fragment:
		return 0, nil
	}
	b := p.IP[p.L4:]
	switch p.Proto {
	case protoIPIP:
		return LinkIPv4, b
	case protoIPv6:
		return LinkIPv6, b
	case protoGRE:
		return openGRE(b)
	}
	return 0, nil
}

// openGRE reads the header of RFC 2784 and 2890.
func openGRE(b []byte) (LinkType, []byte) {
	const (
		flagChecksum = 0x8000
		flagKey      = 0x2000
		flagSequence = 0x1000
		version      = 0x0007
		ethernet     = 0x6558 // transparent Ethernet bridging
	)
	if len(b) < 4 {
		return 0, nil
	}
	flags, proto := binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	size := 4
	for _, f := range []uint16{flagChecksum, flagKey, flagSequence} {
		if flags&f != 0 {
			size += 4
		}
	}
	// Version 1 is PPTP's, version 0 has no routing (0x4000) any more.
	if flags&(version|0x4000) != 0 || len(b) < size {
		return 0, nil
	}
	switch proto {
	case etherIPv4:
		return LinkIPv4, b[size:]
	case etherIPv6:
		return LinkIPv6, b[size:]
	case ethernet:
		return LinkEthernet, b[size:]
	}
	return 0, nil
}
