package trust

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
	"golang.org/x/mod/sumdb/note"

	"nepcoc/runtime/bundle"
)

// Key lists and rollbacks are signed notes (golang.org/x/mod/sumdb/note): a text of ours, YAML, an empty line, and lines of signatures.

// keyName is that of all keys in notes; they are told apart by their hash.
const keyName = "nepco"

// algorithm is that of Ed25519 in notes.
const algorithm = 1

// maxNote bounds a signed file, in bytes.
const maxNote = 1 << 20

// signer signs notes with a key.
type signer struct{ ed25519.PrivateKey }

func (s signer) Name() string { return keyName }
func (s signer) KeyHash() uint32 {
	public := append([]byte{algorithm}, s.Public().(ed25519.PublicKey)...)
	h := sha256.Sum256(append([]byte(keyName+"\n"), public...))
	return binary.BigEndian.Uint32(h[:])
}
func (s signer) Sign(text []byte) ([]byte, error) { return ed25519.Sign(s.PrivateKey, text), nil }

// sign writes v, a document of the kind, under the signature of key.
func sign(v any, key ed25519.PrivateKey) ([]byte, error) {
	text, err := yaml.Marshal(v)
	if err != nil {
		return nil, err
	}
	// A note has none of these; YAML writes some as they are.
	if strings.ContainsFunc(string(text), func(r rune) bool { return unicode.IsControl(r) && r != '\n' }) {
		return nil, errors.New("a name or reason holds a tab or another control character: leave it out")
	}
	return note.Sign(&note.Note{Text: string(text)}, signer{key})
}

// open reads a document to v, if one of the keys signed it.
func open(name string, r io.Reader, v any, keys []ed25519.PublicKey) error {
	return openBy(name, r, v, keys, false)
}

// openBy is open, or reads what a stranger to the keys signed, too.
func openBy(name string, r io.Reader, v any, keys []ed25519.PublicKey, strangers bool) error {
	data, err := io.ReadAll(io.LimitReader(r, maxNote+1))
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", name, err)
	case len(data) > maxNote:
		return fmt.Errorf("%s: more than the %d bytes that are read: not such a file", name, maxNote)
	}
	var known []note.Verifier
	for _, k := range keys {
		text, err := note.NewEd25519VerifierKey(keyName, k)
		if err != nil {
			return err
		}
		verifier, err := note.NewVerifier(text)
		if err != nil {
			return err
		}
		known = append(known, verifier)
	}
	n, err := note.Open(data, note.VerifierList(known...))
	var stranger *note.UnverifiedNoteError
	switch {
	case errors.As(err, &stranger) && strangers:
		n = stranger.Note
	case errors.As(err, &stranger):
		return fmt.Errorf("%s: none of the trusted keys signed it", name)
	case err != nil:
		return fmt.Errorf("%s: its signature does not hold: it was changed after it was signed, or is no signed file", name)
	}
	d := yaml.NewDecoder(strings.NewReader(n.Text))
	d.KnownFields(true)
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := d.Decode(new(yaml.Node)); err != io.EOF {
		return fmt.Errorf("%s: more than one document", name)
	}
	return nil
}

// publicKey is a key as it stands in a list: its 32 bytes in hex.
type publicKey ed25519.PublicKey

func (k publicKey) MarshalYAML() (any, error) { return hex.EncodeToString(k), nil }

func (k *publicKey) UnmarshalYAML(n *yaml.Node) error {
	raw, err := hex.DecodeString(n.Value)
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return fmt.Errorf("line %d: %q is no key: %d bytes in hex", n.Line, n.Value, ed25519.PublicKeySize)
	}
	*k = raw
	return nil
}

// KeyList is who may sign bundles, and who may no more.
type KeyList struct {
	// Serial orders the lists: none is taken after one with a higher serial.
	Serial  uint64
	Keys    []ListedKey
	Revoked []RevokedKey
}

// ListedKey is a key with a name for people.
type ListedKey struct {
	Name   string
	Public ed25519.PublicKey
}

// RevokedKey is a key with the reason why nothing that it signed is taken.
type RevokedKey struct {
	Public ed25519.PublicKey
	Reason string
}

// listForm is a KeyList as it is written.
type listForm struct {
	Kind    int           `yaml:"nepco-keys"`
	Serial  uint64        `yaml:"serial"`
	Keys    []listedForm  `yaml:"keys,omitempty"`
	Revoked []revokedForm `yaml:"revoked,omitempty"`
}

type listedForm struct {
	Name string    `yaml:"name"`
	Key  publicKey `yaml:"key"`
}

type revokedForm struct {
	Key    publicKey `yaml:"key"`
	Reason string    `yaml:"reason"`
}

