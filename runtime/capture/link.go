package capture

import (
	"encoding/binary"
	"fmt"
)

// LinkType is a capture's link-layer type, as registered for pcap files.
type LinkType uint16

// The link types that the code speaks of; links has all that are read.
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

// opener takes a header off b: it tells what stands behind it, and gives the rest.
// Where it can't, kind is what the frame is counted as.
type opener func(b []byte, p *Packet) (what layer, rest []byte, kind Kind)

// links are the link types that Decode reads, by number. 12 and 14 are what raw IP captures carry
// when they were written with a system's own number instead of the registered one.
var links = [...]struct {
	name string
	open opener
}{
	// An address family in the byte order of the machine that captured,
	// different for IPv6 on every system: the IP version says it better.
	LinkNull:     {"BSD loopback", skip(4, layerIP)},
	LinkEthernet: {"Ethernet", openEthernet},
	9:            {"PPP", openPPP},
	10:           {"FDDI", openFDDI},
	LinkRawBSD:   {"raw IP", skip(0, layerIP)},
	LinkRawOBSD:  {"raw IP", skip(0, layerIP)},
	50:           {"PPP in HDLC framing", openPPP},
	51:           {"PPPoE", openPPPoE},
	100:          {"LLC on ATM", openLLC},
	LinkRaw:      {"raw IP", skip(0, layerIP)},
	104:          {"Cisco HDLC", typed(2)},
	107:          {"Frame Relay", openFrameRelay},
	LinkLoop:     {"OpenBSD loopback", skip(4, layerIP)},
	109:          {"OpenBSD IPsec", skip(12, layerIP)},
	LinkSLL:      {"Linux cooked v1", typed(14)},
	117:          {"OpenBSD pflog", openPFLog},
	138:          {"IP over FireWire", typed(16)},
	166:          {"PPP of pppd", openPPPD},
	204:          {"PPP with direction", skip(1, layerPPP)},
	219:          {"MPLS", openMPLS},
	LinkIPv4:     {"raw IPv4", skip(0, etherIPv4)},
	LinkIPv6:     {"raw IPv6", skip(0, etherIPv6)},
	239:          {"Linux NFLOG", openNFLog},
	240:          {"netANALYZER", skip(4, layerEthernet)},
	242:          {"IP over InfiniBand", openIPoIB},
	LinkSLL2:     {"Linux cooked v2", openSLL2},
}

func (l LinkType) String() string {
	if l.Supported() {
		return links[l].name
	}
	if n := otherLinks[l]; n != "" {
		return fmt.Sprintf("link type %d (%s)", uint16(l), n)
	}
	return fmt.Sprintf("link type %d", uint16(l))
}

// otherLinks names link types that are not read, for messages.
var otherLinks = map[LinkType]string{
	6: "Token Ring", 105: "802.11", 119: "802.11 with Prism header", 127: "802.11 with radiotap", 143: "DOCSIS", 147: "private use",
	163: "802.11 with AVS header", 187: "Bluetooth", 189: "USB", 192: "per-packet information", 195: "802.15.4", 197: "ERF", 201: "Bluetooth",
	220: "USB", 227: "CAN", 247: "InfiniBand", 249: "USB", 251: "Bluetooth", 252: "Wireshark upper PDU", 253: "netlink",
}

// Supported reports whether Decode reads frames of this type.
func (l LinkType) Supported() bool { return int(l) < len(links) && links[l].open != nil }

func decodeLink(link LinkType, b []byte, p *Packet) Kind {
	if link == LinkEthernet && len(b) >= 14 { // most frames: without a call through the table
		p.MAC = [12]byte(b)
		return decodeLayers(layer(binary.BigEndian.Uint16(b[12:])), b[14:], p)
	}
	if !link.Supported() {
		return IgnoredLinkType
	}
	p.MAC = [12]byte{}
	what, b, kind := links[link].open(b, p)
	if kind != KindOK {
		return kind
	}
	return decodeLayers(what, b, p)
}

// skip passes over n bytes.
func skip(n int, what layer) opener {
	return func(b []byte, _ *Packet) (layer, []byte, Kind) {
		if len(b) < n {
			return 0, nil, MalformedLink
		}
		return what, b[n:], KindOK
	}
}

