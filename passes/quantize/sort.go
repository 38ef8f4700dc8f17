package quantize

import (
	"math"
	"slices"
)

// sortMagnitudes sorts numbers that are neither negative nor NaN. Their bits, as whole numbers, are in their order, and calibration
// has hundreds of thousands: they are dealt by 11 bits at a time, the lowest first.
func sortMagnitudes(s []float32) {
	const digit = 11
	if len(s) < 1<<digit {
		slices.Sort(s)
		return
	}
	from, to := s, make([]float32, len(s))
	for shift := 0; shift < 32; shift += digit {
		var next [1 << digit]int // where the digit's next number goes
		for _, x := range from {
			next[math.Float32bits(x)>>shift%(1<<digit)]++
		}
		at := 0
		for d, n := range next {
			next[d], at = at, at+n
		}
		for _, x := range from {
			d := math.Float32bits(x) >> shift % (1 << digit)
			to[next[d]] = x
			next[d]++
		}
		from, to = to, from
	}
	copy(s, from)
}
