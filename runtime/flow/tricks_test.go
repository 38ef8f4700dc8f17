package flow_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"nepcoc/internal/testfiles"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

func hostsContract(stream bool) traffic.Contract {
	name := "nepco-bytes"
	if stream {
		name = "nepco-stream"
	}
	c, _ := traffic.Named(name)
	c.Accept = traffic.AcceptHosts
	return c
}

// What is right for captures that try to mislead, where only what hosts take counts: how many flows there are, who
// is their client, and which of them have the tokens of the flow without the trick.
func TestTricks(t *testing.T) {
	for _, tc := range []struct {
		pattern string
		flows   int
		client  string // of every flow
		like    string // a capture whose flow has the same tokens
		streams bool   // in the stream view only
		refused uint64
	}{
		{"tricks/01_*", 1, "10.0.0.1", "", false, 0},
		{"tricks/02_*", 2, "10.0.0.1", "", false, 0},
		{"tricks/03_*", 20, "10.0.0.1", "tricks/01_http_plain.pcap", true, 0}, // sequence numbers of their own
		{"tricks/06_*", 1, "10.0.0.1", "tricks/01_http_plain.pcap", true, 0},
		{"tricks/09_*", 1, "10.0.0.1", "tricks/01_http_plain.pcap", false, 5},
		{"tricks/10_*", 1, "10.0.0.1", "tricks/01_http_plain.pcap", false, 5},
		{"tricks/12_*", 0, "", "", false, 5},
		{"tricks/13_*", 0, "", "", false, 1},
		{"tricks/17_*", 1, "10.0.0.1", "tricks/01_http_plain.pcap", false, 0},
		{"01-tcp-port-reuse/clean-*", 1, "10.1.0.1", "", false, 0},
		{"01-tcp-port-reuse/five-times*", 50, "10.1.0.1", "", false, 0},
		{"01-tcp-port-reuse/refused-*", 2, "10.1.0.1", "", false, 0},
		{"01-tcp-port-reuse/reuse-*", 2, "10.1.0.1", "", false, 0},
		{"01-tcp-port-reuse/syn-retrans*", 1, "10.1.0.1", "", false, 0},
		{"02-tso-zero-length/v4*", 1, "10.1.0.1", "", false, 0},
		{"02-tso-zero-length/v6*", 1, "2001:db8::1", "", false, 0},
		{"40-direction-midstream/[a-u]*.pcap", 1, "10.1.0.1", "", false, 0},
		{"40-direction-midstream/v6*", 1, "2001:db8::1", "", false, 0},
	} {
		for _, file := range testfiles.Glob(t, filepath.Join("cases", tc.pattern)) {
			for _, stream := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/stream=%v", filepath.Base(file), stream), func(t *testing.T) {
					flows, n, err := runFile(t, hostsContract(stream), file)
					if err != nil {
						t.Fatal(err)
					}
					if len(flows) != tc.flows || n.Refused() != tc.refused || n.Malformed() != 0 {
						t.Errorf("%d flows, %d packets refused, %d malformed; want %d, %d, 0", len(flows), n.Refused(), n.Malformed(), tc.flows, tc.refused)
					}
					var like []seen
					if tc.like != "" && (stream || !tc.streams) {
						if like, _, err = runFile(t, hostsContract(stream), testfiles.Path(t, "cases", tc.like)); err != nil {
							t.Fatal(err)
						}
					}
					for _, f := range flows {
						if got := f.key.SrcAddr().Addr().String(); got != tc.client {
							t.Errorf("the client of %s is %s", f.key, tc.client)
						}
						if like != nil && !slices.Equal(f.tokens, like[0].tokens) {
							t.Errorf("%s: other tokens than without the trick", f.key)
						}
					}
				})
			}
		}
	}
}

