package act

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nepcoc/internal/testfiles"
	"nepcoc/internal/testnet"
	"nepcoc/runtime/capture/afpacket"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/verdict"
)

// hosts are two hosts on a cable. Rules are put on the far one's end, where packets come in and leave.
type hosts struct{ near, far *testnet.Net }

// each runs a test with each backend that this kernel has.
func each(t *testing.T, test func(t *testing.T, h *hosts, backend string)) {
	for _, backend := range []string{"nftables", "flower"} {
		t.Run(backend, func(t *testing.T) {
			near, far := testnet.Hosts(t)
			far.Do(func() {
				c := valid(t, lasting+"backend: "+backend)
				b, _, err := Open(&c, testnet.Far)
				switch {
				case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT):
					t.Skipf("this kernel has no %s: %v", backend, err)
				case err != nil:
					t.Fatal(err)
				}
				b.Undo()
				b.Close()
			})
			test(t, &hosts{near, far}, backend)
		})
	}
}

// open makes a backend in the far host.
func (h *hosts) open(t *testing.T, text string) (b Backend, found []Found) {
	t.Helper()
	c := valid(t, text)
	h.far.Do(func() {
		var err error
		if b, found, err = Open(&c, testnet.Far); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { b.Close() })
	return b, found
}

// run is a manager with a backend in the far host.
func (h *hosts) run(t *testing.T, text string) *managed {
	t.Helper()
	b, found := h.open(t, text)
	return manage(t, text, b, found...)
}

// list is what nepcod actions list finds in the far host.
func (h *hosts) list(t *testing.T) (found []Found) {
	t.Helper()
	h.far.Do(func() {
		var err error
		if found, err = List(""); err != nil {
			t.Fatal(err)
		}
	})
	return found
}

// talk is a UDP flow between the hosts, and a socket at each end.
type talk struct {
	near, far *net.UDPConn
	n         byte
}

// ends of a talk: the near host's port tells flows apart.
func (h *hosts) talk(t *testing.T, port int, addresses ...string) *talk {
	t.Helper()
	a, b := testnet.NearAddress, testnet.FarAddress
	if len(addresses) > 0 {
		a, b = addresses[0], addresses[1]
	}
	near, far := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(a), uint16(port))), net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(b), uint16(port+2000)))
	x := new(talk)
	dial := func(n *testnet.Net, at, to *net.UDPAddr) (c *net.UDPConn) {
		n.Do(func() {
			d := net.Dialer{LocalAddr: at}
			conn, err := d.Dial("udp", to.String())
			if err != nil {
				t.Fatal(err)
			}
			c = conn.(*net.UDPConn)
		})
		t.Cleanup(func() { c.Close() })
		return c
	}
	x.near, x.far = dial(h.near, near, far), dial(h.far, far, near)
	return x
}

// passes sends a datagram and tells whether it arrives within a time.
func (x *talk) passes(t *testing.T, from, to *net.UDPConn, size int, within time.Duration) bool {
	t.Helper()
	x.n++
	b := make([]byte, max(size, 1))
	b[0] = x.n
	if _, err := from.Write(b); err != nil && !errors.Is(err, unix.EPERM) { // a drop on the way out may be told to the sender
		t.Fatal(err)
	}
	buf := make([]byte, 1<<16)
	to.SetReadDeadline(time.Now().Add(within))
	for {
		n, err := to.Read(buf)
		if err != nil {
			return false
		}
		if n > 0 && buf[0] == x.n {
			return true
		}
	}
}

// ways says which directions pass: "in" to the far host, "out" of it. What should pass is waited for long, since machines stand still
// at times, emulated cards above all; what should not, shortly.
func (x *talk) ways(t *testing.T, size int, should string) string {
	t.Helper()
	var list []string
	for _, way := range []struct {
		name     string
		from, to *net.UDPConn
	}{{"in", x.near, x.far}, {"out", x.far, x.near}} {
		within := 200 * time.Millisecond
		if strings.Contains(should, way.name) {
			within = time.Minute
		}
		if x.passes(t, way.from, way.to, size, within) {
			list = append(list, way.name)
		}
	}
	return strings.Join(list, " ")
}

const both, none = "in out", ""

// lasting is a policy whose rules are there for longer than any test.
var lasting = strings.Replace(dropping, "10s", "10m", 1)

