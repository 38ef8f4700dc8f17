package capture

import "time"

var (
	began = time.Now()
	epoch = began.UnixNano()
)

// Now is the time of live sources, in nanoseconds since 1970 by the wall clock of
// when the program began. It goes on by itself from there: whoever sets the clock
// moves no timer.
func Now() int64 { return epoch + int64(time.Since(began)) }

// WallOffset is what to add to Now's times for those of the wall clock: 0 until
// that is set. (What slews the one slews the other.)
func WallOffset() int64 {
	d := time.Now().UnixNano() - Now()
	if d := time.Duration(d).Abs(); d < 5*time.Millisecond {
		return 0
	}
	return d
}
