package agent_test

import (
	"bytes"
	"crypto/ed25519"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nepcoc/runtime/agent"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/trust"
)

// list puts a key list in place: signer and stranger may sign, but for those that are revoked.
func (s *signing) list(t *testing.T, serial uint64, revoked ...ed25519.PrivateKey) {
	t.Helper()
	l := trust.KeyList{Serial: serial}
	for _, k := range revoked {
		l.Revoke(k.Public().(ed25519.PublicKey), "stolen")
	}
	for name, k := range map[string]ed25519.PrivateKey{"signer": s.signer, "stranger": s.stranger} {
		l.Add(name, k.Public().(ed25519.PublicKey))
	}
	s.write(t, s.config.KeyList, must(l.Sign(s.root)))
}

// by is a bundle signed by a key.
func by(t *testing.T, key ed25519.PrivateKey, number int, prefix string, serial uint64) []byte {
	t.Helper()
	return must(bundle.Encode(testBundle(t, number, prefix), bundle.Options{Key: key, Statement: bundle.Statement{Serial: serial}}))
}

// A list that revokes what runs is remembered, though its bundle is refused then: the list before, in which the key is good, does not come back.
func TestRevocationIsRemembered(t *testing.T) {
	s := newSigning(t)
	keys := func() uint64 { return must(trust.ReadState(s.config.State)).Keys }
	s.list(t, 3)
	s.write(t, s.config.Bundle, s.signed(t, 0, "a", 10))
	t.Run("running", func(t *testing.T) {
		a, log, _ := watchedAgent(t, &s.config, agent.Options{})
		s.list(t, 4, s.signer)
		wait(t, "a problem", func() bool { return strings.Contains(log.String(), "there is no bundle to return to") })
		if keys() != 4 {
			t.Errorf("the list of serial 4 was read, and %d is remembered", keys())
		}
		if text := log.String(); !strings.Contains(text, "the last good bundle can't run in its place") || !strings.Contains(text, "revoked: stolen") {
			t.Errorf("why the last good one isn't returned to: %s", text)
		}
		s.list(t, 3)
		wait(t, "the older list is refused", func() bool { return strings.Contains(log.String(), "a list of serial 4 was read here before") })
		if a.Health().Status != "degraded" {
			t.Errorf("%+v", a.Health())
		}
	})
	// At a start that finds nothing to run.
	s.list(t, 5, s.signer)
	if m, err := s.config.LoadStart(); err == nil || !strings.Contains(err.Error(), "the last good bundle can't run in its place") {
		t.Errorf("%v, %v", m, err)
	}
	if err := s.config.RememberList(); err != nil || keys() != 5 {
		t.Errorf("remembered %d, %v", keys(), err)
	}
	// At one that runs the last good bundle.
	s.list(t, 6)
	s.write(t, s.config.Bundle, by(t, s.stranger, 0, "a", 11))
	if err := s.config.Remember(must(s.config.Load())); err != nil {
		t.Fatal(err)
	}
	s.list(t, 7)
	s.write(t, s.config.Bundle, nil)
	m := must(s.config.LoadStart())
	if err := s.config.Remember(m); err != nil || m.Instead() == nil || keys() != 7 {
		t.Errorf("remembered %d, %v", keys(), err)
	}
}

