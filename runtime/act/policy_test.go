package act

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"nepcoc/runtime/flow"
	"nepcoc/runtime/verdict"
)

// configOf reads `actions:` from YAML, as the agent does.
func configOf(t testing.TB, text string) Config {
	t.Helper()
	c := Defaults
	if err := yaml.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// valid is configOf of what must be right.
func valid(t testing.TB, text string) Config {
	t.Helper()
	c := configOf(t, text)
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return c
}

func keyOf(t testing.TB, proto uint8, src, dst string) flow.Key {
	t.Helper()
	k, err := flow.MakeKey(proto, netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// recordOf is a verdict without a fault.
func recordOf(t testing.TB, label string, score float64) *verdict.Record {
	return &verdict.Record{Key: keyOf(t, 6, "192.0.2.9:40000", "192.0.2.1:443"), First: 1e18, Payload: 100, Verdicts: []verdict.Verdict{{Output: "app", Label: label, Score: score}}}
}

// Nothing is done about a verdict unless its label is chosen, its score reaches what is asked for, nothing about it is marked, and a
// rule can match its packets and no others.
func TestPolicy(t *testing.T) {
	c := valid(t, `
rules:
  - {labels: [tor, app=vpn], min_score: 0.9, do: drop, for: 1m}
  - {labels: [tor, video], min_score: 0.5, do: rate-limit, bytes_per_second: 100000}
allow:
  addresses: [10.0.0.0/8, 2001:db8:1::/48, 192.0.2.77, "::ffff:203.0.113.0/120", "::ffff:203.0.114.5"]
  ports: ["22", tcp/8000-8100, udp/53]
`)
	p := NewPolicy(&c)
	for _, tc := range []struct {
		name   string
		change func(r *verdict.Record)
		label  string
		score  float64
		want   Reason
		entry  int
	}{
		{"chosen", nil, "tor", 0.95, Wanted, 0},
		{"just enough", nil, "tor", 0.9, Wanted, 0},
		{"the second entry's score", nil, "tor", 0.89, Wanted, 1},
		{"too low", nil, "tor", 0.49, Unasked, 0},
		{"no number", nil, "tor", nan, Unasked, 0},
		{"another label", nil, "web", 1, Unasked, 0},
		{"by output", nil, "vpn", 0.95, Wanted, 0},
		{"another output", func(r *verdict.Record) { r.Verdicts[0].Output = "other" }, "vpn", 0.95, Unasked, 0},
		{"unknown", func(r *verdict.Record) { r.Verdicts[0].Unknown = true }, "tor", 0.95, Unknown, 0},
		{"insufficient", func(r *verdict.Record) { r.Verdicts[0].Insufficient = true }, "tor", 0.95, Insufficient, 0},
		{"insufficient by its mark alone", func(r *verdict.Record) { r.Marks = flow.MarkInsufficient }, "tor", 0.95, Insufficient, 0},
		{"IPv4 allowed", func(r *verdict.Record) { r.Key = keyOf(t, 6, "192.0.2.1:1", "10.255.0.1:2") }, "tor", 0.95, Allowed, 0},
		{"allowed at the other end", func(r *verdict.Record) { r.Key = keyOf(t, 6, "10.255.0.1:2", "192.0.2.1:1") }, "tor", 0.95, Allowed, 0},
		{"one address", func(r *verdict.Record) { r.Key = keyOf(t, 17, "192.0.2.77:1", "192.0.2.1:1") }, "tor", 0.95, Allowed, 0},
		{"IPv6 allowed", func(r *verdict.Record) { r.Key = keyOf(t, 6, "[2001:db8:1::5]:1", "[2001:db8:2::]:2") }, "tor", 0.95, Allowed, 0},
		{"IPv6", func(r *verdict.Record) { r.Key = keyOf(t, 6, "[2001:db8:3::5]:1", "[2001:db8:2::]:2") }, "tor", 0.95, Wanted, 0},
		{"IPv4 within IPv6", func(r *verdict.Record) { r.Key = keyOf(t, 6, "[::ffff:10.0.0.1]:1", "[::ffff:192.0.2.1]:2") }, "tor", 0.95, Allowed, 0},
		{"allowed as IPv6, a prefix", func(r *verdict.Record) { r.Key = keyOf(t, 6, "203.0.113.9:1", "192.0.2.1:2") }, "tor", 0.95, Allowed, 0},
		{"allowed as IPv6, an address", func(r *verdict.Record) { r.Key = keyOf(t, 6, "192.0.2.1:2", "203.0.114.5:1") }, "tor", 0.95, Allowed, 0},
		{"allowed and met as IPv6", func(r *verdict.Record) { r.Key = keyOf(t, 6, "[::ffff:203.0.113.9]:1", "[2001:db8:2::]:2") }, "tor", 0.95, Allowed, 0},
		{"beside what is allowed as IPv6", func(r *verdict.Record) { r.Key = keyOf(t, 6, "203.0.114.4:1", "192.0.2.1:2") }, "tor", 0.95, Wanted, 0},
		{"port", func(r *verdict.Record) { r.Key = keyOf(t, 17, "192.0.2.2:5000", "192.0.2.1:22") }, "tor", 0.95, Allowed, 0},
		{"port in a range", func(r *verdict.Record) { r.Key = keyOf(t, 6, "192.0.2.2:8100", "192.0.2.1:3000") }, "tor", 0.95, Allowed, 0},
		{"port of another protocol", func(r *verdict.Record) { r.Key = keyOf(t, 17, "192.0.2.2:8100", "192.0.2.1:3000") }, "tor", 0.95, Wanted, 0},
		{"behind the range", func(r *verdict.Record) { r.Key = keyOf(t, 6, "192.0.2.2:8101", "192.0.2.1:3000") }, "tor", 0.95, Wanted, 0},
		{"in a tunnel without a number", func(r *verdict.Record) { r.Level = 1 }, "tor", 0.95, InTunnel, 0},
		{"in a tunnel", func(r *verdict.Record) { r.Key.Tunnel = 7 }, "tor", 0.95, InTunnel, 0},
		{"some packets in a tunnel without a number, as anybody can send them", func(r *verdict.Record) { r.Apart = true }, "tor", 0.95, InTunnel, 0},
		{"one way behind MPLS", func(r *verdict.Record) { r.Shims, r.Apart = 1, true }, "tor", 0.95, InLayers, 0},
		{"one of several labels of an unknown flow", func(r *verdict.Record) {
			r.Verdicts[0] = verdict.Verdict{Output: "app", Multi: true, Unknown: true, Given: []verdict.Given{{Label: "video", Score: 0.6}}}
		}, "", 0, Unknown, 0},
		{"behind MPLS", func(r *verdict.Record) { r.Shims = 1 }, "tor", 0.95, InLayers, 0},
		{"no ports", func(r *verdict.Record) { r.Key.Proto = 132 }, "tor", 0.95, NoTransport, 0},
		{"no verdict", func(r *verdict.Record) { r.Verdicts = nil }, "tor", 0.95, Unasked, 0},
		{"one of several labels", func(r *verdict.Record) {
			r.Verdicts[0] = verdict.Verdict{Output: "app", Multi: true, Given: []verdict.Given{{Label: "web", Score: 1}, {Label: "video", Score: 0.6}}}
		}, "", 0, Wanted, 1},
		{"none of several labels", func(r *verdict.Record) { r.Verdicts[0] = verdict.Verdict{Output: "app", Multi: true} }, "", 0, Unasked, 0},
		{"of several outputs one is unknown", func(r *verdict.Record) {
			r.Verdicts[0].Unknown = true
			r.Verdicts = append(r.Verdicts, verdict.Verdict{Output: "kind", Label: "video", Score: 0.7})
		}, "tor", 0.95, Wanted, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := recordOf(t, tc.label, tc.score)
			if tc.change != nil {
				tc.change(r)
			}
			w, why := p.Decide(r, flow.Scope{})
			if why != tc.want || why == Wanted && w.Entry != tc.entry {
				t.Errorf("%s, entry %d; want %s, %d", why, w.Entry, tc.want, tc.entry)
			}
			if why != Wanted && w.Flow != (Flow{}) {
				t.Error("a flow for nothing")
			}
		})
	}
	// Each mark by itself.
	for i := range (flow.Incomplete | flow.Anomaly).Count() {
		r := recordOf(t, "tor", 1)
		for m := flow.Marks(1); m != 0; m <<= 1 {
			if r.Marks = m; m.Name(0) == (flow.Incomplete | flow.Anomaly).Name(i) {
				break
			}
		}
		if _, why := p.Decide(r, flow.Scope{}); why != Marked {
			t.Errorf("%s: %s", r.Marks.Names(), why)
		}
	}
}

// Both directions of a flow ask for the same rule. VLANs are part of it only where they tell flows apart.
func TestWantedFlow(t *testing.T) {
	c := valid(t, "rules: [{labels: [tor], min_score: 0, do: drop}]")
	p := NewPolicy(&c)
	r := recordOf(t, "tor", 1)
	r.VLAN = [2]uint16{5, 0}
	a, _ := p.Decide(r, flow.Scope{})
	r.Key = r.Key.Reverse()
	b, _ := p.Decide(r, flow.Scope{})
	if a.Flow != b.Flow || a.Flow.Tagged || a.Flow.Key.VLAN != [2]uint16{} {
		t.Errorf("%+v, %+v", a.Flow, b.Flow)
	}
	r.Key.VLAN, r.Key.Interface = r.VLAN, 3
	if a, _ = p.Decide(r, flow.Scope{VLANs: true, Interfaces: true}); !a.Flow.Tagged || a.Flow.Key.VLAN[0] != 5 || a.Flow.Key.Interface != 0 {
		t.Errorf("%+v", a.Flow)
	}
}

// All that is wrong is said at once, by field.
func TestConfigErrors(t *testing.T) {
	c := configOf(t, `
rules:
  - {labels: [], do: drop}
  - {labels: [unknown, app=insufficient, "a\nb"], min_score: 1.5, do: burn, for: 1ms}
  - {labels: [a], min_score: .nan, do: mark}
  - {labels: [a], min_score: 1, do: mirror}
  - {labels: [a], min_score: 1, do: rate-limit}
  - {labels: [a], min_score: 1, do: rate-limit, bytes_per_second: 3, to: eth0, mark: 2}
  - {labels: [a], min_score: 1, do: mirror, to: "a b", for: 25h}
  - {labels: [a], min_score: 1}
  - {labels: [a], min_score: 1, do: mirror, to: p0}
backend: ebpf
offload: maybe
pref: 0
interfaces: [p0, p0, "", "a/b"]
allow: {addresses: [10.0.0.1/8, here, "fe80::1%eth0"], ports: [http, "5-4", sctp/5, "70000"]}
max_rules: 0
rules_per_second: -1
queue: 0
`)
	var got []string
	for _, e := range c.Validate().(interface{ Unwrap() []error }).Unwrap() {
		got = append(got, e.Error())
	}
	want := []string{
		"actions.rules[0].labels: are missing",
		"actions.rules[0].min_score: is missing: the score, 0 to 1, from which on something is done",
		"actions.rules[1].labels: unknown is no label: nothing is done about flows without one",
		"actions.rules[1].labels: app=insufficient is no label: nothing is done about flows without one",
		`actions.rules[1].labels: "a\nb" holds a control character`,
		"actions.rules[1].min_score: 1.5 is not within 0..1",
		"actions.rules[1].for: 1ms is not within 1s..24h0m0s",
		`actions.rules[1].do: "burn" is none of mark, mirror, rate-limit, drop`,
		"actions.rules[2].min_score: NaN is not within 0..1",
		"actions.rules[2].mark: is missing: a number above 0",
		"actions.rules[3].to: is missing: an interface",
		"actions.rules[4].bytes_per_second: is missing: bytes a second, each way",
		"actions.rules[5].mark: goes with do: mark",
		"actions.rules[5].to: goes with do: mirror",
		"actions.rules[5].bytes_per_second: 3 is not within 1000..4000000000",
		"actions.rules[6].for: 25h0m0s is not within 1s..24h0m0s",
		`actions.rules[6].to: "a b" is no name of an interface`,
		"actions.rules[7].do: is missing: one of mark, mirror, rate-limit, drop",
		`actions.backend: "ebpf" is none of auto, flower, nftables`,
		`actions.offload: "maybe" is none of auto, required, off`,
		"actions.interfaces: p0 stands there twice",
		`actions.interfaces: "" is no name of an interface`,
		`actions.interfaces: "a/b" is no name of an interface`,
		"actions.rules[8].to: p0 has the rules itself: its copies would be copied again",
		"actions.pref: 0 is not within 1..65000",
		"actions.max_rules: 0 is not within 1..1000000",
		"actions.rules_per_second: -1 is not within 1..100000",
		"actions.queue: 0 is not within 1..1048576",
		"actions.allow.addresses: 10.0.0.1/8 has bits behind its prefix: 10.0.0.0/8",
		`actions.allow.addresses: "here" is neither an address nor a prefix`,
		`actions.allow.addresses: "fe80::1%eth0" is neither an address nor a prefix`,
		`actions.allow.ports: "http" is no port, nor a range of them`,
		`actions.allow.ports: "5-4" is no port, nor a range of them`,
		`actions.allow.ports: "sctp/5": "sctp" is neither tcp nor udp`,
		`actions.allow.ports: "70000" is no port, nor a range of them`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if err := Defaults.Validate(); err != nil || Defaults.On() || Defaults.Acts() {
		t.Errorf("the defaults: %v", err)
	}
	if c := valid(t, "rules: [{labels: [a], min_score: 1, do: drop}]"); !c.On() || c.Acts() {
		t.Error("a configuration that does not say dry_run: false acts")
	}
}

// Where rules are put.
func TestPlaces(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"{}", "far ingress, far egress"},
		{"egress: false", "far ingress"},
		{"interfaces: [p0, pf0hpf]", "p0 ingress, pf0hpf ingress"},
		{"interfaces: [p0, pf0hpf]\negress: true", "p0 ingress, pf0hpf ingress, p0 egress, pf0hpf egress"},
	} {
		c := valid(t, tc.text)
		var got []string
		for _, p := range c.Places("far") {
			got = append(got, p.String())
		}
		if s := strings.Join(got, ", "); s != tc.want {
			t.Errorf("%s: %s", tc.text, s)
		}
	}
}
