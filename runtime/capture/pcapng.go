package capture

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
)

// nextGen reads pcapng files: any number of sections, each with its byte order and interfaces.
type nextGen struct {
	framer
	ifaces []ngInterface
	last   int64 // time of the latest packet
}

// ngInterface is what a section says of an interface.
type ngInterface struct {
	link   LinkType
	snap   uint32
	units  uint64 // of time, per second
	offset int64  // seconds
}

const (
	// maxBlock is the longest pcapng block: a packet and generous options.
	maxBlock = 1 << 20
	// maxInterfaces bounds what is kept of a section.
	maxInterfaces = 4096
)

// pcapng block types, options of an interface, and the byte-order magic.
const (
	blockSection   = 0x0a0d0d0a
	blockInterface = 1
	blockPacket    = 2
	blockSimple    = 3
	blockEnhanced  = 6
	optResolution  = 9
	optOffset      = 14
	ngMagic        = 0x1a2b3c4d
)

// fixedPart is the bytes before a block's packet or options. Blocks of other types
// carry nothing for us: names, secrets, statistics, vendors' own.
var fixedPart = map[uint32]int{blockSection: 16, blockInterface: 8, blockPacket: 20, blockSimple: 4, blockEnhanced: 20}

// newNextGen reads the first section header.
func newNextGen(f framer) (*nextGen, error) {
	g := &nextGen{framer: f}
	_, err := g.block(nil)
	return g, err
}

// next reads blocks up to the next packet.
func (g *nextGen) next(out *Frame) error {
	for {
		packet, err := g.block(out)
		if packet || err != nil {
			return err
		}
	}
}

// block reads one block, and tells whether it was a packet.
func (g *nextGen) block(out *Frame) (packet bool, err error) {
	g.rec = g.rec[:0]
	if err := g.fill(12); err != nil {
		return false, err
	}
	// A section header's type reads the same in both byte orders, and says
	// which one its length has.
	if binary.LittleEndian.Uint32(g.rec) == blockSection {
		switch magic := g.rec[8:12]; uint32(ngMagic) {
		case binary.LittleEndian.Uint32(magic):
			g.order = binary.LittleEndian
		case binary.BigEndian.Uint32(magic):
			g.order = binary.BigEndian
		default:
			return false, fmt.Errorf("section header at offset %d has no byte-order mark: the file is damaged", g.place())
		}
	}
	typ, n := g.u32(0), g.u32(4)
	if n < 12 || n%4 != 0 || n > maxBlock {
		return false, fmt.Errorf("block at offset %d claims %d bytes, which no block has: the file is damaged from here on", g.place(), n)
	}
	if err := g.fill(int(n) - 12); err != nil {
		return false, err
	}
	if again := g.u32(int(n) - 4); again != n {
		return false, fmt.Errorf("block at offset %d says %d bytes at its start and %d at its end: the file is damaged from here on", g.place(), n, again)
	}
	size, known := fixedPart[typ]
	if !known {
		return false, nil
	}
	body := g.rec[8 : n-4]
	if len(body) < size {
		err = fmt.Errorf("%d bytes are too few for its type, %d", len(body), typ)
	} else {
		switch typ {
		case blockSection:
			err = g.section(body)
		case blockInterface:
			err = g.iface(body)
		default:
			packet, err = true, g.packet(typ, body, size, out)
		}
	}
	if err != nil {
		return false, fmt.Errorf("block at offset %d: %w", g.place(), err)
	}
	return packet, nil
}

func (g *nextGen) section(body []byte) error {
	g.ifaces = g.ifaces[:0]
	if major, minor := g.order.Uint16(body[4:]), g.order.Uint16(body[6:]); major != 1 || minor != 0 && minor != 2 {
		return fmt.Errorf("pcapng version %d.%d is not read: 1.0 is; write the file anew with Wireshark (editcap -F pcapng)", major, minor)
	}
	return g.options(body[16:], func(uint16, []byte) {})
}

