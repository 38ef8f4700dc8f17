package teach

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"

	"nepcoc/internal/plural"
	"nepcoc/runtime/arith"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/refexec"
)

// KnownOptions say how to find what an output knows.
type KnownOptions struct {
	// Pass is the share of known traffic that is to belong.
	Pass float64
	// Labelled says that the examples' labels were given; else they are the model's own verdicts.
	Labelled bool
	Progress func(stage string, done, total int)
}

// KnownReport says what was found.
type KnownReport struct {
	Output     string  `json:"output"`
	Pass       float64 `json:"known_pass"`
	Flows      int     `json:"flows"`
	Classes    int     `json:"classes"`
	Prototypes int     `json:"prototypes"`
	Dimensions int     `json:"dimensions"`
	Features   int     `json:"features"`
	// Held is how many flows the bound was found on: each was compared with what was made of the others. Passed is the
	// share of them that the bound lets pass.
	Held     int      `json:"held"`
	Passed   float64  `json:"passed"`
	Bound    int64    `json:"bound"`
	Labelled bool     `json:"labelled"`
	Notes    []string `json:"notes,omitempty"`
}

const (
	// belongDims is the number of dimensions that flows are compared in, where there are flowsPerDim flows for each: twice as many
	// were hardly better, half as many worse (docs/unknown.md). With fewer flows the covariance is that of chance, and
	// flows that it was not made of seem far.
	belongDims, flowsPerDim = 64, 10
	// belongMeans is how many prototypes a class has at most, where it has flowsPerMean flows for each.
	belongMeans, flowsPerMean, meanRounds = 8, 8, 6
	// belongRows bounds the flows that the subspace is found on.
	belongRows = 1024
	// belongUnit is how many steps of z a standard deviation within a class has.
	belongUnit = 32
	// belongRidge is added to the covariance, in parts of its mean variance: few flows say little of the small ones.
	belongRidge = 1e-2
	// belongLeast is the least number of flows.
	belongLeast = 20
	// knownSteps is how many quantiles of the distances a bundle holds: belonging is told to half a percent.
	knownSteps = 200
	// belongRounds are those of the orthogonal iteration.
	belongRounds = 4
	// standardUnit is how many steps of 8 bits a standard deviation of a feature has: 8 of them to each side.
	standardUnit = 16
)

// Know gives an output of a bundle its Belonging: what tells flows of its classes from others. The examples are known flows; those
// with too little payload are left out. It changes b.
func Know(b *bundle.Bundle, output int, examples []Example, opt KnownOptions) (*KnownReport, error) {
	if opt.Progress == nil {
		opt.Progress = func(string, int, int) {}
	}
	info := &b.Manifest.Outputs[output]
	k := info.EffectiveKind()
	if k != bundle.KindClasses && k != bundle.KindBinary {
		return nil, fmt.Errorf("output %s gives %s: only classes and binary outputs can tell what is unknown to them", info.Name, k)
	}
	if !(opt.Pass > 0 && opt.Pass <= 1) {
		return nil, fmt.Errorf("known traffic that is to pass: %g is not above 0 and at most 1", opt.Pass)
	}
	least := b.Manifest.LeastPayload()
	examples = slices.DeleteFunc(slices.Clone(examples), func(e Example) bool { return e.Payload < least || e.Label < 0 })
	if len(examples) < belongLeast {
		return nil, fmt.Errorf("%s with payload: too few to tell what is unknown: give %d at least, better some hundreds", plural.Of(len(examples), "flow"), belongLeast)
	}
	p := forget(b.Program, output)
	value := pooled(p, p.Outputs[output].Value)
	m, err := features(p, value, examples, opt.Progress)
	if err != nil {
		return nil, err
	}
	classes := k.NumLabels(p.Values[p.Outputs[output].Value].Cols)
	t := &Task{Labels: make([]string, classes), Examples: examples}
	var groups Report
	fold, folds := m.folds(t, &groups)
	label := make([]int, m.rows)
	all := make([]int, m.rows)
	for i := range label {
		label[i], all[i] = examples[i].Label, i
	}
	r := &KnownReport{Output: info.Name, Pass: opt.Pass, Flows: m.rows, Features: m.width, Labelled: opt.Labelled}
	held, err := m.heldOut(all, label, fold, folds, classes, func(done int) { opt.Progress("finding what is known", done, folds+1) })
	if err != nil {
		return nil, err
	}
	y := m.reduce(all)
	s, err := y.space(all, label, classes)
	if err != nil {
		return nil, err
	}
	known := r.bound(held)
	known.Classes = s.classes
	r.Dimensions, r.Classes, r.Prototypes = len(s.bias), len(slices.Compact(slices.Clone(s.classes))), len(s.classes)
	s.attach(p, y, output, value)
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("belonging: %w", err)
	}
	golden := slices.Clone(b.Golden)
	exec, err := refexec.New(p.Judged())
	if err != nil {
		return nil, err
	}
	for i := range golden {
		if golden[i].Logits, err = exec.Run(golden[i].Tokens, golden[i].Valid); err != nil {
			return nil, err
		}
	}
	b.Program, b.Golden, info.Known = p, golden, known
	b.Manifest.Sizes.Weights = p.WeightBytes()
	return r, nil
}

