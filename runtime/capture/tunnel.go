package capture

import "encoding/binary"

// Tunnel is a kind of tunnel, as it is counted.
type Tunnel uint8

// The tunnels that DecodeInner opens.
const (
	NoTunnel     Tunnel = iota
	TunnelIP            // IP in IP, 6in4, MPLS in IP, Ethernet in IP
	TunnelGRE           // with IP, Ethernet, MPLS or PPP in it
	TunnelERSPAN        // types I to III: mirror ports
	TunnelVXLAN         // and VXLAN-GPE
	TunnelGENEVE
	TunnelGTP // GTP-U: user traffic of mobile networks
	TunnelTeredo
	TunnelUDP // MPLS or GRE in UDP
	NumTunnels
)

var tunnelNames = [NumTunnels]string{"none", "ip", "gre", "erspan", "vxlan", "geneve", "gtp", "teredo", "udp"}

func (t Tunnel) String() string { return tunnelNames[t] }

// Protocols of IP that are tunnels.
const (
	protoIPIP    = 4
	protoIPv6    = 41
	protoGRE     = 47
	protoEtherIP = 97
	protoMPLS    = 137
)

// content is what a tunnel's packet holds; bytes nil: it is no tunnel's packet.
// id is the tunnel's, where it has one that both directions share.
type content struct {
	tunnel Tunnel
	what   layer
	bytes  []byte
	id     uint32
}

// tunnels are the ways in which packets carry packets, by IP protocol, of UDP by port: the
// destination's, for Teredo either.
var tunnels = [...]struct {
	proto  uint8
	port   uint16
	either bool
	open   func(b []byte) content
}{
	{protoIPIP, 0, false, func(b []byte) content { return content{TunnelIP, etherIPv4, b, 0} }},
	{protoIPv6, 0, false, func(b []byte) content { return content{TunnelIP, etherIPv6, b, 0} }},
	{protoMPLS, 0, false, func(b []byte) content { return content{TunnelIP, etherMPLS, b, 0} }},
	{protoEtherIP, 0, false, openEtherIP},
	{protoGRE, 0, false, openGRE},
	{ProtoUDP, 4789, false, openVXLAN},
	{ProtoUDP, 8472, false, openVXLAN},  // Linux's before there was a number
	{ProtoUDP, 48879, false, openVXLAN}, // Cisco ACI's
	{ProtoUDP, 4790, false, openVXLANGPE},
	{ProtoUDP, 6081, false, openGENEVE},
	{ProtoUDP, 2152, false, openGTP},
	{ProtoUDP, 3544, true, openTeredo},
	{ProtoUDP, 4754, false, func(b []byte) content { return inUDP(openGRE(b)) }},
	{ProtoUDP, 6635, false, func(b []byte) content { return content{TunnelUDP, etherMPLS, b, 0} }},
}

// maxTunnels bounds how deep tunnels in tunnels are opened.
const maxTunnels = 4

// portHint has, by its low byte, whether a port may be a tunnel's: most packets
// are of none.
var portHint = func() (h [256]bool) {
	for _, t := range tunnels {
		if t.proto == ProtoUDP {
			h[byte(t.port)] = true
		}
	}
	return h
}()

// Decoder is Decode, or with tunnels DecodeInner.
func Decoder(tunnels bool) func(*Frame, *Packet) Kind {
	if tunnels {
		return DecodeInner
	}
	return Decode
}

// Tunnelled tells whether a packet that Decode called kind carries another one, which
// DecodeInner would have read in its place.
func (p *Packet) Tunnelled(kind Kind) Tunnel {
	if kind == KindOK && !p.tunnelPort() {
		return NoTunnel
	}
	return p.tunnelled(kind)
}

// tunnelPort tells, of most packets that are no tunnel's, just that.
func (p *Packet) tunnelPort() bool {
	return p.Proto == ProtoUDP && (portHint[byte(p.DstPort)] || portHint[byte(p.SrcPort)])
}

