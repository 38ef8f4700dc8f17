package flow_test

import (
	"cmp"
	"encoding/binary"
	"slices"
	"testing"

	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// scopeFlows reads frames, and returns the flows in the order of their first packets.
func scopeFlows(t *testing.T, opt flow.Options, frames ...capture.Frame) (flows []flow.Flow) {
	t.Helper()
	c, err := traffic.Named("nepco-stream")
	if err != nil {
		t.Fatal(err)
	}
	if opt.Encoder, err = traffic.NewEncoder(c); err != nil {
		t.Fatal(err)
	}
	opt.Ready = func(f *flow.Flow) { flows = append(flows, *f) }
	in, err := flow.NewInput(opt)
	if err != nil {
		t.Fatal(err)
	}
	for i := range frames {
		frames[i].Time, frames[i].Length = int64(i)*1e6, len(frames[i].Data)
		in.Frame(&frames[i])
	}
	in.Flush()
	if err := in.Counters().Check(uint64(len(frames)), 0); err != nil {
		t.Error(err)
	}
	slices.SortFunc(flows, func(a, b flow.Flow) int { return cmp.Compare(a.Seq, b.Seq) })
	return flows
}

func tagged(frame []byte, ids ...uint16) []byte {
	b := append([]byte(nil), frame[:12]...)
	for _, id := range ids {
		b = binary.BigEndian.AppendUint16(append(b, 0x81, 0), id)
	}
	return append(b, frame[12:]...)
}

// VLANs and interfaces tell flows apart where that is asked for, and are said of the flow's first packet in any case.
func TestScope(t *testing.T) {
	p := pkt{src: [4]byte{10, 0, 0, 1}, dst: [4]byte{10, 0, 0, 2}, sport: 4000, dport: 53, proto: capture.ProtoUDP, payload: []byte("question")}
	q, a := p.ethernet(), p.reverse().ethernet()
	frames := func() []capture.Frame {
		return []capture.Frame{
			{Data: tagged(q, 5), Link: capture.LinkEthernet},
			{Data: tagged(a, 5), Link: capture.LinkEthernet, Interface: 1},
			{Data: tagged(q, 5, 6), Link: capture.LinkEthernet},
			{Data: a, Link: capture.LinkEthernet, Interface: 1, VLAN: 5}, // the card took the tag off
		}
	}
	for _, tc := range []struct {
		scope flow.Scope
		flows int
	}{{flow.Scope{}, 1}, {flow.Scope{VLANs: true}, 2}, {flow.Scope{Interfaces: true}, 2}, {flow.Scope{VLANs: true, Interfaces: true}, 3}} {
		flows := scopeFlows(t, flow.Options{Scope: tc.scope}, frames()...)
		if len(flows) != tc.flows {
			t.Errorf("%+v: %d flows, want %d", tc.scope, len(flows), tc.flows)
		}
		if f := flows[0]; f.VLAN != [2]uint16{5} || f.Level != 0 || (f.Key.VLAN != [2]uint16{}) != tc.scope.VLANs {
			t.Errorf("%+v: %v, level %d, %+v", tc.scope, f.VLAN, f.Level, f.Key)
		}
	}
}

// The ids of tunnels always do: customers use the same addresses. Those of GTP-U don't, they differ by direction.
// What comes back without a tunnel is the same flow's where the tunnel has no id.
func TestTunnelIDs(t *testing.T) {
	p := pkt{src: [4]byte{10, 0, 0, 1}, dst: [4]byte{10, 0, 0, 2}, sport: 4000, dport: 53, proto: capture.ProtoUDP, payload: []byte("question")}
	q, a := p.ethernet(), p.reverse().ethernet()
	outer := func(port uint16, head, inner []byte) capture.Frame {
		p := pkt{src: [4]byte{192, 0, 2, 1}, dst: [4]byte{192, 0, 2, 2}, sport: 5000, dport: port, proto: capture.ProtoUDP, payload: append(head, inner...)}
		return capture.Frame{Data: p.ethernet(), Link: capture.LinkEthernet}
	}
	vxlan := func(id byte, inner []byte) capture.Frame { return outer(4789, []byte{8, 0, 0, 0, 0, 0, id, 0}, inner) }
	gtp := func(id byte, inner []byte) capture.Frame {
		return outer(2152, []byte{0x30, 0xff, 0, byte(len(inner) - 14), 0, 0, 0, id}, inner[14:])
	}
	plain := capture.Frame{Data: a, Link: capture.LinkEthernet}
	for _, tc := range []struct {
		name   string
		frames []capture.Frame
		flows  int
		id     uint32
		level  uint8
		apart  bool
	}{
		{"two networks", []capture.Frame{vxlan(7, q), vxlan(7, a), vxlan(9, q), vxlan(9, a)}, 2, 7, 1, false},
		{"a network and none", []capture.Frame{vxlan(7, q), plain}, 2, 7, 1, false},
		{"GTP-U", []capture.Frame{gtp(1, q), gtp(2, a)}, 1, 0, 1, false},
		{"one way in a tunnel without id", []capture.Frame{gtp(1, q), plain}, 1, 0, 1, true},
		{"and the other way round", []capture.Frame{plain, gtp(1, q)}, 1, 0, 0, true},
		{"GTP-U in a network", []capture.Frame{vxlan(7, gtp(1, q).Data), vxlan(7, gtp(2, a).Data), vxlan(9, gtp(1, q).Data)}, 2, 7, 2, false},
	} {
		flows := scopeFlows(t, flow.Options{Tunnels: true}, tc.frames...)
		if len(flows) != tc.flows || flows[0].Key.Tunnel != tc.id || flows[0].Level != tc.level || flows[0].Apart != tc.apart {
			t.Errorf("%s: %d flows, want %d; %+v, apart %v", tc.name, len(flows), tc.flows, flows[0].Key, flows[0].Apart)
		}
	}
}

// A tunnel's packet that came in fragments is put together and opened, and fragments within two tunnels
// don't mix.
func TestTunnelFragments(t *testing.T) {
	inner := pkt{src: [4]byte{10, 0, 0, 1}, dst: [4]byte{10, 0, 0, 2}, sport: 4000, dport: 53, proto: capture.ProtoUDP, payload: make([]byte, 64)}.ethernet()[14:]
	for _, proto := range []byte{4, 47} {
		payload := inner
		if proto == 47 {
			payload = append([]byte{0x20, 0, 8, 0, 0, 0, 0, 9}, inner...)
		}
		part := func(from, to int) capture.Frame {
			b := make([]byte, 20, 80)
			b[0], b[5], b[8], b[9] = 0x45, 77, 64, proto
			more := uint16(0)
			if to < len(payload) {
				more = 0x2000
			}
			binary.BigEndian.PutUint16(b[2:], uint16(20+to-from))
			binary.BigEndian.PutUint16(b[6:], more|uint16(from/8))
			copy(b[12:], []byte{192, 0, 2, 1, 192, 0, 2, 2})
			return capture.Frame{Data: append(b, payload[from:to]...), Link: capture.LinkRaw}
		}
		flows := scopeFlows(t, flow.Options{Tunnels: true}, part(0, 48), part(48, len(payload)))
		if len(flows) != 1 || flows[0].Key.DstPort != 53 || flows[0].Level != 1 || proto == 47 && flows[0].Key.Tunnel != 9 {
			t.Errorf("protocol %d: %+v", proto, flows)
		}
	}
}
