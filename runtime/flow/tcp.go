package flow

import (
	"encoding/binary"

	"nepcoc/runtime/capture"
)

// What follows a TCP connection as its two hosts do, as far as one who only
// listens can: which segments the receiver takes (RFC 9293, 3.10.7; RFC 5961), which of
// them carry something new, and which SYN begins another connection.
//
// Where packets are missing from what we see, the hosts know better: an
// acknowledgement says what its sender has, and what is behind a gap that it covers is
// taken. What can't be known (the window before its scale was seen, a side
// that never spoke) is taken to allow.

// side is what is known of one end of a connection.
type side struct {
	isn   uint32 // sequence number of its SYN
	next  uint32 // behind the last byte that its peer has in order
	ack   uint32 // highest acknowledgement that it sent
	edge  uint32 // the right edge of the window that it offered
	stamp uint32 // the highest timestamp of what came in order
	flags uint16
	shift uint8 // its window scale
	ttl   uint8 // highest hop limit of what was taken
	// ahead are ranges behind a gap, in order; all zero: none.
	ahead [2]span
}

type span struct{ from, to uint32 }

// Flags of a side.
const (
	sideSYN     = 1 << iota // its SYN has been seen: isn and shift are known
	sideKnown               // next is known
	sideAcks                // it has acknowledged something: ack and edge are known
	sideFIN                 // its FIN has been taken
	sideRST                 // its RST has been taken
	sideData                // it has sent payload
	sideLost                // bytes of it were acknowledged that have not been seen
	sideStamped             // its SYN had a timestamp
	sideSigned              // its SYN had a signature
	sideOdd                 // it has sent what some hosts take and others don't
	sideForm                // it has sent checksums of the form that network cards leave,
	sideSum                 // and ones that are right
)

// conn is a TCP connection; the zero value has not begun.
type conn struct {
	side [2]side
	// pending is the sequence number of a SYN that was not taken, of side
	// pendingSide: an answer to it shows that its receiver has forgotten the connection; or of one
	// before that which the connection began with: an answer shows that it was that one.
	pending     uint32
	pendingSide uint8 // side + 1, 0: none
}

// judgement is what becomes of a segment.
type judgement uint8

const (
	segNew     judgement = iota // the receiver takes it, and it carries something new
	segRepeat                   // it carries nothing new: a retransmission, a keep-alive, a repeated acknowledgement
	segOutside                  // outside of the window, or impossible in this state: the receiver drops it
	segOther                    // it belongs to a connection that begins with it
	segAnswer                   // the answer to a SYN, before which its receiver took nothing that has come
	segFar                      // its hop limit says that it may not arrive; see Table.short
)

// segment is a TCP header as far as it is needed.
type segment struct {
	seq, ack uint32
	window   uint32
	flags    uint8
	size     uint32 // payload bytes on the wire
	stamp    uint32 // timestamp, where it is stamped
	had      uint32 // of its payload, so much had come before; set by judge
	shift    uint8  // window scale of a SYN, noScale: none
	filled   bool   // its options serve to fill the header
	stamped  bool   // it has a timestamp (RFC 7323)
	signed   bool   // it has a signature (RFC 2385, 5925)
	cut      bool   // its options were not captured whole
}

const noScale = 0xff

const flagURG = 1 << 5

// segmentBytes of a TCP header are enough to follow a connection: up to the flags.
const segmentBytes = 14

// hasSegment tells that segmentOf can read a packet.
func hasSegment(p *capture.Packet) bool {
	return p.Proto == capture.ProtoTCP && p.L4 != 0 && len(p.IP) >= p.L4+segmentBytes
}

// segmentOf reads a TCP packet's header. The payload's size is that of the
// packet, also where the capture cut it; a window that it cut is taken to be wide.
func segmentOf(p *capture.Packet) (s segment) {
	b := p.IP[p.L4:]
	s.seq, s.ack = binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint32(b[8:])
	s.window, s.flags, s.shift = 0xffff, b[13], noScale
	head := int(p.Payload) - p.L4
	if n := int(b[12]>>4) * 4; len(b) < 20 || n > len(b) && n <= p.Length-p.L4 { // the capture ends within the header
		head = n
	}
	if len(b) >= 20 {
		s.window = uint32(binary.BigEndian.Uint16(b[14:]))
	}
	s.size = uint32(max(0, p.Length-p.L4-head))
	s.cut = head > len(b)
	if head > 20 && len(b) > 20 {
		s.options(b[20:min(head, len(b))])
	}
	return s
}

