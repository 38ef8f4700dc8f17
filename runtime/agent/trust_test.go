package agent_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nepcoc/internal/files"
	"nepcoc/internal/locked"
	"nepcoc/internal/testbundle"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/trust"
)

// signing makes the files of a service that trusts: a root key, a list with a signer and a revoked key.
type signing struct {
	dir                             string
	root, signer, revoked, stranger ed25519.PrivateKey
	config                          agent.Config
}

func newSigning(t *testing.T) *signing {
	key := func(n byte) ed25519.PrivateKey {
		return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
	}
	s := &signing{dir: t.TempDir(), root: key(1), signer: key(2), revoked: key(3), stranger: key(4), config: agent.DefaultConfig()}
	file := func(name string) string { return filepath.Join(s.dir, name) }
	s.write(t, file("root.pub"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(s.root.Public()))}))
	l := trust.KeyList{Serial: 2}
	l.Revoke(s.revoked.Public().(ed25519.PublicKey), "stolen")
	if err := l.Add("signer", s.signer.Public().(ed25519.PublicKey)); err != nil {
		t.Fatal(err)
	}
	s.write(t, file("keys"), must(l.Sign(s.root)))
	s.config.Bundle, s.config.TrustedKeys, s.config.KeyList, s.config.State = file("model.nepco"), []string{file("root.pub")}, file("keys"), file("state.json")
	s.config.Probation.Time = 0 // what runs is good
	return s
}

func (s *signing) write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := files.Write(name, data); err != nil {
		t.Fatal(err)
	}
}

// watchedAgent runs an agent that captures nothing and watches its bundle.
func watchedAgent(t *testing.T, c *agent.Config, o agent.Options) (*agent.Agent, *locked.Buffer, chan os.Signal) {
	m, err := c.LoadStart()
	for end := time.Now().Add(2 * time.Minute); err != nil && strings.Contains(err.Error(), tooLong) && time.Now().Before(end); {
		m, err = c.LoadStart()
	}
	if err == nil {
		err = c.Remember(m)
	}
	if err != nil {
		t.Fatal(err)
	}
	log := new(locked.Buffer)
	ctx, stop := context.WithCancel(t.Context())
	idle := generate(func(uint64, *capture.Frame) error {
		if ctx.Err() != nil {
			return io.EOF
		}
		time.Sleep(time.Millisecond)
		return capture.ErrEmpty
	})
	if o.Sources == nil {
		o.Sources = []capture.Source{idle}
	}
	if o.Sink == nil {
		o.Sink = io.Discard
	}
	o.Model, o.Workers, o.FlowsPerWorker, o.Queue, o.Log = m, 1, 16, 4, slog.New(slog.NewTextHandler(log, nil))
	a, err := agent.New(o)
	if err != nil {
		t.Fatal(err)
	}
	hup := make(chan os.Signal)
	var running sync.WaitGroup
	running.Go(func() { a.Watch(ctx, c, hup, 5*time.Millisecond) })
	running.Go(func() { a.Run(ctx) })
	t.Cleanup(func() { stop(); running.Wait(); a.Close() })
	return a, log, hup
}

// tooLong is said of a load that took longer than it may. Where that is a second, one of a machine that stands still may.
const tooLong = "takes longer than"

// taken writes a bundle until something is so: again, where it was refused because its load took too long.
func (s *signing) taken(t *testing.T, a *agent.Agent, log *locked.Buffer, data []byte, what string, so func() bool) {
	t.Helper()
	from := len(log.String())
	s.write(t, s.config.Bundle, data)
	wait(t, what, func() bool {
		if text := log.String(); strings.Contains(text[from:], tooLong) {
			from = len(text)
			s.write(t, s.config.Bundle, data)
		}
		return so()
	})
}

// wait waits until something is so.
func wait(t *testing.T, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !so(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("2 minutes later not yet: %s", what)
		}
	}
}