// A signed reason to go back that lies there still, by a key that is revoked now, keeps neither the revocation from being heeded and remembered nor a good bundle from
// running: it is no reason any more, which is said.
func TestRevokedReason(t *testing.T) {
	s := newSigning(t)
	s.config.AllowRollback = filepath.Join(s.dir, "back.note")
	s.list(t, 3)
	s.write(t, s.config.Bundle, s.signed(t, 0, "a", 10))
	s.write(t, s.config.AllowRollback, must(trust.Rollback{From: 11, To: 10, Digest: bundle.Digest{1}.String(), Reason: "r"}.Sign(s.signer)))
	a, log, _ := watchedAgent(t, &s.config, agent.Options{})
	s.list(t, 4, s.signer)
	wait(t, "a problem", func() bool { return strings.Contains(log.String(), "there is no bundle to return to") })
	if keys := must(trust.ReadState(s.config.State)).Keys; keys != 4 {
		t.Errorf("the list of serial 4 was read, and %d is remembered", keys)
	}
	s.write(t, s.config.Bundle, by(t, s.stranger, 1, "b", 11))
	wait(t, "a bundle by a good key", func() bool { return a.Model().Bundle.Signature.Serial == 11 })
	if _, notes, err := s.config.Preflight(); err != nil || !strings.Contains(strings.Join(notes, "\n"), "allow_rollback: "+s.config.AllowRollback+": none of the trusted keys signed it") {
		t.Errorf("a start: %v, %q", err, notes)
	}
	wait(t, "it is remembered", func() bool { return must(trust.ReadState(s.config.State)).Serial == 11 })
	s.write(t, s.config.Bundle, by(t, s.stranger, 0, "a", 10))
	if _, err := s.config.Load(); err == nil || !strings.Contains(err.Error(), "serial 11 ran here before, and no reason holds to go back: allow_rollback: ") {
		t.Errorf("an older one: %v", err)
	}
}

// While the bundle's file is gone a revocation is heeded, too.
func TestRevokedWithoutFile(t *testing.T) {
	s := newSigning(t)
	s.list(t, 3)
	s.write(t, s.config.Bundle, s.signed(t, 0, "a", 10))
	a, log, _ := watchedAgent(t, &s.config, agent.Options{})
	if err := os.Remove(s.config.Bundle); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond) // it looks every 5 ms
	if h := a.Health(); h.Status != "ok" {
		t.Errorf("gone, as between two renames: %+v", h)
	}
	s.list(t, 4, s.signer)
	wait(t, "a problem", func() bool { return strings.Contains(log.String(), "there is no bundle to return to") })
}

// A key is changed as documented: the same bundle is signed by the new key, then the old key revoked. The bundle runs on, acts on, and is the last good one with its
// new signature; the one before it stays.
func TestKeyRotation(t *testing.T) {
	s := newSigning(t)
	s.list(t, 3)
	before, old, anew := by(t, s.stranger, 1, "b", 9), by(t, s.signer, 0, "a", 10), by(t, s.stranger, 0, "a", 11)
	s.write(t, s.config.Bundle, before)
	a, _, _ := watchedAgent(t, &s.config, agent.Options{})
	s.write(t, s.config.Bundle, old)
	serial := func(n uint64) {
		t.Helper()
		wait(t, "the next bundle", func() bool { return a.Model().Bundle.Signature.Serial == n })
	}
	serial(10)
	s.write(t, s.config.Bundle, anew)
	serial(11)
	kept := func(name string) []byte {
		data, _ := os.ReadFile(s.config.State + name)
		return data
	}
	wait(t, "the last good one has the new signature", func() bool { return bytes.Equal(kept(".last-good"), anew) })
	if !bytes.Equal(kept(".last-good.1"), before) {
		t.Error("the one before it is another")
	}
	s.list(t, 4, s.signer)
	wait(t, "the list is read", func() bool { return must(trust.ReadState(s.config.State)).Keys == 4 })
	time.Sleep(50 * time.Millisecond)
	if h := a.Health(); a.Model().Barred() || h.Status != "ok" {
		t.Errorf("barred: %v; %+v", a.Model().Barred(), h)
	}
	if err := os.Remove(s.config.Bundle); err != nil {
		t.Fatal(err)
	}
	if m, err := s.config.LoadStart(); err != nil || m.Bundle.Signature.Serial != 11 {
		t.Errorf("the last good one at a start: %v, %v", m, err)
	}
}

