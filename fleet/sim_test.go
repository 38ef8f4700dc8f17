package fleet

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"

	"nepcoc/internal/files"
	"nepcoc/internal/testbundle"
	"nepcoc/internal/testports"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/trust"
)

var (
	signer    = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))
	signerKey = signer.Public().(ed25519.PublicKey)
	quiet     = func(int, int) {}
)

// signedBundle is the bundle of a number, padded to a size or more by raw weights that nobody reads, signed with a serial.
func signedBundle(t testing.TB, number int, serial uint64, key ed25519.PrivateKey) ([]byte, *bundle.Bundle) {
	t.Helper()
	b, err := testbundle.New(number, fmt.Sprintf("m%d-", number))
	if err != nil {
		t.Fatal(err)
	}
	data, err := bundle.Encode(b, bundle.Options{})
	if err == nil {
		data, err = bundle.Sign(data, key, bundle.Statement{Serial: serial})
	}
	if err != nil {
		t.Fatal(err)
	}
	if b, err = bundle.Read("test", bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	return data, b
}

// simAgent stands for nepcod: it holds bundles to real signatures and serials, and counts made-up flows.
type simAgent struct {
	mu     sync.Mutex
	policy trust.Policy
	agent  Agent
	runs   []string // digests, in order
	// act says what a bundle does to this card's agent, by its digest; nil: it runs it.
	act func(digest string, a *Agent)
}

func newSimAgent() *simAgent {
	return &simAgent{policy: trust.Policy{Keys: []ed25519.PublicKey{signerKey}, Now: time.Now()}}
}

// reads bounds how many bundles are read at once: cards are machines of their own, whose memory this one doesn't have.
var reads = make(chan struct{}, 8)

func (s *simAgent) read(file string) (*bundle.Bundle, error) {
	reads <- struct{}{}
	defer func() { <-reads }()
	return files.Read(file, func(name string, r io.Reader) (*bundle.Bundle, error) {
		b, _, err := bundle.ReadAccepted(name, r, bundle.MaxFileSize, s.policy.Accept)
		return b, err
	})
}

func (s *simAgent) Check(_ context.Context, file string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.read(file)
	return err
}

func (s *simAgent) Place(_ context.Context, file, back string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.policy.Rollback = nil; back != "" {
		r, err := trust.ReadRollback(signerKey)("back", bytes.NewReader([]byte(back)))
		if err != nil {
			return err
		}
		s.policy.Rollback = r
	}
	b, err := s.read(file)
	if err != nil {
		s.agent.Refused = err.Error()
		return nil
	}
	digest := b.Digest.String()
	before := s.agent
	s.agent = Agent{Digest: digest, Since: time.Now(), Packets: 1000, Latency: 1e-3, Verdicts: map[string]float64{"a": 90}, Unknown: 10}
	if s.act != nil {
		s.act(digest, &s.agent)
	}
	if s.agent.Refused != "" {
		before.Refused = s.agent.Refused
		s.agent = before
		return nil
	}
	s.policy.State = s.policy.After(b.Signature, b.Digest)
	s.runs = append(s.runs, digest)
	return nil
}

func (s *simAgent) Agent(context.Context) Agent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.agent
}

// testFleet is a fleet on loopback: servers, and what tests start in it.
type testFleet struct {
	testing.TB
	access  *Access
	servers []*server.Server
	urls    string
	dir     string
	ports   []int        // of servers, for clients and routes
	log     *slog.Logger // of hubs; nil: none
}

// newFleet starts so many servers: one alone, or a cluster.
func newFleet(t testing.TB, servers int) *testFleet {
	t.Helper()
	f := newFleetFolder(t, servers)
	for i := range servers {
		f.servers = append(f.servers, f.serve(i, f.ports))
	}
	f.Cleanup(func() {
		for _, s := range f.servers {
			s.Shutdown()
			s.WaitForShutdown()
		}
	})
	return f
}

// newFleetFolder is a fleet of so many servers, none of which has been started.
func newFleetFolder(t testing.TB, servers int) *testFleet {
	t.Helper()
	f := &testFleet{TB: t, dir: t.TempDir()}
	folder := filepath.Join(f.dir, "fleet")
	if err := InitAccess(folder, nil); err != nil {
		t.Fatal(err)
	}
	var err error
	if f.access, err = OpenAccess(folder); err != nil {
		t.Fatal(err)
	}
	if f.ports, err = testports.Free(2 * servers); err != nil {
		t.Fatal(err)
	}
	var urls []string
	for i := range servers {
		urls = append(urls, fmt.Sprintf("tls://127.0.0.1:%d", f.ports[2*i]))
	}
	f.urls = strings.Join(urls, ",")
	return f
}

