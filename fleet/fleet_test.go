package fleet

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"nepcoc/runtime/bundle"
	"nepcoc/runtime/trust"
)

// A rollout reaches all cards by stages, one of a bad bundle ends with its first and is taken back.
func TestRollout(t *testing.T) {
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	var agents []*simAgent
	for i := range 8 {
		s := newSimAgent()
		agents = append(agents, s)
		f.card(h.Client, "racks", fmt.Sprintf("card%d", i), s, nil)
	}
	f.reported(h.Client, "racks", len(agents))
	roll := func(number int, serial uint64, back string) *bundle.Bundle {
		t.Helper()
		data, b := signedBundle(t, number, serial, signer)
		if _, err := h.Rollout(t.Context(), "racks", "test", data, b, back, quick(), quiet); err != nil {
			t.Fatal(err)
		}
		return b
	}
	first := roll(1, 1, "")
	r := f.state(h.Client, "racks", Done)
	if r.Reached != len(agents) || len(r.Events) < 6 {
		t.Errorf("%+v", r)
	}
	runs := func(b *bundle.Bundle) (n int) {
		for _, s := range agents {
			if s.Agent(t.Context()).Digest == b.Digest.String() {
				n++
			}
		}
		return n
	}
	if n := runs(first); n != len(agents) {
		t.Errorf("%d cards run the bundle", n)
	}

	numbers := []int{2, 3, 4, 5, 7}
	for name, act := range map[string]func(a *Agent){
		"golden":  func(a *Agent) { a.Refused = "golden vector 3 differs" },
		"slow":    func(a *Agent) { a.Latency = 1 },
		"drops":   func(a *Agent) { a.Dropped = 5000 },
		"unknown": func(a *Agent) { a.Unknown = 500 },
		"drift":   func(a *Agent) { a.Drift = true },
	} {
		t.Run(name, func(t *testing.T) {
			number := numbers[0]
			numbers = numbers[1:]
			serial := uint64(number)
			_, bad := signedBundle(t, number, serial, signer)
			before := make([]int, len(agents))
			for i, s := range agents {
				before[i] = len(s.runs)
				s.mu.Lock()
				s.act = func(digest string, a *Agent) {
					if digest == bad.Digest.String() {
						act(a)
					}
				}
				s.mu.Unlock()
			}
			back, err := trust.Rollback{From: serial, To: 1, Digest: first.Digest.String(), Reason: "test"}.Sign(signer)
			if err != nil {
				t.Fatal(err)
			}
			roll(number, serial, string(back))
			r := f.state(h.Client, "racks", Returned)
			if r.Stage != 0 || r.Reached != 2 {
				t.Errorf("stage %d, %d cards reached: %v", r.Stage, r.Reached, r.Reasons)
			}
			touched := 0
			for i, s := range agents {
				if len(s.runs) > before[i] {
					touched++
				}
			}
			if touched > 2 {
				t.Errorf("%d cards ran the bad bundle", touched)
			}
			if n := runs(first); n != len(agents) {
				t.Errorf("%d cards run the old bundle: %v", n, r.Events)
			}
			t.Log(strings.Join(r.Reasons, "; "))
		})
	}
}