// Connections of one 5-tuple in two VLANs or tunnels are two where those tell flows apart; where they don't, and the two
// are mixed, every verdict says so.
func TestOverlappingTenants(t *testing.T) {
	for _, tc := range []struct {
		file    string
		tunnels bool
		scope   flow.Scope
		first   string // a capture whose flow has the tokens of the first; "": they are mixed, and marked
	}{
		{"41-overlapping-tenants/onlyA.pcap", false, flow.Scope{}, "41-overlapping-tenants/onlyA.pcap"},
		{"41-overlapping-tenants/vlan.pcap", false, flow.Scope{VLANs: true}, "41-overlapping-tenants/onlyA.pcap"},
		{"41-overlapping-tenants/vlan.pcap", false, flow.Scope{}, ""},
		{"41-overlapping-tenants/vxlan.pcap", true, flow.Scope{}, "41-overlapping-tenants/onlyA.pcap"},
		{"tricks/08_vlan_10_and_20_same_tuple.pcap", false, flow.Scope{VLANs: true}, "tricks/01_http_plain.pcap"},
		{"tricks/08_vlan_10_and_20_same_tuple.pcap", false, flow.Scope{}, ""},
	} {
		for _, stream := range []bool{false, true} {
			read := func(file string) []seen {
				src, err := capture.Open(testfiles.Path(t, "cases", file))
				if err != nil {
					t.Fatal(err)
				}
				defer src.Close()
				enc, err := traffic.NewEncoder(hostsContract(stream))
				if err != nil {
					t.Fatal(err)
				}
				var flows []seen
				in, err := flow.NewInput(flow.Options{Encoder: enc, Tunnels: tc.tunnels, Scope: tc.scope, Ready: func(f *flow.Flow) {
					flows = append(flows, seen{key: f.Key, first: f.First, tokens: slices.Clone(f.Tokens), marks: f.Marks})
				}})
				if err != nil {
					t.Fatal(err)
				}
				if err := in.Run(src); err != nil {
					t.Fatal(err)
				}
				slices.SortStableFunc(flows, func(a, b seen) int { return int(a.first - b.first) })
				return flows
			}
			got := read(tc.file)
			switch {
			case tc.first == "":
				for _, f := range got {
					if f.marks&(flow.Anomaly|flow.Incomplete) == 0 {
						t.Errorf("%s, %+v, stream %v: a verdict of mixed packets without a mark", tc.file, tc.scope, stream)
					}
				}
			case len(got) != 2 && tc.file != tc.first:
				t.Errorf("%s, %+v, stream %v: %d flows", tc.file, tc.scope, stream, len(got))
			default:
				if want := read(tc.first)[0]; !slices.Equal(got[0].tokens, want.tokens) {
					t.Errorf("%s, %+v, stream %v: other tokens\n%v\n%v", tc.file, tc.scope, stream, got[0].tokens, want.tokens)
				}
				for _, f := range got {
					if f.marks&^flow.MarkLost != 0 { // each server acknowledges some bytes more than there are
						t.Errorf("%s, %+v, stream %v: marks %v", tc.file, tc.scope, stream, f.marks.Names())
					}
				}
			}
		}
	}
}

// A flow in the place of another has nothing of that one's bytes: neither where its own came out of order, nor where
// they never came.
func TestPlacesAreTakenOverClean(t *testing.T) {
	contract, err := traffic.Named("nepco-stream")
	if err != nil {
		t.Fatal(err)
	}
	tokens := func(capacity int, before bool) (got []int32) {
		enc, err := traffic.NewEncoder(contract)
		if err != nil {
			t.Fatal(err)
		}
		in, err := flow.NewInput(flow.Options{Encoder: enc, Capacity: capacity, Ready: func(f *flow.Flow) { got = append(got[:0], f.Tokens...) }})
		if err != nil {
			t.Fatal(err)
		}
		m := &capture.Memory{}
		add := func(port uint16, flags uint8, seq uint32, payload string) {
			p := pkt{src: [4]byte{10, 0, 0, 1}, dst: [4]byte{10, 0, 0, 2}, sport: port, dport: 80, proto: capture.ProtoTCP, flags: flags, seq: seq, ack: 5001, payload: []byte(payload)}
			b := p.ethernet()
			m.Add(&capture.Frame{Data: b, Length: len(b), Link: capture.LinkEthernet, Time: int64(m.Len()) * 1e6})
		}
		if before {
			add(4000, capture.FlagSYN, 0, "")
			add(4000, capture.FlagACK, 21, "another flow's secret")
			add(4000, capture.FlagACK, 1, "20 bytes, then more ")
		}
		add(4001, capture.FlagSYN, 0, "")
		add(4001, capture.FlagACK, 6, "FGHIJKLMNOPQRST")
		add(4001, capture.FlagACK, 1, "ABCDE")
		if err := in.Run(m); err != nil {
			t.Fatal(err)
		}
		return got
	}
	if alone, after := tokens(1, false), tokens(1, true); !slices.Equal(alone, after) {
		t.Errorf("in another flow's place:\n%v\nalone:\n%v", after, alone)
	}
}

// What stands behind a gap when the verdict comes may never be delivered, in whatever view: the verdict says that bytes are missing.
func TestGapsAreMarked(t *testing.T) {
	for _, stream := range []bool{false, true} {
		for _, gap := range []uint32{0, 300} {
			enc, err := traffic.NewEncoder(hostsContract(stream))
			if err != nil {
				t.Fatal(err)
			}
			var marks []string
			in, err := flow.NewInput(flow.Options{Encoder: enc, Capacity: 4, Ready: func(f *flow.Flow) { marks = f.Marks.Names() }})
			if err != nil {
				t.Fatal(err)
			}
			c := pkt{src: [4]byte{10, 0, 0, 1}, dst: [4]byte{10, 0, 0, 2}, sport: 4000, dport: 80, proto: capture.ProtoTCP}
			syn, synack, data := c, c.reverse(), c
			syn.flags, synack.flags, data.flags = capture.FlagSYN, capture.FlagSYN|capture.FlagACK, capture.FlagACK
			synack.seq, synack.ack = 500, 1
			data.seq, data.ack, data.payload = 1+gap, 501, []byte("GET / HTTP/1.1\r\n")
			for i, p := range []pkt{syn, synack, data} {
				b := p.ethernet()
				in.Frame(&capture.Frame{Data: b, Length: len(b), Link: capture.LinkEthernet, Time: int64(i) * 1e6})
			}
			in.Flush()
			if lost := slices.Contains(marks, "lost"); lost != (gap > 0) {
				t.Errorf("stream %v, %d bytes missing: marks %v", stream, gap, marks)
			}
		}
	}
}
