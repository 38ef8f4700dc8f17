package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"nepcoc/internal/files"
	"nepcoc/internal/locked"
	"nepcoc/internal/testbundle"
	"nepcoc/internal/testnet"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/trust"
)

// The matrix of attacks: whatever somebody puts in a bundle's place, by hand or by ship, the service that runs, its start, the self-test and ship refuse it by the same
// words, and the agent runs on with what it has. Behind all of them a good bundle is taken. (A slow disk, which no program can have without a file system of its own, is
// agent.TestSlowDisk's.)
func TestAttacks(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the agent")
	}
	n := testnet.New(t)
	card, local, bin := t.TempDir(), t.TempDir(), t.TempDir()
	at := func(name string) string { return filepath.Join(card, name) }
	write := func(name string, data []byte, err error) {
		t.Helper()
		if err == nil {
			err = os.WriteFile(name, data, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	built, err := buildAgent()
	if err == nil {
		err = os.Symlink(built, at("nepcod"))
	}
	if err != nil {
		t.Fatal(err)
	}
	// The card is this machine: what ssh and scp themselves do is TestShip's.
	write(filepath.Join(bin, "ssh"), []byte("#!/bin/sh\ncd "+local+"\nfor last; do :; done\nexec sh -c \"$last\"\n"), nil)
	write(filepath.Join(bin, "scp"), []byte("#!/bin/sh\nwhile [ $# -gt 2 ]; do shift; done\nexec cp \"$1\" \"${2#*:}\"\n"), nil)

	key := func(n byte) (ed25519.PrivateKey, ed25519.PublicKey) {
		k := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
		return k, k.Public().(ed25519.PublicKey)
	}
	root, rootPublic := key(1)
	signer, signerPublic := key(2)
	revoked, revokedPublic := key(3)
	stranger, _ := key(4)
	der, err := x509.MarshalPKIXPublicKey(rootPublic)
	write(at("root.pub"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), err)
	keys := trust.KeyList{Serial: 1}
	keys.Revoke(revokedPublic, "stolen")
	if err := keys.Add("signer", signerPublic); err != nil {
		t.Fatal(err)
	}
	note, err := keys.Sign(root)
	write(at("keys.note"), note, err)

	must := func(b *bundle.Bundle, err error) *bundle.Bundle {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	encode := func(b *bundle.Bundle, key ed25519.PrivateKey, s bundle.Statement) []byte {
		t.Helper()
		data, err := bundle.Encode(b, bundle.Options{Key: key, Statement: s})
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	first, other, slow := must(testbundle.New(0, "a")), must(testbundle.New(1, "b")), must(testbundle.Slow(1, "b", 3500, 1))
	wrong := must(testbundle.New(0, "c"))
	wrong.Golden[0].Logits[0][0] ^= 1
	arrays := must(testbundle.New(1, "d"))
	arrays.Manifest.Contract = bundle.Contract{}
	next := bundle.Statement{Serial: 11}
	good := encode(other, signer, next)
	flipped := func(at int) []byte {
		c := bytes.Clone(good)
		c[at] ^= 0x10
		return c
	}
	perFlow := func(b *bundle.Bundle) float64 { // s, at least
		x, err := classify.Engine(b)
		if err != nil {
			t.Fatal(err)
		}
		least := math.Inf(1)
		for range 20 {
			start := time.Now()
			if _, differ, err := classify.Prove(b, x.Run); err != nil || differ != "" {
				t.Fatal(differ, err)
			}
			least = min(least, time.Since(start).Seconds()/float64(len(b.Golden)))
		}
		return least
	}
	// The rate of flows at which the good ones are fast enough and the slow one isn't, by far.
	rate := agent.DefaultProbation.Budget / math.Sqrt(max(perFlow(first), perFlow(other))*perFlow(slow))
	model, config := at("model.nepco"), at("nepcod.yaml")
	text := func(snaplen int) []byte {
		return fmt.Appendf(nil, `bundle: %s
trusted_keys: [%s]
key_list: %s
state: %s
interface: %s
receive: {snaplen: %d}
output: {to: %s}
watch: 10ms
probation: {time: 0s, rate: %g, size: 1000000}
`, model, at("root.pub"), at("keys.note"), at("state.json"), testnet.Far, snaplen, at("eve.json"), rate)
	}
	write(config, text(1024), nil)
	write(model, encode(first, signer, bundle.Statement{Serial: 10}), nil)
	runs := must(bundle.ReadFile(model)).Digest.String()

	log := new(locked.Buffer)
	service := exec.Command(at("nepcod"), "run", "--config", config)
	service.Stderr = log
	n.Do(func() { err = service.Start() })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { service.Process.Kill(); service.Wait() })
	until := func(what string, from int, parts ...string) {
		t.Helper()
		for end := time.Now().Add(2 * time.Minute); ; time.Sleep(2 * time.Millisecond) {
			got, missing := log.Since(from), ""
			for _, p := range parts {
				if !strings.Contains(got, p) {
					missing = p
				}
			}
			if missing == "" {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: the service does not say %q:\n%s", what, missing, got)
			}
		}
	}
	until("the start", 0, "msg=started")

	run := func(name string, args ...string) (said string, code int) {
		cmd := exec.Command(name, args...)
		cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
		var out []byte
		n.Do(func() { out, _ = cmd.CombinedOutput() })
		return string(out), cmd.ProcessState.ExitCode()
	}
	source := filepath.Join(local, "model.nepco")
	clear := func(names ...string) {
		t.Helper()
		for _, name := range names {
			if err := os.RemoveAll(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	file := func(data []byte) func(string) error {
		return func(name string) error { return files.Write(name, data) }
	}
	hour := func(n time.Duration) time.Time { return time.Now().Add(n * time.Hour).Truncate(time.Second) }
	for _, tc := range []struct {
		name string
		put  func(name string) error
		want string // of all
	}{
		{"unsigned", file(encode(other, nil, bundle.Statement{})), "bundle is not signed"},
		{"another key", file(encode(other, stranger, next)), "not a trusted key"},
		{"the root's key", file(encode(other, root, next)), "not a trusted key"},
		{"a revoked key", file(encode(other, revoked, next)), "revoked: stolen"},
		{"a lower serial", file(encode(other, signer, bundle.Statement{Serial: 9})), "serial 10 ran here before"},
		{"no serial", file(encode(other, signer, bundle.Statement{})), "bundle has no serial"},
		{"the serial of another", file(encode(other, signer, bundle.Statement{Serial: 10})), "which another bundle"},
		{"expired", file(encode(other, signer, bundle.Statement{Serial: 11, Expires: hour(-1)})), "bundle expired at"},
		{"not yet", file(encode(other, signer, bundle.Statement{Serial: 11, NotBefore: hour(2)})), "bundle is for use from"},
		{"a bit of its head", file(flipped(3)), "not a bundle"},
		{"a bit of its program", file(flipped(len(good) / 3)), "copy the file again"},
		{"a bit of its signature", file(flipped(len(good) - 50)), "not a signature of this bundle"},
		{"truncated", file(good[:len(good)-1]), "cut off"},
		{"empty", file(nil), "not a bundle"},
		{"too slow", file(encode(slow, signer, next)), "too slow: it takes"},
		{"without a contract", file(encode(arrays, signer, next)), "no traffic contract"},
		{"wrong CPU", file(encode(wrong, signer, next)), "other logits than the compiler"},
		{"a pipe", func(name string) error { return syscall.Mkfifo(name, 0o644) }, "is a named pipe, not a file"},
		{"a folder", func(name string) error { return os.Mkdir(name, 0o755) }, "is a folder, not a file"},
		{"a link to an older one", func(name string) error {
			if err := os.WriteFile(at("older"), encode(other, signer, bundle.Statement{Serial: 9}), 0o644); err != nil {
				return err
			}
			return os.Symlink(at("older"), name)
		}, "serial 10 ran here before"},
		{"a link to a device", func(name string) error { return os.Symlink("/dev/zero", name) }, "is a device, not a file"},
		{"too large", func(name string) error {
			if err := os.WriteFile(name, good, 0o644); err != nil {
				return err
			}
			return os.Truncate(name, 1<<30)
		}, ""},
	} {
		clear(model, source)
		if err := tc.put(source); err != nil {
			t.Fatal(err)
		}
		if got, code := run("nepcoc", "ship", source, "card:"+card, "--config", config); code != 1 || !strings.Contains(got, tc.want) {
			t.Errorf("%s: ship says, with exit code %d: %s", tc.name, code, got)
		}
		if _, err := os.Lstat(model); err == nil {
			t.Errorf("%s: ship has put it there", tc.name)
		}
		from := len(log.String())
		if err := tc.put(model); err != nil {
			t.Fatal(err)
		}
		until(tc.name, from, "bundle refused; the agent goes on with the one it has", tc.want, "digest="+runs)
		if got, code := run(at("nepcod"), "selftest", "--config", config, model); code != 1 || !strings.Contains(got, tc.want) {
			t.Errorf("%s: the self-test says, with exit code %d: %s", tc.name, code, got)
		}
		if got, _ := run(at("nepcod"), "check-config", config); !strings.Contains(got, "the last good bundle") || !strings.Contains(got, tc.want) {
			t.Errorf("%s: a start says: %s", tc.name, got)
		}
	}

	// Another contract than the configuration's: packets are cut below what it takes.
	clear(model, source)
	write(source, good, nil)
	write(at("short.yaml"), text(64), nil)
	for _, args := range [][]string{{"nepcoc", "ship", source, "card:" + card, "--config", at("short.yaml")}, {at("nepcod"), "selftest", "--config", at("short.yaml"), source}} {
		if got, code := run(args[0], args[1:]...); code != 1 || !strings.Contains(got, "receive.snaplen: 64 cuts packets below") {
			t.Errorf("%s, with exit code %d: %s", args[1], code, got)
		}
	}
	// A folder at the bundle's path takes nothing into it.
	if err := os.Mkdir(model, 0o755); err != nil {
		t.Fatal(err)
	}
	if got, code := run("nepcoc", "ship", source, "card:"+card, "--config", config); code != 1 || !strings.Contains(got, "model.nepco") {
		t.Errorf("to a folder, with exit code %d: %s", code, got)
	}
	if left, _ := filepath.Glob(at("model.nepco/*")); len(left) > 0 {
		t.Errorf("in the folder: %v", left)
	}
	if left, _ := filepath.Glob(at(".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	clear(model)
	from := len(log.String())
	if got, code := run("nepcoc", "ship", source, "card:"+card, "--config", config); code != 0 {
		t.Fatalf("a good one: %s", got)
	}
	until("a good one", from, "bundle changed")
}
