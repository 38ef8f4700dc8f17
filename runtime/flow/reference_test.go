package flow_test

import (
	"encoding/binary"
	"slices"
	"testing"

	"nepcoc/internal/slowtokens"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// allOf are the groups that can be blanked in a place.
var headerBlanks = []traffic.Blank{
	traffic.BlankAddresses, traffic.BlankPorts, traffic.BlankChecksums, traffic.BlankTOS, traffic.BlankTTL, traffic.BlankIPID, traffic.BlankFlowLabel,
	traffic.BlankTCPSeq, traffic.BlankTCPWindow, traffic.BlankTCPTimestamps, traffic.BlankTCPOptions,
}

var payloadBlanks = []traffic.Blank{traffic.BlankTLSRandom, traffic.BlankTLSSNI}

// openContracts are contracts of different kinds, with what can be chosen.
func openContracts(t testing.TB) map[string]traffic.Contract {
	named := func(name string) traffic.Contract {
		c, err := traffic.Named(name)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	ip := named("nepco-bytes")
	ip.Blank = slices.Concat(headerBlanks, payloadBlanks)
	ip.BytesPerPacket, ip.Length = 300, 700

	ethernet := named("nepco")
	ethernet.FirstLayer, ethernet.BytesPerPacket, ethernet.HeaderBytes, ethernet.Length = traffic.LayerEthernet, 160, 70, 300
	ethernet.Blank = []traffic.Blank{traffic.BlankMAC, traffic.BlankTTL, traffic.BlankTCPTimestamps, traffic.BlankTLSSNI}
	ethernet.PacketTokens = []traffic.PacketToken{traffic.TokenDirection, traffic.TokenLength}

	payload := named("nepco-bytes")
	payload.FirstLayer, payload.Blank, payload.BytesPerPacket = traffic.LayerPayload, payloadBlanks[:1], 100
	payload.Accept, payload.Empty = traffic.AcceptHosts, traffic.EmptySkip
	payload.PacketTokens = []traffic.PacketToken{traffic.TokenLength}
	payload.ValueOffset = 0
	for b := range 256 {
		payload.ByteIDs = append(payload.ByteIDs, 3+b/2*7%300)
	}

	stream := named("nepco-stream")
	stream.Blank = payloadBlanks
	stream.ClientBytes, stream.ServerBytes, stream.Length = 600, 200, 900
	stream.ValueOffset, stream.ByteIDs = 0, payload.ByteIDs

	numbers := named("nepco")
	numbers.Length, numbers.Packets, numbers.Numbers = 64, 14, []traffic.Number{traffic.NumberGap, traffic.NumberLength, traffic.NumberDirection}

	hosts := payload
	hosts.Packets, hosts.Length, hosts.Numbers = 9, 300, []traffic.Number{traffic.NumberLength, traffic.NumberGap}
	return map[string]traffic.Contract{"ip": ip, "ethernet": ethernet, "payload": payload, "stream": stream, "numbers": numbers, "numbers of hosts": hosts}
}

// slow collects what flows' tokens are made of, for the reference.
type slow struct {
	packets  map[uint64][]slowtokens.Packet
	segments map[uint64][]slowtokens.Segment
	udp      map[uint64]bool
	hosts    bool            // the table leaves out what a receiver does
	cut      map[uint64]bool // a fragment was kept without what the reference needs
}

func (s *slow) took(t flow.Taken) {
	seq, p, at := t.Seq, t.Packet, t.At
	ip := slices.Clone(p.IP)
	size := -1
	if s.hosts {
		size = p.Size
	}
	s.packets[seq] = append(s.packets[seq], slowtokens.Packet{Link: slices.Clone(p.MAC[:]), IP: ip, Side: int(p.Side), Proto: p.Proto, Size: size, Time: p.Time})
	s.segments[seq] = append(s.segments[seq], slowtokens.Segment{Side: int(p.Side), At: int(at), Payload: ip[min(len(ip), p.Payload):min(len(ip), p.Payload+p.Size)]})
	// A fragment whose header says no length had that of its frame, of which the bytes kept don't tell.
	v4 := ip[0]>>4 == 4
	lengthless := v4 && ip[2]|ip[3] == 0 && binary.BigEndian.Uint16(ip[6:])&0x3fff != 0 || !v4 && ip[4]|ip[5] == 0
	s.cut[seq] = s.cut[seq] || p.Payload > len(ip) || lengthless
	s.udp[seq] = p.Proto == capture.ProtoUDP
}

func (s *slow) tokens(c *traffic.Contract, seq uint64) ([]int32, int) {
	if c.View == traffic.ViewStream {
		return slowtokens.OfStream(c, s.udp[seq], s.segments[seq])
	}
	tokens, valid := slowtokens.Of(c, s.packets[seq])
	return append(tokens, slowtokens.Numbers(c, s.packets[seq])...), valid
}

// checkReference runs frames through a table, whose tokens must be the reference's.
func checkReference(t testing.TB, c traffic.Contract, capacity int, src capture.Source) (flows int) {
	enc, err := traffic.NewEncoder(c)
	if err != nil {
		t.Fatal(err)
	}
	ref := slow{map[uint64][]slowtokens.Packet{}, map[uint64][]slowtokens.Segment{}, map[uint64]bool{}, c.Accept == traffic.AcceptHosts, map[uint64]bool{}}
	in, err := flow.NewInput(flow.Options{Encoder: enc, Capacity: capacity, Took: ref.took, Ready: func(f *flow.Flow) {
		if flows++; ref.cut[f.Seq] {
			return
		}
		want, valid := ref.tokens(&c, f.Seq)
		if valid == f.Valid && slices.Equal(want, f.Tokens) {
			return
		}
		for i := range want {
			if want[i] != f.Tokens[i] {
				t.Fatalf("flow %d, %s: token %d is %d, want %d (%d tokens, want %d)", f.Seq, f.Key, i, f.Tokens[i], want[i], f.Valid, valid)
			}
		}
		t.Fatalf("flow %d, %s: %d tokens, want %d", f.Seq, f.Key, f.Valid, valid)
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Run(src); err != nil {
		t.Fatal(err)
	}
	return flows
}

// TestReference: the tokens of all labelled flows under contracts of different kinds are what a plain
// re-implementation makes of their packets.
func TestReference(t *testing.T) {
	splits := []string{"train", "valid", "test", "calib"}
	if testing.Short() {
		splits = splits[3:]
	}
	for name, c := range openContracts(t) {
		t.Run(name, func(t *testing.T) {
			flows := 0
			for _, split := range splits {
				src, err := capture.Open(testfiles.Path(t, "traffic", split+".pcap"))
				if err != nil {
					t.Fatal(err)
				}
				flows += checkReference(t, c, 1<<12, src)
				src.Close()
			}
			t.Logf("%d flows", flows)
		})
	}
}

// FuzzReference makes a contract of the input's first bytes and frames of the rest, and compares with the reference.
func FuzzReference(f *testing.F) {
	hello := clientHello("example.org")
	for kind := range byte(6) {
		in := []byte{kind, 0xff, 0xff, 40, 60, 3 + kind&1<<4 + kind&2<<4}
		for i, p := range randomTraffic(uint64(kind), 8) {
			if i%3 == 0 && p.pkt.proto == 6 {
				p.pkt.payload = hello
			}
			p.pkt.payload = p.pkt.payload[:min(len(p.pkt.payload), 150)]
			e := p.pkt.ethernet()
			in = append(append(in, byte(len(e))), e...)
			e = p.pkt.reverse().ethernet()
			in = append(append(in, byte(len(e))), e...)
		}
		f.Add(in)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < 6 {
			return
		}
		c, err := traffic.Named([]string{"nepco-bytes", "nepco"}[in[0]>>7])
		if err != nil {
			t.Fatal(err)
		}
		groups := slices.Concat(headerBlanks, payloadBlanks)
		switch c.Blank = nil; in[0] % 3 {
		case 0:
			c.FirstLayer = traffic.LayerEthernet
			groups = append(groups, traffic.BlankMAC)
		case 1:
			c.FirstLayer = traffic.LayerPayload
			groups = payloadBlanks
		}
		for i, bits := 0, binary.BigEndian.Uint16(in[1:]); i < len(groups); i++ {
			if bits>>i&1 != 0 {
				c.Blank = append(c.Blank, groups[i])
			}
		}
		c.BytesPerPacket = 1 + int(in[4])
		if c.FirstLayer != traffic.LayerPayload {
			c.HeaderBytes = int(in[3]) % c.BytesPerPacket
		}
		if c.Packets = 20; in[5]&1 != 0 {
			c.PacketTokens = append(c.PacketTokens, traffic.TokenDirection)
		}
		if in[5]&2 != 0 {
			c.PacketTokens = append(c.PacketTokens, traffic.TokenLength)
		}
		if in[5]&4 != 0 && c.TokenBytes == 1 {
			c.ValueOffset = 0
			for b := range 256 {
				c.ByteIDs = append(c.ByteIDs, 3+b*int(in[5])%1000)
			}
		}
		if in[5]&8 != 0 {
			c.Accept = traffic.AcceptHosts
		}
		if in[5]&32 != 0 {
			c.Numbers = []traffic.Number{traffic.NumberDirection, traffic.NumberGap, traffic.NumberLength}
		}
		if in[5]&16 != 0 { // room that ends anywhere
			c.Length = 8 + int(in[3])
		}
		var mem capture.Memory
		for b := in[6:]; len(b) > 0; {
			n := min(int(b[0]), len(b)-1)
			mem.Add(&capture.Frame{Data: b[1 : 1+n], Length: n, Link: capture.LinkEthernet, Time: int64(mem.Len()*mem.Len()) * 1e5})
			b = b[1+n:]
		}
		checkReference(t, c, 8, &mem)
	})
}

// FuzzTLS cuts a stream into two segments and compares the bytes of the stream view.
func FuzzTLS(f *testing.F) {
	f.Add(uint8(3), clientHello("example.org"))
	f.Add(uint8(9), append(clientHello(""), clientHello("a.b")...))
	f.Add(uint8(0), records(clientHello("example.org")[5:], 7))
	f.Fuzz(func(t *testing.T, cut uint8, b []byte) {
		c, err := traffic.Named("nepco-stream")
		if err != nil {
			t.Fatal(err)
		}
		c.ClientBytes, c.ServerBytes, c.Length, c.Blank = 300, 0, 400, payloadBlanks[cut%3:]
		enc, err := traffic.NewEncoder(c)
		if err != nil {
			t.Fatal(err)
		}
		st, buf := enc.Begin(capture.ProtoTCP), make([]byte, enc.BufferSize())
		at := min(int(cut), len(b))
		enc.Put(&st, buf, traffic.Client, int64(at), b[at:])
		enc.Put(&st, buf, traffic.Client, 0, b[:at])
		got := make([]int32, c.Length)
		n := enc.Tokens(got, st, buf)
		want, valid := slowtokens.OfStream(&c, false, []slowtokens.Segment{{Payload: b}})
		if n != valid || !slices.Equal(got, want) {
			t.Fatalf("%d tokens, want %d:\n%v\n%v", n, valid, got, want)
		}
	})
}

// records spreads handshake messages over records of a few bytes.
func records(messages []byte, size int) (b []byte) {
	for part := range slices.Chunk(messages, size) {
		b = append(append(b, 22, 3, 1, 0, byte(len(part))), part...)
	}
	return b
}

// clientHello is a record with a client's hello for a server's name, without that extension where it is empty.
func clientHello(name string) []byte {
	vector := func(size int, b []byte) []byte {
		n := binary.BigEndian.AppendUint32(nil, uint32(len(b)))
		return append(n[4-size:], b...)
	}
	ext := append([]byte{0, 23}, vector(2, nil)...) // extended master secret
	if name != "" {
		server := append([]byte{0}, vector(2, []byte(name))...)
		ext = append(append(ext, 0, 0), vector(2, vector(2, server))...)
	}
	body := []byte{3, 3}
	for i := range byte(32) {
		body = append(body, 0xa0+i)
	}
	body = append(body, vector(1, []byte("session"))...)
	body = append(body, vector(2, []byte{0x13, 1})...)
	body = append(body, vector(1, []byte{0})...)
	body = append(body, vector(2, ext)...)
	return append([]byte{22, 3, 1}, vector(2, append([]byte{1}, vector(3, body)...))...)
}

// TestHello: of a hello, however it is spread over records, just the random bytes and the name are zero.
func TestHello(t *testing.T) {
	hello := clientHello("example.org")
	for size := 1; size < 100; size++ {
		stream := records(hello[5:], size)
		random, name := slowtokens.TLS(stream)
		if len(random) != 32 || len(name) != len("example.org") {
			t.Fatalf("records of %d bytes: the reference finds %d and %d bytes", size, len(random), len(name))
		}
		c, err := traffic.Named("nepco-stream")
		if err != nil {
			t.Fatal(err)
		}
		c.ClientBytes, c.Length, c.Blank = len(stream), len(stream)+200, payloadBlanks
		enc, err := traffic.NewEncoder(c)
		if err != nil {
			t.Fatal(err)
		}
		st, buf := enc.Begin(capture.ProtoTCP), make([]byte, enc.BufferSize())
		enc.Put(&st, buf, traffic.Client, 0, stream)
		for range 2 { // asking changes nothing
			got := make([]int32, c.Length)
			enc.Tokens(got, st, buf)
			for i, b := range stream {
				if slices.Contains(random, i) || slices.Contains(name, i) {
					b = 0
				}
				if at := 4; got[at+i] != int32(c.ValueOffset)+int32(b) { // CLS, transport, side, length
					t.Fatalf("records of %d bytes: byte %d is %d, want %d", size, i, got[at+i]-int32(c.ValueOffset), b)
				}
			}
		}
	}
}

// TestKeptShort: who keeps only a packet's first bytes, as the agent does of what a contract takes, may cut it within
// headers that are longer than others'.
func TestKeptShort(t *testing.T) {
	syn := tcp(40, capture.FlagSYN)
	data := syn
	data.flags, data.seq = capture.FlagACK, 1
	for name, c := range openContracts(t) {
		c.Accept = traffic.AcceptHosts
		for _, frame := range [][]byte{syn.ip(), data.ip(), longHeaders(syn.ip()), longHeaders(data.ip()), longHeaders(udp(1, 40).ip())} {
			for n := 40; n <= len(frame); n++ {
				enc, err := traffic.NewEncoder(c)
				if err != nil {
					t.Fatal(err)
				}
				table, err := flow.New(flow.Options{Encoder: enc, Capacity: 2, Ready: func(*flow.Flow) {}})
				if err != nil {
					t.Fatal(err)
				}
				var p capture.Packet
				if kind := capture.Decode(&capture.Frame{Data: frame, Length: len(frame), Link: capture.LinkRaw}, &p); kind != capture.KindOK {
					t.Fatalf("%s: %s", name, kind)
				}
				p.IP = p.IP[:n:n]
				table.Add(&p)
				table.Flush()
			}
		}
	}
}

// longHeaders makes an IPv6 packet with a long extension header of an IPv4 packet.
func longHeaders(v4 []byte) []byte {
	ext := make([]byte, 8+8*30)
	ext[0], ext[1] = v4[9], 30
	b := make([]byte, 40)
	b[0], b[6], b[7], b[23], b[39] = 0x60, 60, 64, 1, 2
	b = append(append(b, ext...), v4[20:]...)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	return b
}

// TestKeptBytes: the bytes of a packet that a contract says it needs are enough for the same tokens and marks; the agent keeps no more.
func TestKeptBytes(t *testing.T) {
	for name, c := range openContracts(t) {
		t.Run(name, func(t *testing.T) {
			enc, err := traffic.NewEncoder(c)
			if err != nil {
				t.Fatal(err)
			}
			type result struct {
				tokens []int32
				marks  flow.Marks
			}
			var want, got []result
			collect := func(to *[]result) flow.Options {
				return flow.Options{Encoder: enc, Capacity: 1 << 12, Ready: func(f *flow.Flow) { *to = append(*to, result{slices.Clone(f.Tokens), f.Marks}) }}
			}
			whole, err := flow.NewInput(collect(&want))
			if err != nil {
				t.Fatal(err)
			}
			table, err := flow.New(collect(&got))
			if err != nil {
				t.Fatal(err)
			}
			kept := max(40, c.PacketBytes())
			front := flow.Front{
				Hosts: c.Accept == traffic.AcceptHosts, Limit: kept, Count: table.Count, Unread: table.Counters(),
				Deal: func(p *capture.Packet) {
					if p.Payload > 120 {
						t.Skip("longer headers than are kept")
					}
					p.IP = p.IP[:min(len(p.IP), kept):min(len(p.IP), kept)]
					table.Add(p)
				},
			}
			src, err := capture.Open(testfiles.Path(t, "traffic", "calib.pcap"))
			if err != nil {
				t.Fatal(err)
			}
			defer src.Close()
			var f capture.Frame
			for src.Next(&f) == nil {
				whole.Frame(&f)
				front.Frame(&f)
			}
			whole.Flush()
			front.Flush()
			table.Flush()
			if len(want) != len(got) || len(want) == 0 {
				t.Fatalf("%d flows, want %d", len(got), len(want))
			}
			for i := range want {
				if !slices.Equal(got[i].tokens, want[i].tokens) || got[i].marks != want[i].marks {
					t.Fatalf("flow %d: marks %v, want %v\n%v, want\n%v", i, got[i].marks.Names(), want[i].marks.Names(), got[i].tokens, want[i].tokens)
				}
			}
		})
	}
}
