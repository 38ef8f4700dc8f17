//go:build linux

package agent_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"nepcoc/internal/testnet"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/capture/afpacket"
	"nepcoc/runtime/traffic"
)

// The latency benchmark: a process sends flows over a cable, and says of each in a
// file that both map when its last packet was sent; the agent's sink looks at the
// clock when it is given a line.

// wireFlows is how many flows a run may have, wireKinds how many there are with
// bytes of their own, wireSize their payload.
const (
	wireFlows = 1 << 21
	wireKinds = 256
	wireSize  = 160
)

// wirePacket is one packet of a flow, whose addresses and ports say which it is.
func wirePacket(b []byte, flow uint32) []byte {
	b = append(b[:0], udp(flow%wireKinds, wireSize)...)
	ip := b[14:]
	binary.BigEndian.PutUint32(ip[12:], 10<<24|flow>>8)
	binary.BigEndian.PutUint16(ip[20:], uint16(1024+flow&255))
	checksumIP(ip)
	return b
}

// checksumIP puts the checksum into an IPv4 header of 20 bytes.
func checksumIP(ip []byte) {
	sum := uint32(0)
	binary.BigEndian.PutUint16(ip[10:], 0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16))
}

// sendFlows is the sender's process: rate packets/s (0: as many as can be) for a time.
func sendFlows(file string, fd, packets, rate int, length time.Duration) error {
	times, unmap, err := sharedTimes(file)
	if err != nil {
		return err
	}
	defer unmap()
	runtime.LockOSThread()
	frames := make([][]byte, wireKinds)
	for i := range frames {
		frames[i] = wirePacket(nil, uint32(i))
	}
	start := time.Now()
	sent := 0
	for time.Since(start) < length && sent/packets < wireFlows-1 {
		due := sent + 64
		if rate > 0 {
			due = int(time.Since(start).Seconds() * float64(rate))
		}
		for due -= due % packets; sent < due; sent++ { // whole flows
			flow := uint32(sent / packets)
			b := frames[flow%wireKinds]
			binary.BigEndian.PutUint32(b[14+12:], 10<<24|flow>>8)
			binary.BigEndian.PutUint16(b[14+20:], uint16(1024+flow&255))
			checksumIP(b[14:])
			if sent%packets == packets-1 {
				times[flow] = time.Now().UnixNano()
			}
			for {
				_, err := unix.Write(fd, b)
				if err == nil {
					break
				}
				if err != unix.ENOBUFS && err != unix.EAGAIN && err != unix.EINTR {
					return err
				}
			}
		}
		if rate > 0 {
			next := start.Add(time.Duration(float64(sent+1) / float64(rate) * 1e9))
			time.Sleep(min(time.Until(next), time.Millisecond))
		}
	}
	fmt.Print(sent)
	return nil
}

// sharedTimes are the times of sending, by flow.
func sharedTimes(file string) (times []int64, unmap func(), err error) {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	if err := f.Truncate(8 * wireFlows); err != nil {
		return nil, nil, err
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, 8*wireFlows, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, err
	}
	return unsafe.Slice((*int64)(unsafe.Pointer(&mem[0])), wireFlows), func() { unix.Munmap(mem) }, nil
}

