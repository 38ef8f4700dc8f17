package files

import (
	"fmt"
	"os"
	"syscall"
)

// Scratch is memory that lies in a temporary file without a name: the system writes its pages out and fetches them as
// memory allows. It lives as long as the program.
type Scratch struct {
	file *os.File
	end  int64
}

// Grow returns n more bytes, a multiple of the page size.
func (s *Scratch) Grow(n int) ([]byte, error) {
	no := func(err error) error {
		return fmt.Errorf("no room for %d bytes in the folder for temporary files (%s): name another one in TMPDIR: %w", n, os.TempDir(), Reason(err))
	}
	if s.file == nil {
		f, err := os.CreateTemp("", "nepcoc-")
		if err != nil {
			return nil, no(err)
		}
		os.Remove(f.Name())
		s.file = f
	}
	// Written, not only made longer: a mapped page that the disk has no room for would end the program.
	if _, err := s.file.WriteAt(make([]byte, n), s.end); err != nil {
		return nil, no(err)
	}
	data, err := syscall.Mmap(int(s.file.Fd()), s.end, n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, no(err)
	}
	s.end += int64(n)
	return data, nil
}