// A card that refused a group's first bundle judges it again when an operator has the rollout go on, and when another brings the same file.
func TestJudgedAgain(t *testing.T) {
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	agent := newSimAgent()
	keys := agent.policy.Keys
	trusts := func(yes bool) {
		agent.mu.Lock()
		defer agent.mu.Unlock()
		if agent.policy.Keys = nil; yes {
			agent.policy.Keys = keys
		}
	}
	f.card(h.Client, "g", "c", agent, nil)
	f.eventually(2*time.Minute, "a report", func() error {
		cards, err := h.Cards(t.Context())
		if err == nil && cards["g"]["c"].Seen.IsZero() {
			err = errors.New("none yet")
		}
		return err
	})
	data, b := signedBundle(t, 1, 1, signer)
	roll := func() {
		t.Helper()
		if _, err := h.Rollout(t.Context(), "g", "t", data, b, "", quick(), quiet); err != nil {
			t.Fatal(err)
		}
	}
	trusts(false)
	roll()
	first := f.state(h.Client, "g", Halted).Events
	// Still refused, after it was judged anew.
	if _, err := h.Approve(t.Context(), "g"); err != nil {
		t.Fatal(err)
	}
	if r := f.state(h.Client, "g", Halted); len(r.Events) <= len(first) {
		t.Errorf("it did not go on: %v", r.Events)
	}
	roll()
	f.state(h.Client, "g", Halted)
	trusts(true)
	if _, err := h.Approve(t.Context(), "g"); err != nil {
		t.Fatal(err)
	}
	if r := f.state(h.Client, "g", Done); len(r.Missing) > 0 || len(agent.runs) != 1 {
		t.Errorf("missing %v, runs %v", r.Missing, agent.runs)
	}
	// What holds is not ordered again by later documents: not by those on the way to the end, nor by the one that is done.
	view := func() (g entry[Group], o entry[Order]) {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.groups["g"], h.orders[key("g", "c")]
	}
	f.eventually(2*time.Minute, "the hub's own view", func() error {
		if g, _ := view(); g.value.Rollout.State != Done {
			return errors.New(string(g.value.Rollout.State))
		}
		return nil
	})
	g, before := view()
	if err := h.order(t.Context(), g); err != nil {
		t.Fatal(err)
	}
	if _, after := view(); after.revision != before.revision || after.value.Number >= g.revision {
		t.Errorf("ordered again: %d, after %d, of document %d; the one that is done is %d", after.revision, before.revision, after.value.Number, g.revision)
	}
}

// Two that change a group at once, with three servers that each have it: each change is made over the other's, and none fails.
func TestChangesAtOnce(t *testing.T) {
	f := newFleet(t, 3)
	_, end := f.hub("a")
	end() // it made the buckets
	const each, writers = 30, 3
	var wg sync.WaitGroup
	var c *Client
	for range writers {
		c = f.client("w")
		wg.Go(func() {
			for n := 0; n < each; {
				_, err := c.change(t.Context(), "g", func(g Group) (Group, error) {
					g.Version = version
					g.Stable.File = "f"
					g.Stable.Serial++
					return g, nil
				})
				switch {
				case err == nil:
					n++
				case strings.Contains(err.Error(), "wrong last sequence"):
					t.Error(err)
					return
				default: // servers that stood still: it may have been made
					pause(t.Context(), 100*time.Millisecond)
				}
			}
		})
	}
	wg.Wait()
	f.eventually(time.Minute, "the changes", func() error {
		g, err := c.Group(t.Context(), "g")
		if err == nil && g.Stable.Serial < each*writers {
			err = fmt.Errorf("%d of %d", g.Stable.Serial, each*writers)
		}
		return err
	})
}

// Groups are read from their stream's leader, never from whatever server is near: that may not have yet what was written a moment ago.
func TestReadsFromLeader(t *testing.T) {
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	if _, err := h.put(t.Context(), Group{Version: version, Name: "g", Stable: artifact(1)}, 0); err != nil {
		t.Fatal(err)
	}
	near, err := h.nc.SubscribeSync(directGet + streamGroups + ".>")
	if err != nil {
		t.Fatal(err)
	}
	groups, err := h.Groups(t.Context())
	if err != nil || len(groups) != 1 || groups["g"].Stable != artifact(1) {
		t.Errorf("%v: %v", groups, err)
	}
	// What the bucket itself reads asks the near one, and is the first to do so.
	if _, err := h.Client.groups.Get(t.Context(), "g"); err != nil {
		t.Fatal(err)
	}
	if err := h.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if n, _, err := near.Pending(); n != 1 {
		t.Errorf("%d times the near server was asked, not once: %v", n, err)
	}
}

