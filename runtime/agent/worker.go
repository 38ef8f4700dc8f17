package agent

import (
	"math/bits"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/drift"
	"nepcoc/runtime/explain"
	"nepcoc/runtime/flow"
	"nepcoc/runtime/verdict"
)

// worker owns a shard of the flows: their table, an engine context, and the
// lines that its verdicts become. Nothing of it is shared while it runs.
type worker struct {
	a     *Agent
	in    chan *batch // as long as there are batches: sending never blocks
	free  chan *batch
	spent []*batch // to be freed

	tables []*flow.Table // the last one takes new flows; see adopt
	keys   []tableKey    // of each
	gens   []*generation // by tag, the last one is that of new flows; see generationOf
	done   flow.Counters // of tables that are gone

	trail   *explain.Trail // of the table whose flow is ready; nil unless verdicts are explained
	kept    int            // bytes of packets that wait for a verdict; see keeper
	unknown bool           // the flow that is ready is

	rec   verdict.Record
	lines *chunk
	now   int64 // when the batch in work was received; see Agent.now
	own   workerCounts
	index map[OutputLabel]int // of a label in own.labels

	mu   sync.Mutex
	pub  workerCounts
	lat  latencies
	src  *flow.Sources // as they were at srcAt
	beat atomic.Int64  // when it last finished a batch; see Agent.now
	busy atomic.Int64  // ns spent on batches

	srcAt int64
}

// tableKey is what models that share a table have in common.
type tableKey struct {
	contract string // hash
	active   time.Duration
	scope    flow.Scope
}

// workerName is how metrics and messages name a worker or a receiver.
func workerName(i int) string { return strconv.Itoa(i) }

// generation is a model as one worker uses it. It lives as long as a flow
// that began with it has no verdict, but there are maxModels at most.
type generation struct {
	tag       uint32 // of its latest flows
	model     *Model
	cls       *classify.Classifier
	table     *flow.Table
	heads     []headUse // by output
	drift     *drift.Monitor
	scope     flow.Scope // of its table
	undecided int
}

// headUse is what a worker does with the labels of one output: which raise alerts, and
// where verdicts are counted in workerCounts.labels.
type headUse struct {
	alert []bool
	count []int
	// unknown, none and insufficient are the places of verdicts that name no label.
	unknown, none, insufficient int
}

// workerCounts account for flows and verdicts.
type workerCounts struct {
	flow      flow.Counters
	open      int // flows in tables
	undecided int
	cur       *Model
	models    int // generations alive
	tables    int
	emergency int    // tables in one
	taken     uint64 // packets taken from the queue
	verdicts  uint64 // one per flow and output, but for values
	named     uint64 // those that name a label
	fresh     fresh  // of cur
	withdrawn uint64 // flows left without a verdict since their model was returned from
	abandoned uint64 // flows left without a verdict at the end of the drain
	failed    uint64 // flows that the engine refused
	labels    []labelCount
	alerts    uint64
	marks     [16]uint64 // flows by mark, in the order of bits
	records   uint64     // flows whose verdicts are to be written
	ends      uint64     // flows whose ends are
	events    uint64     // that are of no flow
	noEnds    uint64     // flows that ended without a verdict, or when time was over
	lost      uint64     // lines dropped because the output was behind
}

// fresh are a model's own verdicts: those of enough payload, and the unknown ones among them.
type fresh struct{ verdicts, unknown uint64 }

// OutputLabel is a label of one of a model's outputs. Special are verdicts that name none.
type OutputLabel struct {
	Output, Label string
	Special       Special
}

// Special tells verdicts apart that name no label.
type Special uint8

// The kinds of OutputLabel.
const (
	Named        Special = iota
	Unknown              // the score was below the threshold
	None                 // of any number of labels none reached its threshold
	Insufficient         // the flow held too little payload
)

// labelCount is how many verdicts had a label.
type labelCount struct {
	OutputLabel
	n uint64
}

// latencies are a worker's histograms.
type latencies struct {
	queue     hist // a batch in the queue
	input     hist // making the tokens
	inference hist
	// decision is from the last packet to its verdict where a packet decided,
	// timer where a timeout did: then it includes the waiting.
	decision, timer hist
}