// ready waits until both directions pass: what is sent before the hosts know each other may be lost.
func (x *talk) ready(t *testing.T) {
	t.Helper()
	wait(t, "both directions pass", func() bool { return x.ways(t, 10, none) == both })
}

// want fails where other directions pass.
func (x *talk) want(t *testing.T, when, want string) {
	t.Helper()
	if w := x.ways(t, 10, want); w != want {
		t.Errorf("%s: %q passes, want %q", when, w, want)
	}
}

// record is the verdict of a talk's flow.
func (x *talk) record(t *testing.T) *verdict.Record {
	r := recordOf(t, "tor", 1)
	r.Key = keyOf(t, 17, x.near.LocalAddr().String(), x.near.RemoteAddr().String())
	return r
}

// wait waits until something holds, and says within what time it did.
func wait(t *testing.T, what string, holds func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	for !holds() {
		if time.Since(start) > 3*time.Minute { // emulated cards are slow
			t.Fatalf("%s: not within 3 minutes", what)
		}
		time.Sleep(time.Millisecond)
	}
	return time.Since(start)
}

func (m *managed) begun(t *testing.T, n int) {
	t.Helper()
	wait(t, "rules begun", func() bool {
		k := 0
		for _, s := range m.told() {
			if strings.HasPrefix(s, "begin") {
				k++
			}
		}
		return k == n
	})
}

// A flow of a chosen label is dropped both ways while others of the same hosts pass; what the allow list has passes, too. It passes again
// when the rule's time is over, and after the end of who made it.
func TestDropped(t *testing.T) {
	each(t, func(t *testing.T, h *hosts, backend string) {
		a, b, allowed := h.talk(t, 5001), h.talk(t, 5002), h.talk(t, 5003)
		for _, x := range []*talk{a, b, allowed} {
			x.ready(t)
		}
		// A machine that stands still may look at a rule when its time is over: then once more, with longer ones.
		for _, last := range []time.Duration{4 * time.Second, 20 * time.Second, 2 * time.Minute} {
			if dropped(t, h, backend, last, a, b, allowed) {
				return
			}
		}
		t.Error("rules were over before they were looked at, those of two minutes, too")
	})
}

// dropped tells whether it looked at rules that last so long in time.
func dropped(t *testing.T, h *hosts, backend string, last time.Duration, a, b, allowed *talk) bool {
	t.Helper()
	m := h.run(t, fmt.Sprintf("rules: [{labels: [tor], min_score: 0.5, do: drop, for: %v}]\ndry_run: false\nallow: {ports: [\"5003\"]}\nbackend: %s", last, backend))
	offered := time.Now()
	late := func() bool { return time.Since(offered) > last-time.Second }
	m.Offer(a.record(t), flow.Scope{}, good)
	m.Offer(allowed.record(t), flow.Scope{}, good)
	m.begun(t, 1)
	if l := m.events[0].Latency; l < 0 || l > time.Since(offered).Seconds() {
		t.Errorf("the rule took %g s", l)
	}
	wa, wb, wc, found := a.ways(t, 10, none), b.ways(t, 10, both), allowed.ways(t, 10, both), h.list(t)
	if late() {
		m.Close()
		return false
	}
	if wa != none || wb != both || wc != both {
		t.Errorf("with a rule %q passes, of another flow %q, of one that is allowed %q", wa, wb, wc)
	}
	if len(found) != 1 || found[0].Kind != Drop || found[0].Flow.Key != must(m.policy.Decide(a.record(t), flow.Scope{})).Flow.Key ||
		!slices.Equal(found[0].Where, []string{"far ingress", "far egress"}) || found[0].FlowID != m.events[0].FlowID() || found[0].Left <= 0 || found[0].Left > last {
		t.Errorf("%+v", found)
	}
	wait(t, "the rule's end", func() bool { return slices.Contains(m.told(), "end drop: time") })
	// The kernel's own timeout begins when it has the rule: on a slow machine it ends a little later.
	wait(t, "both ways pass after its time", func() bool { return a.ways(t, 10, none) == both })
	offered = time.Now()
	m.Offer(b.record(t), flow.Scope{}, good)
	m.begun(t, 2)
	wb = b.ways(t, 10, none)
	m.Close()
	if late() {
		return false
	}
	if wb != none {
		t.Errorf("with the second rule %q passes", wb)
	}
	b.want(t, "after the end", both)
	if l := h.list(t); len(l) != 0 {
		t.Errorf("after the end: %v", l)
	}
	if s := m.Stats(); s.Withheld[Allowed] != 1 || s.Ended[Drop][EndTime] != 1 || s.Ended[Drop][EndExit] != 1 || s.Active[Drop] != 0 {
		t.Errorf("%+v", s)
	}
	return true
}

