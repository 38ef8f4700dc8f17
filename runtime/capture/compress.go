package capture

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// compressions are the forms that captures come packed in, by their first bytes.
// Those without open are only named, with the program that unpacks them.
var compressions = []struct {
	magic, name, tool string
	open              func(r io.Reader) (io.Reader, error)
}{
	{"\x1f\x8b", "gzip", "gunzip", openGzip},
	{"\x28\xb5\x2f\xfd", "zstd", "unzstd", openZstd},
	{"\xfd7zXZ\x00", "xz", "unxz", openXZ},
	{"\x04\x22\x4d\x18", "lz4", "unlz4", openLZ4},
	{"BZh", "bzip2", "bunzip2", nil},
}

// maxWindow bounds the memory that a zstd or xz stream may ask for: what zstd --long
// asks for by default, and twice what xz -9 does.
const maxWindow = 128 << 20

// unpackBuffer is what is read ahead of the packets.
const unpackBuffer = 64 << 10

// Unpack returns what r holds, unpacked where that is packed as captures may be: for the text files beside them.
func Unpack(r io.Reader) (io.Reader, error) {
	out, _, err := decompress(bufio.NewReader(r))
	return out, err
}

// decompress returns r itself, or what is packed in it: as a stream, whose
// memory does not grow with what comes out.
func decompress(r *bufio.Reader) (*bufio.Reader, *unpacked, error) {
	head, _ := r.Peek(6)
	for _, c := range compressions {
		if !bytes.HasPrefix(head, []byte(c.magic)) {
			continue
		}
		if c.open == nil {
			return nil, nil, fmt.Errorf("compressed with %s, which is not read: decompress it first (%s), or compress it with gzip, zstd, lz4 or xz", c.name, c.tool)
		}
		u := &unpacked{name: c.name, tool: c.tool}
		var err error
		if u.r, err = c.open(r); err != nil {
			return nil, nil, u.damaged(err)
		}
		out := bufio.NewReaderSize(u, unpackBuffer)
		head, err := out.Peek(6)
		if err != nil && err != io.EOF && !u.cut {
			return nil, nil, err
		}
		if len(head) == 0 && u.cut {
			return nil, nil, fmt.Errorf("the compressed file (%s) is cut off at its beginning: copy it again", c.name)
		}
		if len(head) == 0 {
			return nil, nil, fmt.Errorf("the file packed in it (%s) is empty", c.name)
		}
		for _, again := range compressions {
			if bytes.HasPrefix(head, []byte(again.magic)) {
				return nil, nil, fmt.Errorf("compressed twice, %s in %s: decompress it first (%s)", again.name, c.name, c.tool)
			}
		}
		return out, u, nil
	}
	return r, nil, nil
}

// unpacked is what comes out of a compressed file.
type unpacked struct {
	r          io.Reader
	name, tool string
	// cut: the end is missing. The packets before it are good, as in a file that
	// is not compressed.
	cut bool
}

func (u *unpacked) Read(b []byte) (int, error) {
	n, err := u.r.Read(b)
	switch err {
	case nil, io.EOF:
	case io.ErrUnexpectedEOF:
		u.cut = true
	default:
		err = u.damaged(err)
	}
	return n, err
}

func (u *unpacked) damaged(err error) error {
	return fmt.Errorf("not %s, or damaged (%w): copy the file again, and see whether %s takes it", u.name, err, u.tool)
}

func openGzip(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }

func openZstd(r io.Reader) (io.Reader, error) {
	// One at a time, so that nothing of it runs on when the capture is closed.
	return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
}

func openLZ4(r io.Reader) (io.Reader, error) {
	z := lz4.NewReader(r)
	return z, z.Apply(lz4.ConcurrencyOption(1))
}
