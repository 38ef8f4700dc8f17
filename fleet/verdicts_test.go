package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// storesPerServer is how many of a test's cards share a NATS server for their stores: each card has its own in life.
const storesPerServer = 100

// stores are of cards, of so many bytes each. NEPCO_BENCH_STORES is a folder for them, for where one disk is not as fast as those of all cards.
func (f *testFleet) stores(sizes ...int64) []*Store {
	f.Helper()
	dir := filepath.Join(f.dir, "stores")
	if base := os.Getenv("NEPCO_BENCH_STORES"); base != "" {
		var err error
		if dir, err = os.MkdirTemp(base, "stores"); err != nil {
			f.Fatal(err)
		}
		f.Cleanup(func() { os.RemoveAll(dir) })
	}
	var in *server.Server
	list := make([]*Store, len(sizes))
	for i, size := range sizes {
		var err error
		if i%storesPerServer == 0 {
			s, err := start(&server.Options{ServerName: fmt.Sprint("cards", i), DontListen: true, JetStream: true, SyncAlways: true, StoreDir: filepath.Join(dir, fmt.Sprint(i)), NoSigs: true, NoLog: true})
			if err != nil {
				f.Fatal(err)
			}
			f.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
			in = s
		}
		if list[i], err = newStore(f.Context(), in, fmt.Sprint("lines", i), size, quietLog); err != nil {
			f.Fatal(err)
		}
		f.Cleanup(list[i].Close)
	}
	return list
}

// lineOf is verdict n as an agent might write it: of usual length.
func lineOf(n int) []byte {
	return fmt.Appendf(nil, `{"n":%d,"event_type":"nepco","flow":"%s"}`+"\n", n, strings.Repeat("0123456789abcdef", 16))
}

