package flow

import (
	"encoding/binary"
	"math"

	"nepcoc/runtime/capture"
	"nepcoc/runtime/traffic"
)

// sideOf is the side of a packet's sender: 0 where the packet goes in the
// direction of the canonical key.
func sideOf(swapped bool) int {
	if swapped {
		return 1
	}
	return 0
}

// Add joins a packet to its flow. Fragments come through Fragments.
//
// A TCP connection is followed as its hosts do (see conn): a SYN with another
// sequence number begins another flow where its receiver would take it for one. The direction is
// that of the SYN; without one, of the port that servers have.
func (t *Table) Add(p *capture.Packet) {
	t.clock.packet(p)
	t.expire(expirePerPacket)

	key := KeyOf(p)
	t.opt.Scope.widen(&key, p)
	swapped := key.turn()
	hash := uint32(key.Hash(t.seed))
	i := t.find(&key, hash)
	if i != none {
		switch {
		case t.clock.at-t.entries[i].seen > t.timeout[listDecided]:
			// Idle for long enough, only its timer has not been served yet.
			t.close(i, ReasonIdle)
			i = none
		default:
			t.timely(i)
		}
	}
	before := t.before
	t.before = displaced{}
	if t.hosts && p.Faults&capture.Dropped != 0 {
		t.refuse(i, &key, p.Faults)
		return
	}

	from := sideOf(swapped)
	tcp := hasSegment(p)
	what := segNew
	var seg segment
	if tcp {
		seg = segmentOf(p)
	}
	short := t.short(i, p, from)
	switch {
	case i == none:
	case t.far(i, p, &seg, from):
		what = segFar
	case tcp:
		if e := &t.entries[i]; e.list != listDecided || seg.flags&capture.FlagSYN != 0 {
			what = e.conn.judge(from, &seg, e.list == listDecided)
		}
	}
	if what == segAnswer {
		what = segNew
		if e := &t.entries[i]; e.list != listDecided {
			e.state, e.payload = t.enc.Begin(p.Proto), 0
			e.marks |= MarkOutside
		}
	}
	if what == segOther {
		before = t.displace(i, from)
		i = none
	}
	if i == none {
		c := conn{pending: before.pending, pendingSide: before.pendingSide}
		if what = segNew; tcp {
			what = c.judge(from, &seg, false)
			if t.hosts && what == segOutside {
				t.count.Frames[capture.RefusedSegment]++
				return
			}
		} else if short && t.dropFar {
			what = segFar
		}
		i = t.insert(&key, hash)
		e := &t.entries[i]
		e.swapped, e.guessed = direction(p, tcp, seg.flags, swapped)
		e.vlan, e.level, e.shims = p.VLAN, p.Level, p.Shims
		e.first, e.last, e.begun, e.seen, e.conn, e.loss, e.state = p.Time, p.Time, t.clock.at, t.clock.at, c, t.loss, t.enc.Begin(p.Proto)
		e.marks = t.rest(&key, tcp && seg.flags&(capture.FlagSYN|capture.FlagACK) == capture.FlagSYN)
		if before.reused {
			e.marks |= MarkReused
		}
		t.sources.begin(&key, swapped, t.clock.now)
		if t.opt.Begun != nil {
			e.tag = t.opt.Begun()
		}
	}

	t.count.Frames[capture.KindOK]++
	t.count.Bytes += uint64(p.Length)
	e := &t.entries[i]
	if e.guessed && tcp && what == segNew && seg.flags&capture.FlagSYN != 0 {
		t.turn(e, swapped != (seg.flags&capture.FlagACK != 0))
	}
	dir := sideOf(swapped != e.swapped)
	e.packets[dir]++
	e.bytes[dir] += uint64(p.Length)
	if e.list == listDecided {
		e.last, e.seen = p.Time, t.clock.at
		if tcp && seg.flags&(capture.FlagFIN|capture.FlagRST) != 0 {
			e.finished = true
		}
		t.count.AfterVerdict++
		// Most packets of a busy link are of such flows. Moving the flow to
		// the list's tail touches its neighbours, so it is done now and then
		// only; it may then leave the table up to a quarter of the timeout
		// late, which nobody sees: what separates flows is the gap, above.
		if t.clock.at-e.touched > t.timeout[listDecided]/4 || e.class != e.classNow() {
			t.move(i, listDecided)
		}
		return
	}
	e.apart = e.apart || p.Level != e.level || p.Shims != e.shims
	if t.opt.Joined != nil {
		t.opt.Joined(e.seq, e.packets[0]+e.packets[1] == 1, p)
	}
	e.largest = max(e.largest, uint16(min(p.Length, math.MaxUint16)))
	if !tcp && what == segNew && t.repeats(e, p) {
		what = segRepeat
	}
	e.mark(p, &seg, from, short, what == segNew)
	switch what {
	case segFar:
		t.count.FarTTL++
		return
	case segRepeat:
		t.count.Repeats++
		if e.repeats < math.MaxUint8 {
			e.repeats++
		}
	case segOutside:
		t.count.Outside++
		e.marks |= MarkOutside
		if t.hosts {
			return // nobody may keep a flow open with what its receiver drops
		}
	}
	e.last, e.seen = p.Time, t.clock.at
	t.take(i, p, &seg, from, dir, what)
}

