//go:build linux

package afpacket

import (
	"time"

	"nepcoc/runtime/capture"
)

// steady turns the kernel's time stamps, which are of the wall clock, into those of
// capture.Now, which nobody sets.
type steady struct {
	offset, before int64 // wall less steady, and before the latest step
	now            int64 // when that was looked at
	left           int   // packets until it is looked at again
}

const (
	clockStep  = int64(5 * time.Millisecond)
	clockEvery = 256 // packets
)

// sync looks at both clocks, and returns the time.
func (s *steady) sync() int64 {
	s.look(capture.Now(), capture.WallOffset())
	return s.now
}

func (s *steady) look(now, offset int64) {
	if d := offset - s.offset; d > clockStep || d < -clockStep {
		s.before, s.offset = s.offset, offset
	}
	s.now, s.left = now, clockEvery
}

// of converts a time stamp. One that was made before the clock was set fits the
// clock of then: by that of now it would lie in the future, or far behind.
func (s *steady) of(wall int64) int64 {
	if s.left--; s.left < 0 {
		s.sync()
	}
	t := wall - s.offset
	if s.before == s.offset {
		return t
	}
	latest := s.now + int64(time.Second)
	if old := wall - s.before; old <= latest && (t > latest || old > t) {
		return old
	}
	return t
}
