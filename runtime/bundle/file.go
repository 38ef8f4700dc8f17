package bundle

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"nepcoc/internal/filekind"
	"nepcoc/internal/files"
)

// ReadFile reads and checks the bundle at path (- is standard input). Errors name the file.
func ReadFile(path string) (*Bundle, error) {
	return files.Read(path, Read)
}

// Read reads r to its end and checks the bundle in it. name is for messages.
func Read(name string, r io.Reader) (*Bundle, error) {
	b, _, err := read(name, r, nil, MaxFileSize)
	return b, err
}

// DigestOf is the digest that a bundle's file says it has: nothing of it is checked.
func DigestOf(r io.Reader) (d Digest, err error) {
	head := make([]byte, headerSize)
	if _, err := io.ReadFull(r, head); err != nil || !bytes.HasPrefix(head, []byte(magic)) {
		return d, errNotBundle
	}
	return Digest(head[digestAt : digestAt+len(d)]), nil
}

// Accept says whether a bundle may be used, by its signature (nil: none) and digest.
type Accept func(s *Signature, d Digest) error

// ReadAccepted is Read for those who don't take every bundle: accept is asked once the signature has been checked against the
// digest, and that against the file, before anything in it is decoded. More than limit bytes are not read, and nothing behind the first
// ones of what is no bundle. The file's bytes come with the bundle, which uses some of them in place.
func ReadAccepted(name string, r io.Reader, limit int64, accept Accept) (*Bundle, []byte, error) {
	return read(name, r, accept, min(limit, MaxFileSize))
}

func read(name string, r io.Reader, accept Accept, limit int64) (*Bundle, []byte, error) {
	data, err := readFile(name, r, limit)
	if err != nil {
		return nil, nil, err
	}
	b, err := decode(data, accept)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, data, nil
}

// readFile reads a bundle's bytes, and no more of another file than tells that it is none.
func readFile(name string, r io.Reader, limit int64) ([]byte, error) {
	head := make([]byte, max(headerSize, filekind.Head))
	n, err := io.ReadFull(r, head)
	if head = head[:n]; err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, readError(name, err)
	}
	size := uint64(n)
	if err == nil { // more may follow
		size = binary.LittleEndian.Uint64(head[16:]) // what it says
		if s, err := sizeOf(r); err != nil {
			return nil, readError(name, err)
		} else if s >= 0 {
			size = uint64(s)
		}
	}
	if _, err := parseHeader(head, size); err != nil {
		if err == errNotBundle {
			err = fmt.Errorf("%w%s", err, filekind.Hint(name, head[:min(n, filekind.Head)], filekind.Bundle))
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if size > uint64(limit) {
		return nil, tooLarge(name, limit)
	}
	return readAligned(name, r, head, int64(size))
}

// sizeOf is a regular file's size, -1 for anything else.
func sizeOf(r io.Reader) (int64, error) {
	f, ok := r.(interface{ Stat() (os.FileInfo, error) })
	if !ok {
		return -1, nil
	}
	info, err := f.Stat()
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return -1, nil
	case err != nil || !info.Mode().IsRegular():
		return -1, err
	}
	return info.Size(), nil
}

// readError is an error of reading behind the file's name.
func readError(name string, err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		err = path.Err // name is in front already
	}
	return fmt.Errorf("%s: %w", name, err)
}

// readAligned reads at most limit bytes to an aligned buffer, behind what was read before: weights that are
// stored raw are then used in place. A regular file's buffer is made once.
func readAligned(name string, r io.Reader, before []byte, limit int64) ([]byte, error) {
	size, err := sizeOf(r)
	if err != nil {
		return nil, readError(name, err)
	}
	if size < 0 {
		size = 64 << 10
	} else if size > limit {
		return nil, tooLarge(name, limit)
	}
	data := append(alignedBytes(max(int(size), len(before)) + 1)[:0], before...) // one more to find the end with
	for {
		n, err := r.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		switch {
		case err == io.EOF:
			return data, nil
		case err != nil:
			return nil, readError(name, err)
		case int64(len(data)) > limit:
			return nil, tooLarge(name, limit)
		case len(data) == cap(data):
			data = append(alignedBytes(2 * cap(data))[:0], data...)
		}
	}
}

func tooLarge(name string, limit int64) error {
	return fmt.Errorf("%s: more than the %d bytes that are read: not such a file", name, limit)
}
