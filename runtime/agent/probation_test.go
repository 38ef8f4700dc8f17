package agent_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nepcoc/internal/files"
	"nepcoc/internal/locked"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/trust"
)

// signed is a bundle with a serial, signed.
func (s *signing) signed(t *testing.T, number int, prefix string, serial uint64) []byte {
	t.Helper()
	return must(bundle.Encode(testBundle(t, number, prefix), bundle.Options{Key: s.signer, Statement: bundle.Statement{Serial: serial}}))
}

// A bundle is remembered, and kept as the last good one, once it has stood its trial, and not before.
func TestTrial(t *testing.T) {
	s := newSigning(t)
	one, two := s.signed(t, 0, "a", 10), s.signed(t, 1, "b", 11)
	s.config.Probation.Time = time.Hour
	s.write(t, s.config.Bundle, one)
	a, log, _ := watchedAgent(t, &s.config, agent.Options{})
	good := func(name string) []byte {
		data, _ := os.ReadFile(s.config.State + name)
		return data
	}
	if state := must(trust.ReadState(s.config.State)); state.Serial != 10 || state.Trial != nil || !bytes.Equal(good(".last-good"), one) {
		t.Errorf("the first bundle, with none to return to, is not good at once: %+v", state)
	}
	s.write(t, s.config.Bundle, two)
	wait(t, "on trial", func() bool { return a.Health().OnTrial })
	state := must(trust.ReadState(s.config.State))
	if state.Serial != 10 || state.Trial == nil || state.Trial.Digest != a.Model().Digest() || !bytes.Equal(good(".last-good"), one) {
		t.Errorf("in its trial it is remembered already: %+v", state)
	}
	if h := a.Health(); h.Status != "ok" {
		t.Errorf("%+v", h)
	}
	// It is not taken for good by being read again.
	if err := a.Reload(&s.config); err != nil || !a.Health().OnTrial {
		t.Errorf("on trial no more: %v", err)
	}
	// The one before is good, as ever.
	s.write(t, s.config.Bundle, one)
	wait(t, "the first one again", func() bool { return a.Model().Bundle.Signature.Serial == 10 && !a.Health().OnTrial })

	quick := s.config
	quick.Probation.Time = 100 * time.Millisecond
	b, log2, _ := watchedAgent(t, &quick, agent.Options{})
	s.write(t, s.config.Bundle, two)
	wait(t, "stood", func() bool { return strings.Contains(log2.String(), "stood its trial") })
	wait(t, "remembered", func() bool { return must(trust.ReadState(s.config.State)).Serial == 11 })
	if state := must(trust.ReadState(s.config.State)); state.Trial != nil || !bytes.Equal(good(".last-good"), two) || !bytes.Equal(good(".last-good.1"), one) || b.Health().OnTrial {
		t.Errorf("good, but not kept: %+v\n%s", state, log.String())
	}
}

