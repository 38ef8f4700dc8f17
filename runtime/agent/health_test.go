package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nepcoc/runtime/agent"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/verdict"
)

// sick is a live source of which everything can go wrong.
type sick struct {
	*generator
	dropped atomic.Uint64
	down    atomic.Bool
}

func (s *sick) Stats() (capture.Stats, error) {
	d := s.dropped.Load()
	return capture.Stats{Received: s.n.Load() + d, Dropped: d}, nil
}

func (s *sick) Link() error {
	if s.down.Load() {
		return errors.New("interface p7 is down")
	}
	return nil
}

// /healthz turns bad, and says why, when an interface is down, when the output fails or takes nothing, and when
// drops pass the bound, for all reasons at once where there are several; and turns good again without a restart. The
// metric that says which kind it is turns with it.
func TestProblems(t *testing.T) {
	src := &sick{generator: generate(func(n uint64, f *capture.Frame) error {
		time.Sleep(20 * time.Microsecond)
		f.Data, f.Time = udp(uint32(n), 400), int64(n)*1e6
		return nil
	})}
	var fails atomic.Bool
	sink := sinkFunc(func(b []byte) (int, error) {
		if fails.Load() {
			return 0, errors.New("disk full")
		}
		return len(b), nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	a, err := agent.New(agent.Options{
		Sources: []capture.Source{src}, Model: testModel(t, 0, "class"), Sink: sink, FlowsPerWorker: 100,
		Health: &agent.HealthConfig{Drops: 0.1, Window: 300 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { _, err := a.Run(ctx); ended <- err }()
	// until waits until /healthz and the metric have just these problems.
	until := func(what string, want map[string]string) {
		t.Helper()
		var body, text string
		for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			var code int
			code, body = get(t, a.Handler(), "/healthz")
			var h agent.Health
			if err := json.Unmarshal([]byte(body), &h); err != nil {
				t.Fatal(err)
			}
			_, text = get(t, a.Handler(), "/metrics")
			good := len(h.Problems) >= len(want) && (code == 200) == (len(want) == 0) && (h.Status == "ok") == (len(want) == 0)
			for _, kind := range []string{"stalled", "interface", "output", "drops"} {
				says, bad := want[kind]
				good = good && strings.Contains(text, fmt.Sprintf("\nnepcod_problem{kind=%q} %d\n", kind, map[bool]int{true: 1}[bad])) &&
					(!bad || slices.ContainsFunc(h.Problems, func(p string) bool { return strings.Contains(p, says) }))
			}
			if good {
				return
			}
		}
		t.Errorf("%s: %s", what, body)
	}
	stop := make(chan bool)
	drop := func(do bool) { // half of the packets
		if !do {
			stop <- true
			return
		}
		go func() {
			for last := src.n.Load(); ; time.Sleep(time.Millisecond) {
				select {
				case <-stop:
					return
				default:
					now := src.n.Load()
					src.dropped.Add(now - last)
					last = now
				}
			}
		}()
	}
	until("at first", nil)
	src.down.Store(true)
	until("interface down", map[string]string{"interface": "interface p7 is down"})
	src.down.Store(false)
	until("interface up", nil)
	fails.Store(true)
	until("output fails", map[string]string{"output": "the output fails: disk full", "drops": "100 % of verdicts were lost"})
	drop(true)
	until("and packets are dropped", map[string]string{"output": "disk full", "drops": "of packets were dropped within 300ms"})
	src.down.Store(true)
	until("all at once", map[string]string{"output": "disk full", "drops": "more than 10 %", "interface": "p7"})
	src.down.Store(false)
	drop(false)
	fails.Store(false)
	until("at last", nil)
	cancel()
	<-ended // its counts can't balance: the source has lied of what was dropped
}

// A sink that has stopped taking is a problem, too, though it never failed; see also TestProblems. Nothing
// is one only because it is quiet.
func TestProblemsOfSinks(t *testing.T) {
	at := agent.OutputProblem(func(o agent.Clock) { o.Begin(0) })
	for now, want := range map[time.Duration]string{time.Second: "", 12 * time.Second: "the output has taken nothing for 11 s"} {
		if got := at(now); got != want {
			t.Errorf("a write of %v: %q", now, got)
		}
	}
	at = agent.OutputProblem(func(o agent.Clock) { o.Fail(0, errors.New("full")) })
	for now, want := range map[time.Duration]string{time.Second: "the output fails: full", 2 * time.Minute: ""} {
		if got := at(now); got != want {
			t.Errorf("%v after a failure: %q", now, got)
		}
	}
}

// counter counts the connections that are open at once. One that is closed is counted off before the listener can give its place away.
type counter struct {
	net.Listener
	open, most atomic.Int64
}

func (c *counter) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	n := c.open.Add(1)
	for m := c.most.Load(); n > m && !c.most.CompareAndSwap(m, n); m = c.most.Load() {
	}
	return &countedConn{Conn: conn, counter: c}, nil
}

type countedConn struct {
	net.Conn
	counter *counter
	once    sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.counter.open.Add(-1) })
	return c.Conn.Close()
}

// However many connect to the metrics and say nothing, the agent holds a bounded number of descriptors for them, and
// serves others when those have run out of time or are gone.
func TestServerBounds(t *testing.T) {
	a, err := agent.New(agent.Options{Sources: []capture.Source{new(capture.Memory)}, Model: testModel(t, 0, "class"), Sink: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	s := a.Server()
	if s.ReadTimeout <= 0 || s.WriteTimeout <= 0 || s.IdleTimeout <= 0 || s.IdleTimeout > time.Minute || s.MaxHeaderBytes <= 0 {
		t.Errorf("a connection may last for ever: %+v", s)
	}
	s.IdleTimeout, s.ReadTimeout = 50*time.Millisecond, 50*time.Millisecond
	l, err := agent.Listen(":0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	counted := &counter{Listener: l}
	go func() { served <- s.Serve(counted) }()
	var silent []net.Conn
	for range 100 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		silent = append(silent, c)
	}
	// Each connection has 50 ms, which a machine that stands still may take from the client's, too: it then asks again.
	client := http.Client{Timeout: time.Minute}
	var res *http.Response
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if res, err = client.Get("http://" + l.Addr().String() + "/healthz"); err == nil || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	client.CloseIdleConnections()
	for _, c := range silent {
		c.Close()
	}
	if m := counted.most.Load(); m > 32 || m == 0 {
		t.Errorf("%d connections at once", m)
	}
	s.Close()
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}

// When a problem begins and ends, the log says so, once each: who was not looking at /healthz then can read it.
func TestProblemsAreLogged(t *testing.T) {
	src := &sick{generator: generate(func(n uint64, f *capture.Frame) error {
		time.Sleep(20 * time.Microsecond)
		f.Data, f.Time = udp(uint32(n), 400), int64(n)*1e6
		return nil
	})}
	lines := make(chan string, 100)
	ctx, cancel := context.WithCancel(t.Context())
	a, err := agent.New(agent.Options{
		Sources: []capture.Source{src}, Model: testModel(t, 0, "class"), Sink: sinkFunc(func(b []byte) (int, error) { return len(b), nil }), FlowsPerWorker: 100,
		Health: &agent.HealthConfig{Drops: 1, Window: 100 * time.Millisecond},
		Log: slog.New(slog.NewTextHandler(sinkFunc(func(b []byte) (int, error) {
			if strings.Contains(string(b), "problem=interface") { // a machine that stands still is another
				lines <- string(b)
			}
			return len(b), nil
		}), nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { _, err := a.Run(ctx); ended <- err }()
	for _, down := range []bool{true, false, true, false} {
		src.down.Store(down)
		want := map[bool]string{true: `level=WARN msg="interface p7 is down" problem=interface`, false: `level=INFO msg="no longer so" problem=interface`}[down]
		select {
		case got := <-lines:
			if !strings.Contains(got, want) {
				t.Fatalf("down: %v, logged %q", down, got)
			}
		case <-time.After(2 * time.Minute):
			t.Fatalf("down: %v, nothing logged", down)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if len(lines) > 0 {
		t.Errorf("said again: %q", <-lines)
	}
}

// Losses that go up and down about the bound are one problem, not one a minute, and it ends when they are well below.
func TestLossesNearBound(t *testing.T) {
	step := agent.LossProblems(agent.HealthConfig{Drops: 0.01, Window: time.Minute})
	turns, was := 0, false
	run := func(n int, lost func(i int) uint64) {
		for i := range n {
			if bad := len(step(lost(i))) > 0; bad != was {
				turns, was = turns+1, bad
			}
		}
	}
	run(30, func(int) uint64 { return 0 })
	run(500, func(i int) uint64 { return []uint64{12, 9}[i/12%2] })
	if turns != 1 || !was {
		t.Errorf("%d turns, bad: %v", turns, was)
	}
	run(30, func(int) uint64 { return 4 })
	if turns != 2 || was {
		t.Errorf("%d turns in the end, bad: %v", turns, was)
	}
}

// Verdicts that the output refuses are lost, as those are that it is too slow for: a sink that takes every other write, and one
// that all are too large for, are told by their share.
func TestRefusedVerdictsAreLosses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	reader, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	go io.Copy(io.Discard, reader)
	datagrams, err := agent.OpenSink(t.Context(), "unix_dgram:"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	var n atomic.Int64
	for name, sink := range map[string]io.Writer{
		"every other": sinkFunc(func(b []byte) (int, error) {
			if n.Add(1)%2 == 0 {
				return 0, errors.New("busy")
			}
			return len(b), nil
		}),
		"too large": datagrams,
	} {
		t.Run(name, func(t *testing.T) {
			src := generate(func(n uint64, f *capture.Frame) error {
				time.Sleep(20 * time.Microsecond)
				f.Data, f.Time = udp(uint32(n), 400), int64(n)*1e6
				return nil
			})
			format := func(_ *verdict.Record, b []byte) []byte {
				return append(b, make([]byte, map[string]int{"too large": 1 << 18}[name])...)
			}
			ctx, cancel := context.WithCancel(t.Context())
			a, err := agent.New(agent.Options{
				Sources: []capture.Source{src}, Model: testModel(t, 0, "class"), Sink: sink, FlowsPerWorker: 100, Format: format,
				Health: &agent.HealthConfig{Drops: 0.1, Window: time.Second},
			})
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error)
			go func() { _, err := a.Run(ctx); ended <- err }()
			says := func(h agent.Health) bool {
				return h.Status == "degraded" && slices.ContainsFunc(h.Problems, func(p string) bool { return strings.Contains(p, "% of verdicts were lost within") })
			}
			h := a.Health()
			for end := time.Now().Add(2 * time.Minute); !says(h) && time.Now().Before(end); h = a.Health() {
				time.Sleep(10 * time.Millisecond)
			}
			if !says(h) {
				t.Errorf("%+v", h)
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}
