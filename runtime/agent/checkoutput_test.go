//go:build linux

package agent_test

import (
	"bufio"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"nepcoc/internal/testbundle"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/bundle"
)

// What an output is that nobody takes lines from is said beforehand: what may still come as a note, what can't be as an error. Nobody who listens there,
// or waits for a writer, notices that it was asked.
func TestCheckOutput(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	check := func(to, wantNote, wantErr string) {
		t.Helper()
		c := agent.DefaultConfig()
		c.Output.To = to
		note, err := c.CheckOutput()
		note += c.ReaderNote()
		for what, is := range map[string][2]string{"note": {note, wantNote}, "error": {text(err), wantErr}} {
			if got, want := is[0], is[1]; (got == "") != (want == "") || !strings.Contains(got, want) || got != "" && !strings.Contains(got, strings.TrimPrefix(strings.TrimPrefix(to, "unix:"), "unix_dgram:")) {
				t.Errorf("%s: %s %q, want %q", to, what, got, want)
			}
		}
	}
	const lost = "verdicts are lost, and counted"
	// FIFOs, by their names and by links.
	if err := syscall.Mkfifo(at("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("fifo", at("link")); err != nil {
		t.Fatal(err)
	}
	check(at("fifo"), "a FIFO that nobody ", "")
	check(at("link"), lost, "")
	check("unix:"+at("fifo"), "", "is no socket")
	reader, err := os.OpenFile(at("fifo"), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	check(at("fifo"), "", "")
	check(at("link"), "", "")
	writer, err := os.OpenFile(at("fifo"), os.O_WRONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	reader.Close()
	check(at("fifo"), lost, "") // a writer reads nothing
	writer.Close()
	// One that waits for a writer finds none that leaves at once.
	read := make(chan string)
	go func() {
		b, _ := os.ReadFile(at("fifo"))
		read <- string(b)
	}()
	for range 20 {
		c := agent.DefaultConfig()
		c.Output.To = at("fifo")
		if _, err := c.CheckOutput(); err != nil {
			t.Error(err)
		}
		c.ReaderNote()
	}
	if err := os.WriteFile(at("fifo"), []byte("line"), 0); err != nil {
		t.Fatal(err)
	}
	if s := <-read; s != "line" {
		t.Errorf("who waited for a writer has read %q", s)
	}

	// Sockets: one that is gone, one of each kind.
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: at("stale"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	stream, err := net.Listen("unix", at("stream"))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	datagrams, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: at("datagrams"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer datagrams.Close()
	abstract, err := net.Listen("unix", "@"+dir)
	if err != nil {
		t.Fatal(err)
	}
	defer abstract.Close()
	for _, kind := range []string{"unix:", "unix_dgram:"} {
		check(kind+at("none"), lost, "")
		check(kind+at("none/none"), "", "there is no folder")
		check(kind+at("stale"), lost, "")
		check(kind+dir, "", "is no socket")
		check(kind+at(strings.Repeat("long", 40)), "", "invalid argument")
	}
	check("unix:"+at("stream"), "", "")
	check("unix:@"+dir, "", "")
	check("unix_dgram:@"+dir+"/none", lost, "")
	check("unix_dgram:"+at("datagrams"), "", "")
	check("unix_dgram:"+at("stream"), "", "of the other kind: unix:"+at("stream"))
	check("unix:"+at("datagrams"), "", "of the other kind: unix_dgram:"+at("datagrams"))
	check(at("stream"), "", "is a socket: name it unix:")
	for name, listener := range map[string]net.Listener{at("stream"): stream, "@" + dir: abstract} {
		conn, err := net.Dial("unix", name)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(conn, "first\n")
		first, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(first).ReadString('\n'); line != "first\n" {
			t.Errorf("%s: the first connection says %q (%v)", name, line, err)
		}
		first.Close()
		conn.Close()
	}

	// Folders, files, and what can't be one.
	check(dir, "", "is a folder")
	check(at("new"), "", "")
	check(at("none/new"), "", "there is no folder")
	t.Run("devices", func(t *testing.T) {
		check(testfiles.Device(t, "null"), "", "")
		check(testfiles.Device(t, "full"), "", "a device that can't be written to: no space left")
		if err := unix.Mknod(at("disk"), unix.S_IFBLK|0o600, int(unix.Mkdev(240, 1))); err != nil { // a number for experiments
			testfiles.Missing(t, "%v", err)
		}
		check(at("disk"), "", "is a disk")
	})
}

// What a state can't be remembered in is refused once, and nobody waits for its other end.
func TestStateIsAFile(t *testing.T) {
	dir := t.TempDir()
	model, fifo := filepath.Join(dir, "model.nepco"), filepath.Join(dir, "fifo")
	if err := testbundle.Write(model, testBundle(t, 0, "class"), bundle.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, keys := range [][]string{{filepath.Join(dir, "none.pub")}, nil} {
		for _, state := range []string{fifo, dir} {
			c := agent.DefaultConfig()
			c.Bundle, c.State, c.TrustedKeys, c.Metrics.Listen = model, state, keys, ""
			_, _, err := c.Preflight()
			if strings.Count(text(err), "state: "+state+": is a ") != 1 || len(agent.Errors(err)) != 1+len(keys) {
				t.Errorf("%s, keys %q: %v", state, keys, err)
			}
		}
	}
}

// text is an error's; empty for none.
func text(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}
