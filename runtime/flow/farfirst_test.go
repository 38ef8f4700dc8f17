package flow_test

import (
	"testing"

	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// A flow whose first datagram doesn't count for its hop limit began with it all the same: its second one, a moment later, is no other flow's,
// however long the table has been at work.
func TestFarFirst(t *testing.T) {
	c := hostsContract(false)
	c.FarTTL = traffic.FarTTLDrop
	var m capture.Memory
	for _, p := range []struct {
		at  int64
		ttl byte
		pkt pkt
	}{{0, 64, udp(1, 9)}, {200e9, 1, udp(2, 9)}, {201e9, 64, udp(2, 9)}} {
		ip := p.pkt.ip()
		ip[8] = p.ttl
		sum := ^capture.HeaderSum(ip[:20])
		ip[10], ip[11] = byte(sum>>8), byte(sum)
		m.Add(&capture.Frame{Data: ip, Length: len(ip), Time: p.at, Link: capture.LinkRaw})
	}
	flows, _, err := runSource(t, c, 0, &m)
	if err != nil {
		t.Fatal(err)
	}
	if len(flows) != 2 || flows[1].payload != 9 {
		t.Errorf("%d flows, want 2: %+v", len(flows), flows)
	}
}

// A flow that has nothing but such a packet ends with it.
func TestFarOnly(t *testing.T) {
	c := hostsContract(false)
	c.FarTTL = traffic.FarTTLDrop
	var m capture.Memory
	ip := udp(2, 9).ip()
	ip[8] = 1
	sum := ^capture.HeaderSum(append(ip[:10:10], append([]byte{0, 0}, ip[12:20]...)...))
	ip[10], ip[11] = byte(sum>>8), byte(sum)
	m.Add(&capture.Frame{Data: ip, Length: len(ip), Time: 5e9, Link: capture.LinkRaw})
	flows, _, err := flow.Collect(&m, c)
	if err != nil || len(flows) != 1 || flows[0].First != 5e9 || flows[0].Last != 5e9 {
		t.Errorf("%+v, %v", flows, err)
	}
}
