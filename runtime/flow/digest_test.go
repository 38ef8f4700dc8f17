package flow_test

import (
	"encoding/binary"
	"testing"

	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// Other bytes are another packet, whatever a sender tries: of millions of datagrams, and of fragments in one place, none
// is taken for a copy of the one before.
func TestOthersAreNoCopies(t *testing.T) {
	enc, err := traffic.NewEncoder(hostsContract(true))
	if err != nil {
		t.Fatal(err)
	}
	datagrams, fragments := 1<<23, 1<<19
	if testing.Short() {
		fragments, datagrams = fragments/2, datagrams/2
	}
	in, err := flow.NewInput(flow.Options{Encoder: enc, Capacity: 4, Ready: func(*flow.Flow) {}})
	if err != nil {
		t.Fatal(err)
	}
	p := pkt{src: [4]byte{10, 0, 0, 1}, dst: [4]byte{10, 0, 0, 2}, sport: 4000, dport: 5000, proto: capture.ProtoUDP}
	b := p.ethernet()
	q := capture.Packet{}
	if kind := capture.Decode(&capture.Frame{Data: b, Length: len(b), Link: capture.LinkEthernet}, &q); kind != capture.KindOK {
		t.Fatal(kind)
	}
	for i := range datagrams {
		binary.BigEndian.PutUint16(q.IP[4:], uint16(i>>16))
		binary.BigEndian.PutUint16(q.IP[26:], uint16(i))
		in.Add(&q)
	}
	if c := in.Counters(); c.Repeats != 0 || c.Joined() != uint64(datagrams) {
		t.Errorf("of %d datagrams, %d were taken for copies", c.Joined(), c.Repeats)
	}

	var frags flow.Fragments
	p.more, p.payload, p.id = true, make([]byte, 8), 7
	b = p.ethernet()
	copies := 0
	for i := range fragments {
		binary.BigEndian.PutUint32(b[42:], uint32(i))
		if kind := capture.Decode(&capture.Frame{Data: b, Length: len(b), Link: capture.LinkEthernet}, &q); kind != capture.KindOK {
			t.Fatal(kind)
		}
		frags.Put(&q, 1500)
		for {
			kind, ok := frags.Next(&q)
			if !ok {
				break
			}
			if kind == capture.IgnoredDuplicateFragment {
				copies++
			}
		}
	}
	if copies > 0 {
		t.Errorf("of %d fragments, %d were taken for copies", fragments, copies)
	}
}
