package traffic

import "encoding/binary"

// Encoder is a contract prepared for the packet path. It is immutable and may
// be shared by all workers. What it knows about one flow is in a State and a
// buffer of BufferSize bytes, both the caller's: a flow table keeps them in
// flat arrays, so that a million flows cost no allocation and no pointer.
type Encoder struct {
	c       Contract
	payload int // bytes of packets that fit the sequence, padding and facts included
	blank   blankSet
	ids     *[256]int32 // of byte values, nil where they are ValueOffset + value
	fact    int32       // id of the first fact
	// plain: a packet's bytes enter as they come from the IP header on, with nothing in front.
	plain bool
	link  int // bytes in front of the IP header
	facts int // tokens in front of a packet's bytes
	// numbers is where a flow's buffer has the time of its last packet, in 8 bytes, and then 4 bytes of each packet; 0: it has none.
	numbers int
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
	e := &Encoder{c: c, payload: c.PayloadTokens() * c.TokenBytes, blank: newBlankSet(&c), fact: int32(c.firstFact()), link: c.linkBytes(), facts: len(c.PacketTokens)}
	e.plain = c.FirstLayer == LayerIP && c.HeaderBytes == 0 && e.facts == 0
	if len(c.Numbers) > 0 {
		e.numbers = e.payload + 2*c.Packets
	}
	if c.ByteIDs != nil {
		e.ids = new([256]int32)
		for i, id := range c.ByteIDs {
			e.ids[i] = int32(id)
		}
	}
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
	if e.numbers > 0 {
		return e.numbers + 8 + 4*e.c.Packets
	}
	return e.payload + 2*e.c.Packets
}

func (e *Encoder) isStream() bool { return e.c.View == ViewStream }

// Full reports whether further packets cannot change the sequence.
func (e *Encoder) Full(st State) bool {
	return int(st.Bytes) >= e.payload && e.numbers == 0 || int(st.Packets) >= e.c.Packets
}

// TokensFull reports whether the sequence has no room left, and nothing beside it is waited for; Full without
// TokensFull means that the packet budget was reached.
func (e *Encoder) TokensFull(st State) bool { return int(st.Bytes) >= e.payload && e.numbers == 0 }

// Protocol numbers of the transport headers whose fields can be blanked.
const (
	protoTCP = 6
	protoUDP = 17
)

// Packet is what an encoder sees of a packet.
type Packet struct {
	// IP are the bytes from the IP header on, cut to the IP total length, and perhaps by the capture. The caller
	// has checked the IP header: 20 bytes for IPv4, 40 for IPv6.
	IP []byte
	// L4 is where the TCP or UDP header begins in IP, 0 where there is none: in a later fragment. Payload is where the
	// bytes behind it begin, perhaps beyond what was captured; not above L4 where that can't be told.
	L4, Payload int
	Proto       uint8
	Side        uint8    // Client or Server, the sender
	MAC         [12]byte // Ethernet destination and source, 0 where the packet came without
	Size        int      // bytes of payload on the wire; see Sized
	Time        int64    // nanoseconds since whenever; see Timed
}

// Sized tells that the encoder looks at Packet.Size, Timed that it looks at Packet.Time.
func (e *Encoder) Sized() bool { return (!e.plain || e.numbers > 0) && !e.isStream() }
func (e *Encoder) Timed() bool { return e.numbers > 0 }

// header is how many bytes of IP are headers: all where it can't be told.
func (p *Packet) header() int {
	if p.Payload <= p.L4 {
		return len(p.IP)
	}
	return min(p.Payload, len(p.IP))
}

// Append adds one packet to a flow's buffer. p is not kept and not changed. A flow that is Full ignores it. It
// returns how many of the packet's bytes were taken, from its first layer on, and how many of them are payload.
func (e *Encoder) Append(st *State, buf []byte, p *Packet) (taken, payload int) {
	if e.Full(*st) {
		return 0, 0
	}
	start := int(st.Bytes)
	end := start
	if e.plain {
		taken = copy(buf[start:e.payload], p.IP[:min(len(p.IP), e.c.BytesPerPacket)])
		end += taken
		payload = max(0, taken-p.Payload)
		if taken > 0 {
			e.blank.headers(buf[start:end], p)
		}
		if e.hello(p) && p.header() < taken {
			e.blank.payload(buf[start+p.Payload : end])
		}
		e.end(buf, st, end)
	} else {
		taken, payload, end = e.parts(buf, st, p)
	}
	if e.numbers > 0 {
		e.note(buf[e.numbers:], int(st.Packets), p)
	}
	st.Packets++
	if e.c.TokenBytes == 2 && end&1 == 1 {
		// Every start and the budget are even, so there is room.
		buf[end] = 0
		end++
	}
	st.Bytes = uint16(end)
	return taken, payload
}

