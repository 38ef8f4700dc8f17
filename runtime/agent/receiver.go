package agent

import (
	"errors"
	"io"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"nepcoc/runtime/capture"
	"nepcoc/runtime/flow"
)

// receiver is one receive thread: it takes frames from a source, decodes them
// in place and deals the packets out to the workers, both directions of a flow
// to the same one.
type receiver struct {
	a      *Agent
	src    capture.Source
	live   capture.Live // src, if it is one
	front  flow.Front
	open   []*batch // by worker, being filled
	late   []bool   // by worker: it has used up its patience
	losses []bool   // by worker: packets were lost since its latest batch was begun
	timer  *time.Timer
	ticked time.Time
	own    receiverCounts // since the last publish

	mu   sync.Mutex
	pub  receiverCounts
	beat atomic.Int64 // its last sign of life; see Agent.now
	// reached: every packet before this time is with its worker; 0 where that is not known. See Agent.reached.
	reached atomic.Int64
}

// receiverCounts account for the frames that a receiver has read.
type receiverCounts struct {
	read  uint64
	bytes uint64 // on the wire
	kinds [capture.NumKinds]uint64
	// noRoom are packets dropped because their worker had no batch free.
	noRoom uint64
	// held are the fragments that wait for others now.
	held uint64
	// unread has only what Counters.Unread counts.
	unread flow.Counters
}

// How long a receiver waits for packets before it looks around, and how often
// it tells workers the time.
const (
	waitTime = 50 * time.Millisecond
	tickTime = 100 * time.Millisecond
)

func newReceiver(a *Agent, src capture.Source) *receiver {
	r := &receiver{a: a, src: src, open: make([]*batch, len(a.workers)), late: make([]bool, len(a.workers)), losses: make([]bool, len(a.workers)), timer: time.NewTimer(time.Hour)}
	r.timer.Stop()
	if r.live, _ = src.(capture.Live); r.live == nil {
		r.src = capture.Confirm(src)
	}
	r.front = flow.Front{Deal: r.deal, Count: func(k capture.Kind) { r.own.kinds[k]++ }, Unread: &r.own.unread, Seed: a.shards}
	return r
}

// run takes frames until the source ends.
func (r *receiver) run() error {
	var f capture.Frame
	for {
		if r.live == nil && r.a.stopping.Load() {
			r.end()
			return nil
		}
		switch err := r.src.Next(&f); {
		case err == nil:
			r.frame(&f)
			if r.own.read == publishEvery {
				r.publish()
				if r.live != nil {
					r.tick()
				}
			}
		case errors.Is(err, capture.ErrEmpty):
			r.flush()
			r.tick()
			// A worker that was given something runs here and now, instead of on
			// a thread that has to be woken, which takes as long as a verdict.
			runtime.Gosched()
			if err := r.live.Wait(waitTime); err != nil {
				r.end()
				return err
			}
		default:
			if r.live == nil {
				// Timers that ran out before the end did so for every worker.
				r.front.Advance(f.Time)
				r.tell(f.Time)
			}
			r.end()
			if err == io.EOF {
				return nil
			}
			return err
		}
	}
}

// publishEvery bounds how far the counters lag behind on a busy source.
const publishEvery = 4096

func (r *receiver) frame(f *capture.Frame) {
	r.own.read++
	r.own.bytes += uint64(f.Length)
	if f.Lossy {
		r.lost()
	}
	r.front.Tunnels, r.front.Hosts = r.a.tunnels.Load(), r.a.hosts.Load()
	r.front.Limit = max(int(r.a.copyBytes.Load()), heldBytes)
	r.front.Frame(f)
}

// lost tells all workers that packets were dropped before they came here.
func (r *receiver) lost() {
	for w := range r.losses {
		r.losses[w] = true
		if b := r.open[w]; b != nil {
			b.lossy = true
		}
	}
}

// heldBytes are kept of a held fragment at least: the model may have changed for
// one that wants more of a packet by the time that the fragment joins its flow.
const heldBytes = 1536

