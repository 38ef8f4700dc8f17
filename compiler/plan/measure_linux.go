package plan

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"nepcoc/runtime/capture"
	"nepcoc/runtime/capture/afpacket"
	"nepcoc/runtime/load"
)

// threadTime is the processor time that the calling thread has had.
func threadTime() time.Duration {
	var t unix.Timespec
	unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t)
	return time.Duration(t.Nano())
}

// scratchSink is a file in memory, begun anew now and then: what is written to is that of the page cache.
func scratchSink() (w io.Writer, done func()) {
	fd, err := unix.MemfdCreate("nepcoc-plan", unix.MFD_CLOEXEC)
	if err != nil {
		return io.Discard, func() {}
	}
	return &memfd{fd: fd}, func() { unix.Close(fd) }
}

type memfd struct {
	fd int
	at int64
}

const memfdBytes = 16 << 20

func (m *memfd) Write(b []byte) (int, error) {
	n, err := unix.Pwrite(m.fd, b, m.at)
	if m.at += int64(n); m.at > memfdBytes {
		m.at = 0
	}
	return n, err
}

// measureRing sends packets to itself over the loopback of a network namespace of its own, out of which none can get, and
// takes them out of a ring. It needs the rights for both.
func measureRing(r *rig, size int) (*ring, error) {
	type result struct {
		*ring
		error
	}
	out := make(chan result)
	go func() {
		// Never unlocked: the thread ends with the goroutine, and the namespace with it.
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			out <- result{nil, fmt.Errorf("the receive path can't be measured: a network namespace: %w (run as root)", err)}
			return
		}
		m, err := inNamespace(r, size)
		out <- result{m, err}
	}()
	got := <-out
	return got.ring, got.error
}

const (
	ringPackets = 20000
	ringRounds  = 5
)

func inNamespace(r *rig, size int) (*ring, error) {
	if err := loopbackUp(); err != nil {
		return nil, err
	}
	to, err := load.Open("lo")
	if err != nil {
		return nil, err
	}
	defer to.Close()
	frames := make([][]byte, 64)
	for i := range frames {
		frames[i] = datagram(uint32(i), min(max(size, 28), 1500), 0, 0).Data
	}
	send := func() (float64, error) {
		begin := threadTime()
		for n := 0; n < ringPackets; {
			taken, lost, err := to.Send(frames)
			if err != nil {
				return 0, err
			}
			n += taken - len(lost)
		}
		return float64(threadTime()-begin) / ringPackets, nil
	}
	var with, without, take []float64
	for range ringRounds {
		one, err := send()
		if err != nil {
			return nil, err
		}
		rings, err := afpacket.Open("lo", 1, afpacket.Options{Promiscuous: true})
		if err != nil {
			return nil, err
		}
		two, err := send()
		if err == nil {
			r.receive, r.rest = 0, 0
			var f capture.Frame
			got := 0
			begin := threadTime()
			for rings[0].Next(&f) == nil {
				// Decoded and copied, but joined to no flow.
				if r.front.Frame(&f); len(r.batch) == cap(r.batch) {
					r.batch, r.data = r.batch[:0], r.data[:0]
				}
				got++
			}
			if took := threadTime() - begin - r.rest; got > ringPackets/2 {
				take = append(take, float64(took)/float64(got))
			}
			r.batch, r.data = r.batch[:0], r.data[:0]
		}
		rings[0].Close()
		if err != nil {
			return nil, err
		}
		without, with = append(without, one), append(with, two)
	}
	if len(take) == 0 {
		return nil, errors.New("the receive path can't be measured: packets over the loopback don't come out of the ring")
	}
	return &ring{take: median(take), copying: max(median(with)-median(without), 0), whole: median(with)}, nil
}

// loopbackUp takes the namespace's loopback into operation.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}
