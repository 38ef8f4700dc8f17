package drift

import (
	"math"

	"nepcoc/internal/exact"
)

// distance is the Jensen-Shannon divergence of two histograms, in bits: 0 for equal shares, 1 for shares that have no bin in
// common (Lin, "Divergence measures based on the Shannon entropy", 1991). bins counts those that either has flows in.
func distance(p, q []uint64) (bits float64, bins int, inP, inQ uint64) {
	for i := range p {
		inP, inQ = inP+p[i], inQ+q[i]
	}
	if inP == 0 || inQ == 0 {
		return 0, 0, inP, inQ
	}
	sum := 0.0
	for i := range p {
		if p[i]+q[i] == 0 {
			continue
		}
		bins++
		a, b := float64(p[i])/float64(inP), float64(q[i])/float64(inQ)
		mean := (a + b) / 2
		if a > 0 {
			sum += float64(a * exact.Log(a/mean))
		}
		if b > 0 {
			sum += float64(b * exact.Log(b/mean))
		}
	}
	return max(0, sum/(2*math.Ln2)), bins, inP, inQ
}

// deviations is the normal quantile of what chance may do: it is passed once in a thousand.
const deviations = 3.09

// chance is the divergence, in bits, that two samples of n and m flows of the same traffic stay below but once in a thousand.
// For small differences the divergence in nats is 1/8 sum (p-q)^2/mean, so times 8 n m/(n+m) it is chi-squared with one degree of
// freedom fewer than bins, whose quantile Wilson and Hilferty (1931) approximate.
func chance(bins int, n, m uint64) float64 {
	if bins < 2 {
		return 0
	}
	k := float64(bins - 1)
	v := 2 / (9 * k)
	root := 1 - v + float64(deviations*math.Sqrt(v))
	quantile := k * float64(root*float64(root*root))
	return float64(quantile * unit(n, m)) // rounded before anything is added: the same on every CPU
}

// expected is that divergence on average.
func expected(bins int, n, m uint64) float64 { return float64(float64(max(bins-1, 0)) * unit(n, m)) }

// unit is what one unit of chi-squared is, in bits.
func unit(n, m uint64) float64 {
	if n == 0 || m == 0 {
		return 0
	}
	return (1/float64(n) + 1/float64(m)) / (8 * math.Ln2)
}

// What a difference must be beyond chance, in bits. A floor: less is of no consequence, whatever the number of flows (0.05 bits is
// a population stability index of about a quarter, at which a shift is called large). And a ceiling: what was calibrated class by
// class differs from part to part by more than traffic does.
const floor, ceiling = 0.05, 0.15

// causeFloor takes the floor's place for what explains drift that is there: a cause is named where 3 % of flows have it and none had.
const causeFloor = floor / 4

// bound is what a distance must pass: what calibration's own parts did, a floor at least, and chance.
func bound(floor float64, swing, bins int, n, m uint64) float64 {
	return min(max(float64(swing)/1000, floor), ceiling) + chance(bins, n, m)
}

// rounded keeps the digits that are shown.
func rounded(x float64) float64 { return math.Round(x*1e4) / 1e4 }