// heldOut are the distances of the rows of all, in ascending order, each from what was made of the other folds.
func (m *matrix) heldOut(all, label, fold []int, folds, classes int, progress func(done int)) (held []int64, err error) {
	progress(0)
	for f := range folds {
		progress(f + 1)
		rest := slices.DeleteFunc(slices.Clone(all), func(i int) bool { return fold[i] == f })
		y := m.reduce(rest)
		s, err := y.space(rest, label, classes)
		if err != nil {
			return nil, err
		}
		for _, i := range all {
			// A class that the others lack is not known to them.
			if fold[i] == f && s.has[label[i]] {
				held = append(held, s.distance(y.standard[i]))
			}
		}
	}
	if len(held) == 0 {
		return nil, errors.New("no class has flows of two recordings: nothing tells how far its flows lie from one another")
	}
	slices.Sort(held)
	return held, nil
}

// bound chooses the distance that r.Pass of known traffic stays within, and the quantiles that belonging is told by; held are the distances
// of heldOut. It fills in what the report says of them.
func (r *KnownReport) bound(held []int64) *bundle.Known {
	// As conformal prediction does: of n distances and one more, so many are below the k-th.
	at := int(math.Ceil(float64(len(held)+1) * r.Pass))
	if at > len(held) {
		r.Notes = append(r.Notes, fmt.Sprintf("%d flows can't show a share of %g: the farthest of them is the bound", len(held), r.Pass))
		at = len(held)
	}
	known := &bundle.Known{Pass: r.Pass, Bound: held[max(at, 1)-1], Flows: r.Flows, Labelled: r.Labelled}
	steps := min(knownSteps, len(held))
	for q := range steps {
		known.Quantiles = append(known.Quantiles, held[((q+1)*len(held)-1)/steps])
	}
	passed, _ := slices.BinarySearch(held, known.Bound+1)
	r.Held, r.Passed, r.Bound = len(held), rounded(float64(passed)/float64(len(held))), known.Bound
	return known
}

// forget is a program whose output has no belonging.
func forget(p *bundle.Program, output int) *bundle.Program {
	q := clone(p)
	q.Belonging = slices.DeleteFunc(slices.Clone(p.Belonging), func(b bundle.Belonging) bool { return b.Output == output })
	if len(q.Belonging) < len(p.Belonging) {
		q = q.Prune()
	}
	return q
}

// pooled is the first vector on the way to an output from which on only layers on one vector follow: the pooled features, where a
// model pools.
func pooled(p *bundle.Program, value int) int {
	for {
		s := maker(p, value)
		if s == nil || len(s.In) != 1 || p.Values[s.In[0]].Rows != 1 || p.Values[s.In[0]].DType == bundle.I32 {
			return value
		}
		value = s.In[0]
	}
}

// reduced are the examples in the subspace of their largest variance.
type reduced struct {
	basis [][]float64 // orthonormal, on standardised features
	rows  [][]float64
	// mean, scale and shift make standard, 8 bits a feature, of the features; off is what the rounding of the mean leaves.
	mean, scale []int32
	shift       int
	off         []float64
	standard    [][]int32
}

