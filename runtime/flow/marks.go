package flow

import "math/bits"

// Marks say what a verdict stands on, where that is less or other than what the
// hosts saw.
type Marks uint16

// The marks, in three groups: the flow is incomplete here, something in it is meant to
// mislead or broken (anomaly), or there is too little to judge by.
const (
	MarkLost     Marks = 1 << iota // bytes or the beginning are missing: not captured, or lost on the way to us
	MarkCut                        // the capture holds less of a packet than the contract takes
	MarkOneSided                   // a TCP connection of which one side only was seen
	MarkEvicted                    // it had to make room in the table
	MarkOverload                   // packets were dropped while it was open

	MarkRefused // packets that no host takes: wrong checksums, lengths, offsets
	MarkOutside // segments outside of the window, or impossible in the connection's state
	MarkOverlap // two versions of the same bytes; the first was taken
	MarkReused  // its 5-tuple was taken by another connection before this one had ended
	MarkTTL     // packets whose hop limit is far from the others'
	MarkOptions // TCP options that serve to fill the header, IP options, extension headers, bytes behind a datagram's end
	MarkUrgent  // urgent bytes, which applications don't read with the others

	MarkInsufficient // no payload at all, or less than a bundle asks for

	numMarks = iota
)

// The groups.
const (
	Incomplete = MarkLost | MarkCut | MarkOneSided | MarkEvicted | MarkOverload
	Anomaly    = MarkRefused | MarkOutside | MarkOverlap | MarkReused | MarkTTL | MarkOptions | MarkUrgent
)

var markNames = [numMarks]string{
	"lost", "cut", "one_sided", "evicted", "overload",
	"refused", "outside", "overlap", "reused", "ttl", "options", "urgent",
	"insufficient",
}

// Count is the number of marks that are set, Name the name of the i-th of them.
func (m Marks) Count() int { return bits.OnesCount16(uint16(m)) }

// Name is the name of the i-th mark that is set, in a fixed order.
func (m Marks) Name(i int) string {
	for ; i > 0; i-- {
		m &= m - 1
	}
	return markNames[bits.TrailingZeros16(uint16(m))]
}

// Names lists the names of the marks that are set.
func (m Marks) Names() (names []string) {
	for i := range m.Count() {
		names = append(names, m.Name(i))
	}
	return names
}
