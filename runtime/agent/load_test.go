package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"nepcoc/runtime/agent"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/verdict"
)

// onePacket is a test bundle whose flows are decided by their first packet: what
// its verdict must be does not depend on which packets were lost.
func onePacket(t testing.TB, number int, prefix string) *bundle.Bundle {
	t.Helper()
	c, err := contractOf(testBundle(t, number, prefix))
	if err != nil {
		t.Fatal(err)
	}
	c.Packets = 1
	return bundleOf(t, testProgram(t, number), c, prefix)
}

// answers are the labels that a bundle gives to the flows of udp, by source
// address and port.
func answers(t testing.TB, b *bundle.Bundle, flows, packets, size int) map[string]string {
	t.Helper()
	mem := new(capture.Memory)
	for i := range flows {
		f := udp(uint32(i), size)
		for range packets {
			mem.Add(&capture.Frame{Data: f, Length: len(f), Link: capture.LinkEthernet})
		}
	}
	return labelsOf(t, expected(t, b, mem))
}

func labelsOf(t testing.TB, lines []string) map[string]string {
	t.Helper()
	m := map[string]string{}
	for _, l := range lines {
		var v struct {
			Src, Label string
			Sport      int
		}
		if err := json.Unmarshal([]byte(l), &v); err != nil {
			t.Fatal(err)
		}
		m[v.Src+":"+strconv.Itoa(v.Sport)] = v.Label
	}
	return m
}

// memory is the process's resident set in bytes; 0 where it can't be known.
func memory() (resident uint64) {
	data, _ := os.ReadFile("/proc/self/status")
	for l := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(l, "VmRSS:"); ok {
			n, _ := strconv.ParseUint(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return n << 10
		}
	}
	return 0
}

// heap is the memory in use after a collection.
func heap() uint64 {
	runtime.GC()
	debug.FreeOSMemory()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

// atRest is the memory in use while an agent has nothing to do and nothing is
// left of the models before the one it has. Traffic must be coming: that is
// what makes old flows leave. It is the same every time, to some kB, so that
// small leaks show.
func atRest(t testing.TB, a *agent.Agent, src *generator) uint64 {
	t.Helper()
	until := func(what string, reached func(*agent.Report) bool) {
		t.Helper()
		for end := time.Now().Add(3 * time.Minute); !reached(a.Report()); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Errorf("3 minutes later there still are %s: %+v", what, a.Report())
				return
			}
		}
	}
	until("older models", func(r *agent.Report) bool { return r.Models == 1 && r.Tables == 1 })
	src.pause.Store(true)
	defer src.pause.Store(false)
	until("packets or records under way", func(r *agent.Report) bool {
		return src.n.Load() == r.Flow.Joined()+r.QueueDropped && r.Records == r.Written+r.OutputDropped
	})
	return heap()
}

// grown fails a test where memory grows by more than a bound from the first half
// of the samples to the second. What comes and goes adds to some samples; what
// stays is in the least of them.
func grown(t testing.TB, heaps []uint64, bound uint64) {
	t.Helper()
	n := len(heaps)
	if early, late := slices.Min(heaps[:n/2]), slices.Min(heaps[n/2:]); late > early+bound {
		t.Errorf("memory grew by %d kB: %d", (late-early)>>10, heaps)
	}
}

// duration is how long a test loads the agent: short, or NEPCOC_SOAK.
func duration(t testing.TB, short time.Duration) time.Duration {
	if s := os.Getenv("NEPCOC_SOAK"); s != "" {
		d, err := time.ParseDuration(s)
		if err != nil {
			t.Fatalf("NEPCOC_SOAK: %v", err)
		}
		return d
	}
	return short
}

