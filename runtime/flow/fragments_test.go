package flow_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// fragment is one of a datagram of four: A B C D of one flow, a b c d of
// another, each with bytes of its own; W X Y Z are like A B C D with the same
// id, but of another datagram.
func fragment(name byte, v6 bool) pkt {
	n := int(name-'A') & 31
	p := udp(7, 24)
	switch {
	case name >= 'a':
		p = udp(8, 24)
		p.id = 1
	case name >= 'W':
		n = int(name - 'W')
	}
	p.v6 = v6
	p.offset, p.more = 32*n, n < 3
	if n > 0 {
		p.payload = make([]byte, 32)
	}
	for i := range p.payload {
		p.payload[i] = name
	}
	return p
}

// sequence makes packets of a script: fragments, 1 ms apart; +50 waits for 50
// ms, = is a whole packet of the first flow, ! that of a third one.
func sequence(script string, v6 bool) []at {
	var packets []at
	var now time.Duration
	for _, w := range strings.Fields(script) {
		now += time.Millisecond
		var wait int
		switch n, _ := fmt.Sscanf(w, "+%d", &wait); {
		case n == 1:
			now += time.Duration(wait) * time.Millisecond
			continue
		case w == "=" || w == "!":
			p := fragment('A', v6)
			p.more = false
			if w == "!" {
				p.sport = 9
			}
			packets = append(packets, at{now, p})
		default:
			packets = append(packets, at{now, fragment(w[0], v6)})
		}
	}
	return packets
}

func TestFragmentOrder(t *testing.T) {
	for _, tc := range []struct {
		name, script string
		like         string // a script without fragments out of order, that gives the same flows
		ignored      map[capture.Kind]uint64
	}{
		{"in order", "A B C D", "A B C D", nil},
		{"reversed", "D C B A", "A B C D", nil},
		{"first last", "B C D A", "A B C D", nil},
		{"two swapped after the first", "A C B D", "A B C D", nil},
		{"overtaken before and after the first", "D A C B", "A B C D", nil},
		{"two datagrams interleaved", "A a B b C c D d", "A B C D a b c d", nil},
		{"two datagrams interleaved, reversed", "d D c C b B a A", "a b c d A B C D", nil},
		{"duplicates", "A A B B C D D A", "A B C D", map[capture.Kind]uint64{capture.IgnoredDuplicateFragment: 4}},
		{"duplicates of fragments that wait", "C C A C B B", "A B C", map[capture.Kind]uint64{capture.IgnoredDuplicateFragment: 3}},
		{"the first is missing", "B C D", "", map[capture.Kind]uint64{capture.IgnoredFragment: 3}},
		{"the first is missing, others go on", "B C D = ! +31000 !", "= ! +31000 !", map[capture.Kind]uint64{capture.IgnoredFragment: 3}},
		{"the first comes late", "B +29000 A", "+29000 A B", nil},
		{"the first comes too late", "B +31000 A", "+31000 A", map[capture.Kind]uint64{capture.IgnoredFragment: 1}},
		{"a gap is filled in time", "A D +50 = C B", "A +50 = B C D", nil},
		{"a gap stays", "A C D = ! = = =", "A = ! = = =", nil},
		{"a gap stays for too long", "A C D +200 = =", "A C D +200 = =", nil},
		{"a gap is filled too late", "A D +200 = B", "A D +200 = B", nil},
		{"the id is used again", "A W Z Y X", "A W X Y Z", nil},
		{"a late duplicate", "A B a b +1000 A B", "A B a b", map[capture.Kind]uint64{capture.IgnoredDuplicateFragment: 2}},
		{"duplicates, but a minute later", "A B +60000 A B", "A B +60000 A B", nil},
	} {
		for _, v6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/v6=%v", tc.name, v6), func(t *testing.T) {
				got, n, err := runSource(t, traffic.Default(), 0, source(sequence(tc.script, v6)...))
				if err != nil {
					t.Fatal(err)
				}
				want, _, err := runSource(t, traffic.Default(), 0, source(sequence(tc.like, v6)...))
				if err != nil {
					t.Fatal(err)
				}
				summary := func(flows []seen) (s []string) {
					for _, f := range flows {
						s = append(s, fmt.Sprintf("%s, %d packets: %v", f.key, f.used, f.tokens[:f.valid]))
					}
					slices.Sort(s)
					return s
				}
				if g, w := summary(got), summary(want); !slices.Equal(g, w) {
					t.Errorf("flows\n%s\nwant\n%s", strings.Join(g, "\n"), strings.Join(w, "\n"))
				}
				for k := range capture.NumKinds {
					if k != capture.KindOK && n.Frames[k] != tc.ignored[k] {
						t.Errorf("%d times %s, want %d", n.Frames[k], k, tc.ignored[k])
					}
				}
			})
		}
	}
}

