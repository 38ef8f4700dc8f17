package fleet

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"nepcoc/internal/locked"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
)

// hostile is a card that is taken over: its key and a connection with its credentials.
type hostile struct {
	*attacker
	key     nkeys.KeyPair
	subject string
}

func (f *testFleet) hostile(h *Hub, group, card string) *hostile {
	f.Helper()
	f.card(h.Client, group, card, newSimAgent(), nil)() // enrolled, and stopped
	creds, err := os.ReadFile(filepath.Join(f.dir, "cards", group, card, fileCardCreds))
	if err != nil {
		f.Fatal(err)
	}
	k, err := nkeys.ParseDecoratedUserNKey(creds)
	if err != nil {
		f.Fatal(err)
	}
	return &hostile{f.attacker(creds, inboxPrefix+key(group, card)), k, subjectLines + key(group, card)}
}

// send sends lines under its own seal, as its own card.
func (c *hostile) send(store string, number uint64, lines string) error {
	m := &nats.Msg{Subject: c.subject, Header: nats.Header{}, Data: []byte(lines)}
	seal, err := c.key.Sign(sealed(m.Subject, store, number, m.Data))
	if err != nil {
		return err
	}
	m.Header.Set(headerStore, store)
	m.Header.Set(headerFirst, strconv.FormatUint(number, 10))
	m.Header.Set(headerSeal, hex.EncodeToString(seal))
	r, err := c.RequestMsg(m, time.Minute)
	if err == nil && bytes.Contains(r.Data, []byte(`"error"`)) {
		err = fmt.Errorf("%s", r.Data)
	}
	return err
}

// A card with good credentials can spoil its own lines only: neither by naming another card in them, nor by numbers and stores that it makes up.
func TestHostileLines(t *testing.T) {
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	mallory := f.hostile(h, "g", "mallory")
	f.eventually(2*time.Minute, "the group's stream", func() error { _, err := h.js.Stream(t.Context(), streamLines+"g"); return err })
	store := strings.Repeat("0a", 16)
	lines := []string{
		`{"n":1,"nepco_card":"alice"}`, `{"n":2,"nepco\u005fcard":"alice"}`, `{"n":3,"NEPCO_card":"alice"}`, `{}`, `{"a":"nepco_card"}`, `no JSON "nepco_card":"alice"`,
		`{"nepco_card":"alice"}{"nepco_card":"alice"}`, "{\"a\":\"\x1b[2J\"}",
	}
	if err := mallory.send(store, 0, strings.Join(lines, "\n")+"\n"); err != nil {
		t.Fatal(err)
	}
	refused := 0
	for _, m := range []struct {
		store  string
		number uint64
		lines  string
	}{{"../../x", 0, "{}\n"}, {"", 0, "{}\n"}, {store, 1 << 63, "{}\n"}, {store, 100, "{}"}, {store, 100, ""}} {
		if err := mallory.send(m.store, m.number, m.lines); err != nil {
			t.Fatal(err)
		}
		refused++
	}
	stores := 3 * maxStores
	for i := range stores {
		if err := mallory.send(fmt.Sprintf("%032x", i+1000), 0, "{}\n"); err != nil {
			t.Fatal(err)
		}
	}
	counts, _ := f.sink(h.Client, "g", 0, func(c SinkCounts) bool { return c.Lag == 0 && c.Lines >= uint64(stores+len(lines)) })
	if counts.Refused != uint64(refused) || counts.Lines != uint64(stores+len(lines)) || counts.Missing != 0 {
		t.Errorf("%+v", counts)
	}
	text, err := os.ReadFile(filepath.Join(f.dir, "sink", "g", sinkFile))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range bytes.Lines(text) {
		n++
		keys := map[string]int{}
		d := json.NewDecoder(bytes.NewReader(line))
		for depth := 0; ; {
			token, err := d.Token()
			if err != nil {
				break
			}
			if x, ok := token.(json.Delim); ok {
				depth += map[json.Delim]int{'{': 1, '}': -1, '[': 1, ']': -1}[x]
			} else if s, ok := token.(string); ok && depth == 1 {
				keys[strings.ToLower(s)]++
			}
		}
		var l struct {
			Card string `json:"nepco_card"`
		}
		if err := json.Unmarshal(line, &l); err != nil || l.Card != "mallory" || keys["alice"] > 0 {
			t.Errorf("%v: %s", err, line)
		}
	}
	if n != stores+len(lines) {
		t.Errorf("%d lines", n)
	}
	var mark checkpoint
	if text, err = os.ReadFile(filepath.Join(f.dir, "sink", "g", sinkCheckpoint)); err == nil {
		err = json.Unmarshal(text, &mark)
	}
	if err != nil || len(mark.Next["mallory"]) > maxStores {
		t.Errorf("%d stores of one card are remembered: %v", len(mark.Next["mallory"]), err)
	}
}