func (p *Packet) tunnelled(kind Kind) Tunnel {
	c := p.content(kind)
	if c.bytes == nil {
		return NoTunnel
	}
	var inner Packet
	if decodeLayers(c.what, c.bytes, &inner).notIP() {
		return NoTunnel
	}
	return c.tunnel
}

// DecodeInner is Decode, but goes into tunnels (see Tunnel) and reads
// the packet that they carry. A tunnel whose payload is no IP packet is what
// Decode makes of it: a VXLAN packet is its outer UDP flow's, a GRE packet is
// ignored. So is a fragment of a tunnel's packet; see TunnelFragment.
func DecodeInner(f *Frame, p *Packet) Kind { return p.OpenTunnels(Decode(f, p)) }

// TunnelFragment tells that a packet which Decode called kind is a fragment of a tunnel's packet:
// put together, it can be opened.
func (p *Packet) TunnelFragment(kind Kind) bool {
	return p.Fragment && (kind == IgnoredGRE || kind == IgnoredIPIP || kind == IgnoredEtherIP)
}

// OpenTunnels puts in the place of a packet that Decode called kind what it carries.
func (p *Packet) OpenTunnels(kind Kind) Kind {
	for range maxTunnels {
		c := p.content(kind)
		if c.bytes == nil {
			return kind
		}
		inner := Packet{Time: p.Time, Astray: p.Astray, VLAN: p.VLAN, Interface: p.Interface, Level: p.Level + 1, Tunnel: p.Tunnel}
		if c.id != 0 {
			inner.Tunnel = c.id
		}
		k := decodeLayers(c.what, c.bytes, &inner)
		if k.notIP() {
			return kind
		}
		*p, kind = inner, k
	}
	return kind
}

// content finds what a packet that Decode called kind carries. p is set for ignored transports, too.
func (p *Packet) content(kind Kind) content {
	switch {
	case kind == KindOK:
		if !p.tunnelPort() || p.Fragment || len(p.IP) < p.L4+8 {
			return content{}
		}
		for i := range tunnels {
			if t := &tunnels[i]; t.proto == ProtoUDP && (t.port == p.DstPort || t.either && t.port == p.SrcPort) {
				return t.open(p.IP[p.L4+8:])
			}
		}
		return content{}
	case kind != IgnoredGRE && kind != IgnoredIPIP && kind != IgnoredEtherIP && kind != IgnoredTransport || p.Fragment:
		return content{}
	}
	for i := range tunnels {
		if t := &tunnels[i]; t.proto == p.Proto {
			return t.open(p.IP[p.L4:])
		}
	}
	return content{}
}

// openEtherIP reads RFC 3378's header, version 3.
func openEtherIP(b []byte) content {
	if len(b) < 2 || b[0] != 0x30 {
		return content{}
	}
	return content{TunnelIP, layerEthernet, b[2:], 0}
}

// openGRE reads the header of RFC 2784 and 2890, of PPTP (RFC 2637), and behind it that of ERSPAN.
func openGRE(b []byte) content {
	const (
		flagChecksum = 0x8000
		flagRouting  = 0x4000
		flagKey      = 0x2000
		flagSequence = 0x1000
		flagAck      = 0x0080 // PPTP's
		version      = 0x0007
		erspan       = 0x88be // types I and II
		erspan3      = 0x22eb
	)
	if len(b) < 4 {
		return content{}
	}
	flags, what := binary.BigEndian.Uint16(b), layer(binary.BigEndian.Uint16(b[2:]))
	pptp := flags&version == 1 && what == layerPPP
	size, id := 4, uint32(0)
	if flags&flagChecksum != 0 {
		size += 4
	}
	if flags&flagKey != 0 {
		if len(b) >= size+4 && !pptp { // PPTP has its call there, another one each way
			id = binary.BigEndian.Uint32(b[size:])
		}
		size += 4
	}
	if flags&flagSequence != 0 {
		size += 4
	}
	if pptp && flags&flagAck != 0 {
		size += 4
	}
	if flags&version != 0 && !pptp || flags&flagRouting != 0 || len(b) < size {
		return content{}
	}
	b = b[size:]
	switch {
	case what == erspan && flags&flagSequence == 0: // type I has no header of its own
		return content{TunnelERSPAN, layerEthernet, b, 0}
	case what == erspan:
		return openERSPAN(b, 8)
	case what == erspan3 && len(b) >= 12 && b[11]&1 != 0: // with a platform's own part
		return openERSPAN(b, 12+8)
	case what == erspan3:
		return openERSPAN(b, 12)
	}
	return content{TunnelGRE, what, b, id}
}

