package flow

// clock turns the times of packets into one that only goes forward, so that
// timers need not think about captures whose time jumps.
//
//   - A packet that is late by less than the horizon doesn't move it.
//   - A step back by more is a clock that was set, or another capture appended:
//     time goes on from there.
//   - A step forward counts as the horizon at most. Whatever the table holds
//     has timed out by then, and a damaged time stamp far in the future then
//     costs one horizon, not all timers ever after.
type clock struct {
	now     int64 // starts at 0; differences are all that counts
	raw     int64 // the packet time that now stands for
	horizon int64 // longer than every timeout
	started bool
}

func (c *clock) advance(t int64) {
	if !c.started {
		c.started, c.raw = true, t
		return
	}
	if t > c.raw {
		d := uint64(t) - uint64(c.raw) // exact, also where the difference overflows
		c.raw = t
		c.now += int64(min(d, uint64(c.horizon)))
	} else if uint64(c.raw)-uint64(t) > uint64(c.horizon) {
		c.raw = t
	}
}
