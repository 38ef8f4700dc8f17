//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"nepcoc/internal/files"
	"nepcoc/internal/testfiles"
	"nepcoc/internal/testnet"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/doctor"
)

// What doctor says of a cable: that it is up, with traffic of both directions or of one; that it is down, and how to mend that. An agent that runs is seen.
func TestDoctor(t *testing.T) {
	n := testnet.New(t)
	dir := t.TempDir()
	b := filepath.Join(dir, "m.nepco")
	if err := files.Write(b, bundleBytes(t, 0, "a")); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "c.yaml")
	if err := files.Write(config, []byte("bundle: "+b+"\ninterface: far\nreceive: {blocks: 8}\noutput: {to: "+dir+"/eve.json}\n")); err != nil {
		t.Fatal(err)
	}
	ask := func(args ...string) (map[string]doctor.Finding, error) {
		var out bytes.Buffer
		p := nepcod(t, &out, nil, append([]string{"doctor", "--json", "--config", config}, args...)...)
		n.Do(func() {
			if err := p.Start(); err != nil {
				t.Fatal(err)
			}
		})
		err := p.Wait()
		var r struct {
			OK       bool
			Findings []doctor.Finding
		}
		if wrong := json.Unmarshal(out.Bytes(), &r); wrong != nil || r.OK != (err == nil) {
			t.Fatalf("%v: %v: %s%s", args, wrong, out.String(), p.stderr())
		}
		m := map[string]doctor.Finding{}
		for _, f := range r.Findings {
			m[f.Check] = f
		}
		return m, err
	}
	var frames [][]byte
	src, err := capture.Open(filepath.Join(testfiles.Root(t), "examples", "testbed", "test.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	var f capture.Frame
	for src.Next(&f) == nil && len(frames) < 300 {
		frames = append(frames, bytes.Clone(f.Data))
	}
	// While is the time that somebody sends.
	while := func(wanted func([]byte) bool, do func()) {
		send, done, ended := n.NewSender(t, testnet.Near), make(chan bool), make(chan bool)
		go func() {
			defer close(ended)
			for {
				for _, b := range frames {
					select {
					case <-done:
						return
					default:
					}
					if wanted(b) {
						send.Send(b)
					}
				}
			}
		}()
		do()
		close(done)
		<-ended
	}
	while(func([]byte) bool { return true }, func() {
		m, err := ask("--listen", "1s")
		for _, check := range []string{"configuration", "rights", "interface", "bundle", "ring memory", "traffic", "both directions", "output", "disk", "offloads"} {
			if m[check].Status != doctor.OK && check != "offloads" || m[check].Seen == "" {
				t.Errorf("%s: %+v", check, m[check])
			}
		}
		if err != nil {
			t.Error(err)
		}
		if m["signature"].Status != doctor.Warn {
			t.Errorf("without keys: %+v", m["signature"])
		}
	})
	// One way: from lower to higher addresses.
	while(func(b []byte) bool { return len(b) > 34 && bytes.Compare(b[26:30], b[30:34]) < 0 }, func() {
		if m, _ := ask("--listen", "1s"); m["both directions"].Status != doctor.Warn || m["both directions"].WayOut == "" {
			t.Errorf("one direction: %+v", m["both directions"])
		}
	})
	if m, err := ask("--listen", "0s", "--iface", "nosuch"); err == nil || m["interface"].Status != doctor.Fail {
		t.Errorf("no interface: %v, %+v", err, m["interface"])
	}
	n.Do(func() { exec.Command("ip", "link", "set", testnet.Far, "down").Run() })
	if m, err := ask("--listen", "0s"); err == nil || m["interface"].Status != doctor.Fail || !strings.Contains(m["interface"].WayOut, "ip link set far up") {
		t.Errorf("down: %v, %+v", err, m["interface"])
	}
	if err := files.Write(b, []byte("broken")); err != nil {
		t.Fatal(err)
	}
	if m, err := ask("--listen", "0s"); err == nil || m["bundle"].Status != doctor.Fail {
		t.Errorf("broken bundle: %v, %+v", err, m["bundle"])
	}
}
