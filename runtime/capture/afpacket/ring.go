//go:build linux

// Package afpacket captures from a network interface through AF_PACKET's
// TPACKET_V3 ring, which the kernel fills and this package reads in place. It
// works on every interface of every Linux, which AF_XDP does not: not on a
// BlueField's representors.
//
// gopacket's package of the same name needs no cgo either, but the packet path
// here has needs of its own. It reads the ring's status words atomically (plain
// loads are not ordered on arm64, so a packet may be read before it is there);
// it attaches a filter that takes nothing before binding, so that no packet is
// seen by two sockets of a fanout group while the group is being formed, or is
// left over in a ring at the end and never counted; and it allocates nothing
// for packets with a VLAN tag. The tests compare the two.
package afpacket

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"nepcoc/runtime/capture"
)

// Options of Open. Zero values mean the defaults.
type Options struct {
	// BlockSize is the unit that the kernel hands over, a multiple of the page
	// size (64 KiB on many arm64 kernels) and of 64 KiB, so that it holds any
	// packet; Blocks how many a ring has. Their product is the memory of one
	// receive thread, and decides for how long its reader may pause on a busy
	// link. On a quiet one it is Blocks times Retire: a block that has waited
	// for long enough is used up, however little is in it.
	BlockSize, Blocks int
	// Retire is how long a packet waits for its block to fill.
	Retire time.Duration
	// SnapLen is how much of a packet is captured.
	SnapLen int
	// Promiscuous takes packets that are not addressed to the interface: all
	// of a mirror's.
	Promiscuous bool
	// Outgoing takes packets that this machine sends, too.
	Outgoing bool
}

// Defaults of Options: 64 MiB, in blocks small enough that a reader may pause
// for five seconds where they don't fill. Larger ones gain nothing.
const (
	DefaultBlockSize = 1 << 17
	DefaultBlocks    = 512
	DefaultRetire    = 10 * time.Millisecond
	DefaultSnapLen   = 1 << 10
	minBlock         = 1 << 16
	maxBlocks        = 1 << 14
	maxRing          = 1 << 32
)

// frameSize is only a unit to TPACKET_V3: packets of any size lie one behind
// another in a block.
const frameSize = 2048

// Validate checks o and fills in the defaults.
func (o *Options) Validate() error {
	set := func(p *int, def int) {
		if *p == 0 {
			*p = def
		}
	}
	set(&o.BlockSize, DefaultBlockSize)
	set(&o.Blocks, DefaultBlocks)
	set(&o.SnapLen, DefaultSnapLen)
	if o.Retire == 0 {
		o.Retire = DefaultRetire
	}
	page := os.Getpagesize()
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.BlockSize < minBlock || o.BlockSize%minBlock != 0 || o.BlockSize%page != 0 || o.BlockSize > 1<<30 {
		bad("block_size %d must be a multiple of 65536 and of this machine's page size, %d, up to 1 GiB", o.BlockSize, page)
	}
	if o.Blocks < 2 || o.Blocks > maxBlocks {
		bad("blocks %d must be within 2..%d", o.Blocks, maxBlocks)
	}
	if len(errs) == 0 && o.BlockSize*o.Blocks > maxRing {
		bad("a ring of %d blocks of %d bytes is larger than 4 GiB", o.Blocks, o.BlockSize)
	}
	if o.Retire < time.Millisecond || o.Retire > time.Second {
		bad("retire %v must be within 1ms..1s", o.Retire)
	}
	if o.SnapLen < 64 || o.SnapLen > 1<<16 {
		bad("snaplen %d must be within 64..65536", o.SnapLen)
	}
	return errors.Join(errs...)
}

// Ring is one AF_PACKET socket with its ring: a capture.Live.
type Ring struct {
	name  string
	index int
	opt   Options
	fd    int
	mem   []byte
	link  capture.LinkType
	poll  [1]unix.PollFd

	block int    // being read, or next to come
	held  bool   // block is ours
	at    uint64 // next packet's offset in mem
	left  uint32 // packets of the block not yet read

	read    uint64 // packets that Next has yielded
	stop    atomic.Bool
	drained time.Time // when stopping: no packet comes after this

	mu     sync.Mutex // guards stats and, against Close, fd
	stats  capture.Stats
	closed bool
}