func newWorker(a *Agent, queue int) (*worker, error) {
	w := &worker{
		a: a, in: make(chan *batch, queue), free: make(chan *batch, queue),
		index: map[OutputLabel]int{},
	}
	for range queue {
		w.free <- new(batch)
	}
	if err := w.adopt(a.model.Load()); err != nil {
		return nil, err
	}
	w.publish()
	return w, nil
}

// maxModels bounds the models that a worker holds at once, and maxTables its tables: who keeps flows
// open through changes of the model must not keep all of them in memory.
const maxModels, maxTables = 4, 4

// adopt makes a model the one that new flows begin with. A flow's bytes are
// kept as its contract says, so a model with another contract gets a table of
// its own; the old one stays until its flows have left, or there are too many.
func (w *worker) adopt(m *Model) error {
	view := w.a.view(m)
	key := tableKey{m.contract, view.ActiveTimeout, classify.ScopeOf(&view)}
	w.prune()
	if n := len(w.tables); n == 0 || w.keys[n-1] != key {
		var t *flow.Table
		opt := flow.Options{
			Encoder: m.encoder, Capacity: w.a.opt.FlowsPerWorker, Reserve: true, Active: key.active, Scope: key.scope,
			Told: w.a.told(), Begun: w.begun, Ready: w.ready, Closed: w.closed(), Shed: w.shedding(),
			Emergency: func(on bool) { w.a.emergency(on, t.Sources()) },
		}
		if w.a.opt.Explain {
			w.follow(&opt)
		}
		if w.a.kept != nil {
			w.keep(&opt)
		}
		t, err := flow.New(opt)
		if err != nil {
			return err
		}
		if n > 0 {
			t.Follow(w.tables[n-1], n == maxTables)
		}
		if n == maxTables {
			// The oldest flows finish early, with their own model.
			w.retire(0)
			w.prune()
		}
		w.tables, w.keys = append(w.tables, t), append(w.keys, key)
	}
	g := &generation{model: m, table: w.tables[len(w.tables)-1], scope: key.scope}
	if w.a.opt.Explain {
		x, err := m.explained()
		if err != nil {
			return err
		}
		g.cls = classify.Explained(m.Bundle, x)
	} else {
		g.cls = classify.New(m.Bundle, m.engine.NewContext())
	}
	g.cls.Seed, g.drift = w.a.opt.CommunityIDSeed, w.a.monitor(m)
	if t := w.a.opt.Unknown; t != nil {
		g.cls.SetUnknown(*t)
	}
	if n := len(w.gens); n > 0 {
		g.tag = w.gens[n-1].tag + 1
	}
	for i := range g.cls.Heads {
		h := &g.cls.Heads[i]
		use := headUse{unknown: w.counter(OutputLabel{h.Name, "", Unknown}), none: w.counter(OutputLabel{h.Name, "", None}), insufficient: w.counter(OutputLabel{h.Name, "", Insufficient})}
		for _, l := range h.Labels {
			use.alert = append(use.alert, slices.ContainsFunc(w.a.opt.Alerts, func(a string) bool { return alertsOn(a, h.Name, l) }))
			use.count = append(use.count, w.counter(OutputLabel{h.Name, l, Named}))
		}
		g.heads = append(g.heads, use)
	}
	w.own.fresh = fresh{}
	w.gens = append(w.gens, g)
	w.withdraw()
	if len(w.gens) > maxModels {
		w.merge()
	}
	return nil
}

// follow makes a table remember which packets its flows' tokens are made of.
func (w *worker) follow(opt *flow.Options) {
	trail := explain.NewTrail(opt.Encoder, false)
	opt.Took = trail.Took
	ready, shed := opt.Ready, opt.Shed
	opt.Ready = func(f *flow.Flow) {
		w.trail = trail
		ready(f)
		trail.Drop(f.Seq)
	}
	if shed != nil {
		opt.Shed = func(f *flow.Flow) {
			shed(f)
			trail.Drop(f.Seq)
		}
	}
}

// cur is the generation that new flows begin with.
func (w *worker) cur() *generation { return w.gens[len(w.gens)-1] }

// generationOf is the one that judges a flow: that which it began with or, where that had to leave, the next.
func (w *worker) generationOf(tag uint32) *generation {
	for _, g := range w.gens {
		if int32(g.tag-tag) >= 0 {
			return g
		}
	}
	panic("BUG: a flow of no model")
}

