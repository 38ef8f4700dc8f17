package load

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"

	"nepcoc/internal/files"
)

// Events are an agent's EVE output as it grows: whole lines.
type Events struct {
	name string
	part []byte // of a line whose end is yet to come

	file *os.File
	at   int64

	listen net.Listener
	mu     sync.Mutex
	come   []byte
}

// OpenEvents reads what is appended to a file from now on (from its beginning, where whole), or what an agent sends to unix:PATH, where this
// listens.
func OpenEvents(name string, whole bool) (*Events, error) {
	e := &Events{name: name}
	if path, ok := strings.CutPrefix(name, "unix:"); ok {
		if whole {
			return nil, fmt.Errorf("%s: a socket keeps no events: give the file that they were written to", name)
		}
		var err error
		if e.listen, err = net.Listen("unix", path); err != nil {
			return nil, fmt.Errorf("%s: %w: remove it if nobody listens there any more", name, err)
		}
		go e.accept()
		return e, nil
	}
	info, err := os.Stat(name)
	if err == nil && !info.Mode().IsRegular() { // opening a pipe may never end
		err = errors.New("is no file: give the file that the agent writes (output.to), or unix:PATH")
	}
	var f *os.File
	if err == nil {
		f, err = os.Open(name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, files.Reason(err))
	}
	if e.file = f; !whole {
		e.at = info.Size()
	}
	return e, nil
}

func (e *Events) accept() {
	for {
		c, err := e.listen.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			b := make([]byte, 256<<10)
			for {
				n, err := c.Read(b)
				e.mu.Lock()
				e.come = append(e.come, b[:n]...)
				e.mu.Unlock()
				if err != nil {
					return
				}
			}
		}()
	}
}

// Read calls each with the lines that have come since, and returns their number.
func (e *Events) Read(each func(line []byte)) (lines int, err error) {
	var b []byte
	if e.listen != nil {
		e.mu.Lock()
		b, e.come = e.come, nil
		e.mu.Unlock()
		return e.lines(b, each), nil
	}
	if info, err := e.file.Stat(); err == nil && info.Size() < e.at {
		return 0, fmt.Errorf("%s: became shorter: it was changed under way", e.name)
	}
	b = make([]byte, 1<<20)
	for {
		n, err := e.file.ReadAt(b, e.at)
		e.at += int64(n)
		lines += e.lines(b[:n], each)
		if err == io.EOF || n == 0 && err == nil {
			return lines, nil
		}
		if err != nil {
			return lines, fmt.Errorf("%s: %w", e.name, files.Reason(err))
		}
	}
}

func (e *Events) lines(b []byte, each func([]byte)) (n int) {
	for {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			e.part = append(e.part, b...)
			return n
		}
		if line := b[:end]; len(e.part) > 0 {
			each(append(e.part, line...))
			e.part = e.part[:0]
		} else {
			each(line)
		}
		n++
		b = b[end+1:]
	}
}

// Close ends it.
func (e *Events) Close() error {
	if e.listen != nil {
		return e.listen.Close()
	}
	return e.file.Close()
}