// While a bundle is on trial, it is well again once what was put in its place is gone, and a new signature of it is taken up.
func TestTrialAgain(t *testing.T) {
	s := newSigning(t)
	s.config.Probation.Time = time.Hour
	s.list(t, 3)
	s.write(t, s.config.Bundle, s.signed(t, 0, "a", 10))
	a, _, _ := watchedAgent(t, &s.config, agent.Options{})
	two := s.signed(t, 1, "b", 11)
	s.write(t, s.config.Bundle, two)
	wait(t, "on trial", func() bool { return a.Health().OnTrial })
	s.write(t, s.config.Bundle, two[:len(two)-1])
	wait(t, "refused", func() bool { return a.Health().Status == "degraded" })
	s.write(t, s.config.Bundle, two)
	wait(t, "well again", func() bool { return a.Health().Status == "ok" })
	if !a.Health().OnTrial {
		t.Error("on trial no more")
	}
	s.write(t, s.config.Bundle, by(t, s.stranger, 1, "b", 12))
	wait(t, "its new signature", func() bool { return a.Model().Bundle.Signature.Serial == 12 })
	s.list(t, 4, s.signer)
	wait(t, "the list is read", func() bool { return must(trust.ReadState(s.config.State)).Keys == 4 })
	time.Sleep(50 * time.Millisecond)
	if h := a.Health(); h.Status != "ok" || a.Model().Bundle.Signature.Serial != 12 {
		t.Errorf("%+v", h)
	}
}

// A run that only reads what is remembered holds bundles to it, and leaves it as it is.
func TestOnlyRead(t *testing.T) {
	s := newSigning(t)
	s.write(t, s.config.Bundle, s.signed(t, 0, "a", 10))
	if err := s.config.Remember(must(s.config.Load())); err != nil {
		t.Fatal(err)
	}
	files := func() string {
		var all []byte
		for _, name := range must(os.ReadDir(s.dir)) {
			if strings.HasPrefix(name.Name(), "state.json") {
				all = append(append(all, name.Name()...), must(os.ReadFile(filepath.Join(s.dir, name.Name())))...)
			}
		}
		return string(all)
	}
	before := files()
	s.config.OnlyRead()
	s.write(t, s.config.Bundle, s.signed(t, 1, "b", 11))
	a, _, _ := watchedAgent(t, &s.config, agent.Options{Lossless: true})
	s.write(t, s.config.Bundle, s.signed(t, 2, "c", 12))
	wait(t, "the next one", func() bool { return a.Model().Bundle.Signature.Serial == 12 })
	s.write(t, s.config.Bundle, s.signed(t, 2, "d", 9))
	wait(t, "an older one is refused", func() bool { return a.Health().Status == "degraded" })
	if files() != before {
		t.Error("what is remembered has changed")
	}
}

// What is remembered is written into no file that is read, and a start that could not write it is refused by check-config, too.
func TestStateChecked(t *testing.T) {
	for name, set := range map[string]func(*signing){
		"the bundle":         func(s *signing) { s.config.State = s.config.Bundle },
		"its last good one":  func(s *signing) { s.config.Bundle = s.config.State + ".last-good" },
		"the one before":     func(s *signing) { s.config.Bundle = s.config.State + ".last-good.1" },
		"the list":           func(s *signing) { s.config.State = s.config.KeyList },
		"a key":              func(s *signing) { s.config.State = s.config.TrustedKeys[0] },
		"a link to the list": func(s *signing) { os.Symlink(s.config.KeyList, s.config.State) },
	} {
		s := newSigning(t)
		set(s)
		s.write(t, s.config.Bundle, s.signed(t, 0, "a", 10))
		if err := s.config.Overwrites(); err == nil || !strings.Contains(err.Error(), "would be written into it") {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := s.config.Preflight(); err == nil || !strings.Contains(err.Error(), "would be written into it") {
			t.Errorf("%s: check-config says %v", name, err)
		}
	}
	s := newSigning(t)
	s.write(t, s.config.Bundle, s.signed(t, 0, "a", 10))
	capture := filepath.Join(s.dir, "traffic.pcap")
	c := s.config
	c.State = capture
	if err := c.Overwrites(capture); err == nil {
		t.Error("a capture would be written over")
	}
	if _, _, err := s.config.Preflight(); err != nil {
		t.Fatal(err)
	}
	s.config.State = filepath.Join(s.dir, "no", "state.json")
	if _, _, err := s.config.Preflight(); err == nil || !strings.Contains(err.Error(), "state: ") || !strings.Contains(err.Error(), "there is no folder") {
		t.Errorf("no folder: %v", err)
	}
	s.write(t, s.config.Bundle, nil) // both are said
	if _, _, err := s.config.Preflight(); err == nil || !strings.Contains(err.Error(), "there is no folder") || !strings.Contains(err.Error(), "not a bundle") {
		t.Errorf("no folder, and no bundle: %v", err)
	}
}