func must[T, E any](x T, _ E) T { return x }

// What one who was killed has left is found and taken away by the next start, and by flush; an agent whose rules are flushed says so and
// makes no more.
func TestLeftBehind(t *testing.T) {
	each(t, func(t *testing.T, h *hosts, backend string) {
		text := lasting + "backend: " + backend
		x := h.talk(t, 5001)
		x.ready(t)
		b, _ := h.open(t, text)
		w, _ := NewPolicy(&Config{Rules: valid(t, text).Rules}).Decide(x.record(t), flow.Scope{})
		rule := Rule{ID: 1, Flow: w.Flow, For: time.Minute, Until: time.Now().Unix() + 60, Effect: Effect{Kind: Drop}, Label: "tor", FlowID: 12345}
		if errs := b.Add([]Rule{rule}); errs[0] != nil {
			t.Fatal(errs)
		}
		x.want(t, "with a rule", none)
		_, found := h.open(t, text) // b has not undone anything
		if len(found) != 1 || found[0].FlowID != 12345 || found[0].Flow != rule.Flow || found[0].Kind != Drop {
			t.Errorf("%+v", found)
		}
		x.want(t, "after a start", both)
		m := h.run(t, text)
		m.Offer(x.record(t), flow.Scope{}, good)
		m.begun(t, 1)
		h.far.Do(func() {
			if found, err := Flush(""); err != nil || len(found) != 1 {
				t.Errorf("flush: %v %v", found, err)
			}
		})
		x.want(t, "after flush", both)
		wait(t, "flushed", func() bool { return m.Problem() != "" && slices.Contains(m.told(), "end drop: flushed") })
		m.Offer(h.talk(t, 5002).record(t), flow.Scope{}, good)
		wait(t, "stopped", func() bool { return m.Stats().Results[Drop][Stopped] == 1 })
		if len(h.list(t)) != 0 {
			t.Error("a rule after flush")
		}
		m.Close()
	})
}

// 10,000 rules are held, do what they say, and go at once.
func TestMany(t *testing.T) {
	each(t, func(t *testing.T, h *hosts, backend string) {
		n := 10_000
		if testing.Short() {
			n = 1000
		}
		m := h.run(t, fmt.Sprintf("%smax_rules: %d\nrules_per_second: 100000\nqueue: 20000\nbackend: %s", lasting, n, backend))
		for i := range n - 1 {
			m.Offer(nth(t, i), flow.Scope{}, good)
		}
		x := h.talk(t, 5001)
		x.ready(t)
		m.Offer(x.record(t), flow.Scope{}, good)
		m.Offer(nth(t, 100_000), flow.Scope{}, good)
		took := wait(t, "all rules", func() bool {
			s := m.Stats()
			return s.Results[Drop][Done]+s.Results[Drop][Refused]+s.Results[Drop][TooMany] == uint64(n+1)
		})
		if s := m.Stats(); s.Active[Drop] != n || s.Results[Drop][TooMany] != 1 || len(h.list(t)) != n {
			t.Errorf("%+v, %d in the kernel", s, len(h.list(t)))
		}
		x.want(t, "the last", none)
		start := time.Now()
		m.Close()
		t.Logf("%d rules in force after %v, undone in %v", n, took, time.Since(start))
		x.want(t, "after the end", both)
		if l := h.list(t); len(l) != 0 {
			t.Errorf("after the end: %v", l)
		}
	})
}

