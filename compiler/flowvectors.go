package compiler

import (
	"net/netip"
	"slices"

	"nepcoc/backends"
	"nepcoc/internal/evasion"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// withFlows is a kind of artifact that makes tokens of packets itself: where nobody gave it flows to prove that by, it gets FlowVectors.
func withFlows(a backends.Artifact) backends.Artifact {
	build := a.Build
	a.Build = func(b *bundle.Bundle, o backends.ArtifactOptions) ([]backends.File, error) {
		if o.Flows == nil {
			var err error
			if o.Flows, err = FlowVectors(b); err != nil {
				return nil, err
			}
		}
		return build(b, o)
	}
	return a
}

// FlowVectors are made-up flows with what the flow table, the reference executor and package classify make of them by a bundle; none
// where the bundle has no contract.
func FlowVectors(b *bundle.Bundle) (list []backends.FlowVector, err error) {
	if b.Manifest.Contract.YAML == "" {
		return nil, nil
	}
	contract, err := traffic.Parse("the bundle's contract", []byte(b.Manifest.Contract.YAML))
	if err != nil {
		return nil, err
	}
	encoder, err := traffic.NewEncoder(contract)
	if err != nil {
		return nil, err
	}
	reference, err := classify.Reference(b)
	if err != nil {
		return nil, err
	}
	recorded := &recorder{Executor: reference}
	words := classify.New(b, recorded)
	for _, packets := range madeUp() {
		v := backends.FlowVector{}
		for i := range packets {
			f := packets[i].Frame()
			v.Packets = append(v.Packets, backends.FlowPacket{IP: f.Data[14:], Reverse: packets[i].Dir != packets[0].Dir, Time: uint64(f.Time)})
		}
		first, failed := packets[0], error(nil)
		in, err := flow.NewInput(flow.Options{Encoder: encoder, Capacity: 4, Ready: func(f *flow.Flow) {
			v.Tokens, v.Valid, v.Marks, v.Payload = slices.Clone(f.Tokens), f.Valid, uint32(f.Marks), f.Payload
			v.ClientSecond = f.Key.SrcAddr() != first.Src
			results, err := words.Run(f.Tokens, f.Valid)
			if err != nil {
				failed = err
				return
			}
			v.Logits = recorded.out
			for h, r := range results {
				w := backends.Word{Label: r.Class, Score: r.Score, Margin: r.Margin, Unknown: r.Unknown}
				if words.Heads[h].Kind == bundle.KindLabels {
					w = backends.Word{}
					for _, l := range r.Given {
						w.Given = append(w.Given, l.Index)
						w.Scores = append(w.Scores, l.Score)
					}
				}
				v.Words = append(v.Words, w)
			}
		}})
		if err != nil {
			return nil, err
		}
		if err := in.Run(evasion.Source(packets)); err != nil {
			return nil, err
		}
		if failed != nil {
			return nil, failed
		}
		list = append(list, v)
	}
	return list, nil
}

// recorder keeps an executor's logits: those of outputs that make no verdict, too.
type recorder struct {
	classify.Executor
	out [][]int32
}

func (r *recorder) Run(tokens []int32, valid int, out [][]int32) error {
	err := r.Executor.Run(tokens, valid, out)
	r.out = nil
	for _, o := range out {
		r.out = append(r.out, slices.Clone(o))
	}
	return err
}

// madeUp are four flows, each of one connection whose packets all enter at the time of the first one's verdict: a TCP connection that is
// closed, of which two segments come in the wrong order; one over IPv6 whose server speaks first and repeats itself; a question with its
// answer; and a datagram alone.
func madeUp() [][]evasion.Packet {
	v4 := [2]netip.AddrPort{netip.MustParseAddrPort("192.0.2.7:49152"), netip.MustParseAddrPort("198.51.100.9:443")}
	v6 := [2]netip.AddrPort{netip.MustParseAddrPort("[2001:db8::7]:50001"), netip.MustParseAddrPort("[2001:db8:1::25]:25")}
	const syn, ack, fin, push = capture.FlagSYN, capture.FlagACK, capture.FlagFIN, 8
	return [][]evasion.Packet{
		tcp(v4, []segment{
			{0, syn, 0, 0, 0}, {1, syn | ack, 0, 0, 0}, {0, ack, 0, 0, 0}, {0, ack | push, 0, 201, 0x16}, {1, ack | push, 120, 77, 0x31},
			{1, ack | push, 0, 120, 0x16}, {0, ack, 201, 0, 0}, {0, ack | push, 201, 40, 0x17}, {1, ack | push, 197, 333, 0x17}, {0, ack | fin, 241, 0, 0},
		}),
		tcp(v6, []segment{
			{0, syn, 0, 0, 0}, {1, syn | ack, 0, 0, 0}, {0, ack, 0, 0, 0}, {1, ack | push, 0, 33, 0x32}, {1, ack | push, 0, 33, 0x32}, {0, ack | push, 0, 19, 0x45},
			{1, ack | push, 33, 90, 0x32}, {0, ack | push, 19, 300, 0x4d}, {1, ack | fin, 123, 0, 0},
		}),
		udp([2]netip.AddrPort{netip.AddrPortFrom(v4[0].Addr(), 40053), netip.AddrPortFrom(v4[1].Addr(), 53)}, 29, 93, 29, 61),
		udp([2]netip.AddrPort{netip.AddrPortFrom(v6[0].Addr(), 40123), netip.AddrPortFrom(v6[1].Addr(), 123)}, 48),
	}
}

// segment is one of a TCP connection: size bytes that begin at of what its sender sends.
type segment struct {
	dir      int
	flags    uint8
	at, size uint32
	byte     byte // of payload, the first one
}

// start is when flows begin, step the time between two packets.
const start, step = int64(1_700_000_000e9), int64(2e6)

func tcp(ends [2]netip.AddrPort, segments []segment) (list []evasion.Packet) {
	var sent [2]uint32 // sequence numbers so far, the SYN's among them
	isn := [2]uint32{0xfffffff0, 7000}
	for i, s := range segments {
		p := evasion.Packet{
			Time: start + int64(i)*step, Dir: s.dir, Src: ends[s.dir], Dst: ends[1-s.dir], Proto: capture.ProtoTCP, TTL: 64, ID: uint16(900 + i),
			Seq: isn[s.dir] + 1 + s.at, Flags: s.flags, Window: 64000, Payload: payload(s.byte, int(s.size)),
		}
		if s.flags&capture.FlagSYN != 0 {
			p.Seq--
			p.Options = []byte{2, 4, 5, 180, 1, 3, 3, 7} // largest segment, window scale
		}
		if s.flags&capture.FlagACK != 0 {
			p.Ack = isn[1-s.dir] + sent[1-s.dir]
		}
		sent[s.dir] = max(sent[s.dir], 1+s.at+s.size)
		list = append(list, p)
	}
	return list
}

// udp are datagrams of some sizes, by turns from either end.
func udp(ends [2]netip.AddrPort, sizes ...int) (list []evasion.Packet) {
	for i, n := range sizes {
		dir := i % 2
		list = append(list, evasion.Packet{
			Time: start + int64(i)*step, Dir: dir, Src: ends[dir], Dst: ends[1-dir], Proto: capture.ProtoUDP, TTL: 57, ID: uint16(80 + i), Payload: payload(byte(0x20+i), n),
		})
	}
	return list
}

// payload are n bytes in which each value comes, in any order.
func payload(first byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i*i*7+i)
	}
	return b
}