// prune drops the generations that no flow needs.
func (w *worker) prune() {
	w.gens = slices.DeleteFunc(w.gens, func(g *generation) bool { return g.undecided == 0 })
}

// merge drops the oldest generation whose successor has the same table, so that one can judge the
// other's flows. There are fewer tables than generations when it is called.
func (w *worker) merge() {
	for i, g := range w.gens[:len(w.gens)-1] {
		if next := w.gens[i+1]; next.table == g.table {
			next.undecided += g.undecided
			w.gens = slices.Delete(w.gens, i, i+1)
			return
		}
	}
	panic("BUG: more models than tables, and no two in one")
}

// withdraw has flows of a model that was returned from judged by the next one, where that reads the same of them.
func (w *worker) withdraw() {
	m := w.a.probation.withdrawn.Load()
	for i := 0; i+1 < len(w.gens); i++ {
		if g, next := w.gens[i], w.gens[i+1]; g.model == m && next.table == g.table {
			next.undecided += g.undecided
			w.gens = slices.Delete(w.gens, i, i+1)
			i--
		}
	}
}

// shedding is what becomes of flows that go without a verdict; nil where each gets one.
func (w *worker) shedding() func(*flow.Flow) {
	if w.a.opt.Lossless {
		return nil
	}
	return func(f *flow.Flow) {
		w.generationOf(f.Tag).undecided--
		f.Tag = 0
	}
}

// counter is the place of a label's count.
func (w *worker) counter(label OutputLabel) int {
	i, ok := w.index[label]
	if !ok {
		i = len(w.own.labels)
		w.index[label] = i
		w.own.labels = append(w.own.labels, labelCount{OutputLabel: label})
	}
	return i
}

// retire ends a table, and what it still holds.
func (w *worker) retire(i int) {
	w.tables[i].Flush()
	w.done.Add(w.tables[i].Counters())
	w.tables, w.keys = slices.Delete(w.tables, i, i+1), slices.Delete(w.keys, i, i+1)
}

func (w *worker) begun() uint32 {
	g := w.cur()
	g.undecided++
	return g.tag
}

// timersPerBatch bounds the verdicts that timers bring about before a worker
// looks whether packets wait.
const timersPerBatch = 64

// run works until the queue is closed and empty, then gives every flow its
// verdict, as far as there is time.
func (w *worker) run() {
	for b := range w.in {
		start := w.a.now()
		w.batch(b)
		w.busy.Add(w.a.now() - start)
		w.spent = append(w.spent, b)
		// A receiver that waits is woken once for several batches.
		if len(w.spent) >= cap(w.free)/8 || len(w.in) == 0 {
			for _, b := range w.spent {
				w.free <- b
			}
			w.spent = w.spent[:0]
		}
	}
	for _, t := range w.tables {
		// Where time is over, what is left stays without a verdict: active.
		for !w.a.hurried() && t.FlushSome(flushAtOnce) {
			w.publish()
		}
	}
	w.flush()
	w.publish()
}

// flushAtOnce is how many flows a worker ends before it looks at the time.
const flushAtOnce = 256

func (w *worker) batch(b *batch) {
	w.now = b.received
	w.lat.queue.add(time.Duration(w.a.now() - b.received))
	w.renew(b)
	w.lossy(b, true)
	for i := range b.pkts[:b.n] {
		if w.cur().model == w.a.probation.withdrawn.Load() {
			w.renew(b) // it may be too slow for the rest of the batch
		}
		w.packet(&b.pkts[i])
	}
	w.lossy(b, false)
	w.own.taken += uint64(b.n)
	if b.clock != 0 {
		for _, t := range w.tables {
			for t.Advance(b.clock, timersPerBatch) && (w.a.opt.Lossless || len(w.in) == 0) {
			}
		}
		for i := len(w.tables) - 2; i >= 0; i-- {
			if w.tables[i].Open() == 0 {
				w.retire(i)
			}
		}
	}
	// A busy worker fills its lines before it hands them over.
	if b.clock != 0 || len(w.in) == 0 {
		w.flush()
	}
	w.publish()
	w.beat.Store(w.a.now())
}

