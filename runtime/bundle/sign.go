package bundle

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// The signature section: the key, the signature, and the statement where there is one.
const (
	signatureSize = ed25519.PublicKeySize + ed25519.SignatureSize
	statementSize = 3 * 8
)

// The contexts keep a signature over a bundle from meaning anything else; the second is of signatures with a statement.
const (
	signatureContext = "nepco bundle signature v1\n"
	statementContext = "nepco bundle signature v2\n"
)

// Signature is who signed a bundle. Decode has checked that it is the key's
// signature over this very bundle and what is said of it; whether the key is to be trusted is for the
// caller: see package trust.
type Signature struct {
	Key ed25519.PublicKey
	Statement
}

// Statement is what a signer says of a bundle, under the signature. Its zero value says nothing.
type Statement struct {
	// Serial orders the bundles of a service: a higher one replaces a lower one. 0: none.
	Serial uint64
	// The bundle is for use from NotBefore on and before Expires, both in whole seconds; zero: no bound.
	NotBefore, Expires time.Time
}

// Validate tells whether a statement can stand in a bundle.
func (s Statement) Validate() error {
	for _, t := range []struct {
		name string
		at   time.Time
	}{{"not-before", s.NotBefore}, {"expiry", s.Expires}} {
		if !t.at.IsZero() && (t.at.Unix() <= 0 || t.at.Year() > 9999) {
			return fmt.Errorf("%s %v is not within the years 1970 to 9999", t.name, t.at)
		}
	}
	if !s.NotBefore.IsZero() && !s.Expires.IsZero() && s.Expires.Unix() <= s.NotBefore.Unix() {
		return fmt.Errorf("the expiry, %s, does not lie behind not-before, %s", s.Expires.UTC().Format(time.RFC3339), s.NotBefore.UTC().Format(time.RFC3339))
	}
	return nil
}

// bytes are the statement as it is stored and signed, none of one that says nothing: serial, not-before and expiry, the times in
// seconds since 1970, all little-endian, 0 for what isn't said.
func (s Statement) bytes() []byte {
	if s == (Statement{}) {
		return nil
	}
	out := make([]byte, 0, statementSize)
	out = binary.LittleEndian.AppendUint64(out, s.Serial)
	for _, t := range []time.Time{s.NotBefore, s.Expires} {
		seconds := int64(0)
		if !t.IsZero() {
			seconds = t.Unix()
		}
		out = binary.LittleEndian.AppendUint64(out, uint64(seconds))
	}
	return out
}

// parseStatement reads the form that bytes writes.
func parseStatement(raw []byte) (s Statement, err error) {
	if len(raw) == 0 {
		return s, nil
	}
	s.Serial = binary.LittleEndian.Uint64(raw)
	for i, t := range []*time.Time{&s.NotBefore, &s.Expires} {
		if seconds := binary.LittleEndian.Uint64(raw[8+8*i:]); seconds > 0 {
			*t = time.Unix(int64(min(seconds, 1<<62)), 0).UTC()
		}
	}
	if s == (Statement{}) {
		return s, errors.New("section signature: a statement that says nothing")
	}
	if err := s.Validate(); err != nil {
		return s, fmt.Errorf("section signature: %w", err)
	}
	return s, nil
}

// Fingerprint is the short name of a key, as in "Signed by SHA256:...".
func Fingerprint(key ed25519.PublicKey) string {
	d := sha256.Sum256(key)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(d[:])
}

// Sign returns the file with a signature by key over it and the statement, replacing any other. The
// digest changes, since it covers the fact that there is a signature; it is
// the same for every key.
func Sign(data []byte, key ed25519.PrivateKey, what Statement) ([]byte, error) {
	c, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	sections := c.sections
	if n := len(sections); n > 0 && sections[n-1].kind == signatureSection {
		sections = sections[:n-1]
	}
	return seal(c.version, sections, key, what)
}

// seal builds the file, with a signature if there is a key.
func seal(version int, sections []section, key ed25519.PrivateKey, what Statement) ([]byte, error) {
	if key == nil {
		return build(version, sections), nil
	}
	if len(key) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("bundle: a private key has %d bytes, not %d", ed25519.PrivateKeySize, len(key))
	}
	if err := what.Validate(); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	said := what.bytes()
	// The digest takes the section's bytes as zero, so they can follow.
	size := signatureSize + len(said)
	sections = append(sections[:len(sections):len(sections)],
		section{kind: signatureSection, raw: uint64(size), stored: make([]byte, size)})
	out := build(version, sections)
	sig := out[len(out)-size:]
	copy(sig, key.Public().(ed25519.PublicKey))
	copy(sig[ed25519.PublicKeySize:], ed25519.Sign(key, signedMessage([sha256.Size]byte(out[digestAt:]), said)))
	copy(sig[signatureSize:], said)
	return out, nil
}

// signedMessage is what a key signs: the digest, and the statement's bytes where there is one.
func signedMessage(digest [sha256.Size]byte, said []byte) []byte {
	context := signatureContext
	if len(said) > 0 {
		context = statementContext
	}
	return append(append([]byte(context), digest[:]...), said...)
}

// parseSignature returns nil for a bundle without a signature, and an error
// for one whose signature is not that of its key over its digest and statement.
func parseSignature(c *container) (*Signature, error) {
	s := c.find(signatureSection)
	if s == nil {
		return nil, nil
	}
	key := ed25519.PublicKey(bytes.Clone(s.stored[:ed25519.PublicKeySize]))
	said := s.stored[signatureSize:]
	if !ed25519.Verify(key, signedMessage(c.digest, said), s.stored[ed25519.PublicKeySize:signatureSize]) {
		return nil, errors.New("section signature: it is not a signature of this bundle")
	}
	what, err := parseStatement(said)
	if err != nil {
		return nil, err
	}
	return &Signature{Key: key, Statement: what}, nil
}
