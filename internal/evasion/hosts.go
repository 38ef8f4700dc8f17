package evasion

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"

	"nepcoc/runtime/capture"
)

// TCP and IP as hosts read them beyond sequence numbers: acknowledgements, options, urgent
// bytes, what comes with a SYN, and headers between IP and TCP or UDP.
func init() {
	Transforms = append(Transforms,
		Transform{Name: "ack-of-unsent", What: "before every segment one with other bytes that acknowledges what was never sent", Depends: true, TCP: true, Apply: shadow(func(p *Packet) { p.Ack += 100000 })},
		Transform{Name: "ack-from-before", What: "the same with an acknowledgement from before the connection", TCP: true, Apply: shadow(func(p *Packet) { p.Ack -= 1 << 24 })},
		Transform{Name: "old-timestamp", What: "before every segment one with other bytes and a timestamp that is too old (PAWS)", TCP: true, Apply: shadowed(stamped, func(p *Packet) { p.Options = withOption(p.Options, 8, -1<<20) })},
		Transform{Name: "signed", What: "before every segment one with other bytes and an MD5 signature, of which the connection has none", TCP: true, Apply: shadow(func(p *Packet) {
			p.Options = append(append([]byte{19, 18}, make([]byte, 16)...), 1, 1)
		})},
		Transform{Name: "stale-prefix", What: "every segment begins 64 bytes before what its receiver waits for, with other bytes there", TCP: true, Apply: func(_ *rand.Rand, p, other []Packet) []Packet {
			n := 0
			return each(func(p *Packet) []Packet {
				q := *p
				if len(p.Payload) > 0 && p.Flags&capture.FlagSYN == 0 {
					q.Seq, q.Payload = p.Seq-64, slices.Concat(filled(foreign(other, n), 64), p.Payload)
					n++
				}
				return []Packet{q}
			})(nil, p, nil)
		}},
		Transform{Name: "syn-with-data", What: "other bytes in the SYN, which the server does not take", TCP: true, Apply: loaded(capture.FlagSYN)},
		Transform{Name: "synack-with-data", What: "the same in its answer", TCP: true, Apply: loaded(capture.FlagSYN | capture.FlagACK)},
		Transform{Name: "data-before-synack", What: "other bytes behind the SYN, before its answer", TCP: true, Apply: func(_ *rand.Rand, p, other []Packet) []Packet {
			const both = capture.FlagSYN | capture.FlagACK
			if len(p) < 2 || p[0].Flags&both != capture.FlagSYN || p[1].Flags&both != both {
				return p
			}
			q := p[0]
			q.Seq, q.Ack, q.Flags, q.Options, q.Payload = q.Seq+1, p[1].Seq+1<<29, capture.FlagACK|8, nil, filled(foreign(other, 0), 60)
			q.Time += 1e3
			return slices.Concat(p[:1:1], []Packet{q}, p[1:])
		}},
		Transform{Name: "other-syn-second", What: "a SYN with another sequence number behind the first", Depends: true, TCP: true, Apply: func(_ *rand.Rand, p, _ []Packet) []Packet {
			if p[0].Flags&(capture.FlagSYN|capture.FlagACK) != capture.FlagSYN {
				return p
			}
			q := p[0]
			q.Seq += 777777
			q.Time += 1e3
			return slices.Concat(p[:1:1], []Packet{q}, p[1:])
		}},
		Transform{Name: "rst-acknowledged", What: "behind every segment an RST with the number that it began with", TCP: true, Apply: each(func(p *Packet) []Packet {
			if len(p.Payload) == 0 || p.Flags&capture.FlagSYN != 0 {
				return []Packet{*p}
			}
			q := *p
			q.Flags, q.Payload, q.Options = capture.FlagRST, nil, nil
			q.Time += 1e3
			return []Packet{*p, q}
		})},
		Transform{Name: "urgent-byte", What: "an urgent byte ahead of each side's first, which is not in what applications read", Depends: true, TCP: true, Apply: func(_ *rand.Rand, p, _ []Packet) []Packet {
			var sent [2]bool
			return each(func(p *Packet) (out []Packet) {
				q := *p
				if !sent[p.Dir] && len(p.Payload) > 0 && p.Flags&capture.FlagSYN == 0 {
					sent[p.Dir] = true
					u := q
					u.Flags, u.Payload, u.Urgent = u.Flags&^capture.FlagFIN|flagURG, []byte{'!'}, 1
					if sent[1-p.Dir] {
						u.Ack++
					}
					out = append(out, u)
					q.Seq++
				} else if sent[p.Dir] {
					q.Seq++
				}
				if sent[1-p.Dir] {
					q.Ack++
				}
				return append(out, q)
			})(nil, p, nil)
		}},
		Transform{Name: "checksum-0", What: "before every segment one with other bytes and a checksum of 0", Depends: true, File: true, TCP: true, Apply: shadow(func(p *Packet) {
			p.Spoil = func(b []byte) []byte { clear(b[headerOf(b)+16:][:2]); return b }
		})},
		Transform{Name: "checksum-pseudo", What: "the same with the sum of the pseudo header alone, as cards are given it", Depends: true, File: true, TCP: true, Apply: shadow(func(p *Packet) { p.Spoil = pseudoOnly })},
		Transform{Name: "ip-checksum-0", What: "before every segment one with other bytes and an IP checksum of 0", Depends: true, File: true, IPv4: true, Apply: shadow(func(p *Packet) {
			p.Spoil = func(b []byte) []byte { b[10], b[11] = 0, 0; return b }
		})},
		Transform{Name: "udp-surplus", What: "64 other bytes behind the end of each datagram, within its packet", UDP: true, Apply: func(_ *rand.Rand, p, other []Packet) []Packet {
			return each(func(p *Packet) []Packet {
				q := *p
				q.Spoil = func(b []byte) []byte { return relength(append(b, filled(foreign(other, 0), 64)...)) }
				return []Packet{q}
			})(nil, p, nil)
		}},
		Transform{Name: "source-route", What: "before every segment one with other bytes and a source route, which hosts don't take", IPv4: true, Apply: shadow(func(p *Packet) {
			p.Spoil = ipOptions([]byte{131, 7, 4, 10, 9, 9, 9, 0})
		})},
		Transform{Name: "ip-options-broken", What: "the same with an IP option that is longer than the header", IPv4: true, Apply: shadow(func(p *Packet) { p.Spoil = ipOptions([]byte{7, 40, 4, 0}) })},
		Transform{Name: "ip-options-padded", What: "IP headers filled up with no-operations", IPv4: true, Apply: each(func(p *Packet) []Packet {
			q := *p
			q.Spoil = ipOptions([]byte(slices.Repeat([]byte{1}, 40)))
			return []Packet{q}
		})},
		Transform{Name: "ipv4-ah", What: "before every segment one with other bytes behind an authentication header that nobody has agreed on", Depends: true, IPv4: true, Apply: shadow(func(p *Packet) {
			p.Spoil = func(b []byte) []byte {
				ah := append([]byte{b[9], 4}, make([]byte, 22)...)
				b[9] = 51
				return relength(slices.Concat(b[:20], ah, b[20:]))
			}
		})},
		Transform{Name: "ipv6-route", What: "before every segment one with other bytes and a routing header with hops left", IPv6: true, Apply: shadow(func(p *Packet) {
			p.Extension = append([]byte{43, p.Proto, 2, 0, 1, 0, 0, 0, 0}, make([]byte, 16)...)
		})},
		Transform{Name: "ipv6-unknown-option", What: "the same with a destination option by which a host that doesn't know it drops the packet", IPv6: true, Apply: shadow(func(p *Packet) {
			p.Extension = []byte{60, p.Proto, 0, 0x7e, 4, 0, 0, 0, 0}
		})},
		Transform{Name: "ipv6-late-hop-by-hop", What: "the same with hop-by-hop options that are not the first header", IPv6: true, Apply: shadow(func(p *Packet) {
			p.Extension = []byte{60, 0, 0, 1, 4, 0, 0, 0, 0, p.Proto, 0, 1, 4, 0, 0, 0, 0}
		})},
		Transform{Name: "ipv6-atomic", What: "a fragment header on every packet that is none", IPv6: true, Apply: each(func(p *Packet) []Packet {
			q := *p
			q.Extension = []byte{44, p.Proto, 0, 0, 0, 0, 0, 0, 9}
			return []Packet{q}
		})},
		Transform{Name: "fragments-late", What: "fragments of 16 bytes, the second 150 ms behind the others", Apply: fragments(16, func(f []Packet) []Packet {
			if len(f) < 3 {
				return f
			}
			return slices.Concat(f[:1:1], f[2:], f[1:2])
		}, 150e6)},
		Transform{Name: "fragments-crowded", What: "two fragments, between which 100 others' first fragments come", Depends: true, Apply: func(r *rand.Rand, p, _ []Packet) []Packet {
			return fragments(24, func(f []Packet) []Packet {
				out := f[:1:1]
				for i := range 100 {
					q := f[0]
					q.ID += uint16(1000 + i)
					out = append(out, q)
				}
				return append(out, f[1:]...)
			})(r, p, nil)
		}},
	)
}

