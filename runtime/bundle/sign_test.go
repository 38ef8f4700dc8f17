package bundle

import (
	"bytes"
	"crypto/ed25519"
	"os"
	"path/filepath"
	"testing"
)

func TestSign(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key.pem")
	public, err := GenerateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := GenerateKey(path); err == nil {
		t.Error("overwrote a key")
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("private key: %v %v", info.Mode(), err)
	}
	key, err := LoadPrivateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := LoadPublicKey(path + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	if !loaded.Equal(public) || !key.Public().(ed25519.PublicKey).Equal(public) {
		t.Error("keys read are not those written")
	}
	_, err = LoadPublicKey(path)
	wantError(t, err, `no PEM block "PUBLIC KEY"`)

	other := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	otherPublic := other.Public().(ed25519.PublicKey)
	plain := mustEncode(t, small(), Options{})
	signed, err := Sign(plain, key)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(signed, mustEncode(t, small(), Options{Key: key})) {
		t.Error("signing while encoding gives other bytes than signing after")
	}
	b, err := Decode(signed)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.VerifySigner(otherPublic, public); err != nil {
		t.Error(err)
	}
	wantError(t, b.VerifySigner(otherPublic), "signed by "+Fingerprint(public)+", which is not a trusted key")

	again, err := Sign(signed, other)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Decode(again)
	if err != nil {
		t.Fatal(err)
	}
	if c.Digest != b.Digest || !c.Signature.Key.Equal(otherPublic) || len(again) != len(signed) {
		t.Error("signing again must replace the signature and nothing else")
	}

	u, err := Decode(plain)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, u.VerifySigner(public), "not signed")

	// Another file's signature, with everything else in order.
	changed := small()
	changed.Golden = changed.Golden[:1]
	forged := mustEncode(t, changed, Options{Key: key})
	copy(forged[len(forged)-signatureSize:], signed[len(signed)-signatureSize:])
	_, err = Decode(forged)
	wantError(t, err, "not a signature of this bundle")
}