var _ capture.Live = (*Ring)(nil)

// Open captures from an interface with as many rings as there are to be
// receive threads. With several, the kernel spreads the flows over them by a
// hash that is the same for both directions; fragments of one packet stay
// together. No packet is captured before Open returns.
func Open(name string, threads int, o Options) ([]*Ring, error) {
	rings, err := open(name, threads, o)
	if err != nil {
		return nil, fmt.Errorf("capture from %s: %w", name, err)
	}
	return rings, nil
}

// Check tells whether Open would find the interface, and has the right to capture
// from it. It captures nothing.
func Check(name string, threads int, o Options) error {
	_, err := lookup(name, threads, &o)
	if err == nil {
		var fd int
		if fd, err = socket(); err == nil {
			err = unix.Close(fd)
		}
	}
	if err != nil {
		return fmt.Errorf("capture from %s: %w", name, err)
	}
	return nil
}

// lookup finds an interface that is up, and fills in o's defaults.
func lookup(name string, threads int, o *Options) (*net.Interface, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if threads < 1 || threads > 256 {
		return nil, fmt.Errorf("%d receive threads: must be within 1..256", threads)
	}
	iface, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("%w: `ip link` lists the interfaces", err)
	}
	if iface.Flags&net.FlagUp == 0 {
		return nil, fmt.Errorf("the interface is down: ip link set %s up", name)
	}
	return iface, nil
}

func open(name string, threads int, o Options) (rings []*Ring, err error) {
	iface, err := lookup(name, threads, &o)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			for _, r := range rings {
				r.Close()
			}
		}
	}()
	group := newGroup
	for range threads {
		r, err := newRing(iface, o)
		if err != nil {
			return rings, err
		}
		rings = append(rings, r)
		if threads > 1 {
			if group, err = r.join(group); err != nil {
				return rings, err
			}
		}
	}
	for _, r := range rings {
		if err := r.filter(uint32(o.SnapLen)); err != nil {
			return rings, err
		}
	}
	return rings, nil
}

// socket makes a socket for packets. Of protocol 0: nothing is received before bind.
func socket() (int, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EPERM) {
		return 0, fmt.Errorf("socket: %w: capturing needs CAP_NET_RAW (run as root, or setcap cap_net_raw+ep on the program, or by the systemd unit)", err)
	}
	return fd, os.NewSyscallError("socket", err)
}

func newRing(iface *net.Interface, o Options) (r *Ring, err error) {
	fd, err := socket()
	if err != nil {
		return nil, err
	}
	r = &Ring{name: iface.Name, index: iface.Index, opt: o, fd: fd}
	r.poll[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN | unix.POLLERR}
	defer func(made *Ring) { // returns set r to nil
		if err != nil {
			made.Close()
		}
	}(r)
	if err := r.filter(0); err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V3); err != nil {
		return nil, os.NewSyscallError("setsockopt PACKET_VERSION", err)
	}
	if !o.Outgoing {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
			return nil, os.NewSyscallError("setsockopt PACKET_IGNORE_OUTGOING (needs Linux 4.20)", err)
		}
	}
	req := unix.TpacketReq3{
		Block_size: uint32(o.BlockSize), Block_nr: uint32(o.Blocks),
		Frame_size: frameSize, Frame_nr: uint32(o.BlockSize / frameSize * o.Blocks),
		Retire_blk_tov: uint32(o.Retire.Milliseconds()),
	}
	if err := unix.SetsockoptTpacketReq3(fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req); err != nil {
		return nil, fmt.Errorf("a ring of %d blocks of %d bytes: %w: try fewer or smaller blocks", o.Blocks, o.BlockSize, err)
	}
	if r.mem, err = unix.Mmap(fd, 0, o.BlockSize*o.Blocks, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	const all = uint16(unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8) // in network order
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: iface.Index}); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	if r.link, err = linkType(fd); err != nil {
		return nil, err
	}
	if o.Promiscuous {
		// Undone by the kernel when the socket goes.
		m := unix.PacketMreq{Ifindex: int32(iface.Index), Type: unix.PACKET_MR_PROMISC}
		if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &m); err != nil {
			return nil, os.NewSyscallError("setsockopt PACKET_ADD_MEMBERSHIP", err)
		}
	}
	// Counting begins here: reading resets the kernel's counters.
	_, err = unix.GetsockoptTpacketStatsV3(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	return r, os.NewSyscallError("getsockopt PACKET_STATISTICS", err)
}

