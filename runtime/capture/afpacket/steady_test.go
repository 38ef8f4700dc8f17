//go:build linux

package afpacket

import (
	"testing"
	"time"
)

// Whoever sets the clock moves no packet's time: neither of those that come then,
// nor of those that came before and are read after.
func TestSteady(t *testing.T) {
	const s = int64(time.Second)
	const set = 900 // the packet before which the clock is set
	for _, step := range []int64{-3600 * s, -60 * s, -s, -s / 10, s / 10, s, 60 * s, 3600 * s} {
		for _, waited := range []int{0, 1, 300} { // packets that lie in the ring when one is read
			var c steady
			last := 0
			c.look = func() (now, offset int64) {
				if last+waited >= set {
					offset = step
				}
				return 1000*s + int64(last+waited)*1e6, offset
			}
			for i := range 3000 {
				last = i
				real := 1000*s + int64(i)*1e6
				wall := real
				if i >= set {
					wall += step
				}
				got := c.of(wall)
				if between := int64(waited) * 1e6; step > 0 && step < between {
					// Such a packet may have come before the clock was set, after a pause, or
					// after: its time is off by no more than it waited.
					if got < real || got > real+between {
						t.Fatalf("step %v, %d waiting: packet %d is off by %v", time.Duration(step), waited, i, time.Duration(got-real))
					}
				} else if got != real {
					t.Fatalf("step %v, %d waiting: packet %d at %v has %v", time.Duration(step), waited, i, time.Duration(real-1000*s), time.Duration(got-1000*s))
				}
			}
		}
	}
}
