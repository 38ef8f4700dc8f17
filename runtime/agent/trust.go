package agent

import (
	"errors"
	"fmt"
	"time"

	"nepcoc/internal/files"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/trust"
)

// trust reads what bundles are held to: nil where every bundle is taken. All that can't be read is in the error.
func (c *Config) trust() (*trust.Policy, error) {
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
		k, err := files.Read(file, bundle.ReadPublicKey)
		if bad("trusted_keys", err); err == nil {
			p.Keys = append(p.Keys, k)
		}
	}
	if c.State != "" {
		var err error
		p.State, err = trust.ReadState(c.State)
		bad("state", err)
	}
	if c.KeyList != "" && len(errs) == 0 {
		l, err := files.Read(c.KeyList, trust.ReadKeyList(p.Keys...))
		if err == nil && l.Serial < p.State.Keys {
			err = fmt.Errorf("%s: has serial %d, and a list of serial %d was read here before: put the newer one there", c.KeyList, l.Serial, p.State.Keys)
		}
		if bad("key_list", err); err == nil {
			p.Use(l)
		}
	}
	if c.AllowRollback != "" && len(errs) == 0 {
		var err error
		p.Rollback, err = files.Read(c.AllowRollback, trust.ReadRollback(p.Good()...))
		bad("allow_rollback", err)
	}
	return p, errors.Join(errs...)
}

// ReadBundle reads a bundle that this configuration trusts: that is decided by its signature, before anything in it is decoded.
// All that is wrong is in the error, with the keys and with the bundle.
func (c *Config) ReadBundle(path string) (*bundle.Bundle, error) {
	b, _, err := c.readBundle(path)
	return b, err
}

// readBundle is ReadBundle, with what the bundle was held to.
func (c *Config) readBundle(path string) (*bundle.Bundle, *trust.Policy, error) {
	p, wrong := c.trust()
	var refused error
	b, err := files.Read(path, bundle.ReadAccepted(func(s *bundle.Signature, d bundle.Digest) error {
		if refused = wrong; wrong == nil && p != nil {
			refused = inBundle(path, p.Accept(s, d))
		}
		return refused
	}))
	switch {
	case refused != nil:
		return nil, nil, refused
	case err != nil:
		return nil, nil, errors.Join(append(Errors(wrong), err)...)
	}
	return b, p, nil
}

// Remember writes to the state file what now runs. Nothing is written where nothing changes.
func (c *Config) Remember(m *Model) error {
	p := m.trusted
	if p == nil || c.State == "" {
		return nil
	}
	if after := p.After(m.Bundle.Signature, m.Bundle.Digest); after != p.State {
		if err := after.Write(c.State); err != nil {
			return fmt.Errorf("state: %w: what runs can't be remembered, and older bundles could come back", err)
		}
	}
	return nil
}

// keyFiles are the files that trust is read from.
func (c *Config) keyFiles() []string {
	return append([]string{c.KeyList, c.AllowRollback, c.State}, c.TrustedKeys...)
}