// A hub whose servers have less room than lines may take keeps as many as go in; with none at all, rollouts go on all the same, and the page says what is wrong.
func TestNoRoomForLines(t *testing.T) {
	for _, c := range []struct {
		disk  int64
		lines bool
	}{{100 << 20, true}, {1 << 20, false}} {
		f := &testFleet{TB: t, dir: t.TempDir()}
		if err := InitAccess(filepath.Join(f.dir, "fleet"), nil); err != nil {
			t.Fatal(err)
		}
		var err error
		if f.access, err = OpenAccess(filepath.Join(f.dir, "fleet")); err != nil {
			t.Fatal(err)
		}
		o, err := f.access.options("127.0.0.1:0", filepath.Join(f.dir, "store"))
		if err != nil {
			t.Fatal(err)
		}
		o.JetStreamMaxStore = c.disk
		s, err := start(o)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Shutdown()
		f.servers, f.urls = append(f.servers, s), fmt.Sprintf("tls://%v", s.Addr())
		client, err := f.access.Dial(t.Context(), f.urls, "a", Lasting(quietLog))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		h, err := NewHub(t.Context(), client, HubOptions{Name: "a", Replicas: 1, LinesAge: time.Hour, LinesBytes: 10 << 30})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go h.Run(ctx)
		agent := newSimAgent()
		f.card(h.Client, "g", "c", agent, nil)
		f.eventually(2*time.Minute, "a report", func() error {
			cards, err := h.Cards(t.Context())
			if err == nil && cards["g"]["c"].Seen.IsZero() {
				err = errors.New("not yet")
			}
			return err
		})
		data, b := signedBundle(t, 1, 1, signer)
		if _, err := h.Rollout(t.Context(), "g", "t", data, b, "", quick(), quiet); err != nil {
			t.Fatal(err)
		}
		f.state(h.Client, "g", Done)
		v := (&web{h: h}).look()
		stream, err := h.js.Stream(t.Context(), streamLines+"g")
		switch alerts := fmt.Sprint(v.Alerts); {
		case c.lines && (err != nil || stream.CachedInfo().Config.MaxBytes < fewLines || strings.Contains(alerts, "no lines")):
			t.Errorf("%d bytes of disk: %v, %s", c.disk, err, alerts)
		case !c.lines && !strings.Contains(alerts, "no lines of it can be kept: "):
			t.Errorf("%d bytes of disk: %s", c.disk, alerts)
		}
	}
}

// A card whose servers don't know it for a while, since they were set up wrongly or anew, comes back when they do.
func TestUnknownForAWhile(t *testing.T) {
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	f.card(h.Client, "g", "c", newSimAgent(), nil)()
	refused := make(chan struct{}, 100)
	card, err := OpenCard(CardOptions{Dir: filepath.Join(f.dir, "cards", "g", "c"), Runner: newSimAgent(), Report: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	card.nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		if errors.Is(err, nats.ErrAuthorization) {
			select {
			case refused <- struct{}{}:
			default:
			}
		}
	})
	run, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- card.Run(run) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	// The same place and certificate, but another fleet's accounts.
	f.servers[0].Shutdown()
	f.servers[0].WaitForShutdown()
	other := newFleetFolder(t, 1)
	o, err := other.access.options(fmt.Sprintf("127.0.0.1:%d", f.ports[0]), t.TempDir())
	if err == nil {
		o.TLSConfig, err = f.access.serverTLS()
	}
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := start(o)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		select {
		case <-refused:
		case <-time.After(2 * time.Minute):
			t.Fatal("the card was not refused so often")
		}
	}
	wrong.Shutdown()
	wrong.WaitForShutdown()
	f.servers[0] = f.serve(0, f.ports)
	back := time.Now()
	f.eventually(2*time.Minute, "a report", func() error {
		cards, err := h.Cards(t.Context())
		if s := cards["g"]["c"]; err == nil && !s.Seen.After(back) {
			return fmt.Errorf("%+v", s)
		}
		return err
	})
}

// What is refused as it begins was not sent to the servers before.
func TestRefusedBeforeSent(t *testing.T) {
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	data, b := signedBundle(t, 1, 1, signer)
	progress := func(int, int) { t.Error("the bundle was sent") }
	if _, err := h.Rollout(t.Context(), "nosuch", "t", data, b, "", quick(), progress); err == nil || !strings.Contains(err.Error(), "has no cards") {
		t.Error(err)
	}
	stream, err := h.js.Stream(t.Context(), streamBundles)
	if err != nil {
		t.Fatal(err)
	}
	if n := stream.CachedInfo().State.Msgs; n != 0 {
		t.Errorf("%d chunks are in the servers", n)
	}
	// With the refusal comes the group: who asks again, since an answer was lost, sees there that the rollout is under way.
	f.card(h.Client, "g", "c", newSimAgent(), nil)
	f.reported(h.Client, "g", 1)
	plan := quick()
	plan.Bake = time.Hour
	if _, err := h.Rollout(t.Context(), "g", "t", data, b, "", plan, quiet); err != nil {
		t.Fatal(err)
	}
	if g, err := h.Rollout(t.Context(), "g", "t", data, b, "", plan, progress); err == nil || g.Rollout == nil || g.Rollout.To.Digest != b.Digest.String() {
		t.Errorf("%+v, %v", g.Rollout, err)
	}
}