// serve starts server i of a cluster with those ports, for clients and routes.
func (f *testFleet) serve(i int, ports []int) *server.Server {
	f.Helper()
	o, err := f.access.options(fmt.Sprintf("127.0.0.1:%d", ports[2*i]), filepath.Join(f.dir, fmt.Sprintf("store%d", i)))
	if err != nil {
		f.Fatal(err)
	}
	if n := len(ports) / 2; n > 1 {
		o.ServerName = fmt.Sprintf("n%d", i)
		o.Cluster = server.ClusterOpts{Name: "fleet", Host: "127.0.0.1", Port: ports[2*i+1]}
		for j := range n {
			if j != i {
				o.Routes = append(o.Routes, server.RoutesFromStr(fmt.Sprintf("nats://127.0.0.1:%d", ports[2*j+1]))...)
			}
		}
	}
	s, err := start(o)
	if err != nil {
		f.Fatal(err)
	}
	return s
}

// client connects to the servers, once they are there.
func (f *testFleet) client(name string) (c *Client) {
	f.Helper()
	// A cluster gives no answer before it has a leader.
	f.eventually(2*time.Minute, "servers", func() error {
		ctx, cancel := context.WithTimeout(f.Context(), 10*time.Second)
		defer cancel()
		info, stop := context.WithTimeout(ctx, 5*time.Second)
		defer stop()
		nc, err := f.access.connect(f.urls, "wait")
		if err != nil {
			return err
		}
		js, err := jetstream.New(nc)
		if err == nil {
			_, err = js.AccountInfo(info)
		}
		nc.Close()
		if err == nil {
			c, err = f.access.Dial(ctx, f.urls, name, Lasting(quietLog))
		}
		return err
	})
	f.Cleanup(c.Close)
	return c
}

// hub starts a hub, which ends with the function returned.
func (f *testFleet) hub(name string) (*Hub, func()) {
	f.Helper()
	replicas := 1
	if len(f.ports) > 2 {
		replicas = 3
	}
	var h *Hub
	c := f.client(name)
	f.eventually(2*time.Minute, "a hub", func() (err error) {
		ctx, cancel := context.WithTimeout(f.Context(), 10*time.Second)
		defer cancel()
		h, err = NewHub(ctx, c, HubOptions{Name: name, Replicas: replicas, LinesAge: time.Hour, Log: f.log})
		return err
	})
	run, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(run) }()
	ended := sync.OnceFunc(func() {
		stop()
		if err := <-done; err != nil {
			f.Error(err)
		}
		c.Close()
	})
	f.Cleanup(ended)
	return h, ended
}

// card enrols a card and starts it.
func (f *testFleet) card(c *Client, group, name string, runner Runner, change func(*CardOptions)) func() {
	f.Helper()
	ctx, cancel := context.WithTimeout(f.Context(), 2*time.Minute)
	defer cancel()
	token, err := c.NewToken(ctx, group, name, f.urls)
	if err != nil {
		f.Fatal(err)
	}
	dir := filepath.Join(f.dir, "cards", group, name)
	if err := Enrol(ctx, dir, token); err != nil {
		f.Fatal(err)
	}
	return f.start(dir, runner, change)
}

// start starts an enrolled card.
func (f *testFleet) start(dir string, runner Runner, change func(*CardOptions)) func() {
	f.Helper()
	o := CardOptions{Dir: dir, Runner: runner, Report: 500 * time.Millisecond}
	if change != nil {
		change(&o)
	}
	card, err := OpenCard(o)
	if err != nil {
		f.Fatal(err)
	}
	run, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- card.Run(run) }()
	ended := sync.OnceFunc(func() {
		stop()
		if err := <-done; err != nil {
			f.Error(err)
		}
	})
	f.Cleanup(ended)
	return ended
}

// eventually waits for what must come, generously: tests share their machine.
func (f *testFleet) eventually(within time.Duration, what string, ok func() error) {
	f.Helper()
	var err error
	for end := time.Now().Add(within); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if err = ok(); err == nil {
			return
		}
	}
	f.Fatalf("%s: not within %v: %v", what, within, err)
}

// reported waits until so many cards of a group have reported.
func (f *testFleet) reported(c *Client, group string, n int) {
	f.Helper()
	f.eventually(2*time.Minute, "reports", func() error {
		cards, err := c.Cards(f.Context())
		seen := 0
		for _, s := range cards[group] {
			if !s.Seen.IsZero() {
				seen++
			}
		}
		if err == nil && seen != n {
			err = fmt.Errorf("%d of %d", seen, n)
		}
		return err
	})
}

// quick is a plan without waiting.
func quick() Plan {
	p := DefaultPlan()
	p.Bake, p.Timeout = 0, 5*time.Minute
	return p
}

// state waits for a rollout's state.
func (f *testFleet) state(c *Client, group string, want State) *Rollout {
	f.Helper()
	var r *Rollout
	f.eventually(2*time.Minute, "rollout "+string(want), func() error {
		g, _, err := c.group(f.Context(), group)
		if err != nil {
			return err
		}
		if r = g.Rollout; r == nil || r.State != want {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	return r
}
