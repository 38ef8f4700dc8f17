package flow

import (
	"fmt"
	"math"
	"time"

	"nepcoc/runtime/capture"
	"nepcoc/runtime/traffic"
)

// Options of a Table.
type Options struct {
	// Encoder is the traffic contract that makes tokens and says when a flow
	// is ready.
	Encoder *traffic.Encoder
	// Capacity is the number of flows held at once, 1 to MaxCapacity; 0 means
	// DefaultCapacity. Memory is taken as flows come.
	Capacity int
	// Reserve takes the memory of all of them at once: no packet waits for it.
	Reserve bool
	// Active, where it is not 0, is an age beyond which a flow gets its verdict
	// with its next packet.
	Active time.Duration
	// Tunnels: NewInput's packets are those in tunnels (see capture.Tunnel), not the tunnels' own.
	Tunnels bool
	// Scope is what tells flows apart beside their 5-tuple and tunnel.
	Scope Scope
	// Told: packets come from several sources, of which one may be later than another by
	// any time. Then only Advance moves the timers, and tells the time that all have come to; packets
	// are as late as their own times say.
	Told bool
	// Begun, which may be nil, is called with a flow's first packet and gives
	// it the Tag that Ready will see.
	Begun func() uint32
	// Took, which may be nil, is called with each packet that a flow's tokens are made of, in that order. It is for those who
	// explain.
	Took func(Taken)
	// Joined, which may be nil, is called with each packet of a flow that has no verdict yet, whether its tokens are made of it or not;
	// first tells that it is the flow's first one.
	Joined func(seq uint64, first bool, p *capture.Packet)
	// Ready is called once per flow, when it is ready for its verdict.
	Ready func(*Flow)
	// Closed, which may be nil, is called when a flow leaves the table, always
	// after Ready or Shed, with all its packets counted.
	Closed func(*Flow)
	// Shed, where it is not nil, is called in an emergency in place of Ready, for flows of one packet that
	// have to make room: they get no verdict. Where it is nil every flow gets one. Only the
	// flow's key, tag, times and counts are set.
	Shed func(*Flow)
	// Emergency, which may be nil, is called when an emergency begins and when it ends.
	Emergency func(on bool)
}

// Taken is a packet that a flow's tokens are made of.
type Taken struct {
	Seq    uint64 // the flow's
	Number uint64 // of the packet among the flow's, from 1
	// Packet is what the encoder sees of it.
	Packet traffic.Packet
	// At is, in the stream view, where its payload lies in its side's stream; in the packets view how many bytes of its payload are
	// left out, since the receiver has them.
	At int64
}

// Bounds on Options.Capacity.
const (
	DefaultCapacity = 1 << 18
	firstPlaces     = 1 << 10 // of a table that grows
	MaxCapacity     = 1 << 26
)

// none ends a list of entries.
const none = int32(-1)

// The lists that every entry of the table is in exactly one of: by what it waits
// for, and by its class. In each, all entries wait for the same time from their last
// touch on, so the entry that is due first stands at the head, and expiry needs
// no heap and no wheel.
const (
	listCollecting = iota // undecided: due after Idle
	listQuiet             // undecided, both sides have spoken: due after Quiet
	listClosing           // undecided, FIN or RST seen: due after CloseLinger
	listDecided           // had its verdict: leaves after Idle
	numLists
)

// entry is one flow. It has no pointers, so the collector never walks the table.
type entry struct {
	key            Key // canonical
	list           uint8
	class          Class // as of when it was put there
	swapped        bool  // the flow's direction is against the canonical key's
	guessed        bool  // its direction is not known from a SYN
	finished       bool  // FIN or RST after the verdict
	reason         Reason
	marks          Marks
	hash           uint32
	tag            uint32
	vlan           [2]uint16 // of the first packet
	level, shims   uint8
	repeats        uint8  // packets that carried nothing new, up to 255
	apart          bool   // level or shims of another packet are others
	largest        uint16 // IP length of the largest packet
	state          traffic.State
	chain          int32 // next of the bucket, or of the free list
	prev, next     int32 // in its list
	touched        int64 // clock when it was put at its list's tail
	seen           int64 // clock of its latest packet
	begun          int64 // clock of its first packet
	first, last    int64 // packet time
	seq            uint64
	loss           uint32 // Table.loss when it began
	payload        uint32 // bytes of payload in the tokens
	packets, bytes [2]uint64
	conn           conn      // sides by the canonical key's direction
	recent         [4]uint64 // digests of UDP packets that came last
}

type list struct{ head, tail int32 }

