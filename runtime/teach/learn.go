package teach

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"nepcoc/internal/exact"
)

func (m *matrix) row(i int) []float32 { return m.data[i*m.width : (i+1)*m.width] }

// logits computes weights·x + bias.
func (h *head) logits(x []float32, out []float64) {
	copy(out, h.bias)
	k := h.classes
	for c, v := range x {
		if v == 0 {
			continue
		}
		f := float64(v)
		w := h.weights[c*k : c*k+k]
		for j := range out {
			out[j] += float64(f * w[j])
		}
	}
}

// decays are the weight decays that cross-validation chooses among, from the strongest on, so that each begins where the one
// before it ended.
var decays = []float64{1e-2, 1e-3, 1e-4}

const (
	maxFolds = 5
	// iterations bounds the steps of the optimiser, from nothing and from a head of another decay.
	firstIterations, nextIterations = 60, 30
)

// learn finds the head and what cross-validation says of it. The head that is returned reads the integers
// themselves.
func (m *matrix) learn(t *Task, r *Report, opt Options) *head {
	fold, folds := m.folds(t, r)
	r.Folds = folds
	classes := len(t.Labels)
	label := make([]int, m.rows)
	for i := range label {
		label[i] = t.Examples[i].Label
	}
	all := make([]int, m.rows)
	for i := range all {
		all[i] = i
	}
	in := func(f int) (rest, out []int) {
		for i := range fold {
			if fold[i] == f {
				out = append(out, i)
			} else {
				rest = append(rest, i)
			}
		}
		return rest, out
	}
	stages, stage := folds+1, 0
	progress := func(what string) { opt.Progress(what, stage, stages); stage++ }
	// The decay is chosen on the first fold: of all of them it is the same but for noise, and it is most of the time.
	var decay float64
	if opt.Mode == Softmax {
		stages += len(decays)
		rest, out := in(0)
		row := make([]float64, len(out)*classes)
		truth := make([]int, len(out))
		var h *head
		least := math.Inf(1)
		for _, d := range decays {
			progress("choosing the weight decay")
			h = m.fit(rest, label, classes, d, h, opt.Mode)
			for k, i := range out {
				h.logits(m.row(i), row[k*classes:(k+1)*classes])
				truth[k] = label[i]
			}
			if _, loss := calibrate(row, truth, classes); loss < least {
				decay, least = d, loss
			}
		}
		r.Decay = decay
	}
	held := make([]float64, m.rows*classes) // the logits of each flow by the head that was taught without its fold
	for f := range folds {
		progress("cross-validation")
		rest, out := in(f)
		h := m.fit(rest, label, classes, decay, nil, opt.Mode)
		for _, i := range out {
			h.logits(m.row(i), held[i*classes:(i+1)*classes])
		}
	}
	temperature, _ := calibrate(held, label, classes)
	if opt.Mode == Softmax && !slices.ContainsFunc(all, func(i int) bool { return largest(held[i*classes:][:classes]) != label[i] }) {
		// Without an error the likelihood grows with every score, until all are 1. A head of regression has a scale of its own.
		temperature = 1
		r.Notes = append(r.Notes, "no flow that was held back is taken for another class, so nothing tells how sure a score may be: scores are not calibrated; give more flows, of more kinds")
	}
	r.score(held, label, classes)
	progress("teaching")
	h := m.fit(all, label, classes, decay, nil, opt.Mode)
	h.temperature = rounded(temperature)
	r.Temperature = h.temperature
	r.threshold(held, label, classes, opt.Unknown)
	// On the integers: w*(q-mean)*scale + b.
	for c := range m.width {
		for k := range classes {
			w := float64(h.weights[c*classes+k] * m.scale[c])
			h.weights[c*classes+k] = w
			h.bias[k] -= float64(w * m.mean[c])
		}
	}
	return h
}

// folds gives each example its fold: whole groups where there are enough of them, and each class's flows evenly.
func (m *matrix) folds(t *Task, r *Report) (fold []int, n int) {
	groups := map[int][]int{}
	for i := range t.Examples {
		groups[t.Examples[i].Group] = append(groups[t.Examples[i].Group], i)
	}
	r.Groups = len(groups)
	r.ByGroup = len(groups) >= maxFolds
	var kept [][]int
	if r.ByGroup {
		for _, g := range groups {
			kept = append(kept, g)
		}
	} else {
		for i := range t.Examples {
			kept = append(kept, []int{i})
		}
		r.Notes = append(r.Notes, "the flows are of few recordings: cross-validation holds flows back one by one, and what a recording gives away counts as learnt")
	}
	slices.SortFunc(kept, func(a, b []int) int { return cmp.Or(-cmp.Compare(len(a), len(b)), cmp.Compare(a[0], b[0])) })
	classes := len(t.Labels)
	count := make([]int, classes)
	for i := range t.Examples {
		count[t.Examples[i].Label]++
	}
	n = min(maxFolds, len(kept))
	have := make([]float64, n*classes)
	size := make([]int, n)
	fold = make([]int, m.rows)
	for _, g := range kept {
		best, lack := 0, math.Inf(-1)
		for f := range n {
			sum := 0.0
			for _, i := range g {
				l := t.Examples[i].Label
				sum += 1/float64(n) - have[f*classes+l]/float64(count[l])
			}
			if sum > lack || sum == lack && size[f] < size[best] {
				best, lack = f, sum
			}
		}
		for _, i := range g {
			fold[i] = best
			have[best*classes+t.Examples[i].Label]++
			size[best]++
		}
	}
	return fold, n
}

