package bundle_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"flag"
	"os"
	"slices"
	"testing"
	"time"

	"nepcoc/internal/testbundle"
	"nepcoc/runtime/bundle"
)

var update = flag.Bool("update", false, "write testdata/format2 anew: never once a version with it is released")

// format2 are files of version 2, signed with a statement: kinds.nepco has every kind of output.
const format2 = "testdata/format2/kinds"

// stored2 is what such a file says of itself.
type stored2 struct {
	Digest   string           `json:"digest"`
	SignedBy string           `json:"signed_by"`
	Says     bundle.Statement `json:"says"`
	Outputs  []string         `json:"outputs"`
}

// TestFormat2 opens a file that was written by version 2 and finds in it what stood there, and the golden vectors' logits.
func TestFormat2(t *testing.T) {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	of := func(b *bundle.Bundle) (s stored2) {
		s = stored2{b.Digest.String(), bundle.Fingerprint(b.Signature.Key), b.Signature.Statement, nil}
		for _, o := range b.Manifest.Outputs {
			s.Outputs = append(s.Outputs, o.Name)
		}
		return s
	}
	if *update {
		b, err := testbundle.EveryKind(0)
		if err != nil {
			t.Fatal(err)
		}
		at := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
		data, err := bundle.Encode(b, bundle.Options{Key: key, Statement: bundle.Statement{Serial: 20261128120000, NotBefore: at, Expires: at.AddDate(100, 0, 0)}})
		if err == nil {
			b, err = bundle.Decode(data)
		}
		if err == nil {
			err = os.WriteFile(format2+".nepco", data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.MarshalIndent(of(b), "", "  ")
		if err == nil {
			err = os.WriteFile(format2+".json", append(text, '\n'), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(format2 + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var want stored2
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	b, err := bundle.ReadFile(format2 + ".nepco")
	if err != nil {
		t.Fatal(err)
	}
	if got := of(b); b.Manifest.Format != 2 || got.Digest != want.Digest || got.SignedBy != want.SignedBy || got.Says.Serial != want.Says.Serial || !got.Says.NotBefore.Equal(want.Says.NotBefore) ||
		!got.Says.Expires.Equal(want.Says.Expires) || !slices.Equal(got.Outputs, want.Outputs) || !key.Public().(ed25519.PublicKey).Equal(b.Signature.Key) {
		t.Errorf("format %d\ngot  %+v\nwant %+v", b.Manifest.Format, got, want)
	}
	if len(b.Golden) == 0 {
		t.Fatal("no golden vectors")
	}
	goldenHolds(t, b)
}
