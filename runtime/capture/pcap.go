package capture

import (
	"encoding/binary"
	"fmt"
)

// classic reads files of libpcap's first format, and of those that grew from it.
type classic struct {
	framer
	unit    int64 // nanoseconds of the times' second number
	head    int   // bytes of a record's header
	swapped bool  // the two lengths stand the other way round
	either  bool  // or may: version 2.3 was written both ways
	link    LinkType
}

// classicForms are what the first four bytes tell, read in the byte order of the file.
var classicForms = map[uint32]struct {
	unit int64
	head int
}{
	0xa1b2c3d4: {1000, 16},
	0xa1b23c4d: {1, 16},    // nanoseconds
	0xa1b2cd34: {1000, 24}, // Kuznetzov's, with interface and packet type: old Linux, AVM routers
}

// newClassic reads the file's header.
func newClassic(f framer, magic []byte) (*classic, error) {
	c := &classic{framer: f}
	c.order = binary.LittleEndian
	form, ok := classicForms[c.order.Uint32(magic)]
	if !ok {
		c.order = binary.BigEndian
		form = classicForms[c.order.Uint32(magic)]
	}
	if err := c.fill(24); err != nil {
		return c, err
	}
	switch major, minor := c.u16(4), c.u16(6); {
	case major == 2 && minor == 4:
	case major == 2 && minor == 3:
		c.either = true
	case major == 2 && minor < 3, major == 543 && minor == 0: // 543: of DG/UX
		c.swapped = true
	default:
		return c, fmt.Errorf("pcap version %d.%d is not read: 2.0 to 2.4 are; write it anew with Wireshark (editcap -F pcap)", major, minor)
	}
	c.unit, c.head = form.unit, form.head
	// The upper bits of the field are flags (frame check sequence length).
	c.link = LinkType(c.u32(20))
	if !c.link.Supported() {
		return c, fmt.Errorf("%s is not supported: capture on an Ethernet, Linux cooked or raw IP interface", c.link)
	}
	return c, nil
}

// next reads one record.
func (c *classic) next(out *Frame) error {
	c.rec = c.rec[:0]
	if err := c.fill(c.head); err != nil {
		return err
	}
	n, wire := c.u32(8), c.u32(12)
	if c.swapped || c.either && n > wire {
		n, wire = wire, n
	}
	if n > maxRecord {
		return fmt.Errorf("record at offset %d claims %d bytes, more than any packet (%d): the file is damaged from here on", c.place(), n, maxRecord)
	}
	// Whole seconds in the second number carry over.
	t := int64(c.u32(0))*1e9 + int64(c.u32(4))*c.unit
	if err := c.fill(int(n)); err != nil {
		return err
	}
	// Some writers leave the original length out.
	*out = Frame{Data: c.rec[c.head:len(c.rec):len(c.rec)], Time: t, Length: int(max(n, wire)), Link: c.link}
	if c.head == 24 {
		out.Interface = int(c.u32(16))
	}
	return nil
}
