package load

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Interface is a network interface that frames are sent from.
type Interface struct {
	Name string
	MTU  int
	fd   int
	msgs [batchFrames]message
	vecs [batchFrames]unix.Iovec
}

// message is struct mmsghdr of machines of 64 bits.
type message struct {
	unix.Msghdr
	sent uint32
	_    [4]byte
}

// Open opens an interface for sending. It receives nothing.
func Open(name string) (*Interface, error) {
	fail := func(format string, args ...any) (*Interface, error) {
		return nil, fmt.Errorf("send from %s: %w", name, fmt.Errorf(format, args...))
	}
	iface, err := net.InterfaceByName(name)
	if err != nil {
		return fail("%w: `ip link` lists the interfaces", err)
	}
	if iface.Flags&net.FlagUp == 0 {
		return fail("the interface is down: ip link set %s up", name)
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EPERM) {
		return fail("socket: %w: sending needs CAP_NET_RAW (run as root)", err)
	}
	if err == nil {
		if err = unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: iface.Index}); err == nil {
			var sa unix.Sockaddr
			if sa, err = unix.Getsockname(fd); err == nil {
				if hw := sa.(*unix.SockaddrLinklayer).Hatype; hw != unix.ARPHRD_ETHER && hw != unix.ARPHRD_LOOPBACK {
					err = fmt.Errorf("hardware type %d: only Ethernet interfaces are sent from", hw)
				}
			}
		}
		if err != nil {
			unix.Close(fd)
		}
	}
	if err != nil {
		return fail("%w", err)
	}
	return &Interface{Name: name, MTU: iface.MTU, fd: fd}, nil
}

// Send implements Wire, with one system call for all frames.
func (i *Interface) Send(frames [][]byte) (taken int, lost []int, err error) {
	n := min(len(frames), batchFrames)
	for k, f := range frames[:n] {
		i.vecs[k].Base = &f[0]
		i.vecs[k].SetLen(len(f))
		i.msgs[k].Iov = &i.vecs[k]
		i.msgs[k].SetIovlen(1)
	}
	for {
		sent, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(i.fd), uintptr(unsafe.Pointer(&i.msgs[0])), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
		runtime.KeepAlive(frames)
		switch errno {
		case 0:
			return int(sent), nil, nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, nil, nil
		case unix.ENOBUFS, unix.EMSGSIZE: // the queue of the interface has dropped it, or it does not fit
			return 1, []int{0}, nil
		default:
			return 0, nil, fmt.Errorf("send from %s: %w", i.Name, os.NewSyscallError("sendmmsg", errno))
		}
	}
}

// sleep is time.Sleep to the microsecond: the runtime's waits for whole milliseconds.
func sleep(d time.Duration) {
	t := unix.NsecToTimespec(int64(d))
	unix.Nanosleep(&t, nil)
}

// Close closes the socket.
func (i *Interface) Close() error { return unix.Close(i.fd) }

// HasDefaultRoute tells whether this machine reaches other networks through an interface.
func HasDefaultRoute(name string) bool {
	v4, _ := os.ReadFile("/proc/thread-self/net/route") // interface, destination, gateway, ..., mask in the eighth column
	for l := range strings.Lines(string(v4)) {
		if f := strings.Fields(l); len(f) > 7 && f[0] == name && f[1] == "00000000" && f[7] == "00000000" {
			return true
		}
	}
	v6, _ := os.ReadFile("/proc/thread-self/net/ipv6_route") // destination, its length, ..., flags, interface
	for l := range strings.Lines(string(v6)) {
		if f := strings.Fields(l); len(f) > 9 && f[9] == name && f[1] == "00" && strings.Trim(f[0], "0") == "" && strings.Trim(f[4], "0") != "" {
			return true
		}
	}
	return false
}
