package plan

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"time"

	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/drift"
	"nepcoc/runtime/engine"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/load"
	"nepcoc/runtime/traffic"
	"nepcoc/runtime/verdict"
)

// measured is what things cost on this machine, in nanoseconds of a core.
type measured struct {
	kernels string
	// receive is to decode a packet that lies in memory and hand it over, packet to join it to its flow, flow what a flow costs beside its packets and the model: a place in
	// the table, tokens, the event and its writing.
	receive, packet, flow float64
	// inference is the model's on a flow, of so many tokens in the mean.
	inference, tokens float64
	spread            float64 // of flow and packets between rounds, as a share
	ring              *ring   // nil where packets can't be captured
	wrong             error   // why not
}

// ring is what a packet costs from an interface's queue to the agent.
type ring struct {
	take float64 // out of the ring, decoded and handed over, in place of receive
	// copying is the kernel's cost of putting it there, whole that of sending it over the loopback and all the way up.
	copying, whole float64
}

// The extent of a measurement: flows are sent through in rounds, as many as there is time for.
const (
	roundFlows   = 8192
	roundPackets = 200000
	roundBytes   = 64 << 20
	measureFor   = 900 * time.Millisecond
	leastRound   = 3
	// liveRate is the rate of the flows among each other, so that as many are open at a time as on a busy link: a flow's packets don't find it
	// in the first cache.
	liveRate = 30000
)

// synthetic is a capture of datagrams of a profile's shape, for where no capture is given.
func synthetic(p *Profile) capture.Source {
	m := new(capture.Memory)
	packets := int(max(1, math.Round(p.PacketsPerFlow)))
	size := min(max(int(p.BytesPerPacket), 28), 1500)
	const kinds = 256
	for i := range kinds {
		// As few packets as make a flow, the whole of which is what the profile says: the rest is reckoned.
		for k := range min(packets, 16) {
			m.Add(datagram(uint32(i), size, k, int64(i)*1e6+int64(k)*1e5))
		}
	}
	return m
}