// TestSendFlows is no test: it is the sender's process.
func TestSendFlows(t *testing.T) {
	args := strings.Fields(os.Getenv("NEPCOC_SEND_FLOWS"))
	if len(args) == 0 {
		t.Skip("runs as part of TestLatency")
	}
	packets, _ := strconv.Atoi(args[1])
	rate, _ := strconv.Atoi(args[2])
	length, _ := time.ParseDuration(args[3])
	if err := sendFlows(args[0], 3, packets, rate, length); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// wireRun is what one run gave.
type wireRun struct {
	rate    float64 // packets/s that had their lines while they were sent
	lost    float64 // share of the packets
	right   float64 // share of the verdicts
	cpu     float64 // seconds of processor for each second
	each    float64 // nanoseconds of processor for each packet
	latency []time.Duration
}

func (w *wireRun) at(share float64) time.Duration {
	if len(w.latency) == 0 {
		return 0
	}
	return w.latency[min(int(share*float64(len(w.latency))), len(w.latency)-1)]
}

// timedSink takes the lines.
type timedSink struct {
	times []int64
	want  []string // by flow%wireKinds
	run   *wireRun
	good  int
	first int64 // when the first flow was sent that has a line
	lines int   // that came while flows were sent
	until int64 // that is this long
}

func (s *timedSink) Write(b []byte) (int, error) {
	now := time.Now().UnixNano()
	for l := range strings.Lines(string(b)) {
		src := strings.Split(between(l, `"src":"`, `"`), ".")
		port, _ := strconv.Atoi(between(l, `"sport":`, ","))
		flow := uint32(port - 1024)
		for i, shift := range []int{24, 16, 8} {
			n, _ := strconv.Atoi(src[i+1])
			flow |= uint32(n) << shift
		}
		if sent := s.times[flow]; sent != 0 {
			s.run.latency = append(s.run.latency, time.Duration(now-sent))
			if s.first == 0 {
				s.first = sent
			}
		}
		if now-s.first < s.until {
			s.lines++
		}
		if between(l, `"label":"`, `"`) == s.want[flow%wireKinds] {
			s.good++
		}
	}
	return len(b), nil
}

// wire sends for a time and measures.
func wire(t *testing.T, m *agent.Model, want []string, packets, rate int, length time.Duration, retire time.Duration) *wireRun {
	t.Helper()
	n := testnet.New(t)
	var ring *afpacket.Ring
	send := n.NewSender(t, testnet.Near)
	n.Do(func() {
		rings, err := afpacket.Open(testnet.Far, 1, afpacket.Options{Promiscuous: true, Retire: retire})
		if err != nil {
			t.Fatal(err)
		}
		ring = rings[0]
	})
	file := filepath.Join(t.TempDir(), "times")
	times, unmap, err := sharedTimes(file)
	if err != nil {
		t.Fatal(err)
	}
	defer unmap()
	out := new(wireRun)
	sink := &timedSink{times: times, want: want, run: out, until: int64(length)}
	ctx, cancel := context.WithCancel(t.Context())
	var said []byte
	go func() {
		defer cancel()
		cmd := exec.Command(os.Args[0], "-test.run=^TestSendFlows$")
		cmd.Env = append(os.Environ(), fmt.Sprintf("NEPCOC_SEND_FLOWS=%s %d %d %v", file, packets, rate, length), "GOMAXPROCS=1")
		fd, err := unix.Dup(send.FD())
		if err != nil {
			t.Error(err)
			return
		}
		socket := os.NewFile(uintptr(fd), "sender")
		defer socket.Close()
		cmd.ExtraFiles = []*os.File{socket}
		if said, err = cmd.Output(); err != nil {
			t.Errorf("sender: %v: %s", err, said)
		}
		time.Sleep(time.Second) // what was sent is on its way
	}()
	used := processor()
	_, r := runAgent(t, ctx, agent.Options{Sources: []capture.Source{ring}, Model: m, Sink: sink, FlowsPerWorker: 1 << 17, Drain: time.Minute})
	spent := processor() - used
	out.cpu, out.each = spent.Seconds()/length.Seconds(), float64(spent)/float64(max(r.Read, 1))
	sent, _ := strconv.ParseUint(string(said), 10, 64)
	done := r.Flow.Joined()
	out.rate, out.lost = float64(sink.lines*packets)/length.Seconds(), 1-float64(done)/float64(max(sent, 1))
	out.right = float64(sink.good) / float64(max(r.Written, 1))
	slices.Sort(out.latency)
	return out
}

// processor is the processor time that this process has taken.
func processor() time.Duration {
	var u unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// From a flow's last packet on the wire to its line: with rings of blocks and of
// frames, in turns, at shares of what the former can do. NEPCOC_LATENCY is how long each run is;
// NEPCOC_BUNDLE a bundle other than a small one.
func TestLatency(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("NEPCOC_LATENCY"))
	if err != nil {
		t.Skip("a benchmark: make bench-latency")
	}
	var b *bundle.Bundle
	if path := os.Getenv("NEPCOC_BUNDLE"); path != "" {
		b = must(bundle.ReadFile(path))
	} else {
		b = testBundle(t, 0, "class")
	}
	m, err := agent.NewModel(b)
	if err != nil {
		t.Fatal(err)
	}
	packets := flowPackets(must(contractOf(b)))
	mem := new(capture.Memory)
	for i := range wireKinds {
		f := wirePacket(nil, uint32(i))
		for range packets {
			mem.Add(&capture.Frame{Data: f, Length: len(f), Link: capture.LinkEthernet, Trust: capture.TrustChecked})
		}
	}
	want := make([]string, wireKinds)
	for _, l := range expected(t, b, mem) {
		port, _ := strconv.Atoi(between(l, `"sport":`, ","))
		want[port-1024] = between(l, `"label":"`, `"`)
	}
	shares := []float64{0.01, 0.5, 0.9}
	forms := []struct {
		name   string
		retire time.Duration
	}{{"blocks, 10 ms", 10 * time.Millisecond}, {"frames", 0}}
	const rounds = 3
	measure := func(name string, rate int) [2]*wireRun {
		var runs [2][]*wireRun
		for range rounds {
			for i, f := range forms {
				runs[i] = append(runs[i], wire(t, m, want, packets, rate, length, f.retire))
			}
		}
		var best [2]*wireRun
		for i := range forms {
			mid := func(of func(*wireRun) float64) float64 {
				var v []float64
				for _, r := range runs[i] {
					v = append(v, of(r))
				}
				slices.Sort(v)
				return v[rounds/2]
			}
			share := func(p float64) time.Duration {
				return time.Duration(mid(func(r *wireRun) float64 { return float64(r.at(p)) })).Round(time.Microsecond)
			}
			r := &wireRun{
				rate: mid(func(r *wireRun) float64 { return r.rate }), lost: mid(func(r *wireRun) float64 { return r.lost }),
				right: mid(func(r *wireRun) float64 { return r.right }), cpu: mid(func(r *wireRun) float64 { return r.cpu }),
				each: mid(func(r *wireRun) float64 { return r.each }),
			}
			best[i] = r
			fmt.Printf("%-8s %-13s %8.0f packets/s  lost %.4f  right %.4f  cpu %.2f  %5.0f ns/packet  p50 %8v  p99 %8v  p99.9 %8v\n",
				name, forms[i].name, r.rate, r.lost, r.right, r.cpu, r.each, share(0.5), share(0.99), share(0.999))
		}
		return best
	}
	fmt.Printf("wire to line, %d packets a flow, medians of %d runs of %v in turns\n", packets, rounds, length)
	full := measure("unpaced", 0)
	for _, share := range shares {
		measure(fmt.Sprintf("%.0f %%", share*100), max(int(share*full[0].rate), 1))
	}
}

// flowPackets is how many packets a flow has until it is decided.
func flowPackets(c traffic.Contract) int {
	enc := must(traffic.NewEncoder(c))
	s := enc.Begin(capture.ProtoUDP)
	buf := make([]byte, enc.BufferSize())
	ip := wirePacket(nil, 0)[14:]
	for n := 1; ; n++ {
		enc.Append(&s, buf, &traffic.Packet{IP: ip, L4: 20, Payload: 28, Proto: capture.ProtoUDP, Size: len(ip) - 28})
		if enc.Full(s) || enc.TokensFull(s) {
			return n
		}
	}
}