// A bundle under which packets are dropped is returned from by itself, which log, metric, health and event tell. It isn't tried again, by reload or
// start, until its file changes; and the one that is returned to isn't too old.
func TestReturn(t *testing.T) {
	s := newSigning(t)
	two := s.signed(t, 1, "b", 11)
	s.config.Probation.Time, s.config.Probation.Latency = 40*time.Second, time.Hour // a machine that stands still is no fault here
	s.write(t, s.config.Bundle, s.signed(t, 0, "a", 10))
	var dropping atomic.Bool
	src := &sick{}
	src.generator = generate(func(n uint64, f *capture.Frame) error {
		time.Sleep(100 * time.Microsecond)
		f.Data, f.Time = udp(uint32(n%8), 40), int64(n)*1e6
		if dropping.Load() {
			src.dropped.Add(3)
		}
		return nil
	})
	var out locked.Buffer
	a, log, hup := watchedAgent(t, &s.config, agent.Options{Sources: []capture.Source{src}, Sink: &out, DriftEvents: true})
	first := a.Model().Digest()
	s.write(t, s.config.Bundle, two)
	wait(t, "on trial", func() bool { return a.Health().OnTrial })
	second := a.Model().Digest()
	dropping.Store(true)
	wait(t, "returned", func() bool { return a.Report().Returns == 1 })
	wait(t, "remembered", func() bool { return must(trust.ReadState(s.config.State)).Returned != nil })
	dropping.Store(false)
	h, state := a.Health(), must(trust.ReadState(s.config.State))
	if a.Model().Digest() != first || state.Serial != 10 || state.Trial != nil || state.Returned.Digest != second || state.Returned.Serial != 11 || h.OnTrial {
		t.Errorf("runs %.12s; %+v; %+v", a.Model().Digest(), state, h)
	}
	if p := strings.Join(h.Problems, "\n"); h.Status != "degraded" || !strings.Contains(p, "was returned from: 75 % of packets are dropped") || !strings.Contains(p, second[:12]) {
		t.Errorf("%+v", h)
	}
	if text := log.String(); !strings.Contains(text, "returned to the bundle before") {
		t.Error(text)
	}
	var states []string
	wait(t, "the event", func() bool {
		states = nil
		for _, l := range lines(out.String()) {
			var e struct {
				Nepco struct {
					Trial  struct{ State, From, Reason string }
					Digest string
				}
			}
			if err := json.Unmarshal([]byte(l), &e); err != nil {
				return false // half a line yet
			}
			if e.Nepco.Trial.State != "" {
				states = append(states, e.Nepco.Trial.State+" "+e.Nepco.Digest+" "+e.Nepco.Trial.From)
			}
		}
		return len(states) == 2
	})
	if states[0] != "begin "+second[:12]+" " || states[1] != "returned "+first[:12]+" "+second[:12] {
		t.Errorf("%q", states)
	}
	for range 2 {
		refused := a.Report().SwapsRefused
		hup <- os.Interrupt
		wait(t, "refused", func() bool { return a.Report().SwapsRefused > refused })
	}
	if text := log.String(); a.Model().Digest() != first || !strings.Contains(text, "was returned from here: 75 %") {
		t.Errorf("it is tried again:\n%s", text)
	}
	if m, err := s.config.LoadStart(); err != nil || m.Digest() != first || !strings.Contains(m.Instead().Error(), "was returned from here") {
		t.Errorf("the start runs it: %v", err)
	}
	s.write(t, s.config.Bundle, two) // somebody wants it
	wait(t, "tried again", func() bool { return a.Health().OnTrial && a.Model().Digest() == second })
	if h := a.Health(); h.Status == "degraded" && strings.Contains(strings.Join(h.Problems, "\n"), "returned from") {
		t.Errorf("%+v", h)
	}
}

