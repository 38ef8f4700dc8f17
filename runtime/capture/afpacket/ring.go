//go:build linux

// Package afpacket captures from a network interface through AF_PACKET's ring,
// which the kernel fills and this package reads in place. It
// works on every interface of every Linux, which AF_XDP does not: not on a
// BlueField's representors.
//
// A ring is made of frames (TPACKET_V2: the kernel hands over each as it comes,
// and wakes a reader that waits) or of blocks (TPACKET_V3: many packets at
// once, after a while). Frames are the default: a packet is read some
// microseconds after it came, and a reader that is busy finds many, so that it
// waits for none. A block holds packets one behind another, so that more small
// ones fit.
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
	// Retire is how long a packet waits for its block to fill; 0 means that there
	// are no such blocks: the ring is one of frames of SnapLen bytes.
	Retire time.Duration
	// SnapLen is how much of a packet is captured.
	SnapLen int
	// Promiscuous takes packets that are not addressed to the interface: all
	// of a mirror's.
	Promiscuous bool
	// Outgoing takes packets that this machine sends, too.
	Outgoing bool
}

// Defaults of Options: 64 MiB, which are 59,904 frames, or blocks small enough that a
// reader may pause for five seconds where they don't fill. Larger ones gain nothing.
const (
	DefaultBlockSize = 1 << 17
	DefaultBlocks    = 512
	DefaultSnapLen   = 1 << 10
	minBlock         = 1 << 16
	maxBlocks        = 1 << 14
	maxRing          = 1 << 32
)

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
	page := os.Getpagesize()
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.BlockSize < minBlock || o.BlockSize%minBlock != 0 || o.BlockSize%page != 0 || o.BlockSize > 1<<30 {
		bad("block_size: %d must be a multiple of 65536 and of this machine's page size, %d, up to 1 GiB", o.BlockSize, page)
	}
	if o.Blocks < 2 || o.Blocks > maxBlocks {
		bad("blocks: %d is not within 2..%d", o.Blocks, maxBlocks)
	}
	if len(errs) == 0 && o.BlockSize*o.Blocks > maxRing {
		bad("blocks: a ring of %d of %d bytes is larger than 4 GiB", o.Blocks, o.BlockSize)
	}
	if o.Retire != 0 && (o.Retire < time.Millisecond || o.Retire > time.Second) {
		bad("retire: %v must be 0, for a ring of frames, or within 1ms..1s, for one of blocks", o.Retire)
	}
	if o.SnapLen < 64 || o.SnapLen > 1<<16 {
		bad("snaplen: %d is not within 64..65536", o.SnapLen)
	}
	return errors.Join(errs...)
}

// Ring is one AF_PACKET socket with its ring: a capture.Live.
type Ring struct {
	name  string
	index int
	mtu   int
	opt   Options
	fd    int
	mem   []byte
	queue queue // what lies in mem
	link  capture.LinkType
	poll  [1]unix.PollFd
	vnet  bool // each packet has a virtio_net_hdr before it

	slot   slot // the packet that Next has yielded last
	split  capture.Splitter
	copied []byte // of a packet that was larger than its frame in the ring
	time   steady

	read     uint64 // packets that have been taken out of the ring
	extra    atomic.Uint64
	merged   atomic.Uint64
	unsplit  atomic.Uint64
	untold   atomic.Bool // some were lost, of which no packet may have said so
	losing   uint64      // packets since the kernel began to say that it lost some
	last     int64       // time of the packet that was yielded last
	foundAt  int64       // when the ring was found empty; 0 where it is not
	window   int64       // when it was last looked at how many packets come
	windowed uint64      // read until then
	busy     bool        // they came thick and fast

	stop    atomic.Bool
	drained time.Time // when stopping: no packet comes after this

	mu     sync.Mutex // guards stats and, against Close, fd
	stats  capture.Stats
	closed bool
}

// queue is one of the two forms of a ring, in mem.
type queue interface {
	// version and request are what the kernel is asked for.
	version() int
	request(fd int) error
	// next takes the next packet, and gives back the one before: false where
	// there is none.
	next(*slot) bool
	// crowded: the kernel has handed over what is half a ring ahead.
	crowded() bool
}

