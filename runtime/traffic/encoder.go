package traffic

import "encoding/binary"

// Encoder is a contract prepared for the packet path. It is immutable and may
// be shared by all workers. What it knows about one flow is in a State and a
// buffer of BufferSize bytes, both the caller's: a flow table keeps them in
// flat arrays, so that a million flows cost no allocation and no pointer.
type Encoder struct {
	c       Contract
	payload int // bytes of packets that fit the sequence, padding included
	blank   struct{ addresses, ports, checksums bool }
}

// State is how far one flow's sequence has come. The zero value is a flow
// without packets.
type State struct {
	Bytes   uint16 // bytes in the buffer, padding of odd packets included
	Packets uint8  // packets added
	// In the stream view: how many bytes of each side have come without a gap.
	Have  [2]uint16
	ahead uint8 // by side, as bits: bytes have come out of order
	udp   bool
}

// NewEncoder prepares a contract.
func NewEncoder(c Contract) (*Encoder, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	e := &Encoder{c: c, payload: c.PayloadTokens() * c.TokenBytes}
	e.blank.addresses = c.Blanks(BlankAddresses)
	e.blank.ports = c.Blanks(BlankPorts)
	e.blank.checksums = c.Blanks(BlankChecksums)
	return e, nil
}

// Contract is what the encoder was made from.
func (e *Encoder) Contract() Contract { return e.c }

// BufferSize is the bytes of buffer that one flow needs: the packets' bytes,
// and behind them where each packet ends.
func (e *Encoder) BufferSize() int {
	if e.isStream() {
		return e.c.streamBuffer()
	}
	return e.payload + 2*e.c.Packets
}

func (e *Encoder) isStream() bool { return e.c.View == ViewStream }

// Full reports whether further packets cannot change the sequence.
func (e *Encoder) Full(st State) bool {
	return int(st.Bytes) >= e.payload || int(st.Packets) >= e.c.Packets
}

// TokensFull reports whether the sequence has no room left; Full without
// TokensFull means that the packet budget was reached.
func (e *Encoder) TokensFull(st State) bool { return int(st.Bytes) >= e.payload }

// Wants is how many bytes of its next packet can enter a flow's sequence.
func (e *Encoder) Wants(st State) int {
	if e.Full(st) {
		return 0
	}
	return min(e.c.BytesPerPacket, e.payload-int(st.Bytes))
}

// Protocol numbers of the transport headers whose fields can be blanked.
const (
	protoTCP = 6
	protoUDP = 17
)

// Append adds one packet to a flow's buffer. ip is the packet from its IP
// header on, cut to the IP total length; l4 is where its TCP or UDP header
// begins, 0 where it has none (a later fragment); proto the transport
// protocol. ip is not kept and not changed. A flow that is Full ignores it. It
// returns how many bytes were taken.
//
// The caller has checked the IP header: 20 bytes for IPv4, 40 for IPv6.
func (e *Encoder) Append(st *State, buf []byte, ip []byte, l4 int, proto uint8) (taken int) {
	if e.Full(*st) {
		return 0
	}
	start := int(st.Bytes)
	n := copy(buf[start:e.payload], ip[:min(len(ip), e.c.BytesPerPacket)])
	end := start + n
	binary.LittleEndian.PutUint16(buf[e.payload+2*int(st.Packets):], uint16(end))
	st.Packets++
	if n > 0 {
		e.blankFields(buf[start:end], l4, proto)
	}
	if e.c.TokenBytes == 2 && end&1 == 1 {
		// Every start and the budget are even, so there is room.
		buf[end] = 0
		end++
	}
	st.Bytes = uint16(end)
	return n
}

func (e *Encoder) blankFields(b []byte, l4 int, proto uint8) {
	v4 := b[0]>>4 == 4
	if v4 {
		if e.blank.checksums {
			zero(b, 10, 12)
		}
		if e.blank.addresses {
			zero(b, 12, 20)
		}
	} else if e.blank.addresses {
		zero(b, 8, 40)
	}
	if l4 == 0 {
		return
	}
	if e.blank.ports {
		zero(b, l4, l4+4)
	}
	if e.blank.checksums {
		switch proto {
		case protoTCP:
			zero(b, l4+16, l4+18)
		case protoUDP:
			zero(b, l4+6, l4+8)
		}
	}
}

// zero clears b[from:to] as far as b reaches: a packet may be cut anywhere.
func zero(b []byte, from, to int) {
	if from < len(b) {
		clear(b[from:min(to, len(b))])
	}
}

// Tokens writes the sequence of a flow as it is now, padded, into dst, which
// has the contract's length, and returns the number of valid tokens: those
// before the padding.
func (e *Encoder) Tokens(dst []int32, st State, buf []byte) (valid int) {
	c := &e.c
	dst = dst[:c.Length]
	pos := 0
	if c.UseCLS {
		dst[0] = int32(c.CLS)
		pos = 1
	}
	b, off := buf[:st.Bytes], int32(c.ValueOffset)
	if e.isStream() {
		pos = e.streamTokens(dst, pos, st, buf)
	} else if c.TokenBytes == 2 {
		for ; len(b) >= 2; b = b[2:] {
			dst[pos] = off + int32(binary.BigEndian.Uint16(b))
			pos++
		}
	} else {
		for _, v := range b {
			dst[pos] = off + int32(v)
			pos++
		}
	}
	if c.UseSEP && pos < c.Length {
		dst[pos] = int32(c.SEP)
		pos++
	}
	for i := pos; i < c.Length; i++ {
		dst[i] = int32(c.Pad)
	}
	return pos
}

// Stable is the number of leading tokens that no further packet can change:
// what a streaming engine may already compute.
func (e *Encoder) Stable(st State) int {
	if e.isStream() {
		return 0 // the first side's length stands in front
	}
	n := int(st.Bytes) / e.c.TokenBytes
	if e.c.UseCLS {
		n++
	}
	return n
}

// Origin is where a token's bytes came from.
type Origin struct {
	Packet int // which packet of the flow, from 0
	Offset int // offset of the first byte, from the packet's IP header
	Bytes  int // bytes of the packet in the token; 1 of 2 for an odd last byte
}

// Origin maps a position of the sequence to the packet bytes it was made of;
// ok is false for CLS, SEP and PAD.
func (e *Encoder) Origin(st State, buf []byte, pos int) (o Origin, ok bool) {
	if e.c.UseCLS {
		pos--
	}
	at := pos * e.c.TokenBytes
	if e.isStream() {
		return o, false
	}
	if pos < 0 || at >= int(st.Bytes) {
		return o, false
	}
	start := 0
	for i := 0; i < int(st.Packets); i++ {
		end := int(binary.LittleEndian.Uint16(buf[e.payload+2*i:]))
		if at < end {
			return Origin{Packet: i, Offset: at - start, Bytes: min(e.c.TokenBytes, end-at)}, true
		}
		start = (end + e.c.TokenBytes - 1) / e.c.TokenBytes * e.c.TokenBytes
	}
	return o, false
}
