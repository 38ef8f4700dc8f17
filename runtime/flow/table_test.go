package flow_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/traffic"
)

// at is a packet and when it comes, from the start of the test's time on.
type at struct {
	when time.Duration
	pkt  pkt
}

const start = 1_700_000_000_000_000_000

func source(packets ...at) *capture.Memory {
	mem := new(capture.Memory)
	for _, p := range packets {
		data := p.pkt.ethernet()
		mem.Add(&capture.Frame{Data: data, Time: start + int64(p.when), Length: len(data), Link: capture.LinkEthernet})
	}
	return mem
}

// a sends to b: TCP with n bytes of payload.
func tcp(n int, flags uint8) pkt {
	return pkt{src: [4]byte{10, 0, 0, 1}, dst: [4]byte{10, 0, 0, 2}, sport: 40000, dport: 443, proto: capture.ProtoTCP, flags: flags, payload: make([]byte, n)}
}

func udp(port uint16, n int) pkt {
	return pkt{src: [4]byte{10, 0, 0, 9}, dst: [4]byte{10, 0, 0, 2}, sport: port, dport: 53, proto: capture.ProtoUDP, payload: make([]byte, n)}
}

const s = time.Second

func TestReasons(t *testing.T) {
	// want is one "packets:reason" per flow, in the order of the verdicts.
	for _, tc := range []struct {
		name     string
		capacity int
		packets  []at
		want     string
	}{
		{"tokens full by two packets", 0, []at{{0, tcp(200, 0)}, {s, tcp(200, 0).reverse()}, {2 * s, tcp(9, 0)}}, "3:tokens"},
		{"packet budget", 0, []at{{0, udp(1, 1)}, {1, udp(1, 1)}, {2, udp(1, 1)}, {3, udp(1, 1)}, {4, udp(1, 1)}, {5, udp(1, 1)}}, "6:packets"},
		{"end", 0, []at{{0, tcp(0, 0)}}, "1:end"},
		{"FIN, then quiet", 0, []at{{0, tcp(0, capture.FlagFIN|capture.FlagACK)}, {2*s + 1, udp(1, 0)}}, "1:closed 1:end"},
		{"RST, then more within the linger", 0, []at{{0, tcp(0, capture.FlagRST)}, {2 * s, tcp(0, 0)}, {4 * s, tcp(0, 0)}, {7 * s, udp(1, 0)}}, "3:closed 1:end"},
		{"after the linger the packet is the flow's, but late", 0, []at{{0, tcp(0, capture.FlagFIN|capture.FlagACK)}, {3 * s, tcp(0, 0)}}, "2:closed"},
		{"idle, at the next packet of another flow", 0, []at{{0, udp(1, 0)}, {120*s + 1, udp(2, 0)}}, "1:idle 1:end"},
		{"not yet idle", 0, []at{{0, udp(1, 0)}, {120 * s, udp(1, 0)}}, "2:end"},
		{"idle, then the same 5-tuple", 0, []at{{0, udp(1, 0)}, {120*s + 1, udp(1, 0)}}, "1:idle 1:end"},
		{"decided, idle, then the same 5-tuple", 0, []at{{0, tcp(300, 0)}, {0, tcp(300, 0)}, {121 * s, tcp(0, 0)}}, "2:tokens 1:end"},
		{"a decided flow lives as long as it talks", 0, []at{{0, tcp(300, 0)}, {0, tcp(300, 0)}, {100 * s, tcp(0, 0)}, {200 * s, udp(1, 0)}, {215 * s, tcp(0, 0)}, {330 * s, tcp(0, 0)}}, "5:tokens 1:idle"},
		{"eviction takes the quietest", 2, []at{{0, udp(1, 0)}, {1, udp(2, 0)}, {2, udp(1, 0)}, {3, udp(3, 0)}}, "1:evicted 2:end 1:end"},
		{"capacity of one", 1, []at{{0, udp(1, 0)}, {1, udp(2, 0)}, {2, udp(1, 0)}}, "1:evicted 1:evicted 1:end"},
		{"time goes back a little", 0, []at{{9 * s, udp(1, 0)}, {5 * s, udp(1, 0)}, {1 * s, udp(1, 0)}}, "3:end"},
		{"time goes back a lot", 0, []at{{9000 * s, udp(1, 0)}, {0, udp(1, 0)}, {s, udp(1, 0)}}, "3:end"},
		{"timers work after time went back", 0, []at{{9000 * s, udp(1, 0)}, {0, udp(2, 0)}, {121 * s, udp(2, 0)}}, "1:idle 1:idle 1:end"},
		{"a single packet far in the future moves nothing", 0, []at{{0, udp(1, 0)}, {1 << 60, udp(2, 0)}, {s, udp(3, 0)}, {2 * s, udp(3, 0)}, {3 * s, udp(2, 0)}}, "1:end 2:end 2:end"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			flows, _, err := runSource(t, traffic.Default(), tc.capacity, source(tc.packets...))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range flows {
				got = append(got, fmt.Sprintf("%d:%s", f.packets, f.reason))
			}
			if g := strings.Join(got, " "); g != tc.want {
				t.Errorf("flows %q, want %q", g, tc.want)
			}
		})
	}
}