// What is put in the place of a bundle by somebody else, or by mistake, is refused by name, and the agent goes on with what it has. What the
// self-test and the start say of it is the same. Behind it, a good bundle is taken.
func TestReplacedByOthers(t *testing.T) {
	s := newSigning(t)
	b, other := testBundle(t, 0, "a"), testBundle(t, 1, "b")
	wrong := testBundle(t, 0, "c")
	wrong.Golden[0].Logits[0][0] ^= 1
	encode := func(b *bundle.Bundle, key ed25519.PrivateKey, what bundle.Statement) []byte {
		return must(bundle.Encode(b, bundle.Options{Key: key, Statement: what}))
	}
	next := encode(other, s.signer, bundle.Statement{Serial: 11})
	hour := func(n time.Duration) time.Time { return time.Now().Add(n * time.Hour).Truncate(time.Second) }
	path := s.config.Bundle
	s.write(t, path, encode(b, s.signer, bundle.Statement{Serial: 10}))
	// The rate of flows at which the two good ones are fast enough and a third isn't, by far.
	slow := must(testbundle.Slow(1, "b", 3500, 1))
	fast := max(must(agent.NewModel(b)).PerFlow(), must(agent.NewModel(other)).PerFlow())
	s.config.Probation.Rate = s.config.Probation.Budget / math.Sqrt(fast.Seconds()*must(agent.NewModel(slow)).PerFlow().Seconds())
	a, log, _ := watchedAgent(t, &s.config, agent.Options{})
	put := func(data []byte) func() error { return func() error { return files.Write(path, data) } }
	for _, tc := range []struct {
		name   string
		put    func() error
		want   string
		proved bool // found out when it is run, which the self-test does itself
	}{
		{"unsigned", put(encode(other, nil, bundle.Statement{})), "not signed", false},
		{"another key", put(encode(other, s.stranger, bundle.Statement{Serial: 11})), "not a trusted key", false},
		{"the root's", put(encode(other, s.root, bundle.Statement{Serial: 11})), "not a trusted key", false},
		{"a revoked key", put(encode(other, s.revoked, bundle.Statement{Serial: 11})), "revoked: stolen", false},
		{"lower serial", put(encode(other, s.signer, bundle.Statement{Serial: 9})), "serial 10 ran here before", false},
		{"no serial", put(encode(other, s.signer, bundle.Statement{})), "no serial", false},
		{"the serial of another", put(encode(other, s.signer, bundle.Statement{Serial: 10})), "another bundle", false},
		{"expired", put(encode(other, s.signer, bundle.Statement{Serial: 11, Expires: hour(-1)})), "expired", false},
		{"not yet", put(encode(other, s.signer, bundle.Statement{Serial: 11, NotBefore: hour(2)})), "is for use from", false},
		{"a bit of its head", put(flipped(next, 3)), "not a bundle", false},
		{"a bit of its program", put(flipped(next, len(next)/3)), "copy the file again", false},
		{"a bit of its signature", put(flipped(next, len(next)-50)), "not a signature of this bundle", false},
		{"a bit of its serial", put(flipped(next, len(next)-24)), "not a signature of this bundle", false},
		{"cut", put(next[:len(next)-1]), "cut off", false},
		{"empty", put(nil), "not a bundle", false},
		{"no bundle", put([]byte("GIF89a")), "not a bundle", false},
		{"another CPU's numbers", put(encode(wrong, s.signer, bundle.Statement{Serial: 11})), "other logits than the compiler", true},
		{"too slow", put(encode(slow, s.signer, bundle.Statement{Serial: 11})), "too slow: it takes", true},
		{"a folder", func() error { return os.Mkdir(path, 0o755) }, "is a folder", false},
		{"a link to nothing", func() error { return os.Symlink("nowhere", path) }, "", false},
		{"a link to an older one", func() error {
			older := filepath.Join(s.dir, "older")
			if err := os.WriteFile(older, encode(other, s.signer, bundle.Statement{Serial: 9}), 0o644); err != nil {
				return err
			}
			return os.Symlink(older, path)
		}, "serial 10 ran here before", false},
		{"a pipe", func() error { return unix.Mkfifo(path, 0o644) }, "is a named pipe", false},
		{"a large file", func() error {
			if err := os.WriteFile(path, []byte("GIF89a"), 0o644); err != nil {
				return err
			}
			return os.Truncate(path, 1<<30)
		}, "not a bundle", false},
		{"too large a bundle", func() error {
			large := bytes.Clone(next[:64])
			binary.LittleEndian.PutUint64(large[16:], 1<<30)
			if err := os.WriteFile(path, large, 0o644); err != nil {
				return err
			}
			return os.Truncate(path, 1<<30)
		}, "more than the 268435456 bytes", false},
		{"a device", func() error { return os.Symlink("/dev/zero", path) }, "is a device", false},
	} {
		before, refused := a.Model().Digest(), a.Report().SwapsRefused
		logged := len(log.String())
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if err := tc.put(); err != nil {
			t.Fatal(err)
		}
		if tc.want != "" {
			wait(t, tc.name+": refused, and told of as "+tc.want, func() bool {
				return a.Report().SwapsRefused > refused && strings.Contains(log.Since(logged), tc.want)
			})
		}
		_, start := s.config.Load()
		if start == nil || !strings.Contains(start.Error(), tc.want) {
			t.Errorf("%s: the start says %v", tc.name, start)
		}
		if b, err := s.config.ReadBundle(path); err == nil && !tc.proved {
			t.Errorf("%s: the self-test takes it: %v", tc.name, b.Manifest.Name)
		} else if err == nil && tc.name == "too slow" {
			if err := s.config.CheckTime(path, b); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: the self-test says %v", tc.name, err)
			}
		} else if err != nil && start != nil && tc.want != "" && err.Error() != start.Error() {
			t.Errorf("%s: the self-test says %v, the start %v", tc.name, err, start)
		}
		if good, err := s.config.LoadStart(); err != nil || good.Digest() != before || good.Instead() == nil {
			t.Errorf("%s: the last good one does not run in its place: %v", tc.name, err)
		}
		if a.Model().Digest() != before {
			t.Fatalf("%s: it runs", tc.name)
		}
		if state := must(trust.ReadState(s.config.State)); state.Serial != 10 || state.Keys != 2 {
			t.Errorf("%s: remembered %+v", tc.name, state)
		}
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	s.write(t, path, next)
	wait(t, "a newer bundle runs", func() bool { return a.Model().Bundle.Signature.Serial == 11 })
	if state := must(trust.ReadState(s.config.State)); state.Serial != 11 || state.Digest != a.Model().Digest() {
		t.Errorf("remembered %+v", state)
	}
}

