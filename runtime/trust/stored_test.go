package trust

import (
	"crypto/ed25519"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"nepcoc/internal/files"
	"nepcoc/runtime/bundle"
)

// What agents and operators have on their disks, as 0.2.0 wrote it. It is never written anew: a later version reads it as it is, or a card would forget which bundles
// it must refuse, and a key list would have to be signed again on the day of an update. What is added gets files of its own beside these.
//
//	state.json        of an agent that ran bundles of two signers, tries one and has returned from another
//	state-first.json  of one that has read a key list and nothing else
//	root.pub, keys.note, back.note   a root, the list that it signed, a reason to go back that a listed key signed
const version1 = "testdata/version1/"

// TestStoredState: what was remembered is remembered.
func TestStoredState(t *testing.T) {
	digest := func(c byte) string { return bundle.Digest{0: c, 31: c}.String() }
	at := time.Date(2026, 11, 28, 11, 30, 0, 123456789, time.UTC)
	for name, want := range map[string]State{
		"state.json": {
			Serial: 20261128112000, Digest: digest(0xa1), Keys: 4,
			Signers: []Ran{{"0f1e2d3c4b5a6978", 20261127000000, digest(0xb2)}, {"8796a5b4c3d2e1f0", 20261128112000, digest(0xa1)}},
			Trial:   &Trial{Digest: digest(0xc3), Modified: at, Starts: 2}, Returned: &Returned{Digest: digest(0xd4), Serial: 20261128113000, Modified: at, Reason: "drops: 12 % of the packets, 0 % before"},
		},
		"state-first.json": {Keys: 1},
	} {
		got, err := ReadState(version1 + name)
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// TestStoredNotes: what was signed holds.
func TestStoredNotes(t *testing.T) {
	_, root := key(11)
	_, signer := key(12)
	_, stolen := key(13)
	public, err := files.Read(version1+"root.pub", bundle.ReadPublicKey)
	if err != nil || !public.Equal(root) {
		t.Fatalf("%x, %v", public, err)
	}
	list, err := files.Read(version1+"keys.note", ReadKeyList(public))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&KeyList{Serial: 4, Keys: []ListedKey{{"signer", signer}}, Revoked: []RevokedKey{{stolen, "the laptop was stolen: \"büro\""}}}, list); diff != "" {
		t.Error(diff)
	}
	back, err := files.Read(version1+"back.note", ReadRollback([]ed25519.PublicKey{signer}...))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&Rollback{From: 20261128112000, To: 0, Digest: bundle.Digest{0: 0xe5, 31: 0xe5}.String(), Reason: "takes DNS for NTP"}, back); diff != "" {
		t.Error(diff)
	}
}
