package capture

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"slices"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// random is the same in every run: one packet in 65,536 has a checksum that looks as if left to the card.
var random = rand.New(rand.NewPCG(1, 1))

// build makes a frame with right lengths and checksums by another library.
func build(t *testing.T, v6, udp bool, payload int, trailer int) []byte {
	t.Helper()
	eth := &layers.Ethernet{SrcMAC: make(net.HardwareAddr, 6), DstMAC: make(net.HardwareAddr, 6), EthernetType: layers.EthernetTypeIPv4}
	var network gopacket.SerializableLayer
	var sum gopacket.NetworkLayer
	proto := layers.IPProtocolTCP
	if udp {
		proto = layers.IPProtocolUDP
	}
	if v6 {
		eth.EthernetType = layers.EthernetTypeIPv6
		ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto, SrcIP: net.ParseIP("2001:db8::1"), DstIP: net.ParseIP("2001:db8::2")}
		network, sum = ip, ip
	} else {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: net.IP{10, 1, 2, 3}, DstIP: net.IP{10, 200, 7, 255}}
		network, sum = ip, ip
	}
	var transport gopacket.SerializableLayer
	if udp {
		l := &layers.UDP{SrcPort: 4000, DstPort: 53}
		l.SetNetworkLayerForChecksum(sum)
		transport = l
	} else {
		l := &layers.TCP{SrcPort: 4000, DstPort: 80, Seq: 7, Ack: 9, ACK: true, Window: 1000}
		l.SetNetworkLayerForChecksum(sum)
		transport = l
	}
	data := make([]byte, payload)
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, network, transport, gopacket.Payload(data))
	if err != nil {
		t.Fatal(err)
	}
	return append(buf.Bytes(), make([]byte, trailer)...)
}

func verified(t *testing.T, frame []byte, trust Trust) Faults {
	t.Helper()
	var p Packet
	f := Frame{Data: frame, Length: len(frame), Link: LinkEthernet}
	if kind := Decode(&f, &p); kind != KindOK {
		t.Fatalf("decoded as %v", kind)
	}
	p.Verify(f.Length, trust)
	return p.Faults
}

// What another library computes is right, at every length; a bit that flips
// anywhere behind the ports is not.
func TestVerifyChecksums(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, udp := range []bool{false, true} {
			for payload := range 130 {
				frame := build(t, v6, udp, payload, payload%7)
				for _, trust := range []Trust{TrustForm, TrustWire, TrustChecked} {
					if f := verified(t, frame, trust); f != 0 {
						t.Fatalf("v6 %v udp %v, %d bytes, trust %d: %v", v6, udp, payload, trust, f)
					}
				}
				at := 14 + 20 + 20
				if v6 {
					at += 20
				}
				if udp {
					at -= 12
				}
				if payload == 0 {
					continue
				}
				end := at + payload // behind it there may be padding
				at += random.IntN(end - at)
				frame[at] ^= 1 << random.IntN(8)
				if f := verified(t, frame, TrustForm); f != FaultChecksum {
					t.Fatalf("v6 %v udp %v, byte %d of %d changed: %v", v6, udp, at, end, f)
				}
				if f := verified(t, frame, TrustChecked); f != 0 {
					t.Fatalf("a checksum that the system has checked was looked at: %v", f)
				}
			}
		}
	}
}