// hello tells that a packet's payload may begin with a hello of which something is blanked.
func (e *Encoder) hello(p *Packet) bool { return e.blank.tls && p.Proto == protoTCP && p.L4 > 0 }

// end notes where the bytes of the packet that is being added end.
func (e *Encoder) end(buf []byte, st *State, end int) {
	binary.LittleEndian.PutUint16(buf[e.payload+2*int(st.Packets):], uint16(end))
}

// parts adds facts, the link layer's header, the other headers and payload, each as far as the contract wants and
// there is room. end is where they end in the buffer.
func (e *Encoder) parts(buf []byte, st *State, p *Packet) (taken, payload, end int) {
	c := &e.c
	at := int(st.Bytes)
	for _, t := range c.PacketTokens {
		if at >= e.payload {
			break
		}
		fact := byte(factClient) + p.Side
		if t == TokenLength {
			fact = byte(factLength + lengthBucket(p.Size))
		}
		buf[at] = fact
		if c.TokenBytes == 2 {
			buf[at+1] = 0
		}
		at += c.TokenBytes
	}
	head := at
	header, body := e.shares(p)
	if e.link > 0 {
		link := [EthernetBytes]byte{12: 0x86, 13: 0xdd}
		if p.IP[0]>>4 == 4 {
			link[12], link[13] = 0x08, 0x00
		}
		if !e.blank.mac {
			copy(link[:], p.MAC[:])
		}
		n := min(header, e.link)
		at += copy(buf[at:e.payload], link[:n])
		header -= n
	}
	if n := copy(buf[at:e.payload], p.IP[:header]); n > 0 {
		e.blank.headers(buf[at:at+n], p)
		at += n
	}
	from := p.header()
	payload = copy(buf[at:e.payload], p.IP[from:from+body])
	if e.hello(p) {
		e.blank.payload(buf[at : at+payload])
	}
	at += payload
	e.end(buf, st, at)
	return at - head, payload, at
}

// shares are the bytes of headers, from the first layer on, and of payload that the contract wants of a packet, as far as they
// were captured.
func (e *Encoder) shares(p *Packet) (header, payload int) {
	from := p.header()
	size := max(0, min(len(p.IP)-from, p.Size)) // behind a datagram's payload is padding
	switch c := &e.c; {
	case c.FirstLayer == LayerPayload:
		return 0, min(size, c.BytesPerPacket)
	case c.HeaderBytes > 0:
		return min(e.link+from, c.HeaderBytes), min(size, c.BytesPerPacket-c.HeaderBytes)
	default:
		header = min(e.link+from, c.BytesPerPacket)
		return header, min(len(p.IP)-from, c.BytesPerPacket-header)
	}
}

