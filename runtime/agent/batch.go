package agent

import (
	"nepcoc/runtime/capture"
	"nepcoc/runtime/traffic"
)

// A batch carries packets from a receive thread to a worker. Its memory is made
// once and goes round: queue, worker, free list, receive thread. Only the bytes
// that can enter a verdict are copied, so that a ring's block can be given back
// before the packet has been looked at.
type batch struct {
	n        int
	pkts     [batchPackets]capture.Packet // IP lies in data
	data     []byte
	limit    int   // bytes taken of each packet
	received int64 // when the first packet was taken from the source; see Agent.now
	clock    int64 // packet time that has been reached; 0 if not known
	lossy    bool  // packets were lost before it was begun
}

// A batch has room for this many packets: enough that a channel's cost per
// batch does not count, few enough for the caches.
const batchPackets = 128

// minBytes of a packet hold its addresses.
const minBytes = 40

// copyBytes is how much of a packet a contract wants.
func copyBytes(c traffic.Contract) int { return max(c.PacketBytes(), minBytes) }

// batchBytes is the size of a batch's data. Contracts that take very long
// packets get batches with room for fewer of them.
func batchBytes(limit int) int { return max(limit, min(batchPackets*limit, 64<<10)) }

// reset empties a batch, and makes its memory where that is missing or was made
// for a model that wanted less of each packet.
func (b *batch) reset(limit int) {
	if n := batchBytes(limit); cap(b.data) < n {
		b.data = make([]byte, 0, n)
	}
	b.n, b.data, b.limit, b.clock = 0, b.data[:0], limit, 0
}

// add copies a packet. It reports false if there is no room.
func (b *batch) add(p *capture.Packet) bool {
	size := min(b.limit, len(p.IP))
	if b.n == batchPackets || cap(b.data)-len(b.data) < size {
		return false
	}
	at := len(b.data)
	b.data = append(b.data, p.IP[:size]...)
	q := &b.pkts[b.n]
	*q = *p
	q.IP = b.data[at : at+size : at+size]
	b.n++
	return true
}
