package agent_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nepcoc/internal/testfiles"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/verdict"
)

// A file that is renamed away, or truncated, is followed by a new one.
func TestRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "eve.json")
	s, err := agent.OpenSink(t.Context(), path, nil)
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
	if _, err := agent.OpenSink(t.Context(), filepath.Join(path, "x"), nil); err == nil {
		t.Error("a file below a file")
	}
	var stdout bytes.Buffer
	for _, name := range []string{"-", "/dev/stdout"} {
		s, err := agent.OpenSink(t.Context(), name, &stdout)
		if err != nil {
			t.Fatal(err)
		}
		if s.Write([]byte("x\n")); stdout.String() != "x\n" {
			t.Errorf("%s is not standard output", name)
		}
		stdout.Reset()
	}
}

// holders counts the descriptors of this process that are open on a file, under whatever name it is now.
func holders(t *testing.T, path string) (n int) {
	t.Helper()
	want, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	for _, fd := range fds {
		if info, err := os.Stat("/proc/self/fd/" + fd.Name()); err == nil && os.SameFile(info, want) {
			n++
		}
	}
	return n
}

// Told to, the agent lets go of a file that was renamed at once: no line is needed for it, and each line
// from then on stands in the new file. A file that was not renamed stays. Where no new file can be made,
// lines are lost and said to be, until one can.
func TestReopen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "eve.json")
	s, err := agent.OpenSink(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.(io.Closer).Close()
	a, err := agent.New(agent.Options{
		Sources: []capture.Source{new(capture.Memory)}, Model: testModel(t, 0, "class"), Sink: s,
	})
	if err != nil {
		t.Fatal(err)
	}
	write := func(line string) error {
		_, err := s.Write([]byte(line))
		return err
	}
	check := func(name, want string) {
		t.Helper()
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s: %q, want %q (%v)", name, got, want, err)
		}
	}
	write("one\n")
	a.ReopenOutput()
	write("two\n")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	a.ReopenOutput()
	if n := holders(t, path+".1"); n != 0 {
		t.Errorf("the renamed file is open %d times", n)
	}
	write("three\n")
	check(path+".1", "one\ntwo\n")
	check(path, "three\n")
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	a.ReopenOutput()
	if err := write("four\n"); err == nil {
		t.Error("written to a file that was rotated away")
	}
	if err := os.Mkdir(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := write("five\n"); err != nil {
		t.Error(err)
	}
	check(filepath.Join(dir+".old", "eve.json"), "three\n")
	check(path, "five\n")
}

// A datagram socket gets one datagram for each event; a record with one that no datagram holds is counted as
// such, and the others go on. The reader may come late, and go and come back.
func TestDatagrams(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	s, err := agent.OpenSink(t.Context(), "unix_dgram:"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.(io.Closer).Close()
	if _, err := s.Write([]byte("lost\n")); err == nil {
		t.Error("written to nobody")
	}
	time.Sleep(1100 * time.Millisecond)
	m := testModel(t, 0, "class")
	test := filepath.Join(testfiles.Root(t), "examples", "testbed", "test.pcap")
	for range 2 {
		l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		got, ended := map[string]int{}, make(chan bool)
		go func() {
			defer close(ended)
			b := make([]byte, 1<<16)
			for {
				n, err := l.Read(b)
				if err != nil {
					return
				}
				var e struct {
					Type string `json:"event_type"`
				}
				if err := json.Unmarshal(b[:n], &e); err != nil {
					t.Errorf("%v: %.100q", err, b[:n])
				}
				if got[e.Type]++; e.Type == "end" {
					return
				}
			}
		}()
		mem, _ := load(test)
		n := 0
		_, r := runAgent(t, t.Context(), agent.Options{
			Sources: []capture.Source{mem}, Model: m, Lossless: true, Alerts: m.Bundle.Manifest.Outputs[0].Labels[:2], Sink: s,
			Format: func(r *verdict.Record, b []byte) []byte {
				if n++; n%50 == 0 {
					return append(append(append(b, `{"event_type":"large","x":"`...), bytes.Repeat([]byte{'x'}, 1<<20)...), `"}`...)
				}
				return r.AppendEVE(b)
			},
		})
		if _, err := s.Write([]byte(`{"event_type":"end"}` + "\n")); err != nil {
			t.Error(err)
		}
		<-ended
		l.Close()
		os.Remove(path)
		if r.OutputTooLarge != r.Records/50 || r.Written != r.Records-r.OutputTooLarge || got["flow"] != int(r.Written) || got["alert"] == 0 || got["large"] != 0 {
			t.Errorf("%v; %s, %d too large", got, r, r.OutputTooLarge)
		}
		if err := r.Lost(); err == nil || !strings.Contains(err.Error(), "datagram") {
			t.Errorf("what is said: %v", err)
		}
		// What goes to nobody shows that the reader is gone.
		if _, err := s.Write([]byte("lost\n")); err == nil {
			t.Error("written to a reader that is gone")
		}
		time.Sleep(1100 * time.Millisecond)
	}
	// A socket of the other kind is said to be one.
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := s.Write([]byte("lost\n")); err == nil || !strings.Contains(err.Error(), "unix:"+path) {
		t.Error(err)
	}
}

// A reader of the socket may come late, and go and come back.
func TestSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	s, err := agent.OpenSink(t.Context(), "unix:"+path, nil)
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
	if _, err := agent.OpenSink(t.Context(), "unix:", nil); err == nil {
		t.Error("no path, no error")
	}
}

// What a socket's reader that has gone takes nothing of goes to the one that stands in its place already: when a reader is started
// anew, no verdict is lost that was not on its way to the old one.
func TestSocketReplaced(t *testing.T) {
	for prefix, network := range map[string]string{"unix:": "unix", "unix_dgram:": "unixgram"} {
		path := filepath.Join(t.TempDir(), "s")
		s, err := agent.OpenSink(t.Context(), prefix+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.(io.Closer).Close()
		// listen gives how to read a line, and how to leave.
		listen := func() (read func() string, leave func()) {
			if network == "unixgram" {
				c, err := net.ListenUnixgram(network, &net.UnixAddr{Name: path, Net: network})
				if err != nil {
					t.Fatal(err)
				}
				return func() string {
					b := make([]byte, 100)
					c.SetReadDeadline(time.Now().Add(time.Minute))
					n, _ := c.Read(b)
					return string(b[:n])
				}, func() { c.Close(); os.Remove(path) }
			}
			l, err := net.Listen(network, path)
			if err != nil {
				t.Fatal(err)
			}
			l.(*net.UnixListener).SetDeadline(time.Now().Add(time.Minute))
			var conn net.Conn
			return func() string {
				if conn == nil {
					if conn, err = l.Accept(); err != nil {
						return err.Error()
					}
				}
				line, _ := bufio.NewReader(conn).ReadString('\n')
				return line
			}, func() { l.Close(); conn.Close() }
		}
		read, leave := listen()
		for i, line := range []string{"one\n", "two\n"} {
			if i > 0 {
				leave()
				read, leave = listen()
				time.Sleep(1100 * time.Millisecond) // as often as the sink connects
			}
			if _, err := io.WriteString(s, line); err != nil {
				t.Fatalf("%s%q: %v", prefix, line, err)
			}
			if got := read(); got != line {
				t.Errorf("%s%q, want %q", prefix, got, line)
			}
		}
		leave()
	}
}
