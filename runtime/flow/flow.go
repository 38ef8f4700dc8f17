package flow

import (
	"time"

	"nepcoc/runtime/traffic"
)

// Reason is why a flow got its verdict when it did.
type Reason uint8

// The reasons.
const (
	ReasonTokens  Reason = iota // the token sequence is full
	ReasonPackets               // the contract's packet budget was reached
	ReasonClosed                // FIN or RST, and quiet since
	ReasonIdle                  // quiet for the idle timeout
	ReasonEvicted               // the table was full
	ReasonEnd                   // end of input, or shutdown
	ReasonActive                // older than the active timeout
	ReasonQuiet                 // quiet since both sides have spoken
	ReasonEnough                // one side has sent so much that the other's bytes are not waited for
	ReasonReused                // another connection took its 5-tuple
	NumReasons
)

var reasonNames = [NumReasons]string{"tokens", "packets", "closed", "idle", "evicted", "end", "active", "quiet", "enough", "reused"}

func (r Reason) String() string { return reasonNames[r] }

// Flow is what a Table says of a flow, to Options.Ready when it is ready for
// its verdict and to Options.Closed when it leaves the table. It is reused: the
// callee copies what it keeps.
type Flow struct {
	// Key has the direction from the client to the server: who sent the SYN, or,
	// where that was not seen, what is most likely; see Table.Add.
	Key Key
	// VLAN, Level and Shims are those of the first packet: ids of its VLAN tags, 0 for none, the
	// number of tunnels that it was in, and that of other headers in front of IP (see capture.Packet).
	VLAN         [2]uint16
	Level, Shims uint8
	// Apart: before the verdict a packet came in other tunnels or behind other headers than the first, as one way of a connection may, and as anybody's can who
	// sends a tunnel's packets.
	Apart bool
	// Seq numbers the table's flows in the order of their first packets.
	Seq uint64
	// Tag is what Options.Begun gave the flow. Ready may leave another one, which Closed sees; of a flow without a verdict that sees 0.
	Tag uint32
	// First and Last are the times of the first and of the latest packet, in
	// nanoseconds since 1970. Last may be before First where time went back.
	First, Last int64
	// Packets and Bytes (IP bytes) so far: [0] in the direction of Key, [1]
	// against it. To Ready they count up to the verdict, to Closed all.
	Packets, Bytes [2]uint64
	Reason         Reason
	// Ended is why the flow left the table, and Finished that its TCP connection was ended by
	// FIN or RST; for Closed.
	Ended    Reason
	Finished bool
	// Largest is the IP length of its largest packet, in bytes, and Repeats how many packets carried nothing new, 255
	// where there were more; both up to the verdict.
	Largest, Repeats int
	// Marks say what the verdict stands on; Payload is how many bytes of payload the
	// tokens hold. Both are for Ready.
	Marks   Marks
	Payload int

	// Built is how long it took to make the tokens; 0 to Closed.
	Built time.Duration
	// Tokens is the sequence of the contract's length, behind it the numbers that stand beside it, and Valid how many of
	// the sequence are before the padding; nil and 0 to Closed.
	Tokens []int32
	Valid  int

	enc   *traffic.Encoder
	state traffic.State
	buf   []byte
}

// Origin maps a position of Tokens to the packet bytes it was made of; only
// within Ready.
func (f *Flow) Origin(pos int) (traffic.Origin, bool) {
	return f.enc.Origin(f.state, f.buf, pos)
}

// BytesUsed is how many bytes of the flow's packets its tokens hold, UsedPackets
// how many packets they came from; only within Ready.
func (f *Flow) BytesUsed() int   { return f.enc.Used(f.state, f.buf) }
func (f *Flow) UsedPackets() int { return int(f.state.Packets) }