// What the kernel refuses is refused, and what it takes is there: of two tables of rules, one is full, the other wants hardware where there
// is none.
func TestKernelRefuses(t *testing.T) {
	each(t, func(t *testing.T, h *hosts, backend string) {
		if backend == "flower" {
			c := valid(t, lasting+"backend: flower\noffload: required")
			h.far.Do(func() {
				if b, _, err := Open(&c, testnet.Far); err == nil {
					b.Close()
					t.Error("a cable has hardware for rules")
				} else {
					t.Log(err)
				}
			})
			b, _ := h.open(t, lasting+"backend: flower")
			b.(*flower).offload = "required" // as if hardware had no room any more
			m := manage(t, lasting+"backend: flower", b)
			x := h.talk(t, 5001)
			x.ready(t)
			m.Offer(x.record(t), flow.Scope{}, good)
			wait(t, "refused", func() bool { return m.Stats().Results[Drop][Refused] == 1 })
			x.want(t, "refused", both)
			if m.Problem() == "" || len(h.list(t)) != 0 {
				t.Errorf("%q, %v", m.Problem(), h.list(t))
			}
			t.Log(m.events[0].Error)
			m.Close()
			return
		}
		b, _ := h.open(t, lasting+"backend: nftables\nmax_rules: 1\nrules_per_second: 1")
		var rules []Rule
		for i := range 200 {
			k, _ := nth(t, i).Key.Canonical()
			rules = append(rules, Rule{ID: uint32(i + 1), Flow: Flow{Key: k}, For: time.Minute, Effect: Effect{Kind: Drop}})
		}
		taken := 0
		for _, err := range b.Add(rules) {
			if err == nil {
				taken++
			} else if !errors.Is(err, unix.ENFILE) {
				t.Fatal(err)
			}
		}
		if taken == 0 || taken == len(rules) || len(h.list(t)) != taken {
			t.Errorf("%d taken, %d there", taken, len(h.list(t)))
		}
	})
}

// ip runs the command in a host.
func ip(t *testing.T, n *testnet.Net, args string) {
	t.Helper()
	n.Do(func() {
		if out, err := exec.Command(testfiles.Tool(t, "ip"), strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	})
}

// A rule meets its flow's packets however the interface sees them: IPv6, behind a tag where tags don't tell flows apart, with the right
// tag where they do; and nothing else: another tag, another protocol with the same ports.
func TestExact(t *testing.T) {
	each(t, func(t *testing.T, h *hosts, backend string) {
		for _, id := range []int{5, 6} {
			for i, n := range []*testnet.Net{h.near, h.far} {
				name := []string{testnet.Near, testnet.Far}[i]
				n.Do(func() {
					if err := exec.Command("ip", strings.Fields(fmt.Sprintf("link add link %s name try.9 type vlan id 9", name))...).Run(); err != nil {
						t.Skip("this kernel has no VLAN devices; TestFrames has tags without them")
					}
					exec.Command("ip", "link", "del", "try.9").Run()
				})
				ip(t, n, fmt.Sprintf("link add link %s name %s.%d type vlan id %d", name, name, id, id))
				ip(t, n, fmt.Sprintf("link set %s.%d up", name, id))
				ip(t, n, fmt.Sprintf("addr add 10.%d.0.%d/24 dev %s.%d", id, i+1, name, id))
			}
		}
		text := lasting + "backend: " + backend
		tagged := flow.Scope{VLANs: true}
		with := func(x *talk, vlan uint16) *verdict.Record {
			r := x.record(t)
			r.VLAN[0], r.Key.VLAN[0] = vlan, vlan
			return r
		}
		plain, five, six := h.talk(t, 5001), h.talk(t, 5001, "10.5.0.1", "10.5.0.2"), h.talk(t, 5001, "10.6.0.1", "10.6.0.2")
		for _, tc := range []struct {
			name  string
			x     *talk
			r     *verdict.Record
			scope flow.Scope
			want  string
		}{
			{"untagged", plain, with(plain, 0), flow.Scope{}, none},
			{"untagged, where tags count", plain, with(plain, 0), tagged, none},
			{"untagged, the rule has a tag", plain, with(plain, 5), tagged, both},
			{"tagged", five, with(five, 5), flow.Scope{}, none},
			{"tagged, where tags count", five, with(five, 5), tagged, none},
			{"tagged, the rule has none", five, with(five, 0), tagged, both},
			{"tagged, the rule has another", six, with(six, 5), tagged, both},
			{"TCP with the same ports", plain, func() *verdict.Record { r := with(plain, 0); r.Key.Proto = 6; return r }(), flow.Scope{}, both},
		} {
			t.Run(tc.name, func(t *testing.T) {
				m := h.run(t, text)
				tc.x.ready(t)
				m.Offer(tc.r, tc.scope, good)
				m.begun(t, 1)
				tc.x.want(t, "with a rule", tc.want)
				found := h.list(t)
				if len(found) != 1 || found[0].Flow != must(m.policy.Decide(tc.r, tc.scope)).Flow {
					t.Errorf("%+v", found)
				}
				m.Close()
			})
		}
	})
}

// A rule meets IPv6, too.
func TestIPv6(t *testing.T) {
	each(t, func(t *testing.T, h *hosts, backend string) {
		for i, n := range []*testnet.Net{h.near, h.far} {
			name := []string{testnet.Near, testnet.Far}[i]
			n.Do(func() {
				if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("0"), 0); err != nil {
					t.Skip("this kernel has no IPv6")
				}
			})
			ip(t, n, "link set "+name+" multicast on")
			ip(t, n, fmt.Sprintf("addr add 2001:db8::%d/64 dev %s nodad", i+1, name))
		}
		x := h.talk(t, 5001, "2001:db8::1", "2001:db8::2")
		x.ready(t)
		for _, scope := range []flow.Scope{{}, {VLANs: true}} {
			m := h.run(t, lasting+"backend: "+backend)
			m.Offer(x.record(t), scope, good)
			m.begun(t, 1)
			x.want(t, "with a rule", none)
			m.Close()
		}
	})
}

