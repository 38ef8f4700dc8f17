package fleet

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"nepcoc/runtime/trust"
)

// orderLog is every order that was ever written, as the servers gave them.
type orderLog struct {
	mu     sync.Mutex
	orders map[string][]Order
}

func (f *testFleet) history() *orderLog {
	f.Helper()
	kept := &orderLog{orders: map[string][]Order{}}
	nc, err := f.access.connect(f.urls, "history")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(nc.Close)
	if _, err := nc.Subscribe(subjectOrders+">", func(m *nats.Msg) {
		var o Order
		if err := unseal(m.Data, public(f.access.seal), &o); err != nil {
			f.Error(err)
		}
		kept.mu.Lock()
		kept.orders[cutPrefix(m.Subject, subjectOrders)] = append(kept.orders[cutPrefix(m.Subject, subjectOrders)], o)
		kept.mu.Unlock()
	}); err != nil {
		f.Fatal(err)
	}
	return kept
}

// check says where a card was ordered backwards, or more than two bundles were wanted by documents one after the other.
// An order that lost against another is seen, too, but is never stored: it must not differ from the one of its number.
func (k *orderLog) check(t *testing.T) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	files := map[uint64]map[string]bool{}
	for card, orders := range k.orders {
		seen := map[uint64]string{}
		for _, o := range orders {
			if file, ok := seen[o.Number]; ok && file != o.Artifact.File {
				t.Errorf("%s: two orders with number %d", card, o.Number)
			}
			seen[o.Number] = o.Artifact.File
			if files[o.Number] == nil {
				files[o.Number] = map[string]bool{}
			}
			files[o.Number][o.Artifact.File] = true
		}
	}
	for number, f := range files {
		if len(f) > 2 {
			t.Errorf("document %d ordered %d bundles", number, len(f))
		}
	}
}

// kill ends a hub as a crash does: it gives nothing back.
func kill(h *Hub, stop func()) {
	h.nc.Close()
	stop()
}

