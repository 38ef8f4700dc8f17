// Package files reads and writes the files that a user names. It is the one
// place that knows what a name can stand for: "-" for standard input and output,
// a symbolic link for what it points to, a device, FIFO or socket for something
// to read from and write to but never to replace.
//
// It imports the standard library and internal/interrupt only, so every room may use it. Errors begin with
// the name that the user gave.
package files

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
)

// Names of standard input and output. The paths among them can't always be
// opened: under sshd standard input is a socket.
var (
	stdinNames  = []string{"-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"}
	stdoutNames = []string{"-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"}
)

// IsStdin says whether name stands for standard input, IsStdout for standard
// output.
func IsStdin(name string) bool  { return slices.Contains(stdinNames, name) }
func IsStdout(name string) bool { return slices.Contains(stdoutNames, name) }

// Again tells that a file can be read a second time: it is a regular one.
func Again(name string) bool {
	if IsStdin(name) {
		return false
	}
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

// Show is name as messages have it.
func Show(name string) string {
	if name == "-" {
		return "standard input"
	}
	return name
}

// Reason is err without the operation and path that package os puts in front
// of it: they may be those of a temporary file. errors.Is still works.
func Reason(err error) error {
	for {
		switch e := err.(type) {
		case *fs.PathError:
			err = e.Err
		case *os.LinkError:
			err = e.Err
		case *os.SyscallError:
			err = e.Err
		default:
			return err
		}
	}
}

func named(name string, err error) error { return fmt.Errorf("%s: %w", Show(name), Reason(err)) }

// stream is what can be read only once: its first bytes may have been looked at.
type stream struct {
	*bufio.Reader
	io.Closer
}

// pending are the streams that Head has opened, by name.
var (
	pendingMu sync.Mutex
	pending   = map[string]*stream{}
)

// Open opens a file for reading. The result is an *os.File where the file is a
// regular one.
func Open(name string) (io.ReadCloser, error) {
	pendingMu.Lock()
	s := pending[name]
	delete(pending, name)
	pendingMu.Unlock()
	if s != nil {
		return s, nil
	}
	f, regular, err := open(name)
	if err != nil {
		return nil, err
	}
	if regular {
		return f, nil
	}
	return &stream{bufio.NewReader(f), f}, nil
}

func open(name string) (f *os.File, regular bool, err error) {
	if f = os.Stdin; !IsStdin(name) {
		if f, err = os.Open(name); err != nil {
			return nil, false, named(name, err)
		}
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		f.Close()
		return nil, false, named(name, err)
	case info.IsDir():
		f.Close()
		return nil, false, fmt.Errorf("%s: %w: name the file in it", Show(name), ErrFolder)
	}
	return f, info.Mode().IsRegular(), nil
}

// Head returns the first n bytes of a file, or all where it has fewer. The next
// Open of the name begins with them: a pipe is read only once.
func Head(name string, n int) ([]byte, error) {
	pendingMu.Lock()
	s := pending[name]
	pendingMu.Unlock()
	if s != nil { // looked at before
		head, err := s.Peek(n)
		if err != nil && err != io.EOF {
			return nil, named(name, err)
		}
		return slices.Clone(head), nil
	}
	f, regular, err := open(name)
	if err != nil {
		return nil, err
	}
	if regular && !IsStdin(name) {
		defer f.Close()
		head := make([]byte, n)
		n, err := io.ReadFull(f, head)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return nil, named(name, err)
		}
		return head[:n], nil
	}
	s = &stream{bufio.NewReaderSize(f, max(n, 64<<10)), f}
	head, err := s.Peek(n)
	if err != nil && err != io.EOF {
		f.Close()
		return nil, named(name, err)
	}
	pendingMu.Lock()
	defer pendingMu.Unlock()
	pending[name] = s
	return slices.Clone(head), nil
}

// Read opens a file and hands it to parse, with the name that messages shall have.
func Read[T any](name string, parse func(name string, r io.Reader) (T, error)) (T, error) {
	f, err := Open(name)
	if err != nil {
		var none T
		return none, err
	}
	defer f.Close()
	return parse(Show(name), f)
}

// ErrFolder is in Open's error for a folder.
var ErrFolder = errors.New("is a folder")

// ErrTooLarge is in All's error for a file beyond the limit.
var ErrTooLarge = errors.New("too large")

// All reads a file of at most limit bytes.
func All(name string, limit int64) ([]byte, error) {
	f, err := Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if file, ok := f.(*os.File); ok {
		if info, err := file.Stat(); err == nil && info.Size() > limit {
			return nil, tooLarge(name, limit)
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, named(name, err)
	}
	if int64(len(data)) > limit {
		return nil, tooLarge(name, limit)
	}
	return data, nil
}

func tooLarge(name string, limit int64) error {
	return fmt.Errorf("%s: %w: at most %d bytes are read", Show(name), ErrTooLarge, limit)
}

// KindOf names what is no regular file.
func KindOf(m fs.FileMode) string {
	switch {
	case m.IsDir():
		return "a folder"
	case m&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	}
	return "a device"
}
