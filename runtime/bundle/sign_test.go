package bundle

import (
	"bytes"
	"crypto/ed25519"
	"testing"
)

func TestSign(t *testing.T) {
	pemPrivate, pemPublic, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	key, err := ReadPrivateKey("key.pem", bytes.NewReader(pemPrivate))
	if err != nil {
		t.Fatal(err)
	}
	public, err := ReadPublicKey("key.pem.pub", bytes.NewReader(pemPublic))
	if err != nil {
		t.Fatal(err)
	}
	if !key.Public().(ed25519.PublicKey).Equal(public) {
		t.Error("the keys are no pair")
	}
	_, err = ReadPublicKey("key.pem", bytes.NewReader(pemPrivate))
	wantError(t, err, "a private key, and the public key belongs here")

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