// What tail gives was sealed by the card; it tells of the rest.
func TestTail(t *testing.T) {
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	mallory := f.hostile(h, "g", "mallory")
	f.eventually(2*time.Minute, "the group's stream", func() error { _, err := h.js.Stream(t.Context(), streamLines+"g"); return err })
	got, bad := make(chan string, 100), make(chan error, 100)
	go h.Tail(t.Context(), "g", func(card string, lines []byte) { got <- card + " " + string(lines) }, func(_ string, why error) { bad <- why })
	f.eventually(2*time.Minute, "a reader", func() error {
		s, err := h.js.Stream(t.Context(), streamLines+"g")
		if err == nil && s.CachedInfo().State.Consumers == 0 {
			err = errors.New("none")
		}
		return err
	})
	m := nats.NewMsg(mallory.subject)
	m.Data = []byte("{\"forged\":1}\n")
	m.Header.Set(jetstream.MsgIDHeader, "x")
	if _, err := mallory.RequestMsg(m, time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := mallory.send(strings.Repeat("0a", 16), 0, "{\"own\":1}\n"); err != nil {
		t.Fatal(err)
	}
	select {
	case text := <-got:
		if text != "mallory {\"own\":1}\n" {
			t.Errorf("%q", text)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("nothing")
	}
	if why := <-bad; !errors.Is(why, errForged) {
		t.Error(why)
	}
}

// A line without an end doesn't fill the card's memory, and one that is too long for the servers is counted, not lost without a word.
func TestLongLines(t *testing.T) {
	s := openStore(t, t.TempDir(), 64<<20)
	defer s.Close()
	long := strings.Repeat("x", maxLine)
	in := "a\n" + long + "\n" + strings.Repeat("x", maxLine-1) + "\nb\n" + long
	if err := s.Take(t.Context(), strings.NewReader(in)); err != nil {
		t.Fatal(err)
	}
	if got := s.Lines(); got.Stored != 4 {
		t.Errorf("%+v", got)
	}
	last, err := s.stream.GetLastMsgForSubject(t.Context(), storeSubject+"lines")
	if err != nil || string(last.Data) != "b\n" || first(last.Header) != 3 {
		t.Errorf("%v: %d bytes, from %d", err, len(last.Data), first(last.Header))
	}
	// Read piece by piece, of an endless line nothing is kept.
	endless := bufio.NewReaderSize(strings.NewReader(strings.Repeat(long, 8)), 4096)
	if line, err := readLine(endless); line != nil || err == nil {
		t.Errorf("%d bytes: %v", len(line), err)
	}
}

// A checkpoint as it was first written, with numbers alone, is read.
func TestCheckpointForm(t *testing.T) {
	var c checkpoint
	if err := json.Unmarshal([]byte(`{"version":1,"message":7,"size":3,"next":{"a":{"s":41,"t":{"line":5,"message":6}}}}`), &c); err != nil {
		t.Fatal(err)
	}
	if got := c.Next["a"]; got["s"] != (place{Line: 41}) || got["t"] != (place{5, 6}) {
		t.Errorf("%+v", got)
	}
}

// Servers hold a card's connection to few subscriptions and to messages of a line's size.
func TestCardBounds(t *testing.T) {
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	subscribe := func(c *hostile, n int) (denied bool) {
		for i := range n {
			c.SubscribeSync(fmt.Sprintf("%sg.%s.%d", inboxPrefix, strings.TrimPrefix(c.subject, subjectLines+"g."), i))
		}
		c.Flush()
		return c.LastError() != nil || !c.IsConnected()
	}
	if c := f.hostile(h, "g", "few"); subscribe(c, 6) {
		t.Errorf("6 subscriptions: %v", c.LastError())
	}
	if !subscribe(f.hostile(h, "g", "many"), 20) {
		t.Error("20 subscriptions are taken")
	}
	f.eventually(2*time.Minute, "the group's stream", func() error { _, err := h.js.Stream(t.Context(), streamLines+"g"); return err })
	store := strings.Repeat("0a", 16)
	line := strings.Repeat("x", maxLine-1) + "\n"
	if err := f.hostile(h, "g", "line").send(store, 0, line); err != nil {
		t.Errorf("a line of %d bytes: %v", len(line), err)
	}
	if err := f.hostile(h, "g", "big").send(store, 0, line+line[len(line)/2:]); err == nil {
		t.Error("a message of 768 KiB is taken")
	}
}

// Of what a card reports, its reasons are short, since they go into the group's document; its figures are such as agents count; and its clock may
// have been wrong.
func TestHostileReports(t *testing.T) {
	k := newKey(t)
	report := func(r *register, change func(*Status), seen time.Time) error {
		t.Helper()
		s := Status{Version: version, Group: "g", Card: "c", At: seen}
		change(&s)
		text, err := seal(s, k)
		if err != nil {
			t.Fatal(err)
		}
		return r.take(subjectCards+"g.c", text, seen)
	}
	begin := func() *register {
		return newRegister(map[string]map[string]Member{"g": {"c": {version, public(k), time.Time{}, nil}}})
	}
	r, long := begin(), strings.Repeat("long ", 10000)
	if err := report(r, func(s *Status) { s.Reason, s.Agent.Problem, s.Agent.Refused = long, long, long }, begun); err != nil {
		t.Fatal(err)
	}
	if s := r.groups["g"]["c"]; len(s.Reason)+len(s.Agent.Problem)+len(s.Agent.Refused) > 3*(maxReason+3) || s.Reason == "" {
		t.Errorf("%d bytes of reasons", len(s.Reason))
	}
	for name, change := range map[string]func(*Status){
		"negative":  func(s *Status) { s.Agent.Dropped = -1 },
		"a label's": func(s *Status) { s.Agent.Verdicts = map[string]float64{"a": -5} },
		"too many":  func(s *Status) { s.Agent.Packets = 1e300 },
	} {
		if report(begin(), change, begun) == nil {
			t.Errorf("%s: taken", name)
		}
	}
	// Years ahead, then right; but what is older than what was heard is still refused.
	r = begin()
	ahead := func(s *Status) { s.At = begun.AddDate(5, 0, 0) }
	if err := errors.Join(report(r, ahead, begun), report(r, func(*Status) {}, begun.Add(time.Second))); err != nil {
		t.Errorf("a clock that is set right: %v", err)
	}
	if report(r, func(s *Status) { s.At = begun.Add(-time.Minute) }, begun.Add(2*time.Second)) == nil {
		t.Error("an old report is taken")
	}
}

// Who sends what is refused, as often as it likes, doesn't fill the hub's log; what was left out is counted.
func TestSeldom(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	var s seldom
	s.warn(log, "report refused", "why", "x")
	s.next = time.Now().Add(time.Hour) // however long the machine takes
	for range 999 {
		s.warn(log, "report refused", "why", "x")
	}
	s.next = time.Time{}
	s.warn(log, "report refused", "why", "y")
	if got := out.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "why=y not_said_before=999") {
		t.Error(got)
	}
	// The hub's own: reports that nobody sealed.
	f := newFleet(t, 1)
	var said locked.Buffer
	f.log = slog.New(slog.NewTextHandler(&said, nil))
	h, _ := f.hub("a")
	mallory := f.hostile(h, "g", "mallory")
	before, begun := h.refused.Load(), time.Now()
	for range 2000 {
		mallory.Publish(subjectCards+"g.mallory", []byte("forged"))
	}
	f.eventually(2*time.Minute, "refusals", func() error {
		if h.refused.Load() == before {
			return errors.New("none")
		}
		return nil
	})
	if n, most := strings.Count(said.String(), "report refused"), 2+int(time.Since(begun)/seldomTime); n > most {
		t.Errorf("%d messages, more than %d", n, most)
	}
}

// A digest doesn't cover the signature: a card that runs a bundle refuses the same one with a stranger's, and the group does not get it.
func TestSameDigestOfAStranger(t *testing.T) {
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	agent := newSimAgent()
	_, good := signedBundle(t, 1, 1, signer)
	agent.agent = Agent{Digest: good.Digest.String()}
	f.card(h.Client, "g", "c", agent, nil)
	f.eventually(2*time.Minute, "a report", func() error {
		cards, err := h.Cards(t.Context())
		if err == nil && cards["g"]["c"].Seen.IsZero() {
			err = errors.New("none")
		}
		return err
	})
	stranger := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, ed25519.SeedSize))
	data, b := signedBundle(t, 1, 1, stranger)
	if b.Digest != good.Digest {
		t.Fatal("the digests differ")
	}
	if _, err := h.Rollout(t.Context(), "g", "t", data, b, "", quick(), quiet); err != nil {
		t.Fatal(err)
	}
	r := f.state(h.Client, "g", Halted)
	if !strings.Contains(strings.Join(r.Reasons, ";"), "not a trusted key") {
		t.Errorf("%v", r.Reasons)
	}
}