// Every order of a datagram's fragments, with a duplicate of each anywhere,
// gives the tokens of the right order.
func TestFragmentPermutations(t *testing.T) {
	want, _, _ := runSource(t, traffic.Default(), 0, source(sequence("A B C D", false)...))
	names := []byte("ABCD")
	var permute func(k int)
	permute = func(k int) {
		if k < len(names) {
			for i := k; i < len(names); i++ {
				names[k], names[i] = names[i], names[k]
				permute(k + 1)
				names[k], names[i] = names[i], names[k]
			}
			return
		}
		for dup := range 5 {
			script := string(names[:dup])
			if dup > 0 {
				script += string(names[0])
			}
			script = strings.Join(strings.Split(script+string(names[dup:]), ""), " ")
			got, n, _ := runSource(t, traffic.Default(), 0, source(sequence(script, false)...))
			if len(got) != 1 || !slices.Equal(got[0].tokens, want[0].tokens) || got[0].packets != 4 || n.Ignored() != uint64(min(dup, 1)) {
				t.Errorf("%s: %d flows, %d ignored: %v", script, len(got), n.Ignored(), got)
			}
		}
	}
	permute(0)
}

// Fragments without a first never take more than their room, and those that
// are evicted are counted; a datagram that comes then is joined all the same.
func TestFragmentEviction(t *testing.T) {
	var packets []at
	for i := range 3000 {
		p := fragment('B', false)
		p.id, p.src[2] = uint16(100+i), byte(i>>4)
		packets = append(packets, at{time.Duration(i), p})
	}
	for i, p := range sequence("D C B A", false) {
		packets = append(packets, at{time.Duration(5000 + i), p.pkt})
	}
	flows, n, err := runSource(t, traffic.Default(), 0, source(packets...))
	if err != nil {
		t.Fatal(err)
	}
	evicted, waited := n.Frames[capture.IgnoredFragmentEvicted], n.Frames[capture.IgnoredFragment]
	if len(flows) != 1 || flows[0].packets != 4 || evicted < 2000 || waited == 0 || waited > 256 || evicted+waited != 3000 {
		t.Errorf("%d flows; %d evicted, %d waited", len(flows), evicted, waited)
	}
}

// One datagram of more fragments than there is room for.
func TestFragmentOverflow(t *testing.T) {
	var packets []at
	for i := 8000; i > 0; i-- {
		p := fragment('B', true)
		p.offset, p.payload, p.more = 8*i, p.payload[:8], true
		packets = append(packets, at{time.Duration(8000 - i), p})
	}
	for name, first := range map[string]int{"first at the end": 8000, "first at the start": 0, "first in between": 4000} {
		t.Run(name, func(t *testing.T) {
			flows, n, err := runSource(t, traffic.Default(), 0, source(slices.Insert(slices.Clone(packets), first, at{0, fragment('A', true)})...))
			if err != nil {
				t.Fatal(err)
			}
			if len(flows) != 1 || n.Joined()+n.Frames[capture.IgnoredFragmentEvicted] != 8001 || n.Joined() < 1 {
				t.Errorf("%d flows, %v", len(flows), n.Frames)
			}
		})
	}
}

// Fragments that wait count as held, and with the time alone they no longer do.
func TestFragmentsHeld(t *testing.T) {
	enc, _ := traffic.NewEncoder(traffic.Default())
	in, err := flow.NewInput(flow.Options{Encoder: enc, Capacity: 8, Ready: func(*flow.Flow) {}})
	if err != nil {
		t.Fatal(err)
	}
	check := func(joined, held, ignored uint64) {
		t.Helper()
		if n := in.Counters(); n.Joined() != joined || n.Held != held || n.Ignored() != ignored {
			t.Errorf("%d joined, %d held, %d ignored; want %d, %d, %d", n.Joined(), n.Held, n.Ignored(), joined, held, ignored)
		}
	}
	mem := source(sequence("A C c d", false)...)
	var f capture.Frame
	for mem.Next(&f) == nil {
		in.Frame(&f)
	}
	check(1, 3, 0)
	in.Advance(start+int64(time.Second), 1)
	check(2, 2, 0)
	in.Advance(start+int64(31*time.Second), 1)
	check(2, 0, 2)
}

