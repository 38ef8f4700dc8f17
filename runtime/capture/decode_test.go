package capture_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"nepcoc/runtime/capture"
)

func cat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// Headers of the tests' own making. Lengths are those of what follows.
func eth(ethertype uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1}, ethertype)
}

func tag(ethertype uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{0, 7}, ethertype)
}

func ipv4(proto byte, options int, frag uint16, payload []byte) []byte {
	b := make([]byte, 20+options)
	b[0] = 0x40 | byte(len(b)/4)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)+len(payload)))
	binary.BigEndian.PutUint16(b[4:], 77)
	binary.BigEndian.PutUint16(b[6:], frag)
	b[9] = proto
	copy(b[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
	return append(b, payload...)
}

func ipv6(next byte, payload []byte) []byte {
	b := make([]byte, 40)
	b[0] = 0x60
	binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
	b[6] = next
	b[8], b[23], b[24], b[39] = 0x20, 1, 0x20, 2
	return append(b, payload...)
}

// ext is an IPv6 extension header of 8*(1+n) bytes.
func ext(next byte, n int) []byte {
	b := make([]byte, 8*(1+n))
	b[0], b[1] = next, byte(n)
	return b
}

// frag6 is an IPv6 fragment header.
func frag6(next byte, offset int, more bool, id uint32) []byte {
	b := make([]byte, 8)
	b[0] = next
	v := uint16(offset)
	if more {
		v |= 1
	}
	binary.BigEndian.PutUint16(b[2:], v)
	binary.BigEndian.PutUint32(b[4:], id)
	return b
}

func udp(n int) []byte {
	b := make([]byte, 8+n)
	copy(b, []byte{0x12, 0x34, 0, 53})
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	return b
}

func tcp(flags byte) []byte {
	b := make([]byte, 20)
	copy(b, []byte{0x12, 0x34, 1, 0xbb})
	b[12], b[13] = 5<<4, flags
	return b
}

func TestDecode(t *testing.T) {
	u4, t6 := ipv4(17, 0, 0, udp(4)), ipv6(6, tcp(0))
	snap := []byte{0xaa, 0xaa, 3, 0, 0, 0}
	nsh := func(next byte) []byte { return []byte{0, 0x42, 2, next, 0, 0, 1, 255} }
	sll := append(make([]byte, 14), 8, 0)
	sll2 := append([]byte{0x86, 0xdd}, make([]byte, 18)...)
	const (
		e    = capture.LinkEthernet
		raw  = capture.LinkRaw
		none = -1
	)
	for _, tc := range []struct {
		name string
		link capture.LinkType
		data []byte
		want capture.Kind
		l4   int // none: don't look
	}{
		{"Ethernet IPv4", e, cat(eth(0x800), u4), capture.KindOK, 20},
		{"Ethernet IPv6", e, cat(eth(0x86dd), t6), capture.KindOK, 40},
		{"VLAN", e, cat(eth(0x8100), tag(0x800), u4), capture.KindOK, 20},
		{"QinQ", e, cat(eth(0x88a8), tag(0x8100), tag(0x86dd), t6), capture.KindOK, 40},
		{"old QinQ", e, cat(eth(0x9100), tag(0x9200), tag(0x800), u4), capture.KindOK, 20},
		{"tags without end", e, cat(eth(0x8100), bytes.Repeat(tag(0x8100), 20)), capture.MalformedTags, none},
		{"tag cut", e, cat(eth(0x8100), []byte{0, 7, 8}), capture.MalformedLink, none},
		{"priority tag, then LLC", e, cat(eth(0x8100), tag(100), u4), capture.IgnoredLLC, none},
		{"cooked v1", capture.LinkSLL, cat(sll, u4), capture.KindOK, 20},
		{"cooked v2", capture.LinkSLL2, cat(sll2, t6), capture.KindOK, 40},
		{"cooked v1 with a tag", capture.LinkSLL, cat(sll[:14], []byte{0x81, 0}, tag(0x800), u4), capture.KindOK, 20},
		{"raw 101", raw, u4, capture.KindOK, 20},
		{"raw 12", capture.LinkRawBSD, t6, capture.KindOK, 40},
		{"raw 14", capture.LinkRawOBSD, u4, capture.KindOK, 20},
		{"raw 228", capture.LinkIPv4, u4, capture.KindOK, 20},
		{"raw 229", capture.LinkIPv6, t6, capture.KindOK, 40},
		{"raw 228 with IPv6", capture.LinkIPv4, t6, capture.MalformedIPVersion, none},
		{"raw 229 with IPv4", capture.LinkIPv6, u4, capture.MalformedIPVersion, none},
		{"raw, empty", raw, nil, capture.MalformedLink, none},
		{"loopback", capture.LinkNull, cat([]byte{2, 0, 0, 0}, u4), capture.KindOK, 20},
		{"OpenBSD loopback", capture.LinkLoop, cat([]byte{0, 0, 0, 24}, t6), capture.KindOK, 40},
		{"802.11", 105, u4, capture.IgnoredLinkType, none},
		{"ARP", e, cat(eth(0x806), make([]byte, 28)), capture.IgnoredARP, none},
		{"LLC", e, cat(eth(38), make([]byte, 38)), capture.IgnoredLLC, none},
		{"spanning tree", e, cat(eth(38), []byte{0x42, 0x42, 3}, make([]byte, 35)), capture.IgnoredLLC, none},
		{"SNAP", e, cat(eth(40), snap, []byte{8, 0}, u4), capture.KindOK, 20},
		{"SNAP, bridged", e, cat(eth(68), []byte{0xaa, 0xaa, 3, 0, 0, 0xf8, 0x86, 0xdd}, t6), capture.KindOK, 40},
		{"SNAP of a vendor", e, cat(eth(40), []byte{0xaa, 0xaa, 3, 0, 0, 0x0c, 0x20, 0}, u4), capture.IgnoredLLC, none},
		{"SNAP cut", e, cat(eth(40), snap), capture.MalformedLink, none},
		{"IP in LLC", e, cat(eth(35), []byte{6, 6, 3}, u4), capture.KindOK, 20},
		{"MPLS", e, cat(eth(0x8847), []byte{0, 1, 1, 64}, u4), capture.KindOK, 20},
		{"MPLS, two labels, IPv6", e, cat(eth(0x8848), []byte{0, 1, 0, 64, 0, 2, 1, 64}, t6), capture.KindOK, 40},
		{"MPLS, Ethernet pseudowire", e, cat(eth(0x8847), []byte{0, 1, 1, 64}, make([]byte, 4), eth(0x800), u4), capture.KindOK, 20},
		{"MPLS, something else", e, cat(eth(0x8847), []byte{0, 1, 1, 64}, []byte{0x10, 0, 0, 0x39}, make([]byte, 20)), capture.IgnoredMPLS, none},
		{"MPLS without end", e, cat(eth(0x8847), make([]byte, 200)), capture.MalformedTags, none},
		{"PPPoE", e, cat(eth(0x8864), []byte{0x11, 0, 0, 1, 0, 34, 0, 0x21}, u4), capture.KindOK, 20},
		{"PPPoE, IPv6, short protocol", e, cat(eth(0x8864), []byte{0x11, 0, 0, 1, 0, 61, 0x57}, t6), capture.KindOK, 40},
		{"PPPoE, LCP", e, cat(eth(0x8864), []byte{0x11, 0, 0, 1, 0, 10, 0xc0, 0x21}, make([]byte, 8)), capture.IgnoredPPP, none},
		{"PPPoE discovery", e, cat(eth(0x8863), []byte{0x11, 9, 0, 0, 0, 0}), capture.IgnoredPPP, none},
		{"group tag", e, cat(eth(0x8909), []byte{1, 1, 0, 1, 0, 2, 8, 0}, u4), capture.KindOK, 20},
		{"E-tag, then VLAN", e, cat(eth(0x893f), make([]byte, 6), []byte{0x81, 0}, tag(0x800), u4), capture.KindOK, 20},
		{"VN-tag", e, cat(eth(0x8926), make([]byte, 4), []byte{8, 0}, u4), capture.KindOK, 20},
		{"provider backbone bridge", e, cat(eth(0x88a8), tag(0x88e7), make([]byte, 4), eth(0x800), u4), capture.KindOK, 20},
		{"Arista's time, 64 bits", e, cat(eth(0xd28b), []byte{0, 1, 0, 0x10}, make([]byte, 8), []byte{8, 0}, u4), capture.KindOK, 20},
		{"Arista's time, 48 bits", e, cat(eth(0xd28b), []byte{0, 1, 0, 0x21}, make([]byte, 6), []byte{8, 0}, u4), capture.KindOK, 20},
		{"NSH, IPv4", e, cat(eth(0x894f), nsh(1), u4), capture.KindOK, 20},
		{"NSH, Ethernet", e, cat(eth(0x894f), nsh(3), eth(0x86dd), t6), capture.KindOK, 40},
		{"NSH, unknown", e, cat(eth(0x894f), nsh(9), u4), capture.IgnoredNSH, none},
		{"MACsec", e, cat(eth(0x88e5), u4), capture.IgnoredMACsec, none},
		{"LLDP", e, cat(eth(0x88cc), u4), capture.IgnoredLLDP, none},
		{"layers without end", e, cat(eth(0x6558), bytes.Repeat(eth(0x6558), 20)), capture.MalformedTags, none},
		{"PPP", 9, cat([]byte{0xff, 3, 0, 0x21}, u4), capture.KindOK, 20},
		{"PPP without address", 9, cat([]byte{0, 0x57}, t6), capture.KindOK, 40},
		{"PPP, compressed header", 9, cat([]byte{0xff, 3, 0, 0x2d}, u4), capture.IgnoredPPP, none},
		{"FDDI", 10, cat([]byte{0x50}, make([]byte, 12), snap, []byte{8, 0}, u4), capture.KindOK, 20},
		{"FDDI's own", 10, cat([]byte{0x41}, make([]byte, 40)), capture.IgnoredLLC, none},
		{"Cisco HDLC", 104, cat([]byte{0x0f, 0, 8, 0}, u4), capture.KindOK, 20},
		{"Frame Relay", 107, cat([]byte{0x18, 0x41, 3, 0xcc}, u4), capture.KindOK, 20},
		{"NFLOG", 239, cat([]byte{2, 0, 0, 0, 6, 0, 10, 0, 'a', 'b', 0, 0, byte(4 + len(u4)), 0, 9, 0}, u4), capture.KindOK, 20},
		{"NFLOG, big endian", 239, cat([]byte{10, 0, 0, 0, 0, byte(4 + len(t6)), 0, 9}, t6), capture.KindOK, 40},
		{"NFLOG without packet", 239, []byte{2, 0, 0, 0, 4, 0, 10, 0}, capture.IgnoredNotIP, none},
		{"IP over InfiniBand", 242, cat(make([]byte, 40), []byte{8, 0, 0, 0}, u4), capture.KindOK, 20},
		{"pppd", 166, cat([]byte{1, 3, 0, 0x21}, u4), capture.KindOK, 20},
		{"MPLS as link", 219, cat([]byte{0, 1, 1, 64}, u4), capture.KindOK, 20},
		{"pflog", 117, cat([]byte{61}, make([]byte, 63), u4), capture.KindOK, 20},
		{"ethertype 0", e, cat(eth(0), u4), capture.IgnoredLLC, none},
		{"version contradicts ethertype", e, cat(eth(0x800), t6), capture.MalformedIPVersion, none},
		{"version 5", raw, append([]byte{0x55}, u4[1:]...), capture.MalformedIPVersion, none},
		{"options", raw, ipv4(17, 40, 0, udp(0)), capture.KindOK, 60},
		{"IHL below 20", raw, append([]byte{0x44}, u4[1:]...), capture.MalformedIPv4Header, none},
		{"IHL beyond the packet", raw, append([]byte{0x4f}, u4[1:]...), capture.MalformedIPv4Header, none},
		{"total length below IHL", raw, cat(u4[:2], []byte{0, 19}, u4[4:]), capture.MalformedIPv4Length, none},
		{"total length cuts UDP", raw, cat(u4[:2], []byte{0, 27}, u4[4:]), capture.MalformedUDP, none},
		{"total length 0", raw, cat(u4[:2], []byte{0, 0}, u4[4:]), capture.KindOK, 20},
		{"don't fragment", raw, ipv4(17, 0, 0x4000, udp(0)), capture.KindOK, 20},
		{"first fragment", raw, ipv4(17, 0, 0x2000, udp(8)), capture.KindOK, 20},
		{"later fragment", raw, ipv4(17, 0, 0x2001, udp(8)), capture.KindOK, 0},
		{"last fragment of 1 byte", raw, ipv4(6, 0, 5, []byte{1}), capture.KindOK, 0},
		{"later fragment of ICMP", raw, ipv4(1, 0, 5, []byte{1}), capture.IgnoredICMP, none},
		{"TCP header cut", raw, ipv4(6, 0, 0, tcp(0)[:19]), capture.MalformedTCP, none},
		{"UDP header cut", raw, ipv4(17, 0, 0, udp(0)[:7]), capture.MalformedUDP, none},
		{"ICMP", raw, ipv4(1, 0, 0, udp(0)), capture.IgnoredICMP, none},
		{"IGMP", raw, ipv4(2, 0, 0, udp(0)), capture.IgnoredIGMP, none},
		{"GRE", raw, ipv4(47, 0, 0, udp(0)), capture.IgnoredGRE, none},
		{"ESP", raw, ipv6(50, udp(0)), capture.IgnoredESP, none},
		{"SCTP", raw, ipv4(132, 0, 0, udp(0)), capture.IgnoredSCTP, none},
		{"OSPF", raw, ipv4(89, 0, 0, udp(0)), capture.IgnoredOSPF, none},
		{"IP in IP", raw, ipv4(4, 0, 0, u4), capture.IgnoredIPIP, none},
		{"Ethernet in IP", raw, ipv4(97, 0, 0, cat([]byte{0x30, 0}, eth(0x800), u4)), capture.IgnoredEtherIP, none},
		{"VRRP", raw, ipv4(112, 0, 0, udp(0)), capture.IgnoredTransport, none},
		{"authentication header, IPv4", raw, ipv4(51, 0, 0, cat(ext(17, 1)[:12], udp(0))), capture.KindOK, 32},
		{"authentication header, IPv4, cut", raw, ipv4(51, 0, 0, ext(17, 9)[:12]), capture.MalformedIPv4Header, none},
		{"ICMPv6", raw, ipv6(58, udp(0)), capture.IgnoredICMPv6, none},
		{"no next header", raw, ipv6(59, nil), capture.IgnoredTransport, none},
		{"hop-by-hop, destination, routing", raw, ipv6(0, cat(ext(60, 0), ext(43, 1), ext(6, 2), tcp(0))), capture.KindOK, 40 + 8 + 16 + 24},
		{"authentication header", raw, ipv6(51, cat(ext(17, 1)[:12], udp(0))), capture.KindOK, 52},
		{"extension beyond the packet", raw, ipv6(60, ext(17, 3)[:16]), capture.MalformedIPv6Extension, none},
		{"extension cut", raw, ipv6(60, []byte{17, 0, 0, 0}), capture.MalformedIPv6Extension, none},
		{"50 extensions", raw, ipv6(60, cat(bytes.Repeat(ext(60, 0), 49), ext(17, 0), udp(0))), capture.KindOK, 40 + 50*8},
		{"too many extensions", raw, ipv6(60, bytes.Repeat(ext(60, 0), 400)), capture.MalformedIPv6Extensions, none},
		{"IPv6 first fragment", raw, ipv6(44, cat(frag6(17, 0, true, 9), udp(8))), capture.KindOK, 48},
		{"IPv6 later fragment", raw, ipv6(44, cat(frag6(17, 16, true, 9), udp(8))), capture.KindOK, 0},
		{"IPv6 atomic fragment", raw, ipv6(44, cat(frag6(17, 0, false, 9), udp(8))), capture.KindOK, 48},
		{"IPv6 header cut", raw, t6[:39], capture.MalformedIPv6Header, none},
		{"IPv6 payload length cuts TCP", raw, cat(t6[:4], []byte{0, 19}, t6[6:]), capture.MalformedTCP, none},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var p capture.Packet
			frames := [][]byte{tc.data}
			if tc.want == capture.KindOK && tc.name != "total length 0" {
				// Trailers of the link layer must not enter.
				frames = append(frames, cat(tc.data, make([]byte, 9)))
			}
			for _, data := range frames {
				got := capture.Decode(&capture.Frame{Data: data, Time: 5, Link: tc.link, Length: len(data)}, &p)
				if got != tc.want {
					t.Fatalf("%s, want %s", got, tc.want)
				}
				if got != capture.KindOK {
					continue
				}
				checkPacket(t, data, &p)
				if p.L4 != tc.l4 || p.Time != 5 || len(p.IP) != p.Length {
					t.Errorf("transport header at %d, want %d; %d bytes, length %d", p.L4, tc.l4, len(p.IP), p.Length)
				}
				if p.L4 > 0 && p.SrcPort != 0x1234 || p.L4 == 0 && (p.SrcPort != 0 || p.DstPort != 0) {
					t.Errorf("ports %d, %d", p.SrcPort, p.DstPort)
				}
			}
			// Cut anywhere, a frame is still told apart or still good.
			for n := range tc.data {
				if k := capture.Decode(&capture.Frame{Data: tc.data[:n:n], Link: tc.link, Length: len(tc.data)}, &p); k == capture.KindOK {
					checkPacket(t, tc.data[:n], &p)
				}
			}
		})
	}
}

