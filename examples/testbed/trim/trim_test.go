package main

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

const table = "# comment\ntcp 80 HTTP\nudp 53 DNS\nudp 6900-6999 TFTP\n"

// udp is an Ethernet frame with n bytes of UDP payload, second seconds after the epoch.
func udp(t *testing.T, second int, src, dst string, n int) frame {
	t.Helper()
	from, to := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	eth := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4}
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolUDP, SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice()}
	transport := &layers.UDP{SrcPort: layers.UDPPort(from.Port()), DstPort: layers.UDPPort(to.Port())}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true}, eth, ip, transport, gopacket.Payload(make([]byte, n))); err != nil {
		t.Fatal(err)
	}
	return frame{time: time.Unix(int64(second), 0), data: buf.Bytes(), length: len(buf.Bytes())}
}

func mustPorts(t *testing.T) ports {
	t.Helper()
	p, err := parsePorts(strings.NewReader(table))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTrim(t *testing.T) {
	const client, server, other = "10.0.0.2:4000", "10.0.0.1:53", "10.0.0.2:4001"
	type row struct {
		src, label string
		kept       int
	}
	for _, c := range []struct {
		name   string
		frames []frame
		want   []row
	}{
		{"both directions are one flow", []frame{udp(t, 1, client, server, 5), udp(t, 2, server, client, 5)}, []row{{client, "DNS", 2}}},
		{"a pause of exactly the limit does not end it", []frame{udp(t, 1, client, server, 5), udp(t, 121, client, server, 5)}, []row{{client, "DNS", 2}}},
		{"a longer one does", []frame{udp(t, 1, client, server, 5), udp(t, 122, server, client, 5)}, []row{{client, "DNS", 1}, {server, "DNS", 1}}},
		{"dropped packets still keep it alive", []frame{udp(t, 1, client, server, 5), udp(t, 2, client, server, 5), udp(t, 3, client, server, 5),
			udp(t, 100, client, server, 5), udp(t, 200, client, server, 5)}, []row{{client, "DNS", 3}}},
		{"frames come in any order", []frame{udp(t, 9, server, client, 5), udp(t, 1, client, server, 5)}, []row{{client, "DNS", 2}}},
		{"flows by their first packet", []frame{udp(t, 2, other, server, 5), udp(t, 1, client, server, 5)}, []row{{client, "DNS", 1}, {other, "DNS", 1}}},
		{"no label, no row", []frame{udp(t, 1, client, "10.0.0.1:54", 5)}, nil},
		{"no payload, no row", []frame{udp(t, 1, client, server, 0)}, nil},
		{"a port range", []frame{udp(t, 1, "10.0.0.1:6950", client, 5)}, []row{{"10.0.0.1:6950", "TFTP", 1}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			result := trim(c.frames, mustPorts(t), limits{packets: 3, snap: 40, idle: 120 * time.Second})
			var got []row
			for _, f := range result.flows {
				got = append(got, row{f.key.src.String(), f.label, f.kept})
			}
			if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(row{})); diff != "" {
				t.Errorf("flows (-want +got):\n%s", diff)
			}
			for _, f := range result.frames {
				if len(f.data) > 40 {
					t.Errorf("%d bytes kept of a frame, want at most 40", len(f.data))
				}
			}
		})
	}
}

func TestTaggedFrameReadsBack(t *testing.T) {
	plain := udp(t, 1, "10.0.0.2:4000", "10.0.0.1:53", 5)
	tagged := plain.tagged(100)
	var file bytes.Buffer
	if err := writeFrames(&file, []frame{tagged}, 256); err != nil {
		t.Fatal(err)
	}
	r, err := pcapgo.NewReader(&file)
	if err != nil {
		t.Fatal(err)
	}
	data, info, err := r.ReadPacketData()
	if err != nil {
		t.Fatal(err)
	}
	p := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.Default)
	vlan, ok := p.Layer(layers.LayerTypeDot1Q).(*layers.Dot1Q)
	if !ok || vlan.VLANIdentifier != 100 || info.Length != plain.length+4 {
		t.Errorf("read back %v, length %d; want VLAN 100, length %d", p, info.Length, plain.length+4)
	}
	wantKey, _, _ := decode(plain.data)
	if got, _, ok := decode(data); !ok || got != wantKey {
		t.Errorf("5-tuple %v, want %v", got, wantKey)
	}
}

func TestFragmentsAreLeftOut(t *testing.T) {
	f := udp(t, 1, "10.0.0.2:4000", "10.0.0.1:53", 5)
	f.data[14+6] = 0x20 // more fragments
	if _, _, ok := decode(f.data); ok {
		t.Error("a first fragment was taken for a whole datagram")
	}
}

func TestParsePortsErrors(t *testing.T) {
	for text, want := range map[string]string{
		"tcp 80":             "line 1: want transport, port, label",
		"\nsctp 80 X":        `line 2: transport "sctp" is neither tcp nor udp`,
		"tcp 65536 X":        `line 1: port "65536" is not 0..65535`,
		"tcp 1-x X":          `line 1: port "x" is not 0..65535`,
		"# only a comment\n": "",
	} {
		_, err := parsePorts(strings.NewReader(text))
		if got := ""; err != nil {
			got = err.Error()
			if got != want {
				t.Errorf("%q: error %q, want %q", text, got, want)
			}
		} else if want != got {
			t.Errorf("%q: no error, want %q", text, want)
		}
	}
}
