package capture

import "time"

// Confirm is a source that tells single wild time stamps: a packet whose time is far
// from that of the one before it, while the one behind it is near that again, is
// astray, and moves no timer. Where time steps and stays there, that is a pause, a
// clock that was set, or another capture.
//
// A frame at a step is copied and its successor read before it is yielded. That can't be
// done for packets that are yet to come: a live source has its own time.
func Confirm(src Source) Source {
	if _, ok := src.(*confirmed); ok {
		return src
	}
	return &confirmed{src: src}
}

// farTime is how far from its neighbours a packet's time is wild: packets of two
// queues differ by less, and timers by which flows end are longer.
const farTime = int64(time.Second)

type confirmed struct {
	src     Source
	last    int64
	started bool
	frame   Frame // the one behind that at a step, in the source's memory
	err     error
	have    bool
	buf     []byte
}

func far(a, b int64) bool {
	d := uint64(a) - uint64(b)
	return d > uint64(farTime) && -d > uint64(farTime)
}

// Next implements Source.
func (c *confirmed) Next(f *Frame) error {
	err := c.err
	if c.have {
		*f, c.have, c.err = c.frame, false, nil
	} else {
		err = c.src.Next(f)
	}
	if err != nil {
		return err
	}
	if c.started && far(f.Time, c.last) {
		c.buf = append(c.buf[:0], f.Data...)
		f.Data = c.buf[:len(c.buf):len(c.buf)]
		c.frame.Time = f.Time
		c.err, c.have = c.src.Next(&c.frame), true
		if c.err == nil && far(f.Time, c.frame.Time) && !far(c.frame.Time, c.last) {
			f.Astray = true
			return nil
		}
	}
	c.started, c.last = true, f.Time
	return nil
}

// Close implements Source.
func (c *confirmed) Close() error { return c.src.Close() }
