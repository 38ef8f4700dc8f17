package flow_test

import (
	"encoding/binary"

	"nepcoc/runtime/capture"
)

// pkt is a packet of the tests' own making.
type pkt struct {
	src, dst     [4]byte
	sport, dport uint16
	proto, flags uint8
	seq, ack     uint32 // TCP
	payload      []byte
	// fragments
	id     uint16
	more   bool
	v6     bool
	offset int // in bytes, a multiple of 8; later fragments have no L4 header
}

func (p pkt) reverse() pkt {
	p.src, p.dst, p.sport, p.dport = p.dst, p.src, p.dport, p.sport
	return p
}

func (p pkt) ip() []byte {
	var l4 []byte
	if p.offset == 0 {
		switch p.proto {
		case capture.ProtoTCP:
			l4 = make([]byte, 20)
			l4[12] = 5 << 4
			l4[13] = p.flags
			binary.BigEndian.PutUint32(l4[4:], p.seq)
			binary.BigEndian.PutUint32(l4[8:], p.ack)
			binary.BigEndian.PutUint16(l4[14:], 60000)
		default:
			l4 = make([]byte, 8)
			binary.BigEndian.PutUint16(l4[4:], uint16(8+len(p.payload)))
		}
		binary.BigEndian.PutUint16(l4, p.sport)
		binary.BigEndian.PutUint16(l4[2:], p.dport)
	}
	if p.v6 {
		return append(append(p.header6(len(l4)+len(p.payload)), l4...), p.payload...)
	}
	b := make([]byte, 20, 20+len(l4)+len(p.payload))
	b[0] = 0x45
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(l4)+len(p.payload)))
	binary.BigEndian.PutUint16(b[4:], p.id)
	frag := uint16(p.offset / 8)
	if p.more {
		frag |= 0x2000
	}
	binary.BigEndian.PutUint16(b[6:], frag)
	b[8], b[9] = 64, p.proto
	copy(b[12:], p.src[:])
	copy(b[16:], p.dst[:])
	return append(append(b, l4...), p.payload...)
}

// header6 is an IPv6 header, with a fragment header.
func (p pkt) header6(size int) []byte {
	b := make([]byte, 48)
	b[0] = 0x60
	binary.BigEndian.PutUint16(b[4:], uint16(8+size))
	b[6], b[7] = 44, 64
	b[8], b[24] = 0x20, 0x20
	copy(b[20:], p.src[:])
	copy(b[36:], p.dst[:])
	b[40] = p.proto
	off := uint16(p.offset)
	if p.more {
		off |= 1
	}
	binary.BigEndian.PutUint16(b[42:], off)
	binary.BigEndian.PutUint32(b[44:], uint32(p.id))
	return b
}

func (p pkt) ethernet() []byte {
	kind := []byte{8, 0}
	if p.v6 {
		kind = []byte{0x86, 0xdd}
	}
	return append(append([]byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1}, kind...), p.ip()...)
}
