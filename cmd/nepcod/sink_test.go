//go:build linux

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"nepcoc/internal/files"
	"nepcoc/internal/testnet"
)

// An agent on an interface whose verdicts have nobody to read them ends with exit 1 and says how many are lost. One whose file is
// renamed and that is told so begins a new one at once, and ends with 0: none is lost.
func TestDaemonOutput(t *testing.T) {
	n := testnet.New(t)
	dir := t.TempDir()
	model, out := filepath.Join(dir, "model.nepco"), filepath.Join(dir, "eve.json")
	if err := files.Write(model, bundleBytes(t, 0, "a")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		to   string
		code int
		says string
	}{
		{"unix:" + dir + "/none", 1, "nepcod: 441 of 441 verdicts could not be written: " + dir + "/none: no such file or directory"},
		{out, 0, ""},
	} {
		p := nepcod(t, nil, nil, "run", "--bundle", model, "--iface", testnet.Far, "--output", c.to)
		p.begin(t, n)
		if c.to == out {
			if err := os.Rename(out, out+".1"); err != nil {
				t.Fatal(err)
			}
			p.Process.Signal(syscall.SIGHUP)
			p.until(t, "bundle changed")
			if _, err := os.Stat(out); err != nil {
				t.Error("not opened anew:", err)
			}
		}
		send := n.NewSender(t, testnet.Near)
		sendTestbed(t, send)
		time.Sleep(500 * time.Millisecond) // as inFlight of package agent's tests
		p.Process.Signal(syscall.SIGTERM)
		p.Wait()
		if code := p.ProcessState.ExitCode(); code != c.code || !strings.Contains(p.stderr(), c.says) {
			t.Errorf("exit code %d, want %d:\n%s", code, c.code, p.stderr())
		}
	}
	old, _ := os.ReadFile(out + ".1")
	now, err := os.ReadFile(out)
	if len(old) != 0 || bytes.Count(now, []byte("\n")) != 441 {
		t.Errorf("%d bytes in the old file, %d lines in the new one (%v)", len(old), bytes.Count(now, []byte("\n")), err)
	}
}