// options looks for window scale, timestamp and signature, and for what only serves to fill the
// header: systems pad with three NOPs at most, and use the options of
// the registry's first 34 kinds.
func (s *segment) options(b []byte) {
	nops := 0
	for len(b) > 0 {
		kind := b[0]
		if kind == 1 {
			if nops++; nops > 3 {
				s.filled = true
			}
			b = b[1:]
			continue
		}
		nops = 0
		switch {
		case kind == 0:
			s.filled = s.filled || len(b) > 4
			return
		case len(b) < 2 || b[1] < 2 || int(b[1]) > len(b):
			return
		case kind == 3 && b[1] == 3:
			s.shift = min(b[2], 14)
		case kind == 8 && b[1] == 10:
			s.stamped, s.stamp = true, binary.BigEndian.Uint32(b[2:])
		case kind == 19 || kind == 29:
			s.signed = true
		case kind > 34:
			s.filled = true
		}
		b = b[b[1]:]
	}
}

// before tells whether a comes before b on the circle of sequence numbers.
func before(a, b uint32) bool { return int32(a-b) < 0 }

// established tells that both hosts have agreed on the connection, as far as
// that can be seen.
func (c *conn) established() bool {
	return c.side[0].flags&sideKnown != 0 && c.side[1].flags&sideKnown != 0
}

// closed tells that a FIN or RST was taken.
func (c *conn) closed() bool { return (c.side[0].flags|c.side[1].flags)&(sideFIN|sideRST) != 0 }

// judge decides on a segment of side dir and, where it is taken, follows it.
// decided says that the flow has had its verdict.
func (c *conn) judge(dir int, s *segment, decided bool) judgement {
	me, peer := &c.side[dir], &c.side[1-dir]
	switch {
	case s.flags&capture.FlagSYN != 0 && s.flags&capture.FlagRST != 0:
		return segOutside
	case s.flags&capture.FlagSYN == 0 && s.signed && !(me.takesSigned() && peer.takesSigned()):
		return segOutside
	case s.flags&(capture.FlagSYN|capture.FlagACK) == capture.FlagSYN:
		return c.judgeSYN(dir, s, decided)
	case s.flags&capture.FlagSYN != 0:
		return c.judgeSYNACK(dir, s)
	case s.flags&capture.FlagRST != 0:
		return c.judgeRST(me, peer, s)
	case s.flags&capture.FlagACK == 0:
		return segOutside // no host takes a segment without it
	}
	return c.judgeData(me, peer, s)
}

func (c *conn) judgeSYN(dir int, s *segment, decided bool) judgement {
	me, peer := &c.side[dir], &c.side[1-dir]
	switch {
	case me.flags&sideSYN != 0 && s.seq == me.isn:
		me.agree(s)
		return segRepeat
	case me.flags&sideSYN == 0 && peer.flags&sideSYN != 0 && peer.flags&sideAcks != 0 && peer.ack == s.seq+1:
		// It was overtaken by its answer.
		me.begin(s)
		return segNew
	case me.flags&(sideSYN|sideKnown) == 0 && !c.closed() && !decided:
		// The first of its side; of both, where they open at the same time.
		if peer.flags&sideKnown != 0 && peer.flags&sideSYN == 0 {
			return segOther // what came before was no connection's, or another's
		}
		me.begin(s)
		return segNew
	case decided || c.closed() || !c.established():
		return segOther
	}
	// In the middle of a connection: its receiver answers that it knows better
	// (RFC 5961, 4). Should it have forgotten, it will acknowledge this one.
	c.pending, c.pendingSide = s.seq, uint8(dir)+1
	return segOutside
}