// Beyond what it can do, the agent drops packets, counts every one, uses no
// more memory, and is still right about the flows that it classifies.
func TestOverload(t *testing.T) {
	b := onePacket(t, 0, "class")
	m, err := agent.NewModel(b)
	if err != nil {
		t.Fatal(err)
	}
	const flows, size = 1 << 14, 40
	want := answers(t, b, flows, 1, size)
	frames := make([][]byte, flows)
	for i := range frames {
		frames[i] = udp(uint32(i), size)
	}
	length := duration(t, 2*time.Second)
	half, end := time.Now().Add(length/2), time.Now().Add(length)
	var first, last uint64
	src := generate(func(n uint64, f *capture.Frame) error {
		if n%4096 == 0 {
			now := time.Now()
			if now.After(end) && n > 1<<17 { // far more than the workers take in that time, also where the machine stood still
				return io.EOF
			}
			last = memory()
			if now.Before(half) {
				first = last
			}
		}
		// Every flow's timer has run out when it comes again.
		f.Data, f.Time = frames[n%flows], int64(n)*1e7
		return nil
	})
	src.crowded = true
	check := &checker{want: want}
	_, r := runAgent(t, t.Context(), agent.Options{
		Sources: []capture.Source{src}, Model: m, Workers: 2, FlowsPerWorker: 1 << 12, Queue: 4, Sink: check, Drain: time.Minute,
		Format: func(r *verdict.Record, b []byte) []byte {
			time.Sleep(600 * time.Microsecond)
			return r.AppendJSON(b)
		},
	})
	check.report(t)
	if r.QueueDropped == 0 || r.Read != src.n.Load() {
		t.Errorf("no overload: %s", r)
	}
	if first != 0 && last > first+32<<20 {
		t.Errorf("memory grew from %d MB to %d MB", first>>20, last>>20)
	}
	t.Logf("%s; %d MB", r, last>>20)
}

// checker is a sink that compares each line with what it must say.
type checker struct {
	want  map[string]string
	wrong int
	first string
	lines int
}

func (c *checker) Write(b []byte) (int, error) {
	for l := range strings.Lines(string(b)) {
		c.lines++
		src := between(l, `"src":"`, `"`) + ":" + between(l, `"sport":`, ",")
		if got := between(l, `"label":"`, `"`); c.want[src] != got {
			if c.wrong++; c.wrong == 1 {
				c.first = "want " + c.want[src] + ": " + l
			}
		}
	}
	return len(b), nil
}

func (c *checker) report(t *testing.T) {
	t.Helper()
	if c.wrong > 0 || c.lines == 0 {
		t.Errorf("%d of %d verdicts wrong: %s", c.wrong, c.lines, c.first)
	}
}

func between(s, from, to string) string {
	_, s, _ = strings.Cut(s, from)
	s, _, _ = strings.Cut(s, to)
	return s
}

