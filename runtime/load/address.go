package load

import (
	"encoding/binary"
	"net/netip"

	"nepcoc/runtime/capture"
)

// An instance is a flow of the script sent once: its number stands in its addresses, spread over their
// last bits by a product, so that neighbours are no neighbours.
const spread = 0x9e3779b1

// gather undoes spread: spread*gather = 1 modulo 2^32.
var gather = func() uint32 {
	x := uint32(spread) // right in three bits; each step doubles them
	for range 5 {
		x *= 2 - spread*x
	}
	return x
}()

// The networks of the first and of the second host of an instance.
var (
	first4  = [2]byte{198, 18}
	second4 = [2]byte{198, 19}
	first6  = [8]byte{0x20, 0x01, 0, 2, 0, 0, 0, 0xa}
	second6 = [8]byte{0x20, 0x01, 0, 2, 0, 0, 0, 0xb}
)

// Addresses are those of an instance's two hosts.
func Addresses(n uint32, v6 bool) (first, second netip.Addr) {
	var b [40]byte
	if v6 {
		b[0] = 6 << 4
		setEnds(b[:], n, false)
		return netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	}
	b[0] = 4 << 4
	setEnds(b[:], n, false)
	return netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
}

// Instance is which one an event's addresses are of, in either direction; false for other hosts'.
func Instance(src, dst netip.Addr) (uint32, bool) {
	switch {
	case src.Is4() && dst.Is4():
		a, b := src.As4(), dst.As4()
		if [2]byte(a[:2]) == second4 {
			a, b = b, a
		}
		if [2]byte(a[:2]) != first4 || [2]byte(b[:2]) != second4 {
			return 0, false
		}
		return (uint32(binary.BigEndian.Uint16(a[2:])) | uint32(binary.BigEndian.Uint16(b[2:]))<<16) * gather, true
	case src.Is6() && dst.Is6():
		a, b := src.As16(), dst.As16()
		if [8]byte(a[:8]) == second6 {
			a, b = b, a
		}
		if [8]byte(a[:8]) != first6 || [8]byte(b[:8]) != second6 {
			return 0, false
		}
		return binary.BigEndian.Uint32(a[12:]) * gather, true
	}
	return 0, false
}

// frame makes an instance's frame of a packet, in b's memory.
func (p *packet) frame(b []byte, n uint32) []byte {
	b = append(b[:0], p.data...)
	ip := b[p.ip:]
	delta := setEnds(ip, n, p.reverse)
	switch {
	case p.quoted != 0:
		quote(ip[p.quoted:], n, !p.reverse)
		setSum(ip, ip[0]>>4 == 6, p.proto, p.quoted-icmpBytes, p.sum)
	case p.sum != 0 && p.proto != protoICMP: // which covers no addresses, unlike that of version 6
		adjust(ip[p.sum:], delta, p.proto == capture.ProtoUDP)
	}
	return b
}

// quote puts an instance's addresses into the first bytes of a packet, and what of its checksums there is.
func quote(ip []byte, n uint32, reverse bool) {
	delta := setEnds(ip, n, reverse)
	var p capture.Packet
	if capture.Decode(&capture.Frame{Data: ip, Length: 1 << 16, Link: capture.LinkRaw}, &p) != capture.KindOK || p.L4 == 0 {
		return
	}
	at := p.L4 + 16
	if p.Proto == capture.ProtoUDP {
		at = p.L4 + 6
	}
	if len(ip) >= at+2 {
		adjust(ip[at:], delta, p.Proto == capture.ProtoUDP)
	}
}

// setEnds writes an instance's addresses into an IP header, and returns what that adds to a checksum's sum. The header's own
// checksum is adjusted.
func setEnds(ip []byte, n uint32, reverse bool) (delta uint32) {
	m := n * spread
	if ip[0]>>4 == 6 {
		ends := ip[8:40]
		delta = sumOf(ends, true)
		a, b := ends[:16], ends[16:]
		if reverse {
			a, b = b, a
		}
		copy(a, first6[:])
		copy(b, second6[:])
		for _, end := range [][]byte{a, b} {
			binary.BigEndian.PutUint32(end[8:], 0)
			binary.BigEndian.PutUint32(end[12:], m)
		}
		return delta + sumOf(ends, false)
	}
	ends := ip[12:20]
	delta = sumOf(ends, true)
	a, b := ends[:4], ends[4:]
	if reverse {
		a, b = b, a
	}
	copy(a, first4[:])
	copy(b, second4[:])
	binary.BigEndian.PutUint16(a[2:], uint16(m))
	binary.BigEndian.PutUint16(b[2:], uint16(m>>16))
	delta += sumOf(ends, false)
	adjust(ip[10:], delta, false)
	return delta
}

const protoICMP = 1

// sumOf adds up words of 16 bits, or their complements.
func sumOf(b []byte, complement bool) (sum uint32) {
	for ; len(b) >= 2; b = b[2:] {
		w := binary.BigEndian.Uint16(b)
		if complement {
			w = ^w
		}
		sum += uint32(w)
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	return sum
}

// adjust brings a checksum up to date (RFC 1624, equation 3): a wrong one stays wrong. A UDP checksum of 0 is none.
func adjust(field []byte, delta uint32, udp bool) {
	old := binary.BigEndian.Uint16(field)
	if udp && old == 0 {
		return
	}
	sum := fold(uint64(^old) + uint64(delta))
	if sum = ^sum; udp && sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(field, sum)
}

func fold(sum uint64) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// setHeaderSum writes the checksum of an IPv4 header.
func setHeaderSum(ip []byte) {
	binary.BigEndian.PutUint16(ip[10:], 0)
	binary.BigEndian.PutUint16(ip[10:], ^fold(uint64(sumOf(ip[:int(ip[0]&15)*4], false))))
}

// setSum writes the checksum of what follows the IP header.
func setSum(ip []byte, v6 bool, proto uint8, l4, field int) {
	body := ip[l4:]
	if proto == capture.ProtoUDP {
		if n := int(binary.BigEndian.Uint16(body[4:])); n >= 8 && n <= len(body) {
			body = body[:n]
		}
	}
	binary.BigEndian.PutUint16(ip[field:], 0)
	sum := uint64(sumOf(body, false))
	switch {
	case v6:
		sum += uint64(sumOf(ip[8:40], false)) + uint64(len(body)) + uint64(proto)
	case proto != protoICMP:
		sum += uint64(sumOf(ip[12:20], false)) + uint64(len(body)) + uint64(proto)
	}
	out := ^fold(sum)
	if proto == capture.ProtoUDP && out == 0 {
		out = 0xffff
	}
	binary.BigEndian.PutUint16(ip[field:], out)
}
