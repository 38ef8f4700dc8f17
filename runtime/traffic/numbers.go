package traffic

import (
	"encoding/binary"
	"math/bits"
)

// note keeps the numbers of packet i in b: the time of the packet before it, then of each packet its length, direction and gap.
func (e *Encoder) note(b []byte, i int, p *Packet) {
	gap := int64(0)
	if i > 0 {
		gap = max(0, p.Time-int64(binary.LittleEndian.Uint64(b)))
	}
	binary.LittleEndian.PutUint64(b, uint64(p.Time))
	at := b[8+4*i:]
	binary.LittleEndian.PutUint16(at, uint16(min(p.Size, MaxSequenceBytes)))
	at[2], at[3] = 1+p.Side, GapBits(gap)
}

// GapBits is the number of bits of a time's microseconds: 0 below one, 1 for one, 2 below four, ... A time is not below 0.
func GapBits(nanoseconds int64) uint8 { return uint8(bits.Len64(uint64(nanoseconds / 1000))) }

// Numbers writes what stands beside a flow's sequence as it is now into dst, which has room for the contract's NumberCount.
func (e *Encoder) Numbers(dst []int32, st State, buf []byte) {
	dst = dst[:e.c.NumberCount()]
	clear(dst)
	for k, n := range e.c.Numbers {
		row := dst[k*e.c.Packets:]
		for i := range int(st.Packets) {
			at := buf[e.numbers+8+4*i:]
			switch n {
			case NumberLength:
				row[i] = int32(binary.LittleEndian.Uint16(at))
			case NumberDirection:
				row[i] = int32(at[2])
			case NumberGap:
				row[i] = int32(at[3])
			}
		}
	}
}
