//go:build linux

package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"nepcoc/internal/testfiles"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/trust"
)

// TestUnitRemembersRevocation runs what the package's unit runs at a start, in its order, until something fails, as systemd does: a key list that came while the
// agent was down and revokes everything is remembered, though there is nothing to run, and the one before it is refused then.
func TestUnitRemembersRevocation(t *testing.T) {
	unit, err := os.ReadFile(filepath.Join(testfiles.Root(t), "packaging", "nepcod.service"))
	if err != nil {
		t.Fatal(err)
	}
	commands := regexp.MustCompile(`(?m)^ExecStart(?:Pre)?=/usr/bin/nepcod (.*)$`).FindAllSubmatch(unit, -1)
	if len(commands) == 0 {
		t.Fatal("the unit starts nothing")
	}
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, data []byte, err error) {
		t.Helper()
		if err == nil {
			err = os.WriteFile(at(name), data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	key := func(n byte) (ed25519.PrivateKey, ed25519.PublicKey) {
		k := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
		return k, k.Public().(ed25519.PublicKey)
	}
	root, rootPublic := key(1)
	signer, signerPublic := key(2)
	der, err := x509.MarshalPKIXPublicKey(rootPublic)
	write("root.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), err)
	l := trust.KeyList{Serial: 1}
	if err := l.Add("signer", signerPublic); err != nil {
		t.Fatal(err)
	}
	before, err := l.Sign(root)
	if err != nil {
		t.Fatal(err)
	}
	l.Serial = 2
	l.Revoke(signerPublic, "stolen")
	data, err := l.Sign(root)
	write("keys.note", data, err)
	data, err = bundle.Sign(bundleBytes(t, 0, "a"), signer, bundle.Statement{Serial: 1})
	write("model.nepco", data, err)
	write("nepcod.yaml", fmt.Appendf(nil, "bundle: %s\ninterface: nosuch0\ntrusted_keys: [%s]\nkey_list: %s\nstate: %s\noutput: {to: %s}\nmetrics: {listen: ''}\n",
		at("model.nepco"), at("root.pub"), at("keys.note"), at("state.json"), at("eve.json")), nil)
	start := func(want string) {
		t.Helper()
		for _, c := range commands {
			p := nepcod(t, nil, nil, strings.Fields(strings.ReplaceAll(string(c[1]), "/etc/nepcod/nepcod.yaml", at("nepcod.yaml")))...)
			if err := p.Run(); err != nil {
				if !strings.Contains(p.stderr(), want) {
					t.Errorf("a start ends without %q: %s", want, p.stderr())
				}
				return
			}
		}
		t.Error("the service starts")
	}
	start("revoked: stolen")
	if s, err := trust.ReadState(at("state.json")); err != nil || s.Keys != 2 {
		t.Errorf("remembered %+v, %v", s, err)
	}
	write("keys.note", before, nil)
	start("a list of serial 2 was read here before")
}
