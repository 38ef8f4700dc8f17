package agent_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"nepcoc/internal/testfiles"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/capture"
)

// smallDisk is a disk with room for one page of the sink's lines and half
// another: writes to it are cut within a line, as they are on a full disk.
type smallDisk struct {
	bytes.Buffer
	room int
}

func (d *smallDisk) Write(b []byte) (int, error) {
	n := min(len(b), max(d.room-d.Len(), 0))
	d.Buffer.Write(b[:n])
	if n < len(b) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

// checkLines says how many records are whole in what was written; every line must be
// one, but those that a full disk cut, which nothing may follow on the same line.
func checkLines(t *testing.T, text []byte) (whole, cut uint64) {
	t.Helper()
	for line := range bytes.Lines(text) {
		var v struct{ Label string }
		switch err := json.Unmarshal(line, &v); {
		case err == nil && line[len(line)-1] == '\n':
			whole++
		case bytes.Count(line, []byte(`"timestamp"`)) > 1:
			t.Fatalf("an event goes on in another's line: %s", line)
		default:
			cut++
		}
	}
	return whole, cut
}

// A disk that is full for a while: what is counted as written is there, whole,
// and half a line does not spoil the next.
func TestFullDisk(t *testing.T) {
	m := testModel(t, 0, "class")
	file := filepath.Join(testfiles.Root(t), "examples", "testbed", "test.pcap")
	disk := &smallDisk{room: 50_000}
	sink, err := agent.OpenSink(t.Context(), "-", disk)
	if err != nil {
		t.Fatal(err)
	}
	var written, failed uint64
	for range 3 { // each time there is a little more room
		mem, _ := load(file)
		_, r := runAgent(t, t.Context(), agent.Options{
			Sources: []capture.Source{mem}, Model: m, Lossless: true, Format: agent.Formats["eve"], Sink: sink,
		})
		written, failed = written+r.Written, failed+r.OutputFailed
		disk.room += 60_000
	}
	whole, cut := checkLines(t, disk.Bytes())
	if whole != written || failed == 0 || cut != 3 {
		t.Errorf("%d whole lines, %d cut; counted are %d written and %d failed", whole, cut, written, failed)
	}
}

// Half a record that a power cut has left in a file is gone when the next run begins. What may be something else stays,
// and is ended. In an empty file there is none.
func TestHalfLineInFile(t *testing.T) {
	for before, want := range map[string]string{
		"{\"a\":1}\n{\"b\":":      "{\"a\":1}\nnew\n",
		"{\"b\":":                 "new\n",
		"{\"a\":1}\n{\"b\":2}":    "{\"a\":1}\n{\"b\":2}\nnew\n", // all but its end was written
		"{\"a\":1}\n\x00\x00":     "{\"a\":1}\nnew\n",
		"{\"a\":1}\n{\"b\x00\x00": "{\"a\":1}\nnew\n",
		"a text":                  "a text\nnew\n",
		"{\"a\":1}\n":             "{\"a\":1}\nnew\n",
		"":                        "new\n",
	} {
		path := filepath.Join(t.TempDir(), "eve.json")
		if err := os.WriteFile(path, []byte(before), 0o666); err != nil {
			t.Fatal(err)
		}
		s, err := agent.OpenSink(t.Context(), path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write([]byte("new\n")); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); string(got) != want {
			t.Errorf("after %q: %q (%v)", before, got, err)
		}
	}
}

// On a real file system that is full, a file and a standard output that is one end in a whole record after
// every run, the counts are true, and what is written once there is room again is whole.
func TestFullFileSystem(t *testing.T) {
	m := testModel(t, 0, "class")
	for _, stdout := range []bool{false, true} {
		dir := t.TempDir()
		if err := syscall.Mount("nepcoc-test", dir, "tmpfs", 0, "size=96k"); err != nil {
			testfiles.Missing(t, "needs to mount a small file system: %v", err)
		}
		t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
		path, filler := filepath.Join(dir, "eve.json"), filepath.Join(dir, "filler")
		if err := os.WriteFile(filler, make([]byte, 40<<10), 0o666); err != nil {
			t.Fatal(err)
		}
		name, out := path, (*os.File)(nil)
		if stdout {
			var err error
			if out, err = os.Create(path); err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			name = "-"
		}
		sink, err := agent.OpenSink(t.Context(), name, out)
		if err != nil {
			t.Fatal(err)
		}
		var written, failed, size uint64
		for range 2 {
			mem, _ := load(filepath.Join(testfiles.Root(t), "examples", "testbed", "test.pcap"))
			_, r := runAgent(t, t.Context(), agent.Options{
				Sources: []capture.Source{mem}, Model: m, Lossless: true, Format: agent.Formats["eve"], Sink: sink,
			})
			written, failed, size = written+r.Written, failed+r.OutputFailed, size+r.OutputBytes
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if whole, cut := checkLines(t, text); whole != written || cut != 0 || uint64(len(text)) != size || r.OutputFailed == 0 {
				t.Errorf("stdout %v: %d whole lines, %d cut, %d bytes; counted are %d written in %d bytes and %d failed", stdout, whole, cut, len(text), written, size, failed)
			}
			if r.Lost() == nil {
				t.Error("nothing is said to be lost")
			}
			os.Remove(filler)
		}
	}
}
