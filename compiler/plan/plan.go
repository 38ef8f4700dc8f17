package plan

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"nepcoc/backends"
	"nepcoc/internal/plural"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/engine"
	"nepcoc/runtime/flow"
)

// Setup is how an agent is to run.
type Setup struct {
	Cores int
	// Flows is the flow table's size, 0: the agent's default.
	Flows int
	// Apart: the kernel's work on packets is done by other cores than these.
	Apart bool
}

// Range is an estimate and its bounds.
type Range struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// Plan is what a setup can take.
type Plan struct {
	Bundle  string   `json:"bundle"`
	Target  string   `json:"target"`
	Cores   int      `json:"cores"`
	Threads int      `json:"receive_threads"` // to be configured, with so many
	Workers int      `json:"workers"`
	Apart   bool     `json:"kernel_apart"`
	Traffic *Profile `json:"traffic"`
	Costs   *Costs   `json:"costs"`

	// PerFlow is what a flow of the traffic takes of a core, all its packets with it, in us.
	PerFlow Range `json:"per_flow_us"`
	// Flows and Packets are what the cores hold, per second: beyond, packets are dropped.
	Flows   Range   `json:"flows_per_s"`
	Packets Range   `json:"packets_per_s"`
	Gbit    float64 `json:"gbit_per_s"`
	// Busy is the share of the cores that the traffic takes in the mean and in its busiest second.
	Busy     Range `json:"busy_mean"`
	BusyPeak Range `json:"busy_peak"`
	// NeedCores is how many cores the busiest second needs, at most so busy as Comfortable.
	NeedCores Range `json:"cores_needed"`

	Latency Latency `json:"latency"`
	Memory  Memory  `json:"memory"`
	// Drops is what gives way first, in words.
	Drops []string `json:"drops"`
}

// Comfortable is how busy cores may be in a busy second: queues are short until then.
const Comfortable = 0.7

// Latency is the parts of the time from a flow's first packet to its verdict, in us unless said.
type Latency struct {
	// ByPacket is the share of the verdicts that a packet brings about; waiting for that packet takes WaitP50 and WaitP99, in ms. The others wait Timer seconds
	// after their last packet.
	ByPacket float64 `json:"decided_by_packet"`
	WaitP50  float64 `json:"wait_p50_ms"`
	WaitP99  float64 `json:"wait_p99_ms"`
	Timer    float64 `json:"timer_s"`
	// Pickup is until the agent looks into the ring, at most.
	Pickup float64 `json:"pickup_us"`
	// Queue is the mean time behind other packets at the mean rate, QueuePeak in the busiest second; infinite where that is more than the cores hold.
	Queue     float64 `json:"queue_us"`
	QueuePeak float64 `json:"queue_peak_us"`
	// Work is the deciding packet's own, Inference the model's part of it.
	Work      float64 `json:"work_us"`
	Inference float64 `json:"inference_us"`
}

// Memory is what the agent takes, in bytes.
type Memory struct {
	// Table is for Flows flows; Need is how many are in it at once in the busiest seconds, NeedBytes what a table of those takes.
	Flows     int   `json:"flows"`
	Table     int64 `json:"table"`
	Need      int   `json:"flows_needed"`
	NeedBytes int64 `json:"table_needed"`
	Ring      int64 `json:"ring"`
	Queues    int64 `json:"queues"`
	Model     int64 `json:"model"`
	Workers   int64 `json:"workers"`
	All       int64 `json:"all"`
}

// Queues of the agent, per worker: batches of packets in front of it, buffers of lines behind.
const (
	queueBatches = 64
	batchPackets = 128
	packetStruct = 112
	batchLeast   = 64 << 10
	chunks       = 64
	chunkBytes   = 72 << 10
)

// pickup is the pause that the agent makes before it looks into the ring, where many packets come; and the rate at which that is.
const (
	pickupUS   = 100
	pickupRate = 16000
	wakeUS     = 30
)