const flagURG = 1 << 5

// filled are n bytes of b, over and over.
func filled(b []byte, n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = b[i%len(b)]
	}
	return out
}

// loaded puts other bytes into packets with exactly these of the flags SYN and ACK.
func loaded(flags uint8) func(*rand.Rand, []Packet, []Packet) []Packet {
	return func(_ *rand.Rand, p, other []Packet) []Packet {
		return each(func(p *Packet) []Packet {
			q := *p
			if p.Flags&(capture.FlagSYN|capture.FlagACK) == flags && len(p.Payload) == 0 {
				q.Payload = filled(foreign(other, 0), 80)
			}
			return []Packet{q}
		})(nil, p, nil)
	}
}

// stamped tells that a packet has a TCP timestamp.
func stamped(p *Packet) bool { return option(p.Options, 8) != nil }

// option finds a TCP option.
func option(b []byte, kind byte) []byte {
	for len(b) > 1 && b[0] != 0 {
		switch {
		case b[0] == 1:
			b = b[1:]
			continue
		case b[1] < 2 || int(b[1]) > len(b):
			return nil
		case b[0] == kind:
			return b[:b[1]]
		}
		b = b[b[1]:]
	}
	return nil
}

// withOption adds to the first number of an option.
func withOption(options []byte, kind byte, add int32) []byte {
	options = slices.Clone(options)
	b := option(options, kind)
	binary.BigEndian.PutUint32(b[2:], binary.BigEndian.Uint32(b[2:])+uint32(add))
	return options
}

