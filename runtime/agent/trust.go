package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"sync"
	"time"

	"nepcoc/internal/files"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/trust"
)

// trust reads what bundles are held to: nil where every bundle is taken. All that can't be read is in the error, but for the reason to go back: one that is none
// allows nothing, and keeps nobody from running what needs none. Its signer may have been revoked since, which must be heeded all the same.
func (c *Config) trust() (*trust.Policy, error) {
	p, err := c.signers()
	if p == nil || err != nil || c.AllowRollback == "" {
		return p, err
	}
	if p.NoRollback = noPipe(c.AllowRollback); p.NoRollback == nil {
		p.Rollback, p.NoRollback = files.Read(c.AllowRollback, trust.ReadRollback(p.Good()...))
	}
	switch {
	case errors.Is(p.NoRollback, fs.ErrNotExist): // whoever places reasons does so when there is one
		p.NoRollback = nil
	case p.NoRollback != nil:
		p.NoRollback = fmt.Errorf("allow_rollback: %w", barred(c.AllowRollback, p.NoRollback))
	}
	return p, nil
}

// signers reads whose bundles are taken, and what is remembered of them.
func (c *Config) signers() (*trust.Policy, error) {
	if len(c.TrustedKeys) == 0 {
		return nil, nil
	}
	var errs []error
	bad := func(field string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", field, err))
		}
	}
	p := &trust.Policy{Now: time.Now()}
	for _, file := range c.TrustedKeys {
		if c.State != "" {
			if err := noPipe(file); err != nil {
				bad("trusted_keys", err)
				continue
			}
		}
		k, err := files.Read(file, bundle.ReadPublicKey)
		if bad("trusted_keys", barred(file, err)); err == nil {
			p.Keys = append(p.Keys, k)
		}
	}
	if c.State != "" {
		var err error
		p.State, err = c.readState()
		bad("state", err)
	}
	if c.KeyList != "" {
		bad("key_list", noPipe(c.KeyList))
	}
	if c.KeyList != "" && len(errs) == 0 {
		l, err := files.Read(c.KeyList, trust.ReadKeyList(p.Keys...))
		if err == nil && l.Serial < p.State.Keys {
			err = fmt.Errorf("%s: has serial %d, and a list of serial %d was read here before: put the newer one there", c.KeyList, l.Serial, p.State.Keys)
		}
		if bad("key_list", barred(c.KeyList, err)); err == nil {
			p.Use(l)
		}
	}
	return p, errors.Join(errs...)
}

// noPipe refuses a named pipe or the like, whose reading may never end.
func noPipe(name string) error {
	info, err := os.Stat(name)
	if err != nil || info.Mode()&(os.ModeNamedPipe|os.ModeSocket) == 0 {
		return nil // whoever reads it says what else is wrong
	}
	return fmt.Errorf("%s: is %s, not a file", name, files.KindOf(info.Mode()))
}

func (c *Config) readState() (trust.State, error) {
	if err := c.stateFile(); err != nil {
		return trust.State{}, err
	}
	s, err := trust.ReadState(c.State)
	return s, barred(c.State, err)
}

// stateFile refuses what nothing can be remembered in: writing to a FIFO, for one, waits for its reader.
func (c *Config) stateFile() error {
	if info, err := os.Stat(c.State); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s: is %s, not a file", c.State, files.KindOf(info.Mode()))
	}
	return nil
}

// CheckState says what keeps the state from being remembered in its file; what is said of it where keys are trusted is not said again.
func (c *Config) CheckState() error {
	if c.State == "" || c.onlyRead || len(c.TrustedKeys) > 0 {
		return nil
	}
	if err := c.stateFile(); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	return nil
}

// stateMu is held while a state file is read and written.
var stateMu sync.Mutex

// OnlyRead has what is remembered read and never written, nor bundles kept: for a run that is no service's, such as one on a capture.
func (c *Config) OnlyRead() { c.onlyRead = true }

// update changes the state file, where there is one and something changes. Where no keys are trusted a file that can't be read is written anew.
func (c *Config) update(change func(*trust.State)) error {
	if c.State == "" || c.onlyRead {
		return nil
	}
	if err := c.stateFile(); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	stateMu.Lock()
	defer stateMu.Unlock()
	before, err := c.readState()
	if err != nil && len(c.TrustedKeys) > 0 {
		return fmt.Errorf("state: %w", err)
	}
	after := before
	if change(&after); reflect.DeepEqual(before, after) {
		return nil
	}
	if err := after.Write(c.State); err != nil {
		return fmt.Errorf("state: %w: what runs can't be remembered, and older bundles could come back", barred(c.State, err))
	}
	return nil
}

