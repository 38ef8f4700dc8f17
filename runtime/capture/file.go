package capture

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"nepcoc/internal/filekind"
	"nepcoc/internal/files"
)

// File is a capture file as a Source: classic pcap of either byte order and
// resolution, or pcapng with any number of interfaces; as it is, or compressed with
// gzip or zstd.
type File struct {
	name   string
	c      io.Closer
	r      packetReader
	frames *framer
	packed *unpacked // nil: not compressed
	ng     bool
	link   LinkType
	n      int
	err    error
}

// packetReader is what pcapgo's two readers have in common.
type packetReader interface {
	ZeroCopyReadPacketData() ([]byte, gopacket.CaptureInfo, error)
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
		return fail("not a capture: only %d bytes long", len(magic))
	}
	f.frames = &framer{r: br}
	switch binary.LittleEndian.Uint32(magic) {
	case 0xa1b2c3d4, 0xa1b23c4d:
		f.frames.order = binary.LittleEndian
	case 0xd4c3b2a1, 0x4d3cb2a1:
		f.frames.order = binary.BigEndian
	case blockSection:
		f.ng = true
	default:
		head, _ := br.Peek(min(br.Buffered(), filekind.Head))
		return fail("not a capture: it begins with % x, neither pcap nor pcapng%s", magic, filekind.Hint(name, head))
	}
	if f.ng {
		f.frames.next = f.frames.block
		r, err := pcapgo.NewNgReader(f.frames, pcapgo.NgReaderOptions{WantMixedLinkType: true})
		if err != nil {
			return fail("%w", f.frames.explain(err))
		}
		f.r = r
		return f, nil
	}
	f.frames.next = f.frames.fileHeader
	pr, err := pcapgo.NewReader(f.frames)
	if err != nil {
		return fail("%w", f.frames.explain(err))
	}
	// The upper bits of the field are flags (frame check sequence length).
	f.link = LinkType(pr.LinkType())
	if !f.link.Supported() {
		return fail("%s is not supported: capture on an Ethernet, Linux cooked or raw IP interface", f.link)
	}
	f.r = pr
	return f, nil
}

// Next implements Source. An error is final.
func (f *File) Next(out *Frame) error {
	if f.err != nil {
		return f.err
	}
	data, ci, err := f.r.ZeroCopyReadPacketData()
	if err != nil {
		if err == io.EOF && f.frames.err == nil {
			f.err = io.EOF
		} else {
			f.err = fmt.Errorf("%s: packet %d: %w", f.name, f.n+1, f.frames.explain(err))
		}
		return f.err
	}
	f.n++
	link := f.link
	if f.ng {
		link = LinkType(ci.AncillaryData[0].(layers.LinkType))
	}
	*out = Frame{Data: data, Time: nanos(ci.Timestamp), Length: ci.Length, Link: link, Interface: ci.InterfaceIndex}
	return nil
}

// nanos is t.UnixNano without overflow: captures may claim any time. A packet
// without one (pcapng's simple packets) has the time 0.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	const limit = math.MaxInt64/int64(time.Second) - 1
	s := t.Unix()
	if s > limit || s < -limit {
		return 0
	}
	return s*int64(time.Second) + int64(t.Nanosecond())
}

// Packets is the number of packets read so far.
func (f *File) Packets() int { return f.n }

// Note is set after Next has returned io.EOF for a file that ends in the
// middle of a packet, as a capture does that was still being written: what was
// read before is good.
func (f *File) Note() string {
	if f.frames.cut == 0 && f.packed != nil && f.packed.cut {
		return fmt.Sprintf("%s: the compressed file is cut off: the %d packets before that were read", f.name, f.n)
	}
	if f.frames.cut == 0 {
		return ""
	}
	return fmt.Sprintf("%s: the file ends in the middle of a record, at offset %d: the %d packets before it were read", f.name, f.frames.cut, f.n)
}

// Close closes the file that Open opened.
func (f *File) Close() error {
	if f.c == nil {
		return nil
	}
	return f.c.Close()
}

var errNoPackets = errors.New("the file ends within its header")