func (c *conn) judgeSYNACK(dir int, s *segment) judgement {
	me, peer := &c.side[dir], &c.side[1-dir]
	if int(c.pendingSide) == 2-dir && s.ack == c.pending+1 {
		if c.established() {
			return segOther
		}
		peer.isn, peer.next = c.pending, s.ack // of two SYNs, it was the first that came
		c.pendingSide = 0
	}
	switch {
	case me.flags&sideSYN != 0 && s.seq == me.isn:
		if me.flags&sideAcks == 0 { // the second half of a simultaneous opening
			me.accept(peer, s)
			return segNew
		}
		return segRepeat
	case peer.flags&sideSYN != 0 && s.ack != peer.isn+1, me.flags&(sideSYN|sideKnown) != 0:
		return segOutside
	}
	if peer.flags&(sideSYN|sideAcks) == sideSYN|sideAcks && peer.ack-s.seq-1 > overtaken {
		// What its peer has sent since its SYN acknowledges something else: it could not know this number.
		*peer = side{isn: peer.isn, next: peer.isn + 1, stamp: peer.stamp, shift: peer.shift, ttl: peer.ttl, flags: peer.flags & (sideSYN | sideKnown | sideStamped | sideSigned)}
		me.begin(s)
		me.accept(peer, s)
		return segAnswer
	}
	me.begin(s)
	if peer.flags&sideKnown == 0 {
		peer.isn, peer.next = s.ack-1, s.ack
		peer.flags |= sideKnown
	}
	me.accept(peer, s)
	return segNew
}

// overtaken is how many bytes may have been acknowledged before their side's SYN is seen, where that was
// overtaken on its way here.
const overtaken = 1 << 20

func (c *conn) judgeRST(me, peer *side, s *segment) judgement {
	switch {
	case me.flags&sideKnown != 0 && s.seq != me.next:
		return segOutside // where bytes are on their way, its receiver asks again (RFC 5961, 3)
	case me.flags&sideKnown == 0 && peer.flags&sideSYN != 0 && (s.flags&capture.FlagACK == 0 || s.ack != peer.isn+1):
		return segOutside // it must refuse this very SYN
	case me.flags&sideRST != 0:
		return segRepeat
	}
	me.flags |= sideRST
	return segNew
}

func (c *conn) judgeData(me, peer *side, s *segment) judgement {
	size := s.size
	if s.flags&capture.FlagFIN != 0 {
		size++
	}
	switch {
	case me.flags&sideKnown != 0:
		if peer.flags&sideAcks != 0 && before(me.next, peer.ack) && !before(peer.edge, peer.ack) && peer.ack-me.next <= peer.edge-me.next {
			// Its peer has what we have not seen.
			me.flags |= sideLost
			me.advance(peer.ack)
		}
	case peer.flags&(sideSYN|sideAcks) == sideSYN:
		// Who has sent a SYN and acknowledged nothing takes nothing but its answer: this is of a
		// connection that it has forgotten, which it will reset.
		return segOutside
	default:
		// From the middle: its stream begins here.
		me.isn, me.next = s.seq-1, s.seq
		me.flags |= sideKnown
	}
	switch {
	case peer.flags&sideKnown != 0 && before(peer.next+maxWindow, s.ack):
		return segOutside // acknowledges what can't have been sent
	case peer.flags&sideSYN != 0 && before(s.ack, peer.isn+1):
		return segOutside // or what was before the connection (RFC 5961, 5)
	}
	if stamped := me.flags&peer.flags&sideStamped != 0; stamped && size > 0 {
		switch {
		case s.stamped && before(s.stamp, me.stamp):
			return segOutside // from before (RFC 7323, 5.3)
		case !s.stamped && !s.cut:
			me.flags |= sideOdd // RFC 7323, 3.2 has it dropped, and not every system does
		}
	}
	if s.stamped && size == 0 && !before(me.next, s.seq) && before(me.stamp, s.stamp) {
		me.stamp = s.stamp
	}
	fresh := me.flags&sideAcks == 0 || before(me.ack, s.ack) || me.edge != me.edgeOf(peer, s)
	end := s.seq + size
	switch {
	case size == 0 && before(s.seq, me.next):
		return segRepeat // a keep-alive, or from before
	case size > 0 && !before(me.next, end):
		me.accept(peer, s)
		return segRepeat
	case peer.flags&sideAcks != 0 && before(peer.edge+1, s.seq+min(size, 1)):
		return segOutside
	case size == 0 && !fresh:
		return segRepeat
	case me.flags&sideFIN != 0 && size > 0 && before(me.next, end):
		return segOutside // behind its end
	}
	me.accept(peer, s)
	if size == 0 {
		return segNew
	}
	if s.size > 0 {
		me.flags |= sideData
	}
	if !before(me.next, s.seq) {
		s.had = min(me.next-s.seq, s.size)
		if s.stamped && before(me.stamp, s.stamp) {
			me.stamp = s.stamp
		}
		me.advance(end)
		if s.flags&capture.FlagFIN != 0 && me.next == end {
			me.flags |= sideFIN
		}
		return segNew
	}
	if me.behind(s.seq, end) {
		return segRepeat
	}
	if s.flags&capture.FlagFIN != 0 {
		me.flags |= sideFIN // early, but in the window
	}
	return segNew
}

