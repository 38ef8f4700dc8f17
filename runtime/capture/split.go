package capture

import "encoding/binary"

// Splitter undoes what a system merged before it captured it (GRO, LRO), or was yet
// to cut (segmentation offload): packets of one flow that followed each other, as one.
// What it yields is what was, or would have been, on the wire, but for
// the transport checksums, and for identifications where the sender does not count by one.
type Splitter struct {
	whole Frame
	pkt   Packet
	ip    int // where the IP header begins in whole.Data
	head  int // and the payload
	size  int // of a packet's payload
	total int // payload in all, on the wire
	at    int // payload yielded
	buf   []byte
}

// maxSegments bounds what one frame is split into: it is some 45 in practice, of
// the smallest packets a thousand.
const maxSegments = 2048

// Split begins with a frame whose parts had size bytes of payload each, and makes f
// the first. It reports false, and changes nothing, where the frame is not
// understood: in a tunnel, a fragment, neither TCP nor UDP.
func (s *Splitter) Split(f *Frame, size int) bool {
	p := &s.pkt
	if size <= 0 || Decode(f, p) != KindOK || p.Fragment || !p.Headed() {
		return false
	}
	s.ip = cap(f.Data) - cap(p.IP) // the packet reaches to where the frame does
	s.head = s.ip + int(p.Payload)
	s.total = p.Length - int(p.Payload)
	if !p.V6 && binary.BigEndian.Uint16(p.IP[2:]) == 0 {
		s.total = f.Length - s.head // too long for the field
	}
	if s.total > size*maxSegments || p.V6 && p.Length > 0xffff {
		return false
	}
	s.whole, s.size, s.at = *f, size, 0
	s.whole.Trust = TrustChecked // or the system would not have touched it
	return s.total <= size || s.Next(f)
}

// Next yields the next packet: false where there is none.
func (s *Splitter) Next(f *Frame) bool {
	if s.at >= s.total || s.total <= s.size {
		return false
	}
	n := min(s.size, s.total-s.at)
	first, last := s.at == 0, s.at+n == s.total
	data := s.whole.Data
	from := min(s.head+s.at, len(data))
	s.buf = append(s.buf[:0], data[:s.head]...)
	s.buf = append(s.buf, data[from:min(from+n, len(data))]...)

	be := binary.BigEndian
	ip, size := s.buf[s.ip:], s.head-s.ip+n
	if s.pkt.V6 {
		be.PutUint16(ip[4:], uint16(size-40))
	} else {
		be.PutUint16(ip[2:], uint16(size))
		be.PutUint16(ip[4:], be.Uint16(ip[4:])+uint16(s.at/s.size))
		be.PutUint16(ip[10:], 0)
		be.PutUint16(ip[10:], ^onesSum(ip[:int(ip[0]&15)*4], 0))
	}
	l4 := ip[s.pkt.L4:]
	if s.pkt.Proto == ProtoUDP {
		be.PutUint16(l4[4:], uint16(8+n))
	} else {
		const flagPSH, flagCWR = 1 << 3, 1 << 7
		be.PutUint32(l4[4:], be.Uint32(l4[4:])+uint32(s.at))
		if !first {
			l4[13] &^= flagCWR
		}
		if !last {
			l4[13] &^= FlagFIN | flagPSH
		}
	}
	s.at += n
	*f = s.whole
	f.Data, f.Length, f.Lossy = s.buf[:len(s.buf):len(s.buf)], s.head+n, s.whole.Lossy && first
	return true
}
