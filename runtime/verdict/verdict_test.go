package verdict

import (
	"encoding/json"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"nepcoc/runtime/flow"
)

func key(t testing.TB, proto uint8, a, b string) flow.Key {
	t.Helper()
	k, err := flow.MakeKey(proto, netip.MustParseAddrPort(a), netip.MustParseAddrPort(b))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func record(t testing.TB) *Record {
	return &Record{
		Key: key(t, 6, "10.0.0.1:40001", "10.0.1.1:443"), First: 1700000000000001000, Last: 1700000003500000000,
		Packets: [2]uint64{3, 2}, Bytes: [2]uint64{180, 900}, Reason: flow.ReasonTokens,
		Valid: 128, UsedPackets: 2, UsedBytes: 254,
		Verdicts: []Verdict{{
			Output: "logits", Label: "TLS", Class: 2, Score: 0.98765432, Margin: 1.0 / 3,
			Logits: []int32{-5, 0, 2147483647}, Scaled: []float64{-0.5, 0, 1e-9},
		}},
	}
}

func TestJSON(t *testing.T) {
	const want = `{"proto":"TCP","src":"10.0.0.1","sport":40001,"dst":"10.0.1.1","dport":443,"time":1700000000.000001000,"last":1700000003.500000000,` +
		`"packets":[3,2],"bytes":[180,900],"reason":"tokens","tokens":128,"payload":0,"label":"TLS","class":2,"score":0.987654,"margin":0.333333,` +
		`"logits":[-5,0,2147483647],"scaled":[-0.5,0,1e-09],"community_id":"1:BUyepw4ZlNRKkQNW1uSjn9bUWVg="}`
	if got := string(record(t).AppendJSON(nil)); got != want {
		t.Errorf("\n%s, want\n%s", got, want)
	}
	const text = `1700000000.000001000 TCP 10.0.0.1:40001 > 10.0.1.1:443 packets=5 label=TLS score=0.9877 margin=0.3333`
	if got := string(record(t).AppendText(nil)); got != text {
		t.Errorf("\n%s, want\n%s", got, text)
	}
}

// TestJSONIsJSON: whatever a record holds, the line is one valid JSON object,
// and strings survive.
func TestJSONIsJSON(t *testing.T) {
	for _, label := range []string{"", "TLS", `"quoted\`, "a\nb\x00\x7f", "snow ☃ \u2028", "bad \xff\xfe utf-8"} {
		for _, f := range []float64{0, math.Copysign(0, -1), math.NaN(), math.Inf(1), math.MaxFloat64, 5e-324, 1e21} {
			r := record(t)
			r.Verdicts[0].Label, r.Verdicts[0].Score, r.Verdicts[0].Scaled = label, f, []float64{f}
			r.Last = -1
			r.Key = key(t, 17, "[2001:db8::1]:5", "[2001:db8::2]:4")
			for name, line := range map[string][]byte{"json": r.AppendJSON(nil), "eve": r.AppendEVE(nil)} {
				var v map[string]any
				if err := json.Unmarshal(line, &v); err != nil {
					t.Fatalf("%s: %v in %s", name, err, line)
				}
				if name == "eve" {
					v = v["nepco"].(map[string]any)
				}
				if got, want := v["label"], strings.ToValidUTF8(label, "\ufffd\ufffd"); got != want {
					t.Errorf("%s: label %q, want %q", name, got, want)
				}
				if strings.ContainsAny(string(line), "\n\u2028") {
					t.Errorf("%s: a line break in %s", name, line)
				}
			}
		}
	}
}

func TestEVE(t *testing.T) {
	r := record(t)
	var e struct {
		Timestamp   string
		FlowID      uint64 `json:"flow_id"`
		EventType   string `json:"event_type"`
		SrcIP       string `json:"src_ip"`
		DestPort    int    `json:"dest_port"`
		CommunityID string `json:"community_id"`
		Flow        struct {
			Start, End, State, Reason string
			Age                       int
			PktsToclient              int `json:"pkts_toclient"`
			BytesToserver             int `json:"bytes_toserver"`
		}
		Nepco struct {
			Label       string
			Score       float64
			PacketsUsed int `json:"packets_used"`
		}
	}
	line := r.AppendEVE(nil)
	if err := json.Unmarshal(line, &e); err != nil {
		t.Fatalf("%v in %s", err, line)
	}
	if _, err := time.Parse("2006-01-02T15:04:05.999999-0700", e.Flow.Start); err != nil {
		t.Error(err)
	}
	if e.Flow.Start != "2023-11-14T22:13:20.000001+0000" || e.Timestamp != e.Flow.End || e.Flow.Age != 3 ||
		e.EventType != "flow" || e.SrcIP != "10.0.0.1" || e.DestPort != 443 || e.CommunityID == "" || e.FlowID == 0 || e.FlowID >= 1<<51 ||
		e.Flow.PktsToclient != 2 || e.Flow.BytesToserver != 180 || e.Flow.State != "established" || e.Flow.Reason != "forced" ||
		e.Nepco.Label != "TLS" || e.Nepco.Score != 0.987654 || e.Nepco.PacketsUsed != 2 {
		t.Errorf("%+v\n%s", e, line)
	}
}

// A flow gives one event, whatever the number of its outputs: the fields of one output stand in
// our object itself, several in a list. Each label that an alert is wanted for gives an alert of its own.
func TestOutputs(t *testing.T) {
	r := record(t)
	app := Verdict{Output: "app", Label: "TLS", Class: 2, Score: 0.75, Margin: 0.5, Alert: true, AlertID: 1_900_002}
	attack := Verdict{Output: "attack", Label: "benign", Score: 0.625, Margin: 0.125, Unknown: true}
	tags := Verdict{Output: "tags", Multi: true, Class: -1, Given: []Given{
		{Label: "scan", Class: 0, Score: 0.5, Alert: true, AlertID: 1_902_000}, {Label: "vpn", Class: 3, Score: 1, Alert: true, AlertID: 1_902_003}}}
	for _, tc := range []struct {
		verdicts   []Verdict
		json, text string
		alerts     []float64
	}{
		{[]Verdict{app}, `"label":"TLS","class":2,"score":0.75,"margin":0.5,`, " label=TLS score=0.7500 margin=0.5000", []float64{1_900_002}},
		{[]Verdict{attack}, `"label":"unknown","candidate":"benign","class":0,"score":0.625,"margin":0.125,`, " label=unknown candidate=benign score=0.6250 margin=0.1250", nil},
		{[]Verdict{tags}, `"labels":[{"label":"scan","class":0,"score":0.5},{"label":"vpn","class":3,"score":1}],`, " labels=scan:0.5000,vpn:1.0000", []float64{1_902_000, 1_902_003}},
		{[]Verdict{{Multi: true}}, `"labels":[],`, " labels=-", nil},
		{[]Verdict{app, tags}, `"outputs":[{"output":"app","label":"TLS","class":2,"score":0.75,"margin":0.5},{"output":"tags","labels":[{"label":"scan","class":0,"score":0.5},{"label":"vpn","class":3,"score":1}]}],`,
			" output=app label=TLS score=0.7500 margin=0.5000 output=tags labels=scan:0.5000,vpn:1.0000", []float64{1_900_002, 1_902_000, 1_902_003}},
	} {
		r.Verdicts = tc.verdicts
		if got := string(r.AppendText(nil)); !strings.HasSuffix(got, "packets=5"+tc.text) {
			t.Errorf("%s, want %s", got, tc.text)
		}
		if got := string(r.AppendJSON(nil)); !strings.Contains(got, `"tokens":128,"payload":0,`+tc.json) {
			t.Errorf("%s, want %s", got, tc.json)
		}
		events := strings.Split(string(r.AppendEVE(nil)), "\n")
		var alerts []float64
		for i, line := range events {
			var e struct {
				Type  string `json:"event_type"`
				Alert struct {
					ID float64 `json:"signature_id"`
				}
				Flow struct{ Alerted bool }
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatalf("%v in %s", err, line)
			}
			if !strings.Contains(line, `"nepco":{`+tc.json) {
				t.Errorf("%s, want %s", line, tc.json)
			}
			if e.Type == "alert" {
				alerts = append(alerts, e.Alert.ID)
			} else if e.Type != "flow" || i != len(events)-1 || e.Flow.Alerted != (len(tc.alerts) > 0) {
				t.Errorf("event %d of %d: %s", i, len(events), line)
			}
		}
		if !slices.Equal(alerts, tc.alerts) || r.Alerts() != len(alerts) {
			t.Errorf("alerts %v, want %v", alerts, tc.alerts)
		}
	}
}

// What an event came of stands in it: the bundle, its digest and the version of the
// model, as far as they are known, alerts included.
func TestSource(t *testing.T) {
	for _, c := range []struct{ bundle, digest, version, want string }{
		{"edge \"7\"", "0123456789ab", "3", `"bundle":"edge \"7\"","digest":"0123456789ab","model_version":"3"`},
		{"edge", "0123456789ab", "", `"bundle":"edge","digest":"0123456789ab"`},
		{"edge", "", "", `"bundle":"edge"`},
	} {
		r := record(t)
		r.Source = NewSource(c.bundle, c.digest, c.version)
		r.Verdicts[0].Alert = true
		eve := strings.Split(string(r.AppendEVE(nil)), "\n")
		for _, line := range append(eve, string(r.AppendJSON(nil))) {
			if !json.Valid([]byte(line)) || strings.Count(line, c.want) != 1 {
				t.Errorf("%s is not in %s", c.want, line)
			}
			if c.version == "" && strings.Contains(line, "model_version") {
				t.Errorf("a version in %s", line)
			}
		}
		if len(eve) != 2 {
			t.Errorf("%d events", len(eve))
		}
	}
}

func TestNoAllocation(t *testing.T) {
	r := record(t)
	r.Verdicts = append(r.Verdicts, Verdict{Multi: true, Given: []Given{{Label: "scan", Alert: true}}})
	buf := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() { buf = r.AppendEVE(r.AppendJSON(buf[:0])) }); n != 0 {
		t.Errorf("%v allocations per verdict", n)
	}
}

func TestEVETime(t *testing.T) {
	for _, ns := range []int64{0, 1, 999_999, 1_700_000_000_123_456_789, 951_782_400_000_000_000, -1, -1_000_000_000, math.MaxInt64, math.MinInt64} {
		want := time.Unix(0, ns).UTC().Format(eveTime)
		if got := string(appendEVETime(nil, ns)); got != want {
			t.Errorf("%d: %s, want %s", ns, got, want)
		}
	}
}

// What a verdict stands on, in a line for people.
func TestTextWhy(t *testing.T) {
	r := record(t)
	r.Verdicts = []Verdict{{Label: "a", Why: []Why{
		{Packet: 4, Offset: 52, Length: 16, Stream: -1, Share: 0.62}, {Side: "client", Stream: 3, Length: 2, Share: 0.2}, {Fact: "length", Share: 0.1},
	}}}
	if got, want := string(r.AppendText(nil)), " why=4:52+16=0.62,client:3+2=0.20,length=0.10"; !strings.HasSuffix(got, want) {
		t.Errorf("%s does not end in %s", got, want)
	}
}
