package bundle

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"testing"
	"time"
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
	signed, err := Sign(plain, key, Statement{})
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
	if !b.Signature.Key.Equal(public) || b.Signature.Statement != (Statement{}) {
		t.Errorf("signed %+v", b.Signature)
	}

	again, err := Sign(signed, other, Statement{})
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

	if u, err := Decode(plain); err != nil || u.Signature != nil {
		t.Fatalf("not signed: %+v, %v", u, err)
	}

	// Another file's signature, with everything else in order.
	changed := small()
	changed.Golden = changed.Golden[:1]
	forged := mustEncode(t, changed, Options{Key: key})
	copy(forged[len(forged)-signatureSize:], signed[len(signed)-signatureSize:])
	_, err = Decode(forged)
	wantError(t, err, "not a signature of this bundle")
}

func TestStatement(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	at := func(seconds int64) time.Time { return time.Unix(seconds, 0).UTC() }
	plain := mustEncode(t, small(), Options{})
	for _, what := range []Statement{
		{Serial: 1}, {Serial: math.MaxUint64}, {NotBefore: at(1)}, {Expires: at(1)}, {Serial: 7, NotBefore: at(1_700_000_000), Expires: at(1_700_000_001)},
	} {
		signed, err := Sign(plain, key, what)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(signed, mustEncode(t, small(), Options{Key: key, Statement: what})) {
			t.Error("signing while encoding gives other bytes than signing after")
		}
		b, err := Decode(signed)
		if err != nil || b.Signature.Statement != what {
			t.Fatalf("%+v: read as %+v, %v", what, b.Signature, err)
		}
		// What is said stands under the signature, whoever makes the checksums right again.
		for bit := range 8 * statementSize {
			changed := bytes.Clone(signed)
			changed[len(changed)-statementSize+bit/8] ^= 1 << (bit % 8)
			if !reseal(changed) {
				t.Fatal("not sealed again")
			}
			if _, err := Decode(changed); err == nil {
				t.Fatalf("%+v: bit %d changed, and nobody saw it", what, bit)
			}
		}
		// Nor can it be taken off: the digest knows of it.
		bare, err := Sign(signed, key, Statement{})
		if err != nil {
			t.Fatal(err)
		}
		copy(bare[len(bare)-signatureSize:], signed[len(signed)-signatureSize-statementSize:])
		_, err = Decode(bare)
		wantError(t, err, "not a signature of this bundle")
	}
	for _, wrong := range []Statement{
		{Expires: at(5), NotBefore: at(5)}, {Expires: at(4), NotBefore: at(5)}, {Expires: at(0)}, {NotBefore: at(-3)}, {Expires: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
	} {
		if _, err := Sign(plain, key, wrong); err == nil {
			t.Errorf("%+v was signed", wrong)
		}
	}
}

// Who accepts a bundle is asked before anything in it is decoded.
func TestReadAccepted(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	data := mustEncode(t, small(), Options{Key: key, Statement: Statement{Serial: 3}})
	damaged := bytes.Clone(data) // an attacker's program, under a good digest, but not the signer's
	at := binary.LittleEndian.Uint64(damaged[headerSize+8:])
	damaged[at] ^= 0xff
	if !reseal(damaged) {
		t.Fatal("not sealed again")
	}
	asked := 0
	accept := func(s *Signature, d Digest) error {
		asked++
		if s == nil || s.Serial != 3 || d == (Digest{}) {
			t.Errorf("asked for %+v, %v", s, d)
		}
		return errors.New("not today")
	}
	read := func(data []byte) error {
		_, _, err := ReadAccepted("a", bytes.NewReader(data), MaxFileSize, accept)
		return err
	}
	err := read(data)
	wantError(t, err, "a: not today")
	err = read(damaged)
	wantError(t, err, "not a signature of this bundle")
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

// A file of an older version stays one when it is signed.
func TestSignOlder(t *testing.T) {
	file, err := os.ReadFile("testdata/format1/demo.nepco")
	if err != nil {
		t.Fatal(err)
	}
	signed, err := Sign(file, ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)), Statement{Serial: 2})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := Decode(signed); err != nil || b.Signature.Serial != 2 || b.Manifest.Format != 1 {
		t.Errorf("%v", err)
	}
}