// deal hands a packet to the worker of its flow.
func (r *receiver) deal(p *capture.Packet) {
	w := 0
	if n := len(r.open); n > 1 {
		key, _ := flow.KeyOf(p).Canonical()
		w = key.Shard(r.a.shards, n)
	}
	if b := r.open[w]; b != nil {
		if b.add(p) {
			return
		}
		r.send(w)
	}
	if !r.take(w, true) {
		r.own.noRoom++
		r.losses[w] = true
		return
	}
	r.open[w].add(p)
}

// take opens an empty batch for a worker, waiting for one if it may; see await.
// It reports false if there is none.
func (r *receiver) take(w int, wait bool) bool {
	var b *batch
	free := r.a.workers[w].free
	select {
	case b = <-free:
	default:
		if !wait {
			return false
		}
		if b = r.await(w); b == nil {
			return false
		}
	}
	if len(free) >= cap(free)/2 {
		r.late[w] = false
	}
	b.reset(int(r.a.copyBytes.Load()))
	b.received = r.a.now()
	b.lossy, r.losses[w] = r.losses[w], false
	r.open[w] = b
	return true
}

// await waits for a batch: as long as it takes where the source can wait, else
// for patience, while the source has room for what comes meanwhile. A worker
// that is late for longer than that gets no more patience until half of its
// queue is empty again, since all others wait with it.
func (r *receiver) await(w int) *batch {
	free := r.a.workers[w].free
	if r.a.opt.Lossless {
		select {
		case b := <-free:
			return b
		case <-r.a.hurry:
			return nil
		}
	}
	if r.late[w] {
		return nil
	}
	defer r.timer.Stop()
	for waited := time.Duration(0); waited < patience && !r.crowded(); waited += patienceStep {
		r.timer.Reset(patienceStep)
		select {
		case b := <-free:
			return b
		case <-r.timer.C:
		}
	}
	r.late[w] = true
	return nil
}

// crowded tells whether the source is about to lose packets.
func (r *receiver) crowded() bool { return r.live != nil && r.live.Crowded() }

// patience is how long a live source's packets pile up in its own ring, which
// is larger than any queue here, before they are dropped: a worker that gets no
// processor on a busy machine costs no packets, and one that can't keep up does
// not make verdicts of the others later than this. patienceStep is how
// often the ring is looked at; half of the default holds 25 ms of 10 Gbit/s.
const (
	patience     = time.Second
	patienceStep = 5 * time.Millisecond
)

// send hands the open batch to its worker. There is always room: a queue is as
// long as there are batches.
func (r *receiver) send(w int) {
	r.a.workers[w].in <- r.open[w]
	r.open[w] = nil
}

// end is the end of the intake: no fragment waits for another any more.
func (r *receiver) end() {
	r.front.Flush()
	r.flush()
	r.reached.Store(math.MaxInt64)
}

func (r *receiver) flush() {
	for w, b := range r.open {
		if b != nil {
			r.send(w)
		}
	}
	r.publish()
}

// tick tells every worker the time, so that timers run while no packet comes.
func (r *receiver) tick() {
	now := time.Now()
	if now.Sub(r.ticked) < tickTime {
		return
	}
	r.ticked = now
	if clock := r.live.Clock(); clock != 0 {
		r.front.Advance(clock)
		r.tell(r.a.reached(r, clock))
		r.reached.Store(clock)
	}
}

// tell sends what there is to every worker, and with it the time, where that is known.
func (r *receiver) tell(clock int64) {
	for w := range r.open {
		if r.open[w] == nil && clock == 0 {
			continue
		}
		// In a live capture, a worker without a free batch is busy; it hears the time later.
		if r.open[w] == nil && !r.take(w, r.a.opt.Lossless) {
			continue
		}
		r.open[w].clock = clock
		r.send(w)
	}
}

func (r *receiver) publish() {
	r.own.held = r.front.Held()
	r.mu.Lock()
	r.pub.add(&r.own)
	r.mu.Unlock()
	r.own = receiverCounts{}
	r.beat.Store(r.a.now())
}

func (r *receiver) counts() receiverCounts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pub
}

func (c *receiverCounts) add(o *receiverCounts) {
	c.read += o.read
	c.bytes += o.bytes
	c.noRoom += o.noRoom
	c.held = o.held
	c.unread.Add(&o.unread)
	for i := range c.kinds {
		c.kinds[i] += o.kinds[i]
	}
}
