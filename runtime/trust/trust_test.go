package trust

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"nepcoc/internal/files"
	"nepcoc/runtime/bundle"
)

// key is a key pair made of a number.
func key(n byte) (ed25519.PrivateKey, ed25519.PublicKey) {
	k := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
	return k, k.Public().(ed25519.PublicKey)
}

func TestAccept(t *testing.T) {
	_, signer := key(1)
	_, stranger := key(2)
	_, old := key(3)
	now := time.Date(2026, 11, 28, 5, 0, 0, 0, time.UTC)
	ran, other := bundle.Digest{1}, bundle.Digest{2}
	says := func(s bundle.Statement, k ed25519.PublicKey) *bundle.Signature {
		return &bundle.Signature{Key: k, Statement: s}
	}
	serial := func(n uint64) *bundle.Signature { return says(bundle.Statement{Serial: n}, signer) }
	back := &Rollback{From: 5, To: 3, Digest: other.String(), Reason: "r"}
	for _, tc := range []struct {
		name  string
		sig   *bundle.Signature
		d     bundle.Digest
		state State
		back  *Rollback
		want  []string // parts of the refusal; none: accepted
	}{
		{"unsigned", nil, other, State{}, nil, []string{"not signed", "nepcoc sign"}},
		{"signed", serial(0), other, State{}, nil, nil},
		{"another's", says(bundle.Statement{}, stranger), other, State{}, nil, []string{"not a trusted key", bundle.Fingerprint(stranger)}},
		{"revoked", says(bundle.Statement{}, old), other, State{}, nil, []string{"revoked", "stolen"}},
		{"within its time", says(bundle.Statement{NotBefore: now, Expires: now.Add(time.Second)}, signer), other, State{}, nil, nil},
		{"early", says(bundle.Statement{NotBefore: now.Add(time.Second)}, signer), other, State{}, nil, []string{"from 2026-11-28T05:00:01Z on"}},
		{"late", says(bundle.Statement{Expires: now}, signer), other, State{}, nil, []string{"expired at 2026-11-28T05:00:00Z", "--expires"}},
		{"newer", serial(6), other, State{Serial: 5, Digest: ran.String()}, nil, nil},
		{"what ran", serial(5), ran, State{Serial: 5, Digest: ran.String()}, nil, nil},
		{"its serial on another", serial(5), other, State{Serial: 5, Digest: ran.String()}, nil, []string{"another bundle"}},
		{"older", serial(4), other, State{Serial: 5, Digest: ran.String()}, nil, []string{"serial 4", "serial 5 ran", "--rollback-from 5"}},
		{"without a serial", serial(0), other, State{Serial: 5, Digest: ran.String()}, nil, []string{"no serial", "serial 5 ran"}},
		{"back, allowed", serial(3), other, State{Serial: 5, Digest: ran.String()}, back, nil},
		{"back to another", serial(3), ran, State{Serial: 5, Digest: ran.String()}, back, []string{"to serial 3"}},
		{"back with another serial", serial(4), other, State{Serial: 5, Digest: ran.String()}, back, []string{"to serial 3"}},
		{"back once more, behind a newer one", serial(3), other, State{Serial: 6, Digest: ran.String()}, back, []string{"from serial 5"}},
		{"a reason is no signature", says(bundle.Statement{Serial: 3}, stranger), other, State{Serial: 5, Digest: ran.String()}, back, []string{"not a trusted key"}},
		{"all at once", says(bundle.Statement{Serial: 1, Expires: now}, old), other, State{Serial: 5, Digest: ran.String()}, nil, []string{"revoked", "expired", "serial 1"}},
	} {
		p := Policy{Keys: []ed25519.PublicKey{signer, old}, Revoked: map[string]string{string(old): "stolen"}, State: tc.state, Rollback: tc.back, Now: now}
		err := p.Accept(tc.sig, tc.d)
		if (err == nil) != (len(tc.want) == 0) {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		for _, part := range tc.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %v, without %q", tc.name, err, part)
			}
		}
	}
}