// slot is a packet in the ring.
type slot struct {
	data      []byte // as captured
	head      []byte // the virtio_net_hdr before it, where there is one
	length    int
	status    uint32
	sec, nsec uint32
	vlan      uint16 // id of the tag that the kernel took off, 0 for none
	lossy     bool
}

// vlanOf is the id in a tag that the kernel keeps beside the frame.
func vlanOf(status uint32, tci uint16) uint16 {
	if status&unix.TP_STATUS_VLAN_VALID == 0 {
		return 0
	}
	return tci & 0xfff
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
		if err := r.take(); err != nil {
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
	r = &Ring{name: iface.Name, index: iface.Index, mtu: iface.MTU, opt: o, fd: fd}
	if o.Retire == 0 {
		r.queue = newFrames(&r.mem, o)
	} else {
		r.queue = &blocks{mem: &r.mem, opt: o}
	}
	r.poll[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN | unix.POLLERR}
	defer func(made *Ring) { // returns set r to nil
		if err != nil {
			made.Close()
		}
	}(r)
	if err := r.filter(0); err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VERSION, r.queue.version()); err != nil {
		return nil, os.NewSyscallError("setsockopt PACKET_VERSION", err)
	}
	if err := r.askForMerged(); err != nil {
		return nil, err
	}
	if !o.Outgoing {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
			return nil, os.NewSyscallError("setsockopt PACKET_IGNORE_OUTGOING (needs Linux 4.20)", err)
		}
	}
	if err := r.queue.request(fd); err != nil {
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
	return r.attach(unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: n})
}

// take begins the intake: of what is larger than a packet on the wire can be, and
// is to be split, so much that its first packets are whole.
func (r *Ring) take() error {
	snap := uint32(r.opt.SnapLen)
	if !r.vnet || r.opt.SnapLen >= maxMerged {
		return r.filter(snap)
	}
	return r.attach(
		unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_LEN},
		unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K, K: uint32(r.mtu + linkBytes), Jf: 1},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: max(snap, maxMerged)},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: snap},
	)
}

func (r *Ring) attach(prog ...unix.SockFilter) error {
	err := unix.SetsockoptSockFprog(r.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]})
	return os.NewSyscallError("setsockopt SO_ATTACH_FILTER", err)
}

// Next implements capture.Source. The frame lies in the ring, until the next
// call.
func (r *Ring) Next(f *capture.Frame) error {
	if r.split.Next(f) {
		r.extra.Add(1)
		return nil
	}
	if !r.queue.next(&r.slot) {
		return r.empty()
	}
	s := &r.slot
	if r.untold.Load() && r.untold.Swap(false) {
		s.lossy = true
	}
	*f = capture.Frame{
		Data: s.data, Length: s.length, Link: r.link, Lossy: s.lossy, VLAN: s.vlan,
		Time: r.time.of(int64(s.sec)*1e9 + int64(s.nsec)), Trust: capture.TrustWire,
	}
	r.foundAt, r.last = 0, f.Time
	r.read++
	if s.lossy {
		r.reset()
	}
	if s.status&unix.TP_STATUS_CSUMNOTREADY != 0 {
		f.Trust = capture.TrustChecked
	}
	if r.vnet {
		r.header(f)
	} else if f.Length > r.mtu+linkBytes {
		r.unsplit.Add(1)
	}
	return nil
}

// resetEvery is how many packets of a ring that loses some are taken before the
// kernel is asked for its count again.
const resetEvery = 4096

// reset has the kernel stop saying that it lost packets, which it does of each
// until its count is read: not for each, since a full ring holds many that say so.
func (r *Ring) reset() {
	if r.losing%resetEvery == 0 {
		r.count()
	}
	r.losing++
}

// lateBlock bounds the wait for a last block that the kernel should long have
// handed over: on a busy machine its timer may be late.
const lateBlock = 2 * time.Second

// empty ends the intake if that was asked for. A block that has begun to fill
// is handed over within two retire times, so waiting for longer leaves none
// behind; the kernel's count tells whether it did.
func (r *Ring) empty() error {
	r.foundAt, r.losing = r.time.settle(), 0
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
	if s, err := r.Stats(); err == nil && r.read+r.extra.Load() < s.Received-s.Dropped && now.Before(r.drained.Add(lateBlock)) {
		return capture.ErrEmpty
	}
	return io.EOF
}

