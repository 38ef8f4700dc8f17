package load

import (
	"encoding/binary"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"nepcoc/internal/testfiles"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// testCapture is a capture of real clients and servers over IPv4, IPv6 and a VLAN.
func testCapture(t testing.TB) string {
	return filepath.Join(testfiles.Root(t), "examples", "testbed", "test.pcap")
}

func script(t testing.TB, src capture.Source) *Script {
	t.Helper()
	s, err := ReadScript(src, Options{Gap: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func testScript(t testing.TB) *Script {
	t.Helper()
	src, err := capture.Open(testCapture(t))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	return script(t, src)
}

// Addresses say which instance they are of, in both directions; nobody else's do.
func TestInstance(t *testing.T) {
	seen := map[netip.Addr]map[netip.Addr]bool{}
	for i := range uint32(1 << 14) {
		n := i * 0x3ffff
		for _, v6 := range []bool{false, true} {
			a, b := Addresses(n, v6)
			if seen[a][b] {
				t.Fatalf("instance %d has another's addresses", n)
			}
			if seen[a] == nil {
				seen[a] = map[netip.Addr]bool{}
			}
			seen[a][b] = true
			for _, ends := range [][2]netip.Addr{{a, b}, {b, a}} {
				if got, ok := Instance(ends[0], ends[1]); !ok || got != n {
					t.Fatalf("%v: instance %d, %v; want %d", ends, got, ok, n)
				}
			}
		}
	}
	for _, ends := range [][2]string{{"10.0.0.1", "10.0.0.2"}, {"198.18.0.1", "198.18.0.2"}, {"198.18.0.1", "2001:2:0:b::1"}, {"2001:2:0:a::1", "2001:2:0:c::1"}} {
		if n, ok := Instance(netip.MustParseAddr(ends[0]), netip.MustParseAddr(ends[1])); ok {
			t.Errorf("%v: instance %d", ends, n)
		}
	}
}

// Of real traffic only addresses and checksums change, the latter to what they must be: a receiver takes what it took before.
func TestReaddress(t *testing.T) {
	s := testScript(t)
	if len(s.Left) != 0 {
		t.Errorf("left out: %v", s.Left)
	}
	packets, v6, tagged, back := 0, 0, 0, 0
	var b []byte
	for i := range s.Flows {
		f := &s.Flows[i]
		for k := range f.packets {
			r := &f.packets[k]
			n := uint32(i)*977 + 5
			b = r.frame(b, n)
			var p, before capture.Packet
			if kind := capture.Decode(&capture.Frame{Data: b, Length: len(b), Link: capture.LinkEthernet}, &p); kind != capture.KindOK {
				t.Fatalf("flow %d: %v", i, kind)
			}
			capture.Decode(&capture.Frame{Data: r.data, Length: len(r.data), Link: capture.LinkEthernet}, &before)
			p.Verify(len(b), capture.TrustWire)
			before.Verify(len(r.data), capture.TrustWire)
			if p.Faults != before.Faults {
				t.Fatalf("flow %d, packet %d: %v, was %v", i, k, p.Faults, before.Faults)
			}
			key := flow.KeyOf(&p)
			first, second := Addresses(n, p.V6)
			if r.reverse {
				first, second = second, first
				back++
			}
			if key.SrcAddr().Addr() != first || key.DstAddr().Addr() != second {
				t.Fatalf("flow %d, packet %d: %v, want %v > %v", i, k, key, first, second)
			}
			if !slices.Equal(mask(&p), mask(&before)) || p.VLAN != before.VLAN {
				t.Fatalf("flow %d, packet %d: other bytes than addresses and checksums changed", i, k)
			}
			packets++
			if p.V6 {
				v6++
			}
			if p.VLAN[0] != 0 {
				tagged++
			}
		}
	}
	if packets != 2095 || v6 == 0 || tagged == 0 || back == 0 {
		t.Errorf("%d packets, %d IPv6, %d tagged, %d backwards", packets, v6, tagged, back)
	}
}

// mask is a packet without addresses and checksums.
func mask(p *capture.Packet) []byte {
	b := slices.Clone(p.IP)
	if p.V6 {
		clear(b[8:40])
	} else {
		clear(b[10:20])
	}
	if at := p.L4 + map[uint8]int{capture.ProtoTCP: 16, capture.ProtoUDP: 6}[p.Proto]; len(b) >= at+2 {
		clear(b[at : at+2])
	}
	return b
}

// ip4 and ip6 make packets with right checksums, proto's at field of its header; 0: it has none.
func ip4(src, dst byte, proto uint8, fragment uint16, body []byte, field int) []byte {
	b := append([]byte{0x45, 0, 0, 0, 0, 77, 0, 0, 64, proto, 0, 0, 10, 0, 0, src, 10, 0, 0, dst}, body...)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	binary.BigEndian.PutUint16(b[6:], fragment)
	setHeaderSum(b)
	if field > 0 {
		setSum(b, false, proto, 20, 20+field)
	}
	return b
}

func ip6(src, dst byte, proto uint8, body []byte, field int) []byte {
	b := make([]byte, 40, 40+len(body))
	b[0], b[6], b[7], b[8], b[23], b[24], b[39] = 6<<4, proto, 64, 0xfd, src, 0xfd, dst
	b = append(b, body...)
	binary.BigEndian.PutUint16(b[4:], uint16(len(body)))
	setSum(b, true, proto, 40, 40+field)
	return b
}

func udpBody(src, dst uint16, payload int) []byte {
	b := make([]byte, 8+payload)
	binary.BigEndian.PutUint16(b, src)
	binary.BigEndian.PutUint16(b[2:], dst)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	for i := range b[8:] {
		b[8+i] = byte(i*7 + 1)
	}
	return b
}

func captureOf(packets ...[]byte) *capture.Memory {
	m := new(capture.Memory)
	for i, p := range packets {
		m.Add(&capture.Frame{Data: p, Length: len(p), Time: 1e18 + int64(i)*1e6, Link: capture.LinkRaw})
	}
	return m
}

// sentOf are the IP packets of all flows in an instance, in order.
func sentOf(s *Script, n uint32) (out [][]byte) {
	for i := range s.Flows {
		for k := range s.Flows[i].packets {
			p := &s.Flows[i].packets[k]
			out = append(out, p.frame(nil, n)[p.ip:])
		}
	}
	return out
}

// Errors belong to the flow that they are about, and quote its new addresses; whoever receives them finds their checksums right.
func TestErrors(t *testing.T) {
	query4, query6 := ip4(1, 2, capture.ProtoUDP, 0, udpBody(4000, 53, 30), 6), ip6(1, 2, capture.ProtoUDP, udpBody(4000, 53, 30), 6)
	unreachable := func(q []byte) []byte { return append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, q...) }
	unreachable6 := func(q []byte) []byte { return append([]byte{1, 4, 0, 0, 0, 0, 0, 0}, q...) }
	for _, tc := range []struct {
		name         string
		query, error []byte
		proto        uint8
		header, at   int
	}{
		{"host", query4, ip4(2, 1, 1, 0, unreachable(query4), 2), 1, 20, 28},
		{"router, cut", query4, ip4(9, 1, 1, 0, unreachable(query4[:28]), 2), 1, 20, 28},
		{"IPv6", query6, ip6(2, 1, 58, unreachable6(query6), 2), 58, 40, 48},
	} {
		s := script(t, captureOf(tc.query, tc.error, ip4(7, 8, 1, 0, []byte{8, 0, 0, 0, 0, 1, 0, 1}, 2)))
		if len(s.Flows) != 1 || s.Flows[0].Packets() != 2 || s.Left["ICMP of hosts without flows"] != 1 {
			t.Fatalf("%s: %d flows, left out %v", tc.name, len(s.Flows), s.Left)
		}
		b := sentOf(s, 123456)
		query, e := b[0], b[1]
		v6 := tc.header == 40
		again := slices.Clone(e)
		setSum(again, v6, tc.proto, tc.header, tc.header+2)
		if !v6 {
			setHeaderSum(again)
		}
		if !slices.Equal(again, e) {
			t.Errorf("%s: wrong checksums", tc.name)
		}
		if got := e[tc.at:]; !slices.Equal(got, query[:len(got)]) {
			t.Errorf("%s: quotes\n%x, sent was\n%x", tc.name, got, query)
		}
		if from, to := 12, 16; !v6 && string(e[to:to+4]) != string(query[from:from+4]) {
			t.Errorf("%s: it is for %v, the query from %v", tc.name, e[to:to+4], query[from:from+4])
		}
	}
}

// Fragments go with their first one, whichever comes first; put together they are a datagram whose checksum is right.
func TestFragments(t *testing.T) {
	whole := ip4(1, 2, capture.ProtoUDP, 0, udpBody(4000, 53, 100), 6)[20:]
	one, two := ip4(1, 2, capture.ProtoUDP, 0x2000, whole[:64], 0), ip4(1, 2, capture.ProtoUDP, 64/8, whole[64:], 0)
	lone := ip4(3, 4, capture.ProtoUDP, 64/8, whole[64:], 0)
	for _, order := range [][][]byte{{one, two, lone}, {two, one, lone}} {
		s := script(t, captureOf(order...))
		if len(s.Flows) != 1 || s.Flows[0].Packets() != 2 || s.Left["fragments without their first"] != 1 {
			t.Fatalf("%d flows, left out %v", len(s.Flows), s.Left)
		}
		c, _ := traffic.Named("nepco-stream")
		enc, err := traffic.NewEncoder(c)
		if err != nil {
			t.Fatal(err)
		}
		samples, n, err := flow.CollectAll(captureOf(sentOf(s, 99)...), flow.Options{Encoder: enc})
		if err != nil || len(samples) != 1 || samples[0].Payload != 100 || samples[0].Marks&flow.MarkRefused != 0 || n.Refused() != 0 {
			t.Errorf("%d flows, %+v, %v", len(samples), n, err)
		}
	}
}

// Checksums that a card was to fill in are filled in, what was cut off is zeros under a right one, none stays none and a wrong one wrong.
func TestChecksums(t *testing.T) {
	body := udpBody(4000, 53, 60)
	right := ip4(1, 2, capture.ProtoUDP, 0, body, 6)
	none := ip4(3, 4, capture.ProtoUDP, 0, body, 0)
	wrong := slices.Clone(right)
	wrong[15], wrong[26] = 5, wrong[26]^1
	setHeaderSum(wrong)
	tcp := make([]byte, 20)
	binary.BigEndian.PutUint16(tcp, 4001)
	tcp[3], tcp[12], tcp[13] = 80, 5<<4, capture.FlagSYN
	offload := ip4(6, 7, capture.ProtoTCP, 0, tcp, 0)
	offload[10], offload[11] = 0, 0 // the header's, too
	m := captureOf(right, none, wrong, offload)
	m.Add(&capture.Frame{Data: ip4(8, 9, capture.ProtoUDP, 0, body, 6)[:50], Length: 20 + len(body), Time: 2e18, Link: capture.LinkRaw})
	s := script(t, m)
	want := []capture.Faults{0, 0, capture.FaultChecksum, 0, 0}
	for i, b := range sentOf(s, 4242) {
		var p capture.Packet
		if kind := capture.Decode(&capture.Frame{Data: b, Length: len(b), Link: capture.LinkRaw}, &p); kind != capture.KindOK {
			t.Fatal(i, kind)
		}
		if p.Verify(len(b), capture.TrustWire); p.Faults != want[i] {
			t.Errorf("packet %d: %v, want %v", i, p.Faults, want[i])
		}
	}
}

// Pauses are at most as long as is said; behind an idle timeout the same ports are another flow; what does not fit is left out.
func TestScript(t *testing.T) {
	q := ip4(1, 2, capture.ProtoUDP, 0, udpBody(4000, 53, 30), 6)
	m := new(capture.Memory)
	for _, at := range []time.Duration{0, 3 * time.Millisecond, 500 * time.Millisecond, time.Hour} {
		m.Add(&capture.Frame{Data: q, Length: len(q), Time: 1e18 + int64(at), Link: capture.LinkRaw})
	}
	s, err := ReadScript(m, Options{Gap: 10 * time.Millisecond, Idle: time.Minute})
	if err != nil || len(s.Flows) != 2 || s.Flows[0].Length() != 13*time.Millisecond || s.Packets() != 2 {
		t.Fatalf("%+v, %v", s, err)
	}
	if n := s.Fit(len(q)); n != 0 {
		t.Errorf("%d flows don't fit into packets of their size", n)
	}
	if n := s.Fit(len(q) - 1); n != 2 || len(s.Flows) != 0 {
		t.Errorf("%d flows don't fit", n)
	}
	if _, err := ReadScript(captureOf(ip4(7, 8, 1, 0, []byte{8, 0, 0, 0, 0, 1, 0, 1}, 2)), Options{}); err == nil {
		t.Error("a script without flows")
	}
}
