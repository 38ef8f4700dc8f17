package capture

import "encoding/binary"

// layer says what a header is followed by: an ethertype, or one of ours.
type layer uint32

const (
	etherIPv4     layer = 0x0800
	etherARP      layer = 0x0806
	etherIPv6     layer = 0x86dd
	etherMPLS     layer = 0x8847
	etherNSH      layer = 0x894f
	layerEthernet layer = 0x6558 // transparent Ethernet bridging
	layerPPP      layer = 0x880b

	layerIP layer = 1<<16 + iota // the IP version decides
	layerLLC
)

// shims are what stands between the link layer and IP, by ethertype, and as what a
// frame is counted that has something there which is not opened. They belong
// to the way on which the packet was captured, so they are opened whatever the view is.
var shims = map[layer]struct {
	open opener
	kind Kind
}{
	etherARP:      {kind: IgnoredARP},
	layerLLC:      {open: openLLC},
	layerEthernet: {open: openEthernet},
	layerPPP:      {open: openPPP},
	etherMPLS:     {open: openMPLS},
	0x8848:        {open: openMPLS}, // multicast, or with labels assigned upstream
	0x8863:        {kind: IgnoredPPP},
	0x8864:        {open: openPPPoE},
	0x8909:        {open: openCiscoMeta},
	0x893f:        {open: typed(6)},               // 802.1BR E-tag
	0x8926:        {open: typed(4)},               // VN-tag
	0x88e7:        {open: skip(4, layerEthernet)}, // 802.1ah
	0xd28b:        {open: openArista},
	etherNSH:      {open: openNSH},
	0x88e5:        {kind: IgnoredMACsec},
	0x88cc:        {kind: IgnoredLLDP},
	0x8809:        {kind: IgnoredLLDP}, // LACP and the other slow protocols
	0x888e:        {kind: IgnoredLLDP}, // EAPOL
	0x88f7:        {kind: IgnoredLLDP}, // PTP
}

// minEthertype: smaller numbers in its place are the length of an 802.3 frame, which LLC follows.
const minEthertype = 0x600

// decodeLayers goes through what stands before IP.
func decodeLayers(what layer, b []byte, p *Packet) Kind {
	tagged := p.VLAN[0] != 0
	for depth := 0; ; depth++ {
		open := opener(nil)
		tag := false
		switch {
		case what == etherIPv4:
			if len(b) > 0 && b[0]>>4 != 4 {
				return MalformedIPVersion
			}
			return decodeIPv4(b, p)
		case what == etherIPv6:
			if len(b) > 0 && b[0]>>4 != 6 {
				return MalformedIPVersion
			}
			return decodeIPv6(b, p)
		case what == layerIP:
			switch {
			case len(b) == 0:
				return MalformedLink
			case b[0]>>4 == 4:
				return decodeIPv4(b, p)
			case b[0]>>4 == 6:
				return decodeIPv6(b, p)
			}
			return MalformedIPVersion
		case what == 0x8100 || what == 0x88a8 || what == 0x9100 || what == 0x9200 || what == 0x9300:
			open, tag = openTag, what == 0x8100 || what == 0x88a8 // the system takes no other for one
		case what < minEthertype:
			open = openLLC
		default:
			l, known := shims[what]
			switch {
			case !known:
				return IgnoredNotIP
			case l.open == nil:
				return l.kind
			}
			open = l.open
		}
		if depth == maxLayers {
			return MalformedTags
		}
		var kind Kind
		if what, b, kind = open(b, p); kind != KindOK {
			return kind
		}
		if !tag || tagged {
			p.Shims++
		}
		tagged = tagged || tag
	}
}

// openTag reads a VLAN tag: 802.1Q, 802.1ad, and what predates it.
func openTag(b []byte, p *Packet) (layer, []byte, Kind) {
	if len(b) < 4 {
		return 0, nil, MalformedLink
	}
	if id := binary.BigEndian.Uint16(b) & 0xfff; id == 0 {
		// a priority only
	} else if p.VLAN[0] == 0 {
		p.VLAN[0] = id
	} else if p.VLAN[1] == 0 {
		p.VLAN[1] = id
	}
	return layer(binary.BigEndian.Uint16(b[2:])), b[4:], KindOK
}