// Table holds the flows of one shard.
type Table struct {
	opt     Options
	enc     *traffic.Encoder
	timeout [numLists]int64
	hosts   bool // packets that hosts don't take don't count
	stream  bool // tokens are made of streams, not of packets
	// Packets whose hop limit is small don't count, nor do those without payload.
	dropFar, skipEmpty bool
	ethernet, sized    bool // tokens hold link-layer addresses; they depend on the payload's size
	timed              bool // numbers beside the tokens depend on times
	clock              clock
	loss               uint32 // how often packets were lost on the way here
	lossAt             int64  // clock of the latest time
	losing             bool   // they still may be; see Lossy
	seed, secret       Seed   // of keys, and of digests of packets

	wake int64 // clock up to which nothing is due

	buckets []int32 // entry + 1, so that fresh memory is an empty table
	mask    uint32
	entries []entry
	bufs    []byte // bufSize bytes per entry
	bufSize int
	fresh   int   // entries from here on were never used
	free    int32 // list of entries used before
	lists   [numLists][NumClasses]list
	open    int             // entries in use
	held    [NumClasses]int // of them, by class
	undec   int             // of them, without a verdict
	press   pressure
	gone    gone      // flows that were evicted
	unseen  gone      // keys of datagrams in fragments that no flow got
	before  displaced // by the packet that Add gets next, in an older table; see Holds
	sources Sources

	count  Counters
	out    Flow
	tokens []int32
	parts  []byte // of a packet; see part
}

// New makes a table.
func New(opt Options) (*Table, error) {
	if opt.Capacity == 0 {
		opt.Capacity = DefaultCapacity
	}
	if opt.Capacity < 1 || opt.Capacity > MaxCapacity {
		return nil, fmt.Errorf("flow table of %d flows: capacity must be within 1..%d", opt.Capacity, MaxCapacity)
	}
	if opt.Encoder == nil || opt.Ready == nil {
		panic("BUG: flow.New needs an encoder and a Ready function")
	}
	c := opt.Encoder.Contract()
	t := &Table{opt: opt, enc: opt.Encoder, seed: NewSeed(), secret: NewSeed(), free: none, bufSize: opt.Encoder.BufferSize()}
	idle := c.Idle.Nanoseconds()
	t.hosts, t.stream = c.Accept == traffic.AcceptHosts, c.View == traffic.ViewStream
	t.dropFar, t.skipEmpty = c.FarTTL == traffic.FarTTLDrop, c.Empty == traffic.EmptySkip
	t.sized, t.timed = opt.Encoder.Sized(), opt.Encoder.Timed()
	t.ethernet = c.FirstLayer == traffic.LayerEthernet && !c.Blanks(traffic.BlankMAC)
	t.timeout = [numLists]int64{listCollecting: idle, listQuiet: c.Quiet.Nanoseconds(), listClosing: c.CloseLinger.Nanoseconds(), listDecided: idle}
	t.clock.horizon, t.clock.told = idle+1, opt.Told
	n := 1
	for n < opt.Capacity {
		n *= 2
	}
	t.buckets, t.mask = make([]int32, n), uint32(n-1)
	if opt.Reserve {
		t.room(opt.Capacity)
	} else {
		t.room(min(opt.Capacity, firstPlaces))
	}
	for l := range t.lists {
		for c := range t.lists[l] {
			t.lists[l][c] = list{none, none}
		}
	}
	t.wake = math.MaxInt64
	t.press.size = opt.Capacity
	t.gone.make(n, idle)
	t.unseen.make(min(n, 1<<12), idle)
	if opt.Told {
		t.gone.idle += late // the clock is behind packets
		t.unseen.idle += late
	}
	t.sources.seed = NewSeed()
	t.tokens = make([]int32, c.Length+c.NumberCount())
	return t, nil
}

// Counters is what the table has counted so far; Count adds a frame that is no
// flow's packet, so that all frames are accounted for in one place.
func (t *Table) Counters() *Counters     { return &t.count }
func (t *Table) Count(kind capture.Kind) { t.count.Frames[kind]++ }

// Open is the number of flows in the table, Undecided those without a verdict.
func (t *Table) Open() int      { return t.open }
func (t *Table) Undecided() int { return t.undec }

// expirePerPacket bounds the work per packet. It is more than the one flow that
// a packet can add, so the lists drain; what is due but not yet done is caught
// when its next packet comes.
const expirePerPacket = 4

// Advance tells the table the time without a packet, and does what is due, up
// to budget flows. It reports whether more is due.
func (t *Table) Advance(now int64, budget int) (more bool) {
	t.clock.advance(now)
	return t.expire(budget)
}