// Where more than busyRate packets come in a busyWindow, waking for each costs more
// than they do: the reader then lets some come before it waits for one, as a network card
// does with its interrupts.
const (
	busyWindow = int64(time.Millisecond)
	busyRate   = 16
	busyPause  = 100 * time.Microsecond
)

// moderate pauses where packets come thick and fast.
func (r *Ring) moderate() {
	if r.opt.Retire != 0 {
		return // the kernel has its own pace
	}
	if took := r.foundAt - r.window; took >= busyWindow {
		r.busy = int64(r.read-r.windowed)*busyWindow > busyRate*took
		r.window, r.windowed = r.foundAt, r.read
	}
	if r.busy {
		unix.Nanosleep(&unix.Timespec{Nsec: int64(busyPause)}, nil)
	}
}

// Wait implements capture.Live.
func (r *Ring) Wait(d time.Duration) error {
	if r.stop.Load() {
		d = min(d, max(r.opt.Retire, time.Millisecond))
	}
	r.moderate()
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
		ifr, err := unix.NewIfreq(r.name)
		if err == nil {
			err = unix.IoctlIfreq(r.fd, unix.SIOCGIFINDEX, ifr) // in the namespace that the socket was made in
		}
		if err != nil || int(ifr.Uint32()) != r.index {
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

// Crowded implements capture.Live.
func (r *Ring) Crowded() bool { return r.queue.crowded() }

// Stop implements capture.Live.
func (r *Ring) Stop() { r.stop.Store(true) }

// inKernel is how long a packet may be on its way through the kernel between its
// time stamp and the ring.
const inKernel = time.Millisecond

// Clock implements capture.Live. Where packets wait in the ring it is the time of
// the last that was taken: whatever is late, timers don't overtake packets. Where
// the ring was found empty it is a little before that, since a packet that came
// then may still wait for its block.
func (r *Ring) Clock() int64 {
	if r.foundAt == 0 {
		return r.last
	}
	return max(r.last, r.foundAt-int64(2*r.opt.Retire+inKernel))
}

// Stats implements capture.Live. The kernel's counters are 32 bits wide and
// reset by reading: calls must not be hours apart.
func (r *Ring) Stats() (capture.Stats, error) {
	s, lost, err := r.count()
	if lost {
		r.untold.Store(true) // the kernel, which forgets them with this, would not say so any more
	}
	return s, err
}

// count adds the kernel's counters to ours, and tells whether packets were lost since it was called before.
func (r *Ring) count() (sum capture.Stats, lost bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return r.sum(), false, nil
	}
	s, err := unix.GetsockoptTpacketStatsV3(r.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return r.sum(), false, os.NewSyscallError("getsockopt PACKET_STATISTICS", err)
	}
	// tp_packets includes tp_drops.
	r.stats.Received += uint64(s.Packets)
	r.stats.Dropped += uint64(s.Drops)
	r.stats.Stalls += uint64(s.Freeze_q_cnt)
	return r.sum(), s.Drops > 0, nil
}

// sum counts what was merged as the packets that it was.
func (r *Ring) sum() capture.Stats {
	s := r.stats
	s.Merged, s.Unsplit = r.merged.Load(), r.unsplit.Load()
	s.Received += r.extra.Load()
	return s
}

// Link says what keeps packets from coming, nil where the interface is in operation. Any goroutine may
// call it.
func (r *Ring) Link() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	ifr, err := unix.NewIfreq(r.name)
	if err == nil && !r.closed {
		err = unix.IoctlIfreq(r.fd, unix.SIOCGIFFLAGS, ifr) // in the namespace that the socket was made in
	}
	switch {
	case r.closed:
		return nil
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("interface %s is gone", r.name)
	case err != nil:
		return fmt.Errorf("interface %s: %w", r.name, err)
	case ifr.Uint16()&unix.IFF_UP == 0:
		return fmt.Errorf("interface %s is down: ip link set %s up", r.name, r.name)
	case ifr.Uint16()&unix.IFF_RUNNING == 0:
		return fmt.Errorf("interface %s has no carrier: nothing is connected to it, or the other end is down", r.name)
	}
	return nil
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