// checkPacket checks what every user of a good packet relies on.
func checkPacket(t testing.TB, data []byte, p *capture.Packet) {
	t.Helper()
	size := 20
	if p.V6 {
		size = 40
	}
	switch {
	case len(p.IP) < size || len(p.IP) > p.Length || len(p.IP) > len(data):
		t.Fatalf("%d IP bytes of a frame of %d, IP length %d", len(p.IP), len(data), p.Length)
	case p.L4 != 0 && (p.L4 < size || p.L4+4 > len(p.IP) || p.L4+8 > len(p.IP) && len(p.IP) == p.Length && !p.Fragment):
		t.Fatalf("transport header at %d of %d", p.L4, len(p.IP))
	case p.L4 == 0 && !p.Later():
		t.Fatal("no transport header, but not a later fragment")
	case p.L4 != 0 && p.Proto != capture.ProtoTCP && p.Proto != capture.ProtoUDP:
		t.Fatalf("protocol %d", p.Proto)
	case p.Fragment && (int(p.FragAt) < size || int(p.FragAt) > len(p.IP) || p.FragOffset%8 != 0 || p.Later() != (p.FragOffset != 0)):
		t.Fatalf("fragment at %d of %d, offset %d", p.FragAt, len(p.IP), p.FragOffset)
	case len(p.Src()) != len(p.Dst()):
		t.Fatal("addresses")
	}
}

