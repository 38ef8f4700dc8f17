package capture

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// framer stands between a file and pcapgo's readers: it hands on whole,
// checked records only. So lengths that lie are found before anything is
// allocated by them, a record cut by the end of the file is told from a broken
// one, and every error has an offset; the readers themselves tell neither.
type framer struct {
	r     *bufio.Reader
	order binary.ByteOrder
	next  func() error // reads the next record into rec

	rec  []byte // the record handed on
	pos  int    // how much of it was
	off  int64  // file offset behind rec
	cut  int64  // offset of the record that the end of the file cuts, or 0
	err  error  // what stopped the framer, but for the end of the file
	done bool

	snap0  uint32 // pcapng: snap length of the section's first interface
	ifaces int    // pcapng: interfaces of the section
}

const (
	// maxRecord is the longest packet taken: libpcap's own limit.
	maxRecord = 256 << 10
	// maxBlock is the longest pcapng block: a packet and generous options.
	maxBlock = 1 << 20
	// maxInterfaces bounds what the reader keeps of a section.
	maxInterfaces = 4096
)

// pcapng block types and the byte-order magic.
const (
	blockSection   = 0x0a0d0d0a
	blockInterface = 1
	blockPacket    = 2
	blockSimple    = 3
	blockEnhanced  = 6
	ngMagic        = 0x1a2b3c4d
)

// Read implements io.Reader over the checked records.
func (f *framer) Read(p []byte) (int, error) {
	for f.pos == len(f.rec) {
		if f.done {
			return 0, io.EOF
		}
		f.rec, f.pos = f.rec[:0], 0
		if err := f.next(); err != nil {
			f.done, f.rec = true, f.rec[:0]
			if err != io.EOF {
				f.err = err
			}
			return 0, io.EOF
		}
	}
	n := copy(p, f.rec[f.pos:])
	f.pos += n
	return n, nil
}

// explain prefers the framer's own error, which has a place, to what the
// reader made of it.
func (f *framer) explain(err error) error {
	switch {
	case f.err != nil:
		return f.err
	case f.cut > 0 || err == io.EOF || err == io.ErrUnexpectedEOF:
		return errNoPackets
	}
	return fmt.Errorf("%w (before offset %d)", err, f.off)
}

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

// fileHeader passes classic pcap's header on.
func (f *framer) fileHeader() error {
	f.next = f.record
	if err := f.fill(24); err != nil {
		return err
	}
	// The link type shares its word with flags that pcapgo takes as part of it.
	link := f.order.Uint32(f.rec[20:])
	f.order.PutUint32(f.rec[20:], link&0xffff)
	// Records are checked here, and longer ones than the header says are common.
	f.order.PutUint32(f.rec[16:], maxRecord)
	return nil
}

// record passes one record of a classic pcap on.
func (f *framer) record() error {
	if err := f.fill(16); err != nil {
		return err
	}
	n, orig := f.order.Uint32(f.rec[8:]), f.order.Uint32(f.rec[12:])
	if n > maxRecord {
		return fmt.Errorf("record at offset %d claims %d bytes, more than any packet (%d): the file is damaged from here on", f.place(), n, maxRecord)
	}
	if orig < n {
		// Some writers leave the original length out.
		f.order.PutUint32(f.rec[12:], n)
	}
	return f.fill(int(n))
}

// block passes one pcapng block on, and leaves out those that carry nothing
// for us: names, secrets, statistics, vendors' own.
func (f *framer) block() error {
	for {
		f.rec = f.rec[:0]
		if err := f.fill(12); err != nil {
			return err
		}
		// A section header's type reads the same in both byte orders, and says
		// which one its length has.
		section := binary.LittleEndian.Uint32(f.rec) == blockSection
		if section {
			switch magic := f.rec[8:12]; uint32(ngMagic) {
			case binary.LittleEndian.Uint32(magic):
				f.order = binary.LittleEndian
			case binary.BigEndian.Uint32(magic):
				f.order = binary.BigEndian
			default:
				return fmt.Errorf("section header at offset %d has no byte-order mark: the file is damaged", f.place())
			}
		}
		typ, n := f.order.Uint32(f.rec), f.order.Uint32(f.rec[4:])
		if n < 12 || n%4 != 0 || n > maxBlock {
			return fmt.Errorf("block at offset %d claims %d bytes, which no block has: the file is damaged from here on", f.place(), n)
		}
		if err := f.fill(int(n) - 12); err != nil {
			return err
		}
		if again := f.order.Uint32(f.rec[n-4:]); again != n {
			return fmt.Errorf("block at offset %d says %d bytes at its start and %d at its end: the file is damaged from here on", f.place(), n, again)
		}
		keep, err := f.checkBlock(typ, f.rec[8:n-4])
		if err != nil {
			return fmt.Errorf("block at offset %d: %w", f.place(), err)
		}
		if keep {
			return nil
		}
	}
}

// fixedPart is the bytes before a block's packet or options, of the types that
// are handed on.
var fixedPart = map[uint32]int{blockSection: 16, blockInterface: 8, blockPacket: 20, blockSimple: 4, blockEnhanced: 20}

// checkBlock checks what pcapgo would believe of a block: that its fixed part,
// its packet and its options lie inside.
func (f *framer) checkBlock(typ uint32, body []byte) (keep bool, err error) {
	size, known := fixedPart[typ]
	if !known {
		return false, nil
	}
	if len(body) < size {
		return false, fmt.Errorf("%d bytes are too few for its type, %d", len(body), typ)
	}
	u32 := func(at int) uint32 { return f.order.Uint32(body[at:]) }
	packet := func(n uint32) error {
		if uint64(n) > uint64(len(body)-size) || n > maxRecord {
			return fmt.Errorf("a packet of %d bytes in a block of %d", n, len(body))
		}
		size += (int(n) + 3) &^ 3
		return nil
	}
	iface := 0
	switch typ {
	case blockSection:
		f.ifaces, f.snap0 = 0, 0
		return true, f.options(body[size:])
	case blockInterface:
		if f.ifaces++; f.ifaces == 1 {
			f.snap0 = u32(4)
		}
		if f.ifaces > maxInterfaces {
			return false, fmt.Errorf("more than %d interfaces", maxInterfaces)
		}
		return true, f.options(body[size:])
	case blockEnhanced:
		iface = int(u32(0))
		if err := packet(u32(12)); err != nil {
			return false, err
		}
		err = f.options(body[size:])
	case blockPacket:
		iface = int(f.order.Uint16(body))
		err = packet(u32(12))
	case blockSimple:
		n := u32(0)
		if f.snap0 != 0 {
			n = min(n, f.snap0)
		}
		err = packet(n)
	}
	if err == nil && iface >= f.ifaces {
		err = fmt.Errorf("a packet of interface %d, but the section has described %d", iface, f.ifaces)
	}
	return err == nil, err
}

// options checks that the list of options ends where its block does.
func (f *framer) options(b []byte) error {
	for len(b) >= 4 {
		code, n := f.order.Uint16(b), int(f.order.Uint16(b[2:]))
		n = (n + 3) &^ 3
		if n > len(b)-4 {
			return fmt.Errorf("option %d of %d bytes reaches beyond the block", code, n)
		}
		if code == 0 {
			return nil
		}
		b = b[4+n:]
	}
	return nil
}