// openERSPAN passes over a header, whose first word ends with the session's number of 10 bits.
func openERSPAN(b []byte, size int) content {
	if len(b) < size {
		return content{}
	}
	return content{TunnelERSPAN, layerEthernet, b[size:], uint32(binary.BigEndian.Uint16(b[2:]) & 0x3ff)}
}

// vni is a network's id of 24 bits.
func vni(b []byte) uint32 { return binary.BigEndian.Uint32(b) >> 8 }

const flagVNI = 0x08

func openVXLAN(b []byte) content {
	if len(b) < 8 || b[0]&flagVNI == 0 {
		return content{}
	}
	return content{TunnelVXLAN, layerEthernet, b[8:], vni(b[4:])}
}

// openVXLANGPE reads the header that says what follows.
func openVXLANGPE(b []byte) content {
	const flagProtocol = 0x04
	switch {
	case len(b) < 8 || b[0]&flagVNI == 0:
		return content{}
	case b[0]&flagProtocol == 0:
		return openVXLAN(b)
	case int(b[3]) >= len(nextProtocols) || nextProtocols[b[3]] == 0:
		return content{}
	}
	return content{TunnelVXLAN, nextProtocols[b[3]], b[8:], vni(b[4:])}
}

// openGENEVE reads RFC 8926's header.
func openGENEVE(b []byte) content {
	if len(b) < 8 || b[0]>>6 != 0 {
		return content{}
	}
	size := 8 + 4*int(b[0]&0x3f)
	if size > len(b) {
		return content{}
	}
	return content{TunnelGENEVE, layer(binary.BigEndian.Uint16(b[2:])), b[size:], vni(b[4:])}
}

// openGTP reads a user packet (G-PDU) of 3GPP TS 29.281. Its tunnel ids differ by direction, so they
// tell no flows apart.
func openGTP(b []byte) content {
	const (
		version1 = 0x30 // and the protocol type, GTP
		options  = 0x07
		flagNext = 0x04
		gpdu     = 0xff
	)
	if len(b) < 8 || b[0]&0xf0 != version1 || b[1] != gpdu {
		return content{}
	}
	size := 8
	if b[0]&options != 0 {
		if size = 12; len(b) < size {
			return content{}
		}
		for next := b[0]&flagNext != 0 && b[11] != 0; next; {
			if len(b) < size+4 || b[size] == 0 || len(b) < size+4*int(b[size]) {
				return content{}
			}
			size += 4 * int(b[size])
			next = b[size-1] != 0
		}
	}
	return byVersion(TunnelGTP, b[size:])
}

// openTeredo reads RFC 4380's packets, with what servers and relays put in front.
func openTeredo(b []byte) content {
	if len(b) >= 4 && b[0] == 0 && b[1] == 1 { // authentication
		size := 4 + int(b[2]) + int(b[3]) + 9
		if len(b) < size {
			return content{}
		}
		b = b[size:]
	}
	if len(b) >= 8 && b[0] == 0 && b[1] == 0 { // origin
		b = b[8:]
	}
	if len(b) < 40 || b[0]>>4 != 6 || int(binary.BigEndian.Uint16(b[4:])) > len(b)-40 {
		return content{}
	}
	return content{TunnelTeredo, etherIPv6, b, 0}
}

func inUDP(c content) content {
	c.tunnel = TunnelUDP
	return c
}

// byVersion is a packet of IP, of which only its own first bits tell the version.
func byVersion(t Tunnel, b []byte) content {
	if len(b) == 0 || b[0]>>4 != 4 && b[0]>>4 != 6 {
		return content{}
	}
	return content{t, layerIP, b, 0}
}
