package agent_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"nepcoc/runtime/agent"
)

// A file that is renamed away, or truncated, is followed by a new one.
func TestRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "eve.json")
	s, err := agent.OpenSink(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.(io.Closer).Close()
	write := func(line string) {
		if _, err := s.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	write("one\n")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1100 * time.Millisecond)
	write("two\n")
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	write("three\n")
	for name, want := range map[string]string{path + ".1": "one\n", path: "three\n"} {
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s: %q, want %q (%v)", name, got, want, err)
		}
	}
	if _, err := agent.OpenSink(filepath.Join(path, "x"), nil); err == nil {
		t.Error("a file below a file")
	}
	var stdout bytes.Buffer
	for _, name := range []string{"-", "/dev/stdout"} {
		s, err := agent.OpenSink(name, &stdout)
		if err != nil {
			t.Fatal(err)
		}
		if s.Write([]byte("x\n")); stdout.String() != "x\n" {
			t.Errorf("%s is not standard output", name)
		}
		stdout.Reset()
	}
}

// A reader of the socket may come late, and go and come back.
func TestSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	s, err := agent.OpenSink("unix:"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.(io.Closer).Close()
	if _, err := s.Write([]byte("lost\n")); err == nil {
		t.Error("written to nobody")
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, line := range []string{"one\n", "two\n"} {
		time.Sleep(1100 * time.Millisecond)
		for try := 0; ; try++ {
			// What is written to a reader that has just gone may seem to succeed.
			if _, err := s.Write([]byte(line)); err == nil {
				break
			} else if try == 3 {
				t.Fatal(err)
			}
			time.Sleep(1100 * time.Millisecond)
		}
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := bufio.NewReader(conn).ReadString('\n'); got != line {
			t.Errorf("%q (%v)", got, err)
		}
		conn.Close()
	}
	if _, err := agent.OpenSink("unix:", nil); err == nil {
		t.Error("no path, no error")
	}
}