// datagram is a packet of a flow between two hosts.
func datagram(n uint32, size, k int, at int64) *capture.Frame {
	b := make([]byte, 14+size)
	b[12] = 8
	ip := b[14:]
	ip[0], ip[8], ip[9] = 0x45, 64, capture.ProtoUDP
	binary.BigEndian.PutUint16(ip[2:], uint16(size))
	src, dst := ip[12:16], ip[16:20]
	ports := [2]uint16{uint16(1024 + n), 443}
	if k%2 == 1 {
		src, dst = dst, src
		ports[0], ports[1] = ports[1], ports[0]
	}
	binary.BigEndian.PutUint32(src, 10<<24|n)
	binary.BigEndian.PutUint32(dst, 11<<24|n)
	binary.BigEndian.PutUint16(ip[20:], ports[0])
	binary.BigEndian.PutUint16(ip[22:], ports[1])
	binary.BigEndian.PutUint16(ip[24:], uint16(size-20))
	x := n*2654435761 + uint32(k)
	for i := range ip[28:] {
		x = x*1664525 + 1013904223
		ip[28+i] = byte(x >> 24)
	}
	sum := uint32(0)
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(ip[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(ip[10:], ^uint16(sum+sum>>16))
	return &capture.Frame{Data: b, Length: len(b), Time: 1e18 + at, Link: capture.LinkEthernet}
}

// taped is a load.Wire and load.Clock that keeps what is sent, with its times.
type taped struct {
	now time.Duration
	mem *capture.Memory
	at  int64 // when it begins
}

func (t *taped) Now() time.Duration    { return t.now }
func (t *taped) Sleep(d time.Duration) { t.now += max(d, 1) }
func (t *taped) Send(frames [][]byte) (int, []int, error) {
	for _, f := range frames {
		t.mem.Add(&capture.Frame{Data: f, Length: len(f), Time: t.at + int64(t.now), Link: capture.LinkEthernet, Trust: capture.TrustChecked})
	}
	return len(frames), nil, nil
}

// rig is the agent's packet path in one thread.
type rig struct {
	cls   *classify.Classifier
	table *flow.Table
	front flow.Front
	drift *drift.Monitor
	sink  io.Writer
	wrong error

	limit   int
	idle    time.Duration
	now     int64 // the next capture may begin then
	batch   []capture.Packet
	data    []byte
	lines   []byte
	rec     verdict.Record
	infer   []float64 // ns
	tokens  float64
	receive time.Duration
	rest    time.Duration
	packets int
}

const (
	rigBatch = 128
	rigLines = 64 << 10
)

func newRig(b *bundle.Bundle, e *engine.Engine, sink io.Writer) (*rig, error) {
	opt, err := classify.FlowOptions(b)
	if err != nil {
		return nil, err
	}
	c := opt.Encoder.Contract()
	r := &rig{cls: classify.New(b, e.NewContext()), sink: sink, limit: max(c.PacketBytes(), 40), idle: c.Idle, now: 1e18, batch: make([]capture.Packet, 0, rigBatch)}
	r.drift, _ = drift.New(b, classify.Labels(b), drift.Defaults) // nil where the bundle knows no traffic
	r.data = make([]byte, 0, rigBatch*r.limit)
	opt.Ready = r.ready
	opt.Capacity, opt.Reserve = flow.DefaultCapacity, true
	in := new(flow.Counters)
	if r.table, err = flow.New(opt); err != nil {
		return nil, err
	}
	r.front = flow.Front{
		Deal: r.deal, Count: func(capture.Kind) {}, Unread: in, Tunnels: opt.Tunnels,
		Hosts: c.Accept == traffic.AcceptHosts, Limit: max(r.limit, 1536),
	}
	return r, nil
}

// deal copies a packet as the agent's receiver does.
func (r *rig) deal(p *capture.Packet) {
	at, size := len(r.data), min(r.limit, len(p.IP))
	if len(r.batch) == cap(r.batch) || cap(r.data)-at < size {
		r.work()
		at = 0
	}
	r.data = append(r.data, p.IP[:size]...)
	q := *p
	q.IP = r.data[at : at+size : at+size]
	r.batch = append(r.batch, q)
}

// work gives the batch to the table.
func (r *rig) work() {
	begin := threadTime()
	for i := range r.batch {
		r.table.Add(&r.batch[i])
	}
	r.packets += len(r.batch)
	r.batch, r.data = r.batch[:0], r.data[:0]
	r.rest += threadTime() - begin
}

func (r *rig) ready(f *flow.Flow) {
	start := time.Now()
	if _, err := r.cls.Run(f.Tokens, f.Valid); err != nil {
		r.wrong = err
		return
	}
	took := time.Since(start)
	r.infer = append(r.infer, float64(took))
	r.tokens += float64(f.Valid)
	r.rec.FromFlow(f)
	r.rec.Latency = took
	r.cls.Fill(&r.rec, false)
	r.lines = append(r.rec.AppendEVE(r.lines), '\n')
	if len(r.lines) >= rigLines {
		if _, err := r.sink.Write(r.lines); err != nil {
			r.wrong = err
		}
		r.lines = r.lines[:0]
	}
	if r.drift != nil {
		r.drift.Add(&r.rec)
	}
}

// run takes a capture, which begins at r.now, and ends all of its flows.
func (r *rig) run(mem *capture.Memory) error {
	mem.Rewind()
	r.receive, r.rest, r.packets, r.tokens, r.infer = 0, 0, 0, 0, r.infer[:0]
	var f capture.Frame
	begin := threadTime()
	for mem.Next(&f) == nil {
		r.front.Frame(&f)
	}
	r.receive = threadTime() - begin - r.rest
	r.work()
	begin = threadTime()
	r.now = f.Time + int64(r.idle) + 1e9
	for range 2 { // a verdict, then the end
		for r.table.Advance(r.now, 1<<20) {
		}
		r.now += int64(r.idle) + 1e9
	}
	r.rest += threadTime() - begin
	return r.wrong
}

// measure finds out what packets, flows and inferences cost here, in a second or two, in one thread. Processor time is counted, not
// the clock's: what else the machine does costs less than it would.
func measure(b *bundle.Bundle, script *load.Script, size int, progress func(stage string)) (*measured, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	e, err := engine.Bind(b.Program.Judged(), engine.Options{})
	if err != nil {
		return nil, err
	}
	sink, done := scratchSink()
	defer done()
	r, err := newRig(b, e, sink)
	if err != nil {
		return nil, err
	}
	m := &measured{kernels: e.KernelPath()}
	progress("measuring flows")
	perFlow := script.Packets()
	var receive, rest, infer []float64
	bytes := 0
	for i := range script.Flows {
		bytes += script.Flows[i].Bytes()
	}
	flows := max(1, min(roundFlows, roundPackets/perFlow, roundBytes*float64(len(script.Flows))/float64(bytes)))
	next := uint32(0)
	for end, round := time.Now().Add(measureFor), 0; round < leastRound+1 || time.Now().Before(end) && round < 1<<10; round++ {
		tape := &taped{at: r.now, mem: new(capture.Memory)}
		sent, err := script.Run(context.Background(), load.Rate{Flows: liveRate, Length: time.Duration(flows / liveRate * 1e9)}, next, tape, tape)
		if err != nil {
			return nil, err
		}
		next += uint32(sent.Flows)
		if err := r.run(tape.mem); err != nil {
			return nil, err
		}
		if round == 0 || len(r.infer) == 0 {
			continue // it warmed up
		}
		n := float64(len(r.infer))
		model := trimmed(r.infer)
		receive = append(receive, float64(r.receive)/float64(r.packets))
		infer = append(infer, model)
		rest = append(rest, float64(r.rest)/float64(sent.Flows)-model*n/float64(sent.Flows))
		m.tokens = r.tokens / n
	}
	m.receive, m.inference = median(receive), median(infer)
	whole := median(rest)
	if whole > 0 {
		m.spread = (quantile(rest, 0.9) - quantile(rest, 0.1)) / 2 / whole
	}
	progress("measuring packets")
	if m.packet, err = packetCost(r, size); err != nil {
		return nil, err
	}
	m.packet = min(m.packet, whole/perFlow) // the rest is what a flow costs
	m.flow = whole - float64(m.packet*perFlow)
	progress("measuring the receive path")
	m.ring, m.wrong = measureRing(r, size)
	return m, nil
}

// packetCost is what a packet costs whose flow has had its verdict: flows of many packets, less the same of few.
func packetCost(r *rig, size int) (float64, error) {
	const flows, few, many = 512, 16, 64
	var per []float64
	for range 5 {
		var took [2]float64
		for i, n := range [2]int{few, many} {
			mem := new(capture.Memory)
			for k := range n {
				for f := range flows {
					d := datagram(uint32(f), min(max(size, 28), 1500), k, 0)
					d.Time = r.now + int64(k)*1e6 + int64(f)
					d.Trust = capture.TrustChecked
					mem.Add(d)
				}
			}
			if err := r.run(mem); err != nil {
				return 0, err
			}
			took[i] = float64(r.rest) - float64(trimmed(r.infer)*float64(len(r.infer)))
		}
		per = append(per, (took[1]-took[0])/(flows*(many-few)))
	}
	return max(median(per), 0), nil
}

// trimmed is the mean without the hundredth part that took longest, in which something else ran.
func trimmed(x []float64) float64 {
	x = slices.Clone(x)
	slices.Sort(x)
	x = x[:len(x)-len(x)/100]
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum / float64(max(len(x), 1))
}

func median(x []float64) float64 { return quantile(x, 0.5) }

func quantile(x []float64, q float64) float64 {
	if len(x) == 0 {
		return 0
	}
	x = slices.Clone(x)
	slices.Sort(x)
	return x[int(q*float64(len(x)-1))]
}

// modelCheck says how far the cost model is from what is measured here, on a kernel path that it has figures for.
func modelCheck(b *bundle.Bundle, kernel string, tokens int) (us float64, err error) {
	e, err := engine.Bind(b.Program, engine.Options{Kernel: kernel})
	if err != nil {
		return 0, err
	}
	ctx, out := e.NewContext(), e.NewOutput()
	in := make([]int32, b.Program.Length+b.Program.Sides)
	for i := range tokens {
		in[i] = int32(i*7919) % int32(b.Program.Vocab)
	}
	var all []float64
	for end := time.Now().Add(150 * time.Millisecond); time.Now().Before(end) || len(all) < 20; {
		start := time.Now()
		if err := ctx.Run(in, tokens, out); err != nil {
			return 0, fmt.Errorf("the cost model's check: %w", err)
		}
		all = append(all, float64(time.Since(start))/1e3)
	}
	return median(all), nil
}
