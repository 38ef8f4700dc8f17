//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"os"
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
	// listened asks until what comes within a second is heard: a machine may stand still for as long.
	listened := func(check string, want string) (m map[string]doctor.Finding, err error) {
		t.Helper()
		for range 30 {
			if m, err = ask("--listen", "1s"); m[check].Status == want && m["traffic"].Status == doctor.OK {
				break
			}
		}
		return m, err
	}
	while(func([]byte) bool { return true }, func() {
		m, err := listened("both directions", doctor.OK)
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
		if m, _ := listened("both directions", doctor.Warn); m["both directions"].Status != doctor.Warn || m["both directions"].WayOut == "" {
			t.Errorf("one direction: %+v", m["both directions"])
		}
	})
	if m, err := ask("--listen", "0s", "--iface", "nosuch"); err == nil || m["interface"].Status != doctor.Fail {
		t.Errorf("no interface: %v, %+v", err, m["interface"])
	}
	// What an agent that runs says of itself, and whether what verdicts ask for can be done. A number that is refused is said once.
	if err := files.Write(config, []byte("bundle: "+b+"\ninterface: far\nreceive: {blocks: 8}\noutput: {to: "+dir+"/eve.json}\nmetrics: {listen: '127.0.0.1:9479'}\nwatch: 10ms\n")); err != nil {
		t.Fatal(err)
	}
	p := nepcod(t, nil, nil, "run", "--config", config)
	p.begin(t, n)
	if m, _ := ask("--listen", "0s"); m["health"].Status != doctor.OK || !strings.HasPrefix(m["health"].Seen, "ok, bundle ") || m["actions"].Status != doctor.OK {
		t.Errorf("%+v, %+v", m["health"], m["actions"])
	}
	good, err := os.ReadFile(b)
	if err == nil {
		err = files.Write(b, []byte("no bundle"))
	}
	if err != nil {
		t.Fatal(err)
	}
	p.until(t, "bundle refused")
	if m, _ := ask("--listen", "0s"); m["health"].Status != doctor.Warn || !strings.Contains(m["health"].Seen, "the bundle is refused") {
		t.Errorf("%+v", m["health"])
	}
	p.Process.Kill()
	p.Wait()
	for _, c := range []struct{ file, text string }{{b, string(good)}, {config, "bundle: " + b + "\ninterface: far\nprobation: {load: 0s}\noutput: {to: " + dir + "/eve.json}\nactions: {rules: [{labels: [a0], min_score: 1, do: mirror, to: nosuch1}]}\n"}} {
		if err := files.Write(c.file, []byte(c.text)); err != nil {
			t.Fatal(err)
		}
	}
	if m, err := ask("--listen", "0s"); err == nil || m["actions"].Status != doctor.Fail || !strings.Contains(m["actions"].Seen, "nosuch1") || m["configuration"].Status != doctor.Fail || m["bundle"].Status != doctor.OK {
		t.Errorf("%v, %+v, %+v, %+v", err, m["actions"], m["configuration"], m["bundle"])
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
	// Where the last good one is kept a start runs that.
	state := filepath.Join(dir, "state.json")
	for _, c := range []struct{ file, text string }{{state + ".last-good", string(good)}, {config, "bundle: " + b + "\nstate: " + state + "\ninterface: far\noutput: {to: " + dir + "/eve.json}\nmetrics: {listen: ''}\n"}} {
		if err := files.Write(c.file, []byte(c.text)); err != nil {
			t.Fatal(err)
		}
	}
	n.Do(func() { exec.Command("ip", "link", "set", testnet.Far, "up").Run() })
	if m, err := ask("--listen", "0s"); err != nil || m["bundle instead"].Status != doctor.Warn || !strings.Contains(m["bundle instead"].Seen, "not a bundle") || m["bundle"].Status != doctor.OK || !strings.HasPrefix(m["bundle"].Seen, state+".last-good") {
		t.Errorf("broken bundle, a last good one: %v, %+v", err, m)
	}
}