// New reckons what a setup can take.
func New(b *bundle.Bundle, t *backends.Target, p *Profile, c *Costs, s Setup) (*Plan, error) {
	opt, err := classify.FlowOptions(b)
	if err != nil {
		return nil, err
	}
	describe, err := engine.Describe(b.Program, t.Kernel)
	if err != nil {
		return nil, err
	}
	if s.Flows == 0 {
		s.Flows = flow.DefaultCapacity
	}
	r := &Plan{Bundle: b.Name(), Target: t.Name, Cores: s.Cores, Apart: s.Apart, Traffic: p, Costs: c}
	// A flow's packets, and the frames between them that are no flow's, which are received only.
	frames := p.PacketsPerFlow / (1 - p.Other)
	takes := func(of func(Cost) float64) (t perFlow) {
		t.receive = float64(frames * of(c.Receive))
		t.work = float64(p.PacketsPerFlow*of(c.Packet)) + of(c.Flow) + float64(p.Evaluated*of(c.Inference))
		if t.whole = t.receive + t.work; !s.Apart {
			t.whole += float64(frames * of(c.Kernel))
		}
		return t
	}
	mid, low, high := takes(func(c Cost) float64 { return c.NS }), takes(func(c Cost) float64 { return c.Low }), takes(func(c Cost) float64 { return c.High })
	r.PerFlow = Range{mid.whole / 1e3, low.whole / 1e3, high.whole / 1e3}
	r.Threads, r.Workers = mid.split(s.Cores)
	held := func(t perFlow) float64 { return t.held(s.Cores, r.Threads, r.Workers) }
	r.Flows = Range{held(mid), held(high), held(low)}
	r.Packets = Range{r.Flows.Value * frames, r.Flows.Low * frames, r.Flows.High * frames}
	r.Gbit = r.Packets.Value * (p.BytesPerPacket + 14) * 8 / 1e9
	busy := func(rate float64) Range { return Range{rate / r.Flows.Value, rate / r.Flows.High, rate / r.Flows.Low} }
	peakRate := p.FlowsPerS * p.Peak
	r.Busy, r.BusyPeak = busy(p.FlowsPerS), busy(peakRate)
	need := func(t perFlow) float64 { return t.cores(peakRate / Comfortable) }
	r.NeedCores = Range{need(mid), need(low), need(high)}

	perPacket := c.Receive.NS + c.Packet.NS
	work := perPacket + c.Flow.NS + c.Inference.NS
	r.Latency = Latency{
		ByPacket: p.ByPacket, WaitP50: p.WaitP50, WaitP99: p.WaitP99, Timer: p.Timer, Pickup: wakeUS,
		Work: work / 1e3, Inference: c.Inference.NS / 1e3,
		Queue:     queueing(p.FlowsPerS*p.PacketsPerFlow/float64(r.Workers), 1/p.PacketsPerFlow, perPacket, work, r.Busy.Value) / 1e3,
		QueuePeak: queueing(peakRate*p.PacketsPerFlow/float64(r.Workers), 1/p.PacketsPerFlow, perPacket, work, r.BusyPeak.Value) / 1e3,
	}
	if p.FlowsPerS*frames > pickupRate {
		r.Latency.Pickup = pickupUS
	}

	contract := opt.Encoder.Contract()
	limit := int64(max(contract.PacketBytes(), 40))
	m := &r.Memory
	m.Flows = s.Flows
	m.Table = flow.Memory(opt.Encoder, s.Flows)
	// A decided flow stays until it was idle, so that its other packets are known.
	m.Need = int(min(math.Ceil(peakRate*(p.FlowSeconds+contract.Idle.Seconds())), maxNeed))
	m.NeedBytes = flow.Memory(opt.Encoder, m.Need)
	m.Ring = int64(r.Threads) * ringBytes
	m.Queues = int64(r.Workers) * (queueBatches*(batchPackets*packetStruct+max(limit, min(batchPackets*limit, batchLeast))) + chunks*chunkBytes)
	for i := range b.Program.Tensors {
		m.Model += int64(len(b.Program.Tensors[i].Data))
	}
	m.Workers = int64(r.Workers) * int64(describe.Arena)
	m.All = m.Table + m.Ring + m.Queues + m.Model + m.Workers
	r.drops(contract.Idle.Seconds(), mid)
	return r, nil
}