func TestDirections(t *testing.T) {
	// The SYN gives the direction, whichever end's address is smaller.
	for _, first := range []pkt{tcp(0, capture.FlagSYN), tcp(0, capture.FlagSYN).reverse()} {
		enc, _ := traffic.NewEncoder(traffic.Default())
		var got flow.Flow
		in, err := flow.NewInput(flow.Options{Encoder: enc, Capacity: 8, Ready: func(*flow.Flow) {}, Closed: func(f *flow.Flow) { got = *f }})
		if err != nil {
			t.Fatal(err)
		}
		if err := in.Run(source(at{0, first}, at{s, reply(first)}, at{2 * s, first})); err != nil {
			t.Fatal(err)
		}
		src := netip.AddrPortFrom(netip.AddrFrom4(first.src), first.sport)
		if got.Key.SrcAddr() != src || got.Packets != [2]uint64{2, 1} || got.Bytes != [2]uint64{80, 40} || got.First != start || got.Last != start+int64(2*s) {
			t.Errorf("%+v", got)
		}
	}
}

// reply is a SYN's answer, to sequence number 0.
func reply(syn pkt) pkt {
	p := syn.reverse()
	p.flags |= capture.FlagACK
	p.ack = 1
	return p
}

func TestFragments(t *testing.T) {
	first := udp(7, 16)
	first.id, first.more = 1, true
	later := udp(7, 16)
	later.id, later.offset = 1, 24
	// A port read from a later fragment's payload would give another flow.
	later.payload = []byte{0, 1, 0, 2, 0, 3, 0, 4}
	stranger := later
	stranger.id = 2
	back := later.reverse()
	for _, tc := range []struct {
		name    string
		packets []at
		flows   int
		ignored uint64
	}{
		{"joined", []at{{0, first}, {1, later}}, 1, 0},
		{"no first", []at{{0, later}}, 0, 1},
		{"other id", []at{{0, first}, {1, stranger}}, 1, 1},
		{"other direction", []at{{0, first}, {1, back}}, 1, 1},
		{"too late", []at{{0, first}, {31 * s, later}}, 1, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			flows, n, err := runSource(t, traffic.Default(), 0, source(tc.packets...))
			if err != nil {
				t.Fatal(err)
			}
			if len(flows) != tc.flows || n.Frames[capture.IgnoredFragment] != tc.ignored {
				t.Errorf("%d flows, %d fragments ignored", len(flows), n.Frames[capture.IgnoredFragment])
			}
			for _, f := range flows {
				if f.key.SrcPort != 7 {
					t.Errorf("%s", f.key)
				}
			}
		})
	}
	t.Run("table is bounded", func(t *testing.T) {
		var packets []at
		for i := range 20000 {
			p := first
			p.id, p.sport = uint16(i), uint16(i)
			p.src[3] = byte(i >> 3)
			packets = append(packets, at{time.Duration(i), p})
		}
		last := packets[len(packets)-1].pkt
		last.more, last.offset = false, 24
		_, n, _ := runSource(t, traffic.Default(), 0, source(append(packets, at{s, last})...))
		if n.Ignored() != 0 {
			t.Error("the newest fragment was forgotten")
		}
	})
}

// random traffic: a few hosts and ports, gaps of all sizes, in order of time.
func randomTraffic(seed uint64, n int) []at {
	r := rand.New(rand.NewPCG(seed, 1))
	when := time.Duration(0)
	var packets []at
	for range n {
		p := tcp(r.IntN(150), uint8(r.IntN(40)&r.IntN(40)))
		if r.IntN(2) == 0 {
			p = udp(uint16(r.IntN(4)), r.IntN(300))
		}
		p.sport += uint16(r.IntN(8))
		if r.IntN(2) == 0 {
			p = p.reverse()
		}
		when += time.Duration(1 << r.IntN(36))
		packets = append(packets, at{when, p})
	}
	return packets
}

