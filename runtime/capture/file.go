package capture

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"nepcoc/internal/filekind"
	"nepcoc/internal/files"
	"nepcoc/internal/plural"
)

// File is a capture file as a Source: classic pcap of either byte order, any
// resolution and version, or pcapng with any number of interfaces; as it is, or compressed (see
// compressions).
type File struct {
	name   string
	c      io.Closer
	r      packetReader
	frames *framer   // of r
	packed *unpacked // nil: not compressed
	n      int
	unread map[LinkType]int // packets of link types that are not read
	err    error
}

// packetReader is a reader of one format. io.EOF is the end, also where it cuts a record.
type packetReader interface {
	next(*Frame) error
}

// Open opens a capture file; "-" is standard input. The format is told by its
// first bytes.
func Open(path string) (*File, error) {
	f, err := files.Open(path)
	if err != nil {
		return nil, err
	}
	file, err := NewFile(files.Show(path), f)
	if err != nil {
		f.Close()
		return nil, err
	}
	file.c = f
	return file, nil
}

// NewFile reads a capture from r; name is for messages.
func NewFile(name string, r io.Reader) (*File, error) {
	f := &File{name: name}
	fail := func(format string, args ...any) (*File, error) {
		return nil, fmt.Errorf("%s: %w", name, fmt.Errorf(format, args...))
	}
	br := bufio.NewReaderSize(r, 64<<10)
	magic, err := br.Peek(4)
	if len(magic) == 0 {
		if err != nil && err != io.EOF {
			return fail("%w", err)
		}
		return fail("the file is empty: not a capture")
	}
	if br, f.packed, err = decompress(br); err != nil {
		return fail("%w", err)
	}
	magic, _ = br.Peek(4)
	if len(magic) < 4 {
		return fail("not a capture: only %s long", plural.Of(len(magic), "byte"))
	}
	switch _, le := classicForms[binary.LittleEndian.Uint32(magic)]; {
	case binary.LittleEndian.Uint32(magic) == blockSection:
		var g *nextGen
		g, err = newNextGen(framer{r: br})
		f.r, f.frames = g, &g.framer
	default:
		if _, be := classicForms[binary.BigEndian.Uint32(magic)]; !le && !be {
			head, _ := br.Peek(min(br.Buffered(), filekind.Head))
			return fail("not a capture: it begins with % x, neither pcap nor pcapng%s", magic, filekind.Hint(name, head))
		}
		var c *classic
		c, err = newClassic(framer{r: br}, magic)
		f.r, f.frames = c, &c.framer
	}
	if err == io.EOF {
		err = errNoPackets
	}
	if err != nil {
		return fail("%w", err)
	}
	return f, nil
}

// Next implements Source. An error is final.
func (f *File) Next(out *Frame) error {
	if f.err != nil {
		return f.err
	}
	if err := f.r.next(out); err != nil {
		if f.err = err; err != io.EOF {
			f.err = fmt.Errorf("%s: packet %d: %w", f.name, f.n+1, err)
		}
		return f.err
	}
	f.n++
	if !out.Link.Supported() {
		if f.unread == nil {
			f.unread = map[LinkType]int{}
		}
		f.unread[out.Link]++
	}
	return nil
}

// Packets is the number of packets read so far.
func (f *File) Packets() int { return f.n }

// Notes are for when Next has returned io.EOF: that the file ends in the middle of a packet, as a capture
// does that was still being written (what was read before is good), and that it holds packets of link types that
// are not read.
func (f *File) Notes() (notes []string) {
	switch {
	case f.frames.cut > 0:
		notes = append(notes, fmt.Sprintf("%s: the file ends in the middle of a record, at offset %d: the %s before it %s read", f.name, f.frames.cut, plural.Of(f.n, "packet"), plural.Verb(f.n, "was", "were")))
	case f.packed != nil && f.packed.cut:
		notes = append(notes, fmt.Sprintf("%s: the compressed file is cut off: the %s before that %s read", f.name, plural.Of(f.n, "packet"), plural.Verb(f.n, "was", "were")))
	}
	for _, l := range slices.Sorted(maps.Keys(f.unread)) {
		notes = append(notes, fmt.Sprintf("%s: %s %s of %s, which is not read: capture on an Ethernet, Linux cooked or raw IP interface", f.name, plural.Of(f.unread[l], "packet"), plural.Verb(f.unread[l], "is", "are"), l))
	}
	return notes
}

// Close closes the file that Open opened.
func (f *File) Close() error {
	if f.c == nil {
		return nil
	}
	return f.c.Close()
}

var errNoPackets = errors.New("the file ends within its header")
