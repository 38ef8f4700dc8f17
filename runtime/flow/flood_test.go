package flow_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"nepcoc/internal/testfiles"
	"nepcoc/internal/testflood"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// judged is what became of flows, by key and time of the first packet.
type judged struct {
	tokens  string
	marks   flow.Marks
	packets uint64
}

type flowID struct {
	key   flow.Key
	first int64
}

func judge(t testing.TB, c traffic.Contract, capacity int, shed bool, src capture.Source) (map[flowID]judged, *flow.Input) {
	t.Helper()
	enc, err := traffic.NewEncoder(c)
	if err != nil {
		t.Fatal(err)
	}
	got, absent := map[flowID]judged{}, uint64(0)
	opt := flow.Options{Encoder: enc, Capacity: capacity, Ready: func(f *flow.Flow) {
		if testflood.Attacker(&f.Key) {
			if f.Reason == flow.ReasonEvicted && f.Marks&flow.MarkEvicted == 0 {
				t.Fatalf("%s was evicted and is not marked", f.Key)
			}
			return
		}
		key, _ := f.Key.Canonical()
		got[flowID{key, f.First}] = judged{fmt.Sprint(f.Tokens[:f.Valid]), f.Marks, f.Packets[0] + f.Packets[1]}
	}}
	if shed {
		opt.Shed = func(f *flow.Flow) {
			if absent++; f.Packets[0]+f.Packets[1] != 1 {
				t.Errorf("%s, of %d packets, was shed", f.Key, f.Packets)
			}
		}
	}
	in, err := flow.NewInput(opt)
	if err != nil {
		t.Fatal(err)
	}
	counted := &countingSource{Source: src}
	if err := in.Run(counted); err != nil {
		t.Fatal(err)
	}
	n := in.Counters()
	if err := n.Check(counted.n, in.Undecided()); err != nil || n.Closed != n.Flows || n.Shed != absent {
		t.Errorf("%v; %d flows, %d closed, %d shed of %d", err, n.Flows, n.Closed, n.Shed, absent)
	}
	return got, in
}

