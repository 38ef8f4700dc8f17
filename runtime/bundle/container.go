package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"unsafe"

	"github.com/klauspost/compress/zstd"

	"nepcoc/internal/plural"
)

// FormatVersion is the version of the file format that this package writes,
// and the newest that it reads; it reads all from 1 on (see format.go).
const FormatVersion = 2

const (
	magic       = "\x89NEPCO\r\n"
	headerSize  = 64
	entrySize   = 48
	digestAt    = 24
	maxSections = 16
	alignment   = 64
	mapAlign    = 64 << 10
)

// MaxFileSize bounds what ReadFile and Decode accept.
const MaxFileSize = 1 << 30

// sectionKind numbers the sections; they stand in this order.
type sectionKind uint32

const (
	manifestSection sectionKind = iota + 1
	programSection
	weightsSection
	goldenSection
	signatureSection
)

func (k sectionKind) String() string {
	names := [...]string{"?", "manifest", "program", "weights", "golden", "signature"}
	if int(k) < len(names) && k > 0 {
		return names[k]
	}
	return fmt.Sprintf("of kind %d", uint32(k))
}

// encoding says how a section's bytes are stored.
type encoding uint32

const (
	storedRaw encoding = iota
	storedZstd
	storedMapped
)

// The largest raw length that a section of n stored bytes may claim: real
// weights shrink 2 to 4 times, JSON about 10 times. A section that zstd shrinks
// more than this is stored raw instead.
func maxRaw(stored uint64) uint64 { return 16*stored + 1<<20 }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// section is one entry of the table with its stored bytes.
type section struct {
	kind   sectionKind
	enc    encoding
	raw    uint64 // length once decoded
	crc    uint32
	offset uint64
	stored []byte
}

// container is a parsed file, not yet decoded.
type container struct {
	version  int
	sections []section
	digest   [sha256.Size]byte
}

// find returns the section of a kind, nil where the file has none.
func (c *container) find(k sectionKind) *section {
	for i := range c.sections {
		if c.sections[i].kind == k {
			return &c.sections[i]
		}
	}
	return nil
}

// pack stores raw under the smallest of the allowed encodings.
func pack(kind sectionKind, raw []byte, enc encoding) (section, error) {
	s := section{kind: kind, enc: enc, raw: uint64(len(raw)), stored: raw}
	if enc != storedZstd {
		return s, nil
	}
	// The fastest level with entropy coding forced on everything: int8 weights
	// have no repeats worth looking for, and the slower levels, which look,
	// make a token table larger (8.6 MB instead of 8.1 for 65541x256 values of
	// 5 bits). The best level estimates in floating point, which may
	// differ between CPUs, so it must not be used here.
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithAllLitEntropyCompression(true),
		zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
	if err != nil {
		return section{}, err
	}
	packed := e.EncodeAll(raw, nil)
	if err := e.Close(); err != nil {
		return section{}, err
	}
	if len(packed) >= len(raw) || uint64(len(raw)) > maxRaw(uint64(len(packed))) {
		s.enc = storedRaw
		return s, nil
	}
	s.stored = packed
	return s, nil
}

// unpack returns the raw bytes, 64-byte aligned. They share memory with the
// file where it is stored raw and happens to lie right.
func (s *section) unpack() ([]byte, error) {
	if s.enc != storedZstd {
		if isAligned(s.stored) {
			return s.stored, nil
		}
		return append(alignedBytes(len(s.stored))[:0], s.stored...), nil
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(max(s.raw, 1<<16)), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	out, err := d.DecodeAll(s.stored, alignedBytes(int(s.raw))[:0])
	if err != nil {
		return nil, fmt.Errorf("section %s: zstd: %w", s.kind, err)
	}
	if uint64(len(out)) != s.raw {
		return nil, fmt.Errorf("section %s: decodes to %d bytes, not to the %d claimed", s.kind, len(out), s.raw)
	}
	return out, nil
}

// alignedBytes allocates n bytes at a multiple of 64, with no capacity beyond n.
func alignedBytes(n int) []byte {
	b := make([]byte, n+alignment-1)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (alignment - 1))
	return b[skip : skip+n : skip+n]
}