// frame is a UDP datagram of IPv4 from the near host's port 5001 to the far one's 7001, behind tags.
func frame(tags ...uint32) []byte {
	b := make([]byte, 12, 100)
	for i := range 6 {
		b[i] = 0xff
	}
	b[11] = 2
	for _, tag := range tags {
		b = binary.BigEndian.AppendUint32(b, tag)
	}
	b = append(b, 8, 0)
	p := make([]byte, 20+8+20)
	copy(p, []byte{0x45, 0, 0, byte(len(p)), 0, 1, 0, 0, 64, 17, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2, 5001 >> 8, 5001 & 255, 7001 >> 8, 7001 & 255, 0, 28})
	return append(b, p...)
}

// frame6 is the same of IPv6, from 2001:db8::1 to 2001:db8::2, with the offset of a fragment in a header of its own, unless that is below 0.
func frame6(offset int) []byte {
	b := append(frame()[:12], 0x86, 0xdd)
	p := make([]byte, 40)
	p[0], p[5], p[6], p[7] = 0x60, 28, 17, 64
	for at, last := range map[int]byte{8: 1, 24: 2} {
		copy(p[at:], []byte{0x20, 1, 0xd, 0xb8})
		p[at+15] = last
	}
	if offset >= 0 {
		p[5], p[6] = 36, 44
		p = append(p, 17, 0, byte(offset>>5), byte(offset<<3)|1, 0, 0, 0, 1)
	}
	return append(append(b, p...), frame()[14+20:]...)
}

// tag6 is frame6 of a datagram that is whole, behind a tag.
func tag6(tag uint32) []byte {
	return slices.Insert(frame6(-1), 12, binary.BigEndian.AppendUint32(nil, tag)...)
}

