package files

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"nepcoc/internal/interrupt"
)

// Output writes what a command was asked to put into name; "-" is stdout.
func Output(name string, data []byte, stdout io.Writer) error {
	return OutputFrom(name, whole(data), stdout)
}

// OutputFrom is Output of what fill writes, for what is too much to be held.
func OutputFrom(name string, fill func(io.Writer) error, stdout io.Writer) error {
	if !IsStdout(name) {
		return write(name, fill)
	}
	return fill(stdout)
}

// whole fills with data.
func whole(data []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}
}

// Write makes data the content of a file: a reader sees the old file or the new
// one, whole, even after a crash, and on failure nothing is left behind. A
// symbolic link is followed and stays; a device, FIFO or socket is written to.
func Write(name string, data []byte) error { return write(name, whole(data)) }

// File is a file to write.
type File struct {
	Name string
	Data []byte
}

// WriteAll is Write of several files. All are written beside their places before the first is put there, so that what fails leaves each as it was;
// only a rename that fails behind others leaves these.
func WriteAll(list []File) error {
	var all []*staged
	defer func() {
		for _, s := range all {
			s.drop()
		}
	}()
	for _, f := range list {
		if info, err := os.Stat(f.Name); err == nil && info.IsDir() {
			return fmt.Errorf("%s: is a folder, in the place of a file to write: remove it", f.Name)
		}
		t, err := resolve(f.Name)
		if err != nil {
			return err
		}
		s := &staged{t: t, fill: whole(f.Data)}
		if all = append(all, s); !t.stream {
			if err := s.prepare(); err != nil {
				return named(f.Name, err)
			}
		}
	}
	for _, s := range all {
		if s.t.stream {
			if err := s.t.write(s.fill); err != nil {
				return err
			}
		} else if err := s.take(); err != nil {
			return named(s.t.name, err)
		}
	}
	return nil
}

// WriteNew writes a file that isn't there yet, with these rights from its first byte on.
func WriteNew(name string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return named(name, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return errors.Join(named(name, err), os.Remove(name))
	}
	return nil
}

func write(name string, fill func(io.Writer) error) error {
	t, err := resolve(name)
	if err != nil {
		return err
	}
	if t.stream {
		return t.write(fill)
	}
	if err := t.replace(fill); err != nil {
		return named(name, err)
	}
	return nil
}

// Writable says whether Write could write to name, as far as that can be told
// without writing: for commands that have long work before.
func Writable(name string) error {
	if IsStdout(name) {
		return nil
	}
	t, err := resolve(name)
	if err != nil || t.stream {
		return err
	}
	dir := filepath.Dir(t.path)
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return fmt.Errorf("%s: there is no folder %s", name, dir)
	}
	const writeAndSearch = 2 | 1
	if err := syscall.Access(dir, writeAndSearch); err != nil {
		return fmt.Errorf("%s: the folder %s can't be written to: %w", name, dir, err)
	}
	return nil
}

// Same says whether two names stand for the same regular file.
func Same(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && x.Mode().IsRegular() && os.SameFile(x, y)
}