func (t *Table) due(i int32) bool {
	e := &t.entries[i]
	return t.clock.now-e.touched > t.timeout[e.list]
}

func (t *Table) expire(budget int) (more bool) {
	if t.clock.now <= t.wake {
		return false
	}
	t.wake = math.MaxInt64
	for l := range t.lists {
		i := t.oldest(l)
		for ; i != none && t.due(i); i = t.oldest(l) {
			if budget == 0 {
				t.wake = t.clock.now - 1
				return true
			}
			budget--
			switch e := &t.entries[i]; {
			case l == listClosing:
				t.decide(i, ReasonClosed)
			case l == listQuiet:
				t.decide(i, ReasonQuiet)
			case l == listDecided && t.clock.now-e.seen <= t.timeout[l]:
				t.move(i, listDecided) // it was not moved for every packet
			default:
				t.close(i, ReasonIdle)
			}
		}
		if i != none {
			t.wake = min(t.wake, t.entries[i].touched+t.timeout[l])
		}
	}
	t.relax()
	return false
}

// oldest is the entry of those that wait for the same which was touched first.
func (t *Table) oldest(l int) int32 {
	best := none
	for c := range t.lists[l] {
		if i := t.lists[l][c].head; i != none && (best == none || t.earlier(i, best)) {
			best = i
		}
	}
	return best
}

func (t *Table) earlier(i, j int32) bool {
	a, b := &t.entries[i], &t.entries[j]
	return a.touched < b.touched || a.touched == b.touched && a.seq < b.seq
}

// Holds tells whether a packet belongs to a flow in the table: whether Add
// would join it to one, or refuse it as one's, rather than begin another connection. Like Add it does what is due,
// so that a table which takes no new flows is empty soon after its last has
// ended. Where the packet begins another connection in a flow's place, that flow ends here, and next, whose Add is to
// get the packet, is told: its other packets are not this table's.
func (t *Table) Holds(p *capture.Packet, next *Table) bool {
	t.clock.packet(p)
	t.expire(expirePerPacket)
	key := KeyOf(p)
	t.opt.Scope.widen(&key, p)
	swapped := key.turn()
	i := t.find(&key, uint32(key.Hash(t.seed)))
	switch {
	case i == none:
		return false
	case t.clock.at-t.entries[i].seen > t.timeout[listDecided]:
		t.close(i, ReasonIdle)
		return false
	}
	if !hasSegment(p) || p.Flags&capture.FlagSYN == 0 || t.hosts && p.Faults&capture.Dropped != 0 {
		return true
	}
	from, s := sideOf(swapped), segmentOf(p)
	if t.far(i, p, &s, from) {
		return true
	}
	t.timely(i)
	e := &t.entries[i]
	c := e.conn // a copy: only Add follows it
	if c.judge(from, &s, e.list == listDecided) != segOther {
		return true
	}
	next.before = t.displace(i, from)
	return false
}

// Flush decides every flow and empties the table, in the order in which flows
// were last touched. The table can be used again.
func (t *Table) Flush() {
	for t.FlushSome(len(t.entries)) {
	}
}

// FlushSome does part of Flush: up to budget flows. It reports whether there
// are more.
func (t *Table) FlushSome(budget int) (more bool) {
	for l := range t.lists {
		for i := t.oldest(l); i != none; i = t.oldest(l) {
			if budget == 0 {
				return true
			}
			budget--
			t.close(i, ReasonEnd)
		}
	}
	t.calm()
	return false
}

// room makes places for n flows, those of before among them. Entries move: insert calls it, before anything points at one.
func (t *Table) room(n int) {
	t.entries = append(make([]entry, 0, n), t.entries...)[:n]
	t.bufs = append(make([]byte, 0, n*t.bufSize), t.bufs...)[:n*t.bufSize]
}

func (t *Table) buf(i int32) []byte {
	at := int(i) * t.bufSize
	return t.bufs[at : at+t.bufSize : at+t.bufSize]
}

func (t *Table) find(key *Key, hash uint32) int32 {
	for i := t.buckets[hash&t.mask] - 1; i != none; i = t.entries[i].chain {
		if e := &t.entries[i]; e.hash == hash && e.key == *key {
			return i
		}
	}
	return none
}

