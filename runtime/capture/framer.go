package capture

import (
	"bufio"
	"encoding/binary"
	"io"
)

// framer takes records out of a file. Lengths that lie are found before anything is
// allocated by them, a record cut by the end of the file is told from a broken
// one, and every error has an offset.
type framer struct {
	r     *bufio.Reader
	order binary.ByteOrder
	rec   []byte // the current record
	off   int64  // file offset behind rec
	cut   int64  // offset of the record that the end of the file cuts, or 0
}

// maxRecord is the longest packet taken: libpcap's own limit.
const maxRecord = 256 << 10

// fill appends n bytes of the file to rec. rec grows as the bytes arrive, so a
// claimed length costs nothing. At the end of the file it returns io.EOF, and
// notes the cut if the record had begun.
func (f *framer) fill(n int) error {
	const step = 64 << 10
	for n > 0 {
		k := min(n, step)
		at := len(f.rec)
		if cap(f.rec)-at < k {
			f.rec = append(f.rec, make([]byte, k)...)
		} else {
			f.rec = f.rec[:at+k]
		}
		m, err := io.ReadFull(f.r, f.rec[at:])
		f.off += int64(m)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			if start := f.off - int64(at+m); at+m > 0 {
				f.cut = max(start, 1) // a cut file header begins at 0
			}
			return io.EOF
		}
		if err != nil {
			return err
		}
		n -= k
	}
	return nil
}

// place is where the current record begins.
func (f *framer) place() int64 { return f.off - int64(len(f.rec)) }

func (f *framer) u16(at int) uint16 { return f.order.Uint16(f.rec[at:]) }
func (f *framer) u32(at int) uint32 { return f.order.Uint32(f.rec[at:]) }
