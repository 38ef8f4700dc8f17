//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"nepcoc/internal/files"
	"nepcoc/internal/testfiles"
	"nepcoc/internal/testnet"
	"nepcoc/runtime/privilege"
)

// An agent that has given up its rights does all that it did before: it begins its output anew, remembers serials, takes new bundles and refuses others, and keeps unknown flows.
func TestSandbox(t *testing.T) {
	if privilege.LandlockABI() == 0 {
		testfiles.Missing(t, "no landlock here")
	}
	n := testnet.New(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, d := range []string{"models", "log", "lib"} {
		if err := os.Mkdir(at(d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := files.Write(at("models/m.nepco"), bundleBytes(t, 0, "a")); err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("bundle: %s\ninterface: %s\noutput: {to: %s}\nstate: %s\nkeep_unknown: {to: %s}\nunknown_threshold: 1\nmetrics: {listen: ':0'}\nsandbox: {require: true}\n",
		at("models/m.nepco"), testnet.Far, at("log/eve.json"), at("lib/state.json"), at("lib/unknown.pcap"))
	if err := files.Write(at("nepcod.yaml"), []byte(config)); err != nil {
		t.Fatal(err)
	}
	p := nepcod(t, nil, nil, "run", "--config", at("nepcod.yaml"))
	p.begin(t, n)
	threads := privilege.Threads(p.Process.Pid)
	for _, s := range threads {
		if s.Effective|s.Permitted|s.Inheritable|s.Ambient|s.Bounding != 0 || !s.NoNewPrivs || s.Seccomp != 2 {
			t.Errorf("a thread has %+v", s)
		}
	}
	if len(threads) < 3 {
		t.Errorf("%d threads", len(threads))
	}
	send := n.NewSender(t, testnet.Near)
	sent := sendTestbed(t, send)
	if err := os.Rename(at("log/eve.json"), at("log/eve.1")); err != nil {
		t.Fatal(err)
	}
	if err := files.Write(at("models/m.nepco"), bundleBytes(t, 1, "b")); err != nil {
		t.Fatal(err)
	}
	p.Process.Signal(syscall.SIGHUP)
	p.until(t, "bundle changed")
	if err := files.Write(at("models/m.nepco"), []byte("broken")); err != nil {
		t.Fatal(err)
	}
	p.Process.Signal(syscall.SIGHUP)
	p.until(t, "bundle refused")
	p.receives(t, n, sent)
	p.Process.Signal(syscall.SIGTERM)
	if err := p.Wait(); err != nil {
		t.Fatalf("%v:\n%s", err, p.stderr())
	}
	if s := p.stderr(); strings.Contains(s, "not permitted") || strings.Contains(s, "permission denied") || strings.Contains(s, "level=WARN msg=\"sandbox") {
		t.Errorf("something is out of reach:\n%s", s)
	}
	lines := 0
	for _, name := range []string{"log/eve.1", "log/eve.json"} {
		b, err := os.ReadFile(at(name))
		if err != nil {
			t.Fatal(err)
		}
		for l := range strings.Lines(string(b)) {
			if !json.Valid([]byte(l)) {
				t.Errorf("%s: %s", name, l)
			}
			if !strings.Contains(l, `"nepco":{"trial":`) { // of the changed bundle
				lines++
			}
		}
	}
	if lines != 441 {
		t.Errorf("%d lines, want 441:\n%s", lines, p.stderr())
	}
	if info, err := os.Stat(at("lib/unknown.pcap")); err != nil || info.Size() < 1000 {
		t.Errorf("kept flows: %v", err)
	}
}

// A link, of a file or of a folder, that is pointed elsewhere while the agent runs leads out of what it was left: each file that can't be reached any more is
// said with the way out, and with links as they were all is well again.
func TestSandboxLinks(t *testing.T) {
	if privilege.LandlockABI() == 0 {
		testfiles.Missing(t, "no landlock here")
	}
	n := testnet.New(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	link := func(to, name string) {
		t.Helper()
		tmp := at(name + ".tmp")
		if err := os.Symlink(to, tmp); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, at(name)); err != nil {
			t.Fatal(err)
		}
	}
	for i, d := range []string{"v1", "v2", "log1", "log2", "out"} {
		if err := os.Mkdir(at(d), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := files.Write(at(d+"/m.nepco"), bundleBytes(t, i&1, "a")); err != nil {
			t.Fatal(err)
		}
	}
	link("v1", "models")
	link("../log1/eve.json", "out/eve.json")
	config := fmt.Sprintf("bundle: %s\ninterface: %s\noutput: {to: %s}\nwatch: 20ms\nprobation: {time: 0s}\nmetrics: {listen: '127.0.0.1:0'}\nsandbox: {require: true}\n", at("models/m.nepco"), testnet.Far, at("out/eve.json"))
	if err := files.Write(at("nepcod.yaml"), []byte(config)); err != nil {
		t.Fatal(err)
	}
	p := nepcod(t, nil, nil, "run", "--config", at("nepcod.yaml"))
	p.begin(t, n)
	link("v2", "models")
	p.until(t, "bundle refused.*permission denied: it leads into "+at("v2")+" now.*landlock.*restart the agent")
	link("../log2/eve.json", "out/eve.json")
	p.Process.Signal(syscall.SIGHUP)
	p.until(t, "eve.json: permission denied: it leads into "+at("log2")+" now.*restart the agent")
	link("v1", "models")
	if err := files.Write(at("v1/m.nepco"), bundleBytes(t, 1, "b")); err != nil {
		t.Fatal(err)
	}
	p.until(t, "bundle changed")
	p.Process.Signal(syscall.SIGTERM)
	p.Wait()
}

// What is switched off is a warning each time; with require it is refused.
func TestSandboxOff(t *testing.T) {
	dir := t.TempDir()
	bundle, config := filepath.Join(dir, "m.nepco"), filepath.Join(dir, "c.yaml")
	if err := files.Write(bundle, bundleBytes(t, 0, "a")); err != nil {
		t.Fatal(err)
	}
	pcap := filepath.Join(testfiles.Root(t), "examples", "testbed", "test.pcap")
	p := nepcod(t, nil, nil, "run", "--sandbox=false", "--bundle", bundle, "--pcap", pcap)
	if err := p.Run(); err != nil || strings.Count(p.stderr(), "is switched off") != 3 {
		t.Errorf("%v: %s", err, p.stderr())
	}
	if err := files.Write(config, []byte("bundle: "+bundle+"\nsandbox: {require: true, seccomp: false}\n")); err != nil {
		t.Fatal(err)
	}
	p = nepcod(t, nil, nil, "run", "--config", config, "--pcap", pcap)
	if err := p.Run(); err == nil || !strings.Contains(p.stderr(), "sandbox.require: goes with") {
		t.Errorf("%v: %s", err, p.stderr())
	}
}

// An agent that has given up its rights writes to a reader's socket, of either kind, and connects to the next reader when that has gone.
func TestSandboxSockets(t *testing.T) {
	if privilege.LandlockABI() == 0 {
		testfiles.Missing(t, "no landlock here")
	}
	n := testnet.New(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := files.Write(at("m.nepco"), bundleBytes(t, 0, "a")); err != nil {
		t.Fatal(err)
	}
	for kind, network := range map[string]string{"unix": "unix", "unix_dgram": "unixgram"} {
		// reader waits for a verdict, then goes away.
		reader := func() (got chan error) {
			got = make(chan error, 1)
			var conn net.Conn
			var l net.Listener
			var err error
			if network == "unixgram" {
				conn, err = net.ListenUnixgram(network, &net.UnixAddr{Name: at("sock"), Net: network})
			} else {
				l, err = net.Listen(network, at("sock"))
			}
			if err != nil {
				t.Fatal(err)
			}
			read := func() error {
				defer os.Remove(at("sock"))
				if l != nil {
					defer l.Close()
					l.(*net.UnixListener).SetDeadline(time.Now().Add(time.Minute))
					if conn, err = l.Accept(); err != nil {
						return err
					}
				}
				defer conn.Close()
				b := make([]byte, 64<<10)
				conn.SetReadDeadline(time.Now().Add(time.Minute))
				k, err := conn.Read(b)
				if err == nil && !strings.Contains(string(b[:k]), `"event_type"`) {
					err = fmt.Errorf("%q", b[:k])
				}
				return err
			}
			go func() { got <- read() }()
			return got
		}
		first := reader()
		config := fmt.Sprintf("bundle: %s\ninterface: %s\noutput: {to: '%s:%s'}\nmetrics: {listen: ''}\nsandbox: {require: true}\n", at("m.nepco"), testnet.Far, kind, at("sock"))
		if err := files.Write(at("nepcod.yaml"), []byte(config)); err != nil {
			t.Fatal(err)
		}
		p := nepcod(t, nil, nil, "run", "--config", at("nepcod.yaml"))
		p.begin(t, n)
		send := n.NewSender(t, testnet.Near)
		flow, end := uint32(0), time.Now().Add(3*time.Minute)
		for i, got := range []chan error{first, nil} {
			if got == nil {
				got = reader()
			}
			for done := false; !done; {
				select {
				case err := <-got:
					if done = true; err != nil {
						t.Errorf("%s, reader %d: %v\n%s", kind, i, err, p.stderr())
					}
				case <-time.After(2 * time.Millisecond):
					if time.Now().After(end) {
						t.Fatalf("%s, reader %d has got nothing:\n%s", kind, i, p.stderr())
					}
					if err := send.Send(datagram(flow, 1000)); err != nil { // decides its flow
						t.Fatal(err)
					}
					flow++
				}
			}
		}
		p.Process.Signal(syscall.SIGTERM)
		p.Wait()
		if s := p.stderr(); strings.Contains(s, "not permitted") {
			t.Errorf("%s: %s", kind, s)
		}
	}
}