// An older bundle comes back with a signed reason only, and not once more behind the next newer one.
func TestRollback(t *testing.T) {
	s := newSigning(t)
	var all [][]byte
	for i, label := range []string{"a", "b", "c"} {
		all = append(all, must(bundle.Encode(testBundle(t, i, label), bundle.Options{Key: s.signer, Statement: bundle.Statement{Serial: uint64(i + 1)}})))
	}
	old := must(bundle.Decode(all[0]))
	s.config.AllowRollback = filepath.Join(s.dir, "back")
	load := func(i int) error {
		s.write(t, s.config.Bundle, all[i])
		m, err := s.config.Load()
		if err == nil {
			err = s.config.Remember(m)
		}
		return err
	}
	for i, step := range []struct {
		bundle int
		want   string
	}{{0, ""}, {1, ""}, {0, "serial 2 ran here before"}, {0, ""}, {0, ""}, {2, ""}, {1, "serial 3 ran here before"}, {0, "serial 3 ran here before"}, {2, ""}} {
		if i == 3 { // until now there was no file, and so no reason
			s.write(t, s.config.AllowRollback, must(trust.Rollback{From: 2, To: 1, Digest: old.Digest.String(), Reason: "r"}.Sign(s.signer)))
		}
		err := load(step.bundle)
		if (err == nil) != (step.want == "") || err != nil && !strings.Contains(err.Error(), step.want) {
			t.Errorf("bundle %d: %v, want %q", step.bundle, err, step.want)
		}
	}
	// An older list of keys, with which the revoked key would be good again.
	l := trust.KeyList{Serial: 1}
	if err := l.Add("revoked", s.revoked.Public().(ed25519.PublicKey)); err != nil {
		t.Fatal(err)
	}
	s.write(t, s.config.KeyList, must(l.Sign(s.root)))
	if err := load(2); err == nil || !strings.Contains(err.Error(), "a list of serial 2 was read here before") {
		t.Errorf("an older list: %v", err)
	}
	// What can't be remembered isn't run.
	s = newSigning(t)
	s.config.State = filepath.Join(s.dir, "no", "state.json")
	s.write(t, s.config.Bundle, all[0])
	m := must(s.config.Load())
	if err := s.config.Remember(m); err == nil || !strings.Contains(err.Error(), "can't be remembered") {
		t.Errorf("no place for the state: %v", err)
	}
}

