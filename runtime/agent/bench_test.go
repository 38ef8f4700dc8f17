package agent_test

import (
	"io"
	"os"
	"testing"
	"time"

	"nepcoc/internal/testfiles"
	"nepcoc/runtime/agent"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/engine"
	"nepcoc/runtime/flow"
)

// benchBundle is the bundle that $NEPCOC_BUNDLE names, else a random program.
func benchBundle(b *testing.B) *bundle.Bundle {
	b.Helper()
	if path := os.Getenv("NEPCOC_BUNDLE"); path != "" {
		return must(bundle.ReadFile(path))
	}
	return testBundle(b, 0, "class")
}

// loop repeats a capture in memory, each time 10 minutes later, so that all of
// its flows come again.
type loop struct {
	*capture.Memory
	left   int
	offset int64
	last   int64
}

func (l *loop) Next(f *capture.Frame) error {
	err := l.Memory.Next(f)
	if err == io.EOF && l.left > 1 {
		l.left--
		l.offset = l.last + 600e9
		l.Rewind()
		err = l.Memory.Next(f)
		l.offset -= f.Time
	}
	f.Time += l.offset
	l.last = f.Time
	return err
}

// BenchmarkPackets is the whole pipeline, one receiver and one worker, over
// packets of flows that had their verdict long ago: what a link costs without
// inference. The goal is 3 M packets/s per core; both threads count.
func BenchmarkPackets(b *testing.B) {
	m := testModel(b, 0, "class")
	mem := new(capture.Memory)
	const flows, rounds = 1 << 10, 64
	for r := range rounds {
		for i := range flows {
			f := udp(uint32(i), 200)
			mem.Add(&capture.Frame{Data: f, Time: int64(r*flows+i) * 1000, Length: len(f), Link: capture.LinkEthernet})
		}
	}
	b.ReportAllocs()
	var packets uint64
	cpu := testfiles.CPUTime()
	for b.Loop() {
		a, err := agent.New(agent.Options{
			Sources: []capture.Source{&repeat{mem, 20}}, Model: m, FlowsPerWorker: 2 * flows, Sink: io.Discard, Lossless: true,
		})
		if err != nil {
			b.Fatal(err)
		}
		mem.Rewind()
		r, err := a.Run(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		packets += r.Read
	}
	cpu = testfiles.CPUTime() - cpu
	b.ReportMetric(float64(packets)/cpu.Seconds()/1e6, "Mpackets/cpu-s")
	b.ReportMetric(float64(packets)/b.Elapsed().Seconds()/1e6, "Mpackets/s")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(packets), "ns/packet")
}

// repeat is a capture many times over.
type repeat struct {
	*capture.Memory
	left int
}

func (r *repeat) Next(f *capture.Frame) error {
	err := r.Memory.Next(f)
	if err == io.EOF && r.left > 1 {
		r.left--
		r.Rewind()
		err = r.Memory.Next(f)
	}
	return err
}

// BenchmarkFlows compares the pipeline, all of its threads, with the kernels
// alone: flows per second of processor time. The goal is 80 %. With -cpu 1 a core does
// all of it; on several, wake-ups and packets that go from core to core cost, too.
func BenchmarkFlows(b *testing.B) {
	bun := benchBundle(b)
	m, err := agent.NewModel(bun)
	if err != nil {
		b.Fatal(err)
	}
	f, err := capture.Open(testfiles.Root(b) + "/examples/testbed/test.pcap")
	if err != nil {
		b.Fatal(err)
	}
	mem := new(capture.Memory)
	if err := mem.ReadAll(f); err != nil {
		b.Fatal(err)
	}
	f.Close()
	c, err := contractOf(bun)
	if err != nil {
		b.Fatal(err)
	}
	samples, _, err := flow.Collect(mem, c)
	if err != nil {
		b.Fatal(err)
	}
	e, err := engine.Bind(bun.Program, engine.Options{})
	if err != nil {
		b.Fatal(err)
	}
	ctx, out := e.NewContext(), e.NewOutput()
	const rounds = 50
	var kernels, pipeline time.Duration // processor time
	b.ReportAllocs()
	for b.Loop() {
		start := testfiles.CPUTime()
		for range rounds {
			for i := range samples {
				if err := ctx.Run(samples[i].Tokens, samples[i].Valid, out); err != nil {
					b.Fatal(err)
				}
			}
		}
		kernels += testfiles.CPUTime() - start
		mem.Rewind()
		a, err := agent.New(agent.Options{
			Sources: []capture.Source{&loop{Memory: mem, left: rounds}}, Model: m, FlowsPerWorker: 1 << 12, Sink: io.Discard, Lossless: true,
		})
		if err != nil {
			b.Fatal(err)
		}
		start = testfiles.CPUTime()
		r, err := a.Run(b.Context())
		pipeline += testfiles.CPUTime() - start
		if err != nil || r.Flow.Flows != uint64(rounds*len(samples)) {
			b.Fatal(err, r)
		}
	}
	flows := float64(b.N * rounds * len(samples))
	b.ReportMetric(flows/kernels.Seconds(), "kernel-flows/cpu-s")
	b.ReportMetric(flows/pipeline.Seconds(), "pipeline-flows/cpu-s")
	b.ReportMetric(100*kernels.Seconds()/pipeline.Seconds(), "%ofkernels")
}