func TestState(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state.json")
	if s, err := ReadState(file); err != nil || !reflect.DeepEqual(s, State{}) {
		t.Errorf("a state that isn't there: %+v, %v", s, err)
	}
	_, signer := key(1)
	p := Policy{}
	p.Use(&KeyList{Serial: 4})
	for _, tc := range []struct {
		sig *bundle.Signature
		d   bundle.Digest
	}{{nil, bundle.Digest{9}}, {&bundle.Signature{Key: signer, Statement: bundle.Statement{Serial: 7}}, bundle.Digest{1}}, {&bundle.Signature{Key: signer, Statement: bundle.Statement{Serial: 6}}, bundle.Digest{2}}} {
		p.State = p.After(tc.sig, tc.d)
	}
	want := State{Serial: 7, Digest: bundle.Digest{1}.String(), Keys: 4, Signers: []Ran{{bundle.Fingerprint(signer), 7, bundle.Digest{1}.String()}}}
	if !reflect.DeepEqual(p.State, want) {
		t.Errorf("%+v, want %+v", p.State, want)
	}
	want.Trial = &Trial{bundle.Digest{3}.String(), time.Date(2026, 11, 28, 5, 0, 0, 9, time.UTC), 2}
	want.Returned = &Returned{bundle.Digest{2}.String(), 8, time.Date(2026, 11, 28, 5, 0, 0, 7, time.UTC), "r"}
	if err := want.Write(file); err != nil {
		t.Fatal(err)
	}
	if s, err := ReadState(file); err != nil || !reflect.DeepEqual(s, want) {
		t.Errorf("%+v, %v", s, err)
	}
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var many State
	for i := range 3 * maxSigners { // fits the file
		many = many.ran(fmt.Sprintf("SHA256:%043d", i%(2*maxSigners)), uint64(1e18)+uint64(i), bundle.Digest{byte(i)}.String())
	}
	if err := many.Write(filepath.Join(t.TempDir(), "many")); err != nil || len(many.Signers) != maxSigners {
		t.Errorf("%d signers, %v", len(many.Signers), err)
	}
	if data, _ := json.Marshal(many); len(data) > maxState/2 {
		t.Errorf("%d bytes", len(data))
	}
	// What a cut or a stranger's hand leaves is never taken for an agent that never ran.
	damaged := [][]byte{[]byte(`{"serial":-1}`), []byte(`{"serials":1}`), []byte(`{"serial":1,"digest":"00"}`), append(bytes.Clone(whole), "{}"...), make([]byte, maxState+1)}
	for n := range len(whole) - 1 {
		damaged = append(damaged, whole[:n])
	}
	for _, data := range damaged {
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if s, err := ReadState(file); err == nil {
			t.Errorf("%q is read as %+v", data, s)
		} else if !strings.Contains(err.Error(), file) {
			t.Errorf("without the file's name: %v", err)
		}
	}
}

func TestKeyList(t *testing.T) {
	root, rootPublic := key(10)
	other, otherPublic := key(11)
	_, a := key(1)
	_, b := key(2)
	l := KeyList{Serial: 3}
	if err := errors.Join(l.Add("a", a), l.Add("b", b), l.Add("a again", a)); err != nil {
		t.Fatal(err)
	}
	l.Revoke(b, "lost\nin a train: \"x\"")
	if err := l.Add("b", b); err == nil {
		t.Error("a revoked key came back")
	}
	data, err := l.Sign(root)
	if err != nil {
		t.Fatal(err)
	}
	read := func(data []byte, roots ...ed25519.PublicKey) (*KeyList, error) {
		return ReadKeyList(roots...)("list", bytes.NewReader(data))
	}
	got, err := read(data, otherPublic, rootPublic)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(&l, got); d != "" {
		t.Error(d)
	}
	if len(got.Keys) != 1 || got.Keys[0].Name != "a again" {
		t.Errorf("keys %+v", got.Keys)
	}
	var p Policy
	p.Use(got)
	if good := p.Good(); len(good) != 1 || !good[0].Equal(a) {
		t.Errorf("%v may sign", good)
	}
	foreign, err := l.Sign(other)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := read(foreign, rootPublic); err == nil || !strings.Contains(err.Error(), "none of the trusted keys") {
		t.Errorf("a stranger's list: %v", err)
	}
	for i := range data {
		changed := bytes.Clone(data)
		changed[i] ^= 1
		if _, err := read(changed, rootPublic); err == nil {
			t.Errorf("byte %d changed, and nobody saw it: %s", i, changed)
		}
		if _, err := read(data[:i], rootPublic); err == nil {
			t.Errorf("cut after %d bytes, and nobody saw it", i)
		}
	}
	for _, wrong := range []any{
		listForm{Kind: 2, Serial: 1}, listForm{Kind: 1}, rollbackForm{Kind: 1, Rollback: Rollback{From: 2, Reason: "r"}},
		map[string]any{"nepco-keys": 1, "serial": 1, "keys": []any{map[string]any{"name": "x"}}},
		map[string]any{"nepco-keys": 1, "serial": 1, "revoked": []any{map[string]any{"reason": "x"}}},
		map[string]any{"nepco-keys": 1, "serial": 1, "keys": []any{map[string]any{"name": "x", "key": "00"}}},
	} {
		data, err := sign(wrong, root)
		if err != nil {
			t.Fatal(err)
		}
		if l, err := read(data, rootPublic); err == nil {
			t.Errorf("%v is read as %+v", wrong, l)
		}
	}
}

