package cli

import (
	"bytes"
	"io"
	"os"

	"nepcoc/internal/files"
)

// Lines buffers lines for standard output. Where that is a file and the disk has no room for all, the file
// ends with the last whole line.
type Lines struct {
	w   io.Writer
	buf []byte
	err error
}

// NewLines makes a Lines. Flush is to be called at the end.
func NewLines(w io.Writer) *Lines { return &Lines{w: w} }

const linesBuffer = 32 << 10

// Write takes whole lines.
func (l *Lines) Write(b []byte) (int, error) {
	if l.buf = append(l.buf, b...); len(l.buf) < linesBuffer {
		return len(b), l.err
	}
	return len(b), l.Flush()
}

// Flush writes what there is. The first error stays.
func (l *Lines) Flush() error {
	if l.err != nil || len(l.buf) == 0 {
		return l.err
	}
	n, err := l.w.Write(l.buf)
	if half := n - bytes.LastIndexByte(l.buf[:n], '\n') - 1; err != nil && half > 0 {
		f, _ := unwrap(l.w).(*os.File)
		files.TakeBack(f, half)
	}
	l.buf, l.err = l.buf[:0], err
	return err
}