// Lines come from many cards at a rate, all servers and the hub are killed and away for a while, and one card was cut off for an hour, of which its store
// does not keep all. Each line is in the sink once and in order, but for those that the card counts as dropped, which the sink says are missing.
// NEPCO_BENCH_CARDS, _RATE (lines a second, of all), _SECONDS and _AWAY (seconds).
func TestVerdicts(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	n, rate, seconds, away := times("NEPCO_BENCH_CARDS", 20), times("NEPCO_BENCH_RATE", 500), times("NEPCO_BENCH_SECONDS", 8), times("NEPCO_BENCH_AWAY", 3)
	f := newApart(t, 3)
	// The last is of the card that is cut off for an hour, and keeps a quarter of its lines.
	hour := max(3600*rate/n, 1000)
	bound := int64(hour*len(lineOf(0))) / 4
	stores := f.stores(append(slices.Repeat([]int64{64 << 20}, n), bound)...)
	cut := stores[n]
	f.many(f.client, n, func(int) Runner { return newSimAgent() }, func(i int, o *CardOptions) { o.Lines, o.Report = stores[i], 10*time.Second })
	sink := f.process(role{Kind: "sink", Size: 64 << 20})
	sinkDir := filepath.Join(f.dir, "sink", "g")
	t.Logf("%d cards, load %s", n, load())
	side, own := used(t, append(f.side(), sink)...), ownCPU()
	begin := time.Now()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	written := make([]int, n)
	var sum atomic.Int64
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() {
			r, w := io.Pipe()
			taken := make(chan error, 1)
			go func() { taken <- stores[i].Take(context.WithoutCancel(ctx), r) }()
			pause(ctx, time.Second*time.Duration(i)/time.Duration(n)) // not all at once
			for ctx.Err() == nil {
				// As many as are due by now: a machine under load lags.
				for due := int(time.Since(begin).Seconds() * float64(rate) / float64(n)); written[i] < due; written[i]++ {
					if _, err := w.Write(lineOf(written[i])); err != nil {
						t.Error(err)
						return
					}
					sum.Add(1)
				}
				pause(ctx, time.Second/2)
			}
			w.Close()
			if err := <-taken; err != nil {
				t.Error(err)
			}
		})
	}
	// mark is what the sink has made to last, but for the numbers of each store.
	mark := func() (c checkpoint) {
		if text, err := os.ReadFile(filepath.Join(sinkDir, sinkCheckpoint)); err == nil {
			json.Unmarshal(text, &c)
		}
		c.Next = nil
		return c
	}
	lag := func() int64 { return sum.Load() - int64(mark().Lines) }
	level := int64(3 * rate) // what is under way at any time: cards and sink work by the second
	steady := func() error {
		if l := lag(); l > level {
			return fmt.Errorf("%d lines aren't in the sink", l)
		}
		return nil
	}
	quarter := time.Duration(seconds-away) * time.Second / 3
	time.Sleep(quarter)
	t.Logf("after %.0f s: %d lines written, %d of them not in the sink, load %s", time.Since(begin).Seconds(), sum.Load(), lag(), load())
	now := used(t, append(f.side(), sink)...)
	cpu, most := now.cpu-side.cpu, now.most
	for _, p := range f.side() {
		p.kill()
	}
	time.Sleep(time.Duration(away) * time.Second)
	waiting := lag()
	asleep := used(t, sink).cpu
	f.begin()
	back := time.Now()
	before, came, cards := mark().Lines, 0., ownCPU()
	f.eventually(10*time.Minute, "the sink", func() error {
		if came == 0 && mark().Lines > before {
			came = time.Since(back).Seconds()
		}
		return steady()
	})
	t.Logf("servers and hub were killed and away for %d s; %d lines waited; after servers began again, the first was in the sink after %.1f s, all after %.1f s; core seconds for that: servers, hub and sink %.1f, cards %.1f; load %s",
		away, waiting, came, time.Since(back).Seconds(), used(t, f.side()...).cpu+used(t, sink).cpu-asleep, ownCPU()-cards, load())
	for i := 0; i < hour; {
		var batch []byte
		for ; i < hour && len(batch) < batchBytes/4; i++ {
			batch = append(batch, lineOf(i)...)
		}
		if err := cut.Add(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	if size := cutSize(t, cut); size > uint64(bound) || size < uint64(bound)/2 {
		t.Errorf("the card that was cut off keeps %d bytes, its bound is %d", size, bound)
	}
	f.card(f.client, "g", "cutoff", newSimAgent(), func(o *CardOptions) { o.Lines = cut })
	time.Sleep(time.Until(begin.Add(time.Duration(seconds) * time.Second)))
	stop()
	wait.Wait()
	total := sum.Load()
	s := time.Since(begin).Seconds()
	var kept Lines
	f.eventually(5*time.Minute, "all lines", func() error {
		kept = cut.Lines()
		if kept.Sent+kept.Dropped < uint64(hour) {
			return fmt.Errorf("cut off: %+v", kept)
		}
		if l := lag() + int64(kept.Sent); l != 0 {
			var stored, sent uint64
			for _, s := range stores[:n] {
				stored, sent = stored+s.Lines().Stored, sent+s.Lines().Sent
			}
			return fmt.Errorf("%d lines are not in the sink (%d written, %d stored, %d sent); %+v", l, sum.Load(), stored, sent, mark())
		}
		return nil
	})
	now = used(t, append(f.side(), sink)...)
	t.Logf("%d lines of %d cards in %.0f s, %.0f a second; all were in the sink %.1f s later; core seconds: servers, hub and sink %.1f, cards %.1f; memory of servers, hub and sink at most %.0f MB; load %s",
		total, n, s, float64(total)/s, time.Since(begin).Seconds()-s, cpu+now.cpu, ownCPU()-own, max(most, now.most)/1e6, load())
	if kept.Stored != uint64(hour) || kept.Sent+kept.Dropped != kept.Stored || kept.Dropped == 0 {
		t.Errorf("cut off for an hour: %+v of %d", kept, hour)
	}
	t.Logf("cut off for an hour: %+v, with a store of %d bytes", kept, bound)
	sink.stop()
	c := mark()
	if c.Missing != kept.Dropped || c.Refused != 0 || c.Lines != uint64(total)+kept.Sent {
		t.Errorf("the sink says lines %d, missing %d, refused %d; %d were written and %d sent by the card that was cut off, which dropped %d",
			c.Lines, c.Missing, c.Refused, total, kept.Sent, kept.Dropped)
	}
	t.Logf("%d lines came twice to the sink, and were left out", c.Again)
	lines := sunk(t, sinkDir)
	for i, want := range written {
		got := lines[fmt.Sprintf("card%04d", i)]
		if len(got) != want {
			t.Errorf("card %d: %d lines in the sink, %d were written", i, len(got), want)
		}
		for k, number := range got {
			if k != number {
				t.Errorf("card %d: line %d is number %d", i, k, number)
				break
			}
		}
	}
	got := lines["cutoff"]
	if len(got) != int(kept.Sent) || got[0] != int(kept.Dropped) || got[len(got)-1] != hour-1 {
		t.Errorf("cut off: %d lines, %d to %d; %+v", len(got), got[0], got[len(got)-1], kept)
	}
}

// cutSize is how many bytes a store holds.
func cutSize(t testing.TB, s *Store) uint64 {
	t.Helper()
	info, err := s.stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return info.State.Bytes
}
