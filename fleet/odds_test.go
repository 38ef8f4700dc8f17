package fleet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"nepcoc/internal/files"
	"nepcoc/internal/testfiles"
)

// mustHave is what f gives.
func mustHave(t *testing.T, f func() ([]byte, error)) []byte {
	t.Helper()
	data, err := f()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// oddAgent is an agent whose check and whose disk may be odd.
type oddAgent struct {
	*simAgent
	check func(context.Context) error
	place func() error
}

func (o *oddAgent) Check(ctx context.Context, file string) error {
	if o.check != nil {
		if err := o.check(ctx); err != nil {
			return err
		}
	}
	return o.simAgent.Check(ctx, file)
}

func (o *oddAgent) Place(ctx context.Context, file, back string) error {
	if o.place != nil {
		if err := o.place(); err != nil {
			return err
		}
	}
	return o.simAgent.Place(ctx, file, back)
}

// What goes wrong on the card itself, wherever it does, is no judgement of the bundle: it halts the rollout with its words, and when it is over the card ends
// with what it is to run, by itself.
func TestCardFaults(t *testing.T) {
	for name, fail := range map[string]func(card, file string, agent *oddAgent) (mend func()){
		"the agent's disk": func(_, _ string, agent *oddAgent) func() {
			var mu sync.Mutex
			full := true
			agent.place = func() error {
				mu.Lock()
				defer mu.Unlock()
				if full {
					return faulty(errors.New("no space left on device"))
				}
				return nil
			}
			return func() { mu.Lock(); defer mu.Unlock(); full = false }
		},
		"the card's folder": func(card, file string, _ *oddAgent) func() {
			name := filepath.Join(card, "ordered-"+file+".nepco")
			if err := os.MkdirAll(filepath.Join(name, "x"), 0o700); err != nil {
				t.Fatal(err)
			}
			return func() { os.RemoveAll(name) }
		},
		"the card's state": func(card, _ string, _ *oddAgent) func() {
			name := filepath.Join(card, fileState)
			if err := os.MkdirAll(name, 0o700); err != nil {
				t.Fatal(err)
			}
			return func() { os.Remove(name) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, 1)
			h, _ := f.hub("a")
			agent := &oddAgent{simAgent: newSimAgent()}
			f.card(h.Client, "g", "c", agent, func(o *CardOptions) { o.Poll = 300 * time.Millisecond })
			f.eventually(2*time.Minute, "a report", func() error {
				cards, err := h.Cards(t.Context())
				if err == nil && cards["g"]["c"].Seen.IsZero() {
					err = errors.New("none")
				}
				return err
			})
			data, b := signedBundle(t, 1, 1, signer)
			a := NewArtifact(data, b)
			mend := fail(filepath.Join(f.dir, "cards", "g", "c"), a.File, agent)
			if _, err := h.Rollout(t.Context(), "g", "t", data, b, "", quick(), quiet); err != nil {
				t.Fatal(err)
			}
			if r := f.state(h.Client, "g", Halted); len(r.Reasons) != 1 || !strings.HasPrefix(r.Reasons[0], "c: ") {
				t.Errorf("%q", r.Reasons)
			}
			mend()
			f.eventually(2*time.Minute, "the bundle", func() error {
				cards, err := h.Cards(t.Context())
				if s := cards["g"]["c"]; err == nil && (s.Phase != Running || s.Agent.Digest != a.Digest || s.Reason != "") {
					err = fmt.Errorf("%+v", s)
				}
				return err
			})
		})
	}
}