func TestKindsHaveNamesAndClasses(t *testing.T) {
	seen := map[string]bool{}
	for k := range capture.NumKinds {
		name := k.String()
		if name == "" || seen[name] {
			t.Errorf("kind %d: name %q", k, name)
		}
		seen[name] = true
		classes := 0
		for _, in := range []bool{k == capture.KindOK, k.Ignored(), k.Refused(), k.Malformed()} {
			if in {
				classes++
			}
		}
		if classes != 1 {
			t.Errorf("%s is in %d classes", name, classes)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, link := range []capture.LinkType{0, 1, 9, 10, 12, 14, 101, 104, 107, 108, 113, 117, 166, 219, 228, 229, 239, 242, 276, 105} {
		f.Add(uint16(link), cat(eth(0x8100), tag(0x800), ipv4(6, 4, 0, tcp(1))))
		f.Add(uint16(link), ipv6(0, cat(ext(44, 0), frag6(17, 0, true, 3), udp(3))))
	}
	f.Fuzz(func(t *testing.T, link uint16, data []byte) {
		var p capture.Packet
		if capture.Decode(&capture.Frame{Data: data[:len(data):len(data)], Link: capture.LinkType(link), Length: len(data)}, &p) == capture.KindOK {
			checkPacket(t, data, &p)
		}
	})
}

// The addresses are those of the Ethernet header right around the packet: not of one around a tunnel, and none where there is none.
func TestMAC(t *testing.T) {
	u := ipv4(17, 0, 0, udp(4))
	outer := eth(0x0800)
	inner := append([]byte{9, 9, 9, 9, 9, 9, 8, 8, 8, 8, 8, 8}, 8, 0)
	vxlan := udp(8 + len(inner) + len(u))
	binary.BigEndian.PutUint16(vxlan[2:], 4789)
	vxlan = append(vxlan[:8], append([]byte{8, 0, 0, 0, 0, 0, 1, 0}, append(inner, u...)...)...)
	gre := append([]byte{0, 0, 8, 0}, u...)
	for _, tc := range []struct {
		name    string
		link    capture.LinkType
		data    []byte
		tunnels bool
		want    string
	}{
		{"Ethernet", capture.LinkEthernet, cat(outer, u), false, string(outer[:12])},
		{"tag", capture.LinkEthernet, cat(eth(0x8100), tag(0x0800), u), false, string(outer[:12])},
		{"raw", capture.LinkRaw, u, false, string(make([]byte, 12))},
		{"VXLAN", capture.LinkEthernet, cat(outer, ipv4(17, 0, 0, vxlan)), true, string(inner[:12])},
		{"VXLAN, closed", capture.LinkEthernet, cat(outer, ipv4(17, 0, 0, vxlan)), false, string(outer[:12])},
		{"GRE", capture.LinkEthernet, cat(outer, ipv4(47, 0, 0, gre)), true, string(make([]byte, 12))},
	} {
		p := capture.Packet{MAC: [12]byte{7}} // of the packet before
		f := capture.Frame{Data: tc.data, Length: len(tc.data), Link: tc.link}
		if kind := capture.Decoder(tc.tunnels)(&f, &p); kind != capture.KindOK || string(p.MAC[:]) != tc.want {
			t.Errorf("%s: %s, % x, want % x", tc.name, kind, p.MAC, tc.want)
		}
	}
}

// What stands between Ethernet and IP, but for one tag, is counted: the system takes such a packet for no IP.
func TestShims(t *testing.T) {
	u4 := ipv4(17, 0, 0, udp(4))
	for _, tc := range []struct {
		name string
		vlan uint16 // of a tag that the network card took off
		data []byte
		want uint8
	}{
		{"plain", 0, cat(eth(0x800), u4), 0},
		{"VLAN", 0, cat(eth(0x8100), tag(0x800), u4), 0},
		{"provider's VLAN", 0, cat(eth(0x88a8), tag(0x800), u4), 0},
		{"VLAN, taken off", 7, cat(eth(0x800), u4), 0},
		{"QinQ", 0, cat(eth(0x88a8), tag(0x8100), tag(0x800), u4), 1},
		{"QinQ, one taken off", 7, cat(eth(0x8100), tag(0x800), u4), 1},
		{"an old tag", 0, cat(eth(0x9100), tag(0x800), u4), 1},
		{"three tags", 0, cat(eth(0x8100), tag(0x8100), tag(0x8100), tag(0x800), u4), 2},
		{"MPLS", 0, cat(eth(0x8847), []byte{0, 1, 1, 64}, u4), 1},
		{"MPLS in a VLAN", 0, cat(eth(0x8100), tag(0x8847), []byte{0, 1, 1, 64}, u4), 1},
		{"PPPoE", 0, cat(eth(0x8864), []byte{0x11, 0, 0, 1, 0, 34, 0, 0x21}, u4), 1},
		{"SNAP", 0, cat(eth(40), []byte{0xaa, 0xaa, 3, 0, 0, 0, 8, 0}, u4), 1},
	} {
		p := capture.Packet{Shims: 9}
		if kind := capture.Decode(&capture.Frame{Link: capture.LinkEthernet, Data: tc.data, Length: len(tc.data), VLAN: tc.vlan}, &p); kind != capture.KindOK || p.Shims != tc.want {
			t.Errorf("%s: %v, %d shims, want %d", tc.name, kind, p.Shims, tc.want)
		}
	}
}
