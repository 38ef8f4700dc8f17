package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"nepcoc/internal/files"
)

// sockets are the kinds of sockets that verdicts can be sent to, by how the name begins. Stream is
// what Suricata calls unix_stream.
var sockets = []struct{ prefix, network string }{{"unix:", "unix"}, {"unix_dgram:", "unixgram"}}

// socketOf says what kind of socket a name stands for, and its path; network is empty where it is no socket.
func socketOf(name string) (network, path string) {
	for _, s := range sockets {
		if path, ok := strings.CutPrefix(name, s.prefix); ok {
			return s.network, path
		}
	}
	return "", name
}

// OpenSink opens where verdicts go: "-" is stdout, "unix:PATH" a listening
// stream socket, "unix_dgram:PATH" a datagram socket, which gets a datagram for each line, anything else
// a file that is appended to (a FIFO, a device: written to).
//
// A FIFO is waited for until it has a reader, or ctx is done: then the error is ErrNoReader, and the sink can be used all the same. Nothing
// waits for a reader later on: without one, also where another FIFO has taken the name, verdicts are lost and counted until there is one.
//
// What a sink has counted as taken is there, in whole lines: a regular file is cut back to its last whole record
// where a disk had no room for the next, or where the power went; elsewhere the half line is ended before the next one.
func OpenSink(ctx context.Context, name string, stdout io.Writer) (io.Writer, error) {
	network, path := socketOf(name)
	switch {
	case name == "" || files.IsStdout(name):
		return newLines(stdout, "standard output"), nil
	case network != "":
		if path == "" {
			return nil, fmt.Errorf("output %s has no path", name)
		}
		return &socketSink{network: network, path: path}, nil
	}
	f := &fileSink{path: name}
	for {
		err := f.open()
		if !errors.Is(err, ErrNoReader) {
			return f, err
		}
		select {
		case <-ctx.Done():
			return f, err
		case <-time.After(readerEvery):
		}
	}
}

// ErrNoReader is what opening a FIFO gives that nobody reads, and readerEvery how often one is looked for.
var ErrNoReader = errors.New("a FIFO that nobody reads")

const readerEvery = 20 * time.Millisecond

// reopener is a sink that can be told to look anew for what its name stands for.
type reopener interface{ reopen() error }

// ReopenOutput has the output's file opened anew where it was renamed or removed, at once instead of with
// the next line: whoever rotated it can take the old one away.
func (a *Agent) ReopenOutput() {
	if s, ok := a.opt.Sink.(reopener); ok {
		if err := s.reopen(); err != nil {
			a.complain("output", err)
		}
	}
}

// wholeLines writes lines to a file or stream. Half a line, as a full disk makes one, is taken
// back or, where that can't be, ended before the next.
type wholeLines struct {
	w    io.Writer
	file *os.File // w, where it is a file
	name string   // for messages
	cut  bool     // within a line
}

func newLines(w io.Writer, name string) *wholeLines {
	l := &wholeLines{w: w, name: name}
	if u, ok := w.(interface{ Unwrap() io.Writer }); ok {
		w = u.Unwrap()
	}
	l.file, _ = w.(*os.File)
	return l
}

// Write takes b as one record.
func (l *wholeLines) Write(b []byte) (int, error) {
	t := l.writeRecords(b, []int{len(b)})
	return t.bytes, t.err
}

func (l *wholeLines) writeRecords(b []byte, ends []int) (t taken) {
	if l.cut {
		if _, err := l.w.Write([]byte{'\n'}); err != nil {
			return taken{err: l.failed(err)}
		}
		l.cut = false
	}
	n, err := l.w.Write(b)
	if err == nil {
		return taken{records: len(ends), bytes: n}
	}
	t = taken{records: whole(ends, n), bytes: n, err: l.failed(err)}
	good := 0
	if t.records > 0 {
		good = ends[t.records-1]
	}
	if n > good {
		if files.TakeBack(l.file, n-good) {
			t.bytes = good
		} else {
			l.cut = b[n-1] != '\n'
		}
	}
	return t
}

func (l *wholeLines) failed(err error) error {
	if err != nil {
		err = fmt.Errorf("%s: %w", l.name, files.Reason(err))
	}
	return err
}

