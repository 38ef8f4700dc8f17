//go:build linux

package afpacket

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// frames is a ring of TPACKET_V2: places of one size, each handed over when a
// packet is in it. A packet that is larger is cut, and where the kernel was asked
// to, queued whole in the socket beside.
type frames struct {
	mem      *[]byte
	opt      Options
	size     int // of a frame
	perBlock int // frames don't go over a block's end
	n        int
	at       int // being read, or next to come
	// Where at lies in the ring, and which of its block it is: a division for each packet costs as much
	// as to look at it.
	offset, inBlock int
	held            bool // at is ours
	looked          byte // see lookAhead
}

// frameHeader is what stands before a packet in its frame, at most: tpacket2_hdr,
// sockaddr_ll, room for the alignment of the IP header, virtio_net_hdr.
const frameHeader = 96

func newFrames(mem *[]byte, o Options) *frames {
	const align = unix.TPACKET_ALIGNMENT
	size := min((frameHeader+o.SnapLen+align-1)/align*align, o.BlockSize)
	per := o.BlockSize / size
	return &frames{mem: mem, opt: o, size: size, perBlock: per, n: per * o.Blocks}
}

func (q *frames) version() int { return unix.TPACKET_V2 }

func (q *frames) request(fd int) error {
	return unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &unix.TpacketReq{
		Block_size: uint32(q.opt.BlockSize), Block_nr: uint32(q.opt.Blocks),
		Frame_size: uint32(q.size), Frame_nr: uint32(q.n),
	})
}

// status is the first word of the frame at an offset, which hands it over either way. It is loaded
// with acquire semantics: what the kernel wrote before it is visible.
func (q *frames) status(offset int) *uint32 {
	return (*uint32)(unsafe.Pointer(&(*q.mem)[offset]))
}

// lookAhead has the processor fetch the next frame, if there is one, while this one is worked on: frames
// lie too far apart for it to do so by itself, and their first lines are what a packet costs most.
func (q *frames) lookAhead() {
	next := q.offset + q.size
	if q.inBlock+1 < q.perBlock && atomic.LoadUint32(q.status(next))&unix.TP_STATUS_USER != 0 {
		q.looked += (*q.mem)[next+64] + (*q.mem)[next+128]
	}
}

// advance goes on to the next frame.
func (q *frames) advance() {
	q.at++
	q.inBlock++
	q.offset += q.size
	if q.inBlock == q.perBlock {
		q.inBlock = 0
		q.offset = q.at / q.perBlock * q.opt.BlockSize
	}
	if q.at == q.n {
		q.at, q.offset = 0, 0
	}
}

func (q *frames) next(s *slot) bool {
	if q.held {
		atomic.StoreUint32(q.status(q.offset), unix.TP_STATUS_KERNEL)
		q.held = false
		q.advance()
	}
	status := atomic.LoadUint32(q.status(q.offset))
	if status&unix.TP_STATUS_USER == 0 {
		return false
	}
	q.held = true
	q.lookAhead()
	// The kernel's offsets are within the frame; slicing checks it once more.
	b := (*q.mem)[q.offset : q.offset+q.size : q.offset+q.size]
	h := (*unix.Tpacket2Hdr)(unsafe.Pointer(&b[:unix.SizeofTpacket2Hdr][0]))
	*s = slot{
		data: b[h.Mac:][:h.Snaplen:h.Snaplen], head: b[h.Mac-vnetBytes : h.Mac], length: int(h.Len),
		status: status, sec: h.Sec, nsec: h.Nsec, lossy: status&unix.TP_STATUS_LOSING != 0,
		vlan: vlanOf(status, h.Vlan_tci),
	}
	return true
}

func (q *frames) crowded() bool {
	ahead := (q.at + q.n/2) % q.n
	return atomic.LoadUint32(q.status(ahead/q.perBlock*q.opt.BlockSize+ahead%q.perBlock*q.size))&unix.TP_STATUS_USER != 0
}
