package capture_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"nepcoc/runtime/capture"
)

// ipv4 is a packet around a payload.
func wrap4(proto byte, fragment uint16, payload ...[]byte) []byte {
	b := make([]byte, 20)
	b[0], b[8], b[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(b[6:], fragment)
	b = append(b, bytes.Join(payload, nil)...)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	return b
}

func wrap6(next byte, payload []byte) []byte {
	b := make([]byte, 40)
	b[0], b[6] = 0x60, next
	binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
	return append(b, payload...)
}

func udpTo(port uint16, payload ...[]byte) []byte {
	p := bytes.Join(payload, nil)
	b := make([]byte, 8)
	binary.BigEndian.PutUint16(b, 1000)
	binary.BigEndian.PutUint16(b[2:], port)
	binary.BigEndian.PutUint16(b[4:], uint16(8+len(p)))
	return append(b, p...)
}

func wrapEther(typ uint16, payload []byte) []byte {
	return append(binary.BigEndian.AppendUint16(make([]byte, 12), typ), payload...)
}

func TestTunnels(t *testing.T) {
	inner4 := wrap4(17, 0, udpTo(53, []byte("question")))
	inner6 := wrap6(17, udpTo(53, []byte("question")))
	vni := []byte{8, 0, 0, 0, 0, 0, 7, 0}
	vxlan := func(frame []byte) []byte { return wrap4(17, 0, udpTo(4789, vni, frame)) }
	for _, tc := range []struct {
		name   string
		packet []byte
		kind   capture.Kind
		port   uint16 // destination port of what was read
		ip     []byte // nil: the outer packet
	}{
		{"no tunnel", inner4, capture.KindOK, 53, nil},
		{"VXLAN, IPv4", vxlan(wrapEther(0x0800, inner4)), capture.KindOK, 53, inner4},
		{"VXLAN, IPv6", vxlan(wrapEther(0x86dd, inner6)), capture.KindOK, 53, inner6},
		{"VXLAN, tagged", vxlan(wrapEther(0x8100, append([]byte{0, 5, 8, 0}, inner4...))), capture.KindOK, 53, inner4},
		{"VXLAN, ARP", vxlan(wrapEther(0x0806, make([]byte, 28))), capture.KindOK, 4789, nil},
		{"VXLAN without an id", wrap4(17, 0, udpTo(4789, make([]byte, 8), wrapEther(0x0800, inner4))), capture.KindOK, 4789, nil},
		{"VXLAN, cut", wrap4(17, 0, udpTo(4789, vni[:5])), capture.KindOK, 4789, nil},
		{"VXLAN, malformed", vxlan(wrapEther(0x0800, inner4[:19])), capture.MalformedIPv4Header, 0, nil},
		{"VXLAN, fragment", wrap4(17, 0x2000, udpTo(4789, vni, wrapEther(0x0800, inner4))), capture.KindOK, 4789, nil},
		{"GRE, IPv4", wrap4(47, 0, []byte{0, 0, 8, 0}, inner4), capture.KindOK, 53, inner4},
		{"GRE, IPv6, checksum, key and sequence", wrap4(47, 0, []byte{0xb0, 0, 0x86, 0xdd}, make([]byte, 12), inner6), capture.KindOK, 53, inner6},
		{"GRE, Ethernet", wrap6(47, append([]byte{0, 0, 0x65, 0x58}, wrapEther(0x0800, inner4)...)), capture.KindOK, 53, inner4},
		{"GRE version 1", wrap4(47, 0, []byte{0x20, 1, 0x88, 0x0b}, make([]byte, 8)), capture.IgnoredGRE, 0, nil},
		{"GRE, cut", wrap4(47, 0, []byte{0x20, 0, 8}), capture.IgnoredGRE, 0, nil},
		{"GRE, ICMP inside", wrap4(47, 0, []byte{0, 0, 8, 0}, wrap4(1, 0, make([]byte, 8))), capture.IgnoredICMP, 0, nil},
		{"IP in IP", wrap4(4, 0, inner4), capture.KindOK, 53, inner4},
		{"6in4", wrap4(41, 0, inner6), capture.KindOK, 53, inner6},
		{"VXLAN in GRE", wrap4(47, 0, []byte{0, 0, 8, 0}, vxlan(wrapEther(0x0800, inner4))), capture.KindOK, 53, inner4},
		{"a later fragment of GRE", wrap4(47, 0x0010, make([]byte, 40)), capture.IgnoredGRE, 0, nil},
		{"VXLAN, old port", wrap4(17, 0, udpTo(8472, vni, wrapEther(0x0800, inner4))), capture.KindOK, 53, inner4},
		{"VXLAN-GPE, IPv6", wrap4(17, 0, udpTo(4790, []byte{0x0c, 0, 0, 2, 0, 0, 7, 0}, inner6)), capture.KindOK, 53, inner6},
		{"VXLAN-GPE, NSH", wrap4(17, 0, udpTo(4790, []byte{0x0c, 0, 0, 4, 0, 0, 7, 0}, []byte{0, 0x42, 2, 1, 0, 0, 1, 255}, inner4)), capture.KindOK, 53, inner4},
		{"GENEVE with options", wrap4(17, 0, udpTo(6081, []byte{2, 0, 0x65, 0x58, 0, 0, 7, 0}, make([]byte, 8), wrapEther(0x0800, inner4))), capture.KindOK, 53, inner4},
		{"GENEVE, options beyond the packet", wrap4(17, 0, udpTo(6081, []byte{63, 0, 0x65, 0x58, 0, 0, 7, 0}, wrapEther(0x0800, inner4))), capture.KindOK, 6081, nil},
		{"GTP-U", wrap4(17, 0, udpTo(2152, []byte{0x30, 0xff, 0, 36, 0, 0, 0, 9}, inner4)), capture.KindOK, 53, inner4},
		{"GTP-U, extension header", wrap4(17, 0, udpTo(2152, []byte{0x34, 0xff, 0, 44, 0, 0, 0, 9, 0, 0, 0, 0x85, 1, 0, 0, 0}, inner6)), capture.KindOK, 53, inner6},
		{"GTP-U, echo", wrap4(17, 0, udpTo(2152, []byte{0x32, 1, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0})), capture.KindOK, 2152, nil},
		{"GTP-U, extension without length", wrap4(17, 0, udpTo(2152, []byte{0x34, 0xff, 0, 44, 0, 0, 0, 9, 0, 0, 0, 0x85, 0, 0, 0, 0}, inner6)), capture.KindOK, 2152, nil},
		{"ERSPAN I", wrap4(47, 0, []byte{0, 0, 0x88, 0xbe}, wrapEther(0x0800, inner4)), capture.KindOK, 53, inner4},
		{"ERSPAN II", wrap4(47, 0, []byte{0x10, 0, 0x88, 0xbe, 0, 0, 0, 1}, []byte{0x10, 0, 0, 7, 0, 0, 0, 0}, wrapEther(0x0800, inner4)), capture.KindOK, 53, inner4},
		{"ERSPAN III", wrap4(47, 0, []byte{0x10, 0, 0x22, 0xeb, 0, 0, 0, 1}, []byte{0x20, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0}, wrapEther(0x0800, inner4)), capture.KindOK, 53, inner4},
		{"ERSPAN III with a platform's part", wrap4(47, 0, []byte{0x10, 0, 0x22, 0xeb, 0, 0, 0, 1}, []byte{0x20, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1}, make([]byte, 8), wrapEther(0x0800, inner4)), capture.KindOK, 53, inner4},
		{"GRE, MPLS", wrap4(47, 0, []byte{0, 0, 0x88, 0x47}, []byte{0, 1, 1, 64}, inner4), capture.KindOK, 53, inner4},
		{"PPTP", wrap4(47, 0, []byte{0x30, 0x81, 0x88, 0x0b, 0, 44, 0, 9, 0, 0, 0, 1, 0, 0, 0, 1}, []byte{0xff, 3, 0, 0x21}, inner4), capture.KindOK, 53, inner4},
		{"Teredo", wrap4(17, 0, udpTo(3544, inner6)), capture.KindOK, 53, inner6},
		{"Teredo, authentication and origin", wrap4(17, 0, udpTo(3544, []byte{0, 1, 0, 0}, make([]byte, 9), make([]byte, 8), inner6)), capture.KindOK, 53, inner6},
		{"Teredo's port, no Teredo", wrap4(17, 0, udpTo(3544, []byte("question"))), capture.KindOK, 3544, nil},
		{"MPLS in UDP", wrap4(17, 0, udpTo(6635, []byte{0, 1, 1, 64}, inner4)), capture.KindOK, 53, inner4},
		{"GRE in UDP", wrap4(17, 0, udpTo(4754, []byte{0, 0, 8, 0}, inner4)), capture.KindOK, 53, inner4},
		{"Ethernet in IP", wrap4(97, 0, []byte{0x30, 0}, wrapEther(0x0800, inner4)), capture.KindOK, 53, inner4},
		{"MPLS in IP", wrap4(137, 0, []byte{0, 1, 1, 64}, inner4), capture.KindOK, 53, inner4},
		{"IPv4 in IPv6", wrap6(4, inner4), capture.KindOK, 53, inner4},
	} {
		f := capture.Frame{Data: tc.packet, Link: capture.LinkRaw, Time: 42}
		var p capture.Packet
		if kind := capture.DecodeInner(&f, &p); kind != tc.kind {
			t.Errorf("%s: %v, want %v", tc.name, kind, tc.kind)
			continue
		}
		if tc.kind != capture.KindOK {
			continue
		}
		want := tc.ip
		if want == nil {
			want = tc.packet
		}
		if p.DstPort != tc.port || !bytes.Equal(p.IP, want) || p.Time != 42 {
			t.Errorf("%s: port %d, %d bytes at %d; want port %d, %d bytes", tc.name, p.DstPort, len(p.IP), p.Time, tc.port, len(want))
		}
	}
	// Tunnels in tunnels end somewhere.
	deep := inner4
	for range 50 {
		deep = wrap4(4, 0, deep)
	}
	var p capture.Packet
	if kind := capture.DecodeInner(&capture.Frame{Data: deep, Link: capture.LinkRaw}, &p); kind != capture.IgnoredIPIP {
		t.Errorf("50 tunnels: %v", kind)
	}
}

func FuzzDecodeInner(f *testing.F) {
	f.Add(wrap4(47, 0, []byte{0, 0, 8, 0}, wrap4(17, 0, udpTo(53))))
	f.Add(wrap4(17, 0, udpTo(4789, []byte{8, 0, 0, 0, 0, 0, 7, 0}, wrapEther(0x0800, wrap4(17, 0, udpTo(53))))))
	inner := wrap4(17, 0, udpTo(53))
	for _, p := range [][]byte{
		udpTo(6081, []byte{2, 0, 0x65, 0x58, 0, 0, 7, 0}, make([]byte, 8), wrapEther(0x0800, inner)),
		udpTo(2152, []byte{0x34, 0xff, 0, 44, 0, 0, 0, 9, 0, 0, 0, 0x85, 1, 0, 0, 0}, inner),
		udpTo(4790, []byte{0x0c, 0, 0, 4, 0, 0, 7, 0}, []byte{0, 0x42, 2, 1, 0, 0, 1, 255}, inner),
		udpTo(3544, []byte{0, 1, 0, 0}, make([]byte, 9), make([]byte, 8), wrap6(17, udpTo(53))),
		udpTo(6635, []byte{0, 1, 1, 64}, inner),
	} {
		f.Add(wrap4(17, 0, p))
	}
	f.Add(wrap4(47, 0, []byte{0x10, 0, 0x22, 0xeb, 0, 0, 0, 1}, []byte{0x20, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1}, make([]byte, 8), wrapEther(0x0800, inner)))
	f.Fuzz(func(t *testing.T, data []byte) {
		var p capture.Packet
		if capture.DecodeInner(&capture.Frame{Data: data, Link: capture.LinkRaw}, &p) == capture.KindOK {
			if len(p.IP) < 20 || len(p.IP) > len(data) || p.L4 > len(p.IP) || len(p.Src()) != len(p.Dst()) {
				t.Errorf("%+v", p)
			}
		}
	})
}