// TestAgainstNaive compares the table with the rule written down naively.
func TestAgainstNaive(t *testing.T) {
	type one struct {
		Key     flow.Key
		First   int64
		Packets uint64
	}
	c := traffic.Default()
	for seed := range uint64(20) {
		packets := randomTraffic(seed, 2000)
		for i := range packets {
			packets[i].pkt.flags &^= capture.FlagSYN // begins another connection; see TestConnections
		}
		last := map[flow.Key]time.Duration{}
		index := map[flow.Key]int{}
		var want []one
		for _, p := range packets {
			key, err := flow.MakeKey(p.pkt.proto, netip.AddrPortFrom(netip.AddrFrom4(p.pkt.src), p.pkt.sport), netip.AddrPortFrom(netip.AddrFrom4(p.pkt.dst), p.pkt.dport))
			if err != nil {
				t.Fatal(err)
			}
			canon, _ := key.Canonical()
			if before, ok := last[canon]; !ok || p.when-before > c.Idle {
				index[canon] = len(want)
				want = append(want, one{canon, start + int64(p.when), 0})
			}
			last[canon] = p.when
			want[index[canon]].Packets++
		}
		flows, _, err := runSource(t, c, 0, source(packets...))
		if err != nil {
			t.Fatal(err)
		}
		var got []one
		for _, f := range flows {
			canon, _ := f.key.Canonical()
			got = append(got, one{canon, f.first, f.packets})
		}
		order := func(a, b one) int {
			if a.First != b.First {
				return int(a.First - b.First)
			}
			return a.Key.Compare(b.Key)
		}
		slices.SortFunc(got, order)
		slices.SortFunc(want, order)
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("seed %d: %s", seed, d)
		}
	}
}

// TestDeterministic: the hash seed differs from table to table, what comes out
// doesn't, also while flows are evicted.
func TestDeterministic(t *testing.T) {
	for _, capacity := range []int{1, 3, 1000} {
		var before []seen
		for range 3 {
			flows, _, err := runSource(t, traffic.Default(), capacity, source(randomTraffic(7, 3000)...))
			if err != nil {
				t.Fatal(err)
			}
			if before != nil && !reflect.DeepEqual(before, flows) {
				t.Fatalf("capacity %d: two runs differ", capacity)
			}
			before = flows
		}
	}
}

func TestInvariantsAndNoAllocation(t *testing.T) {
	enc, _ := traffic.NewEncoder(traffic.Default())
	in, err := flow.NewInput(flow.Options{Encoder: enc, Capacity: 5, Ready: func(*flow.Flow) {}, Closed: func(*flow.Flow) {}})
	if err != nil {
		t.Fatal(err)
	}
	mem := source(randomTraffic(3, 500)...)
	var f capture.Frame
	for mem.Next(&f) == nil {
		in.Frame(&f)
		if err := in.CheckInvariants(); err != nil {
			t.Fatal(err)
		}
	}
	if n := testing.AllocsPerRun(5, func() {
		mem.Rewind()
		for mem.Next(&f) == nil {
			in.Frame(&f)
		}
		in.Flush()
	}); n != 0 {
		t.Errorf("%v allocations per 500 packets", n)
	}
}

func TestAdvance(t *testing.T) {
	enc, _ := traffic.NewEncoder(traffic.Default())
	verdicts := 0
	in, _ := flow.NewInput(flow.Options{Encoder: enc, Capacity: 8, Ready: func(*flow.Flow) { verdicts++ }})
	mem := source(at{0, udp(1, 0)}, at{0, udp(2, 0)}, at{0, udp(3, 0)})
	var f capture.Frame
	for mem.Next(&f) != io.EOF {
		in.Frame(&f)
	}
	if more := in.Advance(start+int64(120*s), 9); more || verdicts != 0 {
		t.Error("idle too early")
	}
	if more := in.Advance(start+int64(121*s), 2); !more || verdicts != 2 {
		t.Errorf("more %v, %d verdicts of a budget of 2", more, verdicts)
	}
	if more := in.Advance(start+int64(121*s), 2); more || verdicts != 3 || in.Open() != 0 {
		t.Errorf("more %v, %d verdicts", more, verdicts)
	}
}

