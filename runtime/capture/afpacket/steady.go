//go:build linux

package afpacket

import (
	"time"

	"nepcoc/runtime/capture"
)

// steady turns the kernel's time stamps, which are of the wall clock, into those of
// capture.Now, which nobody sets.
type steady struct {
	offset int64 // wall less steady
	last   int64 // time of the packet before
	left   int   // packets until the clocks are looked at again
	// stale: the clock was set, from the offset before, and packets from before that
	// may still come, in order.
	stale  bool
	before int64
	// look gives the time, and the offset; nil: the machine's.
	look func() (now, offset int64)
}

const (
	clockStep  = int64(5 * time.Millisecond)
	clockEvery = 256 // packets
)

func clocks() (now, offset int64) { return capture.Now(), capture.WallOffset() }

// sync looks at both clocks, and returns the time.
func (s *steady) sync() int64 {
	if s.look == nil {
		s.look = clocks
	}
	now, offset := s.look()
	if d := offset - s.offset; d > clockStep || d < -clockStep {
		s.stale, s.before, s.offset = true, s.offset, offset
	}
	s.left = clockEvery
	return now
}

// settle is sync where no packet waits: what comes is of the clock of now.
func (s *steady) settle() int64 {
	now := s.sync()
	s.stale = false
	return now
}

// of converts a time stamp.
func (s *steady) of(wall int64) int64 {
	t := wall - s.offset
	// The clock was set not long ago, and this packet came before: by the clock of
	// now it would lie in the past. Or it came after, and nobody has noticed yet: it
	// lies in the future, or in the past again.
	if s.left--; s.left < 0 || s.stale || t < s.last-clockStep || t > s.last+clockStep {
		now := s.sync()
		if t = wall - s.offset; s.stale {
			if old := wall - s.before; old >= s.last-clockStep && old <= now+clockStep {
				t = old
			} else {
				s.stale = false
			}
		}
	}
	s.last = t
	return t
}
