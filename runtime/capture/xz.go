package capture

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

// xzReader reads the container of xz files. The library has a reader of its own, which takes a
// dictionary of any size that a file asks for, up to 4 GiB; this one leaves to the library what is in a
// block, and has bounds.
type xzReader struct {
	r     countingReader
	check hash.Hash // of the block, nil: none
	size  int       // of the check in the file
	block io.Reader // nil: between blocks
	begin int64     // where its data begins
	sum   []byte
}

const (
	xzMagic  = "\xfd7zXZ\x00"
	xzFooter = 12
	xzLZMA2  = 0x21
)

var errXZ = errors.New("not the form of an xz file")

// countingReader knows where it is: blocks are padded.
type countingReader struct {
	*bufio.Reader
	n int64
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n += int64(n)
	return n, err
}

func (c *countingReader) ReadByte() (byte, error) {
	b, err := c.Reader.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}

// take reads n bytes; the end of the file among them is unexpected.
func (c *countingReader) take(n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := io.ReadFull(c, b)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return b, err
}

func openXZ(r io.Reader) (io.Reader, error) {
	x := &xzReader{r: countingReader{Reader: bufio.NewReader(r)}}
	return x, x.stream()
}

// stream reads a stream's header.
func (x *xzReader) stream() error {
	b, err := x.r.take(12)
	if err != nil {
		return err
	}
	if string(b[:6]) != xzMagic || crc32.ChecksumIEEE(b[6:8]) != binary.LittleEndian.Uint32(b[8:]) || b[6] != 0 {
		return errXZ
	}
	switch b[7] {
	case 0:
		x.check, x.size = nil, 0
	case 1:
		x.check, x.size = crc32.NewIEEE(), 4
	case 4:
		x.check, x.size = crc64.New(crc64.MakeTable(crc64.ECMA)), 8
	case 10:
		x.check, x.size = sha256.New(), 32
	default:
		return fmt.Errorf("a check of kind %d, which is not read", b[7])
	}
	return nil
}

// Read implements io.Reader.
func (x *xzReader) Read(b []byte) (int, error) {
	for {
		if x.block == nil {
			if err := x.next(); err != nil {
				return 0, err
			}
		}
		n, err := x.block.Read(b)
		if x.check != nil {
			x.check.Write(b[:n])
		}
		if err == io.EOF {
			x.block = nil
			err = x.endBlock()
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

// next begins the next block, if need be of the next stream.
func (x *xzReader) next() error {
	for {
		size, err := x.r.ReadByte()
		if err != nil {
			return unexpected(err)
		}
		if size != 0 {
			return x.beginBlock(4 * (int(size) + 1))
		}
		if err := x.endStream(); err != nil {
			return err
		}
	}
}

// beginBlock reads the header of a block, whose first byte was its size.
func (x *xzReader) beginBlock(size int) error {
	b, err := x.r.take(size - 1)
	if err != nil {
		return err
	}
	head := append([]byte{byte(size/4 - 1)}, b...)
	if crc32.ChecksumIEEE(head[:size-4]) != binary.LittleEndian.Uint32(head[size-4:]) {
		return errXZ
	}
	flags, fields := head[1], bytes.NewReader(head[2:size-4])
	if flags&0x3f != 0 {
		return errors.New("a filter beside LZMA2, which is not read")
	}
	for _, has := range []byte{0x40, 0x80} { // packed and unpacked size
		if flags&has != 0 {
			if _, err := binary.ReadUvarint(fields); err != nil {
				return errXZ
			}
		}
	}
	filter := make([]byte, 3)
	if _, err := io.ReadFull(fields, filter); err != nil || filter[0] != xzLZMA2 || filter[1] != 1 {
		return errXZ
	}
	dict, err := lzma.DecodeDictCap(filter[2])
	if err != nil {
		return errXZ
	}
	if dict > maxWindow {
		return fmt.Errorf("its dictionary of %d MiB is larger than is read (%d)", dict>>20, maxWindow>>20)
	}
	if x.check != nil {
		x.check.Reset()
	}
	x.begin = x.r.n
	x.block, err = lzma.Reader2Config{DictCap: max(int(dict), lzma.MinDictCap)}.NewReader2(&x.r)
	return err
}

// endBlock reads what follows a block's data: padding, and the check.
func (x *xzReader) endBlock() error {
	pad := int(-(x.r.n - x.begin) & 3)
	b, err := x.r.take(pad + x.size)
	if err != nil {
		return err
	}
	if x.check == nil {
		return nil
	}
	x.sum = x.check.Sum(x.sum[:0])
	if x.size < 32 { // the sums are big endian, the file is not
		for i := range x.size / 2 {
			x.sum[i], x.sum[x.size-1-i] = x.sum[x.size-1-i], x.sum[i]
		}
	}
	if !bytes.Equal(x.sum, b[pad:]) {
		return errors.New("its check does not hold")
	}
	return nil
}

// endStream passes over the index, whose first byte was 0, and the footer, and begins the next
// stream. io.EOF: there is none.
func (x *xzReader) endStream() error {
	start := x.r.n - 1
	records, err := binary.ReadUvarint(&x.r)
	if err != nil {
		return unexpected(err)
	}
	for range records {
		for range 2 {
			if _, err := binary.ReadUvarint(&x.r); err != nil {
				return unexpected(err)
			}
		}
	}
	foot, err := x.r.take(int(-(x.r.n-start)&3) + 4 + xzFooter)
	if err != nil {
		return err
	}
	if string(foot[len(foot)-2:]) != "YZ" {
		return errXZ
	}
	for { // streams are padded with zeros
		b, err := x.r.Peek(4)
		switch {
		case len(b) == 0:
			return io.EOF
		case err != nil:
			return unexpected(err)
		case binary.LittleEndian.Uint32(b) != 0:
			return x.stream()
		}
		x.r.take(4)
	}
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
