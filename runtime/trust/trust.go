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
	// Rollback allows one bundle below State's serial; nil: none. NoRollback is why what should be one isn't.
	Rollback   *Rollback
	NoRollback error
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

// After is the state once a bundle has run to satisfaction that was signed as s says (nil: not).
func (p *Policy) After(s *bundle.Signature, d bundle.Digest) State {
	after := p.Seen()
	if s != nil && s.Serial > 0 {
		after = after.ran(bundle.Fingerprint(s.Key), s.Serial, d.String())
	}
	return after
}

// Seen is the state once the key list has been read, whatever becomes of a bundle.
func (p *Policy) Seen() State {
	s := p.State
	s.Keys = max(s.Keys, p.list)
	return s
}

// before is the highest serial that ran here, and its bundle's digest. What a revoked key has signed counts for nothing: a thief could else
// keep all later bundles out with the highest number that there is.
func (p *Policy) before() (serial uint64, digest string) {
	if len(p.State.Signers) == 0 {
		return p.State.Serial, p.State.Digest
	}
	revoked := map[string]bool{}
	for k := range p.Revoked {
		revoked[bundle.Fingerprint(ed25519.PublicKey(k))] = true
	}
	for _, r := range p.State.Signers {
		if !revoked[r.Signer] && r.Serial > serial {
			serial, digest = r.Serial, r.Digest
		}
	}
	return serial, digest
}

// Accept says all that keeps a bundle with this signature (nil: none) and digest from being run.
func (p *Policy) Accept(s *bundle.Signature, d bundle.Digest) error {
	if s == nil {
		return errors.New("bundle is not signed, and trusted_keys asks for it: nepcoc sign BUNDLE --key KEY")
	}
	return errors.Join(append([]error{p.Signer(s.Key)}, p.within(s.Statement), p.serial(s.Serial, d))...)
}

// Signer says why a key may not sign.
func (p *Policy) Signer(key ed25519.PublicKey) error {
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
	before, ran := p.before()
	switch {
	case serial > before, before == 0, serial == before && d.String() == ran:
		return nil
	case serial == before:
		return fmt.Errorf("bundle has serial %d, which another bundle, %.12s, had here before: sign it with a higher --serial", serial, ran)
	}
	if p.Rollback != nil {
		err := p.Rollback.allows(before, serial, d)
		if err == nil {
			return nil
		}
		return fmt.Errorf("%s: %w", olderThan(serial, before), err)
	}
	if p.NoRollback != nil {
		return fmt.Errorf("%s, and no reason holds to go back: %w", olderThan(serial, before), p.NoRollback)
	}
	return fmt.Errorf("%s: sign it with a higher --serial, or allow this once with a signed reason (nepcoc sign BUNDLE --rollback-from %d --reason TEXT, then allow_rollback)",
		olderThan(serial, before), before)
}

func olderThan(serial, before uint64) string {
	if serial == 0 {
		return fmt.Sprintf("bundle has no serial, and serial %d ran here before", before)
	}
	return fmt.Sprintf("bundle has serial %d, and serial %d ran here before", serial, before)
}