// linkType is how frames of the interface begin.
func linkType(fd int) (capture.LinkType, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return 0, os.NewSyscallError("getsockname", err)
	}
	switch hw := sa.(*unix.SockaddrLinklayer).Hatype; hw {
	case unix.ARPHRD_ETHER, unix.ARPHRD_LOOPBACK:
		return capture.LinkEthernet, nil
	case unix.ARPHRD_NONE, unix.ARPHRD_RAWIP, unix.ARPHRD_TUNNEL, unix.ARPHRD_TUNNEL6, unix.ARPHRD_SIT:
		return capture.LinkRaw, nil
	default:
		return 0, fmt.Errorf("hardware type %d: only Ethernet, loopback and raw IP interfaces are supported", hw)
	}
}

// newGroup asks join for a new group. The kernel's numbers begin at 0.
const newGroup = -1

// join puts the socket into a fanout group and returns the group's number.
func (r *Ring) join(group int) (int, error) {
	kind := unix.PACKET_FANOUT_HASH
	if group == newGroup {
		group = 0
		kind |= unix.PACKET_FANOUT_FLAG_UNIQUEID
	}
	if err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_FANOUT, group|kind<<16); err != nil {
		return 0, os.NewSyscallError("setsockopt PACKET_FANOUT", err)
	}
	v, err := unix.GetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_FANOUT)
	return v & 0xffff, os.NewSyscallError("getsockopt PACKET_FANOUT", err)
}

// filter replaces the socket's filter by one that takes the first n bytes of
// every packet; 0 takes no packet, and the kernel does not count it.
func (r *Ring) filter(n uint32) error {
	prog := [1]unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: n}}
	err := unix.SetsockoptSockFprog(r.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &prog[0]})
	return os.NewSyscallError("setsockopt SO_ATTACH_FILTER", err)
}

// The layout of a block: a tpacket_block_desc, whose second half is a
// tpacket_hdr_v1, then packets, each behind a tpacket3_hdr and a sockaddr_ll.
const (
	offStatus     = 8 + unsafe.Offsetof(unix.TpacketHdrV1{}.Block_status)
	offNumPackets = 8 + unsafe.Offsetof(unix.TpacketHdrV1{}.Num_pkts)
	offFirst      = 8 + unsafe.Offsetof(unix.TpacketHdrV1{}.Offset_to_first_pkt)
	packetHeader  = uint64(unsafe.Sizeof(unix.Tpacket3Hdr{}))
)

func (r *Ring) word(block int, off uintptr) *uint32 {
	return (*uint32)(unsafe.Pointer(&r.mem[uintptr(block)*uintptr(r.opt.BlockSize)+off]))
}

// acquire takes the next block if the kernel has handed it over. The status is
// loaded with acquire semantics: what the kernel wrote before it is visible.
func (r *Ring) acquire() bool {
	if atomic.LoadUint32(r.word(r.block, offStatus))&unix.TP_STATUS_USER == 0 {
		return false
	}
	r.held = true
	r.left = *r.word(r.block, offNumPackets)
	r.at = uint64(r.block)*uint64(r.opt.BlockSize) + uint64(*r.word(r.block, offFirst))
	return true
}

func (r *Ring) release() {
	atomic.StoreUint32(r.word(r.block, offStatus), unix.TP_STATUS_KERNEL)
	r.held = false
	if r.block++; r.block == r.opt.Blocks {
		r.block = 0
	}
}

