package agent_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nepcoc/internal/randprog"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/refexec"
	"nepcoc/runtime/traffic"
	"nepcoc/runtime/verdict"
)

// testBundle is a bundle of a random program that takes bytes and tells many
// flows apart. Different numbers are different programs; its labels begin with
// the prefix.
func testBundle(t testing.TB, number int, prefix string) *bundle.Bundle {
	t.Helper()
	c, err := traffic.Named("byte")
	if err != nil {
		t.Fatal(err)
	}
	p := testProgram(t, number)
	c.Length = p.Length
	return bundleOf(t, p, c, prefix)
}

func bundleOf(t testing.TB, p *bundle.Program, c traffic.Contract, prefix string) *bundle.Bundle {
	t.Helper()
	b := &bundle.Bundle{Program: p, Manifest: bundle.Manifest{
		Format: bundle.FormatVersion, Tool: "test",
		Model: bundle.Model{File: prefix + ".onnx"}, Target: bundle.Target{Name: "host"},
		Contract: bundle.Contract{YAML: string(c.Canonical()), Hash: c.Hash()},
	}}
	for _, o := range p.Outputs {
		info := bundle.OutputInfo{Name: o.Name}
		for i := range p.Values[o.Value].Cols {
			info.Labels = append(info.Labels, fmt.Sprintf("%s%d", prefix, i))
		}
		b.Manifest.Outputs = append(b.Manifest.Outputs, info)
	}
	x, err := refexec.New(p)
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(3) {
		g := bundle.Golden{}
		g.Tokens, g.Valid = randprog.Input(p, i)
		if g.Logits, err = x.Run(g.Tokens, g.Valid); err != nil {
			t.Fatal(err)
		}
		b.Golden = append(b.Golden, g)
	}
	// As a file would give it: with its digest.
	data, err := bundle.Encode(b, bundle.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if b, err = bundle.Decode(data); err != nil {
		t.Fatal(err)
	}
	return b
}

var programs struct {
	sync.Mutex
	found []*bundle.Program
	seed  uint64
}

// testProgram finds random programs with one output that depends on the tokens.
func testProgram(t testing.TB, number int) *bundle.Program {
	t.Helper()
	programs.Lock()
	defer programs.Unlock()
	for ; len(programs.found) <= number; programs.seed++ {
		p := randprog.New(programs.seed)
		if p.Vocab < 256 || p.Length < 60 || len(p.Outputs) != 1 || len(p.Steps) > 8 {
			continue
		}
		x, err := refexec.New(p)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[int]bool{}
		for i := range uint64(12) {
			tokens, valid := randprog.Input(p, i)
			for k := range tokens {
				tokens[k] %= 256
			}
			logits, err := x.Run(tokens, valid)
			if err != nil {
				t.Fatal(err)
			}
			seen[slices.Index(logits[0], slices.Max(logits[0]))] = true
		}
		if len(seen) >= 3 {
			withScores(p)
			programs.found = append(programs.found, p)
		}
		if programs.seed > 20000 {
			t.Fatal("no random program will do")
		}
	}
	return programs.found[number]
}

// withScores gives a program's output a table of exponentials.
func withScores(p *bundle.Program) {
	const n = 512
	data := make([]byte, 4*n)
	for i := range n {
		binary.LittleEndian.PutUint32(data[4*i:], uint32(math.Round(math.Exp(-float64(i)/64)*(1<<24))))
	}
	o := &p.Outputs[0]
	o.Exp, o.ExpMult, o.ExpShift = len(p.Tensors), 1, 0
	p.Tensors = append(p.Tensors, bundle.Tensor{Name: "exp", DType: bundle.I32, Shape: []int{n}, Data: data})
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
	next  func(n uint64, f *capture.Frame) error
	n     atomic.Uint64
	stop  atomic.Bool
	clock int64
}

func generate(next func(n uint64, f *capture.Frame) error) *generator { return &generator{next: next} }

func (g *generator) Next(f *capture.Frame) error {
	if g.stop.Load() {
		return io.EOF
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
func (g *generator) Stop()                      { g.stop.Store(true) }
func (g *generator) Clock() int64               { return g.clock }
func (g *generator) Close() error               { return nil }
func (g *generator) Stats() (capture.Stats, error) {
	return capture.Stats{Received: g.n.Load()}, nil
}