// maxWindow is the largest window, RFC 7323.
const maxWindow = 1 << 30

// begin takes a side's SYN.
func (m *side) begin(s *segment) {
	m.isn, m.next, m.shift = s.seq, s.seq+1, s.shift
	m.flags |= sideSYN | sideKnown
	m.ahead = [2]span{}
	m.agree(s)
}

// agree takes what a SYN offers; where it is sent again, that may be less.
func (m *side) agree(s *segment) {
	m.flags &^= sideStamped | sideSigned
	if s.stamped {
		m.flags |= sideStamped
		m.stamp = s.stamp
	}
	if s.signed {
		m.flags |= sideSigned
	}
}

// takesSigned tells that a side may have agreed on signatures. Without that, systems drop what is signed.
func (m *side) takesSigned() bool { return m.flags&sideSYN == 0 || m.flags&sideSigned != 0 }

// scale is the shift of the windows that m offers: both sides must have
// offered one. Unknown, it is the largest.
func (m *side) scale(peer *side) uint {
	switch {
	case m.flags&peer.flags&sideSYN == 0:
		return 14
	case m.shift == noScale || peer.shift == noScale:
		return 0
	}
	return uint(m.shift)
}

// edgeOf is the right edge of the window that a segment of m offers. SYNs offer
// unscaled windows.
func (m *side) edgeOf(peer *side, s *segment) uint32 {
	if s.flags&capture.FlagSYN != 0 {
		return s.ack + s.window
	}
	return s.ack + s.window<<m.scale(peer)
}

// accept takes what a segment acknowledges and offers.
func (m *side) accept(peer *side, s *segment) {
	if s.flags&capture.FlagACK == 0 {
		return
	}
	edge := m.edgeOf(peer, s)
	if m.flags&sideAcks == 0 || before(m.ack, s.ack) {
		m.ack = s.ack
	}
	if m.flags&sideAcks == 0 || before(m.edge, edge) {
		m.edge = edge
	}
	m.flags |= sideAcks
}

// advance moves next to at, and on over what has come ahead of it.
func (m *side) advance(at uint32) {
	if before(m.next, at) {
		m.next = at
	}
	for m.ahead[0] != (span{}) && !before(m.next, m.ahead[0].from) {
		if before(m.next, m.ahead[0].to) {
			m.next = m.ahead[0].to
		}
		m.ahead = [2]span{m.ahead[1]}
	}
}

// behind notes what has come behind a gap. It reports true where that had come
// before.
func (m *side) behind(from, to uint32) (repeat bool) {
	for i := range m.ahead {
		a := &m.ahead[i]
		switch {
		case *a == (span{}):
			*a = span{from, to}
			return false
		case !before(from, a.from) && !before(a.to, to):
			return true
		case !before(a.to, from) && !before(to, a.from):
			// They touch: one.
			if before(from, a.from) {
				a.from = from
			}
			if before(a.to, to) {
				a.to = to
			}
			if i == 0 && m.ahead[1] != (span{}) && !before(a.to, m.ahead[1].from) {
				if before(a.to, m.ahead[1].to) {
					a.to = m.ahead[1].to
				}
				m.ahead[1] = span{}
			}
			return false
		case before(to, a.from) && i == 0:
			m.ahead = [2]span{{from, to}, *a}
			return false
		}
	}
	return false // more gaps than we keep: taken, should it come again, too
}
