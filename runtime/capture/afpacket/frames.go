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
	at       int  // being read, or next to come
	held     bool // at is ours
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

func (q *frames) frame(i int) []byte {
	off := i/q.perBlock*q.opt.BlockSize + i%q.perBlock*q.size
	return (*q.mem)[off : off+q.size : off+q.size]
}

// status is the first word of a frame, which hands it over either way. It is loaded
// with acquire semantics: what the kernel wrote before it is visible.
func (q *frames) status(i int) *uint32 {
	return (*uint32)(unsafe.Pointer(&q.frame(i)[0]))
}

func (q *frames) next(s *slot) bool {
	if q.held {
		atomic.StoreUint32(q.status(q.at), unix.TP_STATUS_KERNEL)
		q.held = false
		if q.at++; q.at == q.n {
			q.at = 0
		}
	}
	status := atomic.LoadUint32(q.status(q.at))
	if status&unix.TP_STATUS_USER == 0 {
		return false
	}
	q.held = true
	// The kernel's offsets are within the frame; slicing checks it once more.
	b := q.frame(q.at)
	h := (*unix.Tpacket2Hdr)(unsafe.Pointer(&b[:unix.SizeofTpacket2Hdr][0]))
	*s = slot{
		data: b[h.Mac:][:h.Snaplen:h.Snaplen], head: b[h.Mac-vnetBytes : h.Mac], length: int(h.Len),
		status: status, sec: h.Sec, nsec: h.Nsec, lossy: status&unix.TP_STATUS_LOSING != 0,
		vlan: vlanOf(status, h.Vlan_tci),
	}
	return true
}

func (q *frames) crowded() bool {
	return atomic.LoadUint32(q.status((q.at+q.n/2)%q.n))&unix.TP_STATUS_USER != 0
}