// reduce finds the subspace of the rows of index by orthogonal iteration (Golub and Van Loan, "Matrix computations", 4th ed., 8.2.4). Which basis
// of it comes out does not matter.
func (m *matrix) reduce(index []int) *reduced {
	m.standardise(index, 0) // 8 bits a column, each in its own unit
	dims := max(1, min(belongDims, m.width, m.rows/flowsPerDim))
	r := rand.New(rand.NewPCG(3, 7))
	q := make([][]float64, dims)
	for d := range q {
		q[d] = make([]float64, m.width)
		for c := range q[d] {
			if m.scale[c] > 0 {
				q[d][c] = float64(2*r.IntN(2) - 1)
			}
		}
	}
	q = orthonormal(q)
	n := min(len(index), belongRows)
	for range belongRounds {
		sums := make([][][]float64, parts)
		var wg sync.WaitGroup
		for part := range parts {
			wg.Add(1)
			go func() {
				defer wg.Done()
				sums[part] = make([][]float64, len(q))
				for d := range q {
					sums[part][d] = make([]float64, m.width)
				}
				for i := part * n / parts; i < (part+1)*n/parts; i++ {
					x := m.row(index[i*len(index)/n])
					for d := range q {
						along(sums[part][d], inner(q[d], x), x)
					}
				}
			}()
		}
		wg.Wait()
		for d := range q {
			clear(q[d])
			for part := range parts {
				axpy(1, sums[part][d], q[d])
			}
		}
		q = orthonormal(q)
	}
	y := &reduced{basis: q, rows: make([][]float64, m.rows)}
	parallel(m.rows, func(lo, hi, _ int) error {
		for i := lo; i < hi; i++ {
			y.rows[i] = make([]float64, len(q))
			for d := range q {
				y.rows[i][d] = inner(q[d], m.row(i))
			}
		}
		return nil
	})
	y.standardise8(m)
	return y
}

func inner(q []float64, x []float32) (s float64) {
	for c, v := range x {
		s += float64(q[c] * float64(v))
	}
	return s
}

func along(sum []float64, a float64, x []float32) {
	for c, v := range x {
		sum[c] += float64(a * float64(v))
	}
}

// orthonormal is the Gram-Schmidt process, each step of it done twice; vectors that the ones before them span are left out.
func orthonormal(q [][]float64) [][]float64 {
	var out [][]float64
	for _, v := range q {
		before := dot(v, v)
		for range 2 {
			for _, u := range out {
				axpy(-dot(u, v), u, v)
			}
		}
		size := dot(v, v)
		if size <= 1e-12*before || size == 0 {
			continue
		}
		k := 1 / math.Sqrt(size)
		for c := range v {
			v[c] *= k
		}
		out = append(out, v)
	}
	return out
}

// space is what z is made by, and the prototypes in it: all of what becomes a bundle.Belonging.
type space struct {
	weights    []int8 // [dims, width]
	bias, mult []int32
	shift      int
	prototypes []int16 // of the classes that have flows
	classes    []int   // of each prototype
	has        []bool
}

// space makes the projection in which the flows of a class lie alike in all directions, and the means of the classes in it.
func (y *reduced) space(index, label []int, classes int) (*space, error) {
	dims := len(y.basis)
	mean := make([][]float64, classes)
	count := make([]int, classes)
	for k := range mean {
		mean[k] = make([]float64, dims)
	}
	for _, i := range index {
		count[label[i]]++
		axpy(1, y.rows[i], mean[label[i]])
	}
	for k := range mean {
		for d := range mean[k] {
			mean[k][d] /= float64(max(1, count[k]))
		}
	}
	cov := make([][]float64, dims)
	for d := range cov {
		cov[d] = make([]float64, dims)
	}
	diff := make([]float64, dims)
	for _, i := range index {
		for d := range diff {
			diff[d] = y.rows[i][d] - mean[label[i]][d]
		}
		for d := range cov {
			axpy(diff[d], diff[:d+1], cov[d][:d+1])
		}
	}
	trace := 0.0
	for d := range cov {
		for e := range d + 1 {
			cov[d][e] /= float64(len(index))
		}
		trace += cov[d][d]
	}
	if trace == 0 {
		return nil, errors.New("the flows of each class look all the same: nothing tells how far others may lie")
	}
	for d := range cov {
		cov[d][d] += float64(belongRidge * (trace / float64(dims)))
	}
	white := whitening(cov)
	members := make([][][]float64, classes)
	for _, i := range index {
		z := make([]float64, dims)
		for d := range z {
			z[d] = dot(white[d], y.rows[i][:d+1])
		}
		members[label[i]] = append(members[label[i]], z)
	}
	s := &space{has: make([]bool, classes)}
	for k := range members {
		s.has[k] = len(members[k]) > 0
		for _, p := range means(members[k]) {
			s.classes = append(s.classes, k)
			for _, z := range p {
				s.prototypes = append(s.prototypes, int16(max(math.MinInt16, min(math.MaxInt16, math.RoundToEven(float64(belongUnit*z))))))
			}
		}
	}
	s.quantise(y, len(y.mean), white)
	return s, nil
}