// Next implements capture.Source. The frame lies in the ring, until the next
// call.
func (r *Ring) Next(f *capture.Frame) error {
	for r.left == 0 {
		if r.held {
			r.release()
		}
		if !r.acquire() {
			return r.empty()
		}
	}
	// The kernel's offsets are within the block; slicing checks it once more.
	b := r.mem[r.at:]
	h := (*unix.Tpacket3Hdr)(unsafe.Pointer(&b[:packetHeader][0]))
	data := b[h.Mac:]
	*f = capture.Frame{
		Data: data[:h.Snaplen:h.Snaplen], Length: int(h.Len), Link: r.link,
		Time: int64(h.Sec)*1e9 + int64(h.Nsec),
	}
	r.at += uint64(h.Next_offset)
	r.left--
	r.read++
	return nil
}

// lateBlock bounds the wait for a last block that the kernel should long have
// handed over: on a busy machine its timer may be late.
const lateBlock = 2 * time.Second

// empty ends the intake if that was asked for. A block that has begun to fill
// is handed over within two retire times, so waiting for longer leaves none
// behind; the kernel's count tells whether it did.
func (r *Ring) empty() error {
	if !r.stop.Load() {
		return capture.ErrEmpty
	}
	if r.drained.IsZero() {
		if err := r.filter(0); err != nil {
			return err
		}
		r.drained = time.Now().Add(3*r.opt.Retire + 20*time.Millisecond)
	}
	now := time.Now()
	if now.Before(r.drained) {
		return capture.ErrEmpty
	}
	if s, err := r.Stats(); err == nil && r.read < s.Received-s.Dropped && now.Before(r.drained.Add(lateBlock)) {
		return capture.ErrEmpty
	}
	return io.EOF
}

// Wait implements capture.Live.
func (r *Ring) Wait(d time.Duration) error {
	if r.stop.Load() {
		d = min(d, r.opt.Retire)
	}
	r.poll[0].Revents = 0
	ms := int(min((d+time.Millisecond-1)/time.Millisecond, math.MaxInt32))
	if _, err := unix.Poll(r.poll[:], ms); err != nil && err != unix.EINTR {
		return os.NewSyscallError("poll", err)
	}
	if r.poll[0].Revents&unix.POLLERR == 0 {
		return nil
	}
	e, err := unix.GetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return os.NewSyscallError("getsockopt SO_ERROR", err)
	}
	if unix.Errno(e) == unix.ENETDOWN {
		// Down may be up again: the kernel then goes on by itself. An
		// interface that was removed does not come back to this socket.
		if now, err := net.InterfaceByName(r.name); err != nil || now.Index != r.index {
			return fmt.Errorf("capture from %s: the interface was removed", r.name)
		}
		time.Sleep(min(d, 100*time.Millisecond))
		return nil
	}
	if e != 0 {
		return fmt.Errorf("capture from %s: %w", r.name, unix.Errno(e))
	}
	return nil
}

// Crowded implements capture.Live: the kernel has handed over the block that is
// half a ring ahead.
func (r *Ring) Crowded() bool {
	ahead := (r.block + r.opt.Blocks/2) % r.opt.Blocks
	return atomic.LoadUint32(r.word(ahead, offStatus))&unix.TP_STATUS_USER != 0
}

// Stop implements capture.Live.
func (r *Ring) Stop() { r.stop.Store(true) }

// Clock implements capture.Live. A packet that was received just now may still
// wait for its block, so the time of packets to come is a little earlier.
func (r *Ring) Clock() int64 { return time.Now().Add(-2 * r.opt.Retire).UnixNano() }

// Stats implements capture.Live. The kernel's counters are 32 bits wide and
// reset by reading: calls must not be hours apart.
func (r *Ring) Stats() (capture.Stats, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return r.stats, nil
	}
	s, err := unix.GetsockoptTpacketStatsV3(r.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return r.stats, os.NewSyscallError("getsockopt PACKET_STATISTICS", err)
	}
	// tp_packets includes tp_drops.
	r.stats.Received += uint64(s.Packets)
	r.stats.Dropped += uint64(s.Drops)
	r.stats.Stalls += uint64(s.Freeze_q_cnt)
	return r.stats, nil
}

// Close implements capture.Source. No other call may be in progress but Stats,
// which keeps its last figures.
func (r *Ring) Close() error {
	r.Stats()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	if r.mem != nil {
		unix.Munmap(r.mem)
		r.mem = nil
	}
	return unix.Close(r.fd)
}