func isAligned(b []byte) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))&(alignment-1) == 0
}

func alignUp(n, a uint64) uint64 { return (n + a - 1) &^ (a - 1) }

func (e encoding) align() uint64 {
	if e == storedMapped {
		return mapAlign
	}
	return alignment
}

// build lays the sections out and seals the file with its digest. The bytes of
// the signature section are those given; see digestOf.
func build(version int, sections []section) []byte {
	at := uint64(headerSize + entrySize*len(sections))
	for i := range sections {
		s := &sections[i]
		s.offset = alignUp(at, s.enc.align())
		at = s.offset + uint64(len(s.stored))
	}
	out := alignedBytes(int(at))
	copy(out, magic)
	le := binary.LittleEndian
	le.PutUint32(out[8:], uint32(version))
	le.PutUint32(out[12:], uint32(len(sections)))
	le.PutUint64(out[16:], at)
	for i := range sections {
		s := &sections[i]
		e := out[headerSize+i*entrySize:]
		le.PutUint32(e, uint32(s.kind))
		le.PutUint32(e[4:], uint32(s.enc))
		le.PutUint64(e[8:], s.offset)
		le.PutUint64(e[16:], uint64(len(s.stored)))
		le.PutUint64(e[24:], s.raw)
		if s.kind != signatureSection {
			s.crc = crc32.Checksum(s.stored, castagnoli)
		}
		le.PutUint32(e[32:], s.crc)
		copy(out[s.offset:], s.stored)
	}
	d := digestOf(out, sections)
	copy(out[digestAt:], d[:])
	return out
}

// digestOf is the SHA-256 of the file with its digest field and the bytes of
// its signature taken as zero.
func digestOf(data []byte, sections []section) (d [sha256.Size]byte) {
	h := sha256.New()
	zero := make([]byte, max(sha256.Size, signatureSize+statementSize))
	h.Write(data[:digestAt])
	h.Write(zero[:sha256.Size])
	rest, at := data[digestAt+sha256.Size:], uint64(digestAt+sha256.Size)
	for _, s := range sections {
		if s.kind == signatureSection {
			h.Write(rest[:s.offset-at])
			h.Write(zero[:len(s.stored)])
			rest, at = rest[s.offset-at+uint64(len(s.stored)):], s.offset+uint64(len(s.stored))
		}
	}
	h.Write(rest)
	h.Sum(d[:0])
	return d
}

var errNotBundle = errors.New("not a bundle: it does not begin with the magic of .nepco files")

// parseHeader checks what a file of so many bytes begins with, by which its length is known. More than the header may be given.
func parseHeader(data []byte, size uint64) (version int, err error) {
	if len(data) < len(magic) || string(data[:len(magic)]) != magic {
		if len(data) > 1 && bytes.HasPrefix(data, []byte(magic[:6])) {
			return 0, errors.New("damaged magic: was the file transferred in text mode? Copy it again")
		}
		return 0, errNotBundle
	}
	if len(data) < headerSize {
		return 0, fmt.Errorf("cut off in the header, after %d bytes", len(data))
	}
	le := binary.LittleEndian
	switch v := le.Uint32(data[8:]); {
	case v > FormatVersion:
		return 0, fmt.Errorf("written by a newer nepcoc (format %d; this program reads 1 to %d): update nepcod", v, FormatVersion)
	case v < 1:
		return 0, fmt.Errorf("format version %d does not exist", v)
	}
	switch total := le.Uint64(data[16:]); {
	case total > size:
		return 0, fmt.Errorf("cut off: %d of %d bytes are there; copy the file again", size, total)
	case total < size:
		return 0, fmt.Errorf("%s %s the end of the bundle", plural.Of(size-total, "byte"), plural.Verb(size-total, "follows", "follow"))
	}
	return int(le.Uint32(data[8:])), nil
}