// means are the prototypes of one class: a mean of all or, where the flows are enough, of several parts of them, so that a class may be of
// several kinds. They are found by Lloyd's algorithm from k-means++'s beginning (Arthur and Vassilvitskii, 2007).
func means(rows [][]float64) [][]float64 {
	if len(rows) == 0 {
		return nil
	}
	k := max(1, min(belongMeans, len(rows)/flowsPerMean))
	r := rand.New(rand.NewPCG(uint64(len(rows)), 5))
	far := make([]float64, len(rows))
	for i := range far {
		far[i] = math.Inf(1)
	}
	var centres [][]float64
	for at := r.IntN(len(rows)); ; {
		centres = append(centres, slices.Clone(rows[at]))
		sum := 0.0
		for i, x := range rows {
			far[i] = min(far[i], squared(x, rows[at]))
			sum += far[i]
		}
		if len(centres) == k || sum == 0 {
			break
		}
		left := float64(r.Float64() * sum)
		for at = 0; at < len(rows)-1 && left > far[at]; at++ {
			left -= far[at]
		}
	}
	for range meanRounds {
		sums, count := make([][]float64, len(centres)), make([]int, len(centres))
		for j := range sums {
			sums[j] = make([]float64, len(rows[0]))
		}
		for _, x := range rows {
			best, least := 0, math.Inf(1)
			for j, c := range centres {
				if d := squared(x, c); d < least {
					best, least = j, d
				}
			}
			count[best]++
			axpy(1, x, sums[best])
		}
		for j := range centres {
			for d := range centres[j] {
				if count[j] > 0 {
					centres[j][d] = sums[j][d] / float64(count[j])
				}
			}
		}
	}
	return centres
}

func squared(a, b []float64) (s float64) {
	for i, x := range a {
		d := x - b[i]
		s += float64(d * d)
	}
	return s
}

// whitening is the inverse of the Cholesky factor of a covariance, of which the lower half is given: row d has d+1 elements.
func whitening(cov [][]float64) [][]float64 {
	n := len(cov)
	l := make([][]float64, n)
	for i := range l {
		l[i] = make([]float64, i+1)
		for j := range i + 1 {
			sum := cov[i][j] - dot(l[i][:j], l[j][:j])
			if i == j {
				l[i][i] = math.Sqrt(sum)
			} else {
				l[i][j] = sum / l[j][j]
			}
		}
	}
	inv := make([][]float64, n)
	for i := range inv {
		inv[i] = make([]float64, i+1)
		inv[i][i] = 1 / l[i][i]
		for j := range i {
			sum := 0.0
			for k := j; k < i; k++ {
				sum += float64(l[i][k] * inv[k][j])
			}
			inv[i][j] = -sum * inv[i][i]
		}
	}
	return inv
}

// quantise makes integers of the projection: weights of 8 bits, each dimension in a unit of its own, of which mult makes the common one.
func (s *space) quantise(y *reduced, width int, white [][]float64) {
	dims := len(white)
	s.weights = make([]int8, dims*width)
	s.bias, s.mult = make([]int32, dims), make([]int32, dims)
	ratio := make([]float64, dims)
	w := make([]float64, width)
	for d := range dims {
		clear(w)
		for e, a := range white[d] {
			axpy(a, y.basis[e], w)
		}
		top, bias := 0.0, 0.0
		for c := range w {
			top = max(top, math.Abs(w[c]))
			bias += float64(w[c] * y.off[c])
		}
		unit := top / math.MaxInt8
		for c := range w {
			s.weights[d*width+c] = int8(math.RoundToEven(w[c] / unit))
		}
		s.bias[d] = int32(math.RoundToEven(bias * standardUnit / unit))
		ratio[d] = unit / standardUnit * belongUnit
	}
	s.mult, s.shift = fixedPoint(ratio)
}