// perFlow is what a flow takes, in ns: of a receive thread, of a worker, and of all cores together.
type perFlow struct{ receive, work, whole float64 }

// held is how many flows a second so many cores hold with so many threads: none of these has more than a core.
func (t perFlow) held(cores, threads, workers int) float64 {
	return 1e9 * min(float64(cores)/t.whole, float64(threads)/t.receive, float64(workers)/t.work)
}

// split deals cores to receive threads and workers, so that the most flows are held. Both share a single core.
func (t perFlow) split(cores int) (threads, workers int) {
	most := 0.0
	even := int(float64(cores) * t.receive / (t.receive + t.work))
	for _, n := range []int{1, even, even + 1} {
		n = min(max(n, 1), max(cores-1, 1))
		w := max(cores-n, 1)
		if h := t.held(cores, n, w); h > most {
			most, threads, workers = h, n, w
		}
	}
	return threads, workers
}

// cores are how many a rate of flows needs.
func (t perFlow) cores(rate float64) float64 {
	least := math.Max(1, math.Ceil(rate*t.whole/1e9))
	for n := least; n < 1e6; n++ { // beyond, a thread more or less is nothing
		threads, workers := t.split(int(n))
		if t.held(int(n), threads, workers) >= rate {
			return n
		}
	}
	return least
}

// maxNeed bounds the flows that a table is reckoned for: no machine has room for them.
const maxNeed = 1 << 40

// ringBytes is the agent's default.
const ringBytes = 64 << 20

// queueing is the mean wait in ns of packets that come at random at a rate, to one server: Pollaczek's and Khinchin's formula, for packets of
// which a share takes long (those that decide), the others short. Where busy is 1 or more it has no end.
func queueing(perSecond, share, short, long, busy float64) float64 {
	if busy >= 1 {
		return math.Inf(1)
	}
	square := float64(share*long*long) + float64((1-share)*short*short)
	return perSecond / 1e9 * square / (2 * (1 - busy))
}

// drops says what gives way, in the order in which it does.
func (r *Plan) drops(idle float64, t perFlow) {
	say := func(format string, args ...any) { r.Drops = append(r.Drops, fmt.Sprintf(format, args...)) }
	if full := float64(r.Memory.Flows) / (r.Traffic.FlowSeconds + idle); full < r.Flows.Value {
		say("from %s flows/s on the flow table is full: flows are decided before their idle timeout of %.3g s, those of one packet first (--flows)", Figure(full), idle)
	}
	what, then := "the cores are", "packets wait in the ring, then are dropped by the kernel and counted, and their flows marked"
	switch r.Flows.Value {
	case 1e9 * (float64(r.Workers) / t.work):
		what, then = plural.Of(r.Workers, "worker")+" can do no more", "packets wait in front of them, then are dropped and counted, and their flows marked"
	case 1e9 * (float64(r.Threads) / t.receive):
		what = plural.Of(r.Threads, "receive thread") + " can do no more"
	}
	say("from %s flows/s on (%s to %s) %s: %s", Figure(r.Flows.Value), Figure(r.Flows.Low), Figure(r.Flows.High), what, then)
}

// Figure is a number of three digits, without an exponent: estimates have no more.
func Figure(x float64) string {
	if x >= 1000 || x == 0 {
		x, _ = strconv.ParseFloat(strconv.FormatFloat(x, 'e', 2, 64), 64) // always a number
		return fmt.Sprintf("%.0f", x)
	}
	return strings.TrimSuffix(fmt.Sprintf("%.3g", x), ".")
}