// A rule meets its flow's frames by their tags where these tell flows apart, and behind any where they don't, but never by another tag. What passes is
// counted behind our chains.
func TestFrames(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		testfiles.Missing(t, "nft: %v", err)
	}
	each(t, func(t *testing.T, h *hosts, backend string) {
		x := h.talk(t, 5001)
		send := h.near.NewSender(t, testnet.Near)
		nft := func(args string) (out []byte) {
			h.far.Do(func() {
				var err error
				if out, err = exec.Command("nft", args).CombinedOutput(); err != nil {
					t.Fatalf("nft %s: %v: %s", args, err, out)
				}
			})
			return out
		}
		nft("add table netdev watch")
		nft("add chain netdev watch c { type filter hook ingress device far priority 100; }")
		nft("add rule netdev watch c counter")
		count := func() (n int) {
			_, rest, _ := strings.Cut(string(nft("list table netdev watch")), "counter packets ")
			fmt.Sscan(rest, &n)
			return n
		}
		const q, ad = 0x8100 << 16, 0x88a8 << 16
		for _, tc := range []struct {
			name  string
			frame []byte
			rule  uint16
			scope bool
			want  bool // it meets
		}{
			{"untagged", frame(), 0, false, true},
			{"tagged", frame(q | 5), 0, false, true},
			{"priority", frame(q | 3<<13), 0, false, true},
			{"untagged, tags count", frame(), 0, true, true},
			{"tagged, tags count", frame(q | 5), 5, true, true},
			{"tagged with a priority", frame(q | 5<<13 | 5), 5, true, true},
			{"provider's tag", frame(ad | 5), 5, true, true},
			{"another tag", frame(q | 6), 5, true, false},
			{"no tag, the rule has one", frame(), 5, true, false},
			{"a tag, the rule has none", frame(q | 5), 0, true, false},
			{"a provider's tag, the rule has none", frame(ad | 5), 0, true, false},
			{"priority, tags count", frame(q | 3<<13), 0, true, true},
			{"priority 0, tags count", frame(q), 0, true, true},
			{"priority, the rule has a tag", frame(q | 3<<13), 5, true, false},
			{"priority and a tag, tags count", frame(q|3<<13, q|5), 0, true, false},
			{"a provider's priority, tags count", frame(ad | 3<<13), 0, true, backend == "nftables"},
			{"a fragment without ports", func() []byte { f := frame(); f[14+7] = 5; return f }(), 0, false, false},
			{"a first fragment", func() []byte { f := frame(); f[14+6] = 0x20; return f }(), 0, false, backend == "nftables"},
			{"one that may not be fragmented", func() []byte { f := frame(); f[14+6] = 0x40; return f }(), 0, false, true},
			{"IPv6", frame6(-1), 0, false, true},
			{"IPv6, tags count", frame6(-1), 0, true, true},
			{"IPv6, priority, tags count", tag6(q | 3<<13), 0, true, true},
			{"IPv6, a tag, the rule has none", tag6(q | 5), 0, true, false},
			{"IPv6, tagged, tags count", tag6(q | 5), 5, true, true},
			{"IPv6, a first fragment", frame6(0), 0, false, backend == "nftables"},
			{"IPv6, a fragment without ports", frame6(5), 0, false, false},
			{"another protocol", func() []byte { f := frame(); f[14+9] = 6; return f }(), 0, false, false},
		} {
			t.Run(tc.name, func(t *testing.T) {
				m := h.run(t, lasting+"backend: "+backend)
				defer m.Close()
				r := x.record(t)
				if bytes.Contains(tc.frame[12:18], []byte{0x86, 0xdd}) {
					r.Key = keyOf(t, 17, "[2001:db8::1]:5001", "[2001:db8::2]:7001")
				}
				r.VLAN[0], r.Key.VLAN[0] = tc.rule, tc.rule
				m.Offer(r, flow.Scope{VLANs: tc.scope}, good)
				m.begun(t, 1)
				before := count()
				for range 3 {
					if err := send.Send(tc.frame); err != nil {
						t.Fatal(err)
					}
				}
				if tc.want {
					time.Sleep(20 * time.Millisecond)
					if passed := count() - before; passed != 0 {
						t.Errorf("%d of 3 passed, and the rule should meet all", passed)
					}
				} else {
					wait(t, "all of 3 pass", func() bool { return count()-before == 3 })
				}
			})
		}
	})
}

// Of a datagram in fragments the later ones have no ports, and no rule meets them; another flow's fragments, with the same addresses, pass
// whole.
func TestFragments(t *testing.T) {
	each(t, func(t *testing.T, h *hosts, backend string) {
		for i, n := range []*testnet.Net{h.near, h.far} {
			ip(t, n, "link set "+[]string{testnet.Near, testnet.Far}[i]+" mtu 1500")
		}
		m := h.run(t, lasting+"backend: "+backend)
		a, b := h.talk(t, 5001), h.talk(t, 5002)
		a.ready(t)
		m.Offer(a.record(t), flow.Scope{}, good)
		m.begun(t, 1)
		// nftables drops the first fragment, so that the datagram never arrives; tc's flower sees ports in no fragment.
		want := map[string]string{"nftables": none, "flower": both}[backend]
		if wa, wb := a.ways(t, 4000, want), b.ways(t, 4000, both); wa != want || wb != both {
			t.Errorf("%q, another flow: %q", wa, wb)
		}
		m.Close()
	})
}

