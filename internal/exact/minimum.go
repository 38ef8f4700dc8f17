package exact

import "math"

// Minimum is where a function of one variable that has one minimum between lo and hi has it, by a golden-section search of
// so many steps, each of which leaves 0.618 of the interval.
func Minimum(f func(float64) float64, lo, hi float64, steps int) float64 {
	golden := (math.Sqrt(5) - 1) / 2
	for range steps {
		a, b := hi-float64(golden*(hi-lo)), lo+float64(golden*(hi-lo))
		if f(a) < f(b) {
			hi = b
		} else {
			lo = a
		}
	}
	return (lo + hi) / 2
}