// A check that was killed says nothing about the bundle; one that ended with words does.
func TestCheckKilled(t *testing.T) {
	dir, program, config := nepcodFiles(t, "127.0.0.1:1", false)
	n, err := OpenNepcod(program, config, "")
	if err != nil {
		t.Fatal(err)
	}
	for script, want := range map[string]bool{"echo nepcod: golden >&2; exit 1": false, "echo half a word >&2; kill -9 $$": true} {
		if err := os.WriteFile(program, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := n.Check(t.Context(), filepath.Join(dir, "ordered")); err == nil || errors.As(err, new(*fault)) != want {
			t.Errorf("%s: %v, a fault: %v", script, err, !want)
		}
	}
}

// A card reports while a bundle is checked, for however long.
func TestReportsWhileChecking(t *testing.T) {
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	seen := func() time.Time {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.cards.groups["g"]["c"].Seen
	}
	said := make(chan int, 1)
	agent := &oddAgent{simAgent: newSimAgent()}
	agent.check = func(ctx context.Context) error {
		n, last := 0, seen()
		for end := time.Now().Add(2 * time.Minute); n < 3 && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			if s := seen(); s.After(last) {
				n, last = n+1, s
			}
		}
		said <- n
		return nil
	}
	f.card(h.Client, "g", "c", agent, func(o *CardOptions) { o.Report = 100 * time.Millisecond })
	f.eventually(2*time.Minute, "a report", func() error {
		if seen().IsZero() {
			return errors.New("none")
		}
		return nil
	})
	data, b := signedBundle(t, 1, 1, signer)
	if _, err := h.Rollout(t.Context(), "g", "t", data, b, "", quick(), quiet); err != nil {
		t.Fatal(err)
	}
	if n := <-said; n < 3 {
		t.Errorf("%d reports while the bundle was checked", n)
	}
	f.state(h.Client, "g", Done)
}

// A card's clock that is set back doesn't silence it, and an agent's start is kept by one that nobody sets.
func TestCardClockSetBack(t *testing.T) {
	k, told := newKey(t), begun
	r := newRegister(map[string]map[string]Member{"g": {"c": {version, public(k), time.Time{}, nil}}})
	for i, now := range []time.Time{begun, begun.Add(time.Minute), begun.Add(-time.Hour), begun.Add(-time.Hour), begun.Add(2 * time.Minute)} {
		told = after(told, now)
		text, err := seal(Status{Version: version, Group: "g", Card: "c", At: told}, k)
		if err == nil {
			err = r.take(subjectCards+"g.c", text, begun.Add(time.Duration(i)*time.Minute+time.Hour))
		}
		if err != nil || i == 4 && !told.Equal(now) {
			t.Errorf("report %d, of %v: %v", i, told, err)
		}
	}
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" {
			fmt.Fprint(w, `{"status":"ok","uptime_s":100}`)
		}
	}))
	defer agent.Close()
	_, program, config := nepcodFiles(t, strings.TrimPrefix(agent.URL, "http://"), false)
	n, err := OpenNepcod(program, config, "")
	if err != nil {
		t.Fatal(err)
	}
	if a := n.Agent(t.Context()); a.Problem != "" || !strings.Contains(n.begun.String(), " m=") {
		t.Errorf("%+v, begun %v", a, n.begun)
	}
}

// A hub that did not look for long, as on a machine that slept, or whose servers' clock was set, holds silence against no card; one that looked does.
func TestHubSlept(t *testing.T) {
	for name, test := range map[string]struct {
		pause time.Duration
		halts bool
	}{"looked": {time.Second, true}, "slept": {3 * time.Minute, false}, "set back": {-3 * time.Minute, false}} {
		h := &Hub{o: HubOptions{Log: quietLog}}
		h.setLeads(true, begun.Add(-time.Hour))
		for at := -time.Hour; at < 0; at += lost / 4 {
			h.setLeads(true, begun.Add(at))
		}
		h.setLeads(true, begun)
		g, cards := groupOf(3)
		g, err := g.Begin("1", "me", artifact(2), fastPlan(), cards, begun)
		if err != nil {
			t.Fatal(err)
		}
		if test.halts { // looked all the time, and heard nothing
			for at := time.Duration(0); at < 2*lost; at += test.pause {
				h.setLeads(true, begun.Add(at))
			}
			test.pause = 2 * lost
		}
		now := begun.Add(test.pause)
		h.setLeads(true, now)
		next, _ := g.Step(cards, now, h.heard)
		if halted := next.Rollout.State != Advancing; halted != test.halts {
			t.Errorf("%s: %s, %q", name, next.Rollout.State, next.Rollout.Reasons)
		}
	}
}

