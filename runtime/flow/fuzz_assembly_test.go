package flow_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// FuzzFragments puts a datagram's fragments together, in whatever order, however often each comes: whole where all have
// come, not at all where one has not, and nothing that mixes where another with the same place and other bytes came
// before the last. The input is the payload's size, the size of fragments in units of 8 bytes, and then the
// fragments in the order in which they come: an index each, of which the highest bit changes the bytes.
func FuzzFragments(f *testing.F) {
	f.Add(uint16(100), uint8(2), false, []byte{0, 1, 2, 3, 4, 5, 6})
	f.Add(uint16(100), uint8(2), true, []byte{6, 5, 5, 4, 3, 2, 1, 0})
	f.Add(uint16(40), uint8(1), false, []byte{0, 1, 2 | 0x80, 2, 3, 4, 5})
	f.Add(uint16(40), uint8(1), true, []byte{3, 0, 1, 4, 5, 2 | 0x80, 2})
	f.Fuzz(func(t *testing.T, size uint16, unit uint8, v6 bool, order []byte) {
		if len(order) > 200 {
			return
		}
		p := udp(7, int(size%2000))
		p.v6 = false
		for i := range p.payload {
			p.payload[i] = byte(i * 7)
		}
		body := p.ip()[20:]
		step := 8 * (int(unit%16) + 1)
		n := (len(body) + step - 1) / step
		if n < 2 || n > 60 {
			return
		}
		var frags flow.Fragments
		frags.Whole = true
		var out capture.Packet
		come, mixed, whole, put, got := map[int]bool{}, false, false, 0, 0
		for _, b := range order {
			i, changed := int(b&0x7f)%n, b&0x80 != 0
			if changed && i == 0 {
				continue // another datagram of the same number begins
			}
			piece := slices.Clone(body[i*step : min((i+1)*step, len(body))])
			if changed {
				piece[0] ^= 0xff
				mixed = true
			}
			come[i] = come[i] || !changed
			q := pkt{src: p.src, dst: p.dst, proto: capture.ProtoUDP, id: 77, v6: v6, offset: i * step, more: i < n-1, payload: piece}
			data := q.ip()
			if i == 0 { // pkt puts a header of its own before a first fragment
				data = pkt{src: p.src, dst: p.dst, proto: capture.ProtoUDP, id: 77, v6: v6, offset: 8, more: true, payload: piece}.ip()
				if v6 {
					binary.BigEndian.PutUint16(data[42:], 1)
				} else {
					binary.BigEndian.PutUint16(data[6:], 0x2000)
				}
			}
			fr := capture.Frame{Data: data, Length: len(data), Link: capture.LinkRaw, Time: int64(put), Trust: capture.TrustChecked}
			if kind := capture.Decode(&fr, &out); kind != capture.KindOK || !out.Fragment {
				t.Fatalf("fragment %d: %v, fragment %v", i, kind, out.Fragment)
			}
			frags.Put(&out, 1<<16)
			put++
			for {
				kind, ok := frags.Next(&out)
				if !ok {
					break
				}
				got++
				if kind != capture.KindOK || out.Faults&capture.FaultOverlap != 0 {
					continue
				}
				if whole && !mixed {
					continue // all of them came once more
				}
				whole = true
				if payload := out.IP[out.L4:]; !mixed && !bytes.Equal(payload, body) {
					t.Fatalf("put together as % x, want % x", payload, body)
				}
			}
		}
		all := len(come) == n
		for _, ok := range come {
			all = all && ok
		}
		if !mixed && whole != all {
			t.Errorf("%d of %d fragments have come, whole: %v", len(come), n, whole)
		}
		frags.Flush()
		for {
			if _, ok := frags.Next(&out); !ok {
				break
			}
			got++
		}
		if got != put || frags.Held() != 0 {
			t.Errorf("%d fragments put, %d given back, %d held", put, got, frags.Held())
		}
	})
}

// FuzzConnection sends what two sides say over a connection, cut, ordered and repeated as the input says, and
// acknowledged as far as it has come: the tokens are those of the two streams, put there at once.
func FuzzConnection(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), []byte("HTTP/1.1 200 OK\r\n\r\n"), []byte{0, 0, 9, 1, 0, 9, 0, 9, 99, 1, 9, 99})
	f.Add([]byte("abcdefgh"), []byte(""), []byte{0, 4, 4, 0, 2, 4, 0, 0, 3})
	c, err := traffic.Named("nepco-stream")
	if err != nil {
		f.Fatal(err)
	}
	enc, err := traffic.NewEncoder(c)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, client, server, order []byte) {
		if len(client) > 300 || len(server) > 300 || len(order) > 300 {
			return
		}
		said := [2][]byte{client, server}
		st, buf := enc.Begin(capture.ProtoTCP), make([]byte, enc.BufferSize())
		for side, b := range said {
			enc.Put(&st, buf, side, 0, b)
		}
		want := make([]int32, c.Length)
		enc.Tokens(want, st, buf)

		var got []int32
		flows := 0
		in, err := flow.NewInput(flow.Options{Encoder: enc, Capacity: 4, Ready: func(fl *flow.Flow) {
			flows++
			got = slices.Clone(fl.Tokens)
		}})
		if err != nil {
			t.Fatal(err)
		}
		in.SetSeed(1)
		isn := [2]uint32{4294967200, 5000} // one wraps around
		have := [2]map[int]bool{{}, {}}
		upTo := func(side int) (n uint32) {
			for have[side][int(n)] {
				n++
			}
			return n
		}
		now := int64(0)
		send := func(side int, flags uint8, at int, payload []byte) {
			p := pkt{src: [4]byte{10, 0, 0, 1}, dst: [4]byte{10, 0, 0, 2}, sport: 40000, dport: 80, proto: capture.ProtoTCP, flags: flags, payload: payload}
			if side == 1 {
				p = p.reverse()
			}
			p.seq = isn[side] + uint32(at)
			if flags&capture.FlagACK != 0 {
				p.ack = isn[1-side] + 1 + upTo(1-side)
			}
			for i := range payload {
				have[side][at-1+i] = true
			}
			now += 1000
			data := p.ip()
			in.Frame(&capture.Frame{Data: data, Length: len(data), Link: capture.LinkRaw, Time: now, Trust: capture.TrustChecked})
		}
		send(0, capture.FlagSYN, 0, nil)
		send(1, capture.FlagSYN|capture.FlagACK, 0, nil)
		send(0, capture.FlagACK, 1, nil)
		for ; len(order) >= 3; order = order[3:] {
			side, at := int(order[0]&1), int(order[1])
			b := said[side]
			at = min(at, len(b))
			send(side, capture.FlagACK, 1+at, b[at:min(len(b), at+int(order[2]))])
		}
		for side, b := range said { // what is missing comes at last
			if n := int(upTo(side)); n < len(b) {
				send(side, capture.FlagACK, 1+n, b[n:])
			}
		}
		in.Flush()
		if flows != 1 || !slices.Equal(got, want) {
			t.Errorf("%d flows\n%v\n%v", flows, got, want)
		}
	})
}
