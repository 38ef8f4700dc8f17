package load

import (
	"testing"
	"time"

	"nepcoc/runtime/capture"
)

// An ICMP error whose quote says another version of IP than the error's own, and is shorter than that's header, is sent with the quote as it is.
func TestQuoteOfOtherVersion(t *testing.T) {
	udp := ip4(1, 2, capture.ProtoUDP, 0, udpBody(4000, 53, 30), 6)
	quote := append([]byte{}, ip4(1, 2, capture.ProtoUDP, 0, udpBody(4000, 53, 30), 6)[:20]...)
	quote[0] = 0x60
	wrong := ip4(2, 1, protoICMP, 0, append([]byte{3, 3, 0, 0, 0, 0, 0, 0}, quote...), 2)
	m := new(capture.Memory)
	for i, p := range [][]byte{udp, wrong[:len(wrong):len(wrong)]} {
		m.Add(&capture.Frame{Data: p, Length: len(p), Time: int64(i), Link: capture.LinkRaw})
	}
	s, err := ReadScript(m, Options{Gap: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	// The error is one of the two hosts', though nobody knows of which flow.
	if n := s.Flows[0].Packets(); n != 2 {
		t.Fatalf("%d packets", n)
	}
	for k := range s.Flows[0].packets {
		p := &s.Flows[0].packets[k]
		b := make([]byte, 0, len(p.data))
		if got := p.frame(b, 7); len(got) != len(p.data) {
			t.Errorf("%d bytes of %d", len(got), len(p.data))
		}
	}
}
