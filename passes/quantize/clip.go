package quantize

import (
	"math"
	"slices"

	"nepcoc/internal/exact"
	"nepcoc/ir"
)

// A clipFunc picks the largest magnitude worth representing in 2*levels+1 steps
// from a sample of magnitudes |x| (sorted, at least one).
type clipFunc func(sorted []float32, levels float64) float64

var methods = map[string]clipFunc{
	"minmax":     func(s []float32, _ float64) float64 { return float64(s[len(s)-1]) },
	"percentile": func(s []float32, _ float64) float64 { return quantile(s, 0.9999) },
	"mse":        clipMSE,
	"entropy":    clipEntropy,
	given:        func(s []float32, _ float64) float64 { return float64(s[len(s)-1]) },
}

// given is the method of models that were quantised already: their own ranges, where they have some.
const given = "given"

// Methods lists the calibration methods, the simplest first: those that need nothing but
// calibration data.
func Methods() []string { return []string{"minmax", "percentile", "mse", "entropy"} }

func quantile(sorted []float32, p float64) float64 {
	return float64(sorted[int(p*float64(len(sorted)-1))])
}

// clipMSE minimises the mean squared error of rounding and clipping.
func clipMSE(s []float32, levels float64) float64 {
	top := float64(s[len(s)-1])
	if top == 0 {
		return 0
	}
	s = thin(s, 5000)
	best, bestErr := top, math.Inf(1)
	for f := 1.0; f >= 0.3; f *= 0.96 {
		c := float64(top * f)
		step, e := c/levels, 0.0
		for _, x := range s {
			d := float64(x)
			if d > c {
				d -= c
			} else {
				d -= float64(math.RoundToEven(d/step) * step)
			}
			e += float64(d * d)
		}
		if e < bestErr {
			best, bestErr = c, e
		}
	}
	return best
}

// entropyStep is how many histogram bins the clip moves at a time.
const entropyStep = 16

// clipEntropy minimises the Kullback-Leibler divergence between the histogram
// of the clipped values and its quantized form, after Migacz, "8-bit
// inference with TensorRT" (GTC 2017).
func clipEntropy(s []float32, levels float64) float64 {
	const bins = 2048
	top := float64(s[len(s)-1])
	if top == 0 || levels > 200 {
		return top // 16 bits: more steps than bins, nothing to gain
	}
	var hist [bins]float64
	for _, x := range s {
		hist[min(int(float64(x)/top*bins), bins-1)]++
	}
	n := int(levels) + 1
	best, bestKL := bins, math.Inf(1)
	outside := 0.0
	for keep := bins; keep >= 4*n; keep -= entropyStep {
		if keep < bins {
			for _, x := range hist[keep : keep+entropyStep] {
				outside += x
			}
		}
		if kl := divergence(hist[:keep], outside, n); kl < bestKL {
			best, bestKL = keep, kl
		}
	}
	return top * float64(best) / bins
}

func divergence(h []float64, outside float64, n int) float64 {
	kl := 0.0
	sumP, sumQ := 0.0, 0.0
	type pair struct{ p, q float64 }
	terms := make([]pair, 0, len(h))
	for j := range n {
		lo, hi := j*len(h)/n, (j+1)*len(h)/n
		total, used := 0.0, 0
		for _, x := range h[lo:hi] {
			if x > 0 {
				total += x
				used++
			}
		}
		for i := lo; i < hi; i++ {
			p := h[i]
			if i == len(h)-1 {
				p += outside
			}
			qv := 0.0
			if h[i] > 0 {
				qv = total / float64(used)
			}
			if p > 0 {
				terms = append(terms, pair{p, qv})
			}
			sumP += p
			sumQ += qv
		}
	}
	for _, t := range terms {
		kl += float64(t.p / sumP * exact.Log(t.p/sumP/max(t.q/sumQ, 1e-9)))
	}
	return kl
}

// thin keeps about n elements of a sorted sample, evenly, and the largest.
func thin(s []float32, n int) []float32 {
	if len(s) <= n {
		return s
	}
	out := make([]float32, 0, n+1)
	for i := range n {
		out = append(out, s[i*len(s)/n])
	}
	return append(out, s[len(s)-1])
}

// eachRow calls f with every observed row of v that can reach a verdict.
func (q *quantizer) eachRow(v *ir.Value, f func(row []float32)) {
	c := channels(v)
	for i, t := range q.obs.Values[v] {
		data := t.Data.([]float32)
		for r := range q.activeRows(v, i) {
			f(data[r*c : (r+1)*c])
		}
	}
}