func TestFragmentsDoNotAllocate(t *testing.T) {
	enc, _ := traffic.NewEncoder(traffic.Default())
	in, err := flow.NewInput(flow.Options{Encoder: enc, Capacity: 8, Ready: func(*flow.Flow) {}})
	if err != nil {
		t.Fatal(err)
	}
	mem := source(sequence("d D c C b B a A A C B = B +31000 B +31000 D", false)...)
	var f capture.Frame
	run := func() {
		mem.Rewind()
		for mem.Next(&f) == nil {
			in.Frame(&f)
		}
		in.Flush()
	}
	for range 100 {
		run() // until every slot has its buffer
	}
	if n := testing.AllocsPerRun(20, run); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Who sends fragments can't choose whose others a table forgets for them: a secret says where they are kept.
func TestFragmentsAimed(t *testing.T) {
	first := udp(7, 16)
	first.id, first.more = 1, true
	later := udp(7, 16)
	later.id, later.offset = 1, 24
	set := flow.FragmentSet(first.src, first.dst, 1, capture.ProtoUDP, flow.Seed{})
	packets := []at{{0, first}}
	for i := uint32(0); len(packets) < 64; i++ {
		p := first
		binary.BigEndian.PutUint32(p.src[:], 100<<24|i)
		if flow.FragmentSet(p.src, p.dst, 1, capture.ProtoUDP, flow.Seed{}) == set {
			packets = append(packets, at{1, p})
		}
	}
	mem := source(append(packets, at{2, later})...)
	for secret, want := range map[bool]uint64{false: 64, true: 65} { // the one that continues the victim's is lost, or is not
		mem.Rewind()
		dealt := uint64(0)
		front := flow.Front{Deal: func(p *capture.Packet) {
			if p.SrcPort == 7 {
				dealt++
			}
		}, Count: func(capture.Kind) {}, Unread: new(flow.Counters)}
		if secret {
			front.Seed = flow.NewSeed()
		}
		var f capture.Frame
		for mem.Next(&f) == nil {
			front.Frame(&f)
		}
		front.Flush()
		if dealt != want {
			t.Errorf("secret %v: %d fragments have found their flows, want %d", secret, dealt, want)
		}
	}
}

// A fragment that no host takes, of which the wire's word is known, is not put together with others; one that its
// datagram has to go for leaves a mark on the flow, also where that begins only later.
func TestFragmentsThatHostsDropSpoilNoDatagram(t *testing.T) {
	enc, err := traffic.NewEncoder(hostsContract(true))
	if err != nil {
		t.Fatal(err)
	}
	p := pkt{src: [4]byte{10, 0, 0, 1}, dst: [4]byte{10, 0, 0, 2}, sport: 4000, dport: 5000, proto: capture.ProtoUDP, id: 7}
	whole := p
	whole.payload = bytes.Repeat([]byte("0123456789abcdef"), 4)
	ip := whole.ip()[20:]
	ip[6], ip[7] = 0, 0 // no checksum
	part := func(from, to int, change bool) []byte {
		q := p
		q.offset, q.more, q.payload = from, to < len(ip), slices.Clone(ip[from:to])
		b := q.ethernet()
		if from == 0 {
			b = append(b[:34], q.payload...)
			binary.BigEndian.PutUint16(b[16:], uint16(len(b)-14))
		}
		if change {
			b[len(b)-1] ^= 1
		}
		binary.BigEndian.PutUint16(b[24:], ^capture.HeaderSum(b[14:34]))
		return b
	}
	for _, test := range []struct {
		name  string
		spoil func(b []byte)
		marks flow.Marks
		bytes int
	}{
		{"wrong checksum", func(b []byte) { b[24] ^= 1 }, 0, 64 + 1},
		{"other bytes", func([]byte) {}, flow.MarkLost, 1},
	} {
		var got []flow.Flow
		in, err := flow.NewInput(flow.Options{Encoder: enc, Capacity: 4, Ready: func(f *flow.Flow) { got = append(got, *f) }})
		if err != nil {
			t.Fatal(err)
		}
		bad := part(24, 48, true)
		test.spoil(bad)
		later := p
		later.payload = []byte("!")
		last := later.ethernet()
		binary.BigEndian.PutUint16(last[24:], ^capture.HeaderSum(last[14:34]))
		for i, b := range [][]byte{part(0, 24, false), bad, part(24, 72, false), last} {
			in.Frame(&capture.Frame{Data: b, Length: len(b), Link: capture.LinkEthernet, Time: int64(i) * 1e6, Trust: capture.TrustWire})
		}
		in.Flush()
		if len(got) != 1 || got[0].Marks != test.marks || got[0].Payload != test.bytes {
			t.Errorf("%s: %+v", test.name, got)
		}
	}
}
