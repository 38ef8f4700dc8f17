//go:build linux

package main

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"nepcoc/internal/files"
	"nepcoc/internal/testfiles"
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
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		to   string
		code int
		says string
	}{
		{fifo, 1, "nepcod: 441 of 441 verdicts could not be written: " + fifo + ": a FIFO that nobody reads"},
		{"unix:" + dir + "/none", 1, "nepcod: 441 of 441 verdicts could not be written: " + dir + "/none: no such file or directory"},
		{out, 0, ""},
	} {
		p := nepcod(t, nil, nil, "run", "--bundle", model, "--iface", testnet.Far, "--output", c.to, "--metrics", ":0")
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
		p.receives(t, n, sendTestbed(t, send))
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

// A FIFO's reader that comes after the agent gets lines: an agent on an interface has begun without it, one that reads a capture says that it waits, and
// nothing is lost. Doctor and check-config say before that nobody reads.
func TestReaderComesLate(t *testing.T) {
	n := testnet.New(t)
	dir := t.TempDir()
	model, fifo, config := filepath.Join(dir, "model.nepco"), filepath.Join(dir, "fifo"), filepath.Join(dir, "c.yaml")
	if err := files.Write(model, bundleBytes(t, 0, "a")); err != nil {
		t.Fatal(err)
	}
	if err := files.Write(config, []byte("bundle: "+model+"\ninterface: far\nreceive: {blocks: 8}\noutput: {to: "+fifo+"}\nmetrics: {listen: ''}\n")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	ask := func(args ...string) string {
		var out bytes.Buffer
		p := nepcod(t, &out, nil, args...)
		n.Do(func() { p.Run() })
		return out.String() + p.stderr()
	}
	const nobody = ": a FIFO that nobody "
	for _, said := range []string{ask("check-config", config), ask("doctor", "--listen", "0s", "--config", config)} {
		if !strings.Contains(said, "output: "+fifo+nobody) {
			t.Errorf("a FIFO without a reader: %s", said)
		}
	}
	p := nepcod(t, nil, nil, "run", "--config", config)
	p.begin(t, n)
	if strings.Count(p.stderr(), "output: a FIFO that nobody reads") != 1 {
		t.Errorf("begins without a reader, and says nothing of it: %s", p.stderr())
	}
	reader, err := os.OpenFile(fifo, os.O_RDWR|syscall.O_NONBLOCK, 0) // does not end where writers do
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if said := ask("check-config", config); strings.Contains(said, nobody) {
		t.Errorf("a FIFO that is read: %s", said)
	}
	sendTestbed(t, n.NewSender(t, testnet.Near))
	reader.SetReadDeadline(time.Now().Add(time.Minute))
	r := bufio.NewReader(reader)
	if line, err := r.ReadString('\n'); !strings.Contains(line, "event_type") {
		t.Errorf("%q, %v", line, err)
	}
	reader.SetReadDeadline(time.Time{})
	go io.Copy(io.Discard, r)
	p.Process.Signal(syscall.SIGTERM)
	p.Wait()
	if strings.Contains(p.stderr(), "could not be written: "+fifo) { // too slow a reader is another matter
		t.Error(p.stderr())
	}
	reader.Close()

	p = nepcod(t, nil, nil, "run", "--bundle", model, "--pcap", filepath.Join(testfiles.Root(t), "examples", "testbed", "test.pcap"), "--output", fifo)
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Process.Kill() })
	p.until(t, "waiting for its reader")
	all, err := os.ReadFile(fifo)
	if wrong := p.Wait(); wrong != nil || err != nil || bytes.Count(all, []byte("\n")) != 441 {
		t.Errorf("%v, %v, %d lines:\n%s", wrong, err, bytes.Count(all, []byte("\n")), p.stderr())
	}
}