// Reach is how many of a packet's bytes, from the IP header on, have to be captured for all that can enter.
func (e *Encoder) Reach(st State, p *Packet) int {
	if e.Full(st) {
		return 0
	}
	room := e.payload - int(st.Bytes)
	if e.plain {
		return min(e.c.BytesPerPacket, room)
	}
	room -= e.facts * e.c.TokenBytes
	whole := max(p.header(), p.Payload)
	header, body := e.link+whole, p.Size
	switch c := &e.c; {
	case c.FirstLayer == LayerPayload:
		header, body = 0, min(body, c.BytesPerPacket)
	case c.HeaderBytes > 0:
		header, body = min(header, c.HeaderBytes), min(body, c.BytesPerPacket-c.HeaderBytes)
	default:
		return max(0, min(c.BytesPerPacket, room)-e.link)
	}
	if body = min(body, room-header); body > 0 {
		return whole + body
	}
	return max(0, min(header, room)-e.link)
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
	switch {
	case e.isStream():
		pos = e.streamTokens(dst, pos, st, buf)
	case e.facts > 0:
		pos = e.factTokens(dst, pos, st, buf)
	default:
		pos += e.values(dst[pos:], b, off)
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

// values writes the tokens of bytes and returns how many.
func (e *Encoder) values(dst []int32, b []byte, off int32) int {
	if e.c.TokenBytes == 2 {
		dst = dst[:len(b)/2]
		for i := range dst {
			dst[i] = off + int32(binary.BigEndian.Uint16(b))
			b = b[2:]
		}
		return len(dst)
	}
	dst = dst[:len(b)]
	if e.ids != nil {
		for i, v := range b {
			dst[i] = e.ids[v]
		}
		return len(b)
	}
	for i, v := range b {
		dst[i] = off + int32(v)
	}
	return len(b)
}

// factTokens writes packets whose facts stand in front of their bytes, and returns where they end.
func (e *Encoder) factTokens(dst []int32, pos int, st State, buf []byte) int {
	size := e.c.TokenBytes
	at := 0
	for i := range int(st.Packets) {
		end := e.ends(buf, i)
		for k := 0; k < e.facts && at < end; k++ {
			dst[pos] = e.fact + int32(buf[at])
			pos++
			at += size
		}
		end = (end + size - 1) / size * size
		pos += e.values(dst[pos:], buf[at:end], int32(e.c.ValueOffset))
		at = end
	}
	return pos
}

// ends is where a packet's bytes end in the buffer.
func (e *Encoder) ends(buf []byte, packet int) int {
	return int(binary.LittleEndian.Uint16(buf[e.payload+2*packet:]))
}

// Used is how many bytes of packets a sequence holds, with the zero byte that pads an odd packet.
func (e *Encoder) Used(st State, buf []byte) int {
	n := int(st.Bytes)
	if e.facts == 0 {
		return n
	}
	start := 0
	for i := range int(st.Packets) {
		end := e.ends(buf, i)
		n -= min(end-start, e.facts*e.c.TokenBytes)
		start = (end + e.c.TokenBytes - 1) / e.c.TokenBytes * e.c.TokenBytes
	}
	return n
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
	Packet int // in the packets view: which packet of the flow, from 0, among those that entered
	// Offset is that of the first byte: in the packets view among those of the packet that entered (see Encoder.Entered), in the
	// stream view in the stream of Side.
	Offset int
	Bytes  int // bytes of the packet in the token; 1 of 2 for an odd last byte
	Side   int // in the stream view: Client or Server
}

// Origin maps a position of the sequence to the packet bytes it was made of;
// ok is false for CLS, SEP, PAD and facts.
func (e *Encoder) Origin(st State, buf []byte, pos int) (o Origin, ok bool) {
	if e.c.UseCLS {
		pos--
	}
	if pos < 0 {
		return o, false
	}
	at := pos * e.c.TokenBytes
	if e.isStream() {
		return e.streamOrigin(st, pos)
	}
	if at >= int(st.Bytes) {
		return o, false
	}
	start := 0
	for i := range int(st.Packets) {
		end := e.ends(buf, i)
		if at < end {
			start += e.facts * e.c.TokenBytes
			return Origin{Packet: i, Offset: at - start, Bytes: min(e.c.TokenBytes, end-at)}, at >= start
		}
		start = (end + e.c.TokenBytes - 1) / e.c.TokenBytes * e.c.TokenBytes
	}
	return o, false
}

// Entered says which of a packet's bytes enter, counted from the first layer on, which is an Ethernet header of 14 bytes or the IP
// header: as many as the first header, then those from payload on.
func (e *Encoder) Entered(p *Packet) (header, payload int) {
	if e.plain {
		return len(p.IP), len(p.IP)
	}
	header, _ = e.shares(p)
	return header, e.link + p.header()
}

// Blank is the token of bytes that are 0, as those that a contract blanks are.
func (e *Encoder) Blank() int32 {
	var id [1]int32
	e.values(id[:], make([]byte, e.c.TokenBytes), int32(e.c.ValueOffset))
	return id[0]
}
