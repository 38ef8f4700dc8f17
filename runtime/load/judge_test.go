package load

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nepcoc/internal/testbundle"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/traffic"
	"nepcoc/runtime/verdict"
)

// expected is the testbed's script with its verdicts.
func expected(t *testing.T, b *bundle.Bundle) (*Script, int) {
	t.Helper()
	s := testScript(t)
	src, err := capture.Open(testCapture(t))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	not, err := s.Expect(b, src)
	if err != nil {
		t.Fatal(err)
	}
	return s, not
}

// testBundle reads the bytes of packets without addresses.
func testBundle(t *testing.T) *bundle.Bundle {
	t.Helper()
	p, err := testbundle.Program(0)
	if err != nil {
		t.Fatal(err)
	}
	c, err := traffic.Named("byte")
	if err != nil {
		t.Fatal(err)
	}
	c.Length = p.Length
	b, err := testbundle.Make(p, c, "class")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// events are the EVE events of the instances of a run, as an agent writes them.
func events(t *testing.T, b *bundle.Bundle, s *Script, first uint32) (lines []string) {
	t.Helper()
	x, err := classify.Engine(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := classify.New(b, x).Flows(b, s.memory(first), false, func(r *verdict.Record) error {
		r.Latency = 250 * time.Microsecond
		lines = append(lines, string(r.AppendEVE(nil)))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return lines
}

func judge(s *Script, sent *Sent, lines []string, after time.Duration) Verdicts {
	j := s.NewJudge(sent, time.Millisecond)
	for _, l := range lines {
		j.Event([]byte(l))
	}
	return j.Verdicts(after)
}

// Verdicts on re-addressed flows are those of the capture at rest, and each that is missing, late, other, marked, twice or of other traffic is told.
func TestJudge(t *testing.T) {
	b := testBundle(t)
	s, not := expected(t, b)
	if not > len(s.Flows)/20 {
		t.Fatalf("%d of %d flows are not compared", not, len(s.Flows))
	}
	sent := &Sent{First: 4000000000, Flows: len(s.Flows)}
	all := events(t, b, s, sent.First)
	v := judge(s, sent, all, 0)
	want := 0
	for i := range s.Flows {
		want += len(s.Flows[i].want)
	}
	if v.Expected != want || v.Expected != len(all) || v.Right+v.NotCompared != want || v.NotCompared < not || v.Different+v.Lost+v.Late+v.Waiting+v.Extra+v.Others > 0 || v.P50 != 250 {
		t.Fatalf("of %d verdicts: %+v", len(all), v)
	}
	// compared are the events that are held to a label, decided by a packet.
	var compared []int
	for i, l := range all {
		var e event
		if !parse([]byte(l), &e) {
			t.Fatal(l)
		}
		n, _ := Instance(e.Src, e.Dst)
		if f := &s.Flows[n-sent.First]; f.compared && len(f.want) == 1 && byPacket[e.Says.Decided] {
			compared = append(compared, i)
		}
	}
	change := func(i int, from, to string) string {
		l := strings.Replace(all[i], from, to, 1)
		if l == all[i] {
			t.Fatalf("no %s in %s", from, l)
		}
		return l
	}
	with := func(at int, lines ...string) []string {
		return slices.Concat(all[:at], lines, all[at+1:])
	}
	at := compared[len(compared)/2]
	for _, tc := range []struct {
		name  string
		lines []string
		want  func(w *Verdicts)
	}{
		{"lost", with(at), func(w *Verdicts) { w.Lost, w.Right, w.Timed = 1, w.Right-1, w.Timed-1 }},
		{"other label", with(at, change(at, `"label":"`, `"label":"x`)), func(w *Verdicts) { w.Different, w.Right = 1, w.Right-1 }},
		{"marked", with(at, change(at, `"nepco":{"label":"`, `"nepco":{"incomplete":["evicted"],"label":"x`)), func(w *Verdicts) { w.Different, w.DifferentMarked, w.Right = 1, 1, w.Right-1 }},
		{"late", with(at, change(at, `"latency_us":250`, `"latency_us":1001`)), func(w *Verdicts) { w.Late, w.Worst = 1, 1001 }},
		{"twice", with(at, all[at], all[at]), func(w *Verdicts) { w.Extra = 1 }},
		{"other traffic", append(slices.Clone(all), `{"event_type":"flow","src_ip":"10.0.0.1","dest_ip":"10.0.0.2","nepco":{"label":"a","tokens":3}}`), func(w *Verdicts) { w.Others = 1 }},
		{"another run", append(slices.Clone(all), events(t, b, s, sent.First+uint32(sent.Flows))...), func(w *Verdicts) { w.Others = len(all) }},
		{"no verdicts", append(slices.Clone(all), `{"event_type":"alert","src_ip":"198.18.0.1","dest_ip":"198.19.0.2","nepco":{"label":"a","tokens":3}}`, `{"event_type":"flow","src_ip":"198.18.0.1","dest_ip":"198.19.0.2","nepco":{"label":"a"}}`, "{"), func(w *Verdicts) {}},
	} {
		w := v
		tc.want(&w)
		got := judge(s, sent, tc.lines, 0)
		examples := got.Examples
		if got.Examples = nil; fmt.Sprint(got) != fmt.Sprint(w) {
			t.Errorf("%s: %+v\nwant %+v", tc.name, got, w)
		}
		if len(examples) != got.Different {
			t.Errorf("%s: %d examples", tc.name, len(examples))
		}
	}
}

// A verdict that waits for a timer is not lost until that has run out; a flow of which packets were not sent is not judged.
func TestWaiting(t *testing.T) {
	b := testBundle(t)
	s, _ := expected(t, b)
	sent := &Sent{First: 9, Flows: 3 * len(s.Flows)}
	timers := 0
	for i := range s.Flows {
		for _, v := range s.Flows[i].want {
			if v.Wait > time.Minute {
				timers++
			}
		}
	}
	if timers == 0 {
		t.Fatal("no flow waits for a timer")
	}
	if v := judge(s, sent, nil, time.Minute); v.Waiting != 3*timers || v.Lost != v.Expected-3*timers {
		t.Errorf("after a minute: %+v, %d wait", v, 3*timers)
	}
	if v := judge(s, sent, nil, time.Hour); v.Waiting != 0 || v.Lost != v.Expected {
		t.Errorf("after an hour: %+v", v)
	}
	if got, want := s.Waiting(time.Minute), float64(3*timers)/float64(judge(s, sent, nil, 0).Expected); got != want {
		t.Errorf("%g wait, want %g", got, want)
	}
	whole := judge(s, sent, nil, time.Hour).Expected
	sent.FailedFlows = map[int]bool{0: true, len(s.Flows) + 1: true}
	if v := judge(s, sent, nil, time.Hour); v.Expected != whole-len(s.Flows[0].want)-len(s.Flows[1].want) || v.Lost != v.Expected {
		t.Errorf("with failed flows: %+v, of %d", v, whole)
	}
}

// A flow that a pause has ended at rest, and that is sent without it, is not compared; where that is all there is, nothing can be.
func TestNotCompared(t *testing.T) {
	b := testBundle(t)
	paused := new(capture.Memory)
	for _, at := range []time.Duration{0, time.Hour} {
		q := ip4(1, 2, capture.ProtoUDP, 0, udpBody(4000, 53, 30), 6)
		paused.Add(&capture.Frame{Data: q, Length: len(q), Time: 1e18 + int64(at), Link: capture.LinkRaw})
	}
	s := script(t, paused)
	paused.Rewind()
	if not, err := s.Expect(b, paused); not != 1 || err == nil || !strings.Contains(err.Error(), "blank:") {
		t.Errorf("%d, %v", not, err)
	}
	q := ip4(1, 3, capture.ProtoUDP, 0, udpBody(4000, 53, 30), 6)
	paused.Add(&capture.Frame{Data: q, Length: len(q), Time: 1e18 + int64(time.Hour), Link: capture.LinkRaw})
	paused.Rewind()
	s = script(t, paused)
	paused.Rewind()
	if not, err := s.Expect(b, paused); not != 1 || err != nil || s.Flows[0].compared || !s.Flows[1].compared {
		t.Errorf("%d, %v", not, err)
	}
	v := judge(s, &Sent{First: 3, Flows: 2}, events(t, b, s, 3), 0)
	if v.Expected != 2 || v.NotCompared != 1 || v.Right != 1 {
		t.Errorf("%+v", v)
	}
	// With the contract's timeout they are two flows, as at rest.
	paused.Rewind()
	s, err := ReadScript(paused, Options{Idle: 2 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	paused.Rewind()
	if not, err := s.Expect(b, paused); not != 0 || err != nil || len(s.Flows) != 3 {
		t.Errorf("%d of %d flows, %v", not, len(s.Flows), err)
	}
}

// Verdicts of several outputs, or of several labels, are compared as a whole.
func TestLabels(t *testing.T) {
	for text, want := range map[string]string{
		`{"label":"DNS","tokens":1}`:                                                                  "DNS",
		`{"label":"unknown","candidate":"DNS","tokens":1}`:                                            "unknown",
		`{"labels":[{"label":"a"},{"label":"b"}],"tokens":1}`:                                         "[a b]",
		`{"labels":[],"tokens":1}`:                                                                    "[]",
		`{"outputs":[{"output":"x","label":"a"},{"output":"y","labels":[{"label":"b"}]}],"tokens":1}`: "x=a y=[b]",
	} {
		var e event
		if !parse([]byte(`{"event_type":"nepco","src_ip":"198.18.0.1","dest_ip":"198.19.0.1","nepco":`+text+`}`), &e) || e.labels() != want {
			t.Errorf("%s: %q", text, e.labels())
		}
	}
}

// Events are whole lines, of a file from where it ended, or of a socket.
func TestEvents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "eve.json")
	if err := os.WriteFile(path, []byte("before\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	e, err := OpenEvents(path, false)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var got []string
	read := func() {
		if _, err := e.Read(func(l []byte) { got = append(got, string(l)) }); err != nil {
			t.Fatal(err)
		}
	}
	for _, part := range []string{"on", "e\ntw", "", "o\nthree\n", "fo"} {
		f.WriteString(part)
		read()
	}
	if !slices.Equal(got, []string{"one", "two", "three"}) {
		t.Errorf("%q", got)
	}
	f.Truncate(3)
	if _, err := e.Read(func([]byte) {}); err == nil {
		t.Error("a file that became shorter")
	}
	if w, err := OpenEvents(path, true); err != nil {
		t.Error(err)
	} else if n, err := w.Read(func([]byte) {}); n != 0 || err != nil { // "bef"
		t.Error(n, err)
	} else {
		w.Close()
	}
	for _, name := range []string{filepath.Join(t.TempDir(), "none"), t.TempDir(), "unix:" + path} {
		if _, err := OpenEvents(name, false); err == nil || !strings.Contains(err.Error(), strings.TrimPrefix(name, "unix:")) {
			t.Errorf("%s: %v", name, err)
		}
	}
	socket := filepath.Join(t.TempDir(), "s")
	u, err := OpenEvents("unix:"+socket, false)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "four\nfi")
	fmt.Fprintf(c, "ve\n")
	c.Close()
	got = nil
	for end := time.Now().Add(time.Minute); len(got) < 2 && time.Now().Before(end); time.Sleep(time.Millisecond) {
		u.Read(func(l []byte) { got = append(got, string(l)) })
	}
	if !slices.Equal(got, []string{"four", "five"}) {
		t.Errorf("%q", got)
	}
}

// Waiting ends with the last verdict, or when none has come for long enough.
func TestWait(t *testing.T) {
	b := testBundle(t)
	s, _ := expected(t, b)
	sent := &Sent{First: 1, Flows: len(s.Flows)}
	path := filepath.Join(t.TempDir(), "eve.json")
	lines := events(t, b, s, 1)
	for _, n := range []int{len(lines), len(lines) - 2} {
		if err := os.WriteFile(path, []byte(strings.Join(lines[:n], "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		e, err := OpenEvents(path, true)
		if err != nil {
			t.Fatal(err)
		}
		clock := &fake{}
		v, err := s.NewJudge(sent, time.Second).Wait(context.Background(), e, clock, 5*time.Second, time.Second)
		e.Close()
		if err != nil || v.Expected-v.Lost-v.Waiting != n {
			t.Errorf("%d of %d events: %+v, %v", n, len(lines), v, err)
		}
		if whole := n == len(lines); whole != (clock.now < time.Second) {
			t.Errorf("%d of %d events: waited %v", n, len(lines), clock.now)
		}
	}
	if _, err := json.Marshal(sent); err != nil {
		t.Error(err)
	}
}