// Where the servers' clock was set back, what began later than now begins now, once; and who was seen later than now counts as heard no longer than others.
func TestServersClockSetBack(t *testing.T) {
	g, cards := groupOf(3)
	g, err := g.Begin("1", "me", artifact(2), fastPlan(), cards, begun)
	if err != nil {
		t.Fatal(err)
	}
	now := begun.Add(-time.Hour)
	for i := range 3 {
		var changed bool
		if g, changed = g.Step(cards, now, now); changed != (i == 0) {
			t.Fatalf("step %d: %+v", i, g.Rollout)
		}
	}
	if g, _ = g.Step(cards, now.Add(2*lost), now); g.Rollout.State != Returning || !strings.Contains(g.Rollout.Reasons[0], "has not reported") {
		t.Errorf("%s, %q", g.Rollout.State, g.Rollout.Reasons)
	}
}

// A rollout is dated by the servers' clock: that of who begins it, or of a hub, may be an hour off.
func TestClockOfOperator(t *testing.T) {
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	f.card(h.Client, "g", "c", newSimAgent(), nil)
	f.eventually(2*time.Minute, "a report", func() error {
		cards, err := h.Cards(t.Context())
		if err == nil && cards["g"]["c"].Seen.IsZero() {
			err = errors.New("none")
		}
		return err
	})
	wall = func() time.Time { return time.Now().Add(time.Hour) }
	defer func() { wall = time.Now }()
	c := f.client("operator")
	data, b := signedBundle(t, 1, 1, signer)
	g, err := c.Rollout(t.Context(), "g", "t", data, b, "", quick(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	if off := time.Since(g.Rollout.Begun); off.Abs() > 10*time.Minute {
		t.Errorf("begun %v ago", off)
	}
	f.state(c, "g", Done)
}

// Reasons of many cards, again and again, never make a document larger than servers take.
func TestStoryBounded(t *testing.T) {
	g, cards := groupOf(12)
	plan := fastPlan()
	plan.Stages = []Stage{{Percent: 100}}
	plan.Stay = true
	g, err := g.Begin("1", "me", artifact(2), plan, cards, begun)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		now := begun.Add(time.Duration(i) * time.Second)
		for name := range cards {
			cards[name] = Status{Group: "g", Card: name, Seen: now, Wanted: artifact(2).File, Phase: Refused, Reason: short(strings.Repeat("<", 2*maxReason))}
		}
		if g, _ = g.Step(cards, now, now); g.Rollout.State != Halted {
			t.Fatal(g.Rollout.State)
		}
		if g, err = g.Approve(cards, now); err != nil {
			t.Fatal(err)
		}
	}
	if g, err = g.Halt(strings.Repeat("long ", 1<<20), begun); err != nil {
		t.Fatal(err)
	}
	if n := len(mustHave(t, func() ([]byte, error) { return json.Marshal(g) })); n > 1<<20 {
		t.Errorf("a document of %d bytes", n)
	}
	if e := g.Rollout.Events; len(e) < 3 || !strings.Contains(e[0].Text, "before:") {
		t.Errorf("%d events", len(e))
	}
}

// Of many revocations at once each holds.
func TestRevokeAtOnce(t *testing.T) {
	f := newFleetFolder(t, 1)
	var all sync.WaitGroup
	keys := make([]string, 20)
	for i := range keys {
		keys[i] = public(newKey(t))
		all.Go(func() {
			a, err := OpenAccess(f.access.dir)
			if err == nil {
				err = a.refuse(a.cards, keys[i])
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	c, err := claims(f.access, fileCards, jwt.DecodeAccountClaims)
	if err != nil || len(c.Revocations) != len(keys) {
		t.Errorf("%d of %d revocations, %v", len(c.Revocations), len(keys), err)
	}
}

// Who asks again and again with a token that is used up keeps no other card from its enrolment, nor the hub at work.
func TestEnrolmentFlood(t *testing.T) {
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	used, err := h.NewToken(t.Context(), "g", "mallory", f.urls)
	if err != nil {
		t.Fatal(err)
	}
	if err := Enrol(t.Context(), filepath.Join(f.dir, "mallory"), used); err != nil {
		t.Fatal(err)
	}
	mallory := f.attacker([]byte(used.Creds), inboxPrefix+"enrol."+used.ID)
	request := []byte(fmt.Sprintf(`{"public":%q}`, public(newKey(t))))
	for range 2000 {
		if err := mallory.PublishMsg(&nats.Msg{Subject: subjectEnrol + used.ID, Reply: inboxPrefix + "enrol." + used.ID + ".x", Data: request}); err != nil {
			t.Fatal(err)
		}
	}
	if err := mallory.Flush(); err != nil {
		t.Fatal(err)
	}
	token, err := h.NewToken(t.Context(), "g", "alice", f.urls)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute) // one after the other they would take half an hour
	defer cancel()
	if err := Enrol(ctx, filepath.Join(f.dir, "alice"), token); err != nil {
		t.Error(err)
	}
}

// A document that this hub can't read moves nothing, and the page says so; so does one that is another group's.
func TestUnreadableGroup(t *testing.T) {
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	f.card(h.Client, "g", "c", newSimAgent(), nil)
	w := &web{h: h, begun: time.Now(), history: map[string]*history{}}
	for text, want := range map[string]string{
		`{"version": 99, "name": "g"}`: "written by a newer nepcof",
		`{"version": 1, "name": "h"}`:  "another group's",
		`nonsense`:                     "no nepcof wrote its document",
	} {
		if _, err := h.Client.groups.Put(t.Context(), "g", []byte(text)); err != nil {
			t.Fatal(err)
		}
		f.eventually(2*time.Minute, "an alert of "+text, func() error {
			for _, a := range w.look().Alerts {
				if a.Group == "g" && strings.Contains(a.Text, want) {
					return nil
				}
			}
			return fmt.Errorf("%+v", w.look().Alerts)
		})
		if _, err := h.Halt(t.Context(), "g", "x"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v", err)
		}
	}
}

// A report's words are no longer than a phase or a digest.
func TestLongWords(t *testing.T) {
	k := newKey(t)
	for name, change := range map[string]func(*Status){
		"phase":  func(s *Status) { s.Phase = Phase(strings.Repeat("x", 1000)) },
		"wanted": func(s *Status) { s.Wanted = strings.Repeat("x", 1000) },
		"digest": func(s *Status) { s.Agent.Digest = strings.Repeat("x", 1000) },
		"":       func(*Status) {},
	} {
		s := Status{Version: version, Group: "g", Card: "c", At: begun}
		change(&s)
		text, err := seal(s, k)
		if err != nil {
			t.Fatal(err)
		}
		r := newRegister(map[string]map[string]Member{"g": {"c": {version, public(k), time.Time{}, nil}}})
		if err := r.take(subjectCards+"g.c", text, begun); (err == nil) != (name == "") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Lines that are there without what says how they were written are nobody's to cut; nor does a checkpoint that no sink wrote count.
func TestSinkFolder(t *testing.T) {
	dir := t.TempDir()
	name, mark := filepath.Join(dir, sinkFile), filepath.Join(dir, sinkCheckpoint)
	open := func() error {
		s, err := OpenSink(nil, SinkOptions{Group: "g", Dir: dir})
		if err == nil {
			s.f.Close()
		}
		return err
	}
	if err := open(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(mark); err != nil { // nothing was written yet
		t.Fatal(err)
	}
	if err := open(); err != nil {
		t.Fatal(err)
	}
	first := mustHave(t, func() ([]byte, error) { return files.All(mark, 1<<20) })
	if err := errors.Join(os.WriteFile(name, []byte("{}\n"), 0o600), os.Remove(mark)); err != nil {
		t.Fatal(err)
	}
	if err := open(); err == nil || !strings.Contains(err.Error(), "move the lines elsewhere") {
		t.Errorf("lines without a checkpoint: %v", err)
	}
	for _, text := range []string{"", "{", string(first[:len(first)/2]), `{"version":2}`, `{"version":1,"next":null}`, `{"version":1,"size":-4}`, `{"version":0}`, `[]`} {
		if err := os.WriteFile(mark, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := open(); err == nil || !strings.Contains(err.Error(), "bring") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if got := mustHave(t, func() ([]byte, error) { return files.All(name, 1<<20) }); string(got) != "{}\n" {
		t.Errorf("lines are %q", got)
	}
}

// A line that was too long counts as lost from then on, also where the card ends before another comes; then it is told of.
func TestLongLineLast(t *testing.T) {
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	dir := filepath.Join(f.dir, "lines")
	s := openStore(t, dir, 64<<20)
	long := strings.Repeat("x", maxLine) + "\n"
	if err := s.Take(t.Context(), strings.NewReader(string(numberedLines(0, 1))+long+long)); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = openStore(t, dir, 64<<20)
	defer s.Close()
	f.card(h.Client, "g", "c", newSimAgent(), func(o *CardOptions) { o.Lines = s })
	f.eventually(2*time.Minute, "counts", func() error {
		if got := s.Lines(); got != (Lines{Stored: 3, Sent: 1, Dropped: 2}) {
			return fmt.Errorf("%+v", got)
		}
		return nil
	})
	if err := s.Take(t.Context(), strings.NewReader(string(numberedLines(3, 1)))); err != nil {
		t.Fatal(err)
	}
	counts, lines := f.sink(h.Client, "g", 0, func(c SinkCounts) bool { return c.Lines == 2 })
	if counts.Missing != 2 || counts.Refused != 0 || len(lines["c"]) != 2 {
		t.Errorf("%+v, %v", counts, lines)
	}
}

// smallDisk is a folder on a file system of so many bytes of its own, where this machine lets one be made.
func smallDisk(t *testing.T, bytes int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes)); err != nil {
		testfiles.Missing(t, "no file system can be made here: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill takes all the room that a folder's disk has, until the function that it returns is called.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	name := filepath.Join(dir, "fill")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 1<<12); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return func() {
		if err := errors.Join(f.Close(), os.Remove(name)); err != nil {
			t.Error(err)
		}
	}
}

// Lines that come while a card's disk is full wait, and are stored when there is room again, each once.
func TestStoreFullDisk(t *testing.T) {
	dir := smallDisk(t, 8<<20)
	s := openStore(t, filepath.Join(dir, "lines"), 4<<20)
	defer s.Close()
	add := func(from int) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		if err := s.Add(ctx, numberedLines(from, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	add(0)
	free := fill(t, dir)
	added := make(chan struct{})
	go func() {
		defer close(added)
		add(1000)
	}()
	for end := time.Now().Add(2 * time.Minute); !s.broken.Load() && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
	}
	free()
	<-added
	add(2000)
	for from, sequence := 0, uint64(1); from < 3000; {
		o, err := s.gather(t.Context(), sequence)
		if err != nil || o.batches == 0 || o.first != uint64(from) || !bytes.Equal(o.lines, numberedLines(from, int(o.end)-from)) {
			t.Fatalf("lines from %d: %d to %d, %v", from, o.first, o.end, err)
		}
		from, sequence = int(o.end), o.sequence+1
	}
	if got := s.Lines(); got.Stored != 3000 {
		t.Errorf("%+v", got)
	}
}

// A server of a hub whose disk is full says so: what it stored from then on would be lost without a word, also when there is room again.
func TestServerFullDisk(t *testing.T) {
	f := newFleetFolder(t, 1)
	dir := smallDisk(t, 24<<20)
	broken := make(chan error, 100)
	s, err := f.access.Serve(fmt.Sprintf("127.0.0.1:%d", f.ports[0]), filepath.Join(dir, "store"), quietLog, func(err error) { broken <- err })
	if err != nil {
		t.Fatal(err)
	}
	defer s.WaitForShutdown()
	defer s.Shutdown()
	h, _ := f.hub("a")
	defer fill(t, dir)()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	for i := 0; ctx.Err() == nil; i++ {
		h.js.PublishAsync(fmt.Sprintf("%sg.x.%d", subjectBundles, i), make([]byte, 64<<10))
		select {
		case err := <-broken:
			if !strings.Contains(err.Error(), "no space left on device: free some room") {
				t.Error(err)
			}
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Error("nothing was said")
}

// A store that was damaged never gives a number again that a sink has seen under its name.
func TestStoreDamaged(t *testing.T) {
	for name, damage := range map[string]func(lines, sent string) error{
		"all lines gone": func(lines, _ string) error { return os.Truncate(lines, 0) },
		"all gone":       func(lines, sent string) error { return errors.Join(os.Truncate(lines, 0), os.Truncate(sent, 0)) },
		"the last gone": func(lines, _ string) error {
			info, err := os.Stat(lines)
			if err == nil {
				err = os.Truncate(lines, info.Size()/2)
			}
			return err
		},
		"nothing": func(string, string) error { return nil },
	} {
		dir := t.TempDir()
		s := openStore(t, dir, 4<<20)
		for i := range 2 {
			if err := s.Add(t.Context(), numberedLines(10*i, 10)); err != nil {
				t.Fatal(err)
			}
		}
		s.sent(0, 20)
		if err := s.markSent(t.Context()); err != nil {
			t.Fatal(err)
		}
		before := s.name
		s.Close()
		stream := func(name string) string {
			return filepath.Join(dir, "jetstream", "$G", "streams", name, "msgs", "1.blk")
		}
		if err := damage(stream("lines"), stream("lines-sent")); err != nil {
			t.Fatal(err)
		}
		s = openStore(t, dir, 4<<20)
		if err := s.Add(t.Context(), numberedLines(20, 1)); err != nil {
			t.Fatal(err)
		}
		if got := s.Lines().Stored; name == "nothing" && (s.name != before || got != 21) || name != "nothing" && (s.name == before || got != 1) {
			t.Errorf("%s: %d lines of the store, another name: %v", name, got, s.name != before)
		}
		s.Close()
	}
}

// Files of a card's folder that are damaged, or newer, are refused with the way out.
func TestCardFolderDamaged(t *testing.T) {
	for file, text := range map[string]string{fileCard: `{"version":9}`, fileCardCreds: "", fileState: "{"} {
		f := newFleet(t, 1)
		h, _ := f.hub("a")
		f.card(h.Client, "g", "c", newSimAgent(), nil)()
		dir := filepath.Join(f.dir, "cards", "g", "c")
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenCard(CardOptions{Dir: dir, Runner: newSimAgent()}); err == nil || !strings.HasPrefix(err.Error(), filepath.Join(dir, file)+": ") || !strings.HasSuffix(err.Error(), "remove "+dir+" and enrol the card anew") {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// Servers begin again on a disk that has less room than it had when their streams were made: a hub's own, and a card's.
func TestDiskWithLessRoom(t *testing.T) {
	f := newFleetFolder(t, 1)
	store, lines, listen := filepath.Join(f.dir, "store"), filepath.Join(f.dir, "lines"), fmt.Sprintf("127.0.0.1:%d", f.ports[0])
	for _, change := range []func(*server.Options){func(o *server.Options) { o.JetStreamMaxStore = 1 << 60 }, nil} {
		var s *server.Server
		o, err := f.access.options(listen, store)
		if err == nil && change != nil {
			change(o)
			s, err = start(o)
		} else if err == nil {
			s, err = f.access.Serve(listen, store, quietLog, func(error) {})
		}
		if err != nil {
			t.Fatal(err)
		}
		h, stop := f.hub("a")
		for _, group := range []string{"g", "h"} {
			h.o.LinesBytes = 1 << 50
			if err := h.keepLines(t.Context(), group); err != nil {
				t.Error(err)
			}
		}
		stop()
		s.Shutdown()
		s.WaitForShutdown()

		o = &server.Options{DontListen: true, JetStream: true, StoreDir: lines, NoSigs: true, NoLog: true}
		if change != nil {
			change(o)
			s, err := start(o)
			if err != nil {
				t.Fatal(err)
			}
			if st, err := newStore(t.Context(), s, "lines", 1<<50, quietLog); err != nil {
				t.Error(err)
			} else {
				st.Close()
			}
			s.Shutdown()
			s.WaitForShutdown()
			continue
		}
		openStore(t, lines, 1<<50).Close()
	}
}

// A stage whose cards all leave while they are watched doesn't hold: another card takes their place, and the rest waits for it.
func TestStageLeft(t *testing.T) {
	g, cards := groupOf(5)
	plan := fastPlan()
	plan.Stages = []Stage{{Cards: 1}, {Percent: 100}}
	g, err := g.Begin("1", "me", artifact(2), plan, cards, begun)
	if err != nil {
		t.Fatal(err)
	}
	names := g.Rollout.Cards
	delete(cards, names[0])
	now := begun
	for range 4 * int(plan.Bake/time.Minute) { // it has not come to names[1] yet
		now = now.Add(time.Minute / 2)
		for _, name := range names[1:] {
			cards[name] = running(artifact(1), 1, now)
		}
		g, _ = g.Step(cards, now, begun)
	}
	if r := g.Rollout; r.Reached != 2 || r.Stage != 0 || g.Wants(names[1]).File != artifact(2).File || r.State != Advancing {
		t.Fatalf("%d reached, stage %d, %s", r.Reached, r.Stage, r.State)
	}
	cards[names[1]] = running(artifact(2), 9, now)
	for range 5 {
		now = now.Add(plan.Bake / 2)
		for name, s := range cards {
			s.Seen = now
			cards[name] = s
		}
		if g, _ = g.Step(cards, now, begun); g.Rollout.Stage == 1 {
			return
		}
	}
	t.Errorf("%+v", g.Rollout.Events)
}

// Connections for lines are few, whoever opens them: what each holds of a line would add up.
func TestSendersBounded(t *testing.T) {
	s := openStore(t, t.TempDir(), 4<<20)
	defer s.Close()
	socket := filepath.Join(t.TempDir(), "s")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Listen(ctx, socket, func(error) {}) }()
	dial := func() net.Conn {
		t.Helper()
		for end := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
			c, err := net.Dial("unix", socket)
			if err == nil {
				return c
			}
			if time.Now().After(end) {
				t.Fatal(err)
			}
		}
	}
	var first, last net.Conn
	for i := range maxSenders + 1 {
		last = dial()
		defer last.Close()
		if i == 0 {
			first = last
		}
	}
	last.SetReadDeadline(time.Now().Add(2 * time.Minute))
	if _, err := last.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("one more: %v", err)
	}
	if _, err := first.Write(numberedLines(0, 3)); err != nil {
		t.Error(err)
	}
	for end := time.Now().Add(2 * time.Minute); s.Lines().Stored != 3 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
	}
	if n := s.Lines().Stored; n != 3 {
		t.Errorf("%d lines", n)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
