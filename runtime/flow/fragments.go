package flow

import (
	"encoding/binary"

	"github.com/dchest/siphash"

	"nepcoc/runtime/capture"
)

// Fragments finds the flows of fragments, which only the first of a datagram
// names by its ports, and gives the fragments of a datagram back in the order
// of their offsets, whatever order they came in: a flow's packets are then the
// same as if none had overtaken another. It stands before the shards, since a
// later fragment alone doesn't tell to which shard its flow went.
//
//   - A fragment that continues what has come so far goes on at once.
//   - One that overtook others is held until they have come. Where they don't,
//     it is given up: without a first fragment after fragLife it is ignored,
//     behind any other gap after gapLife it joins the flow as it is, since
//     captures lose packets, too (where datagrams are put together, those with a gap are
//     given up after fragLife, and their flow is marked).
//   - An exact duplicate of a fragment seen lately is ignored.
//
// Whatever is Put comes out of Next exactly once. Memory is of fixed size, made
// with the first fragment: of datagrams, the one of a bucket that was quiet for
// longest makes room, of fragments held, those that have waited longest.
type Fragments struct {
	// Whole puts the fragments of a datagram together: Next then gives back the
	// datagram with its last fragment, and the others as capture.IgnoredPart.
	Whole bool
	// Tunnels: with Whole, a datagram that is a tunnel's is opened.
	Tunnels bool
	// Seed is that of Front.
	Seed  Seed
	whole *assembler
	// secret of digests; their results don't depend on it.
	secret Seed

	table []datagram // fragSets buckets of fragWays
	slots []slot
	free  int32
	ready queue // slots on their way out
	waits [numWaits]queue
	held  int
	clock clock
	puts  uint64
}

const (
	fragSets = 512
	fragWays = 4
	// fragLife is how long a datagram's fragments may be apart, as in a host's
	// reassembly. IPv4 reuses its 16-bit ids soon: a first
	// fragment with other bytes begins another datagram.
	fragLife = 30e9
	// gapLife is long for packets that overtake each other, and short for a
	// flow whose packets should be looked at in time.
	gapLife = 100e6
	// fragSeen fragments make up a datagram of 64 KiB over the smallest IPv6 MTU.
	fragSeen = 64
	fragHeld = 256
)

// What a datagram that holds fragments waits for.
const (
	waitFirst = iota
	waitGap
	numWaits
	waitNone = numWaits
)

var waitLife = [numWaits]int64{waitFirst: fragLife, waitGap: gapLife}

// queue is a list by index, in datagrams or slots.
type queue struct{ head, tail int32 }

// datagram is what is known of one packet that came in fragments.
type datagram struct {
	src, dst         [16]byte
	id, tunnel       uint32
	proto            uint8 // of the fragment header: part of the identity
	v6, used         bool
	known            bool  // its first fragment has come: then
	transport        uint8 // what that showed
	srcPort, dstPort uint16

	began   int64  // clock of the first fragment, until that comes of whichever came before
	last    int64  // packet time of the fragment that joined last
	touched uint64 // number of its latest Put
	end     int    // up to here the bytes have come, without a gap
	seen    [fragSeen]sight
	seenN   int // sights ever; the newest ones are kept

	index      int32 // of itself
	held       int32 // slots, in order of offset
	wait       uint8
	since      int64 // clock when it began to wait
	prev, next int32 // in its queue
}

// sight remembers a fragment.
type sight struct {
	offset uint16
	sum    uint32
}

// slot holds one fragment.
type slot struct {
	pkt  capture.Packet
	buf  []byte
	kind capture.Kind
	next int32
}

// Held is the number of fragments that wait for others.
func (t *Fragments) Held() int { return t.held }

// Put takes a fragment, of which limit bytes are enough (addresses are kept in
// any case). What becomes of it and of others by it, Next tells; it must be
// asked before anything else is Put.
func (t *Fragments) Put(p *capture.Packet, limit int) {
	if t.table == nil {
		t.make()
	}
	t.Advance(p.Time)
	sum := digest(t.secret, p.IP[p.FragAt:])
	d := t.find(p)
	i := t.slot(p, limit)
	t.puts++
	d.touched = t.puts
	dup := d.has(p.FragOffset, sum)
	if !p.Later() && d.known && !dup {
		// Another datagram with the same id.
		t.giveUp(d, capture.IgnoredFragment)
		d.restart(t.clock.now)
	}
	switch {
	case dup:
		t.emit(i, capture.IgnoredDuplicateFragment)
		return
	case !p.Later():
		d.known, d.began = true, t.clock.now
		d.transport, d.srcPort, d.dstPort = p.Proto, p.SrcPort, p.DstPort
		t.join(d, i)
		t.joinHeld(d)
	case d.known && int(p.FragOffset) <= d.end:
		t.join(d, i)
		t.joinHeld(d)
	default:
		t.hold(d, i)
	}
	d.seen[d.seenN%fragSeen] = sight{p.FragOffset, sum}
	d.seenN++
	for t.held > fragHeld {
		t.evict()
	}
}

