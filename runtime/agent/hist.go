package agent

import (
	"math"
	"math/bits"
	"sync/atomic"
	"time"
)

// hist counts durations in buckets whose width is a sixteenth of their value,
// so that quantiles of the far tail are right to 6 % whatever the scale. One
// goroutine adds; any may read.
type hist struct {
	buckets [histBuckets]atomic.Uint64
	sum     atomic.Uint64
}

const (
	histSub     = 16
	histOctaves = 40 // up to 2^40 ns, 18 minutes
	histBuckets = histSub * (histOctaves - 3)
)

func histIndex(ns uint64) int {
	if ns < histSub {
		return int(ns)
	}
	e := bits.Len64(ns) - 5 // ns>>e is in 16..31
	return min(histSub*e+int(ns>>e), histBuckets-1)
}

// histUpper is the end of a bucket, in nanoseconds.
func histUpper(i int) uint64 {
	if i < 2*histSub {
		return uint64(i + 1)
	}
	e := i/histSub - 1
	return uint64(i-histSub*e+1) << e
}

// add counts one duration. Nothing else writes, so load and store will do.
func (h *hist) add(d time.Duration) {
	ns := uint64(max(d, 0))
	b := &h.buckets[histIndex(ns)]
	b.Store(b.Load() + 1)
	h.sum.Store(h.sum.Load() + ns)
}

// durations is a copy of one or more hists.
type durations struct {
	buckets [histBuckets]uint64
	count   uint64
	sum     uint64
}

func (d *durations) read(h *hist) {
	for i := range h.buckets {
		n := h.buckets[i].Load()
		d.buckets[i] += n
		d.count += n
	}
	d.sum += h.sum.Load()
}

// quantile is the upper end of the bucket that holds it, in seconds; NaN if
// there is nothing.
func (d *durations) quantile(q float64) float64 {
	if d.count == 0 {
		return math.NaN()
	}
	want := uint64(math.Ceil(q * float64(d.count)))
	var sum uint64
	for i, n := range d.buckets {
		if sum += n; sum >= max(want, 1) {
			return float64(histUpper(i)) / 1e9
		}
	}
	return math.Inf(1)
}