// Through a flood of one-packet flows real ones keep their verdicts, and those that don't are marked. In an
// emergency in which flows of one packet may go without, those have none.
func TestFlood(t *testing.T) {
	const rate, capacity = 60_000, 1 << 15
	mem, err := testflood.Real(testfiles.Path(t, "traffic", "test.pcap"), start, 3*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := traffic.Named("nepco-stream")
	if err != nil {
		t.Fatal(err)
	}
	hosts := traffic.Default()
	hosts.Accept = traffic.AcceptHosts
	contracts := map[string]traffic.Contract{"all": traffic.Default(), "hosts": hosts, "stream": stream}
	if testing.Short() {
		contracts = map[string]traffic.Contract{"hosts": hosts}
	}
	for name, c := range contracts {
		mem.Rewind()
		want, _ := judge(t, c, capacity, false, mem)
		for _, shed := range []bool{false, true} {
			got, in := judge(t, c, capacity, shed, testflood.New(mem, start, rate, 4*time.Second))
			flows, right, clean, marked, absent, wrong := 0, 0, 0, 0, 0, 0
			for id, w := range want {
				g, ok := got[id]
				if shed && w.packets == 1 && !ok {
					absent++
					continue
				}
				switch flows++; {
				case !ok && shed:
					marked++ // its first packet; what comes later is below
				case !ok:
					wrong++
				case g.tokens == w.tokens:
					right++
					if g.marks == w.marks {
						clean++
					}
				case g.marks&flow.MarkEvicted != 0:
					marked++
				default:
					wrong++
				}
			}
			again := 0
			for id, g := range got {
				if _, ok := want[id]; ok {
					continue
				}
				// The rest of a flow. A SYN that is sent again begins the whole connection.
				if again++; g.marks&flow.MarkEvicted == 0 && !(id.key.Proto == capture.ProtoTCP && g.marks&flow.MarkLost == 0) {
					t.Errorf("%s, shed %v: %s is the rest of a flow, and has marks %v", name, shed, id.key, g.marks.Names())
				}
			}
			n := in.Counters()
			t.Logf("%s, shed %v: of %d flows %d right (%d marked evicted), %d early and marked, %d neither; %d rests; %d of one packet without verdict; %s, evicted %v, %d emergencies",
				name, shed, flows, right, right-clean, marked, wrong, again, absent, n, n.Evicted, n.Emergencies)
			if right*100 < flows*95 || wrong > 0 {
				t.Errorf("%s, shed %v: of %d flows %d right, %d wrong and not marked", name, shed, flows, right, wrong)
			}
			if n.Emergencies != 1 || in.Emergency() || n.Shed > 0 != shed || n.Evicted[flow.ClassBothWays] > 0 {
				t.Errorf("%s, shed %v: %d emergencies, now %v; %d shed, evicted %v", name, shed, n.Emergencies, in.Emergency(), n.Shed, n.Evicted)
			}
		}
	}
}

// A full table gives up flows of one packet first and those seen both ways last, but leaves each class its share.
func TestEvictionOrder(t *testing.T) {
	one := func(i int) at { return at{time.Duration(i), udp(uint16(i), 4)} }
	two := func(i int) []at { return []at{one(i), one(i)} }
	both := func(i int) []at { return []at{one(i), {time.Duration(i), udp(uint16(i), 4).reverse()}} }
	syn := func(i int) pkt {
		p := tcp(0, capture.FlagSYN)
		p.sport = uint16(i)
		return p
	}
	half := func(i int) []at { return []at{{time.Duration(i), syn(i)}, {time.Duration(i), reply(syn(i))}} }
	for _, tc := range []struct {
		name    string
		packets [][]at // the table has room for 8
		want    string // ports of flows that were evicted
	}{
		{"one packet before several before both ways", [][]at{both(1), two(2), {one(3), one(4), one(5)}, two(6), both(7), both(8), {one(9), one(10)}}, "3 4"},
		{"several, one way, where they have more than their share", [][]at{both(1), two(2), two(3), two(4), {one(5)}, both(6), both(7), both(8), {one(9)}}, "2"},
		{"both ways, where the others have their share", [][]at{both(1), two(2), two(3), {one(4), one(5)}, both(6), both(7), both(8), {one(9)}}, "1"},
		{"a new flow stays until the next ones have come", [][]at{both(1), both(2), both(3), both(4), both(5), both(6), both(7), both(8), {one(9), one(10), one(11), one(12)}}, "1 2 3 9"},
		{"a SYN and its answer are no connection yet", [][]at{both(1), half(2), half(3), half(4), both(5), both(6), both(7), both(8), {one(9)}}, "2"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got []string
			enc, _ := traffic.NewEncoder(traffic.Default())
			in, err := flow.NewInput(flow.Options{Encoder: enc, Capacity: 8, Ready: func(f *flow.Flow) {
				if f.Reason == flow.ReasonEvicted {
					got = append(got, fmt.Sprint(f.Key.SrcPort))
					if f.Marks&flow.MarkEvicted == 0 {
						t.Errorf("%s is not marked", f.Key)
					}
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			if err := in.Run(source(slices.Concat(tc.packets...)...)); err != nil {
				t.Fatal(err)
			}
			if g := strings.Join(got, " "); g != tc.want {
				t.Errorf("evicted %s, want %s", g, tc.want)
			}
		})
	}
}

// An emergency begins when more than a 16th of the table goes within a second, and ends after ten seconds with
// next to none: both are said once. Meanwhile flows of one packet go without a verdict, and are counted.
func TestEmergency(t *testing.T) {
	const capacity = 1024
	var said []string
	verdicts, shed := 0, 0
	enc, _ := traffic.NewEncoder(traffic.Default())
	var in *flow.Input
	in, err := flow.NewInput(flow.Options{
		Encoder: enc, Capacity: capacity,
		Ready:     func(*flow.Flow) { verdicts++ },
		Shed:      func(*flow.Flow) { shed++ },
		Emergency: func(on bool) { said = append(said, fmt.Sprintf("%v after %d", on, in.Counters().Flows)) },
	})
	if err != nil {
		t.Fatal(err)
	}
	sent := 0
	send := func(n int, from, gap time.Duration) {
		for i := range n {
			p := udp(uint16(sent), 4)
			p.src[1] = byte(sent >> 16)
			mem := source(at{from + time.Duration(i)*gap, p})
			var f capture.Frame
			mem.Next(&f)
			in.Frame(&f)
			sent++
			if err := in.CheckInvariants(); i%64 == 0 && err != nil {
				t.Fatal(err)
			}
		}
	}
	send(capacity+capacity/16, 0, time.Millisecond/2)
	if len(said) != 0 || verdicts != capacity/16 {
		t.Errorf("%d evicted in a second: %v", verdicts, said)
	}
	send(5000, s, time.Millisecond)
	send(20, 10*s, time.Second/2) // one new flow here and there is no reason to go on
	if len(said) != 1 || !in.Emergency() {
		t.Errorf("%v", said)
	}
	in.Advance(start+int64(30*s), 10)
	if len(said) != 2 || in.Emergency() || !strings.HasPrefix(said[0], "true") || !strings.HasPrefix(said[1], "false") {
		t.Errorf("%v", said)
	}
	n := in.Counters()
	if n.Emergencies != 1 || shed == 0 || uint64(shed) != n.Shed || uint64(verdicts) != n.Decided() || n.Evicted[flow.ClassNew] != n.Verdicts[flow.ReasonEvicted]+n.Shed {
		t.Errorf("%d shed, %d verdicts; %+v", shed, verdicts, n)
	}
	// A flush is the end of everything.
	send(5000, 40*s, time.Millisecond)
	in.Flush()
	if len(said) != 4 || in.Emergency() {
		t.Errorf("%v", said)
	}
	if err := n.Check(uint64(sent), 0); err != nil {
		t.Error(err)
	}
}

// What comes of a flow after it was evicted is marked, as long as it may come; a connection that begins with its
// SYN is whole.
func TestRestOfEvicted(t *testing.T) {
	syn := tcp(0, capture.FlagSYN)
	for _, tc := range []struct {
		name    string
		packets []at // the table has room for one
		want    string
	}{
		{"the answer", []at{{0, udp(1, 4)}, {1, udp(2, 4)}, {2, udp(1, 4).reverse()}}, "1:evicted 2:evicted 53:evicted"},
		{"late", []at{{0, udp(1, 4)}, {1, udp(2, 4)}, {119 * s, udp(1, 4).reverse()}}, "1:evicted 2:evicted 53:evicted"},
		{"after two minutes it is another flow", []at{{0, udp(1, 4)}, {1, udp(2, 4)}, {241 * s, udp(1, 4)}}, "1:evicted 2: 1:"},
		{"a SYN", []at{{0, syn}, {1, udp(2, 4)}, {2, syn}}, "40000:one_sided,evicted,insufficient 2:evicted 40000:one_sided,insufficient"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			flows, _, err := runSource(t, traffic.Default(), 1, source(tc.packets...))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range flows {
				got = append(got, fmt.Sprintf("%d:%s", f.key.SrcPort, strings.Join(f.marks.Names(), ",")))
			}
			if g := strings.Join(got, " "); g != tc.want {
				t.Errorf("flows %q, want %q", g, tc.want)
			}
		})
	}
}

// A flow that begins behind lost packets may lack some: a connection with its SYN for a second, any other for as
// long as a flow may be quiet. However long the loss took: it ends with the first packets behind it.
func TestBehindLoss(t *testing.T) {
	syn := tcp(0, capture.FlagSYN)
	for _, tc := range []struct {
		name  string
		later time.Duration // after the last packet behind the loss
		p     pkt
		want  bool
	}{
		{"the first behind it", 0, udp(1, 4), true}, {"SYN, the first behind it", 0, syn, true},
		{"a second later", s - 1, syn, true}, {"more than a second later, SYN", s + 1, syn, false},
		{"more than a second later", 100 * s, udp(1, 4), true}, {"more than two minutes later", 121 * s, udp(1, 4), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var marks flow.Marks
			enc, _ := traffic.NewEncoder(traffic.Default())
			in, err := flow.NewInput(flow.Options{Encoder: enc, Capacity: 8, Ready: func(f *flow.Flow) {
				if f.Key.SrcPort == tc.p.sport {
					marks = f.Marks
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			put := func(p ...at) {
				mem := source(p...)
				var f capture.Frame
				for mem.Next(&f) == nil {
					in.Frame(&f)
				}
			}
			put(at{0, udp(77, 4)})
			in.Lossy(true)
			if tc.later == 0 {
				// Also a flow that has its verdict before the batch ends.
				more := tc.p
				more.payload, more.flags, more.ack = make([]byte, 300), capture.FlagACK, 1
				put(at{30 * s, tc.p}, at{30 * s, more}, at{30 * s, more.reverse()}, at{30 * s, more})
				if in.Undecided() != 1 {
					t.Errorf("%d flows without verdict", in.Undecided())
				}
			} else {
				put(at{30 * s, udp(77, 4)})
			}
			in.Lossy(false)
			put(at{30*s + tc.later, tc.p})
			in.Flush()
			if marks&flow.MarkOverload != 0 != tc.want {
				t.Errorf("marks %v", marks.Names())
			}
		})
	}
}

// The prefixes that flows come from most are found among many, with their shares, which are never overstated.
func TestSources(t *testing.T) {
	enc, _ := traffic.NewEncoder(traffic.Default())
	in, err := flow.NewInput(flow.Options{Encoder: enc, Capacity: 4096, Ready: func(*flow.Flow) {}})
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 4))
	var packets []at
	want := map[string]uint64{}
	const n = 50_000
	for i := range n {
		p := udp(uint16(i), 4)
		p.dst[0] = 200
		binary.BigEndian.PutUint32(p.src[:], r.Uint32())
		switch x := r.IntN(100); {
		case x < 30:
			p.src = [4]byte{10, 1, 2, byte(i)}
			want["10.1.2.0/24"]++
		case x < 40:
			p.src = [4]byte{192, 0, 2, byte(i)}
			want["192.0.2.0/24"]++
		}
		packets = append(packets, at{time.Duration(i) * 20 * time.Microsecond, p}) // one second
	}
	var f capture.Frame
	for mem := source(packets...); mem.Next(&f) == nil; {
		in.Frame(&f)
	}
	top, total := flow.Top(3, in.Sources())
	if total.Flows != in.Counters().Flows || total.Evicted != in.Counters().Evicted[flow.ClassNew]+in.Counters().Evicted[flow.ClassOneSided] {
		t.Errorf("%+v of %+v", total, in.Counters())
	}
	for i, name := range []string{"10.1.2.0/24", "192.0.2.0/24"} {
		if w := want[name]; top[i].Prefix.String() != name || top[i].Flows > w || top[i].Flows < w*9/10 || top[i].Evicted < w*8/10 {
			t.Errorf("%+v, want %s with %d", top[i], name, w)
		}
	}
	if top[2].Flows > n/200 {
		t.Errorf("%+v is one of many", top[2])
	}
	// Two minutes later, which is as far as the clock goes at once, they are next to nothing.
	for i := range 100 {
		p := udp(uint16(i), 4)
		p.src = [4]byte{172, 16, 0, 1}
		for mem := source(at{200 * s, p}); mem.Next(&f) == nil; {
			in.Frame(&f)
		}
	}
	if top, total := flow.Top(1, in.Sources()); total.Flows > 100+n>>11 || total.Flows < 100 || top[0].Prefix.String() != "172.16.0.0/24" {
		t.Errorf("%+v of %+v", top, total)
	}
	// Of IPv6 it is the site.
	in = hashTable(t, 64)
	key := flow.Key{V6: true, Proto: capture.ProtoUDP, Src: [16]byte{0x20, 1, 0xd, 0xb8, 0, 7, 1, 2}, Dst: [16]byte{0xfe}}
	for mem := datagrams([]flow.Key{key, key.Reverse()}); mem.Next(&f) == nil; {
		in.Frame(&f)
	}
	if top, _ := flow.Top(2, in.Sources()); len(top) != 1 || top[0].Prefix.String() != "2001:db8:7::/48" || top[0].Flows != 1 {
		t.Errorf("%+v", top)
	}
}
