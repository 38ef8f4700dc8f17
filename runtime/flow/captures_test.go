package flow_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"nepcoc/internal/testfiles"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// caseCaptures are captures with an oddity, and what is in them as tshark sees it: packets joined to flows and
// flows, without tunnels opened and with; kinds of what is in none.
var caseCaptures = []struct {
	file           string
	packets, flows int
	inner          [2]int // the same with tunnels opened; 0, 0: as without
	kinds          string // of the frames, without tunnels opened
}{
	{"02-tso-zero-length/v4len.pcap", 8, 1, [2]int{}, "[]"},
	{"02-tso-zero-length/v4tso.pcap", 8, 1, [2]int{}, "[]"},
	{"02-tso-zero-length/v6tso.pcap", 8, 1, [2]int{}, "[]"},
	{"02-tso-zero-length/v6-http-first-data-zero.pcap", 8, 1, [2]int{}, "[]"},
	{"02-tso-zero-length/v6-ssh-first-data-zero.pcap", 8, 1, [2]int{}, "[]"},
	{"captures/tiny_fragments_tcp_syn.pcap", 3, 1, [2]int{}, "[]"},
	{"captures/ipv6_snaplen68.pcap", 193, 15, [2]int{}, "[]"},
	{"captures/bigtcp_ipv6.pcap", 1, 1, [2]int{}, "[]"},
	{"captures/cisco_cmd_sgt_first60.pcap", 60, 4, [2]int{}, "[]"},
	{"captures/pppoe_http.pcap", 30, 1, [2]int{}, "[]"},
	{"captures/llc_snap_ip.pcap", 8, 1, [2]int{}, "[]"},
	{"captures/vxlan_same_tuple_two_vni.pcap", 42, 2, [2]int{42, 3}, "[in_vxlan_tunnel 28]"},
	{"captures/geneve.pcap", 1, 1, [2]int{1, 1}, "[in_geneve_tunnel 1]"},
	{"captures/erspan_ii.pcap", 0, 0, [2]int{16, 4}, "[ignored_gre 16 in_erspan_tunnel 16]"},
	{"captures/fritzbox_modified_magic.pcap", 5, 3, [2]int{}, "[]"},
	{"captures/radiotap_in_pcapng.pcapng", 0, 0, [2]int{}, "[ignored_link_type 5]"},
	{"captures/quiet_tail_of_stp.pcap", 5, 3, [2]int{}, "[ignored_arp 33 ignored_llc 138 ignored_lldp 9 ignored_igmp 2]"},
	{"captures/pcapng_sections_times.pcapng", 8, 3, [2]int{}, "[]"},
	{"captures/usec_over_one_million.pcap", 81, 4, [2]int{}, "[]"},
	{"captures/ipv6_50_extension_headers.pcap", 1, 1, [2]int{}, "[]"},
	{"captures/nflog.pcap", 1, 1, [2]int{}, "[]"},
	{"captures/ipoib.pcap", 20, 6, [2]int{}, "[ignored_arp 4 ignored_icmp 6]"},
	{"captures/arista_timestamps.pcap", 0, 0, [2]int{}, "[ignored_transport 16]"},
	{"captures/pcapng.zst", 159, 15, [2]int{}, "[]"},
	{"captures/pcap.gz", 1, 1, [2]int{}, "[]"},
	{"17-pcapng/sysdig-like.pcapng", 8, 1, [2]int{}, "[]"},
}

func TestCaseCaptures(t *testing.T) {
	for _, tc := range caseCaptures {
		t.Run(filepath.Base(tc.file), func(t *testing.T) {
			for _, tunnels := range []bool{false, true} {
				src, err := capture.Open(testfiles.Path(t, "cases", tc.file))
				if err != nil {
					t.Fatal(err)
				}
				defer src.Close()
				enc, err := traffic.NewEncoder(traffic.Default())
				if err != nil {
					t.Fatal(err)
				}
				in, err := flow.NewInput(flow.Options{Encoder: enc, Tunnels: tunnels, Ready: func(*flow.Flow) {}})
				if err != nil {
					t.Fatal(err)
				}
				if err := in.Run(src); err != nil {
					t.Fatal(err)
				}
				n := in.Counters()
				packets, flows := tc.packets, tc.flows
				if tunnels && tc.inner[0] > 0 {
					packets, flows = tc.inner[0], tc.inner[1]
				}
				if int(n.Joined()) != packets || int(n.Flows) != flows {
					t.Errorf("tunnels %v: %d packets in %d flows, want %d in %d: %s", tunnels, n.Joined(), n.Flows, packets, flows, n)
				}
				if err := n.Check(uint64(src.Packets()), 0); err != nil {
					t.Error(err)
				}
				if kinds := fmt.Sprint(n.Kinds()); !tunnels && kinds != tc.kinds {
					t.Errorf("kinds %s, want %s", kinds, tc.kinds)
				}
			}
		})
	}
}

// A capture that cuts TCP headers behind the ports still shows connections: all packets are in a flow, those that hosts would
// drop are not told from others by what is missing, and every flow whose tokens lack something says so.
func TestCutHeaders(t *testing.T) {
	for _, stream := range []bool{false, true} {
		flows, n, err := runFile(t, hostsContract(stream), testfiles.Path(t, "cases/captures/ipv6_snaplen68.pcap"))
		if err != nil {
			t.Fatal(err)
		}
		if n.Read() != 193 || n.Refused() > 0 || n.Malformed() > 0 || n.Outside > 0 || len(flows) != 15 || n.Cut == 0 {
			t.Errorf("stream %v: %d flows, %d outside, %d cut: %s", stream, len(flows), n.Outside, n.Cut, n)
		}
		for _, f := range flows {
			if f.key.Proto != capture.ProtoTCP || flow.Marks(f.marks)&(flow.MarkCut|flow.MarkInsufficient) != 0 {
				continue
			}
			t.Errorf("stream %v: %s: %v", stream, f.key, flow.Marks(f.marks).Names())
		}
	}
}