// A table that takes no new flows does what is due, with packets that are not
// its own.
func TestHolds(t *testing.T) {
	const flows = 100
	ready := 0
	enc, _ := traffic.NewEncoder(traffic.Default())
	tab, err := flow.New(flow.Options{Encoder: enc, Capacity: flows, Ready: func(*flow.Flow) { ready++ }})
	if err != nil {
		t.Fatal(err)
	}
	var packets []at
	for i := range flows {
		packets = append(packets, at{0, udp(uint16(1000+i), 0)})
	}
	for range flows / 2 {
		packets = append(packets, at{121 * s, udp(1, 0)})
	}
	mem := source(packets...)
	var f capture.Frame
	var p capture.Packet
	for i := 0; mem.Next(&f) == nil; i++ {
		capture.Decode(&f, &p)
		if i < flows {
			tab.Add(&p)
			if !tab.Holds(&p, tab) {
				t.Error("a flow is not in its table")
			}
		} else if tab.Holds(&p, tab) {
			t.Error("another table's flow")
		}
	}
	if tab.Open() != 0 || ready != flows {
		t.Errorf("%d flows left, %d verdicts", tab.Open(), ready)
	}
}

func TestKeys(t *testing.T) {
	mk := func(proto uint8, a, b string) flow.Key {
		k, err := flow.MakeKey(proto, netip.MustParseAddrPort(a), netip.MustParseAddrPort(b))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	for _, k := range []flow.Key{
		mk(6, "10.0.0.1:5", "10.0.0.2:4"), mk(17, "10.0.0.1:5", "10.0.0.1:4"), mk(17, "10.0.0.1:4", "10.0.0.1:4"),
		mk(6, "[2001:db8::1]:5", "[2001:db8::2]:4"), mk(6, "[::ffff:1.2.3.4]:5", "[::1]:4"),
	} {
		c, _ := k.Canonical()
		r, _ := k.Reverse().Canonical()
		if c != r || c.Hash(flow.FixedSeed(9)) != r.Hash(flow.FixedSeed(9)) || k.Reverse().Reverse() != k {
			t.Errorf("%s: the two directions have two canonical keys", k)
		}
	}
	if got := mk(6, "[2001:db8::1]:5", "[2001:db8::2]:4").String(); got != "TCP [2001:db8::1]:5 > [2001:db8::2]:4" {
		t.Error(got)
	}
	v4, mapped := mk(6, "1.2.3.4:5", "1.2.3.4:6"), mk(6, "[::ffff:1.2.3.4]:5", "[::ffff:1.2.3.4]:6")
	if v4 == mapped {
		t.Error("IPv4 and IPv4-mapped IPv6 are one key")
	}
	if _, err := flow.MakeKey(6, netip.MustParseAddrPort("1.2.3.4:5"), netip.MustParseAddrPort("[::1]:5")); err == nil {
		t.Error("two families in one key")
	}
}

func TestCapacityErrors(t *testing.T) {
	enc, _ := traffic.NewEncoder(traffic.Default())
	for _, n := range []int{-1, flow.MaxCapacity + 1} {
		if _, err := flow.New(flow.Options{Encoder: enc, Capacity: n, Ready: func(*flow.Flow) {}}); err == nil {
			t.Errorf("capacity %d was taken", n)
		}
	}
}

func TestCollect(t *testing.T) {
	packets := randomTraffic(5, 2000)
	want, _, err := runSource(t, traffic.Default(), 0, source(packets...))
	if err != nil {
		t.Fatal(err)
	}
	got, n, err := flow.Collect(source(packets...), traffic.Default())
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) || n.Read() != uint64(len(packets)) {
		t.Fatalf("%d flows of %d, %d packets", len(got), len(want), n.Read())
	}
	for i := 1; i < len(got); i++ {
		if got[i].First < got[i-1].First {
			t.Fatalf("flow %d began before flow %d", i, i-1)
		}
	}
}

// TestFootprint: a flow takes a kilobyte at most beside its tokens' bytes.
func TestFootprint(t *testing.T) {
	enc, _ := traffic.NewEncoder(traffic.Default())
	if per := flow.EntrySize + 8; per > 1024 {
		t.Errorf("%d bytes per flow", per)
	} else {
		t.Logf("%d bytes per flow, and %d of its packets", per, enc.BufferSize())
	}
}

// A table takes memory as flows come: memory that is asked for at once is cleared,
// and so resident, whenever a part of it was used before.
func TestGrows(t *testing.T) {
	enc, err := traffic.NewEncoder(traffic.Default())
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := flow.NewInput(flow.Options{Encoder: enc, Capacity: flow.DefaultCapacity, Ready: func(*flow.Flow) {}}); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 8<<20 {
		t.Errorf("an empty table took %d MiB", took>>20)
	}
}