func (g *nextGen) iface(body []byte) error {
	if len(g.ifaces) == maxInterfaces {
		return fmt.Errorf("more than %d interfaces", maxInterfaces)
	}
	f := ngInterface{link: LinkType(g.order.Uint16(body)), snap: g.order.Uint32(body[4:]), units: 1e6}
	resolution := -1
	err := g.options(body[8:], func(code uint16, value []byte) {
		switch {
		case code == optResolution && len(value) >= 1:
			resolution = int(value[0])
		case code == optOffset && len(value) >= 8:
			f.offset = int64(g.order.Uint64(value))
		}
	})
	if err != nil {
		return err
	}
	if resolution >= 0 {
		if f.units = unitsOf(byte(resolution)); f.units == 0 {
			return fmt.Errorf("times of a resolution (0x%02x) finer than 2^-63 or 10^-19 seconds are not read: write the file anew with Wireshark (editcap -F nsecpcap)", resolution)
		}
	}
	g.ifaces = append(g.ifaces, f)
	return nil
}

// unitsOf is the number of units in a second, of the resolution in if_tsresol: a negative power of 10,
// or with the upper bit of 2. 0: more than 64 bits hold.
func unitsOf(resolution byte) uint64 {
	if k := resolution & 0x7f; resolution&0x80 != 0 {
		return 1 << k // 0 beyond 63
	} else if k > 19 {
		return 0
	}
	u := uint64(1)
	for range resolution {
		u *= 10
	}
	return u
}

// packet reads a packet of one of the three types.
func (g *nextGen) packet(typ uint32, body []byte, size int, out *Frame) error {
	u32 := func(at int) uint32 { return g.order.Uint32(body[at:]) }
	var iface int
	var n, wire uint32
	switch typ {
	case blockEnhanced:
		iface, n, wire = int(u32(0)), u32(12), u32(16)
	case blockPacket:
		iface, n, wire = int(g.order.Uint16(body)), u32(12), u32(16)
	case blockSimple:
		n, wire = u32(0), u32(0)
		if len(g.ifaces) > 0 && g.ifaces[0].snap != 0 {
			n = min(n, g.ifaces[0].snap)
		}
	}
	if uint64(n) > uint64(len(body)-size) || n > maxRecord {
		return fmt.Errorf("a packet of %d bytes in a block of %d", n, len(body))
	}
	if typ == blockEnhanced {
		// Padding was written whether the packet needs some or not.
		if err := g.options(body[min(size+(int(n)+3)&^3, len(body)):], func(uint16, []byte) {}); err != nil {
			return err
		}
	}
	if iface >= len(g.ifaces) {
		return fmt.Errorf("a packet of interface %d, but the section has described %d", iface, len(g.ifaces))
	}
	f := &g.ifaces[iface]
	if typ != blockSimple {
		// Where there is no time, or none of these centuries, it is that of the packet before.
		if t, ok := f.time(uint64(u32(4))<<32 | uint64(u32(8))); ok {
			g.last = t
		}
	}
	*out = Frame{Data: body[size : size+int(n) : size+int(n)], Time: g.last, Length: int(max(n, wire)), Link: f.link, Interface: iface}
	return nil
}

// time is a packet's time in nanoseconds since 1970, rounded down; false where no int64
// holds it.
func (f *ngInterface) time(units uint64) (ns int64, ok bool) {
	const limit = math.MaxInt64/1_000_000_000 - 1
	s, rest := units/f.units, units%f.units
	if s > limit || f.offset > limit || f.offset < -limit {
		return 0, false
	}
	// rest is less than f.units, so the quotient fits.
	hi, lo := bits.Mul64(rest, 1e9)
	frac, _ := bits.Div64(hi, lo, f.units)
	if sum := int64(s) + f.offset; sum <= limit && sum >= -limit {
		return sum*1e9 + int64(frac), true
	}
	return 0, false
}

// options goes through a list of options, and checks that it ends where its block does.
func (g *nextGen) options(b []byte, each func(code uint16, value []byte)) error {
	for len(b) >= 4 {
		code, n := g.order.Uint16(b), int(g.order.Uint16(b[2:]))
		padded := (n + 3) &^ 3
		if padded > len(b)-4 {
			return fmt.Errorf("option %d of %d bytes reaches beyond the block", code, padded)
		}
		if code == 0 {
			return nil
		}
		each(code, b[4:4+n])
		b = b[4+padded:]
	}
	return nil
}