// A sink that takes nothing costs lines, which are counted, but no packets; and
// the drain ends in time.
func TestBlockedSink(t *testing.T) {
	m := testModel(t, 0, "class")
	block := make(chan bool)
	defer close(block)
	ctx, cancel := context.WithCancel(t.Context())
	src := generate(func(n uint64, f *capture.Frame) error {
		if n == 200_000 {
			cancel()
			return capture.ErrEmpty
		}
		if n%100 == 99 {
			time.Sleep(10 * time.Microsecond)
		}
		f.Data, f.Time = udp(uint32(n), 128), int64(n)
		return nil
	})
	a, err := agent.New(agent.Options{
		Sources: []capture.Source{src}, Model: m, Sink: sinkFunc(func(b []byte) (int, error) { <-block; return len(b), nil }),
		Chunks: 2, Drain: 200 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	// It returns while the sink takes nothing; how soon is the machine's.
	r, err := a.Run(ctx)
	if r.Read != 200_000 || r.OutputDropped == 0 {
		t.Errorf("%s (%v)", r, err)
	}
	// Two chunks are neither written nor lost; the counts balance with them, and they are named as not written. On a slow machine the
	// drain may also end before the last flows had their verdict, which is said before.
	if err != nil || r.Waiting == 0 || r.Lost() == nil || !strings.Contains(r.Lost().Error(), fmt.Sprint(r.OutputDropped+r.Waiting, " of ")) {
		t.Errorf("%d records wait: %v, %v", r.Waiting, err, r.Lost())
	}
}

type sinkFunc func(b []byte) (int, error)

func (f sinkFunc) Write(b []byte) (int, error) { return f(b) }

// A sink that fails is tried again with every chunk, and what it did not take
// is counted.
func TestFailingSink(t *testing.T) {
	mem, _ := load(captures(t)[0])
	n := 0
	_, r := runAgent(t, t.Context(), agent.Options{
		Sources: []capture.Source{mem}, Model: testModel(t, 0, "class"), Lossless: true,
		Sink: sinkFunc(func(b []byte) (int, error) {
			if n++; n%2 == 1 {
				return 0, errors.New("disk full")
			}
			return len(b), nil
		}),
	})
	if r.OutputFailed == 0 || r.OutputFailed+r.Written != r.Records {
		t.Error(r)
	}
}

// A million flows at once fit into a gigabyte, all of the process counted.
func TestMillionFlows(t *testing.T) {
	if testing.Short() {
		t.Skip("takes memory")
	}
	const flows = 1 << 20
	ctx, cancel := context.WithCancel(t.Context())
	frame := udp(0, 1)
	src := generate(func(n uint64, f *capture.Frame) error {
		if n >= 2*flows {
			return capture.ErrEmpty
		}
		flow := uint32(n % flows)
		ip := frame[14:]
		ip[13], ip[14], ip[15] = byte(flow>>24), byte(flow>>16), byte(flow>>8)
		ip[21] = byte(flow)
		f.Data, f.Time = frame, int64(n)*1000
		return nil
	})
	debug.FreeOSMemory()
	// At least the bytes per flow of the default contract, which keeps 264.
	b := testBundle(t, 0, "class")
	c, err := contractOf(b)
	if err != nil {
		t.Fatal(err)
	}
	c.Packets = max(5, (264-c.Length+1)/2)
	b = bundleOf(t, testProgram(t, 0), c, "class")
	a, err := agent.New(agent.Options{
		Sources: []capture.Source{&slow{src, flows}}, Model: must(agent.NewModel(b)), Workers: 2, FlowsPerWorker: flows/2 + flows/8,
		Sink: io.Discard, Drain: time.Millisecond, Queue: 64, Lossless: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	var open, resident uint64
	go func() {
		defer cancel()
		for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
			if r := a.Report(); r.Read >= 2*flows {
				open, resident = uint64(r.Undecided), memory()
				return
			}
		}
	}()
	r, err := a.Run(ctx)
	if err != nil {
		t.Error(err)
	}
	if open < flows*99/100 {
		t.Errorf("%d flows at once, want %d: %s", open, flows, r)
	}
	if resident > 1<<30 {
		t.Errorf("%d MB", resident>>20)
	}
	t.Logf("%d flows, %d MB resident; %s", open, resident>>20, r)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// slow pauses a generator now and then, so that workers keep up.
type slow struct {
	*generator
	total uint64
}

func (s *slow) Next(f *capture.Frame) error {
	if n := s.n.Load(); n%512 == 511 {
		time.Sleep(100 * time.Microsecond)
	}
	return s.generator.Next(f)
}

// The soak: flows come, get verdicts and go, while models change; memory and
// goroutines stay as they are. 2 s by itself, NEPCOC_SOAK=10m for as long.
func TestSoak(t *testing.T) {
	models := []*agent.Model{testModel(t, 0, "a"), testModel(t, 1, "b")}
	frames := make([][]byte, 1<<14)
	for i := range frames {
		frames[i] = udp(uint32(i), 60)
	}
	length := duration(t, 2*time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	src := generate(func(n uint64, f *capture.Frame) error {
		if n%512 == 511 {
			time.Sleep(500 * time.Microsecond)
		}
		// Every flow comes again when it has left the table.
		f.Data, f.Time = frames[n%uint64(len(frames))], int64(n)*1e7
		return nil
	})
	a, err := agent.New(agent.Options{Sources: []capture.Source{src}, Model: models[0], Workers: 2, FlowsPerWorker: 1 << 14, Sink: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	var heaps []uint64
	var goroutines []int
	const least = 10 // samples, however long a slow machine takes for them
	var wg sync.WaitGroup
	wg.Go(func() {
		defer cancel()
		for end := time.Now().Add(length); time.Now().Before(end) || len(heaps) < least; {
			for _, m := range []*agent.Model{models[1], models[0]} {
				time.Sleep(length / 40)
				a.Swap(m)
			}
			h := atRest(t, a, src)
			if t.Failed() {
				return
			}
			// Tables and queues take memory until every flow has come a few times.
			if src.n.Load() > uint64(4*len(frames)) {
				heaps, goroutines = append(heaps, h), append(goroutines, runtime.NumGoroutine())
			}
		}
	})
	r, err := a.Run(ctx)
	wg.Wait()
	if err != nil {
		t.Error(err)
	}
	if t.Failed() {
		return
	}
	grown(t, heaps, 64<<10)
	if n := len(goroutines); slices.Max(goroutines[n/2:]) > slices.Max(goroutines[:n/2]) {
		t.Errorf("goroutines %v", goroutines)
	}
	t.Logf("%d samples, heap %d -> %d kB; %s", len(heaps), heaps[0]>>10, heaps[len(heaps)-1]>>10, r)
}
