package agent

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"nepcoc/internal/files"
	"nepcoc/runtime/verdict"
)

// Format turns a record into lines, appended without the last newline.
type Format func(r *verdict.Record, b []byte) []byte

// Formats are the forms that verdicts are written in, by name.
var Formats = map[string]Format{
	"eve":  (*verdict.Record).AppendEVE,
	"json": (*verdict.Record).AppendJSON,
	"text": (*verdict.Record).AppendText,
}

// A chunk is the lines of some verdicts on their way out.
type chunk struct {
	buf  []byte
	ends []int // of each record, in buf
}

const chunkBytes = 32 << 10

// output writes lines on a goroutine of its own, so that whatever a disk or a
// reader does, packets go on: when all chunks are under way, workers drop what
// they have and count it.
type output struct {
	sink        io.Writer
	queue, free chan *chunk
	done, hurry chan struct{}
	complain    func(what string, err error)

	written atomic.Uint64 // records
	failed  atomic.Uint64 // records that the sink did not take
	bytes   atomic.Uint64
	last    atomic.Pointer[error] // why the sink last failed
}

func newOutput(sink io.Writer, chunks int, hurry chan struct{}, complain func(string, error)) *output {
	o := &output{
		sink: sink, queue: make(chan *chunk, chunks), free: make(chan *chunk, chunks),
		done: make(chan struct{}), hurry: hurry, complain: complain,
	}
	for range chunks {
		o.free <- new(chunk)
	}
	return o
}

// take gets an empty chunk; nil if there is none and waiting is out of the question.
func (o *output) take(wait bool) *chunk {
	if wait {
		select {
		case c := <-o.free:
			return c
		case <-o.hurry:
			return nil
		}
	}
	select {
	case c := <-o.free:
		return c
	default:
		return nil
	}
}

// send hands a chunk over. The queue has room for all there are.
func (o *output) send(c *chunk) { o.queue <- c }

// run writes until the queue is closed.
func (o *output) run() {
	defer close(o.done)
	for c := range o.queue {
		n, err := o.sink.Write(c.buf)
		o.bytes.Add(uint64(n))
		whole := len(c.ends)
		if err != nil {
			whole, _ = slices.BinarySearch(c.ends, n+1)
			o.last.Store(&err)
			o.complain("output", err)
		}
		o.written.Add(uint64(whole))
		o.failed.Add(uint64(len(c.ends) - whole))
		c.buf, c.ends = c.buf[:0], c.ends[:0]
		o.free <- c
	}
}

// wholeLines ends a line that was cut, as a full disk does, before it writes on:
// half a line is lost, but not the next one, too.
type wholeLines struct {
	w    io.Writer
	name string // for messages
	cut  bool   // within a line
}

func (l *wholeLines) Write(b []byte) (int, error) {
	if l.cut {
		if _, err := l.w.Write([]byte{'\n'}); err != nil {
			return 0, l.failed(err)
		}
		l.cut = false
	}
	n, err := l.w.Write(b)
	if n > 0 {
		l.cut = b[n-1] != '\n'
	}
	return n, l.failed(err)
}

func (l *wholeLines) failed(err error) error {
	if err != nil {
		err = fmt.Errorf("%s: %w", l.name, files.Reason(err))
	}
	return err
}

// OpenSink opens where verdicts go: "-" is stdout, "unix:PATH" a listening
// stream socket, anything else a file that is appended to (a FIFO, a device: written to).
func OpenSink(name string, stdout io.Writer) (io.Writer, error) {
	switch path, socket := strings.CutPrefix(name, "unix:"); {
	case name == "" || files.IsStdout(name):
		return &wholeLines{w: stdout, name: "standard output"}, nil
	case socket:
		if path == "" {
			return nil, errors.New("output unix: has no path")
		}
		return &socketSink{path: path}, nil
	}
	f := &fileSink{path: name, lines: wholeLines{name: name}}
	return f, f.open()
}

// fileSink appends to a file. When the file has been renamed or removed, as log
// rotation does, it begins a new one within a second; rotation that copies and
// truncates works, too.
type fileSink struct {
	path    string
	f       *os.File
	lines   wholeLines // to f
	info    os.FileInfo
	checked time.Time
}

func (s *fileSink) open() error {
	f, err := os.OpenFile(s.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return s.lines.failed(err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return s.lines.failed(err)
	}
	if s.f != nil {
		s.f.Close()
	}
	s.f, s.info, s.checked = f, info, time.Now()
	s.lines.w, s.lines.cut = f, endsInLine(s.path)
	return nil
}

// endsInLine says whether a file ends within a line, as one does whose writer was
// killed or found the disk full.
func endsInLine(path string) bool {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false // may be written to, but not read
	}
	defer f.Close()
	var last [1]byte
	_, err = f.ReadAt(last[:], info.Size()-1)
	return err == nil && last[0] != '\n'
}

func (s *fileSink) Write(b []byte) (int, error) {
	if now := time.Now(); now.Sub(s.checked) > time.Second {
		s.checked = now
		if info, err := os.Stat(s.path); err != nil || !os.SameFile(info, s.info) {
			if err := s.open(); err != nil {
				return 0, err
			}
		}
	}
	if s.lines.cut {
		if info, err := s.f.Stat(); err == nil && info.Mode().IsRegular() && info.Size() == 0 {
			s.lines.cut = false // rotation has taken the half line away
		}
	}
	return s.lines.Write(b)
}

func (s *fileSink) Close() error { return s.f.Close() }

// socketSink writes to a unix stream socket, and connects again when the reader
// has gone away; what comes meanwhile is lost and counted.
type socketSink struct {
	path  string
	conn  net.Conn
	tried time.Time
	last  error
}

const (
	socketRetry   = time.Second
	socketTimeout = time.Second
)

func (s *socketSink) Write(b []byte) (int, error) {
	if s.conn == nil {
		if time.Since(s.tried) < socketRetry {
			return 0, s.last
		}
		s.tried = time.Now()
		conn, err := net.DialTimeout("unix", s.path, socketTimeout)
		if err != nil {
			s.last = err
			return 0, err
		}
		s.conn = conn
	}
	// A reader that stands still is one that has gone away: half a line is
	// never continued.
	s.conn.SetWriteDeadline(time.Now().Add(socketTimeout))
	n, err := s.conn.Write(b)
	if err != nil {
		s.conn.Close()
		s.conn, s.last = nil, err
	}
	return n, err
}

func (s *socketSink) Close() error {
	if s.conn == nil {
		return nil
	}
	return s.conn.Close()
}
