package fleet

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"nepcoc/internal/testbundle"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/trust"
)

// bigBundle is a signed bundle of so many bytes or a little more: notes in it are long.
func bigBundle(t testing.TB, number int, serial uint64, size int) ([]byte, *bundle.Bundle) {
	t.Helper()
	b, err := testbundle.New(number, fmt.Sprintf("m%d-", number))
	if err != nil {
		t.Fatal(err)
	}
	random := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(number)}).Read(random)
	b.Manifest.Model.Producer = hex.EncodeToString(random)
	data, err := bundle.Encode(b, bundle.Options{})
	if err == nil {
		data, err = bundle.Sign(data, signer, bundle.Statement{Serial: serial})
	}
	if err != nil {
		t.Fatal(err)
	}
	if b, err = bundle.Read("test", bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	return data, b
}

// Many cards with a cluster of three on the loopback: how long a staged rollout takes, and the way back. NEPCO_BENCH_CARDS says how many cards.
func TestScale(t *testing.T) {
	n := times("NEPCO_BENCH_CARDS", 20)
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	usual := lost
	t.Cleanup(func() { lost = usual })
	lost = 10 * time.Minute
	f := newFleet(t, 3)
	h, _ := f.hub("a")
	load := func() string { text, _ := os.ReadFile("/proc/loadavg"); return strings.Fields(string(text) + " ?")[0] }
	begin := time.Now()
	agents := make([]*simAgent, n)
	var wait sync.WaitGroup
	slots := make(chan struct{}, 8)
	for i := range n {
		agents[i] = newSimAgent()
		slots <- struct{}{}
		wait.Go(func() {
			f.card(h.Client, "g", fmt.Sprintf("card%04d", i), agents[i], func(o *CardOptions) { o.Report = 10 * time.Second })
			<-slots
		})
	}
	wait.Wait()
	heard := func() {
		f.eventually(5*time.Minute, "reports", func() error {
			cards, err := h.Cards(t.Context())
			k := 0
			for _, s := range cards["g"] {
				if !s.Seen.IsZero() {
					k++
				}
			}
			if k < n {
				return fmt.Errorf("%d of %d: %v", k, n, err)
			}
			return nil
		})
	}
	heard()
	t.Logf("%d cards enrolled and heard in %.1f s, load %s", n, time.Since(begin).Seconds(), load())
	plan := quick()
	plan.Timeout = 5 * time.Minute
	end := func(want State) {
		t.Helper()
		f.eventually(10*time.Minute, "rollout", func() error {
			h.mu.Lock()
			r := h.groups["g"].value.Rollout
			h.mu.Unlock()
			if r == nil || r.State != want {
				return fmt.Errorf("%+v", r)
			}
			return nil
		})
	}
	memory := func() float64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.Sys) / 1e6
	}
	first, firstBundle := bigBundle(t, 1, 1, 1<<20)
	begin = time.Now()
	if _, err := h.Rollout(t.Context(), "g", "t", first, firstBundle, "", plan, quiet); err != nil {
		t.Fatal(err)
	}
	end(Done)
	s := time.Since(begin).Seconds()
	t.Logf("rollout of %d bytes: %.1f s, %.0f MB/s, %.0f MB of memory (servers, hub and cards in one process), load %s", len(first), s, float64(n*len(first))/s/1e6, memory(), load())
	second, secondBundle := bigBundle(t, 2, 2, times("NEPCO_BENCH_BYTES", 1<<20))
	back, err := trust.Rollback{From: 2, To: 1, Digest: firstBundle.Digest.String(), Reason: "bench"}.Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	begin = time.Now()
	if _, err := h.Rollout(t.Context(), "g", "t", second, secondBundle, string(back), plan, quiet); err != nil {
		t.Fatal(err)
	}
	end(Done)
	s = time.Since(begin).Seconds()
	t.Logf("rollout of %d bytes: %.1f s, %.0f MB/s, load %s", len(second), s, float64(n*len(second))/s/1e6, load())
	begin = time.Now()
	if _, err := h.Back(t.Context(), "g", "bench"); err != nil {
		t.Fatal(err)
	}
	end(Returned)
	t.Logf("back: %.1f s, load %s", time.Since(begin).Seconds(), load())
	for i, s := range agents {
		if d := s.Agent(t.Context()).Digest; d != firstBundle.Digest.String() {
			t.Errorf("card %d runs %s", i, d)
		}
	}
}