// Add lists a key under a name; one that was revoked stays revoked, which is an error.
func (l *KeyList) Add(name string, key ed25519.PublicKey) error {
	if i := slices.IndexFunc(l.Revoked, func(r RevokedKey) bool { return r.Public.Equal(key) }); i >= 0 {
		return fmt.Errorf("%s was revoked (%s): make a new key with nepcoc key new", bundle.Fingerprint(key), l.Revoked[i].Reason)
	}
	l.Keys = slices.DeleteFunc(l.Keys, func(k ListedKey) bool { return k.Public.Equal(key) })
	l.Keys = append(l.Keys, ListedKey{name, key})
	return nil
}

// Revoke takes a key from the list, if it is there, and keeps it from coming back.
func (l *KeyList) Revoke(key ed25519.PublicKey, reason string) {
	l.Keys = slices.DeleteFunc(l.Keys, func(k ListedKey) bool { return k.Public.Equal(key) })
	l.Revoked = slices.DeleteFunc(l.Revoked, func(k RevokedKey) bool { return k.Public.Equal(key) })
	l.Revoked = append(l.Revoked, RevokedKey{key, reason})
}

// Sign writes the list under the signature of key.
func (l *KeyList) Sign(key ed25519.PrivateKey) ([]byte, error) {
	form := listForm{Kind: 1, Serial: l.Serial}
	for _, k := range l.Keys {
		form.Keys = append(form.Keys, listedForm{k.Name, publicKey(k.Public)})
	}
	for _, k := range l.Revoked {
		form.Revoked = append(form.Revoked, revokedForm{publicKey(k.Public), k.Reason})
	}
	return sign(form, key)
}

// ReadKeyList reads a list that one of the roots signed, for files.Read.
func ReadKeyList(roots ...ed25519.PublicKey) func(name string, r io.Reader) (*KeyList, error) {
	return func(name string, r io.Reader) (*KeyList, error) {
		var form listForm
		if err := open(name, r, &form, roots); err != nil {
			return nil, err
		}
		if form.Kind != 1 || form.Serial == 0 {
			return nil, fmt.Errorf("%s: not a key list of version 1 with a serial", name)
		}
		l := &KeyList{Serial: form.Serial}
		for i, k := range form.Keys {
			if len(k.Key) == 0 {
				return nil, fmt.Errorf("%s: entry %d of keys has no key", name, i+1)
			}
			l.Keys = append(l.Keys, ListedKey{k.Name, ed25519.PublicKey(k.Key)})
		}
		for i, k := range form.Revoked {
			if len(k.Key) == 0 {
				return nil, fmt.Errorf("%s: entry %d of revoked has no key", name, i+1)
			}
			l.Revoked = append(l.Revoked, RevokedKey{ed25519.PublicKey(k.Key), k.Reason})
		}
		return l, nil
	}
}

// Rollback allows one older bundle where a newer one ran, once: with the next newer bundle it ends.
type Rollback struct {
	// From is the highest serial that ran, To the older bundle's (0: it has none), Digest that bundle's, in hex.
	From   uint64 `yaml:"from"`
	To     uint64 `yaml:"to"`
	Digest string `yaml:"digest"`
	Reason string `yaml:"reason"`
}

type rollbackForm struct {
	Kind     int `yaml:"nepco-rollback"`
	Rollback `yaml:",inline"`
}

// Sign writes the permission under the signature of key.
func (r Rollback) Sign(key ed25519.PrivateKey) ([]byte, error) { return sign(rollbackForm{1, r}, key) }

// ReadRollback reads a permission that one of the keys signed, for files.Read.
func ReadRollback(keys ...ed25519.PublicKey) func(name string, r io.Reader) (*Rollback, error) {
	return func(name string, r io.Reader) (*Rollback, error) { return readRollback(name, r, keys, false) }
}

// PeekRollback reads what a permission says, whoever signed it: nothing may be allowed by it.
func PeekRollback(name string, r io.Reader) (*Rollback, error) {
	return readRollback(name, r, nil, true)
}

func readRollback(name string, r io.Reader, keys []ed25519.PublicKey, strangers bool) (*Rollback, error) {
	var form rollbackForm
	if err := openBy(name, r, &form, keys, strangers); err != nil {
		return nil, err
	}
	if form.Kind != 1 || strings.TrimSpace(form.Reason) == "" {
		return nil, fmt.Errorf("%s: not a rollback of version 1 with a reason", name)
	}
	return &form.Rollback, nil
}

// allows says why a bundle may not go back.
func (r *Rollback) allows(from, to uint64, d bundle.Digest) error {
	switch {
	case r.From != from:
		return fmt.Errorf("the signed reason is to go back from serial %d", r.From)
	case r.To != to || r.Digest != d.String():
		return fmt.Errorf("the signed reason is to go back to serial %d, bundle %.12s; this is %.12s", r.To, r.Digest, d.String())
	}
	return nil
}