// timely gives a flow its verdict where that is due, though its timer has not been served yet.
func (t *Table) timely(i int32) {
	switch e := &t.entries[i]; {
	case e.list == listClosing && t.clock.at-e.seen > t.timeout[listClosing]:
		t.decide(i, ReasonClosed)
	case e.list == listQuiet && t.clock.at-e.seen > t.timeout[listQuiet]:
		t.decide(i, ReasonQuiet)
	}
}

// displaced is what the flow that another connection displaces leaves to that.
type displaced struct {
	reused      bool   // it had neither ended nor a verdict
	pending     uint32 // see conn
	pendingSide uint8
}

// displace ends a flow in whose place a SYN of side from begins another.
func (t *Table) displace(i int32, from int) (d displaced) {
	e := &t.entries[i]
	if !e.conn.established() && e.conn.side[from].flags&sideSYN != 0 && e.list != listDecided {
		d.pending, d.pendingSide = e.conn.side[from].isn, uint8(from)+1
	}
	d.reused = e.list != listDecided && !e.conn.closed()
	t.close(i, ReasonReused)
	return d
}

// take adds a packet to an undecided flow's tokens, and decides it where it is
// ready.
func (t *Table) take(i int32, p *capture.Packet, seg *segment, from, dir int, what judgement) {
	e := &t.entries[i]
	var full, enough bool
	switch {
	case t.stream && (what == segNew || p.Proto == capture.ProtoTCP): // of TCP, what comes again shows whether it is the same
		full, enough = t.put(i, p, seg, from, dir)
	case t.stream:
	case t.skipEmpty && payloadSize(p, seg) == 0:
		t.count.Empty++
	case what == segNew || !t.hosts:
		t.append(i, p, seg, dir)
		full, enough = t.enc.TokensFull(e.state), t.enc.Full(e.state)
	}
	switch {
	case full:
		t.decide(i, ReasonTokens)
	case enough && t.stream:
		t.decide(i, ReasonEnough)
	case enough:
		t.decide(i, ReasonPackets)
	case t.opt.Active > 0 && t.clock.at-e.begun > int64(t.opt.Active):
		t.decide(i, ReasonActive)
	case e.list == listClosing || e.conn.closed():
		t.move(i, listClosing)
	case t.stream && t.enc.Spoken(e.state):
		t.move(i, listQuiet)
	default:
		t.move(i, listCollecting)
	}
}

// part is what of a packet its receiver takes, in the packets view: without payload that it has already, that comes with
// a SYN before the connection stands, or that is behind a datagram's end. The flow is marked, since
// the headers say otherwise, and nobody knows here whether what comes again is the same.
func (t *Table) part(e *entry, p *capture.Packet, seg *segment) []byte {
	to := len(p.IP)
	from := min(int(p.Payload), to)
	if p.Proto == capture.ProtoUDP {
		end := from + udpSize(p)
		if p.Length > end {
			e.marks |= MarkOptions
		}
		return p.IP[:min(to, end)]
	}
	switch {
	case seg.flags&capture.FlagSYN != 0 && seg.size > 0:
		e.marks |= MarkOutside
		return p.IP[:from]
	case seg.had > 0:
		e.marks |= MarkOverlap
		t.parts = append(append(t.parts[:0], p.IP[:from]...), p.IP[min(to, from+int(seg.had)):]...)
		return t.parts
	}
	return p.IP
}

