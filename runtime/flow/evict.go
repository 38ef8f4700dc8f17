package flow

import "nepcoc/runtime/capture"

// Class is how much a flow has shown of being one: it decides who goes first when
// the table is full.
type Class uint8

// The classes.
const (
	ClassNew      Class = iota // one packet
	ClassOneSided              // several, but not both ways
	ClassBothWays              // both ways; of TCP three packets in all, as a handshake has
	NumClasses
)

var classNames = [NumClasses]string{"one_packet", "one_sided", "both_ways"}

func (c Class) String() string { return classNames[c] }

func (e *entry) classNow() Class {
	switch n := e.packets[0] + e.packets[1]; {
	case n <= 1:
		return ClassNew
	case e.packets[0] == 0 || e.packets[1] == 0 || n == 2 && e.key.Proto == capture.ProtoTCP:
		return ClassOneSided
	}
	return ClassBothWays
}

// share is the part of the table, one in so many, that each of the first two classes has for itself.
// Without it, who fills the table with flows of a higher class would leave new ones no
// time to become more than that.
const share = 4

// victim is the flow that makes room in a full table: of the first class that has more
// than its share, the last of which has what the others leave, the flow that was quiet for longest.
func (t *Table) victim() int32 {
	class := ClassNew
	for class < ClassBothWays && t.held[class] <= len(t.entries)/share {
		class++
	}
	best := none
	for range secondChances {
		best = none
		for l := range t.lists {
			if i := t.lists[l][class].head; i != none && (best == none || t.earlier(i, best)) {
				best = i
			}
		}
		e := &t.entries[best]
		if e.list != listDecided || e.seen-e.touched <= (t.clock.at-e.touched)/2 {
			break
		}
		t.move(best, listDecided) // it has spoken since: it is not moved for every packet
	}
	return best
}

// secondChances bounds the work for one victim.
const secondChances = 4

// evict takes a flow out of the table before its time. It gets its verdict now, marked; in an
// emergency one of a single packet gets none, where the caller allows that.
func (t *Table) evict(i int32) {
	e := &t.entries[i]
	class := e.class
	t.count.Evicted[class]++
	t.sources.evict(&e.key, e.swapped, t.clock.now)
	t.gone.add(&e.key, t.clock.now)
	if t.press.evicted(t.clock.now) {
		t.count.Emergencies++
		t.tell(true)
	}
	if t.press.recent > 0 {
		t.wake = min(t.wake, t.press.end)
	}
	if e.list != listDecided && e.classNow() == ClassNew && t.press.emergency && t.opt.Shed != nil {
		t.undec--
		t.count.Shed++
		e.reason = ReasonEvicted
		t.fill(e)
		t.opt.Shed(&t.out)
		e.tag = t.out.Tag
		t.remove(i, ReasonEvicted)
		return
	}
	t.close(i, ReasonEvicted)
}

// Emergency tells that flows have to go faster than the table is made for.
func (t *Table) Emergency() bool { return t.press.emergency }

func (t *Table) tell(on bool) {
	if t.opt.Emergency != nil {
		t.opt.Emergency(on)
	}
}

// relax looks whether an emergency is over; it is called when the clock has passed
// what the table waits for.
func (t *Table) relax() {
	if t.press.end == 0 {
		return
	}
	if t.press.relax(t.clock.now) {
		t.tell(false)
	}
	if t.press.end != 0 {
		t.wake = min(t.wake, t.press.end)
	}
}

// calm ends an emergency with the table's flows.
func (t *Table) calm() {
	if t.press.emergency {
		t.tell(false)
	}
	t.press = pressure{size: t.press.size}
}

// pressure is how fast flows have to make room, and whether that is an emergency: it
// begins when more than a 16th of the table goes within a second (of the table's clock), so that a new flow
// has some seconds for its second packet, and ends after 10 s in each of which less than a quarter of that went.
type pressure struct {
	size      int // of the table
	recent    int // flows evicted in this second
	end       int64
	quiet     int // seconds on end
	emergency bool
}

const (
	pressSecond = int64(1e9)
	pressTable  = 16
	pressEnd    = 64
	pressQuiet  = 10
)

// evicted counts a flow. It reports true where an emergency begins with it.
func (p *pressure) evicted(now int64) (begins bool) {
	if p.end == 0 || now > p.end && !p.emergency {
		p.end, p.recent = now+pressSecond, 0
	}
	p.recent++
	if p.emergency || p.recent <= p.size/pressTable {
		return false
	}
	p.emergency, p.quiet = true, 0
	return true
}

// relax ends the seconds that are over. It reports true where the emergency ends.
func (p *pressure) relax(now int64) (ends bool) {
	if now <= p.end {
		return false
	}
	if p.recent > p.size/pressEnd {
		p.quiet = 0
	} else {
		p.quiet++
	}
	p.quiet += int((now - p.end - 1) / pressSecond) // in these nothing happened at all
	p.recent, p.end = 0, now+pressSecond
	switch {
	case !p.emergency:
		p.end = 0
	case p.quiet >= pressQuiet:
		p.emergency, p.end = false, 0
		return true
	}
	return false
}

// gone remembers keys: of flows that were evicted, since what comes of them later is the rest of a
// flow, not one. It is two bit maps by hash, in turn for at least as long as a flow may be quiet:
// it forgets none of them, and takes others for them where there are many.
type gone struct {
	bits  [2][]uint64
	cur   int
	idle  int64
	since int64 // when cur was begun
	until int64 // nothing is remembered beyond
	mask  uint32
}

// hash has a fixed seed, so that marks don't differ from run to run. Who makes use of it gets
// marks, which he gets by more evicted flows as well.
func (g *gone) hash(key *Key) uint32 { return uint32(key.Hash(FixedSeed(0))) }

// goneBits is the size of each bit map, per flow of the table.
const goneBits = 16

func (g *gone) make(flows int, idle int64) {
	words := max(flows*goneBits/64, 1)
	for i := range g.bits {
		g.bits[i] = make([]uint64, words)
	}
	g.mask, g.idle, g.until = uint32(words*64-1), idle, -1
}

func (g *gone) turn(now int64) {
	if now-g.since <= g.idle {
		return
	}
	g.cur ^= 1
	clear(g.bits[g.cur])
	if now-g.since > 2*g.idle {
		clear(g.bits[g.cur^1])
	}
	g.since = now
}

func (g *gone) add(key *Key, now int64) {
	g.turn(now)
	g.until = now + g.idle
	hash := g.hash(key)
	g.bits[g.cur][(hash&g.mask)/64] |= 1 << (hash % 64)
}

// all takes every flow for one that was evicted.
func (g *gone) all(now int64) {
	g.turn(now)
	g.until = now + g.idle
	for i := range g.bits[g.cur] {
		g.bits[g.cur][i] = ^uint64(0)
	}
}

func (g *gone) has(key *Key, now int64) bool {
	if now > g.until {
		return false
	}
	g.turn(now)
	hash := g.hash(key)
	at := (hash & g.mask) / 64
	return (g.bits[0][at]|g.bits[1][at])>>(hash%64)&1 != 0
}

// Follow tells a table, which is new, that it takes flows in another's place: what
// begins in it may be the rest of a flow that the other lost packets of, has evicted, or (flushed) held
// until it was flushed.
func (t *Table) Follow(old *Table, flushed bool) {
	now := old.clock.now
	if old.losing || old.loss > 0 && now-old.lossAt <= old.timeout[listCollecting] {
		t.Lossy(false)
	}
	if flushed || now <= old.gone.until {
		t.gone.all(t.clock.now)
	}
}
