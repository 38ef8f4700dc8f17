package agent

import "time"

// QuantileOf is a quantile of a histogram of d alone.
func QuantileOf(d time.Duration, q float64) float64 {
	var h hist
	var c durations
	h.add(d)
	c.read(&h)
	return c.quantile(q)
}