// What is compared in a trial is what it was before, and few packets and verdicts tell nothing.
func TestTrialFault(t *testing.T) {
	c := agent.DefaultProbation
	steady := func(each agent.TrialSample) (all []agent.TrialSample) { // the same in each interval
		var sum agent.TrialSample
		for range 6 {
			sum.Packets, sum.Lost, sum.Verdicts, sum.Unknown, sum.Latency = sum.Packets+each.Packets, sum.Lost+each.Lost, sum.Verdicts+each.Verdicts, sum.Unknown+each.Unknown, each.Latency
			all = append(all, sum)
		}
		return append(all, sum)
	}
	type sample = agent.TrialSample
	for _, tc := range []struct {
		name         string
		before, each sample
		want         string
	}{
		{"all is well", sample{Packets: 1000}, sample{Packets: 1000, Verdicts: 100, Latency: time.Millisecond}, ""},
		{"drops", sample{Packets: 1000}, sample{Packets: 1000, Lost: 700}, "% of packets are dropped, and 0 % were before"},
		{"as many drops as before", sample{Packets: 1000, Lost: 700}, sample{Packets: 1000, Lost: 700}, ""},
		{"few packets", sample{}, sample{Packets: 10, Lost: 9}, ""},
		{"slow", sample{Packets: 1000, Latency: time.Millisecond}, sample{Packets: 1000, Latency: 3 * time.Second}, "1 % of verdicts take 3"},
		{"slow without a before", sample{}, sample{Packets: 1000, Latency: 3 * time.Second}, "1 % of verdicts take 3"},
		{"as slow as before", sample{Latency: 2 * time.Second}, sample{Packets: 1000, Latency: 3 * time.Second}, ""},
		{"unknown", sample{Verdicts: 500, Unknown: 50}, sample{Verdicts: 100, Unknown: 60}, "60 % of verdicts are unknown, and 10 % were"},
		{"not by so much", sample{Verdicts: 500, Unknown: 50}, sample{Verdicts: 100, Unknown: 35}, ""},
		{"few verdicts", sample{Verdicts: 500}, sample{Verdicts: 10, Unknown: 10}, ""},
		{"none to compare with", sample{Verdicts: 50}, sample{Verdicts: 100, Unknown: 100}, ""},
	} {
		if got := agent.TrialFault(c, tc.before, steady(tc.each)...); tc.want == "" && got != "" || !strings.Contains(got, tc.want) {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// What a bundle costs is held to what workers have the time for, with the rate of flows there is and the one that is set.
func TestAfford(t *testing.T) {
	c := agent.DefaultConfig()
	const ms = time.Millisecond
	for _, tc := range []struct {
		name    string
		perFlow time.Duration
		load    agent.Load
		rate    float64
		want    string
	}{
		{"nothing comes", 115 * ms, agent.Load{Workers: 1}, 0, ""},
		{"a slow one", 115 * ms, agent.Load{Flows: 240, Workers: 1, Other: 0.032}, 0, "takes 115ms per flow here, and with the 240 flows/s that come now 27.6 of the time of 1 worker, 0.032 of it for packets; probation.budget allows 0.8: 3.2ms per flow"},
		{"a fast one", ms, agent.Load{Flows: 240, Workers: 1}, 0, ""},
		{"packets alone take the time", ms, agent.Load{Flows: 240, Workers: 1, Other: 0.9}, 0, ": 0s per flow"},
		{"slower than allowed, but no slower than what runs", 100 * ms, agent.Load{Flows: 240, Workers: 1, PerFlow: 100 * ms}, 0, ""},
		{"more workers", 10 * ms, agent.Load{Flows: 240, Workers: 4}, 0, ""},
		{"nothing comes, and packets alone take the time", 500 * time.Nanosecond, agent.Load{Workers: 1, Other: 0.94, PerFlow: 400}, 0, ""},
		{"at the rate that is set", 10 * ms, agent.Load{Workers: 1}, 1000, "1e+03 flows/s of probation.rate"},
	} {
		c.Probation.Rate = tc.rate
		if err := c.Afford(tc.perFlow, tc.load); (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", tc.name, err, tc.want)
		}
	}
}

// A service whose bundle is gone or can't run comes up with the last good one, and one whose new bundle ends it again and again, too.
func TestLastGood(t *testing.T) {
	s := newSigning(t)
	s.config.Probation.Time = time.Hour
	one, two := s.signed(t, 0, "a", 10), s.signed(t, 1, "b", 11)
	start := func() *agent.Model {
		t.Helper()
		m, err := s.config.LoadStart()
		if err == nil {
			err = s.config.Remember(m)
		}
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	s.write(t, s.config.Bundle, one)
	first := start().Digest()
	if err := os.Remove(s.config.Bundle); err != nil {
		t.Fatal(err)
	}
	if m := start(); m.Digest() != first || !strings.Contains(m.Instead().Error(), "no such file") {
		t.Errorf("gone: %.12s, %v", m.Digest(), m.Instead())
	}
	s.write(t, s.config.Bundle, two)
	for i := range 5 {
		if m := start(); (m.Instead() == nil) != (i < 3) || m.Instead() != nil && !strings.Contains(m.Instead().Error(), "ended 3 times") {
			t.Errorf("start %d: %v", i, m.Instead())
		}
	}
	s.write(t, s.config.Bundle, two)
	if m := start(); m.Instead() != nil {
		t.Errorf("another file: %v", m.Instead())
	}
	// Ends in order are no failures.
	for range 5 {
		var a *agent.Agent
		t.Run("in order", func(t *testing.T) { a, _, _ = watchedAgent(t, &s.config, agent.Options{}) })
		if a.Model().Instead() != nil {
			t.Fatal(a.Model().Instead())
		}
	}
	if err := files.Write(s.config.Bundle, nil); err != nil {
		t.Fatal(err)
	}
	a, log, _ := watchedAgent(t, &s.config, agent.Options{})
	wait(t, "told of", func() bool { return strings.Contains(log.String(), "the last good bundle runs") })
	if h := a.Health(); h.Digest != first || h.Status != "degraded" || !strings.Contains(strings.Join(h.Problems, "\n"), "not a bundle") {
		t.Errorf("%+v", h)
	}
	for _, name := range []string{".last-good", ".last-good.1"} {
		os.WriteFile(s.config.State+name, one[:len(one)-1], 0o644)
	}
	if m, err := s.config.LoadStart(); err == nil || strings.Count(err.Error(), "the last good bundle can't run in its place") != 2 || !strings.Contains(err.Error(), "not a bundle") {
		t.Errorf("a damaged last good one: %v, %v", m, err)
	}
}

// A bundle whose key is revoked while it runs is left for the one before, if that is still trusted, though it is older; where there is none it runs on, as a
// problem.
func TestRevokedWhileRunning(t *testing.T) {
	s := newSigning(t)
	list := func(serial uint64, revoked ...ed25519.PublicKey) {
		l := trust.KeyList{Serial: serial}
		for _, k := range revoked {
			l.Revoke(k, "stolen")
		}
		for name, k := range map[string]ed25519.PublicKey{"signer": s.signer.Public().(ed25519.PublicKey), "stranger": s.stranger.Public().(ed25519.PublicKey)} {
			l.Add(name, k)
		}
		s.write(t, s.config.KeyList, must(l.Sign(s.root)))
	}
	list(3)
	s.write(t, s.config.Bundle, s.signed(t, 0, "a", 10))
	a, log, _ := watchedAgent(t, &s.config, agent.Options{})
	first := a.Model().Digest()
	s.write(t, s.config.Bundle, must(bundle.Encode(testBundle(t, 1, "b"), bundle.Options{Key: s.stranger, Statement: bundle.Statement{Serial: 1 << 60}})))
	wait(t, "the thief's", func() bool { return a.Model().Digest() != first })
	list(4, s.stranger.Public().(ed25519.PublicKey))
	wait(t, "returned", func() bool { return a.Model().Digest() == first })
	wait(t, "said", func() bool { return strings.Contains(log.String(), "returned to the bundle before") }) // behind it
	if h := a.Health(); h.Status != "degraded" || !strings.Contains(strings.Join(h.Problems, "\n"), "revoked: stolen") {
		t.Errorf("%+v", h)
	}
	// The number that the thief used keeps nobody out.
	s.write(t, s.config.Bundle, s.signed(t, 2, "c", 12))
	wait(t, "a newer one", func() bool { return a.Model().Bundle.Signature.Serial == 12 && a.Health().Status == "ok" })
	list(5, s.stranger.Public().(ed25519.PublicKey), s.signer.Public().(ed25519.PublicKey))
	wait(t, "a problem", func() bool { return a.Health().Status == "degraded" })
	wait(t, "told of", func() bool { return strings.Contains(log.String(), "there is no bundle to return to") })
	if a.Model().Bundle.Signature.Serial != 12 {
		t.Error("another runs")
	}
}

// slowFile is a file of which so little comes at a time that it never ends, until it is let go.
type slowFile struct {
	io.ReadCloser
	slow *atomic.Bool
}

func (f slowFile) Read(b []byte) (int, error) {
	if f.slow.Load() {
		time.Sleep(5 * time.Millisecond)
		b = b[:min(1, len(b))]
	}
	return f.ReadCloser.Read(b)
}

// A disk that is slow, or hangs, keeps no later bundle from running, and what hangs doesn't pile up. Start and self-test give up, too.
func TestSlowDisk(t *testing.T) {
	s := newSigning(t)
	var slow, hangs atomic.Bool
	let := make(chan bool)
	s.config.SetDisk(os.Stat, func(name string) (io.ReadCloser, error) {
		if name != s.config.Bundle {
			return files.Open(name)
		}
		if hangs.Load() {
			<-let
			return nil, errors.New("broken")
		}
		f, err := files.Open(name)
		return slowFile{f, &slow}, err
	})
	s.write(t, s.config.Bundle, s.signed(t, 0, "a", 10))
	s.config.Probation.Load = time.Second
	a, log, _ := watchedAgent(t, &s.config, agent.Options{})
	slow.Store(true)
	s.write(t, s.config.Bundle, s.signed(t, 1, "b", 11))
	wait(t, "given up", func() bool { return strings.Contains(log.String(), "takes longer than 1s") })
	if _, err := s.config.Load(); err == nil || !strings.Contains(err.Error(), "takes longer than 1s") {
		t.Errorf("the start says %v", err)
	}
	if _, err := s.config.ReadBundle(s.config.Bundle); err == nil || !strings.Contains(err.Error(), "takes longer than 1s") {
		t.Errorf("the self-test says %v", err)
	}
	wait(t, "the last good one runs", func() bool {
		m, err := s.config.LoadStart()
		return err == nil && m.Digest() == a.Model().Digest()
	})
	wait(t, "nothing reads on", func() bool { return agent.UnderWay() == 0 })
	slow.Store(false)
	s.taken(t, a, log, s.signed(t, 1, "b", 12), "the next bundle runs", func() bool { return a.Model().Bundle.Signature.Serial == 12 })

	hangs.Store(true)
	for i := range uint64(agent.MaxUnderWay) {
		refused := a.Report().SwapsRefused
		s.write(t, s.config.Bundle, s.signed(t, 0, "a", 20+i))
		wait(t, "given up", func() bool { return a.Report().SwapsRefused > refused })
	}
	logged := len(log.String())
	s.write(t, s.config.Bundle, s.signed(t, 0, "a", 30))
	wait(t, "not even begun", func() bool { return strings.Contains(log.Since(logged), "hang still") })
	if n := agent.UnderWay(); n != agent.MaxUnderWay {
		t.Errorf("%d reads", n)
	}
	hangs.Store(false)
	close(let)
	wait(t, "all came back", func() bool { return agent.UnderWay() == 0 })
	s.taken(t, a, log, s.signed(t, 0, "a", 31), "the next bundle runs", func() bool { return a.Model().Bundle.Signature.Serial == 31 })
}

// Flows that began with a bundle which is returned from are judged by the one before where that reads the same bytes of them. Where it doesn't they go without a
// verdict, counted, instead of taking the time that there isn't.
func TestWithdrawn(t *testing.T) {
	for _, contracts := range []bool{false, true} {
		from, to := testBundle(t, 0, "a"), testBundle(t, 0, "b")
		if contracts {
			c := must(contractOf(to))
			c.Packets, c.BytesPerPacket = 2, 200
			to = bundleOf(t, testProgram(t, 0), c, "b")
		}
		m := must(agent.NewModel(from))
		const flows = 100
		src := generate(func(n uint64, f *capture.Frame) error {
			if n == 2*flows {
				return io.EOF
			}
			f.Data, f.Time = udp(uint32(n), 5), int64(n)*1e6
			return nil
		})
		src.next = func(inner func(uint64, *capture.Frame) error) func(uint64, *capture.Frame) error {
			return func(n uint64, f *capture.Frame) error {
				if n == flows {
					src.pause.Store(true)
				}
				return inner(n, f)
			}
		}(src.next)
		var out locked.Buffer
		a := must(agent.New(agent.Options{Sources: []capture.Source{src}, Model: m, Sink: &out, Format: agent.Formats["json"]}))
		done := make(chan *agent.Report)
		go func() {
			r, err := a.Run(t.Context())
			if err != nil {
				t.Error(err)
			}
			done <- r
		}()
		wait(t, "half of the flows", func() bool { return a.Report().Flow.Flows > flows })
		a.GoBackTo(must(agent.NewModel(to)))
		src.pause.Store(false)
		r := <-done
		byA := strings.Count(out.String(), `"label":"a`)
		if want := map[bool]uint64{true: flows + 1}[contracts]; r.Withdrawn != want || byA != 0 || r.Records != 2*flows-want {
			t.Errorf("contracts %v: %d withdrawn, want %d; %d records, %d of the model that was returned from", contracts, r.Withdrawn, want, r.Records, byA)
		}
	}
}

// A card that is told to warn only runs what is too slow, and says so.
func TestWarnOnly(t *testing.T) {
	s := newSigning(t)
	s.config.Probation.Rate, s.config.Probation.OverBudget = 1e9, "warn"
	s.write(t, s.config.Bundle, s.signed(t, 0, "a", 10))
	_, log, _ := watchedAgent(t, &s.config, agent.Options{})
	wait(t, "said", func() bool { return strings.Contains(log.String(), "too slow: it takes") })
	if _, err := os.Stat(filepath.Join(s.dir, "state.json.last-good")); err != nil {
		t.Error(err)
	}
}