// shadowed is shadow for packets of a kind.
func shadowed(which func(*Packet) bool, change func(*Packet)) func(*rand.Rand, []Packet, []Packet) []Packet {
	all := shadow(change)
	return func(r *rand.Rand, p, other []Packet) (out []Packet) {
		for i := range p {
			if which(&p[i]) {
				out = append(out, all(r, p[i:i+1], other)...)
			} else {
				out = append(out, p[i])
			}
		}
		return out
	}
}

// relength mends an IP packet's length, and the checksum of its IPv4 header.
func relength(b []byte) []byte {
	if b[0]>>4 == 6 {
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
		return b
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^sum(b[:int(b[0]&15)*4], 0))
	return b
}

// ipOptions puts options, a multiple of 4 bytes, into an IPv4 header.
func ipOptions(options []byte) func([]byte) []byte {
	return func(b []byte) []byte {
		b = slices.Concat(b[:20], options, b[20:])
		b[0] = 0x40 | byte(5+len(options)/4)
		return relength(b)
	}
}

func pseudoOnly(b []byte) []byte {
	at := headerOf(b)
	src, dst := b[12:16], b[16:20]
	if at == 40 {
		src, dst = b[8:24], b[24:40]
	}
	pseudo := slices.Concat(src, dst, []byte{0, capture.ProtoTCP}, binary.BigEndian.AppendUint16(nil, uint16(len(b)-at)))
	binary.BigEndian.PutUint16(b[at+16:], sum(pseudo, 0))
	return b
}