// parse checks everything about a file but what its sections hold.
func parse(data []byte) (*container, error) {
	if len(data) > MaxFileSize {
		return nil, fmt.Errorf("%d bytes are more than the %d a bundle may have", len(data), MaxFileSize)
	}
	version, err := parseHeader(data, uint64(len(data)))
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	n := le.Uint32(data[12:])
	if n > maxSections || headerSize+int(n)*entrySize > len(data) {
		return nil, fmt.Errorf("a table of %d sections does not fit", n)
	}
	c := &container{version: version, sections: make([]section, n), digest: [sha256.Size]byte(data[digestAt:])}
	at := uint64(headerSize + int(n)*entrySize)
	for i := range c.sections {
		s := &c.sections[i]
		if err := s.parse(data[headerSize+i*entrySize:], data, at); err != nil {
			return nil, fmt.Errorf("section %d (%s): %w", i, s.kind, err)
		}
		if i > 0 && s.kind <= c.sections[i-1].kind {
			return nil, fmt.Errorf("section %d (%s): out of order or twice", i, s.kind)
		}
		if !allZero(data[at:s.offset]) {
			return nil, fmt.Errorf("section %d (%s): bytes before it are not zero", i, s.kind)
		}
		at = s.offset + uint64(len(s.stored))
	}
	if at != uint64(len(data)) {
		return nil, fmt.Errorf("the last section ends at %d, the file at %d", at, len(data))
	}
	if !allZero(data[56:headerSize]) {
		return nil, errors.New("reserved bytes of the header are not zero")
	}
	if digestOf(data, c.sections) != c.digest {
		for i := range c.sections {
			s := &c.sections[i]
			if s.kind != signatureSection && crc32.Checksum(s.stored, castagnoli) != s.crc {
				return nil, fmt.Errorf("digest does not match: section %s is damaged; copy the file again", s.kind)
			}
		}
		return nil, errors.New("digest does not match: header or table are damaged; copy the file again")
	}
	return c, nil
}

// parse reads one entry of the table; the section must start at the first
// aligned offset from at on.
func (s *section) parse(entry, data []byte, at uint64) error {
	le := binary.LittleEndian
	s.kind = sectionKind(le.Uint32(entry))
	s.enc = encoding(le.Uint32(entry[4:]))
	s.offset = le.Uint64(entry[8:])
	stored := le.Uint64(entry[16:])
	s.raw = le.Uint64(entry[24:])
	s.crc = le.Uint32(entry[32:])
	size := uint64(len(data))
	switch {
	case s.kind < manifestSection || s.kind > signatureSection:
		return errors.New("unknown kind")
	case s.enc > storedMapped:
		return fmt.Errorf("unknown encoding %d", s.enc)
	case !allZero(entry[36:entrySize]):
		return errors.New("reserved bytes of the table are not zero")
	case s.offset != alignUp(at, s.enc.align()):
		return fmt.Errorf("offset %d, expected %d", s.offset, alignUp(at, s.enc.align()))
	case s.offset > size || stored > size-s.offset:
		return fmt.Errorf("%d bytes at offset %d lie outside the file of %d", stored, s.offset, size)
	case s.enc != storedZstd && s.raw != stored:
		return fmt.Errorf("stored raw, but the lengths %d and %d differ", stored, s.raw)
	case s.raw > maxRaw(stored):
		return fmt.Errorf("claims to grow from %d to %d bytes; %d are allowed", stored, s.raw, maxRaw(stored))
	case s.kind == signatureSection && (s.enc != storedRaw || stored != signatureSize && stored != signatureSize+statementSize || s.crc != 0):
		return fmt.Errorf("a signature has %d raw bytes, or %d with a statement, not %d", signatureSize, signatureSize+statementSize, stored)
	}
	s.stored = data[s.offset : s.offset+stored : s.offset+stored]
	return nil
}

func allZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}