// remember writes to the state file that a model has stood its trial.
func (c *Config) remember(m *Model) error { return c.update(stood(m)) }

func stood(m *Model) func(*trust.State) {
	return func(s *trust.State) {
		if p := m.trusted; p != nil {
			now := *p
			now.State = *s
			*s = now.After(m.Bundle.Signature, m.Bundle.Digest)
		}
		if s.Trial = nil; s.Returned != nil && s.Returned.Digest == m.Digest() {
			s.Returned = nil
		}
	}
}

// RememberList writes to the state file that a key list was read, whatever becomes of the bundle: it may be the one that revokes the bundle that is there. A list that
// can't be read is no error here: whoever loads the bundle says so.
func (c *Config) RememberList() error {
	p, err := c.policy()
	if err != nil || p == nil {
		return nil
	}
	return c.see(p)
}

func (c *Config) see(p *trust.Policy) error {
	_, err := c.within("state", func(*reading) (*Model, error) {
		return nil, c.update(func(s *trust.State) {
			now := *p
			now.State = *s
			*s = now.Seen()
		})
	})
	return err
}

// begin writes to the state file that a model's trial begins: its serial counts only once it has stood it, so that what is returned to isn't too old.
func (c *Config) begin(m *Model, starts int) error { return c.update(begun(m, starts)) }

func begun(m *Model, starts int) func(*trust.State) {
	return func(s *trust.State) {
		if p := m.trusted; p != nil {
			now := *p
			now.State = *s
			*s = now.Seen()
		}
		var modified time.Time
		if m.file != nil {
			modified = m.file.ModTime().UTC()
		}
		if t := s.Trial; t != nil && t.Digest == m.Digest() && t.Modified.Equal(modified) && starts > 0 {
			starts += t.Starts
		}
		s.Trial = &trust.Trial{Digest: m.Digest(), Modified: modified, Starts: starts}
	}
}

// Remember writes to the state file what an agent begins to run at its start: m, which LoadStart has loaded. A bundle that is not the last good one, where
// there is one to return to, begins its trial. Nothing is written where nothing changes.
func (c *Config) Remember(m *Model) error {
	switch {
	case m.instead != nil:
		if m.trusted != nil {
			if err := c.see(m.trusted); err != nil {
				m.note = err.Error() // without a bundle nothing would be seen
			}
		}
		return nil
	case c.goodAtOnce(m):
		err := c.remember(m)
		if kept := c.keepGood(m); err == nil && kept != nil {
			m.note = fmt.Sprintf("%v: the last good bundle can't be kept", kept)
		}
		return err
	}
	m.onTrial = true
	m.barred.Store(c.Probation.Time > 0)
	return c.begin(m, 1)
}

// goodAtOnce tells whether a model has no trial to stand at a start.
func (c *Config) goodAtOnce(m *Model) bool {
	return c.State == "" || c.Probation.Time == 0 || sameDigest(c.goodFile(0), m.Bundle.Digest) || !exists(c.goodFile(0)) && !exists(c.goodFile(1))
}

// checkState asks whether Remember would succeed.
func (c *Config) checkState(m *Model) error {
	if c.State == "" || c.onlyRead || m.instead != nil {
		return nil
	}
	before, err := c.readState()
	if err != nil && len(c.TrustedKeys) > 0 {
		return nil // said with what is trusted
	}
	change := begun(m, 1)
	if c.goodAtOnce(m) {
		change = stood(m)
	}
	after := before
	if change(&after); reflect.DeepEqual(before, after) {
		return nil
	}
	return files.Writable(c.State)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// trustFiles are those that say which bundles may run.
func (c *Config) trustFiles() (names []string) {
	for _, name := range append([]string{c.KeyList, c.AllowRollback}, c.TrustedKeys...) {
		if name != "" {
			names = append(names, name)
		}
	}
	return names
}

// keyFiles are the files that trust is read from.
func (c *Config) keyFiles() []string {
	return append([]string{c.KeyList, c.AllowRollback, c.State, c.goodFile(0), c.goodFile(1)}, c.TrustedKeys...)
}