// Hubs are killed at any moment of rollouts that succeed, fail and go back, a server of three is stopped, and cards are cut off and come back:
// every card ends with what its group wants, and was never ordered anything else.
func TestChaos(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	usualLease, usualLost := leaseTime, lost
	t.Cleanup(func() { leaseTime, lost = usualLease, usualLost })
	leaseTime, lost = 1500*time.Millisecond, time.Minute
	f := newFleet(t, 3)
	var hubs [2]*Hub
	var stops [2]func()
	for i := range hubs {
		hubs[i], stops[i] = f.hub(fmt.Sprint("hub", i))
	}
	watch, _ := f.hub("watch") // a third, that is never killed: what the test reads with
	kept := f.history()
	agents, cards := map[string]*simAgent{}, map[string]func(){}
	for i := range 12 {
		name := fmt.Sprintf("card%02d", i)
		agents[name] = newSimAgent()
		cards[name] = f.card(watch.Client, "g", name, agents[name], nil)
	}
	heard := func() {
		t.Helper()
		f.eventually(2*time.Minute, "reports", func() error {
			all, err := watch.Cards(t.Context())
			if err != nil {
				return err
			}
			for name := range agents {
				if s := all["g"][name]; !s.Reports(time.Now()) {
					return fmt.Errorf("%s: %+v", name, s)
				}
			}
			return nil
		})
	}
	kills := times("NEPCO_CHAOS_KILLS", 5)
	killed, states := 0, map[State]int{}
	serial, stableSerial := uint64(0), uint64(0)
	var stable string
	numbers := []int{1, 2, 3, 4, 5, 7}
	for round := 0; killed < kills; round++ {
		heard()
		serial++
		number := numbers[0]
		numbers = append(numbers[1:], number)
		data, b := signedBundle(t, number, serial, signer)
		if b.Digest.String() == stable {
			continue
		}
		bad := round%3 == 2
		for _, s := range agents {
			s.mu.Lock()
			s.act = func(digest string, a *Agent) {
				if bad && digest == b.Digest.String() {
					a.Refused = "golden vector"
				}
			}
			s.mu.Unlock()
		}
		plan := quick()
		plan.Stages, plan.Bake, plan.Timeout = []Stage{{Cards: 2}, {Percent: 50}, {Percent: 100}}, time.Duration(rand.N(300))*time.Millisecond, 3*time.Minute
		back := ""
		if stable != "" {
			text, err := trust.Rollback{From: serial, To: stableSerial, Digest: stable, Reason: "chaos"}.Sign(signer)
			if err != nil {
				t.Fatal(err)
			}
			back = string(text)
		}
		f.eventually(2*time.Minute, "a rollout", func() error {
			g, err := watch.Rollout(t.Context(), "g", "chaos", data, b, back, plan, quiet)
			if err != nil && g.Rollout != nil && g.Rollout.To.Digest == b.Digest.String() {
				return nil // the answer was lost, not the word
			}
			return err
		})
		outage := func() {}
		switch round % 4 {
		case 1: // a server, with its clients
			i := rand.IntN(3)
			f.servers[i].Shutdown()
			f.servers[i].WaitForShutdown()
			outage = func() { f.servers[i] = f.serve(i, f.ports) }
		case 3: // a card
			name := slices.Sorted(maps.Keys(agents))[rand.IntN(len(agents))]
			cards[name]()
			outage = func() {
				cards[name] = f.start(filepath.Join(f.dir, "cards", "g", name), agents[name], nil)
			}
		}
		time.Sleep(rand.N(600 * time.Millisecond))
		for i := range hubs {
			if rand.IntN(3) > 0 || i == 0 {
				kill(hubs[i], stops[i])
				killed++
				hubs[i], stops[i] = f.hub(fmt.Sprint("hub", i))
			}
			time.Sleep(rand.N(300 * time.Millisecond))
		}
		outage()
		var r *Rollout
		f.eventually(8*time.Minute, "an end", func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			g, _, err := watch.Client.group(ctx, "g")
			if err != nil {
				return err
			}
			if r = g.Rollout; r.State != Done && r.State != Returned {
				return fmt.Errorf("%s, stage %d, %d: %v", r.State, r.Stage, r.Reached, r.Events[len(r.Events)-1])
			}
			return nil
		})
		states[r.State]++
		if bad && (r.State == Done || r.Stage > 0) {
			t.Errorf("round %d: a bad bundle came to stage %d, %s", round, r.Stage, r.State)
		}
		if !bad && r.State != Done && round%4 != 3 {
			t.Errorf("round %d: a good bundle went back: %v", round, r.Reasons)
		}
		want := b.Digest.String()
		if r.State == Returned {
			want = stable
		}
		f.eventually(2*time.Minute, "cards", func() error {
			for name, s := range agents {
				if d := s.Agent(t.Context()).Digest; d != want {
					all, _ := watch.Cards(t.Context())
					return fmt.Errorf("%s runs %.12s, not %.12s: %+v", name, d, want, all["g"][name])
				}
			}
			return nil
		})
		if r.State == Done {
			stable, stableSerial = b.Digest.String(), serial
		}
	}
	kept.check(t)
	t.Log(killed, "hubs killed:", states)
}

// A hub that outlives its servers leads again when they are back, and cards take up what is ordered then.
func TestServersAway(t *testing.T) {
	f := newFleet(t, 1)
	h, _ := f.hub("a")
	f.card(h.Client, "g", "c", newSimAgent(), nil)
	rollout := func(serial uint64) {
		t.Helper()
		data, b := signedBundle(t, int(serial), serial, signer)
		f.eventually(2*time.Minute, "a rollout", func() error {
			g, err := h.Rollout(t.Context(), "g", "t", data, b, "", quick(), quiet)
			if err != nil && g.Rollout != nil && g.Rollout.To.Digest == b.Digest.String() {
				return nil // the answer was lost, not the word
			}
			return err
		})
		f.end(h.Client, "g", Done)
	}
	rollout(1)
	f.servers[0].Shutdown()
	f.servers[0].WaitForShutdown()
	time.Sleep(time.Second)
	f.servers[0] = f.serve(0, f.ports)
	rollout(2)
}
