//go:build linux

package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"nepcoc/internal/testfiles"
	"nepcoc/internal/testnet"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/capture/afpacket"
	"nepcoc/runtime/flow"
)

// line is what two records of one flow have in common, whenever it was seen.
type line struct {
	Proto, Src, Dst, Label string
	Sport, Dport, Tokens   int
	Score, Margin          float64
	Packets, Bytes         [2]int
}

// A capture on a cable gives the verdicts of nepcoc run on the file, flow for
// flow.
func TestCable(t *testing.T) {
	m := testModel(t, 0, "class")
	for _, path := range captures(t) {
		mem, ok := load(path)
		if !ok || !carried(mem) {
			continue // a file that can't be read, or frames that a cable can't carry
		}
		t.Run(filepath.Base(filepath.Dir(path))+"/"+filepath.Base(path), func(t *testing.T) {
			frames, renamed := replayable(t, mem)
			want := commonLines(t, expected(t, m.Bundle, renamed))
			for _, threads := range []int{1, 2} {
				got, r := replay(t, m, frames, threads)
				if r.Kernel.Dropped+r.QueueDropped != 0 || r.Read != uint64(len(frames)) {
					t.Fatalf("%d frames sent: %s", len(frames), r)
				}
				if !slices.Equal(commonLines(t, got), want) {
					t.Errorf("%d threads: %s", threads, difference(commonLines(t, got), want))
				}
			}
		})
	}
}

// carried tells whether an Ethernet cable can carry a capture's frames.
func carried(mem *capture.Memory) bool {
	var f capture.Frame
	defer mem.Rewind()
	for mem.Next(&f) == nil {
		if f.Link != capture.LinkEthernet || len(f.Data) < 14 || len(f.Data) > testnet.MTU+14 {
			return false
		}
	}
	return mem.Len() > 0
}

// replayable are the frames to send, and the same as a capture. On a cable the
// frames of days follow each other in a second, so flows that the capture's
// pauses kept apart would be joined (no capture has such flows with fragments): the n-th flow of a 5-tuple gets n added to
// its addresses' first byte. Contracts blank addresses, so verdicts don't change.
func replayable(t *testing.T, mem *capture.Memory) ([][]byte, *capture.Memory) {
	t.Helper()
	defer mem.Rewind()
	type seen struct {
		n    int
		last int64
	}
	flows := map[flow.Key]*seen{}
	out := new(capture.Memory)
	var frames [][]byte
	var f capture.Frame
	var p capture.Packet
	for mem.Next(&f) == nil {
		b := slices.Clone(f.Data)
		f.Data = b
		if kind := capture.Decode(&f, &p); kind == capture.KindOK && !p.Fragment {
			k, _ := flow.KeyOf(&p).Canonical()
			s := flows[k]
			if s == nil {
				s = &seen{last: f.Time}
				flows[k] = s
			}
			if f.Time-s.last > 120e9 {
				s.n++
			}
			s.last = f.Time
			if s.n > 0 {
				src, dst := p.Src(), p.Dst()
				src[0], dst[0] = src[0]+byte(s.n), dst[0]+byte(s.n)
			}
		}
		out.Add(&f)
		frames = append(frames, b)
	}
	return frames, out
}

// commonLines are the comparable parts of JSON lines, sorted. A verdict that
// came by a timer in the one run may have come by another in the other, with
// the same packets.
func commonLines(t *testing.T, lines []string) []string {
	t.Helper()
	var out []string
	for _, l := range lines {
		var v line
		if err := json.Unmarshal([]byte(l), &v); err != nil {
			t.Fatalf("%v: %s", err, l)
		}
		out = append(out, fmt.Sprintf("%+v", v))
	}
	slices.Sort(out)
	return out
}

// sees waits until an agent has read, or the kernel has dropped, so many packets: on a busy machine they arrive some time after they were sent, and an agent
// that is stopped before never sees them.
func sees(t *testing.T, a *agent.Agent, packets uint64) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Millisecond) {
		r := a.Report()
		if r.Read+r.Kernel.Dropped >= packets {
			return
		}
		if time.Now().After(end) {
			t.Errorf("%d packets were sent: %s", packets, r)
			return
		}
	}
}

