package load

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"runtime"
	"time"
)

// Clock is the time that a run goes by.
type Clock interface {
	// Now is the time since any moment, Sleep ends a little before or after d has passed.
	Now() time.Duration
	Sleep(d time.Duration)
}

// Wire takes frames. It returns how many of them it took, and how many of those were lost on the way out; less than all
// of them where the next can't be sent now.
type Wire interface {
	Send(frames [][]byte) (taken int, lost []int, err error)
}

// Rate is how flows are sent.
type Rate struct {
	Flows   float64 // begun each second
	Poisson bool    // at random, independent of each other; else each as long after the other
	Length  time.Duration
	Seed    uint64 // of the random times
}

// Sent is what a run has done.
type Sent struct {
	// First is the number of the first instance, Flows how many were begun; the flow of instance First+i is that of
	// the script's number i modulo their number.
	First   uint32 `json:"first"`
	Flows   int    `json:"flows"`
	Packets int    `json:"packets"`
	Bytes   int64  `json:"bytes"`
	// Failed are packets that the system refused, FailedFlows their flows, by i.
	Failed      int          `json:"failed_packets"`
	FailedFlows map[int]bool `json:"-"`
	// Took is from the first packet to the last, Behind the part of it that the sender could not keep up in.
	Took   time.Duration `json:"-"`
	Behind time.Duration `json:"-"`
}

// Bounds of a run: frames that are handed over at once, and how late one may be before what is to follow moves on, so
// that nothing is made up for by a burst.
const (
	batchFrames = 64
	maxLate     = 2 * time.Millisecond
)

// active is a flow that has more packets to be sent.
type active struct {
	due  time.Duration
	i    int // of the run
	next int // packet
}

type queue []active

func (q queue) Len() int { return len(q) }
func (q queue) Less(a, b int) bool {
	return q[a].due < q[b].due || q[a].due == q[b].due && q[a].i < q[b].i
}
func (q queue) Swap(a, b int) { q[a], q[b] = q[b], q[a] }
func (q *queue) Push(x any)   { *q = append(*q, x.(active)) }
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// Run sends the script's flows in turn, each time as another instance, first the one of that number. It ends when
// those that began within the time are sent, or ctx is done.
func (s *Script) Run(ctx context.Context, r Rate, first uint32, clock Clock, to Wire) (*Sent, error) {
	sent := &Sent{First: first, FailedFlows: map[int]bool{}}
	rng := rand.New(rand.NewPCG(r.Seed, 23))
	step := func() time.Duration {
		mean := float64(time.Second) / r.Flows
		if r.Poisson {
			return time.Duration(mean * rng.ExpFloat64())
		}
		return time.Duration(float64(sent.Flows+1)*mean) - time.Duration(float64(sent.Flows)*mean)
	}
	var q queue
	frames, of := make([][]byte, batchFrames), make([]int, batchFrames)
	start := clock.Now()
	var late, last, begin time.Duration // begin of the next flow
	for ctx.Err() == nil {
		now := clock.Now() - start - late
		n := 0
		for n < batchFrames {
			if begin < r.Length && begin <= now && (len(q) == 0 || begin <= q[0].due) {
				heap.Push(&q, active{due: begin, i: sent.Flows})
				begin += step()
				sent.Flows++
				continue
			}
			if len(q) == 0 || q[0].due > now {
				break
			}
			a := &q[0]
			if d := now - a.due; d > maxLate && n == 0 {
				late, sent.Behind, now = late+d, sent.Behind+d, now-d
			}
			f := &s.Flows[a.i%len(s.Flows)]
			frames[n], of[n] = f.packets[a.next].frame(frames[n], first+uint32(a.i)), a.i
			n++
			if a.next++; a.next == len(f.packets) {
				heap.Pop(&q)
			} else {
				a.due += f.packets[a.next].at - f.packets[a.next-1].at
				heap.Fix(&q, 0)
			}
		}
		if n > 0 {
			if err := sent.send(to, clock, frames[:n], of); err != nil {
				return sent, err
			}
			last = clock.Now() - start
			continue
		}
		if len(q) == 0 && begin >= r.Length {
			break
		}
		due := begin
		if len(q) > 0 && (q[0].due < due || begin >= r.Length) {
			due = q[0].due
		}
		clock.Sleep(due - now)
	}
	sent.Took = max(last, min(r.Length, clock.Now()-start))
	return sent, nil
}

// fullPause is how long the interface's full queue is waited for.
const fullPause = 20 * time.Microsecond

func (t *Sent) send(to Wire, clock Clock, frames [][]byte, of []int) error {
	for len(frames) > 0 {
		n, lost, err := to.Send(frames)
		if err != nil {
			return err
		}
		for _, i := range lost {
			t.Failed++
			t.FailedFlows[of[i]] = true
		}
		t.Packets += n - len(lost)
		for _, f := range frames[:n] {
			t.Bytes += int64(len(f))
		}
		if frames, of = frames[n:], of[n:]; len(frames) > 0 {
			clock.Sleep(fullPause)
		}
	}
	return nil
}

// Machine is this machine's clock. It waits actively where a sleep would be too long.
type Machine struct{ start time.Time }

// NewMachine begins at 0.
func NewMachine() *Machine { return &Machine{time.Now()} }

// Now implements Clock.
func (m *Machine) Now() time.Duration { return time.Since(m.start) }

// shortest is what a sleep may take longer than it should.
const shortest = 150 * time.Microsecond

// Sleep implements Clock.
func (m *Machine) Sleep(d time.Duration) {
	end := m.Now() + d
	if d > shortest {
		sleep(min(d-shortest, 10*time.Millisecond))
		return
	}
	for m.Now() < end {
		runtime.Gosched()
	}
}