// Within says whether a path is, or would be, that of a file or of something in it were it a folder.
func Within(path, file string) bool {
	clean := func(p string) string {
		abs, err := filepath.Abs(p)
		if err != nil {
			return p
		}
		if dir, err := filepath.EvalSymlinks(filepath.Dir(abs)); err == nil {
			abs = filepath.Join(dir, filepath.Base(abs))
		}
		return abs
	}
	rel, err := filepath.Rel(clean(file), clean(path))
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// TakeBack removes the last n bytes that were written to f. It reports false where f is nil or no regular
// file, or where they are not at its end any more, since others write to it, too.
func TakeBack(f *os.File, n int) bool {
	if f == nil {
		return false
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	at, err := f.Seek(0, io.SeekCurrent) // where the last write ended, also where it appends
	if err != nil || at != info.Size() || at < int64(n) || f.Truncate(at-int64(n)) != nil {
		return false
	}
	_, err = f.Seek(-int64(n), io.SeekCurrent)
	return err == nil
}

// target is what a name stands for.
type target struct {
	name string
	path string // links followed
	mode fs.FileMode
	// stream: it is written to in place.
	stream bool
}

// resolve follows name's links; the last may point to nothing yet.
func resolve(name string) (*target, error) {
	if name == "" {
		return nil, errors.New("the file to write has no name")
	}
	t := &target{name: name, path: name, mode: 0o666}
	info, err := os.Stat(name)
	switch {
	case err == nil && info.IsDir():
		return nil, fmt.Errorf("%s: is a folder: name a file in it", name)
	case err == nil && !info.Mode().IsRegular():
		t.stream, t.mode = true, info.Mode()
		return t, nil
	case err == nil:
		t.mode = info.Mode().Perm()
	case !errors.Is(err, fs.ErrNotExist):
		return nil, named(name, err)
	case strings.HasSuffix(name, "/"):
		return nil, fmt.Errorf("%s: is the name of a folder: name a file in it", name)
	}
	const most = 40 // links, as the kernel
	for range most {
		info, err := os.Lstat(t.path)
		if err != nil || info.Mode()&fs.ModeSymlink == 0 {
			return t, nil
		}
		// What stands in /proc is no path but an open file.
		if dir, err := filepath.EvalSymlinks(filepath.Dir(t.path)); err == nil && strings.HasPrefix(dir, "/proc/") {
			t.stream, t.mode = true, 0
			return t, nil
		}
		to, err := os.Readlink(t.path)
		if err != nil {
			return nil, named(name, err)
		}
		if !filepath.IsAbs(to) {
			to = filepath.Dir(t.path) + "/" + to // not Join, which cuts a/.. where a may be a link
		}
		t.path = to
	}
	return nil, named(name, syscall.ELOOP)
}

// write writes to what can't be replaced.
func (t *target) write(fill func(io.Writer) error) error {
	var w io.WriteCloser
	var err error
	if t.mode&fs.ModeSocket != 0 {
		w, err = net.Dial("unix", t.path)
	} else {
		w, err = os.OpenFile(t.path, os.O_WRONLY, 0)
	}
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		return named(t.name, err)
	}
	err = fill(w)
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return named(t.name, err)
	}
	return nil
}

// replace puts a new file in the place of the old one.
func (t *target) replace(fill func(io.Writer) error) error {
	s := &staged{t: t, fill: fill}
	defer s.drop()
	if err := s.prepare(); err != nil {
		return err
	}
	return s.take()
}

// staged is a new file that lies beside the one that it is to replace.
type staged struct {
	t    *target
	fill func(io.Writer) error
	temp string
	done func() // no signal has to remove it any more
}

// prepare writes the new file.
func (s *staged) prepare() (err error) {
	t := s.t
	dir, base := filepath.Split(t.path)
	// Not os.CreateTemp, whose files only the owner can read: the process's mask
	// shall decide.
	temp := fmt.Sprintf("%s.%.100s.%08x", dir, base, rand.Uint32())
	s.done = interrupt.Undo(func() { os.Remove(temp) })
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, t.mode)
	if err != nil {
		return err
	}
	s.temp = temp
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err = s.fill(f); err != nil {
		return err
	}
	if t.mode != 0o666 { // the old file's, whatever the mask
		if err = f.Chmod(t.mode); err != nil {
			return err
		}
	}
	if err = f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// take puts it in the old one's place.
func (s *staged) take() error {
	if err := os.Rename(s.temp, s.t.path); err != nil {
		return err
	}
	s.temp = ""
	return syncDir(filepath.Dir(s.t.path))
}

// drop removes it where it was not taken.
func (s *staged) drop() {
	if s.temp != "" {
		os.Remove(s.temp)
	}
	if s.done != nil {
		s.done()
	}
}

// syncDir makes a rename survive a power failure, where the file system can.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrPermission) {
		return nil // may be written to, but not read
	}
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, os.ErrInvalid) || errors.Is(err, syscall.EINVAL) {
		err = nil
	}
	return errors.Join(err, d.Close())
}