// activeRows is how many leading rows of v count in observation i.
func (q *quantizer) activeRows(v *ir.Value, i int) int {
	n := rows(v)
	if n == q.obs.Length {
		n = min(n, q.obs.Valid[i]+q.obs.Right)
	}
	return n
}

// stats are the observations of one value.
type stats struct {
	lo, hi   float64
	mags     []float32   // magnitudes, sorted, thinned
	channels [][]float32 // the same per channel; nil until asked for
	means    []float64   // per channel; nil until asked for
	clips    map[clipKey]float64
}

// clipKey says what a clipped magnitude depends on beside the numbers themselves.
type clipKey struct {
	method string
	levels float64
}

// maxSample bounds the magnitudes kept of one value: quantiles and errors of
// more are the same to all digits that matter.
const maxSample = 1 << 17

func (q *quantizer) statsOf(v *ir.Value) *stats {
	if s := q.obs.stats[v]; s != nil {
		return s
	}
	s := &stats{lo: math.Inf(1), hi: math.Inf(-1)}
	q.eachRow(v, func(row []float32) {
		for _, x := range row {
			s.lo, s.hi = min(s.lo, float64(x)), max(s.hi, float64(x))
			s.mags = append(s.mags, float32(math.Abs(float64(x))))
		}
	})
	sortMagnitudes(s.mags)
	s.mags = slices.Clone(thin(s.mags, maxSample))
	if q.obs.stats == nil {
		q.obs.stats = make(map[*ir.Value]*stats)
	}
	q.obs.stats[v] = s
	return s
}

// channelMags are the sorted magnitudes of each channel of v.
func (q *quantizer) channelMags(v *ir.Value) [][]float32 {
	s := q.statsOf(v)
	if s.channels == nil {
		s.channels = make([][]float32, channels(v))
		q.eachRow(v, func(row []float32) {
			for c, x := range row {
				s.channels[c] = append(s.channels[c], float32(math.Abs(float64(x))))
			}
		})
		for _, m := range s.channels {
			sortMagnitudes(m)
		}
	}
	return s.channels
}

// channelMeans are the means of each channel of v.
func (q *quantizer) channelMeans(v *ir.Value) []float64 {
	s := q.statsOf(v)
	if s.means == nil {
		s.means = make([]float64, channels(v))
		n := 0.0
		q.eachRow(v, func(row []float32) {
			n++
			for c, x := range row {
				s.means[c] += (float64(x) - s.means[c]) / n
			}
		})
	}
	return s.means
}

// observed is the range of v: the extremes and the clipped magnitude for the
// given number of levels.
func (q *quantizer) observed(v *ir.Value, levels float64) (lo, hi, clip float64) {
	s := q.statsOf(v)
	if len(s.mags) == 0 {
		return 0, 0, 0
	}
	if r, ok := q.obs.Given[v]; ok && q.opts.Method == given {
		return r[0], r[1], max(-r[0], r[1])
	}
	key := clipKey{q.opts.Method, levels}
	clip, ok := s.clips[key]
	if !ok {
		clip = q.clip(s.mags, levels)
		if s.clips == nil {
			s.clips = make(map[clipKey]float64)
		}
		s.clips[key] = clip
	}
	return s.lo, s.hi, clip
}

// form picks the type, scale and offset of v's integer form for an output
// rescaled per element: one scale for all channels; a zero point where the
// values lie on one side and the consumers allow it.
func (q *quantizer) form(v *ir.Value) (d ir.DType, scale, zero float64) {
	if q.wide(v) {
		top := q.wideMax(v)
		_, _, clip := q.observed(v, top)
		return ir.I16, nonZero(clip) / top, 0
	}
	lo, hi, clip := q.observed(v, 127)
	if need := q.needs(v); !need.zeroFree && hi > 0 && lo > -hi/2 {
		lo = max(min(lo, 0), -clip)
		scale = nonZero(clip-lo) / 255
		return ir.I8, scale, math.Round(-128 - lo/scale)
	}
	return ir.I8, nonZero(clip) / 127, 0
}

// nonZero keeps a scale from being 0 where a value never varied.
func nonZero(x float64) float64 {
	if x < 1e-12 {
		return 1e-12
	}
	return x
}
