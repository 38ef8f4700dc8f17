//go:build unix

package agent_test

import (
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"nepcoc/runtime/agent"
	"nepcoc/runtime/capture"
)

// soon fails where f hasn't come back within a minute.
func soon(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan bool)
	go func() { f(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatalf("%s waits for a reader", what)
	}
}

// A FIFO that nobody reads keeps the agent neither from ending nor, later on, from opening its output anew; what comes
// meanwhile is lost and said to be, and who reads it then gets whole lines.
func TestFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	mkfifo := func() {
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	mkfifo()
	var sink io.Writer
	var err error
	soon(t, "a stop", func() {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := agent.OpenSink(ctx, path, nil); err == nil || !strings.Contains(err.Error(), "nobody reads") {
			t.Error("no reader:", err)
		}
	})
	read := func() <-chan string {
		lines := make(chan string, 100)
		go func() {
			f, err := os.Open(path)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			for r := bufio.NewReader(f); ; {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				lines <- line
			}
		}()
		return lines
	}
	first := read()
	soon(t, "the start", func() { sink, err = agent.OpenSink(t.Context(), path, nil) })
	if err != nil {
		t.Fatal(err)
	}
	defer sink.(io.Closer).Close()
	write := func(line string) (err error) {
		soon(t, "a line", func() { _, err = io.WriteString(sink, line) })
		return err
	}
	if err := write("one\n"); err != nil || <-first != "one\n" {
		t.Error("with a reader:", err)
	}
	a, err := agent.New(agent.Options{Sources: []capture.Source{new(capture.Memory)}, Model: testModel(t, 0, "class"), Sink: sink})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	mkfifo()
	soon(t, "HUP", a.ReopenOutput)
	if err := write("two\n"); err == nil || !strings.Contains(err.Error(), "nobody reads") {
		t.Error("without a reader:", err)
	}
	second := read()
	for end := time.Now().Add(time.Minute); write("three\n") != nil && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if line := <-second; line != "three\n" {
		t.Errorf("the second reader gets %q", line)
	}
}