// A mark is set, copies are sent, and what exceeds a rate is dropped, each both ways, while the flow goes on.
func TestOtherKinds(t *testing.T) {
	each(t, func(t *testing.T, h *hosts, backend string) {
		ip(t, h.far, "link add copies type veth peer name elsewhere")
		ip(t, h.far, "link set elsewhere up")
		ip(t, h.far, "link set copies up")
		m := h.run(t, `
rules:
  - {labels: [marked], min_score: 0.5, do: mark, mark: 7}
  - {labels: [copied], min_score: 0.5, do: mirror, to: copies}
  - {labels: [slow], min_score: 0.5, do: rate-limit, bytes_per_second: 1000}
dry_run: false
backend: `+backend)
		defer m.Close()
		begin := func(x *talk, label string, n int) {
			r := x.record(t)
			r.Verdicts[0].Label = label
			m.Offer(r, flow.Scope{}, good)
			m.begun(t, n)
		}
		copied, slow, marked := h.talk(t, 5001), h.talk(t, 5002), h.talk(t, 5003)
		var ring []*afpacket.Ring
		h.far.Do(func() {
			var err error
			if ring, err = afpacket.Open("copies", 1, afpacket.Options{Outgoing: true}); err != nil {
				t.Fatal(err)
			}
		})
		defer ring[0].Close()
		copied.ready(t)
		begin(copied, "copied", 1)
		copied.want(t, "copied", both)
		wait(t, "copies of both directions", func() bool { s, _ := ring[0].Stats(); return s.Received >= 2 })

		begin(slow, "slow", 2)
		for _, way := range []struct{ from, to *net.UDPConn }{{slow.near, slow.far}, {slow.far, slow.near}} {
			got := 0
			for i := range 200 { // of 1000 bytes, of which 64 KiB pass at once
				way.from.Write(make([]byte, 1000))
				got += arrived(way.to, time.Duration(1+i/199*200)*time.Millisecond)
			}
			if got < 30 || got > 120 {
				t.Errorf("%d of 200 packets passed", got)
			}
		}

		// What is marked by the rule is dropped by another one of the system's.
		if _, err := exec.LookPath("nft"); err == nil {
			h.far.Do(func() {
				for _, s := range []string{"add table ip watch", "add chain ip watch in { type filter hook input priority 0; }", "add rule ip watch in meta mark 7 drop"} {
					if out, err := exec.Command("nft", s).CombinedOutput(); err != nil {
						t.Fatalf("nft %s: %v: %s", s, err, out)
					}
				}
			})
			marked.want(t, "before the mark", both)
			begin(marked, "marked", 3)
			marked.want(t, "marked", "out")
		}
	})
}

// arrived reads datagrams until none has come for a while, and returns how many there were.
func arrived(c *net.UDPConn, within time.Duration) (n int) {
	for {
		c.SetReadDeadline(time.Now().Add(within))
		if _, err := c.Read(make([]byte, 2000)); err != nil {
			return n
		}
		n++
	}
}

// Packets that a rule drops where they come in are still seen by who captures there, since a packet socket is asked first; those that
// are dropped on their way out are not.
func TestDroppedIsSeen(t *testing.T) {
	each(t, func(t *testing.T, h *hosts, backend string) {
		m := h.run(t, lasting+"backend: "+backend)
		defer m.Close()
		x := h.talk(t, 5001)
		x.ready(t)
		m.Offer(x.record(t), flow.Scope{}, good)
		m.begun(t, 1)
		var ring []*afpacket.Ring
		h.far.Do(func() {
			var err error
			if ring, err = afpacket.Open(testnet.Far, 1, afpacket.Options{Outgoing: true}); err != nil {
				t.Fatal(err)
			}
		})
		defer ring[0].Close()
		for range 5 {
			x.passes(t, x.near, x.far, 10, 0)
		}
		wait(t, "dropped packets are seen", func() bool { s, _ := ring[0].Stats(); return s.Received >= 5 })
		before, _ := ring[0].Stats()
		const sent = 20 // more than the neighbours' questions could be
		for range sent {
			x.passes(t, x.far, x.near, 10, time.Millisecond)
		}
		if after, _ := ring[0].Stats(); after.Received-before.Received >= sent {
			t.Errorf("%d packets that never left were seen", after.Received-before.Received)
		}
	})
}

// A chain's place in the kernel is its interface: an interface that is removed takes the rules with it, and that is noticed.
func TestInterfaceRemoved(t *testing.T) {
	each(t, func(t *testing.T, h *hosts, backend string) {
		m := h.run(t, lasting+"backend: "+backend)
		m.Offer(nth(t, 1), flow.Scope{}, good)
		m.begun(t, 1)
		ip(t, h.far, "link del "+testnet.Far)
		wait(t, "noticed", func() bool { return slices.Contains(m.told(), "end drop: flushed") })
		m.Close()
	})
}

