package bundle

import (
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
func Read(name string, r io.Reader) (*Bundle, error) { return read(name, r, nil) }

// Accept says whether a bundle may be used, by its signature (nil: none) and digest.
type Accept func(s *Signature, d Digest) error

// ReadAccepted is Read for those who don't take every bundle: accept is asked once the signature has been checked against the
// digest, and that against the file, before anything in it is decoded.
func ReadAccepted(accept Accept) func(name string, r io.Reader) (*Bundle, error) {
	return func(name string, r io.Reader) (*Bundle, error) { return read(name, r, accept) }
}

func read(name string, r io.Reader, accept Accept) (*Bundle, error) {
	data, err := readAligned(name, r, MaxFileSize)
	if err != nil {
		return nil, err
	}
	b, err := decode(data, accept)
	if err == errNotBundle {
		err = fmt.Errorf("%w%s", err, filekind.Hint(name, data[:min(len(data), filekind.Head)], filekind.Bundle))
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, nil
}

// readAligned reads at most limit bytes to an aligned buffer: weights that are
// stored raw are then used in place. A regular file's buffer is made once.
func readAligned(name string, r io.Reader, limit int64) ([]byte, error) {
	size := int64(64 << 10)
	if f, ok := r.(*os.File); ok {
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		if info.Mode().IsRegular() {
			size = info.Size()
		}
	}
	if size > limit {
		return nil, tooLarge(name, limit)
	}
	data := alignedBytes(int(size) + 1)[:0] // one more to find the end with
	for {
		n, err := r.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		switch {
		case err == io.EOF:
			return data, nil
		case err != nil:
			var path *fs.PathError
			if errors.As(err, &path) {
				err = path.Err // name is in front already
			}
			return nil, fmt.Errorf("%s: %w", name, err)
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
