package flow

import (
	"time"

	"nepcoc/runtime/capture"
)

// clock turns the times of packets into one that only goes forward, so that
// timers need not think about captures whose time jumps.
//
//   - A packet that is a little late doesn't move it.
//   - A step back by more is a clock that was set, another capture appended, or a
//     packet by another clock: time goes on from there at once, on a line of its own.
//   - A step forward to a line that is in use is none. Any other counts, as the horizon at
//     most: whatever the table holds has timed out by then.
//
// So timers run whatever was set, and two interfaces whose clocks differ go on
// side by side. A packet with a wild time stamp moves nothing, where its source
// can tell (see capture.Confirm); a live source's time has no steps.
//
// Where packets come from several sources that may be late by different times (see
// Options.Told), packets don't move it: at is then a packet's own time, and timers wait until advance
// tells that all sources have come so far.
type clock struct {
	now     int64 // starts at 0; differences are all that counts
	at      int64 // of the packet in work, not before now
	told    bool  // packets don't move now
	horizon int64 // longer than every timeout
	lines   [maxLines]timeLine
	n       int
}

// timeLine is one relation of packet time and the clock: clock = time + off, in
// arithmetic modulo 2^64.
type timeLine struct{ off, used int64 }

const (
	maxLines = 4
	// late is how late a packet on a line may be: queues and threads take less.
	late = int64(time.Second)
)

func (c *clock) packet(p *capture.Packet) {
	switch {
	case c.told:
		c.at = max(p.Time, c.now)
	case !p.Astray:
		c.advance(p.Time)
	}
}

func (c *clock) advance(t int64) {
	if c.told {
		c.now = max(c.now, t)
	} else {
		c.follow(t)
	}
	c.at = c.now
}

// follow moves the clock by the times of packets.
func (c *clock) follow(t int64) {
	// The common case: a little later than the packet before.
	if ahead := t + c.lines[0].off - c.now; c.n > 0 && uint64(ahead+late) < uint64(2*late) {
		c.now += max(ahead, 0)
		c.lines[0].used = c.now
		return
	}
	c.jump(t)
}

// jump puts a packet on the line that it fits best, or on a new one.
func (c *clock) jump(t int64) {
	best, ahead := -1, uint64(0)
	for i := 0; i < c.n; i++ {
		l := &c.lines[i]
		if i > 0 && c.now-l.used > c.horizon {
			c.n-- // nobody uses it any more
			c.lines[i] = c.lines[c.n]
			i--
			continue
		}
		// Beyond half of the range is behind.
		if d := uint64(t + l.off - c.now + late); d < 1<<63 && (best < 0 || d < ahead) {
			best, ahead = i, d
		}
	}
	if best < 0 {
		if c.n == 0 {
			c.n = 1
		} else if c.n < maxLines {
			c.n++
		}
		best = c.n - 1
		c.lines[best] = timeLine{off: c.now - t}
	} else if d := int64(ahead) - late; d > 0 {
		c.now += min(d, c.horizon)
		c.lines[best].off = c.now - t
	}
	c.lines[best].used = c.now
	c.lines[0], c.lines[best] = c.lines[best], c.lines[0]
}
