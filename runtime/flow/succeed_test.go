package flow_test

import (
	"slices"
	"testing"
	"time"

	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// A connection that begins, after a change of the model, with the addresses and ports of one that an older table holds
// is the new table's with all its packets: the old one ends with its own, and neither has a packet of the other.
func TestReusedAcrossTables(t *testing.T) {
	type ended struct {
		packets [2]uint64
		reason  flow.Reason
		reused  bool
	}
	client := func(flags uint8, seq, ack uint32, n int) pkt {
		p := tcp(n, flags)
		p.seq, p.ack = seq, ack
		return p
	}
	server := func(flags uint8, seq, ack uint32, n int) pkt { return client(flags, seq, ack, n).reverse() }
	const syn, ack = capture.FlagSYN, capture.FlagACK
	first := []at{
		{0, client(syn, 1000, 0, 0)}, {time.Millisecond, server(syn|ack, 9000, 1001, 0)},
		{2 * time.Millisecond, client(ack, 1001, 9001, 10)},
	}
	second := []at{
		{3 * s, client(syn, 500_001_000, 0, 0)}, {3*s + time.Millisecond, server(syn|ack, 700_000_000, 500_001_001, 0)},
		{3*s + 2*time.Millisecond, client(ack, 500_001_001, 700_000_001, 10)}, {3*s + 3*time.Millisecond, server(ack, 700_000_001, 500_001_011, 10)},
	}
	forged := []at{{2 * s, client(syn, 500_001_000, 0, 0)}} // of a wrong checksum
	reset := []at{{2500 * time.Millisecond, server(capture.FlagRST|ack, 9001, 1011, 0)}}
	for _, tc := range []struct {
		accept traffic.Accept
		reset  bool // the first connection has ended
	}{{traffic.AcceptHosts, false}, {traffic.AcceptHosts, true}, {traffic.AcceptAll, false}, {traffic.AcceptAll, true}} {
		c := traffic.Default()
		c.Accept = tc.accept
		c.Packets = 20
		enc, err := traffic.NewEncoder(c)
		if err != nil {
			t.Fatal(err)
		}
		// flows are those of tables of which the last takes new ones from the second connection on.
		flows := func(n int) (got []ended) {
			tables := make([]*flow.Table, n)
			var marks flow.Marks
			for i := range tables {
				if tables[i], err = flow.New(flow.Options{
					Encoder: enc, Capacity: 8,
					Ready:  func(f *flow.Flow) { marks = f.Marks },
					Closed: func(f *flow.Flow) { got = append(got, ended{f.Packets, f.Ended, marks&flow.MarkReused != 0}) },
				}); err != nil {
					t.Fatal(err)
				}
			}
			last := tables[n-1]
			add := func(packets []at, faults capture.Faults) {
				var f capture.Frame
				var p capture.Packet
				for mem := source(packets...); mem.Next(&f) == nil; {
					capture.Decode(&f, &p)
					p.Faults |= faults
					if n > 1 && tables[0].Holds(&p, last) {
						tables[0].Add(&p)
					} else {
						last.Add(&p)
					}
				}
			}
			all := tables
			n, last = 1, tables[0]
			add(first, 0)
			n, last = len(all), all[len(all)-1]
			if tc.accept == traffic.AcceptHosts {
				add(forged, capture.FaultChecksum)
				if tables[0].Counters().Refused() != 1 || tables[0].Undecided() != 1 {
					t.Errorf("%+v: a forged SYN was refused %d times", tc, tables[0].Counters().Refused())
				}
			}
			if tc.reset {
				add(reset, 0)
			}
			add(second, 0)
			for _, tab := range tables {
				tab.Flush()
			}
			return got
		}
		one, two := flows(1), flows(2)
		if len(one) != 2 || !slices.Equal(one, two) {
			t.Errorf("%+v: with two tables %+v, with one %+v", tc, two, one)
		}
	}
}