// fileSink appends to a file. When the file has been renamed or removed, as log
// rotation does, it begins a new one within a second, or at once when it is told to; rotation that copies and
// truncates works, too.
type fileSink struct {
	path  string
	again atomic.Bool // reopen was called, and has not been served

	mu      sync.Mutex
	f       *os.File
	lines   *wholeLines // to f
	info    os.FileInfo
	checked time.Time
}

func (s *fileSink) open() error {
	failed := func(err error) error {
		s.checked = time.Time{} // the next write tries again
		return fmt.Errorf("%s: %w", s.path, barred(s.path, files.Reason(err)))
	}
	flags := os.O_WRONLY | os.O_APPEND | os.O_CREATE
	if info, err := os.Stat(s.path); err == nil && info.Mode()&os.ModeNamedPipe != 0 {
		flags |= syscall.O_NONBLOCK // else a stop, a change of the bundle and all lines wait for a reader
	}
	f, err := os.OpenFile(s.path, flags, 0o640)
	if errors.Is(err, syscall.ENXIO) && flags&syscall.O_NONBLOCK != 0 {
		err = ErrNoReader
	}
	if err != nil {
		return failed(err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return failed(err)
	}
	if s.f != nil {
		s.f.Close()
	}
	s.f, s.info, s.checked = f, info, time.Now()
	s.lines = newLines(f, s.path)
	s.lines.cut = endsInLine(s.path)
	return nil
}

// maxTorn bounds the half line that is looked for at a file's end, in bytes: no record is as long.
const maxTorn = 1 << 20

// endsInLine says whether a file ends within a line, as one does whose writer lost its power. Half a JSON record is cut
// off: readers would stop at it. What may be anything else stays, and is ended before the next line.
func endsInLine(path string) bool {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return false
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return false // may be written to, but not read
	}
	defer f.Close()
	end := make([]byte, min(info.Size(), maxTorn))
	if _, err := f.ReadAt(end, info.Size()-int64(len(end))); err != nil || end[len(end)-1] == '\n' {
		return false
	}
	line := end[bytes.LastIndexByte(end, '\n')+1:]
	// A file system may have given the file its size, and zeros in place of what was written.
	torn := line[0] == 0 || line[0] == '{' && !json.Valid(line)
	if torn && (len(line) < len(end) || len(end) < maxTorn) && f.Truncate(info.Size()-int64(len(line))) == nil {
		return false
	}
	return true
}

// follow opens the file that has the name now, if that is another one.
func (s *fileSink) follow() error {
	if info, err := os.Stat(s.path); err == nil && os.SameFile(info, s.info) {
		s.checked = time.Now()
		return nil
	}
	return s.open()
}

func (s *fileSink) reopen() error {
	s.again.Store(true)
	return s.serve()
}

// serve does what reopen asks for, unless a write goes on: that serves it when it is done.
func (s *fileSink) serve() (err error) {
	for s.again.Load() && s.mu.TryLock() {
		if s.again.Swap(false) {
			err = s.follow()
		}
		s.mu.Unlock()
	}
	return err
}

// Write takes b as one record.
func (s *fileSink) Write(b []byte) (int, error) {
	t := s.writeRecords(b, []int{len(b)})
	return t.bytes, t.err
}

func (s *fileSink) writeRecords(b []byte, ends []int) taken {
	s.mu.Lock()
	t := s.write(b, ends)
	s.mu.Unlock()
	if err := s.serve(); t.err == nil {
		t.err = err
	}
	return t
}

func (s *fileSink) write(b []byte, ends []int) taken {
	// A file that could not be followed is looked for with every write: what is added to one that was
	// rotated away may never be read.
	if time.Since(s.checked) > time.Second {
		if err := s.follow(); err != nil {
			return taken{err: err}
		}
	}
	if s.lines.cut {
		if info, err := s.f.Stat(); err == nil && info.Mode().IsRegular() && info.Size() == 0 {
			s.lines.cut = false // rotation has taken the half line away
		}
	}
	return s.lines.writeRecords(b, ends)
}

func (s *fileSink) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f == nil { // a FIFO that never had a reader
		return nil
	}
	return s.f.Close()
}