// A hub's log has all of a rollout's story, each event once: above all, why it was halted.
func TestHubLog(t *testing.T) {
	f := newFleet(t, 1)
	log := &output{}
	f.log = slog.New(slog.NewTextHandler(log, nil))
	h, _ := f.hub("a")
	for i := range 3 {
		f.card(h.Client, "g", fmt.Sprintf("c%d", i), newSimAgent(), nil)
	}
	f.reported(h.Client, "g", 3)
	begin := func(number int, serial uint64, key ed25519.PrivateKey, want State) *Rollout {
		t.Helper()
		data, b := signedBundle(t, number, serial, key)
		if _, err := h.Rollout(t.Context(), "g", "t", data, b, "", quick(), quiet); err != nil {
			t.Fatal(err)
		}
		return f.state(h.Client, "g", want)
	}
	stories := []*Rollout{begin(1, 1, signer, Done), begin(2, 2, ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), Returned)}
	want := map[string]int{}
	for _, r := range stories {
		for _, e := range r.Events {
			if strings.Contains(e.Text, " ") {
				e.Text = strconv.Quote(e.Text)
			}
			want["event="+e.Text+" rollout="+r.ID+"\n"]++
		}
	}
	f.eventually(2*time.Minute, "the log", func() error {
		text := log.String()
		for event, n := range want {
			if got := strings.Count(text, event); got != n {
				return fmt.Errorf("%s is there %d times, not %d:\n%s", event, got, n, text)
			}
		}
		return nil
	})
}

// A listing of cards has each card's report, also while all of them report again.
func TestCardsWhileTheyReport(t *testing.T) {
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	const n = 1100 // more than one pull of a thousand
	keys := make([]nkeys.KeyPair, n)
	tell := func(i int) {
		name := fmt.Sprintf("c%d", i)
		text, err := seal(Status{Version: version, Group: "g", Card: name, At: time.Now()}, keys[i])
		if err == nil {
			err = h.nc.Publish(subjectCards+key("g", name), text)
		}
		if err != nil {
			t.Error(err)
		}
	}
	for i := range keys {
		var err error
		if keys[i], err = nkeys.CreateUser(); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(Member{Version: version, Public: public(keys[i])})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := h.members.Put(t.Context(), key("g", fmt.Sprintf("c%d", i)), text); err != nil {
			t.Fatal(err)
		}
		tell(i)
	}
	f.reported(h.Client, "g", n)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			for _, i := range rand.Perm(n) {
				tell(i)
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		cards, err := h.Cards(ctx)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		var missing []string
		for name, s := range cards["g"] {
			if s.Seen.IsZero() {
				missing = append(missing, name)
			}
		}
		if len(missing) > 0 {
			t.Fatalf("%d cards seem never to have reported: %s", len(missing), Several(missing))
		}
	}
}

// A model with thousands of classes is reported, too: the servers take reports of a bounded size. Of rare labels there is the sum.
func TestManyLabels(t *testing.T) {
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	agent := newSimAgent()
	agent.agent = Agent{Digest: "d", Verdicts: map[string]float64{}, Unknown: 7}
	for i := range 5000 {
		agent.agent.Verdicts[fmt.Sprintf("a label of usual length, number %d", i)] = float64(i)
	}
	f.card(h.Client, "g", "c", agent, nil)
	f.reported(h.Client, "g", 1)
	cards, err := h.Cards(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, want := cards["g"]["c"].Agent, agent.agent
	if got.Flows() != want.Flows() || len(got.Verdicts) != maxLabels+1 {
		t.Errorf("%v flows of %v, %d labels", got.Flows(), want.Flows(), len(got.Verdicts))
	}
	for i := range 5000 {
		label := fmt.Sprintf("a label of usual length, number %d", i)
		if n, told := got.Verdicts[label]; told != (i >= 5000-maxLabels) || told && n != float64(i) {
			t.Errorf("%s: %v, %v", label, n, told)
		}
	}
}
