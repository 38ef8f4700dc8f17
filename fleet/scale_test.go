package fleet

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nepcoc/internal/testbundle"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/traffic"
	"nepcoc/runtime/trust"
)

// bigBundle is a signed bundle of so many bytes or a little more: of weights, which no step reads.
func bigBundle(t testing.TB, number int, serial uint64, size int) ([]byte, *bundle.Bundle) {
	t.Helper()
	c, err := traffic.Named("byte")
	if err != nil {
		t.Fatal(err)
	}
	program, err := testbundle.Program(number)
	if err != nil {
		t.Fatal(err)
	}
	p := *program
	weights := bundle.Tensor{Name: "weights", DType: bundle.I8, Shape: []int{size}, Data: make([]byte, size)}
	rand.NewChaCha8([32]byte{byte(number)}).Read(weights.Data)
	p.Tensors = append(slices.Clip(p.Tensors), weights)
	c.Length = p.Length
	b, err := testbundle.Make(&p, c, fmt.Sprintf("m%d-", number))
	if err != nil {
		t.Fatal(err)
	}
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

// Many cards with a cluster of three on the loopback: how long a staged rollout takes, and the way back. Servers and hub are processes of their own, all
// cards are in this one. NEPCO_BENCH_CARDS says how many cards, NEPCO_BENCH_BYTES how big the second bundle is.
func TestScale(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a cluster")
	}
	n := times("NEPCO_BENCH_CARDS", 20)
	f := newApart(t, 3)
	agents := make([]*simAgent, n)
	for i := range agents {
		agents[i] = newSimAgent()
	}
	// step says what something took.
	step := func(what string, bytes int, do func()) {
		t.Helper()
		begin, side, own := time.Now(), used(t, f.side()...), ownCPU()
		do()
		s := time.Since(begin).Seconds()
		now := used(t, f.side()...)
		rate := ""
		if bytes > 0 {
			rate = fmt.Sprintf(" (%.0f MB/s to cards, %.1f core seconds per GB)", float64(n*bytes)/s/1e6, (now.cpu-side.cpu+ownCPU()-own)/float64(n*bytes)*1e9)
		}
		t.Logf("%s: %.1f s%s; core seconds: servers and hub %.1f, cards %.1f; memory of servers and hub: %.0f MB, at most %.0f; load %s",
			what, s, rate, now.cpu-side.cpu, ownCPU()-own, now.memory/1e6, now.most/1e6, load())
	}
	step(fmt.Sprintf("%d cards enrolled and heard", n), 0, func() {
		f.many(f.client, n, func(i int) Runner { return agents[i] }, func(_ int, o *CardOptions) { o.Report = 10 * time.Second })
		f.eventually(5*time.Minute, "reports", func() error {
			cards, err := f.client.Cards(t.Context())
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
	})
	plan := quick()
	plan.Timeout = 5 * time.Minute
	made := func(number, size int) ([]byte, *bundle.Bundle) { return bigBundle(t, number, uint64(number), size) }
	rollout := func(data []byte, b *bundle.Bundle, back string) func() {
		return func() {
			if _, err := f.client.Rollout(t.Context(), "g", "t", data, b, back, plan, quiet); err != nil {
				t.Fatal(err)
			}
			f.end(f.client, "g", Done)
		}
	}
	first, firstBundle := made(1, 1<<20)
	step(fmt.Sprintf("rollout of %d bytes", len(first)), len(first), rollout(first, firstBundle, ""))
	second, secondBundle := made(2, times("NEPCO_BENCH_BYTES", 1<<20))
	back, err := trust.Rollback{From: 2, To: 1, Digest: firstBundle.Digest.String(), Reason: "bench"}.Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	step(fmt.Sprintf("rollout of %d bytes", len(second)), len(second), rollout(second, secondBundle, string(back)))
	step("back", len(first), func() {
		if _, err := f.client.Back(t.Context(), "g", "bench"); err != nil {
			t.Fatal(err)
		}
		f.end(f.client, "g", Returned)
	})
	for i, s := range agents {
		if d := s.Agent(t.Context()).Digest; d != firstBundle.Digest.String() {
			t.Errorf("card %d runs %s", i, d)
		}
	}
	t.Log(f.allowed(second))
}

// end waits for a rollout's end, and is told of another.
func (f *testFleet) end(c *Client, group string, want State) {
	f.Helper()
	f.eventually(10*time.Minute, "rollout "+string(want), func() error {
		ctx, cancel := context.WithTimeout(f.Context(), 10*time.Second)
		defer cancel()
		g, _, err := c.group(ctx, group)
		switch r := g.Rollout; {
		case err != nil:
			return err
		case r == nil:
			return errors.New("none")
		case r.State == want:
			return nil
		case r.State.Over() && want != Returned || r.State == Halted:
			f.Fatalf("rollout %s, not %s: %v", r.State, want, r.Events)
		default:
			return fmt.Errorf("%s, stage %d of %d", r.State, r.Stage+1, len(r.Plan.Stages))
		}
		return nil
	})
}

// allowed says what the loopback and the disk give at the same time: the same bytes over TLS, as servers speak it, to 8 readers at once, and
// to files, each made to last.
func (f *testFleet) allowed(data []byte) string {
	f.Helper()
	config, err := f.access.serverTLS()
	if err != nil {
		f.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		f.Fatal(err)
	}
	defer l.Close()
	const readers, files = 8, 32
	turns := max(1, 256<<20/readers/len(data))
	go func() {
		for range readers {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				for range turns {
					c.Write(data)
				}
				c.Close()
			}()
		}
	}()
	var total atomic.Int64
	var wait sync.WaitGroup
	begin, own := time.Now(), ownCPU()
	for range readers {
		wait.Go(func() {
			c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: config.RootCAs})
			if err != nil {
				f.Error(err)
				return
			}
			defer c.Close()
			n, _ := io.Copy(io.Discard, c)
			total.Add(n)
		})
	}
	wait.Wait()
	loopback, tlsCPU := float64(total.Load())/time.Since(begin).Seconds()/1e6, (ownCPU()-own)/float64(total.Load())*1e9
	dir := f.TempDir()
	begin, own = time.Now(), ownCPU()
	for i := range files {
		wait.Go(func() {
			w, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
			if err == nil {
				_, err = w.Write(data)
			}
			if err == nil {
				err = errors.Join(w.Sync(), w.Close())
			}
			if err != nil {
				f.Error(err)
			}
		})
	}
	wait.Wait()
	disk := float64(files*len(data)) / time.Since(begin).Seconds() / 1e6
	return fmt.Sprintf("in the same run: TLS on the loopback, nothing else, %.0f MB/s (%.1f core seconds per GB, both ends); files of %d bytes, each synced, %.0f MB/s (%.1f core seconds per GB); load %s",
		loopback, tlsCPU, len(data), disk, (ownCPU()-own)/float64(files*len(data))*1e9, load())
}