func TestVerifyFaults(t *testing.T) {
	const ip, tcp = 14, 34
	for _, test := range []struct {
		name      string
		udp, v6   bool
		payload   int
		change    func(b []byte) []byte
		file, net Faults // of a file, and of the wire
	}{
		{"IPv4 header checksum", false, false, 10, func(b []byte) []byte { b[ip+10] ^= 4; return b }, FaultIPChecksum, FaultIPChecksum},
		{"IPv4 header checksum left to the card", false, false, 10, func(b []byte) []byte { b[ip+10], b[ip+11] = 0, 0; return b }, FaultForm, FaultIPChecksum},
		{"TCP checksum left to the card: the pseudo header's", false, false, 10, func(b []byte) []byte {
			sum := uint64(6) + 30
			for i := 12; i < 20; i += 2 {
				sum += uint64(binary.BigEndian.Uint16(b[ip+i:]))
			}
			binary.BigEndian.PutUint16(b[tcp+16:], fold(sum))
			return b
		}, FaultForm, FaultChecksum},
		{"data offset below the header's size", false, false, 10, func(b []byte) []byte { b[tcp+12] = 4 << 4; return b }, FaultLength, FaultLength},
		{"data offset beyond the packet", false, false, 10, func(b []byte) []byte { b[tcp+12] = 15 << 4; return b }, FaultLength, FaultLength},
		{"UDP length below its header's", true, false, 10, func(b []byte) []byte { b[tcp+5] = 3; return b }, FaultLength, FaultLength},
		{"UDP length beyond the packet", true, false, 10, func(b []byte) []byte { b[tcp+5] = 30; return b }, FaultLength, FaultLength},
		{"UDP without a checksum", true, false, 10, func(b []byte) []byte { b[tcp+6], b[tcp+7] = 0, 0; return b }, 0, 0},
		{"UDP over IPv6 without a checksum", true, true, 10, func(b []byte) []byte { b[ip+40+6], b[ip+40+7] = 0, 0; return b }, 0, FaultChecksum},
		{"total length 0 in a short frame", false, false, 40, func(b []byte) []byte { b[ip+2], b[ip+3] = 0, 0; return b }, FaultNoLength | FaultLength, FaultNoLength | FaultLength},
		{"total length 0 in a long frame", false, false, 3000, func(b []byte) []byte { b[ip+2], b[ip+3] = 0, 0; return b }, FaultNoLength, FaultNoLength},
		{"payload length 0 over IPv6", false, true, 40, func(b []byte) []byte { b[ip+4], b[ip+5] = 0, 0; return b }, FaultNoLength, FaultNoLength | FaultLength},
		{"cut by the capture", false, false, 40, func(b []byte) []byte { return b[:60] }, FaultCut, FaultCut},
	} {
		t.Run(test.name, func(t *testing.T) {
			frame := test.change(build(t, test.v6, test.udp, test.payload, 0))
			if f := verified(t, frame, TrustForm); f != test.file {
				t.Errorf("in a file: %q, want %q", f, test.file)
			}
			if f := verified(t, frame, TrustWire); f != test.net {
				t.Errorf("on the wire: %q, want %q", f, test.net)
			}
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	frame := build(&testing.T{}, false, false, 1400, 0)
	var p Packet
	f := Frame{Data: frame, Length: len(frame), Link: LinkEthernet}
	for b.Loop() {
		Decode(&f, &p)
		p.Verify(f.Length, TrustForm)
	}
}

// What stands between IP and TCP may be such that a host drops the packet.
func TestVerifyOptions(t *testing.T) {
	v4 := func(options ...byte) []byte {
		b := build(t, false, false, 10, 0)
		b = slices.Concat(b[:34], options, b[34:])
		ip := b[14:]
		ip[0] = 0x40 | byte(5+len(options)/4)
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		ip[10], ip[11] = 0, 0
		binary.BigEndian.PutUint16(ip[10:], ^HeaderSum(ip[:20+len(options)]))
		return b
	}
	v6 := func(first byte, headers ...byte) []byte {
		b := build(t, true, false, 10, 0)
		b = slices.Concat(b[:54], headers, b[54:])
		b[14+6] = first
		binary.BigEndian.PutUint16(b[18:], uint16(len(b)-54))
		return b
	}
	for _, test := range []struct {
		name  string
		frame []byte
		taken bool
	}{
		{"none", build(t, false, false, 10, 0), true},
		{"no-operations", v4(1, 1, 1, 0), true},
		{"router alert", v4(148, 4, 0, 0), true},
		{"record route", v4(7, 7, 4, 0, 0, 0, 0, 0), true},
		{"loose source route", v4(131, 7, 4, 10, 0, 0, 1, 0), false},
		{"strict source route", v4(1, 137, 7, 4, 10, 0, 0, 1), false},
		{"longer than the header", v4(7, 40, 4, 0), false},
		{"shorter than itself", v4(7, 1, 4, 0), false},
		{"without its length", v4(1, 1, 1, 7), false},
		{"destination options", v6(60, 6, 0, 1, 4, 0, 0, 0, 0), true},
		{"home address", v6(60, 6, 2, 201, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0), true},
		{"a destination option to skip", v6(60, 6, 0, 0x1e, 4, 0, 0, 0, 0), true},
		{"a destination option to drop for", v6(60, 6, 0, 0x7e, 4, 0, 0, 0, 0), false},
		{"one beyond its header", v6(60, 6, 0, 0x1e, 5, 0, 0, 0, 0), false},
		{"hop-by-hop options", v6(0, 6, 0, 5, 2, 0, 0, 1, 0), true},
		{"hop-by-hop options behind others", v6(60, 0, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0), false},
		{"a route of type 0 at its end", v6(43, 6, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), true},
		{"a route of type 0", v6(43, 6, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), false},
		{"a route of segments", v6(43, 6, 2, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), true},
		{"an atomic fragment", v6(44, 6, 0, 0, 0, 0, 0, 0, 9), true},
	} {
		if got := verified(t, test.frame, TrustWire)&FaultOptions == 0; got != test.taken {
			t.Errorf("%s: taken %v", test.name, got)
		}
	}
}