// openLLC reads 802.2's header, with SNAP's behind it where there is one.
func openLLC(b []byte, _ *Packet) (layer, []byte, Kind) {
	switch {
	case len(b) < 3:
		return 0, nil, MalformedLink
	case b[0] == 0x06 && b[1] == 0x06 && b[2] == 0x03: // IP by its own number
		return layerIP, b[3:], KindOK
	case b[0] != 0xaa || b[1] != 0xaa || b[2] != 0x03:
		return 0, nil, IgnoredLLC
	case len(b) < 8:
		return 0, nil, MalformedLink
	}
	what := layer(binary.BigEndian.Uint16(b[6:]))
	// An ethertype, as such or bridged (802.1H); others are vendors' protocols.
	if oui := b[3:6]; what < minEthertype || string(oui) != "\x00\x00\x00" && string(oui) != "\x00\x00\xf8" {
		return 0, nil, IgnoredLLC
	}
	return what, b[8:], KindOK
}

// openMPLS reads a stack of labels. Nothing says what they carry: as routers do for
// hashing, the first four bits are taken for the IP version, and 0 for the control word of an Ethernet pseudowire.
func openMPLS(b []byte, _ *Packet) (layer, []byte, Kind) {
	for n := 0; ; n++ {
		if n == maxLabels {
			return 0, nil, MalformedTags
		}
		if len(b) < 4 {
			return 0, nil, MalformedLink
		}
		last := b[2]&1 != 0
		if b = b[4:]; last {
			break
		}
	}
	switch {
	case len(b) == 0:
		return 0, nil, MalformedLink
	case b[0]>>4 == 4:
		return etherIPv4, b, KindOK
	case b[0]>>4 == 6:
		return etherIPv6, b, KindOK
	case b[0]>>4 == 0 && len(b) >= 4+14:
		return layerEthernet, b[4:], KindOK
	}
	return 0, nil, IgnoredMPLS
}

// openPPPoE reads the session stage of RFC 2516.
func openPPPoE(b []byte, p *Packet) (layer, []byte, Kind) {
	if len(b) < 8 {
		return 0, nil, MalformedLink
	}
	if b[0] != 0x11 || b[1] != 0 {
		return 0, nil, IgnoredPPP
	}
	return openPPP(b[6:], p)
}

// openPPP reads RFC 1661's protocol, with or without the address and control bytes of HDLC,
// and in its short form.
func openPPP(b []byte, _ *Packet) (layer, []byte, Kind) {
	if len(b) >= 2 && b[0] == 0xff && b[1] == 0x03 {
		b = b[2:]
	}
	if len(b) < 2 {
		return 0, nil, MalformedLink
	}
	proto, size := binary.BigEndian.Uint16(b), 2
	if b[0]&1 != 0 {
		proto, size = uint16(b[0]), 1
	}
	switch proto {
	case 0x0021:
		return etherIPv4, b[size:], KindOK
	case 0x0057:
		return etherIPv6, b[size:], KindOK
	case 0x0281, 0x0283:
		return etherMPLS, b[size:], KindOK
	}
	return 0, nil, IgnoredPPP
}

// openCiscoMeta reads Cisco's metadata, of which TrustSec's group tag is one: version, number of
// options of four bytes.
func openCiscoMeta(b []byte, _ *Packet) (layer, []byte, Kind) {
	if len(b) < 2 {
		return 0, nil, MalformedLink
	}
	return typedAt(b, 2+4*int(b[1]))
}

// openArista reads the time that a tap aggregator puts in front: of 64 or of 48 bits.
func openArista(b []byte, _ *Packet) (layer, []byte, Kind) {
	if len(b) < 4 {
		return 0, nil, MalformedLink
	}
	if binary.BigEndian.Uint16(b) == 1 {
		switch b[3] & 0xf0 {
		case 0x10:
			return typedAt(b, 4+8)
		case 0x20:
			return typedAt(b, 4+6)
		}
	}
	return 0, nil, IgnoredNotIP
}

// nextProtocols are those of NSH and of VXLAN-GPE.
var nextProtocols = [...]layer{1: etherIPv4, 2: etherIPv6, 3: layerEthernet, 4: etherNSH, 5: etherMPLS}

// openNSH reads a network service header, RFC 8300.
func openNSH(b []byte, _ *Packet) (layer, []byte, Kind) {
	if len(b) < 8 {
		return 0, nil, MalformedLink
	}
	n := 4 * int(b[1]&0x3f)
	if n < 8 || n > len(b) {
		return 0, nil, MalformedLink
	}
	if int(b[3]) >= len(nextProtocols) || nextProtocols[b[3]] == 0 || b[0]>>6 != 0 {
		return 0, nil, IgnoredNSH
	}
	return nextProtocols[b[3]], b[n:], KindOK
}