// append adds a packet's bytes to a flow's.
func (t *Table) append(i int32, p *capture.Packet, seg *segment, dir int) {
	e := &t.entries[i]
	at := traffic.Packet{IP: p.IP, L4: p.L4, Payload: int(p.Payload), Proto: p.Proto, Side: uint8(dir)}
	switch {
	case p.Later():
		at.Payload = int(p.FragAt)
		at.Size = p.Length - at.Payload
	case t.sized && p.Headed():
		at.Size = payloadSize(p, seg)
	}
	if t.hosts {
		at.IP = t.part(e, p, seg)
	}
	if t.sized {
		t.more(&at, p, seg)
	}
	if t.timed {
		at.Time = t.clock.at
	}
	t.count.Taken++
	if t.opt.Took != nil {
		at.MAC = p.MAC
		had := 0
		if t.hosts && p.Proto == capture.ProtoTCP && seg.flags&capture.FlagSYN == 0 {
			had = len(p.IP) - len(at.IP)
		}
		t.opt.Took(Taken{e.seq, e.packets[0] + e.packets[1], at, int64(had)})
	}
	if len(p.IP) < p.Length && (len(p.IP) < t.enc.Reach(e.state, &at) || t.sized && at.L4 > 0 && !p.Headed()) {
		t.count.Cut++
		e.marks |= MarkCut
	}
	_, payload := t.enc.Append(&e.state, t.buf(i), &at)
	e.payload += uint32(payload)
}

// more tells what only contracts ask for whose tokens are more than a packet's first bytes.
func (t *Table) more(at *traffic.Packet, p *capture.Packet, seg *segment) {
	if at.MAC = p.MAC; t.ethernet && at.MAC == [12]byte{} {
		t.count.NoEthernet++
	}
	if t.hosts {
		had := int(seg.had)
		if seg.flags&capture.FlagSYN != 0 {
			had = at.Size
		}
		at.Size -= min(had, at.Size)
	}
}

// put adds a packet's payload to its side's stream.
func (t *Table) put(i int32, p *capture.Packet, seg *segment, from, dir int) (full, enough bool) {
	e := &t.entries[i]
	side := &e.conn.side[from]
	size, at := int64(0), int64(0)
	if p.Proto == capture.ProtoTCP {
		size, at = int64(seg.size), int64(int32(seg.seq-side.isn-1))
		if seg.flags&capture.FlagSYN != 0 {
			size = 0 // what comes with a SYN is not taken before the connection stands
		}
	} else {
		size = int64(udpSize(p))
		at = int64(side.next)
		side.next += uint32(size)
	}
	payload := p.IP[min(int(p.Payload), len(p.IP)):]
	payload = payload[:min(int64(len(payload)), size)]
	if size > 0 {
		t.count.Taken++
		if int64(len(payload)) < size && t.enc.WantsAt(dir, at+int64(len(payload))) {
			t.count.Cut++
			e.marks |= MarkCut
		}
	}
	if t.opt.Took != nil {
		packet := traffic.Packet{IP: p.IP, L4: p.L4, Payload: int(p.Payload), Proto: p.Proto, Side: uint8(dir), MAC: p.MAC, Size: int(size)}
		t.opt.Took(Taken{e.seq, e.packets[0] + e.packets[1], packet, at})
	}
	had := e.state.Have
	if t.enc.Put(&e.state, t.buf(i), dir, at, payload) {
		e.marks |= MarkOverlap
	}
	e.payload += uint32(e.state.Have[0]-had[0]) + uint32(e.state.Have[1]-had[1])
	return t.enc.StreamFull(e.state), int64(side.next-side.isn) > int64(t.enc.Contract().EnoughBytes)
}

// payloadSize is the size of a packet's payload on the wire.
func payloadSize(p *capture.Packet, s *segment) int {
	if p.Proto == capture.ProtoTCP {
		return int(s.size)
	}
	return udpSize(p)
}

// udpSize is the size of a datagram's payload: what is behind it is padding.
func udpSize(p *capture.Packet) int {
	n := 0
	if len(p.IP) >= p.L4+6 {
		n = int(binary.BigEndian.Uint16(p.IP[p.L4+4:]))
	}
	if n < 8 || n > p.Length-p.L4 {
		n = p.Length - p.L4
	}
	return n - 8
}