// fit finds a head on the rows of index.
func (m *matrix) fit(index, label []int, classes int, decay float64, from *head, mode Mode) *head {
	if mode == Prototype {
		return m.prototypes(index, label, classes)
	}
	h := &head{classes: classes, weights: make([]float64, m.width*classes), bias: make([]float64, classes), temperature: 1}
	steps := firstIterations
	if from != nil {
		copy(h.weights, from.weights)
		copy(h.bias, from.bias)
		steps = nextIterations
	}
	o := newObjective(m, index, label, classes, decay)
	minimise(o, h, steps)
	return h
}

// prototypes is the nearest mean by Euclidean distance: |x-p|^2 is |x|^2 - 2 p·x + |p|^2, and the first is the same for all
// classes. Divided by the width, so that logits have the size of a mean squared distance.
func (m *matrix) prototypes(index, label []int, classes int) *head {
	h := &head{classes: classes, weights: make([]float64, m.width*classes), bias: make([]float64, classes), temperature: 1}
	count := make([]int, classes)
	for _, i := range index {
		l := label[i]
		count[l]++
		for c, v := range m.row(i) {
			h.weights[c*classes+l] += float64(v)
		}
	}
	n := float64(m.width) / 8
	for k := range classes {
		square := 0.0
		for c := range m.width {
			w := &h.weights[c*classes+k]
			if count[k] > 0 {
				*w /= float64(count[k])
			}
			square += float64(*w * *w)
			*w /= n
		}
		h.bias[k] = -square / 2 / n
		if count[k] == 0 {
			h.bias[k] = -1e3 // a class that the other folds lack is never named
		}
	}
	// What all classes have in common tells none apart, and would take the integers' bits.
	for c := range m.width {
		w := h.weights[c*classes : (c+1)*classes]
		mean := 0.0
		for _, x := range w {
			mean += x
		}
		mean /= float64(classes)
		for k := range w {
			w[k] -= mean
		}
	}
	return h
}

// calibrate finds the temperature that makes the logits' mean negative log-likelihood least, and that.
func calibrate(logits []float64, label []int, classes int) (temperature, loss float64) {
	nll := func(logT float64) float64 {
		k := 1 / exact.Exp(logT)
		sum := 0.0
		for i, l := range label {
			row := logits[i*classes : (i+1)*classes]
			top := row[largest(row)]
			z := 0.0
			for _, x := range row {
				z += exact.Exp(float64((x - top) * k))
			}
			sum += exact.Log(z) - float64((row[l]-top)*k)
		}
		return sum / float64(len(label))
	}
	logT := exact.Minimum(nll, exact.Log(0.05), exact.Log(20), 30)
	return exact.Exp(logT), nll(logT)
}

// threshold sets the score below which a verdict is unknown: that of opt, or the one that makes fewest mistakes, where
// a wrong verdict that is given is one, and so is a right one that is withheld (C. K. Chow, "On optimum recognition error
// and reject tradeoff", 1970, with half of an error for a rejection's cost): what lies below is more often wrong than right. The
// held-out flows tell, with scores at the temperature that the head will have.
func (r *Report) threshold(logits []float64, label []int, classes int, given *float64) {
	type verdict struct {
		score float64
		right bool
	}
	list := make([]verdict, len(label))
	for i, l := range label {
		row := logits[i*classes : (i+1)*classes]
		top := largest(row)
		z := 0.0
		for _, x := range row {
			z += exact.Exp(float64((x - row[top]) / r.Temperature))
		}
		list[i] = verdict{1 / z, top == l}
	}
	slices.SortFunc(list, func(a, b verdict) int { return cmp.Compare(a.score, b.score) })
	if given != nil {
		r.Threshold = *given
	} else {
		gain, most := 0, 0
		for i, v := range list {
			if gain++; v.right {
				gain -= 2
			}
			if gain > most && (i+1 == len(list) || list[i+1].score > v.score) {
				most = gain
				r.Threshold = min(1, (math.Floor(v.score*1e4)+1)/1e4)
			}
		}
	}
	right := 0
	for _, v := range list {
		if v.score < r.Threshold {
			r.Unknown++
		} else if v.right {
			right++
		}
	}
	if 2*r.Unknown > len(list) {
		r.Notes = append(r.Notes, fmt.Sprintf("most verdicts (%d of %d) would be unknown: more flows of each class, fewer classes, or --unknown-threshold 0, which names a class for every flow", r.Unknown, len(list)))
	}
	r.KnownAccuracy = rounded(float64(right) / float64(max(1, len(list)-r.Unknown)))
}

// score fills in what cross-validation says.
func (r *Report) score(logits []float64, label []int, classes int) {
	hit, named := make([]int, classes), make([]int, classes)
	r.Count = make([]int, classes)
	right := 0
	for i, l := range label {
		got := largest(logits[i*classes : (i+1)*classes])
		named[got]++
		r.Count[l]++
		if got == l {
			right++
			hit[l]++
		}
	}
	r.Accuracy = rounded(float64(right) / float64(len(label)))
	sum := 0.0
	for k := range classes {
		r.Recall = append(r.Recall, rounded(float64(hit[k])/float64(max(1, r.Count[k]))))
		r.Precision = append(r.Precision, rounded(float64(hit[k])/float64(max(1, named[k]))))
		sum += 2 * float64(hit[k]) / float64(max(1, r.Count[k]+named[k]))
	}
	r.MacroF1 = rounded(sum / float64(classes))
}
