package capture

import (
	"errors"
	"io"
	"sync/atomic"
	"time"
)

// ErrEmpty is what a Live source's Next returns where no packet is at hand:
// more may come. What has been collected should be passed on before waiting.
var ErrEmpty = errors.New("no packet at hand")

// Live is a source whose packets come when they come, and which may lose some:
// a network interface, or a file replayed in its own time. All that package
// agent needs of a way to capture is in this interface; AF_XDP would be
// another implementation.
//
// One goroutine calls Next, Wait and Crowded; Stop and Stats may be called by any.
type Live interface {
	Source
	// Wait blocks until a packet may be at hand, for d at most.
	Wait(d time.Duration) error
	// Crowded tells that half of the room for packets that wait is taken: if
	// they are not taken soon, some will be lost.
	Crowded() bool
	// Stop ends the intake. Next yields what had been received, then io.EOF.
	Stop()
	// Stats counts since the source was opened.
	Stats() (Stats, error)
	// Clock is a time that no packet yet to come is before, in nanoseconds since 1970:
	// a table's timers go on by it while no packet comes. Where packets wait, it does not
	// run ahead of them.
	Clock() int64
}

// Stats is what the system under a source says of its packets. Received are
// all that came, Dropped those of them that found no room, so that
// Received - Dropped is what Next has yielded or will yield.
type Stats struct {
	Received, Dropped uint64
	// Stalls is how often intake stood still because no room was left.
	Stalls uint64
	// Merged are frames that the system had made of several packets, and that were
	// put apart again: Received counts those. Unsplit are the others.
	Merged, Unsplit uint64
}

// Add sums the figures of several sources.
func (s *Stats) Add(o *Stats) {
	s.Received += o.Received
	s.Dropped += o.Dropped
	s.Stalls += o.Stalls
	s.Merged += o.Merged
	s.Unsplit += o.Unsplit
}

// Replay yields a source's packets at the pace of their time stamps, speed
// times as fast. It loses nothing: where the reader is late, packets wait.
type Replay struct {
	src      Source
	speed    float64
	frame    Frame
	have     bool
	started  bool
	start    time.Time // when the packet of time first was, or would have been, due
	first    int64
	stop     atomic.Bool
	received atomic.Uint64
}

// NewReplay paces src; speed must be positive.
func NewReplay(src Source, speed float64) *Replay {
	return &Replay{src: Confirm(src), speed: speed}
}

// longestGap bounds how long a replay is silent: captures that were joined may
// have days between two packets.
const longestGap = 10 * time.Second

// due is the time left until the packet in r.frame is to be sent.
func (r *Replay) due() time.Duration {
	if !r.started {
		r.started, r.first, r.start = true, r.frame.Time, time.Now()
	}
	offset := time.Duration(float64(r.frame.Time-r.first) / r.speed)
	left := offset - time.Since(r.start)
	if r.frame.Time < r.first || left > longestGap {
		r.first, r.start = r.frame.Time, time.Now()
		if left = min(left, longestGap); left > 0 {
			r.start = r.start.Add(left)
		}
	}
	return left
}

// Next implements Source.
func (r *Replay) Next(f *Frame) error {
	if r.stop.Load() {
		return io.EOF
	}
	if !r.have {
		if err := r.src.Next(&r.frame); err != nil {
			return err
		}
		r.have = true
	}
	if r.due() > 0 {
		return ErrEmpty
	}
	*f, r.have = r.frame, false
	r.received.Add(1)
	return nil
}

// Wait implements Live.
func (r *Replay) Wait(d time.Duration) error {
	if r.have {
		d = min(d, r.due())
	}
	time.Sleep(d)
	return nil
}

// Crowded implements Live: a file has room.
func (r *Replay) Crowded() bool { return false }

// Stop implements Live.
func (r *Replay) Stop() { r.stop.Store(true) }

// Stats implements Live.
func (r *Replay) Stats() (Stats, error) { return Stats{Received: r.received.Load()}, nil }

// Clock implements Live: the capture's time, as far as it has come.
func (r *Replay) Clock() int64 {
	if !r.started {
		return 0
	}
	if !r.have {
		return r.frame.Time // who asks now may be late for the next
	}
	return min(r.first+int64(float64(time.Since(r.start))*r.speed), r.frame.Time)
}

// Close implements Source.
func (r *Replay) Close() error { return r.src.Close() }
