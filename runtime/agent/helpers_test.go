package agent_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nepcoc/internal/testbundle"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/traffic"
	"nepcoc/runtime/verdict"
)

// testBundle, bundleOf and testProgram are those of package testbundle.
func testBundle(t testing.TB, number int, prefix string) *bundle.Bundle {
	t.Helper()
	return must(testbundle.New(number, prefix))
}

func bundleOf(t testing.TB, p *bundle.Program, c traffic.Contract, prefix string) *bundle.Bundle {
	t.Helper()
	return must(testbundle.Make(p, c, prefix))
}

func testProgram(t testing.TB, number int) *bundle.Program {
	t.Helper()
	return must(testbundle.Program(number))
}

func testModel(t testing.TB, number int, prefix string) *agent.Model {
	t.Helper()
	m, err := agent.NewModel(testBundle(t, number, prefix))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// expected are the lines that nepcoc run --json prints.
func expected(t testing.TB, b *bundle.Bundle, src capture.Source) []string {
	t.Helper()
	x, err := classify.Engine(b)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	if _, err := classify.New(b, x).Flows(b, src, false, func(r *verdict.Record) error {
		lines = append(lines, string(r.AppendJSON(nil)))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return lines
}

// runAgent runs a pipeline to its end and returns its lines.
func runAgent(t testing.TB, ctx context.Context, o agent.Options) ([]string, *agent.Report) {
	t.Helper()
	var out bytes.Buffer
	if o.Sink == nil {
		o.Sink = &out
	}
	if o.Format == nil {
		o.Format = agent.Formats["json"]
	}
	a, err := agent.New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	r, err := a.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return lines(out.String()), r
}

func lines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

// captures are the files that tests read: ours, and the shared ones where they are.
func captures(t *testing.T) []string {
	list := []string{filepath.Join(testfiles.Root(t), "examples", "testbed", "test.pcap")}
	t.Run("shared", func(t *testing.T) {
		list = append(list, testfiles.Path(t, "traffic", "test.pcap"))
		for _, g := range []string{"captures/*.pcap", "captures/*.pcapng"} {
			list = append(list, testfiles.Glob(t, g)...)
		}
	})
	return list
}

// load reads a whole capture; false if it can't be.
func load(path string) (*capture.Memory, bool) {
	f, err := capture.Open(path)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	m := new(capture.Memory)
	return m, m.ReadAll(f) == nil
}

// udp is a frame with one UDP packet. Its bytes beyond the header are drawn
// from the flow's number.
func udp(flow uint32, size int) []byte {
	b := make([]byte, 14+20+8+size)
	b[12] = 8
	ip := b[14:]
	ip[0] = 0x45
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	ip[8], ip[9] = 64, capture.ProtoUDP
	binary.BigEndian.PutUint32(ip[12:], 10<<24|flow>>8)
	binary.BigEndian.PutUint32(ip[16:], 172<<24|16<<16|1)
	binary.BigEndian.PutUint16(ip[20:], uint16(1024+flow&255))
	binary.BigEndian.PutUint16(ip[22:], 443)
	binary.BigEndian.PutUint16(ip[24:], uint16(8+size))
	x := flow*2654435761 + 1
	for i := range ip[28:] {
		x = x*1664525 + 1013904223
		ip[28+i] = byte(x >> 24)
	}
	return b
}

// generator is a live source of frames that a function makes, until that
// returns an error or Stop is called.
type generator struct {
	next    func(n uint64, f *capture.Frame) error
	n       atomic.Uint64
	stop    atomic.Bool
	pause   atomic.Bool // no frames for now
	clock   int64
	crowded bool
}

func generate(next func(n uint64, f *capture.Frame) error) *generator { return &generator{next: next} }

func (g *generator) Next(f *capture.Frame) error {
	if g.stop.Load() {
		return io.EOF
	}
	if g.pause.Load() {
		return capture.ErrEmpty
	}
	*f = capture.Frame{Link: capture.LinkEthernet}
	if err := g.next(g.n.Load(), f); err != nil {
		return err
	}
	f.Length = len(f.Data)
	g.clock = f.Time
	g.n.Add(1)
	return nil
}

func (g *generator) Wait(d time.Duration) error { time.Sleep(min(d, time.Millisecond)); return nil }
func (g *generator) Crowded() bool              { return g.crowded }
func (g *generator) Stop()                      { g.stop.Store(true) }
func (g *generator) Clock() int64               { return g.clock }
func (g *generator) Close() error               { return nil }
func (g *generator) Stats() (capture.Stats, error) {
	return capture.Stats{Received: g.n.Load()}, nil
}

// contextUntil is a context that is done once something holds.
func contextUntil(t *testing.T, holds func() bool) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for !holds() && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	return ctx, cancel
}