// Next gives back the next fragment that has waited for long enough: kind is
// KindOK where it has its flow, which p then is a packet of. p's bytes are valid
// until the next call.
func (t *Fragments) Next(p *capture.Packet) (kind capture.Kind, ok bool) {
	kind, ok = t.next(p)
	if ok && kind == capture.KindOK && t.Whole {
		if t.whole == nil {
			t.whole = new(assembler)
		}
		if kind = t.whole.add(p); t.Tunnels && !p.Fragment {
			if kind = p.OpenTunnels(kind); kind == capture.KindOK && p.Fragment {
				kind = capture.IgnoredFragment // in a fragment: once is enough
			}
		}
	}
	return kind, ok
}

func (t *Fragments) next(p *capture.Packet) (kind capture.Kind, ok bool) {
	if t.table == nil || t.ready.head == none {
		return 0, false
	}
	i := t.ready.head
	s := &t.slots[i]
	if t.ready.head = s.next; s.next == none {
		t.ready.tail = none
	}
	// It is in use again with the next Put, which comes after Next has said no.
	s.next, t.free = t.free, i
	*p = s.pkt
	return s.kind, true
}

// Advance tells the time, so that what has waited for too long is given up.
func (t *Fragments) Advance(now int64) {
	t.clock.advance(now)
	if t.held == 0 {
		return
	}
	for w := range t.waits {
		for i := t.waits[w].head; i != none && t.clock.now-t.table[i].since > t.life(w); i = t.waits[w].head {
			t.giveUp(&t.table[i], capture.IgnoredFragment)
		}
	}
}

// life is how long a datagram waits: where they are put together, as long as in a host, since nothing comes of the rest.
func (t *Fragments) life(wait int) int64 {
	if t.Whole {
		return fragLife
	}
	return waitLife[wait]
}

// Flush gives up everything that waits.
func (t *Fragments) Flush() {
	for w := range t.waits {
		for t.held > 0 && t.waits[w].head != none {
			t.giveUp(&t.table[t.waits[w].head], capture.IgnoredFragment)
		}
	}
}

func (t *Fragments) make() {
	t.clock.horizon = fragLife + 1
	t.secret = NewSeed()
	t.table = make([]datagram, fragSets*fragWays)
	for i := range t.table {
		t.table[i].index = int32(i)
	}
	t.slots = make([]slot, fragHeld+1) // and the one that has just come
	for i := range t.slots {
		t.slots[i].next = int32(i) - 1
	}
	t.free = int32(len(t.slots)) - 1
	t.ready = queue{none, none}
	for w := range t.waits {
		t.waits[w] = queue{none, none}
	}
}

// find gives a fragment's datagram, a new one where it has none yet.
func (t *Fragments) find(p *capture.Packet) *datagram {
	f := datagram{id: p.FragID, tunnel: p.Tunnel, proto: p.FragProto, v6: p.V6, used: true, held: none, wait: waitNone}
	copy(f.src[:], p.Src())
	copy(f.dst[:], p.Dst())
	at := f.hash(t.Seed) % fragSets * fragWays
	set := t.table[at : at+fragWays]
	oldest := &set[0]
	for i := range set {
		d := &set[i]
		if d.same(&f) {
			if t.clock.now-d.began > fragLife {
				t.giveUp(d, capture.IgnoredFragment)
				d.restart(t.clock.now)
				d.used = true
			}
			return d
		}
		if !d.used && oldest.used || d.used == oldest.used && d.touched < oldest.touched {
			oldest = d
		}
	}
	if oldest.used {
		t.giveUp(oldest, capture.IgnoredFragmentEvicted)
	}
	f.index, f.began = oldest.index, t.clock.now
	*oldest = f
	return oldest
}

// restart forgets everything but the identity.
func (d *datagram) restart(now int64) {
	d.known, d.began, d.end, d.seenN = false, now, 0, 0
}

// slot takes a copy of a fragment.
func (t *Fragments) slot(p *capture.Packet, limit int) int32 {
	i := t.free
	if i == none {
		panic("BUG: Fragments.Put before Next has given back everything")
	}
	s := &t.slots[i]
	t.free = s.next
	s.buf = append(s.buf[:0], p.IP[:min(len(p.IP), max(limit, 40))]...)
	s.pkt = *p
	s.pkt.IP = s.buf[:len(s.buf):len(s.buf)]
	return i
}

func (t *Fragments) emit(i int32, kind capture.Kind) {
	s := &t.slots[i]
	s.kind, s.next = kind, none
	if t.ready.tail != none {
		t.slots[t.ready.tail].next = i
	} else {
		t.ready.head = i
	}
	t.ready.tail = i
}

