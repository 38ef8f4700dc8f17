package flow_test

import (
	"encoding/binary"
	"testing"

	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// FuzzFrames feeds raw frames to a table of four flows. The input is a list of
// records: link type, gap to the packet before (an exponent, with a sign),
// length, bytes.
func FuzzFrames(f *testing.F) {
	record := func(link uint16, gap int8, data []byte) []byte {
		b := binary.BigEndian.AppendUint16(nil, link)
		b = append(b, byte(gap), byte(len(data)))
		return append(b, data...)
	}
	var all []byte
	for i, p := range randomTraffic(1, 8) {
		p.pkt.payload = p.pkt.payload[:min(len(p.pkt.payload), 40)]
		all = append(all, record(1, int8(i), p.pkt.ethernet())...)
		all = append(all, record(101, int8(-i), p.pkt.reverse().ip())...)
	}
	f.Add(all)
	frag := udp(7, 16)
	frag.more = true
	f.Add(append(record(228, 1, frag.ip()), record(228, 1, pkt{proto: 17, offset: 24, src: frag.src, dst: frag.dst}.ip())...))
	var reordered []byte
	for _, p := range sequence("C a A b a D c +20 B = +300 d", false) {
		reordered = append(reordered, record(101, 20, p.pkt.ip())...)
	}
	f.Add(reordered)

	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := traffic.Named([]string{"nepco", "byte"}[len(data)%2])
		if err != nil {
			t.Fatal(err)
		}
		c.BytesPerPacket = 31 // odd, so that flows live longer
		checkFrames(t, c, flow.Options{}, capture.TrustForm, data)
	})
}

// FuzzHosts is FuzzFrames where packets are checked and connections followed as hosts do: fragments put together,
// tunnels opened, in both views. The first byte of the input says which.
func FuzzHosts(f *testing.F) {
	record := func(link uint16, gap int8, data []byte) []byte {
		b := binary.BigEndian.AppendUint16(nil, link)
		b = append(b, byte(gap), byte(len(data)))
		return append(b, data...)
	}
	for mode := range byte(16) {
		all := []byte{mode}
		for i, p := range randomTraffic(uint64(mode), 6) {
			p.pkt.payload = p.pkt.payload[:min(len(p.pkt.payload), 40)]
			all = append(all, record(1, int8(i), p.pkt.ethernet())...)
			all = append(all, record(101, int8(-i), p.pkt.reverse().ip())...)
		}
		frag := udp(7, 16)
		frag.more = true
		all = append(all, record(228, 1, frag.ip())...)
		f.Add(append(all, record(228, 1, pkt{proto: 17, offset: 24, src: frag.src, dst: frag.dst}.ip())...))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) == 0 {
			return
		}
		mode := data[0]
		c, err := traffic.Named([]string{"nepco-stream", "nepco-bytes"}[mode&1])
		if err != nil {
			t.Fatal(err)
		}
		c.Accept = traffic.AcceptHosts
		if mode&2 != 0 {
			c.FarTTL = traffic.FarTTLDrop
		}
		if mode&3 == 3 {
			c.Empty = traffic.EmptySkip
		}
		trust := capture.TrustChecked
		if mode&16 != 0 {
			trust = capture.TrustWire
		}
		checkFrames(t, c, flow.Options{Tunnels: mode&4 != 0, Scope: flow.Scope{VLANs: mode&8 != 0}}, trust, data[1:])
	})
}

// checkFrames runs records through a table of four flows; what must hold of any is held.
func checkFrames(t *testing.T, c traffic.Contract, opt flow.Options, trust capture.Trust, data []byte) {
	enc, err := traffic.NewEncoder(c)
	if err != nil {
		t.Fatal(err)
	}
	undecided := map[uint64]bool{}
	var packets uint64
	opt.Encoder, opt.Capacity = enc, 4
	opt.Ready = func(fl *flow.Flow) {
		if undecided[fl.Seq] {
			t.Fatalf("flow %d: a second verdict", fl.Seq)
		}
		undecided[fl.Seq] = true
		for i, id := range fl.Tokens {
			if id < 0 || int(id) >= c.Vocab() {
				t.Fatalf("token %d is %d", i, id)
			}
			if _, ok := fl.Origin(i); ok && i >= fl.Valid {
				t.Fatalf("padding %d has an origin", i)
			}
		}
	}
	opt.Closed = func(fl *flow.Flow) {
		if !undecided[fl.Seq] {
			t.Fatalf("flow %d: closed without a verdict, or twice", fl.Seq)
		}
		delete(undecided, fl.Seq)
		packets += fl.Packets[0] + fl.Packets[1]
	}
	in, err := flow.NewInput(opt)
	if err != nil {
		t.Fatal(err)
	}
	in.SetSeed(1)
	var now int64
	var read uint64
	for b := data; len(b) >= 4; read++ {
		link, gap, n := binary.BigEndian.Uint16(b), int8(b[2]), min(int(b[3]), len(b)-4)
		if gap >= 0 {
			now += 1 << (gap & 63)
		} else {
			now -= 1 << (gap & 63)
		}
		frame := capture.Frame{Data: b[4 : 4+n : 4+n], Time: now, Length: n, Link: capture.LinkType(link), Trust: trust}
		in.Frame(&frame)
		if err := in.CheckInvariants(); err != nil {
			t.Fatal(err)
		}
		if err := in.Counters().Check(read+1, in.Undecided()); err != nil {
			t.Fatal(err)
		}
		b = b[4+n:]
	}
	in.Flush()
	if err := in.Counters().Check(read, 0); err != nil {
		t.Fatal(err)
	}
	if packets != in.Counters().Joined() || len(undecided) != 0 {
		t.Fatalf("%d packets in flows, %d joined; %d flows left", packets, in.Counters().Joined(), len(undecided))
	}
}