func TestRollback(t *testing.T) {
	signer, public := key(1)
	_, stranger := key(2)
	r := Rollback{From: 5, To: 3, Digest: bundle.Digest{7}.String(), Reason: "8 takes DNS: for NTP"}
	data, err := r.Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "back")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := files.Read(file, ReadRollback(public))
	if err != nil || *got != r {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := files.Read(file, ReadRollback(stranger)); err == nil {
		t.Error("a stranger's reason is taken")
	}
	r.Reason = "two lines\nwith a\t tab"
	if _, err := r.Sign(signer); err == nil {
		t.Error("a reason that can't be read again is signed")
	}
	r.Reason = " "
	if data, err = r.Sign(signer); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadRollback(public)("back", bytes.NewReader(data)); err == nil {
		t.Error("no reason is taken for one")
	}
}

// Whatever a signed file holds, it is read or refused.
func FuzzSigned(f *testing.F) {
	root, public := key(1)
	l := KeyList{Serial: 2, Keys: []ListedKey{{"a", public}}}
	r := Rollback{From: 5, To: 3, Digest: bundle.Digest{7}.String(), Reason: "r"}
	for _, v := range []interface {
		Sign(ed25519.PrivateKey) ([]byte, error)
	}{&l, r} {
		data, err := v.Sign(root)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("a: 1\nb:\t")) // a tab, which YAML keeps and a signed note can't have
	f.Fuzz(func(t *testing.T, data []byte) {
		ReadKeyList(public)("list", bytes.NewReader(data))
		ReadRollback(public)("back", bytes.NewReader(data))
		// And under a good signature.
		var form any
		if text, err := sign(string(data), root); err == nil {
			if err := open("any", bytes.NewReader(text), &form, []ed25519.PublicKey{public}); err != nil {
				t.Errorf("%q: what was signed can't be read: %v", data, err)
			}
		}
	})
}

// What a stolen key has brought in counts for nothing once the key is revoked: neither does the number that it used keep later bundles
// out, nor do older ones than the good keys' come back.
func TestRevokedSerial(t *testing.T) {
	_, good := key(1)
	_, stolen := key(2)
	p := Policy{Keys: []ed25519.PublicKey{good, stolen}}
	says := func(k ed25519.PublicKey, serial uint64) *bundle.Signature {
		return &bundle.Signature{Key: k, Statement: bundle.Statement{Serial: serial}}
	}
	p.State = p.After(says(good, 10), bundle.Digest{1})
	p.State = p.After(says(stolen, math.MaxUint64), bundle.Digest{2})
	if err := p.Accept(says(good, 11), bundle.Digest{3}); err == nil {
		t.Error("an older one than ran")
	}
	l := KeyList{Serial: 2}
	l.Revoke(stolen, "stolen")
	if err := l.Add("good", good); err != nil {
		t.Fatal(err)
	}
	p.Use(&l)
	for _, tc := range []struct {
		key    ed25519.PublicKey
		serial uint64
		d      bundle.Digest
		ok     bool
	}{{good, 11, bundle.Digest{3}, true}, {good, 10, bundle.Digest{1}, true}, {good, 10, bundle.Digest{3}, false}, {good, 9, bundle.Digest{4}, false}, {stolen, math.MaxUint64, bundle.Digest{2}, false}} {
		if err := p.Accept(says(tc.key, tc.serial), tc.d); (err == nil) != tc.ok {
			t.Errorf("serial %d: %v", tc.serial, err)
		}
	}
}

// A state of before signers were written counts on by its highest serial, whatever is added to it.
func TestSerialWithoutSigner(t *testing.T) {
	_, signer := key(1)
	says := func(serial uint64) *bundle.Signature {
		return &bundle.Signature{Key: signer, Statement: bundle.Statement{Serial: serial}}
	}
	old := State{Serial: 12, Digest: bundle.Digest{12}.String()}
	p := Policy{Keys: []ed25519.PublicKey{signer}, State: old}
	p.State = p.After(says(10), bundle.Digest{10}) // a rollback
	if err := p.Accept(says(11), bundle.Digest{11}); err == nil {
		t.Errorf("11 is taken where 12 ran: %+v", p.State)
	}
	if err := p.Accept(says(13), bundle.Digest{13}); err != nil {
		t.Error(err)
	}
	// Whose the bundle was that ran is known once it runs again.
	p.State = old
	p.State = p.After(says(12), bundle.Digest{12})
	if len(p.State.Signers) != 1 {
		t.Errorf("%+v", p.State)
	}
}
