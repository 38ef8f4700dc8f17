// Package trust decides which bundles an agent may run: those that a trusted key signed, that are within their time, and that are
// no older than what ran here before. It never looks into a bundle: signature and digest are all that it is given, so that a stranger's file
// is refused before anything of it is decoded.
package trust

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"nepcoc/runtime/bundle"
)

// Policy is what bundles are held to.
type Policy struct {
	// Keys may sign bundles.
	Keys []ed25519.PublicKey
	// Revoked are keys that may no more, by their bytes, with the reasons.
	Revoked map[string]string
	// State is what ran here before; the zero value knows of nothing.
	State State
	// Rollback allows one bundle below State's serial; nil: none.
	Rollback *Rollback
	// Now is the time of day.
	Now time.Time

	list uint64 // serial of the key list that was read
}

// Use makes the keys of a list those that may sign.
func (p *Policy) Use(l *KeyList) {
	p.Keys, p.Revoked, p.list = nil, make(map[string]string, len(l.Revoked)), l.Serial
	for _, k := range l.Keys {
		p.Keys = append(p.Keys, k.Public)
	}
	for _, k := range l.Revoked {
		p.Revoked[string(k.Public)] = k.Reason
	}
}

// Good are the keys that may sign and aren't revoked.
func (p *Policy) Good() (good []ed25519.PublicKey) {
	for _, k := range p.Keys {
		if _, revoked := p.Revoked[string(k)]; !revoked {
			good = append(good, k)
		}
	}
	return good
}

// After is the state once a bundle has run that was signed as s says (nil: not).
func (p *Policy) After(s *bundle.Signature, d bundle.Digest) State {
	after := p.State
	if s != nil && s.Serial > after.Serial {
		after.Serial, after.Digest = s.Serial, d.String()
	}
	after.Keys = max(after.Keys, p.list)
	return after
}

// Accept says all that keeps a bundle with this signature (nil: none) and digest from being run.
func (p *Policy) Accept(s *bundle.Signature, d bundle.Digest) error {
	if s == nil {
		return errors.New("bundle is not signed, and trusted_keys asks for it: nepcoc sign BUNDLE --key KEY")
	}
	return errors.Join(append([]error{p.signer(s.Key)}, p.within(s.Statement), p.serial(s.Serial, d))...)
}

// signer says why a key may not sign.
func (p *Policy) signer(key ed25519.PublicKey) error {
	if reason, revoked := p.Revoked[string(key)]; revoked {
		return fmt.Errorf("bundle is signed by %s, which was revoked: %s: sign it with a key that is good", bundle.Fingerprint(key), reason)
	}
	for _, k := range p.Keys {
		if k.Equal(key) {
			return nil
		}
	}
	return fmt.Errorf("bundle is signed by %s, which is not a trusted key", bundle.Fingerprint(key))
}

// within holds a statement to the time of day.
func (p *Policy) within(s bundle.Statement) error {
	switch now := p.Now.UTC(); {
	case !s.NotBefore.IsZero() && now.Before(s.NotBefore):
		return fmt.Errorf("bundle is for use from %s on, and here it is %s: wait, or set this machine's clock", stamp(s.NotBefore), stamp(now))
	case !s.Expires.IsZero() && !now.Before(s.Expires):
		return fmt.Errorf("bundle expired at %s, and here it is %s: sign it again with a later --expires, or set this machine's clock", stamp(s.Expires), stamp(now))
	}
	return nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// serial holds a bundle to what ran before.
func (p *Policy) serial(serial uint64, d bundle.Digest) error {
	before := p.State
	switch {
	case serial > before.Serial, before.Serial == 0, serial == before.Serial && d.String() == before.Digest:
		return nil
	case serial == before.Serial:
		return fmt.Errorf("bundle has serial %d, which another bundle, %.12s, had here before: sign it with a higher --serial", serial, before.Digest)
	}
	if p.Rollback != nil {
		err := p.Rollback.allows(before.Serial, serial, d)
		if err == nil {
			return nil
		}
		return fmt.Errorf("%s: %w", olderThan(serial, before.Serial), err)
	}
	return fmt.Errorf("%s: sign it with a higher --serial, or allow this once with a signed reason (nepcoc sign BUNDLE --rollback-from %d --reason TEXT, then allow_rollback)",
		olderThan(serial, before.Serial), before.Serial)
}

func olderThan(serial, before uint64) string {
	if serial == 0 {
		return fmt.Sprintf("bundle has no serial, and serial %d ran here before", before)
	}
	return fmt.Sprintf("bundle has serial %d, and serial %d ran here before", serial, before)
}