// join sends a fragment on to the flow.
func (t *Fragments) join(d *datagram, i int32) {
	p := &t.slots[i].pkt
	d.end = max(d.end, int(p.FragOffset)+p.Length-int(p.FragAt))
	d.last = p.Time
	p.Proto, p.SrcPort, p.DstPort = d.transport, d.srcPort, d.dstPort
	t.emit(i, capture.KindOK)
}

// joinHeld sends on what a datagram holds, up to the next gap.
func (t *Fragments) joinHeld(d *datagram) {
	for d.held != none && int(t.slots[d.held].pkt.FragOffset) <= d.end {
		t.joinFirst(d)
	}
	if d.held == none {
		t.stopWaiting(d)
	} else if d.wait != waitGap {
		t.waitFor(d, waitGap)
	}
}

// joinFirst sends the first fragment held on. It comes at the time of the one
// that it waited for: time does not go back within a flow.
func (t *Fragments) joinFirst(d *datagram) {
	i := t.pop(d)
	p := &t.slots[i].pkt
	p.Time = max(p.Time, d.last)
	t.join(d, i)
}

// pop takes the first fragment that a datagram holds.
func (t *Fragments) pop(d *datagram) int32 {
	i := d.held
	d.held = t.slots[i].next
	t.held--
	return i
}

// hold keeps a fragment in the order of offsets; of equal ones the later stays behind.
func (t *Fragments) hold(d *datagram, i int32) {
	s := &t.slots[i]
	at := &d.held
	for *at != none && t.slots[*at].pkt.FragOffset <= s.pkt.FragOffset {
		at = &t.slots[*at].next
	}
	s.next, *at = *at, i
	t.held++
	if d.wait == waitNone {
		if d.known {
			t.waitFor(d, waitGap)
		} else {
			t.waitFor(d, waitFirst)
		}
	}
}

// evict makes room: rather where nothing but the order is lost.
func (t *Fragments) evict() {
	i := t.waits[waitGap].head
	if i == none {
		i = t.waits[waitFirst].head
	}
	t.giveUp(&t.table[i], capture.IgnoredFragmentEvicted)
}

// giveUp ends a datagram's waiting: what it holds joins its flow, or is ignored
// and with it the datagram forgotten, where that is not known.
func (t *Fragments) giveUp(d *datagram, why capture.Kind) {
	for d.held != none {
		if d.known {
			t.joinFirst(d)
		} else {
			t.emit(t.pop(d), why)
		}
	}
	t.stopWaiting(d)
	d.used = d.known
}

// waitFor puts a datagram at the end of a queue.
func (t *Fragments) waitFor(d *datagram, w uint8) {
	t.stopWaiting(d)
	q := &t.waits[w]
	d.wait, d.since, d.prev, d.next = w, t.clock.now, q.tail, none
	if q.tail != none {
		t.table[q.tail].next = d.index
	} else {
		q.head = d.index
	}
	q.tail = d.index
}

func (t *Fragments) stopWaiting(d *datagram) {
	if d.wait == waitNone {
		return
	}
	q := &t.waits[d.wait]
	if d.prev != none {
		t.table[d.prev].next = d.next
	} else {
		q.head = d.next
	}
	if d.next != none {
		t.table[d.next].prev = d.prev
	} else {
		q.tail = d.prev
	}
	d.wait = waitNone
}

func (d *datagram) has(offset uint16, sum uint32) bool {
	for _, s := range d.seen[:min(d.seenN, fragSeen)] {
		if s == (sight{offset, sum}) {
			return true
		}
	}
	return false
}

func (d *datagram) same(o *datagram) bool {
	return d.used && d.id == o.id && d.tunnel == o.tunnel && d.src == o.src && d.dst == o.dst && d.proto == o.proto && d.v6 == o.v6
}

// hash finds a datagram's set; see Front.Seed.
func (d *datagram) hash(seed Seed) uint64 {
	var b [44]byte
	copy(b[:], d.src[:])
	copy(b[16:], d.dst[:])
	binary.LittleEndian.PutUint32(b[32:], d.id)
	binary.LittleEndian.PutUint32(b[36:], d.tunnel)
	b[40] = d.proto
	return siphash.Hash(seed.k0, seed.k1, b[:])
}

// digest tells duplicates from other fragments in the same place, of which there
// are two kinds: those of another datagram with the same id, and overlaps. The
// IP header is left out: on its way a duplicate may have lost hops. Without a secret, a sender could have
// another datagram taken for a duplicate.
func digest(secret Seed, b []byte) uint32 {
	h, k := uint64(len(b))^secret.k0, secret.k1|1
	for ; len(b) >= 8; b = b[8:] {
		h = mix(h^binary.LittleEndian.Uint64(b), k)
	}
	var tail [8]byte
	copy(tail[:], b)
	return uint32(mix(h^binary.LittleEndian.Uint64(tail[:]), k))
}
