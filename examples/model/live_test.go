//go:build linux

package model_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nepcoc/internal/evasion"
	"nepcoc/internal/testnet"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/capture/afpacket"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/verdict"
)

// live runs an agent on the cable's far end within n while talk talks, and for as long as packets take on a busy machine.
func live(t *testing.T, n *testnet.Net, b *bundle.Bundle, threads int, talk func()) []string {
	t.Helper()
	m, err := agent.NewModel(b)
	if err != nil {
		t.Fatal(err)
	}
	var sources []capture.Source
	n.Do(func() {
		rings, err := afpacket.Open(testnet.Far, threads, afpacket.Options{Promiscuous: true, Outgoing: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rings {
			sources = append(sources, r)
		}
	})
	var out bytes.Buffer
	a, err := agent.New(agent.Options{Sources: sources, Model: m, Workers: 2, Format: agent.Formats["json"], Sink: &out, Drain: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		r, err := a.Run(ctx)
		if err == nil && r.Kernel.Dropped+r.QueueDropped > 0 {
			err = fmt.Errorf("packets were dropped: %s", r)
		}
		done <- err
	}()
	talk()
	time.Sleep(500 * time.Millisecond)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(out.String()), "\n")
}

func field(line, name string) string {
	if m := regexp.MustCompile(`"` + name + `":("[^"]*"|[0-9.]+)`).FindStringSubmatch(line); m != nil {
		return strings.Trim(m[1], `"`)
	}
	return ""
}

// testLabels are the labels of the test capture's flows.
func testLabels(t *testing.T) map[string]string {
	t.Helper()
	f, err := os.Open("../testbed/test.csv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{}
	for _, r := range rows {
		labels[fmt.Sprintf("%s:%s-%s:%s", r[1], r[2], r[3], r[4])] = r[6]
	}
	return labels
}

func labelOf(labels map[string]string, f *evasion.Flow) string {
	return labels[f.Key.SrcAddr().String()+"-"+f.Key.DstAddr().String()]
}

// said is what a flow's two sides say in turn.
func said(f *evasion.Flow) (turns [][]byte, sides []int) {
	for _, p := range f.Packets {
		switch n := len(sides); {
		case len(p.Payload) == 0:
		case n > 0 && sides[n-1] == p.Dir:
			turns[n-1] = append(turns[n-1], p.Payload...)
		default:
			turns, sides = append(turns, slices.Clone(p.Payload)), append(sides, p.Dir)
		}
	}
	return turns, sides
}

// Six connections of one 5-tuple one after another, made by ordinary sockets and ended in
// three ways: each gets the verdict of what is said in it.
func TestLiveReuse(t *testing.T) {
	near, far := testnet.Hosts(t)
	b := streamBundle(t)
	labels := testLabels(t)
	all, err := evasion.Load("../testbed/test.pcap", 12, flow.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var flows []*evasion.Flow
	var want []string
	for i := range all {
		f := &all[i]
		label := labelOf(labels, f)
		if f.Packets[0].Proto == capture.ProtoTCP && f.Whole() && label != "" && !slices.Contains(want, label) {
			if turns, _ := said(f); len(turns) > 1 {
				flows, want = append(flows, f), append(want, label)
			}
		}
	}
	if len(flows) < 6 {
		t.Fatalf("%d classes of TCP flows in the test capture", len(flows))
	}
	flows, want = flows[:6], want[:6]

	const port = 8000
	var listener net.Listener
	far.Do(func() {
		if listener, err = net.Listen("tcp4", fmt.Sprintf("%s:%d", testnet.FarAddress, port)); err != nil {
			t.Fatal(err)
		}
	})
	defer listener.Close()
	converse := func(conn net.Conn, me int, f *evasion.Flow) error {
		turns, sides := said(f)
		for i, b := range turns {
			var err error
			if sides[i] == me {
				_, err = conn.Write(b)
			} else {
				_, err = io.ReadFull(conn, make([]byte, len(b)))
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	connection := func(i int) error {
		served := make(chan error, 1)
		go func() {
			conn, err := listener.Accept()
			if err == nil {
				if err = converse(conn, 1, flows[i]); err == nil && i%3 != 2 {
					err = conn.Close() // the server ends it, and remembers it
				} else if err == nil {
					_, err = conn.Read(make([]byte, 1))
					conn.Close()
					if err == io.EOF {
						err = nil
					}
				}
			}
			served <- err
		}()
		var conn net.Conn
		var err error
		near.Do(func() {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(testnet.NearAddress), Port: 40000}, Control: func(_, _ string, c syscall.RawConn) error {
				return c.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
			}}
			conn, err = d.Dial("tcp4", listener.Addr().String())
		})
		if err != nil {
			return err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(time.Minute))
		if err := converse(conn, 0, flows[i]); err != nil {
			return err
		}
		switch i % 3 {
		case 0:
			_, err = conn.Read(make([]byte, 1)) // FIN
			if err == io.EOF {
				err = nil
			}
		case 1: // RST
			conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
		case 2: // half closed first
			err = conn.(*net.TCPConn).CloseWrite()
			conn.Read(make([]byte, 1))
			conn.(*net.TCPConn).SetLinger(0) // as the one who ended it, it would keep the ports for a minute
		}
		if err == nil {
			err = <-served
		}
		return err
	}
	lines := live(t, far, b, 1, func() {
		for i := range flows {
			if err := connection(i); err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
		}
	})
	lines = slices.DeleteFunc(lines, func(l string) bool { return field(l, "dport") != fmt.Sprint(port) })
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(field(a, "time"), field(b, "time")) })
	var got []string
	for _, l := range lines {
		got = append(got, field(l, "label"))
		if field(l, "sport") != "40000" {
			t.Errorf("%s", l)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("verdicts %v, want %v\n%s", got, want, strings.Join(lines, "\n"))
	}
}

// Flows that senders, networks and mirrors have changed give the same lines in the agent as in nepcoc
// run on the same packets, marks and bytes of payload included.
func TestLiveStream(t *testing.T) {
	n := testnet.New(t)
	b := streamBundle(t)
	send := n.NewSender(t, testnet.Near)
	flows, err := evasion.Load("../testbed/test.pcap", 12, flow.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, threads := range []int{1, 2} {
		var frames [][]byte
		for i := range evasion.Transforms {
			tr, done := &evasion.Transforms[i], 0
			if tr.File {
				continue // the agent knows more than a file's reader
			}
			if threads > 1 && (strings.HasPrefix(tr.Name, "fragments") || tr.Name == "ipv4-ah" || tr.Name == "ipv6-atomic") {
				continue // the kernel may give them to another thread than the rest of their flow, which comes first is then chance
			}
			for j := i; j < len(flows) && done < 4; j++ {
				if !tr.Applies(&flows[j]) || !flows[j].Whole() {
					continue
				}
				for _, p := range tr.Run(&flows[j], &flows[(j+7)%len(flows)], uint64(j)) {
					if f := p.Frame(); len(f.Data) <= testnet.MTU+14 {
						frames = append(frames, f.Data)
					}
				}
				done++
			}
			if done == 0 {
				t.Errorf("%s applies to no flow", tr.Name)
			}
		}
		var recorder *afpacket.Ring
		n.Do(func() {
			rings, err := afpacket.Open(testnet.Far, 1, afpacket.Options{Promiscuous: true})
			if err != nil {
				t.Fatal(err)
			}
			recorder = rings[0]
		})
		seen := new(capture.Memory)
		got := live(t, n, b, threads, func() {
			for i, f := range frames {
				if i == len(frames)/2 {
					time.Sleep(800 * time.Millisecond) // timers run out
				}
				if err := send.Send(f); err != nil {
					t.Fatal(err)
				}
				if i%64 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
			var f capture.Frame
			for end := time.Now().Add(time.Minute); seen.Len() < len(frames) && time.Now().Before(end); {
				if recorder.Next(&f) == capture.ErrEmpty {
					recorder.Wait(10 * time.Millisecond)
					continue
				}
				seen.Add(&f)
			}
		})
		recorder.Close()
		if seen.Len() != len(frames) {
			t.Fatalf("%d frames sent, %d recorded", len(frames), seen.Len())
		}
		x, err := classify.Engine(b)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		var marks flow.Marks
		if _, err := classify.New(b, x).Flows(b, seen, false, func(r *verdict.Record) error {
			want = append(want, string(r.AppendJSON(nil)))
			marks |= r.Marks
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if must := flow.MarkRefused | flow.MarkOutside | flow.MarkOverlap | flow.MarkTTL | flow.MarkOptions | flow.MarkReused | flow.MarkUrgent; marks&must != must {
			t.Errorf("marks %v only: the test proves little", marks.Names())
		}
		// Which timer was first may differ, and the recorder's clock is not the wall's.
		strip := func(lines []string) []string {
			for i, l := range lines {
				lines[i] = regexp.MustCompile(`"(time|last)":[0-9.]+,|"reason":"[a-z]+",`).ReplaceAllString(l, "")
			}
			slices.Sort(lines)
			return lines
		}
		got, want = strip(got), strip(want)
		if !slices.Equal(got, want) {
			t.Errorf("%d threads: %d lines, want %d", threads, len(got), len(want))
			for i := 0; i < min(len(got), len(want)); i++ {
				if got[i] != want[i] {
					t.Errorf("\n got %s\nwant %s", got[i], want[i])
					break
				}
			}
		}
	}
}