// insert begins a flow, where the table is full in the place of another: see victim.
func (t *Table) insert(key *Key, hash uint32) int32 {
	var i int32
	switch {
	case t.free != none:
		i = t.free
		t.free = t.entries[i].chain
	case t.fresh < t.opt.Capacity:
		if t.fresh == len(t.entries) {
			t.room(min(2*t.fresh, t.opt.Capacity))
		}
		i = int32(t.fresh)
		t.fresh++
	default:
		t.evict(t.victim())
		i = t.free
		t.free = t.entries[i].chain
	}
	bucket := &t.buckets[hash&t.mask]
	t.entries[i] = entry{key: *key, hash: hash, seq: t.count.Flows, chain: *bucket - 1, list: listCollecting}
	*bucket = i + 1
	t.link(i, listCollecting)
	t.count.Flows++
	t.open++
	t.undec++
	return i
}

// decide gives a flow to Ready; it stays in the table, so that its further
// packets are known to be its.
func (t *Table) decide(i int32, why Reason) {
	e := &t.entries[i]
	e.reason = why
	t.undec--
	t.count.Verdicts[why]++
	t.move(i, listDecided)
	t.fill(e)
	t.out.Marks = e.marks | t.marks(i)
	if e.key.Proto == capture.ProtoTCP {
		t.count.Connections++
		if t.out.Marks&MarkOneSided != 0 {
			t.count.OneSided++
		}
	}
	t.out.enc, t.out.state, t.out.buf = t.enc, e.state, t.buf(i)
	t.out.Tokens = t.tokens
	start := capture.Now() // one clock's reading, where time.Now takes two
	t.out.Valid = t.enc.Tokens(t.tokens, e.state, t.out.buf)
	if t.timed {
		c := t.enc.Contract()
		t.enc.Numbers(t.tokens[c.Length:], e.state, t.out.buf)
	}
	t.out.Built = time.Duration(capture.Now() - start)
	t.opt.Ready(&t.out)
	e.tag = t.out.Tag
}

// close removes a flow, after a verdict if it had none.
func (t *Table) close(i int32, why Reason) {
	if t.entries[i].list != listDecided {
		t.decide(i, why)
	}
	t.remove(i, why)
}

// remove takes a flow out of the table that has its verdict, or is to have none.
func (t *Table) remove(i int32, why Reason) {
	e := &t.entries[i]
	if t.opt.Closed != nil {
		t.fill(e)
		t.out.Tokens, t.out.Valid, t.out.Built = nil, 0, 0
		t.out.Ended, t.out.Finished = why, e.finished || e.conn.closed()
		if e.list != listDecided {
			t.out.Tag = 0 // no verdict: Ready has left none
		}
		t.opt.Closed(&t.out)
	}
	t.unlink(i)
	p := &t.buckets[e.hash&t.mask]
	if *p-1 == i {
		*p = e.chain + 1
	} else {
		j := *p - 1
		for t.entries[j].chain != i {
			j = t.entries[j].chain
		}
		t.entries[j].chain = e.chain
	}
	e.chain = t.free
	t.free = i
	t.open--
	t.count.Closed++
}

func (t *Table) fill(e *entry) {
	o := &t.out
	o.Key = e.key
	if e.swapped {
		o.Key = e.key.Reverse()
	}
	o.Seq, o.Tag, o.First, o.Last = e.seq, e.tag, e.first, e.last
	o.VLAN, o.Level, o.Shims, o.Apart = e.vlan, e.level, e.shims, e.apart
	o.Packets, o.Bytes, o.Reason, o.Payload = e.packets, e.bytes, e.reason, int(e.payload)
	o.Largest, o.Repeats = int(e.largest), int(e.repeats)
}

// move puts an entry at the tail of a list, touched now.
func (t *Table) move(i int32, l uint8) {
	e := &t.entries[i]
	class := e.classNow()
	if t.lists[l][class].tail == i {
		e.touched = t.clock.at
		t.wake = min(t.wake, e.touched+t.timeout[l])
		return
	}
	t.unlink(i)
	e.class = class
	t.link(i, l)
}

func (t *Table) link(i int32, l uint8) {
	e := &t.entries[i]
	ls := &t.lists[l][e.class]
	e.list, e.prev, e.next, e.touched = l, ls.tail, none, t.clock.at
	if ls.tail != none {
		t.entries[ls.tail].next = i
	} else {
		ls.head = i
		t.wake = min(t.wake, e.touched+t.timeout[l])
	}
	ls.tail = i
	t.held[e.class]++
}

func (t *Table) unlink(i int32) {
	e := &t.entries[i]
	ls := &t.lists[e.list][e.class]
	if e.prev != none {
		t.entries[e.prev].next = e.next
	} else {
		ls.head = e.next
	}
	if e.next != none {
		t.entries[e.next].prev = e.prev
	} else {
		ls.tail = e.prev
	}
	t.held[e.class]--
}
