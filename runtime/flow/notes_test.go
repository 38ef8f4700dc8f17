package flow_test

import (
	"strings"
	"testing"

	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// A mirror that shows one direction only is named; one that shows both is not, nor
// are a few hosts that don't answer.
func TestOneSidedNote(t *testing.T) {
	for _, tc := range []struct {
		answered, unanswered int
		want                 bool
	}{{0, 40, true}, {40, 0, false}, {38, 2, false}, {0, 5, false}, {10, 30, true}} {
		var packets []at
		for i := range tc.answered + tc.unanswered {
			p := tcp(0, capture.FlagSYN)
			p.sport = uint16(30000 + i)
			packets = append(packets, at{0, p})
			if i < tc.answered {
				packets = append(packets, at{0, reply(p)})
			}
		}
		_, n, err := runSource(t, traffic.Default(), 0, source(packets...))
		if err != nil {
			t.Fatal(err)
		}
		if s := n.OneSidedNote(); strings.Contains(s, "one side only") != tc.want {
			t.Errorf("%d answered, %d not: %q", tc.answered, tc.unanswered, s)
		}
	}
}

// Where a contract takes Ethernet addresses, packets without them are counted and named; where it blanks them,
// nobody misses them.
func TestNoEthernetNote(t *testing.T) {
	for _, blank := range []bool{false, true} {
		c := traffic.Default()
		if c.FirstLayer = traffic.LayerEthernet; blank {
			c.Blank = append(c.Blank, traffic.BlankMAC)
		}
		enc, err := traffic.NewEncoder(c)
		if err != nil {
			t.Fatal(err)
		}
		var mem capture.Memory
		p := udp(1, 40)
		mem.Add(&capture.Frame{Data: p.ethernet(), Length: len(p.ethernet()), Link: capture.LinkEthernet})
		mem.Add(&capture.Frame{Data: p.ip(), Length: len(p.ip()), Link: capture.LinkRaw, Time: 1})
		opt := flow.Options{Encoder: enc, Capacity: 4, Ready: func(*flow.Flow) {}}
		in, err := flow.NewInput(opt)
		if err != nil {
			t.Fatal(err)
		}
		if err := in.Run(&mem); err != nil {
			t.Fatal(err)
		}
		notes := strings.Join(in.Counters().Notes(&opt), "\n")
		if strings.Contains(notes, "1 of 2 packets came in no Ethernet header") == blank {
			t.Errorf("blanked: %v, notes %q", blank, notes)
		}
	}
}

// What has to be captured of a packet follows from the contract, and what was cut below it is counted.
func TestCutPayload(t *testing.T) {
	c := traffic.Default()
	c.FirstLayer, c.Blank, c.BytesPerPacket = traffic.LayerPayload, nil, 30
	if n := flow.SnapLength(&c, false); n != 14+120+30 {
		t.Errorf("%d bytes are asked for", n)
	}
	for _, tc := range []struct {
		captured int // of 28 bytes of headers and 100 of payload
		cut      uint64
	}{{128, 0}, {28 + 30, 0}, {28 + 29, 1}, {24, 1}} {
		p := udp(1, 100)
		b := p.ip()
		var mem capture.Memory
		mem.Add(&capture.Frame{Data: b[:tc.captured], Length: len(b), Link: capture.LinkRaw})
		_, n, err := runSource(t, c, 0, &mem)
		if err != nil {
			t.Fatal(err)
		}
		if n.Cut != tc.cut {
			t.Errorf("%d bytes captured: %d cut, want %d", tc.captured, n.Cut, tc.cut)
		}
	}
}