// A direction of a rule that somebody takes out of the kernel ends that rule, the other direction with it; the others stay, and more are made.
func TestOneRemoved(t *testing.T) {
	each(t, func(t *testing.T, h *hosts, backend string) {
		m := h.run(t, lasting+"backend: "+backend)
		x, y := h.talk(t, 5001), h.talk(t, 5002)
		x.ready(t)
		m.Offer(x.record(t), flow.Scope{}, good)
		m.Offer(y.record(t), flow.Scope{}, good)
		m.begun(t, 2)
		r := h.list(t)
		if len(r) != 2 {
			t.Fatalf("%+v", r)
		}
		h.far.Do(func() {
			var err error
			switch b := m.opt.Backend.(type) {
			case *nft:
				other, wrong := dialNFT()
				if err = wrong; err == nil {
					other.table, other.sets = b.table, b.sets
					rule := Rule{Flow: r[0].Flow, For: time.Minute}
					set, list := other.elements(&rule)
					if err = other.conn.SetDeleteElements(set, list[:1]); err == nil {
						err = other.flush()
					}
					other.Close()
				}
			case *flower:
				other, wrong := dialFlower()
				if err = wrong; err == nil {
					places, wrong := other.everywhere(nil)
					err = wrong
					for _, p := range places {
						list, wrong := other.dump(p)
						if err = errors.Join(err, wrong); err == nil && len(list) > 0 {
							err = other.take(&list[0])
							break
						}
					}
					other.Close()
				}
			}
			if err != nil {
				t.Fatal(err)
			}
		})
		wait(t, "noticed", func() bool { return slices.Contains(m.told(), "end drop: flushed") })
		if s := m.Stats(); s.Active[Drop] != 1 || m.Problem() != "" || len(h.list(t)) != 1 {
			t.Errorf("%+v, %q, %+v", s, m.Problem(), h.list(t))
		}
		z := h.talk(t, 5003)
		m.Offer(z.record(t), flow.Scope{}, good)
		m.begun(t, 3)
		if slices.ContainsFunc(h.list(t), func(f Found) bool { return f.Flow == must(m.policy.Decide(x.record(t), flow.Scope{})).Flow }) {
			x, y = y, x
		}
		x.want(t, "the one that lost a direction", both)
		y.want(t, "the other", none)
		z.want(t, "one behind them", none)
		m.Close()
	})
}

// What rules need is missed though none of them is: the chains' own rules, which somebody has flushed, and the interface that copies go to.
func TestPartsRemoved(t *testing.T) {
	each(t, func(t *testing.T, h *hosts, backend string) {
		if backend == "nftables" {
			if _, err := exec.LookPath("nft"); err == nil {
				m := h.run(t, lasting+"backend: nftables")
				m.Offer(nth(t, 1), flow.Scope{}, good)
				m.begun(t, 1)
				h.far.Do(func() {
					if out, err := exec.Command("nft", "flush", "table", "netdev", "nepcod_"+testnet.Far).CombinedOutput(); err != nil {
						t.Fatalf("%v: %s", err, out)
					}
				})
				wait(t, "noticed", func() bool { return slices.Contains(m.told(), "end drop: flushed") })
				m.Close()
			}
		}
		ip(t, h.far, "link add copies type veth peer name elsewhere")
		m := h.run(t, "rules: [{labels: [copied], min_score: 0.5, do: mirror, to: copies}]\ndry_run: false\nbackend: "+backend)
		ip(t, h.far, "link del copies")
		wait(t, "noticed", func() bool { return strings.Contains(m.Problem(), "an interface was removed") })
		m.Close()
	})
}

// A cookie is read back.
func TestCookie(t *testing.T) {
	r := Rule{Effect: Effect{Kind: RateLimit}, FlowID: 1<<51 - 1, Until: 4e9}
	if kind, id, until, ok := readCookie(cookie(&r)); !ok || kind != RateLimit || id != r.FlowID || until != r.Until {
		t.Error(kind, id, until, ok)
	}
	for _, b := range [][]byte{nil, make([]byte, 16), append([]byte("nepc\x09"), make([]byte, 11)...), binary.BigEndian.AppendUint64(cookie(&r), 0)} {
		if _, _, _, ok := readCookie(b); ok {
			t.Errorf("%x", b)
		}
	}
}
