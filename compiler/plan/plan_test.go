package plan

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nepcoc/backends"
	"nepcoc/internal/testbundle"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/flow"
)

func testBundle(t *testing.T) *bundle.Bundle {
	t.Helper()
	b, err := testbundle.New(0, "class")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func target(t *testing.T, name string) *backends.Target {
	t.Helper()
	m, err := backends.LookupTarget(name)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-9*math.Max(math.Abs(a), math.Abs(b)) }

// sure is a cost that is known to a tenth.
func sure(ns float64) Cost { return Cost{NS: ns, Low: 0.9 * ns, High: 1.1 * ns} }

var given = Costs{Kernel: sure(1000), Receive: sure(200), Packet: sure(100), Flow: sure(3000), Inference: sure(10000)}

func profile() *Profile {
	return &Profile{Version: 1, FlowsPerS: 10000, Peak: 3, PacketsPerFlow: 10, BytesPerPacket: 486, Evaluated: 1, ByPacket: 0.75, WaitP50: 2, WaitP99: 40, Timer: 120, Tokens: 100, FlowSeconds: 2, Other: 0.2}
}

// A plan is arithmetic on costs: 10 packets of a flow, and 2.5 frames between them that are no flow's.
func TestPlan(t *testing.T) {
	b, p := testBundle(t), profile()
	r, err := New(b, target(t, "bf3"), p, &given, Setup{Cores: 4, Flows: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	perFlow := 12.5*(1000+200) + 10*100 + 3000 + 10000.0 // ns
	same := func(what string, got, want float64) {
		t.Helper()
		if !near(got, want) {
			t.Errorf("%s: %g, want %g", what, got, want)
		}
	}
	same("per flow", r.PerFlow.Value, perFlow/1e3)
	same("at least", r.PerFlow.Low, 0.9*perFlow/1e3)
	same("at most", r.PerFlow.High, 1.1*perFlow/1e3)
	same("flows/s", r.Flows.Value, 4e9/perFlow)
	same("flows/s at least", r.Flows.Low, 4e9/perFlow/1.1)
	same("packets/s", r.Packets.Value, 12.5*4e9/perFlow)
	same("Gbit/s", r.Gbit, 12.5*4e9/perFlow*500*8/1e9)
	same("busy", r.Busy.Value, 1e4*perFlow/4e9)
	same("busy peak", r.BusyPeak.Value, 3e4*perFlow/4e9)
	same("cores", r.NeedCores.Value, math.Ceil(3e4*perFlow/1e9/0.7))
	same("work", r.Latency.Work, 13.3)
	same("inference", r.Latency.Inference, 10)
	if r.Latency.WaitP50 != 2 || r.Latency.WaitP99 != 40 || r.Latency.ByPacket != 0.75 || r.Latency.Timer != 120 {
		t.Errorf("waits %+v", r.Latency)
	}
	// By Pollaczek and Khinchin, with a tenth of the packets long.
	square := 0.1*13300*13300 + 0.9*300*300
	same("queue", r.Latency.Queue, 1e4*10/3/1e9*square/(2*(1-r.Busy.Value))/1e3)
	opt, err := classify.FlowOptions(b)
	if err != nil {
		t.Fatal(err)
	}
	idle := opt.Encoder.Contract().Idle.Seconds()
	same("flows at once", float64(r.Memory.Need), math.Ceil(3e4*(2+idle)))
	m := &r.Memory
	if m.Table != flow.Memory(opt.Encoder, 1<<20) || m.NeedBytes != flow.Memory(opt.Encoder, m.Need) || m.Ring != 64<<20 || m.All != m.Table+m.Ring+m.Queues+m.Model+m.Workers {
		t.Errorf("memory %+v", m)
	}
	if len(r.Drops) != 2 || !strings.Contains(r.Drops[0], Figure((1<<20)/(2+idle))+" flows/s") || !strings.Contains(r.Drops[1], "the cores are") {
		t.Errorf("%q", r.Drops)
	}
	// The kernel's part on other cores; a table that is large enough; fewer evaluated flows.
	p.Evaluated = 0.5
	r, err = New(b, target(t, "bf3"), p, &given, Setup{Cores: 1, Flows: flow.MaxCapacity, Apart: true})
	if err != nil {
		t.Fatal(err)
	}
	perFlow = 12.5*200 + 10*100 + 3000 + 5000
	same("apart", r.PerFlow.Value, perFlow/1e3)
	if len(r.Drops) != 1 {
		t.Errorf("%q", r.Drops)
	}
	if r.BusyPeak.Value < 0.1 || r.Threads != 1 {
		t.Errorf("%+v", r)
	}
	// Beyond what the cores hold a queue has no end.
	p.FlowsPerS = 1e6
	if r, err = New(b, target(t, "bf3"), p, &given, Setup{Cores: 1}); err != nil || !math.IsInf(r.Latency.Queue, 1) || r.Memory.Flows != flow.DefaultCapacity {
		t.Errorf("%+v, %v", r, err)
	}
}

// What is held is what the threads that are to be configured can do: a worker has no more than a core, however idle another one is.
func TestThreads(t *testing.T) {
	b, p := testBundle(t), profile()
	p.Other = 0
	for _, tc := range []struct {
		name               string
		cores              int
		receive, inference float64 // of a packet, and of a flow, which has 10 packets
		threads, workers   int
		flows              float64
		gives              string
	}{
		{"one core for both", 1, 200, 10000, 1, 1, 1e9 / 16000, "the cores are"},
		{"one worker of two cores", 2, 200, 10000, 1, 1, 1e9 / 14000, "1 worker can do no more"},
		{"fifteen of sixteen", 16, 50, 10000, 1, 15, 15e9 / 14000, "15 workers can do no more"},
		{"receiving is most", 2, 2000, 1000, 1, 1, 1e9 / 20000, "1 receive thread can do no more"},
		{"three of four", 4, 2000, 1000, 3, 1, 3e9 / 20000, "3 receive threads can do no more"},
		{"half and half", 8, 1400, 10000, 4, 4, 4e9 / 14000, ""},
	} {
		c := given
		c.Receive, c.Inference = sure(tc.receive), sure(tc.inference)
		r, err := New(b, target(t, "bf3"), p, &c, Setup{Cores: tc.cores, Flows: flow.MaxCapacity, Apart: true})
		if err != nil {
			t.Fatal(err)
		}
		if r.Threads != tc.threads || r.Workers != tc.workers || !near(r.Flows.Value, tc.flows) || !near(r.Flows.Low, tc.flows/1.1) || !strings.Contains(r.Drops[len(r.Drops)-1], tc.gives) {
			t.Errorf("%s: %d threads, %d workers, %+v, %q", tc.name, r.Threads, r.Workers, r.Flows, r.Drops)
		}
		// As many as are needed hold it, and one less does not.
		for _, rate := range []float64{1, 0.999 * tc.flows, 7 * tc.flows} {
			n := (perFlow{10 * tc.receive, 10*100 + 3000 + tc.inference, 10*tc.receive + 10*100 + 3000 + tc.inference}).cores(rate)
			holds := func(cores int) bool {
				r, err := New(b, target(t, "bf3"), p, &c, Setup{Cores: cores, Apart: true})
				return err == nil && r.Flows.Value >= rate
			}
			if !holds(int(n)) || n > 1 && holds(int(n)-1) {
				t.Errorf("%s: %g flows/s need %g cores", tc.name, rate, n)
			}
		}
	}
}

// What was measured here becomes a target's costs: its own as they are, others' by the cost model, each within its bounds.
func TestCosts(t *testing.T) {
	b, p := testBundle(t), profile()
	m := &measured{kernels: "avx2", receive: 100, packet: 70, flow: 3000, inference: 12000, tokens: 100, spread: 0.2, ring: &ring{take: 160, copying: 600, whole: 2000}}
	host, err := costsFrom(b, target(t, "host"), p, m, "flows")
	if err != nil {
		t.Fatal(err)
	}
	if host.Receive.NS != 160 || host.Kernel.NS != 1300 || host.Kernel.Low != 600 || host.Kernel.High != 2000 || host.Packet.NS != 70 || host.Flow.NS != 3000 || host.Inference.NS != 12000 || host.Inference.Low > 12000*0.81 {
		t.Errorf("%+v", host)
	}
	for _, name := range []string{"host", "bf3", "bf2"} {
		tg := target(t, name)
		c, err := costsFrom(b, tg, p, m, "flows")
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range []Cost{c.Kernel, c.Receive, c.Packet, c.Flow, c.Inference} {
			if !(k.Low > 0 && k.Low < k.NS && k.NS < k.High) || k.Why == "" || (k.Source == Measured) != (name == "host") {
				t.Errorf("%s: %+v", name, k)
			}
		}
		if name == "host" {
			continue
		}
		h := target(t, "host")
		slower := tg.Cost.Step / tg.GHz * h.GHz / h.Cost.Step
		if !near(c.Flow.NS, 3000*slower) || !near(c.Flow.Low, host.Flow.Low*slower*scaleLow) || !near(c.Flow.High, host.Flow.High*slower*scaleHigh) || !near(c.Inference.NS, 1e3*estimate(b, tg, p.Tokens)) || c.Kernels != tg.Kernel {
			t.Errorf("%s: %+v", name, c)
		}
	}
	// A machine so busy that rounds differ by more than they take: bounds are wide, and above 0.
	busy := *m
	busy.spread = 2.3
	if c, err := costsFrom(b, target(t, "bf3"), p, &busy, "flows"); err != nil || !(c.Flow.Low > 0 && c.Receive.Low > 0 && c.Packet.Low > 0) || c.Flow.High < 3*c.Flow.NS {
		t.Errorf("%+v, %v", c, err)
	}
	// Without the right to measure the receive path that is said, and the bounds are wide.
	m.ring, m.wrong = nil, os.ErrPermission
	c, err := costsFrom(b, target(t, "host"), p, m, "flows")
	if err != nil || len(c.Notes) != 1 || c.Kernel.Source != Estimated || c.Kernel.High < 3*c.Kernel.Low || c.Receive.High < 2*c.Receive.Low {
		t.Errorf("%+v, %v", c, err)
	}
	// A profile of longer flows than were measured: inference by the cost model's proportion.
	p.Tokens = 128
	if c, err := costsFrom(b, target(t, "host"), p, m, "flows"); err != nil || !(c.Inference.NS > 12000) {
		t.Errorf("%+v, %v", c, err)
	}
}

func open(t *testing.T) capture.Source {
	src, err := capture.Open(filepath.Join(testfiles.Root(t), "examples", "testbed", "test.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	return src
}

// A capture's shape is what a flow table counts of it; its file reads back, and holds nothing but figures.
func TestProfile(t *testing.T) {
	b := testBundle(t)
	seen := 0
	p, err := OfCapture(open(t), b, func(n int) { seen = n })
	if err != nil {
		t.Fatal(err)
	}
	opt, err := classify.FlowOptions(b)
	if err != nil {
		t.Fatal(err)
	}
	samples, n, err := flow.CollectAll(open(t), opt)
	if err != nil {
		t.Fatal(err)
	}
	tokens, byPacket := 0.0, 0
	for i := range samples {
		tokens += float64(samples[i].Valid)
		if r := samples[i].Reason; r == flow.ReasonTokens || r == flow.ReasonPackets {
			byPacket++
		}
	}
	flows := float64(len(samples))
	if p.Flows != len(samples) || !near(p.PacketsPerFlow, 2095/flows) || !near(p.BytesPerPacket, float64(n.Bytes)/2095) || !near(p.Tokens, tokens/flows) || !near(p.ByPacket, float64(byPacket)/flows) ||
		p.Other != 0 || !(p.Short > 0 && p.Short < 1) || !(p.Peak > 1) || !near(p.FlowsPerS*p.Seconds, flows) || seen != 0 {
		t.Errorf("%+v of %d flows", p, len(samples))
	}
	data, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "p.yaml")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := ReadProfile(path)
	if err != nil {
		t.Fatal(err)
	}
	if is, err := IsProfile(path); !is || err != nil {
		t.Error("it is not told for a profile", err)
	}
	if twice, err := again.Encode(); err != nil || !bytes.Equal(twice, data) {
		t.Errorf("%v\n%s\n%s", err, data, twice)
	}
	for _, kv := range strings.Split(strings.TrimSpace(string(data)), "\n")[1:] {
		if name, value, _ := strings.Cut(kv, ": "); name != "contract" && strings.Trim(value, "0123456789.e-") != "" {
			t.Errorf("%s is no figure", kv)
		}
	}
	// Each field that is missing or wild is named.
	for _, tc := range [][2]string{{"flows_per_s: ", "flows_per_s: -1 #"}, {"packets_per_flow: ", "packets_per_flow: .nan #"}, {"nepco_profile: 1", "nepco_profile: 9"}, {"tokens: ", "token: "}, {"peak_over_mean: ", "peak_over_mean: 0.5 #"}} {
		bad := strings.Replace(string(data), tc[0], tc[1], 1)
		if err := os.WriteFile(path, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		field, _, _ := strings.Cut(tc[1], ":")
		if _, err := ReadProfile(path); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), field) {
			t.Errorf("%q: %v", tc[1], err)
		}
	}
	if _, err := OfCapture(new(capture.Memory), b, nil); err == nil {
		t.Error("a profile of nothing")
	}
}

// The busiest second is found wherever it lies.
func TestPeak(t *testing.T) {
	var begun []int64
	for i := range int64(100) {
		begun = append(begun, i*1e8) // ten a second
	}
	for range 30 {
		begun = append(begun, 5.55e9)
	}
	slices.Reverse(begun)
	if got := peak(begun, 13); !near(got, 40.0/13) {
		t.Errorf("%g times the mean", got)
	}
	if got := peak([]int64{0}, 0.1); got != 1 {
		t.Errorf("%g times the mean", got)
	}
}

// A measurement gives a cost for everything, from a capture as from a profile; how much is the machine's.
func TestMeasure(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	b := testBundle(t)
	p, err := OfCapture(open(t), b, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, from := range []func() (capture.Source, error){func() (capture.Source, error) { return open(t), nil }, nil} {
		c, err := CostsOf(b, target(t, "host"), p, from, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range []Cost{c.Kernel, c.Receive, c.Flow, c.Inference} {
			if !(k.NS > 1 && k.NS < 1e8 && k.Low <= k.NS && k.NS <= k.High) {
				t.Errorf("%+v", k)
			}
		}
		if (c.Kernel.Source == Measured) != (len(c.Notes) == 0) {
			t.Errorf("%+v", c)
		}
	}
}

// The tape keeps what is sent, with its times.
func TestTape(t *testing.T) {
	tape := &taped{at: 1000, mem: new(capture.Memory)}
	tape.Sleep(5 * time.Microsecond)
	if n, lost, err := tape.Send([][]byte{{1}, {2, 3}}); n != 2 || lost != nil || err != nil {
		t.Fatal(n, lost, err)
	}
	var f capture.Frame
	if tape.mem.Next(&f); f.Time != 6000 || tape.mem.Len() != 2 || tape.Now() != 5*time.Microsecond {
		t.Errorf("%+v", f)
	}
}

// A profile as version 1 wrote it is read as it was meant. It is never written anew: who plans elsewhere may have it from an older version.
func TestStoredProfile(t *testing.T) {
	p, err := ReadProfile("testdata/profile1.yaml")
	want := Profile{Version: 1, Contract: "5d3b9c41a07e", FlowsPerS: 812.4, Peak: 3.1, PacketsPerFlow: 42.5, BytesPerPacket: 733, Short: 0.25, Evaluated: 0.75, ByPacket: 0.6, WaitP50: 12.5, WaitP99: 850,
		Timer: 118, Tokens: 101.5, FlowSeconds: 4.25, Other: 0.02, Flows: 48744, Seconds: 60}
	if err != nil || *p != want {
		t.Errorf("%+v, %v", p, err)
	}
}

// The most that a profile can say is reckoned with, too: no figure of memory turns round.
func TestPlanOfExtremes(t *testing.T) {
	p := profile()
	p.FlowsPerS, p.Peak, p.FlowSeconds = 1e9, 1e6, 1e7
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	r, err := New(testBundle(t), target(t, "bf3"), p, &given, Setup{Cores: 1})
	if err != nil || r.Memory.Need != maxNeed || r.Memory.NeedBytes < maxNeed {
		t.Errorf("%+v, %v", r.Memory, err)
	}
}