// A pipe in the key list's place, which nobody writes to, is named, and doesn't keep the next bundle from running.
func TestPipeForKeyList(t *testing.T) {
	s := newSigning(t)
	first, second := testBundle(t, 0, "a"), testBundle(t, 1, "b")
	sign := func(b *bundle.Bundle, serial uint64) []byte {
		return must(bundle.Encode(b, bundle.Options{Key: s.signer, Statement: bundle.Statement{Serial: serial}}))
	}
	s.write(t, s.config.Bundle, sign(first, 1))
	s.config.Probation.Load = time.Second
	a, log, _ := watchedAgent(t, &s.config, agent.Options{})
	list := must(os.ReadFile(s.config.KeyList))
	if err := os.Remove(s.config.KeyList); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(s.config.KeyList, 0o644); err != nil { // opening it would hang
		t.Fatal(err)
	}
	s.taken(t, a, log, sign(second, 2), "named", func() bool { return strings.Contains(log.String(), "is a named pipe") })
	if err := os.Remove(s.config.KeyList); err != nil {
		t.Fatal(err)
	}
	s.write(t, s.config.KeyList, list)
	s.taken(t, a, log, sign(second, 3), "the next bundle runs", func() bool { return a.Model().Bundle.Signature.Serial == 3 })
}

// flipped is data with one bit changed.
func flipped(data []byte, at int) []byte {
	c := bytes.Clone(data)
	c[at] ^= 0x10
	return c
}

// A pipe in the place of a file that trust is read from is named at once, instead of being waited for.
func TestPipeInTrust(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for field, set := range map[string]func(*agent.Config){
		"trusted_keys": func(c *agent.Config) { c.TrustedKeys = []string{pipe} },
		"key_list":     func(c *agent.Config) { c.KeyList = pipe },
		"state":        func(c *agent.Config) { c.State = pipe },
	} {
		s := newSigning(t)
		s.write(t, s.config.Bundle, s.signed(t, 0, "a", 10))
		set(&s.config)
		if _, err := s.config.LoadStart(); err == nil || !strings.Contains(err.Error(), field+": "+pipe+": is a named pipe") {
			t.Errorf("%s: %v", field, err)
		}
	}
	s := newSigning(t)
	s.write(t, s.config.Bundle, s.signed(t, 0, "a", 10))
	// Where the last good bundle is kept: it is moved to where the one before lies, and kept anew.
	if err := unix.Mkfifo(s.config.State+".last-good", 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.config.Remember(must(s.config.LoadStart())) }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("a pipe in the place of the last good bundle is waited for")
	}
	if info, err := os.Stat(s.config.State + ".last-good"); err != nil || !info.Mode().IsRegular() {
		t.Errorf("the last good one: %v, %v", info, err)
	}
	s.config.AllowRollback = pipe // no reason is needed
	if _, notes, err := s.config.Preflight(); err != nil || !strings.Contains(strings.Join(notes, "\n"), "allow_rollback: "+pipe+": is a named pipe") {
		t.Errorf("%v, %q", err, notes)
	}
}