// refuse counts a packet that no host takes. A flow that it claims to be of is
// marked; it begins none.
func (t *Table) refuse(i int32, key *Key, f capture.Faults) {
	kind, mark := capture.RefusedLength, MarkRefused
	switch {
	case f&capture.FaultOverlap != 0:
		kind, mark = capture.RefusedOverlap, MarkOverlap
	case f&capture.FaultLost != 0:
		kind, mark = capture.RefusedLost, MarkLost
	case f&capture.FaultIPChecksum != 0:
		kind = capture.RefusedIPChecksum
	case f&capture.FaultOptions != 0:
		kind = capture.RefusedOptions
	case f&capture.FaultChecksum != 0:
		kind = capture.RefusedChecksum
	}
	t.count.Frames[kind]++
	switch {
	case i != none:
		t.entries[i].marks |= mark
	case f&(capture.FaultLost|capture.FaultOverlap) != 0:
		t.unseen.add(key, t.clock.now) // it may have been a flow's first
	}
}

// Lossy tells the table that packets were dropped before they came here: on, just
// before or among those that come now; not on, no more. Flows that are open meanwhile, and some that begin soon, may lack some.
func (t *Table) Lossy(on bool) {
	t.loss++
	t.losing, t.lossAt = on, t.clock.at
}

// afterLoss is how long after a loss a connection that begins with its SYN may lack others
// of its first packets. Of what begins without one, nobody knows whether it is the rest of a flow,
// as long as that may have been quiet: Idle.
const afterLoss = 1e9

// rest gives the marks of a flow that begins, where it may lack packets which were lost or
// went with an evicted flow.
func (t *Table) rest(key *Key, syn bool) (m Marks) {
	if t.losing {
		t.lossAt = t.clock.at
	}
	if after := t.clock.at - t.lossAt; t.loss > 0 && (after < afterLoss || !syn && after <= t.timeout[listCollecting]) {
		m = MarkOverload
	}
	if !syn && t.gone.has(key, t.clock.now) {
		m |= MarkEvicted
	}
	if t.unseen.has(key, t.clock.now) {
		m |= MarkLost
	}
	return m
}

// marks are what can be told of a flow only when it is decided.
func (t *Table) marks(i int32) (m Marks) {
	e := &t.entries[i]
	for from := range e.conn.side {
		s := &e.conn.side[from]
		peer := &e.conn.side[1-from]
		if s.flags&sideLost != 0 || s.ahead[0] != (span{}) || s.flags&sideKnown != 0 && peer.flags&sideAcks != 0 && before(s.next, peer.ack) || t.stream && t.enc.Gap(e.state, t.buf(i), sideOf((from == 1) != e.swapped)) {
			m |= MarkLost
		}
		if s.flags&(sideData|sideSYN) == sideData {
			m |= MarkLost // its beginning
		}
		if s.flags&sideOdd != 0 {
			m |= MarkOutside
		}
		if s.flags&(sideForm|sideSum) == sideForm|sideSum {
			m |= MarkRefused
		}
	}
	if c := &e.conn; (c.side[0].flags^c.side[1].flags)&sideSigned != 0 && c.side[0].flags&c.side[1].flags&sideSYN != 0 {
		m |= MarkOptions
	}
	if e.key.Proto == capture.ProtoTCP {
		if e.guessed {
			m |= MarkLost // its beginning
		}
		if e.packets[0] == 0 || e.packets[1] == 0 {
			m |= MarkOneSided
		}
	}
	if e.reason == ReasonEvicted {
		m |= MarkEvicted
	}
	if e.loss != t.loss {
		m |= MarkOverload
	}
	if e.payload == 0 {
		m |= MarkInsufficient
	}
	return m
}

// mark looks for what a sender can use to mislead. short is that of the packet; taken: its receiver takes it.
func (e *entry) mark(p *capture.Packet, s *segment, from int, short, taken bool) {
	ttl, side := hopLimit(p), &e.conn.side[from]
	if short || side.ttl > 0 && int(ttl) > int(side.ttl)+farTTL {
		e.marks |= MarkTTL
	}
	if taken {
		side.ttl = max(side.ttl, ttl)
	}
	if s.filled || p.Extended() {
		e.marks |= MarkOptions
	}
	if s.flags&flagURG != 0 && s.size > 0 {
		e.marks |= MarkUrgent
	}
	if p.Trust == capture.TrustForm && s.flags&capture.FlagRST == 0 {
		switch {
		case p.Faults&capture.FaultForm != 0:
			side.flags |= sideForm
		case p.Faults == 0:
			side.flags |= sideSum
		}
	}
}

