package capture

import (
	"errors"
	"io"
)

// Several are capture files read as one, in the order in which they were given.
type Several struct {
	files []*File
	at    int
}

// OpenAll opens captures; what is wrong with any of them is said at once.
func OpenAll(paths []string) (*Several, error) {
	s := new(Several)
	var errs []error
	for _, path := range paths {
		f, err := Open(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s.files = append(s.files, f)
	}
	if err := errors.Join(errs...); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Join reads captures that are open already as one.
func Join(list ...*File) *Several { return &Several{files: list} }

// Next implements Source.
func (s *Several) Next(f *Frame) error {
	for ; s.at < len(s.files); s.at++ {
		if err := s.files[s.at].Next(f); err != io.EOF {
			return err
		}
	}
	return io.EOF
}

// Notes are those of the files, see File.Notes.
func (s *Several) Notes() (notes []string) {
	for _, f := range s.files {
		notes = append(notes, f.Notes()...)
	}
	return notes
}

// Close closes the files.
func (s *Several) Close() error {
	var errs []error
	for _, f := range s.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}
