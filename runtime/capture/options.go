package capture

import "encoding/binary"

// Extended reports whether something stands between the IP header and TCP or UDP: options, extension headers, a
// fragment header around a whole packet. Few stacks send any.
func (p *Packet) Extended() bool {
	if p.V6 {
		return p.L4 > 40
	}
	return p.L4 > 20
}

// optionsTaken tells whether a host takes a packet with these IPv4 options (RFC 791, 3.1): they
// must fit the header, and route nothing, which systems refuse unless they are told otherwise (RFC 7126, 4.3 and 4.4).
func optionsTaken(b []byte) bool {
	for len(b) > 0 {
		switch kind := b[0]; {
		case kind == 0:
			return true
		case kind == 1:
			b = b[1:]
			continue
		case len(b) < 2 || b[1] < 2 || int(b[1]) > len(b), kind == 131, kind == 137:
			return false
		}
		b = b[b[1]:]
	}
	return true
}

// extensionsTaken tells whether a host takes a packet with the IPv6 extension headers between its header and TCP or UDP,
// which Decode has walked (RFC 8200, 4): hop-by-hop options come first, routes of types that nobody uses any more
// (RFC 5095) have no hop left, and there is no option that who doesn't know it must drop. Whether a host
// knows the headers of mobility or security, and segment routing, is its own affair.
func extensionsTaken(b []byte) bool {
	next, at := b[6], 40
	for at+8 <= len(b) {
		size := 8 + 8*int(b[at+1])
		switch next {
		case extHopByHop:
			if at > 40 || !tagsTaken(b[at+2:min(at+size, len(b))], 0xc2) { // jumbo payload
				return false
			}
		case extDestination:
			if !tagsTaken(b[at+2:min(at+size, len(b))], 0xc9) { // home address
				return false
			}
		case extRouting:
			if kind := b[at+2]; (kind < 2 || kind > 4) && b[at+3] > 0 {
				return false
			}
		case extFragment:
			size = 8
			if off := binary.BigEndian.Uint16(b[at+2:]); off&0xfff9 != 0 {
				return true // what is behind it is another packet's
			}
		case extAH:
			size = 8 + 4*int(b[at+1])
		}
		next, at = b[at], at+size
	}
	return true
}

// tagsTaken walks options of an IPv6 header. known is one that hosts know.
func tagsTaken(b []byte, known byte) bool {
	for len(b) > 0 {
		if b[0] == 0 {
			b = b[1:]
			continue
		}
		if len(b) < 2 || int(b[1])+2 > len(b) || b[0]>>6 != 0 && b[0] != known {
			return false
		}
		b = b[2+int(b[1]):]
	}
	return true
}