// replay sends frames over a cable to an agent.
func replay(t *testing.T, m *agent.Model, frames [][]byte, threads int) ([]string, *agent.Report) {
	t.Helper()
	n := testnet.New(t)
	send := n.NewSender(t, testnet.Near)
	var sources []capture.Source
	n.Do(func() {
		rings, err := afpacket.Open(testnet.Far, threads, afpacket.Options{Promiscuous: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rings {
			sources = append(sources, r)
		}
	})
	var out bytes.Buffer
	a := must(agent.New(agent.Options{Sources: sources, Model: m, Workers: 2, Sink: &out, Format: agent.Formats["json"], Drain: time.Minute}))
	defer a.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		for i, f := range frames {
			if i%256 == 0 {
				sees(t, a, uint64(i)) // no faster than it reads
			}
			if err := send.Send(f); err != nil {
				t.Error(err)
				return
			}
		}
		sees(t, a, uint64(len(frames)))
	}()
	r, err := a.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return lines(out.String()), r
}

// What tcpreplay can send here arrives without loss, through capture, flow
// table and inference, with the defaults. It runs for as long as NEPCOC_SOAK
// says; by itself the test sends some tens of thousands of packets.
//
// A machine that keeps the agent from its work while tcpreplay goes on loses packets: then it is tried again.
func TestTopSpeed(t *testing.T) {
	tcpreplay := testfiles.Tool(t, "tcpreplay")
	const tries = 8
	for try := 1; ; try++ {
		r := topSpeed(t, tcpreplay)
		if r.Kernel.Dropped+r.QueueDropped == 0 {
			return
		}
		if try == tries {
			t.Fatalf("packets were lost in each of %d tries; in the last: %s", tries, r)
		}
		t.Logf("try %d: %s", try, r)
	}
}

// topSpeed is one try; no packet is unaccounted for in any.
func topSpeed(t *testing.T, tcpreplay string) *agent.Report {
	t.Helper()
	n := testnet.New(t)
	// Like the daemon, the interface comes last: nothing else is done while
	// packets wait.
	m := testModel(t, 0, "class")
	var sources []capture.Source
	n.Do(func() {
		rings, err := afpacket.Open(testnet.Far, 1, afpacket.Options{Promiscuous: true})
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, rings[0])
	})
	args := []string{"-q", "-K", "--topspeed", "--loop", "30"}
	if length := duration(t, 0); length > 0 {
		args = []string{"-q", "-K", "--topspeed", "--loop", "0", "--duration", strconv.Itoa(int(length.Seconds()))}
	}
	a := must(agent.New(agent.Options{Sources: sources, Model: m, Sink: io.Discard, Drain: time.Minute}))
	defer a.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var said []byte
	var sent uint64
	go n.Do(func() {
		defer cancel()
		var err error
		args = append(args, "-i", testnet.Near, filepath.Join(testfiles.Root(t), "examples", "testbed", "test.pcap"))
		if said, err = exec.Command(tcpreplay, args...).CombinedOutput(); err != nil {
			t.Errorf("tcpreplay: %v: %s", err, said)
			return
		}
		if match := regexp.MustCompile(`Actual: (\d+) packets`).FindSubmatch(said); match != nil {
			sent, _ = strconv.ParseUint(string(match[1]), 10, 64)
			sees(t, a, sent)
		}
	})
	r, err := a.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if sent == 0 {
		t.Fatalf("tcpreplay says %s", said)
	}
	if r.Read+r.Kernel.Dropped != sent {
		t.Errorf("%d packets sent: %s", sent, r)
	}
	t.Logf("%s%s", regexp.MustCompile(`(?s)Actual.*pps`).Find(said), r)
	return r
}

// An interface that goes down while it is captured from is a problem by name, as is one whose other end does, and is none
// when it is up again; one that is removed ends the agent.
func TestLink(t *testing.T) {
	n := testnet.New(t)
	var sources []capture.Source
	n.Do(func() {
		rings, err := afpacket.Open(testnet.Far, 2, afpacket.Options{})
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, rings[0], rings[1])
	})
	a, err := agent.New(agent.Options{Sources: sources, Model: testModel(t, 0, "class"), Sink: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	ended := make(chan error)
	go func() { _, err := a.Run(t.Context()); ended <- err }()
	for _, step := range []struct{ do, want string }{
		{"set far down", "interface far is down: ip link set far up"},
		{"set far up", ""},
		{"set near down", "interface far has no carrier"},
		{"set near up", ""},
	} {
		n.Do(func() {
			if out, err := exec.Command("ip", strings.Fields("link "+step.do)...).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %s", step.do, err, out)
			}
		})
		var h agent.Health
		good := func() bool {
			if step.want == "" {
				return h.Status == "ok" && h.Problems == nil
			}
			return h.Status == "degraded" && len(h.Problems) == 1 && strings.HasPrefix(h.Problems[0], step.want)
		}
		for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			if h = a.Health(); good() || time.Now().After(end) {
				break
			}
		}
		if !good() {
			t.Errorf("%s: %+v", step.do, h)
		}
	}
	n.Do(func() { exec.Command("ip", "link", "del", testnet.Near).Run() })
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "removed") {
		t.Errorf("an interface that is gone: %v", err)
	}
}
