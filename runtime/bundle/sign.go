package bundle

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
)

const signatureSize = ed25519.PublicKeySize + ed25519.SignatureSize

// signatureContext keeps a signature over a bundle from meaning anything else.
const signatureContext = "nepco bundle signature v1\n"

// Signature is who signed a bundle. Decode has checked that it is the key's
// signature over this very bundle; whether the key is to be trusted is for the
// caller: see Bundle.VerifySigner.
type Signature struct {
	Key ed25519.PublicKey
}

// Fingerprint is the short name of a key, as in "Signed by SHA256:...".
func Fingerprint(key ed25519.PublicKey) string {
	d := sha256.Sum256(key)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(d[:])
}

// VerifySigner succeeds if the bundle is signed by one of the trusted keys.
func (b *Bundle) VerifySigner(trusted ...ed25519.PublicKey) error {
	if b.Signature == nil {
		return errors.New("bundle is not signed: sign it with a trusted key, or don't ask for one")
	}
	for _, k := range trusted {
		if k.Equal(b.Signature.Key) {
			return nil
		}
	}
	return fmt.Errorf("bundle is signed by %s, which is not a trusted key", Fingerprint(b.Signature.Key))
}

// Sign returns the file with a signature by key, replacing any other. The
// digest changes, since it covers the fact that there is a signature; it is
// the same for every key.
func Sign(data []byte, key ed25519.PrivateKey) ([]byte, error) {
	c, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	sections := c.sections
	if n := len(sections); n > 0 && sections[n-1].kind == signatureSection {
		sections = sections[:n-1]
	}
	return seal(sections, key)
}

// seal builds the file, with a signature if there is a key.
func seal(sections []section, key ed25519.PrivateKey) ([]byte, error) {
	if key == nil {
		return build(sections), nil
	}
	if len(key) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("bundle: a private key has %d bytes, not %d", ed25519.PrivateKeySize, len(key))
	}
	// The digest takes the signature's bytes as zero, so they can follow.
	sections = append(sections[:len(sections):len(sections)],
		section{kind: signatureSection, raw: signatureSize, stored: make([]byte, signatureSize)})
	out := build(sections)
	sig := out[len(out)-signatureSize:]
	copy(sig, key.Public().(ed25519.PublicKey))
	copy(sig[ed25519.PublicKeySize:], ed25519.Sign(key, signedMessage([sha256.Size]byte(out[digestAt:]))))
	return out, nil
}

func signedMessage(digest [sha256.Size]byte) []byte {
	return append([]byte(signatureContext), digest[:]...)
}

// parseSignature returns nil for a bundle without a signature, and an error
// for one whose signature is not that of its key over its digest.
func parseSignature(c *container) (*Signature, error) {
	s := c.find(signatureSection)
	if s == nil {
		return nil, nil
	}
	key := ed25519.PublicKey(bytes.Clone(s.stored[:ed25519.PublicKeySize]))
	if !ed25519.Verify(key, signedMessage(c.digest), s.stored[ed25519.PublicKeySize:]) {
		return nil, errors.New("section signature: it is not a signature of this bundle")
	}
	return &Signature{Key: key}, nil
}
