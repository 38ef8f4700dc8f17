//go:build linux

package afpacket

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// blocks is a ring of TPACKET_V3: packets of any size lie one behind another in
// a block, which the kernel hands over when it is full, or its time is up.
type blocks struct {
	mem   *[]byte
	opt   Options
	block int    // being read, or next to come
	held  bool   // block is ours
	lossy bool   // packets were lost before it was handed over
	at    uint64 // next packet's offset in mem
	left  uint32 // packets of the block not yet read
}

func (q *blocks) version() int { return unix.TPACKET_V3 }

// frameUnit is only a unit to TPACKET_V3.
const frameUnit = 2048

func (q *blocks) request(fd int) error {
	return unix.SetsockoptTpacketReq3(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &unix.TpacketReq3{
		Block_size: uint32(q.opt.BlockSize), Block_nr: uint32(q.opt.Blocks),
		Frame_size: frameUnit, Frame_nr: uint32(q.opt.BlockSize / frameUnit * q.opt.Blocks),
		Retire_blk_tov: uint32(q.opt.Retire.Milliseconds()),
	})
}

// The layout of a block: a tpacket_block_desc, whose second half is a
// tpacket_hdr_v1, then packets, each behind a tpacket3_hdr and a sockaddr_ll.
const (
	offStatus     = 8 + unsafe.Offsetof(unix.TpacketHdrV1{}.Block_status)
	offNumPackets = 8 + unsafe.Offsetof(unix.TpacketHdrV1{}.Num_pkts)
	offFirst      = 8 + unsafe.Offsetof(unix.TpacketHdrV1{}.Offset_to_first_pkt)
	packetHeader  = uint64(unsafe.Sizeof(unix.Tpacket3Hdr{}))
)

func (q *blocks) word(block int, off uintptr) *uint32 {
	return (*uint32)(unsafe.Pointer(&(*q.mem)[uintptr(block)*uintptr(q.opt.BlockSize)+off]))
}

// acquire takes the next block if the kernel has handed it over. The status is
// loaded with acquire semantics: what the kernel wrote before it is visible.
func (q *blocks) acquire() bool {
	status := atomic.LoadUint32(q.word(q.block, offStatus))
	if status&unix.TP_STATUS_USER == 0 {
		return false
	}
	q.held, q.lossy = true, status&unix.TP_STATUS_LOSING != 0
	q.left = *q.word(q.block, offNumPackets)
	q.at = uint64(q.block)*uint64(q.opt.BlockSize) + uint64(*q.word(q.block, offFirst))
	return true
}

func (q *blocks) release() {
	atomic.StoreUint32(q.word(q.block, offStatus), unix.TP_STATUS_KERNEL)
	q.held = false
	if q.block++; q.block == q.opt.Blocks {
		q.block = 0
	}
}

func (q *blocks) next(s *slot) bool {
	for q.left == 0 {
		if q.held {
			q.release()
		}
		if !q.acquire() {
			return false
		}
	}
	// The kernel's offsets are within the block; slicing checks it once more.
	b := (*q.mem)[q.at:]
	h := (*unix.Tpacket3Hdr)(unsafe.Pointer(&b[:packetHeader][0]))
	*s = slot{
		data: b[h.Mac:][:h.Snaplen:h.Snaplen], head: b[h.Mac-vnetBytes : h.Mac], length: int(h.Len),
		status: h.Status, sec: h.Sec, nsec: h.Nsec, lossy: q.lossy, vlan: vlanOf(h.Status, uint16(h.Hv1.Vlan_tci)),
	}
	q.lossy = false
	q.at += uint64(h.Next_offset)
	q.left--
	return true
}

func (q *blocks) crowded() bool {
	ahead := (q.block + q.opt.Blocks/2) % q.opt.Blocks
	return atomic.LoadUint32(q.word(ahead, offStatus))&unix.TP_STATUS_USER != 0
}