// renew takes the agent's model, if the batch has what it wants.
func (w *worker) renew(b *batch) {
	// The packets of a new model's flows must have been copied as far as it
	// wants them.
	if m := w.a.model.Load(); m != w.cur().model && b.limit >= copyBytes(m.encoder.Contract()) {
		if err := w.adopt(m); err != nil {
			// Tables have been made with these very options before.
			panic("BUG: " + err.Error())
		}
	}
}

// lossy tells the tables of packets that were lost before a batch or within it.
func (w *worker) lossy(b *batch, on bool) {
	if b.lossy {
		for _, t := range w.tables {
			t.Lossy(on)
		}
	}
}

func (w *worker) packet(p *capture.Packet) {
	last := len(w.tables) - 1
	for i := range last {
		if w.tables[i].Holds(p, w.tables[last]) {
			w.tables[i].Add(p)
			return
		}
	}
	w.tables[last].Add(p)
}

// ready gives a flow its verdict.
func (w *worker) ready(f *flow.Flow) {
	g := w.generationOf(f.Tag)
	f.Tag = 0
	if g.undecided--; g.undecided == 0 && g != w.cur() {
		w.gens = slices.DeleteFunc(w.gens, func(o *generation) bool { return o == g })
	}
	if w.a.hurried() {
		w.own.abandoned++
		return
	}
	if g.model == w.a.probation.withdrawn.Load() {
		w.own.withdrawn++
		return
	}
	start := time.Now()
	if _, err := g.cls.Run(f.Tokens, f.Valid); err != nil {
		w.own.failed++
		w.a.complain("classify", err)
		return
	}
	end := time.Now()
	w.lat.input.add(f.Built)
	w.lat.inference.add(end.Sub(start))
	latency := w.latency(f, end)
	w.rec.FromFlow(f)
	if !w.a.opt.Lossless {
		shift := capture.WallOffset()
		w.rec.First, w.rec.Last = w.rec.First+shift, w.rec.Last+shift
	}
	w.rec.Latency = latency
	g.cls.Fill(&w.rec, false)
	if err := g.cls.Why(&w.rec, f, w.trail); err != nil {
		w.a.complain("explain", err)
	}
	w.rec.Totals = w.a.opt.Totals
	place := 0
	for i := range w.rec.Verdicts {
		v := &w.rec.Verdicts[i]
		place = w.count(v, &g.heads[v.Head])
		if g == w.cur() && !v.Insufficient {
			w.own.fresh.verdicts++
			if v.Unknown {
				w.own.fresh.unknown++
			}
		}
	}
	if len(w.rec.Verdicts) > 1 || w.rec.Verdicts[0].Multi {
		place = noLabel
	}
	f.Tag = endTag(place, w.rec.Alerts() > 0)
	w.emit()
	if w.a.acts != nil {
		w.a.acts.Offer(&w.rec, g.scope, g.model.barred)
	}
	if g.drift != nil && g == w.cur() {
		w.compare(g.model, g.drift)
	}
}

// A decided flow's tag is what its end wants to know of the verdict: the place of its label, where it has one label,
// and whether it raised an alert. 0 is a flow without a verdict.
const noLabel = 1<<30 - 1

func endTag(place int, alerted bool) uint32 {
	tag := uint32(place+1) << 1
	if alerted {
		tag |= 1
	}
	return tag
}

// closed is what is done when a flow has ended, nil where nothing is.
func (w *worker) closed() func(*flow.Flow) {
	if !w.a.opt.Totals {
		return nil
	}
	return func(f *flow.Flow) {
		if f.Tag>>1 == 0 || w.a.hurried() {
			w.own.noEnds++
			return
		}
		w.rec.FromFlow(f)
		if !w.a.opt.Lossless {
			shift := capture.WallOffset()
			w.rec.First, w.rec.Last = w.rec.First+shift, w.rec.Last+shift
		}
		w.rec.Seed = w.a.opt.CommunityIDSeed
		end := verdict.End{Why: f.Ended, Finished: f.Finished, Alerted: f.Tag&1 != 0}
		if place := int(f.Tag>>1) - 1; place != noLabel {
			l := &w.own.labels[place]
			switch end.Label = l.Label; l.Special {
			case Unknown:
				end.Label = verdict.WordUnknown
			case Insufficient:
				end.Label = verdict.WordInsufficient
			}
		}
		w.own.ends++
		w.line(func(b []byte) []byte { return w.rec.AppendEVEEnd(b, &end) })
	}
}

