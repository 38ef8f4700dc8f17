package fleet

import (
	"fmt"
	"strings"
	"testing"
	"time"

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
	f.eventually(30*time.Second, "reports", func() error {
		cards, err := h.Cards(t.Context())
		for name, s := range cards["racks"] {
			if s.Seen.IsZero() {
				return fmt.Errorf("%s has not reported", name)
			}
		}
		if len(cards["racks"]) != len(agents) {
			return fmt.Errorf("%d cards: %v", len(cards["racks"]), err)
		}
		return err
	})
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
