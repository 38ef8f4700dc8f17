//go:build linux

// Package testnet makes networks for tests: a network namespace with two
// interfaces joined by a virtual cable, out of which no packet can get.
package testnet

import (
	"context"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nepcoc/internal/testfiles"
)

// The names of the cable's ends, inside of the namespace.
const (
	Near = "near"
	Far  = "far"
)

// MTU of the cable: large enough for captures of jumbo frames.
const MTU = 9000

// Net is a namespace. It lives in one thread, and goes with it: however the
// test ends, nothing is left.
type Net struct {
	calls chan func()
}

// New makes a namespace with a cable between Near and Far. Where the system doesn't let it, that is
// Missing; an emulator of user programs, whose packet sockets have no rings, skips the test everywhere.
func New(t testing.TB) *Net {
	t.Helper()
	ip := testfiles.Tool(t, "ip")
	n := namespace(t)
	n.Do(func() {
		for _, args := range [][]string{
			{"link", "add", Near, "mtu", "9000", "type", "veth", "peer", "name", Far, "mtu", "9000"},
			{"link", "set", "lo", "up"},
		} {
			if out, err := exec.Command(ip, args...).CombinedOutput(); err != nil {
				t.Fatalf("ip %v: %v: %s", args, err, out)
			}
		}
		for _, name := range []string{Near, Far} {
			// No neighbour discovery and the like: only the test's own packets.
			// The file is that of the thread's namespace; a kernel without IPv6 has none.
			err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/disable_ipv6", []byte("1"), 0)
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			if out, err := exec.Command(ip, "link", "set", name, "up", "arp", "off", "multicast", "off").CombinedOutput(); err != nil {
				t.Fatalf("ip link set %s up: %v: %s", name, err, out)
			}
		}
		for _, name := range []string{Near, Far} {
			carries(t, name)
		}
	})
	return n
}

// namespace makes a namespace without a cable.
func namespace(t testing.TB) *Net {
	t.Helper()
	if os.Geteuid() != 0 {
		testfiles.Missing(t, "needs root to make a network namespace")
	}
	n := &Net{calls: make(chan func())}
	ready, rings := make(chan error), make(chan error)
	go func() {
		// Never unlocked: the thread ends with the goroutine.
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_NEWNET)
		ready <- err
		if err == nil {
			err = packetRings()
			rings <- err
		}
		if err == nil {
			for f := range n.calls {
				f()
			}
		}
	}()
	if err := <-ready; err != nil {
		testfiles.Missing(t, "no network namespace here: %v", err)
	}
	if err := <-rings; err != nil {
		t.Skipf("no packet rings here: %v", err)
	}
	t.Cleanup(func() { close(n.calls) })
	return n
}

// Addresses of Hosts.
const (
	NearAddress = "10.9.0.1"
	FarAddress  = "10.9.0.2"
)

// Hosts makes two namespaces with an end of the cable and an address each: hosts whose ordinary
// sockets talk over it.
func Hosts(t testing.TB) (near, far *Net) {
	t.Helper()
	ip := testfiles.Tool(t, "ip")
	near, far = New(t), namespace(t)
	var thread string
	far.Do(func() { thread = strconv.Itoa(unix.Gettid()) })
	near.Do(func() {
		if out, err := exec.Command(ip, "link", "set", Far, "netns", thread).CombinedOutput(); err != nil {
			t.Fatalf("ip link set %s netns: %v: %s", Far, err, out)
		}
	})
	for _, h := range []struct {
		n             *Net
		name, address string
	}{{near, Near, NearAddress}, {far, Far, FarAddress}} {
		h.n.Do(func() {
			for _, args := range [][]string{{"addr", "add", h.address + "/24", "dev", h.name}, {"link", "set", h.name, "up", "arp", "on"}} {
				if out, err := exec.Command(ip, args...).CombinedOutput(); err != nil {
					t.Fatalf("ip %v: %v: %s", args, err, out)
				}
			}
		})
	}
	for _, h := range []struct {
		n    *Net
		name string
	}{{near, Near}, {far, Far}} {
		h.n.Do(func() { carries(t, h.name) })
	}
	return near, far
}

// carries waits until an end of the cable is in operation. That comes a little
// after it is up, later on a busy machine; what is sent before is lost, and
// nobody counts it.
func carries(t testing.TB, name string) {
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		iface, err := net.InterfaceByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if iface.Flags&net.FlagRunning != 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s is not in operation", name)
		}
	}
}

// packetRings fails where packet sockets have no rings: an emulator of user
// programs does not pass their options on.
func packetRings() error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V3)
}

// Do runs f in the namespace: sockets that it opens and processes that it
// starts belong there. t.Fatal works in it.
func (n *Net) Do(f func()) {
	done := make(chan bool)
	n.calls <- func() {
		ok := false
		defer func() { done <- ok }()
		f()
		ok = true
	}
	if !<-done {
		runtime.Goexit() // f has failed the test
	}
}

// Dial connects from inside of the namespace, whatever thread it is called on.
func (n *Net) Dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	dialed := make(chan bool)
	go func() {
		n.calls <- func() {
			// A plain dial stays on its thread for addresses that are numbers.
			conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
			close(dialed)
		}
	}()
	<-dialed
	return conn, err
}

// Sender puts frames on one end of the cable.
type Sender struct{ fd int }

// NewSender opens an interface for sending.
func (n *Net) NewSender(t testing.TB, name string) *Sender {
	t.Helper()
	s := &Sender{}
	n.Do(func() {
		iface, err := net.InterfaceByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if s.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			t.Fatal(err)
		}
		if err := unix.Bind(s.fd, &unix.SockaddrLinklayer{Ifindex: iface.Index}); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { unix.Close(s.fd) })
	return s
}

// FD is the sender's socket.
func (s *Sender) FD() int { return s.fd }

// Send sends a frame, waiting while the interface's queue is full.
func (s *Sender) Send(frame []byte) error {
	for {
		_, err := unix.Write(s.fd, frame)
		if err != unix.ENOBUFS && err != unix.EAGAIN && err != unix.EINTR {
			return err
		}
		time.Sleep(100 * time.Microsecond)
	}
}

// Remove takes the cable away, within Do.
func (n *Net) Remove(t testing.TB) {
	if out, err := exec.Command(testfiles.Tool(t, "ip"), "link", "del", Near).CombinedOutput(); err != nil {
		t.Fatalf("ip link del: %v: %s", err, out)
	}
}