// count adds a verdict to what the metrics show, and marks the labels that raise alerts. It returns the place
// of the label, where it is one.
func (w *worker) count(v *verdict.Verdict, use *headUse) (place int) {
	add := func(at int) { place = at; w.own.labels[at].n++ }
	w.own.verdicts++
	switch {
	case v.Insufficient:
		add(use.insufficient)
	case v.Unknown:
		w.unknown = true
		add(use.unknown)
	case v.Multi && len(v.Given) == 0:
		add(use.none)
	case v.Multi:
		w.own.named++
		for i := range v.Given {
			g := &v.Given[i]
			g.Alert = use.alert[g.Class]
			add(use.count[g.Class])
		}
	default:
		w.own.named++
		v.Alert = use.alert[v.Class]
		add(use.count[v.Class])
	}
	return place
}

// latency is the time from a flow's last packet to its verdict, 0 where that
// has no meaning: a timer's waiting in a replay.
func (w *worker) latency(f *flow.Flow, end time.Time) time.Duration {
	byPacket := f.Reason == flow.ReasonTokens || f.Reason == flow.ReasonPackets || f.Reason == flow.ReasonActive
	switch {
	case w.a.opt.Lossless && !byPacket:
		return 0
	case w.a.opt.Lossless:
		// The capture's times are not of this day.
		d := end.Sub(w.a.start) - time.Duration(w.now)
		w.lat.decision.add(d)
		return d
	}
	d := max(time.Duration(capture.Now()-f.Last), 1)
	if byPacket {
		w.lat.decision.add(d)
	} else {
		w.lat.timer.add(d)
	}
	return d
}

// emit turns the record into its lines.
func (w *worker) emit() {
	for m := w.rec.Marks; m != 0; m &= m - 1 {
		w.own.marks[bits.TrailingZeros16(uint16(m))]++
	}
	w.own.records++
	w.own.alerts += uint64(w.rec.Alerts())
	w.line(func(b []byte) []byte { return w.a.opt.Format(&w.rec, b) })
}

// line appends lines to those on their way out, or drops and counts them where there is no room.
func (w *worker) line(add func([]byte) []byte) {
	if w.lines == nil {
		if w.lines = w.a.out.take(w.a.opt.Lossless); w.lines == nil {
			w.own.lost++
			return
		}
	}
	c := w.lines
	if c.buf == nil {
		c.buf = make([]byte, 0, chunkBytes+chunkBytes/8) // full ones overshoot by a line
	}
	c.buf = append(add(c.buf), '\n')
	c.ends = append(c.ends, len(c.buf))
	if len(c.buf) >= chunkBytes {
		w.flush()
	}
}

// flush hands the lines made so far to the output.
func (w *worker) flush() {
	if w.lines != nil && len(w.lines.ends) > 0 {
		w.a.out.send(w.lines)
		w.lines = nil
	}
}

// sourcesEvery is how often the counts of sources are published.
const sourcesEvery = time.Second

func (w *worker) publish() {
	c := &w.own
	c.flow, c.open, c.undecided, c.emergency = w.done, 0, 0, 0
	for _, t := range w.tables {
		c.flow.Add(t.Counters())
		c.open += t.Open()
		c.undecided += t.Undecided()
		if t.Emergency() {
			c.emergency++
		}
	}
	c.cur, c.models, c.tables = w.cur().model, len(w.gens), len(w.tables)
	w.mu.Lock()
	defer w.mu.Unlock()
	labels := append(w.pub.labels[:0], c.labels...)
	w.pub = *c
	w.pub.labels = labels
	if now := w.a.now(); w.src == nil || now-w.srcAt > int64(sourcesEvery) {
		w.srcAt = now
		w.sources()
	}
}

// sources publishes those of the table that takes new flows.
func (w *worker) sources() {
	if w.src == nil {
		w.src = new(flow.Sources)
	}
	*w.src = *w.tables[len(w.tables)-1].Sources()
}