// farTTL is how far apart the hop limits of one side may be: routes change, but
// not their lengths by much.
const farTTL = 5

// short tells whether a packet's hop limit is so small that it may not arrive where its flow's
// others do: far below theirs, or, of a datagram, which need not wait for any other, small in itself.
func (t *Table) short(i int32, p *capture.Packet, from int) bool {
	ttl := hopLimit(p)
	if i != none && int(ttl)+farTTL < int(t.entries[i].conn.side[from].ttl) {
		return true
	}
	return ttl <= farTTL && p.Proto == capture.ProtoUDP && routed(p)
}

// far tells whether a flow's packet doesn't count for its hop limit. A SYN may be another connection's, of another host behind
// the address.
func (t *Table) far(i int32, p *capture.Packet, s *segment, from int) bool {
	return t.dropFar && s.flags&(capture.FlagSYN|capture.FlagACK) != capture.FlagSYN && t.short(i, p, from)
}

func hopLimit(p *capture.Packet) uint8 {
	if p.V6 {
		return p.IP[7]
	}
	return p.IP[8]
}

// routed tells whether a packet is for one host, perhaps behind routers.
func routed(p *capture.Packet) bool {
	dst := p.Dst()
	if p.V6 {
		return dst[0] != 0xff && (dst[0] != 0xfe || dst[1]&0xc0 != 0x80)
	}
	return dst[0] < 224 && (dst[0] != 169 || dst[1] != 254)
}

// direction is a flow's direction by its first packet: swapped tells that of the
// packet. guessed: no SYN has told it.
func direction(p *capture.Packet, tcp bool, flags uint8, swapped bool) (flow, guessed bool) {
	switch {
	case !tcp:
		return swapped, false
	case flags&(capture.FlagSYN|capture.FlagACK) == capture.FlagSYN:
		return swapped, false
	case flags&capture.FlagSYN != 0:
		return !swapped, true // the server's; the client's may still come
	case serverPort(p.SrcPort) && !serverPort(p.DstPort):
		return !swapped, true
	}
	return swapped, true
}

// serverPort tells ports that servers listen at: below those that systems hand
// out to clients.
func serverPort(port uint16) bool { return port < 1024 }

// turn gives a flow the direction that a SYN shows.
func (t *Table) turn(e *entry, swapped bool) {
	if e.swapped != swapped && e.state == t.enc.Begin(e.key.Proto) {
		e.swapped = swapped
		e.packets[0], e.packets[1] = e.packets[1], e.packets[0]
		e.bytes[0], e.bytes[1] = e.bytes[1], e.bytes[0]
	}
	e.guessed = false
}

// repeats tells whether a datagram is one of the last that came, seen once more
// on its way: the same bytes but for hop limit and checksum, at nearly the same time.
func (t *Table) repeats(e *entry, p *capture.Packet) bool {
	d := packetDigest(t.secret, p, t.clock.at)
	for _, r := range e.recent {
		if r == d || r == d-1<<digestBits {
			return true
		}
	}
	copy(e.recent[1:], e.recent[:3])
	e.recent[0] = d
	return false
}

// A digest holds the time in its upper bits, in units of 2^25 ns (34 ms): copies of
// a packet come within one or two of them. The rest is a hash with a secret, or a sender could make datagrams that
// are taken for copies of others, and are not seen.
const (
	digestBits = 48
	digestTick = 25
)

func packetDigest(secret Seed, p *capture.Packet, now int64) uint64 {
	b := p.IP
	h, k := uint64(p.Length)^secret.k0, secret.k1|1
	skip := b[4:8] // IPv4: identification and fragment; TTL, protocol and checksum are left out
	if p.V6 {
		skip = b[:4]
	}
	h = mix(h^uint64(binary.BigEndian.Uint32(skip)), k)
	at := 12
	if p.V6 {
		at = 8
	}
	for b = b[at:]; len(b) >= 8; b = b[8:] {
		h = mix(h^binary.LittleEndian.Uint64(b), k)
	}
	var tail [8]byte
	copy(tail[:], b)
	h = mix(h^binary.LittleEndian.Uint64(tail[:]), k)
	return h&(1<<digestBits-1) | uint64(now>>digestTick)<<digestBits | 1
}