// fixedPoint are factors as integers of 31 bits at most and one shift.
func fixedPoint(ratio []float64) (mult []int32, shift int) {
	_, exp := math.Frexp(slices.Max(ratio))
	shift = min(max(30-exp, 1), 62)
	for _, r := range ratio {
		mult = append(mult, int32(min(math.RoundToEven(math.Ldexp(r, shift)), math.MaxInt32)))
	}
	return mult, shift
}

// standardise8 makes what bundle.Belonging calls y of the features: Mean, Scale and ScaleShift, and y of each example.
func (y *reduced) standardise8(m *matrix) {
	y.mean, y.off = make([]int32, m.width), make([]float64, m.width)
	ratio := make([]float64, m.width)
	for c := range m.width {
		near := math.RoundToEven(m.mean[c])
		y.mean[c], y.off[c] = int32(-near), float64((near-m.mean[c])*m.scale[c])
		ratio[c] = m.scale[c] * standardUnit
	}
	y.scale, y.shift = fixedPoint(ratio)
	y.standard = make([][]int32, m.rows)
	parallel(m.rows, func(lo, hi, _ int) error {
		for i := lo; i < hi; i++ {
			y.standard[i] = make([]int32, m.width)
			for c, x := range m.raw[i] {
				y.standard[i][c] = arith.Clamp(arith.Requant(int64(x)+int64(y.mean[c]), y.scale[c], y.shift), math.MinInt8, math.MaxInt8)
			}
		}
		return nil
	})
}

// distance is that of a flow's standardised features from the nearest prototype: see bundle.Belonging.
func (s *space) distance(x []int32) int64 {
	dims := len(s.bias)
	z := make([]int32, dims)
	for d := range z {
		acc := int64(s.bias[d])
		for c, w := range s.weights[d*len(x) : (d+1)*len(x)] {
			acc += int64(w) * int64(x[c])
		}
		z[d] = arith.Clamp(arith.Requant(acc, s.mult[d], s.shift), math.MinInt16, math.MaxInt16)
	}
	return arith.Nearest(z, s.prototypes, math.MaxInt64)
}

// attach adds the belonging of an output to a program.
func (s *space) attach(p *bundle.Program, y *reduced, output, value int) {
	dims, name := len(s.bias), p.Outputs[output].Name+".belonging"
	w := bundle.Tensor{Name: name + ".w", DType: bundle.I8, Shape: []int{dims, 1, len(s.weights) / dims}}
	for _, x := range s.weights {
		w.Data = append(w.Data, byte(x))
	}
	protos := bundle.Tensor{Name: name + ".prototypes", DType: bundle.I16, Shape: []int{len(s.prototypes) / dims, dims}}
	for _, x := range s.prototypes {
		protos.Data = binary.LittleEndian.AppendUint16(protos.Data, uint16(x))
	}
	one := bundle.Tensor{Name: name + ".one", DType: bundle.I8, Shape: []int{len(y.mean), 1, 1}, Data: bytes.Repeat([]byte{1}, len(y.mean))}
	first := len(p.Tensors)
	p.Tensors = append(p.Tensors, one, ints(name+".mean", y.mean), ints(name+".scale", y.scale), w, ints(name+".b", s.bias), ints(name+".mult", s.mult), protos)
	p.Belonging = append(p.Belonging, bundle.Belonging{Output: output, Value: value,
		One: first, Mean: first + 1, Scale: first + 2, ScaleShift: y.shift, W: first + 3, Bias: first + 4, Mult: first + 5, Shift: s.shift, Prototypes: first + 6})
	slices.SortFunc(p.Belonging, func(a, b bundle.Belonging) int { return cmp.Compare(a.Output, b.Output) })
}