// typed passes over a header that ends with an ethertype at this place.
func typed(at int) opener {
	return func(b []byte, _ *Packet) (layer, []byte, Kind) { return typedAt(b, at) }
}

func typedAt(b []byte, at int) (layer, []byte, Kind) {
	if len(b) < at+2 {
		return 0, nil, MalformedLink
	}
	return layer(binary.BigEndian.Uint16(b[at:])), b[at+2:], KindOK
}

func openEthernet(b []byte, p *Packet) (layer, []byte, Kind) {
	if len(b) < 14 {
		return 0, nil, MalformedLink
	}
	p.MAC = [12]byte(b)
	return layer(binary.BigEndian.Uint16(b[12:])), b[14:], KindOK
}

func openSLL2(b []byte, _ *Packet) (layer, []byte, Kind) {
	if len(b) < 20 {
		return 0, nil, MalformedLink
	}
	return layer(binary.BigEndian.Uint16(b)), b[20:], KindOK
}

// openIPoIB reads RFC 4391's header behind the 40 bytes of addresses that a capture has.
func openIPoIB(b []byte, _ *Packet) (layer, []byte, Kind) {
	if len(b) < 44 {
		return 0, nil, MalformedLink
	}
	return layer(binary.BigEndian.Uint16(b[40:])), b[44:], KindOK
}

// openFDDI wants a frame of LLC; the others are FDDI's own.
func openFDDI(b []byte, _ *Packet) (layer, []byte, Kind) {
	if len(b) < 13 {
		return 0, nil, MalformedLink
	}
	if b[0]&0xf8 != 0x50 {
		return 0, nil, IgnoredLLC
	}
	return layerLLC, b[13:], KindOK
}

// openFrameRelay reads RFC 2427's network layer ids behind an address of two bytes.
func openFrameRelay(b []byte, _ *Packet) (layer, []byte, Kind) {
	if len(b) < 4 {
		return 0, nil, MalformedLink
	}
	switch {
	case b[1]&1 == 0: // a longer address
	case b[2] == 0x03 && b[3] == 0xcc:
		return etherIPv4, b[4:], KindOK
	case b[2] == 0x03 && b[3] == 0x8e:
		return etherIPv6, b[4:], KindOK
	case b[2] != 0x03: // Cisco's form: an ethertype
		return layer(binary.BigEndian.Uint16(b[2:])), b[4:], KindOK
	}
	return 0, nil, IgnoredNotIP
}

// openPPPD: a direction stands where PPP has its address.
func openPPPD(b []byte, p *Packet) (layer, []byte, Kind) {
	if len(b) < 2 {
		return 0, nil, MalformedLink
	}
	if b[1] == 3 {
		b = b[1:]
	}
	return openPPP(b[1:], p)
}

// openPFLog reads a header that says its own length, without its padding to 4 bytes.
func openPFLog(b []byte, _ *Packet) (layer, []byte, Kind) {
	if len(b) < 4 {
		return 0, nil, MalformedLink
	}
	n := (int(b[0]) + 3) &^ 3
	if n < 4 || n > len(b) {
		return 0, nil, MalformedLink
	}
	return layerIP, b[n:], KindOK
}

// openNFLog looks for the packet among the attributes, whose numbers have the byte order of
// the machine that captured.
func openNFLog(b []byte, _ *Packet) (layer, []byte, Kind) {
	if len(b) < 8 {
		return 0, nil, MalformedLink
	}
	const payload = 9
	b = b[4:]
	var order binary.ByteOrder = binary.LittleEndian
	if n := int(order.Uint16(b)); n < 4 || n > len(b) {
		order = binary.BigEndian
	}
	for len(b) >= 4 {
		n, typ := int(order.Uint16(b)), order.Uint16(b[2:])
		if typ == payload && n >= 4 {
			return layerIP, b[4:min(n, len(b))], KindOK
		}
		if n = (n + 3) &^ 3; n < 4 || n > len(b) {
			return 0, nil, MalformedLink
		}
		b = b[n:]
	}
	return 0, nil, IgnoredNotIP
}
