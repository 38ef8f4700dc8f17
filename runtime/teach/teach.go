// Package teach puts new heads on a bundle's frozen encoder: a softmax regression, or nearest prototypes, on
// the pooled features that the integer engine computes, quantised into one more layer of the same program.
//
// What it makes depends on the flows and labels only: floating point is float64, every product is rounded before
// it is added (Go may fuse them on some CPUs), functions are internal/exact's, and sums are taken in one order
// whatever the number of cores. It knows nothing of captures and imports neither the compiler nor the packet path.
package teach

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"

	"nepcoc/internal/plural"
	"nepcoc/internal/version"
	"nepcoc/runtime/arith"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/engine"
	"nepcoc/runtime/refexec"
)

// Example is one flow of a known class.
type Example struct {
	Tokens []int32 // of the program's length
	Valid  int
	Label  int // index of Task.Labels
	Group  int // what cross-validation keeps together
	// Payload is how many bytes of payload the tokens hold. Flows with too little say nothing of what is known.
	Payload int
}

// Task is what a head is taught.
type Task struct {
	Name     string
	Labels   []string
	Examples []Example
}

// Mode says how a head is found.
type Mode string

// The modes.
const (
	Softmax   Mode = "softmax"   // regularised regression
	Prototype Mode = "prototype" // nearest mean of a class: for one to five flows a class
)

// Options say how to teach.
type Options struct {
	Mode Mode
	// Add keeps the outputs that the bundle has; one of the task's name is replaced.
	Add bool
	// Unknown is the score below which a verdict is unknown, 0 for none; nil: cross-validation finds it, see Report.Threshold.
	Unknown *float64
	// MinPayload is the new manifest's.
	MinPayload int
	// KnownPass is the share of known traffic that is to belong to the new output: see Know. 0: it tells nothing of that.
	KnownPass float64
	Progress  func(stage string, done, total int)
}

// Report says how well a task was learnt.
type Report struct {
	Task   string `json:"task"`
	Mode   Mode   `json:"mode"`
	Flows  int    `json:"flows"`
	Groups int    `json:"groups"`
	Width  int    `json:"features"`
	// ByGroup says that cross-validation kept groups together; there are too few of them otherwise.
	ByGroup bool `json:"by_group"`
	Folds   int  `json:"folds"`
	// Decay is the weight decay that cross-validation chose, 0 of prototypes.
	Decay float64 `json:"decay,omitempty"`
	// Accuracy and MacroF1 are cross-validated: of flows that the head was not taught with.
	Accuracy float64 `json:"accuracy"`
	MacroF1  float64 `json:"macro_f1"`
	// Labels are the names of the classes; Recall, Precision and Count are theirs, in this order.
	Labels    []string  `json:"labels"`
	Recall    []float64 `json:"recall"`
	Precision []float64 `json:"precision"`
	Count     []int     `json:"count"`
	// Agreement is the share of the flows of which the integers name the class that the head's real numbers name.
	Agreement   float64 `json:"agreement"`
	Temperature float64 `json:"temperature"`
	// Threshold is the score below which verdicts are unknown, 0 for none; Unknown is how many of the held-out flows have a
	// lower one, KnownAccuracy the accuracy of the others.
	Threshold     float64 `json:"unknown_threshold"`
	Unknown       int     `json:"unknown"`
	KnownAccuracy float64 `json:"known_accuracy"`
	// Known says which flows the output knows, where that was asked for.
	Known *KnownReport `json:"known,omitempty"`
	Notes []string     `json:"notes,omitempty"`
}

// Teach makes a bundle with a head for the task.
func Teach(b *bundle.Bundle, t *Task, opt Options) (*bundle.Bundle, *Report, error) {
	if opt.Progress == nil {
		opt.Progress = func(string, int, int) {}
	}
	if err := t.Check(); err != nil {
		return nil, nil, err
	}
	feed, err := feature(b.Program)
	if err != nil {
		return nil, nil, err
	}
	x, err := features(b.Program, feed, t.Examples, opt.Progress)
	if err != nil {
		return nil, nil, err
	}
	r := &Report{Task: t.Name, Mode: opt.Mode, Labels: t.Labels, Flows: len(t.Examples), Width: x.width}
	if gone := forgotten(b, t); gone != nil {
		r.Notes = append(r.Notes, fmt.Sprintf("%s that task %s had %s gone, since none of the flows is of them: %s; a task is taught anew, with the flows of all its classes", plural.Of(len(gone), "class"), t.Name, plural.Verb(len(gone), "is", "are"), strings.Join(gone, ", ")))
	}
	h := x.learn(t, r, opt)
	p, err := attach(b.Program, feed, h, t, opt.Add)
	if err != nil {
		return nil, nil, err
	}
	out, err := finish(b, p, t, h, r, x, &opt)
	if err == nil && opt.KnownPass > 0 {
		at := slices.IndexFunc(p.Outputs, func(o bundle.Output) bool { return o.Name == t.Name })
		r.Known, err = Know(out, at, t.Examples, KnownOptions{Pass: opt.KnownPass, Labelled: true, Progress: opt.Progress})
	}
	return out, r, err
}

// CheckName says what is wrong with a task's name.
func CheckName(name string) error {
	if name == "" {
		return errors.New("a task has a name, that of its output")
	}
	return bundle.CheckName(name)
}

// Check says why nothing can be learnt of a task's flows.
func (t *Task) Check() error {
	if err := CheckName(t.Name); err != nil {
		return fmt.Errorf("task name: %w", err)
	}
	count := make([]int, len(t.Labels))
	for i := range t.Examples {
		count[t.Examples[i].Label]++
	}
	used := 0
	for _, n := range count {
		if n > 0 {
			used++
		}
	}
	if used < 2 {
		return fmt.Errorf("%d flows of %d classes: teaching needs flows of two classes at least", len(t.Examples), used)
	}
	for k, n := range count {
		if n == 0 {
			return fmt.Errorf("class %q has no flow: leave it out, or label some", t.Labels[k])
		}
	}
	return nil
}

// forgotten are the classes of the bundle's output of a task's name that the task has not.
func forgotten(b *bundle.Bundle, t *Task) (names []string) {
	for _, o := range b.Manifest.Outputs {
		for _, l := range o.Labels {
			if o.Name == t.Name && !slices.Contains(t.Labels, l) {
				names = append(names, l)
			}
		}
	}
	return names
}

// feature is the vector that every output of a program is a linear layer of: what a new head can read.
func feature(p *bundle.Program) (value int, err error) {
	value = -1
	for _, o := range p.Outputs {
		s := maker(p, o.Value)
		if s == nil || s.Op != bundle.OpConv || s.Conv.K != 1 || p.Values[s.In[0]].Rows != 1 {
			return 0, fmt.Errorf("output %s is not a linear layer on a vector of features: teach needs an encoder whose output is pooled features (examples/foundation has one), or a bundle that teach has made", o.Name)
		}
		if value >= 0 && value != s.In[0] {
			return 0, errors.New("the outputs read different vectors: teach needs one encoder with one vector of features")
		}
		value = s.In[0]
	}
	return value, nil
}

// maker is the step that computes a value.
func maker(p *bundle.Program, value int) *bundle.Step {
	for i := range p.Steps {
		if p.Steps[i].Out == value {
			return &p.Steps[i]
		}
	}
	return nil
}

// clone is a program whose lists can be changed without changing p.
func clone(p *bundle.Program) *bundle.Program {
	c := *p
	c.Values, c.Tensors, c.Steps, c.Outputs = slices.Clone(p.Values), slices.Clone(p.Tensors), slices.Clone(p.Steps), slices.Clone(p.Outputs)
	return &c
}

// linear adds a layer of 32-bit results on a vector: weights [len(bias), columns of in].
func linear(p *bundle.Program, name string, in, groups int, weights []int16, bias []int32) (value int) {
	n := len(bias)
	w := bundle.Tensor{Name: name + ".w", DType: bundle.I16, Shape: []int{n, 1, len(weights) / n}}
	for _, x := range weights {
		w.Data = binary.LittleEndian.AppendUint16(w.Data, uint16(x))
	}
	p.Tensors = append(p.Tensors, w, ints(name+".b", bias))
	p.Values = append(p.Values, bundle.Value{Name: name, DType: bundle.I32, Rows: 1, Cols: n})
	value = len(p.Values) - 1
	p.Steps = append(p.Steps, bundle.Step{Op: bundle.OpConv, Name: name, In: []int{in}, Out: value, Conv: &bundle.Conv{
		K: 1, Stride: 1, Dilation: 1, Groups: groups, W: len(p.Tensors) - 2, Bias: len(p.Tensors) - 1, Pad: -1,
		Requant: bundle.Requant{Mult: -1, Table: -1},
	}})
	return value
}

func ints(name string, data []int32) bundle.Tensor {
	t := bundle.Tensor{Name: name, DType: bundle.I32, Shape: []int{len(data)}}
	for _, x := range data {
		t.Data = binary.LittleEndian.AppendUint32(t.Data, uint32(x))
	}
	return t
}

// matrix holds the features of all examples, each column with mean 0 and in units of its standard deviation, or of
// leastDeviation times the median of all columns', where that is more. Columns that are the same in all examples are 0.
type matrix struct {
	rows, width int
	data        []float32
	mean, scale []float64 // standardised = (feature - mean) * scale
	raw         [][]int32
}

// features computes what the program's features are of each example.
func features(p *bundle.Program, value int, examples []Example, progress func(string, int, int)) (*matrix, error) {
	probe := clone(p)
	probe.Belonging = nil
	width := probe.Values[value].Cols
	ones := make([]int16, width)
	for i := range ones {
		ones[i] = 1
	}
	v := linear(probe, "teach.features", value, width, ones, make([]int32, width))
	probe.Outputs = []bundle.Output{{Name: "features", Value: v, Ending: bundle.EndLogits, Scale: 1, Exp: -1}}
	e, err := engine.Bind(probe, engine.Options{})
	if err != nil {
		return nil, fmt.Errorf("features: %w", err)
	}
	m := &matrix{rows: len(examples), width: width, raw: make([][]int32, len(examples))}
	err = parallel(len(examples), func(lo, hi int, worker int) error {
		ctx := e.NewContext()
		for i := lo; i < hi; i++ {
			if worker == 0 {
				progress("computing features", i-lo, hi-lo)
			}
			out := [][]int32{make([]int32, width)}
			if err := ctx.Run(examples[i].Tokens, examples[i].Valid, out); err != nil {
				return fmt.Errorf("flow %d: %w", i, err)
			}
			m.raw[i] = out[0]
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	all := make([]int, m.rows)
	for i := range all {
		all[i] = i
	}
	m.standardise(all, leastDeviation)
	return m, nil
}

// parallel runs f on parts of 0..n, one for each core.
func parallel(n int, f func(lo, hi, worker int) error) error {
	workers := max(1, min(runtime.GOMAXPROCS(0), n))
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			errs[w] = f(w*n/workers, (w+1)*n/workers, w)
		}()
	}
	wg.Wait()
	return errors.Join(errs...)
}

// leastDeviation bounds what a column is stretched by. All weights of a head share one unit on the integers, so a column
// that hardly varies, whose weights are the larger the less it does, would leave few bits to the others.
const leastDeviation = 3

// standardise makes the data of the features, by the mean and the deviation of the rows of index. Deviations count as least medians of
// them at least.
func (m *matrix) standardise(index []int, least float64) {
	m.mean, m.scale = make([]float64, m.width), make([]float64, m.width)
	var deviations []float64 // of the columns that vary
	for c := range m.width {
		var sum, square int64 // exact: 16 bits of features
		for _, i := range index {
			q := int64(m.raw[i][c])
			sum += q
			square += q * q
		}
		n := float64(len(index))
		mean := float64(sum) / n
		variance := float64(square)/n - float64(mean*mean)
		m.mean[c] = mean
		if variance > 0.25 { // below half a step it is noise
			m.scale[c] = math.Sqrt(variance)
			deviations = append(deviations, m.scale[c])
		}
	}
	slices.Sort(deviations)
	for c, d := range m.scale {
		if d > 0 {
			m.scale[c] = 1 / max(d, least*deviations[len(deviations)/2])
		}
	}
	if m.data == nil {
		m.data = make([]float32, m.rows*m.width)
	}
	for i, row := range m.raw {
		for c, q := range row {
			m.data[i*m.width+c] = float32(float64(float64(q)-m.mean[c]) * m.scale[c])
		}
	}
}

// head is a linear layer: weights [width, classes], feature by feature. It reads standardised features while it is
// learnt, and the integers themselves when it is done: see learn.
type head struct {
	classes     int
	weights     []float64
	bias        []float64
	temperature float64
	// scale is the integer logits' unit.
	scale float64
}

// attach adds the head to a program, quantised: with as many bits as 32-bit sums leave it.
func attach(p *bundle.Program, feed int, h *head, t *Task, add bool) (*bundle.Program, error) {
	base := clone(p)
	replaced := slices.IndexFunc(base.Outputs, func(o bundle.Output) bool { return o.Name == t.Name })
	if !add {
		if len(base.Outputs) > 1 {
			return nil, fmt.Errorf("the bundle has %d outputs already: keep them (--add), or begin with its encoder", len(base.Outputs))
		}
		replaced = 0
	}
	if replaced >= 0 {
		base, feed = without(base, replaced, feed)
	}
	return base, h.quantise(base, feed, t.Name)
}

// without is a program without one of its outputs and what only that needs, and the number of the value that all
// outputs read there.
func without(p *bundle.Program, output, feed int) (*bundle.Program, int) {
	var belonging []bundle.Belonging
	for _, b := range p.Belonging {
		if b.Output > output {
			b.Output--
		} else if b.Output == output {
			continue
		}
		belonging = append(belonging, b)
	}
	p.Belonging = belonging
	p.Outputs = append(slices.Delete(p.Outputs, output, output+1), bundle.Output{Name: "features", Value: feed, Exp: -1})
	p = p.Prune()
	last := len(p.Outputs) - 1
	feed = p.Outputs[last].Value
	p.Outputs = p.Outputs[:last]
	return p, feed
}

// finish makes the bundle around the program.
func finish(b *bundle.Bundle, p *bundle.Program, t *Task, h *head, r *Report, x *matrix, opt *Options) (*bundle.Bundle, error) {
	out := &bundle.Bundle{Manifest: b.Manifest, Program: p}
	m := &out.Manifest
	m.Tool = "nepcoc " + version.Version
	m.MinPayload = opt.MinPayload
	m.Outputs = nil
	for i := range p.Outputs {
		o := bundle.OutputInfo{Name: p.Outputs[i].Name, Kind: bundle.KindClasses, Labels: t.Labels, Temperature: h.temperature,
			Taught: &bundle.Taught{Mode: string(r.Mode), Flows: r.Flows, Groups: r.Groups, Accuracy: r.Accuracy, MacroF1: r.MacroF1}}
		if r.Threshold > 0 {
			o.UnknownThreshold = &r.Threshold
		}
		if o.Name != t.Name {
			k := slices.IndexFunc(b.Manifest.Outputs, func(k bundle.OutputInfo) bool { return k.Name == o.Name })
			o = b.Manifest.Outputs[k]
		}
		m.Outputs = append(m.Outputs, o)
	}
	m.Sizes = bundle.Sizes{MACs: b.Manifest.Sizes.MACs, Weights: p.WeightBytes()}
	// The encoder's own figures say how near its features are to the float model's; they stay.
	exec, err := refexec.New(p.Judged())
	if err != nil {
		return nil, err
	}
	for _, g := range b.Golden {
		g.Logits, err = exec.Run(g.Tokens, g.Valid)
		if err != nil {
			return nil, err
		}
		out.Golden = append(out.Golden, g)
	}
	return out, r.agreement(p, t, h, x)
}

// mostBehind is by how much the accuracy on flows that were taught may be below that on flows that were held back.
const mostBehind = 0.05

// agreement runs the finished program on every example and compares its class with that of the real numbers.
// A head that is right for fewer of them than for those that were held back is refused.
func (r *Report) agreement(p *bundle.Program, t *Task, h *head, x *matrix) error {
	at := slices.IndexFunc(p.Outputs, func(o bundle.Output) bool { return o.Name == t.Name })
	e, err := engine.Bind(p, engine.Options{})
	if err != nil {
		return err
	}
	same := make([]int, max(1, runtime.GOMAXPROCS(0)))
	right := make([]int, len(same))
	err = parallel(len(t.Examples), func(lo, hi, worker int) error {
		ctx, out, logits := e.NewContext(), e.NewOutput(), make([]float64, h.classes)
		for i := lo; i < hi; i++ {
			if err := ctx.Run(t.Examples[i].Tokens, t.Examples[i].Valid, out); err != nil {
				return err
			}
			copy(logits, h.bias) // of the integers themselves: see learn
			for c, q := range x.raw[i] {
				for k, w := range h.weights[c*h.classes : (c+1)*h.classes] {
					logits[k] += float64(w * float64(q))
				}
			}
			if largest(out[at]) == largest(logits) {
				same[worker]++
			}
			if largest(out[at]) == t.Examples[i].Label {
				right[worker]++
			}
		}
		return nil
	})
	n := 0
	for _, s := range same {
		n += s
	}
	r.Agreement = rounded(float64(n) / float64(len(t.Examples)))
	n = 0
	for _, k := range right {
		n += k
	}
	// Flows that it was taught on are no harder than those that were held back: else the last of the heads is not what was measured.
	if taught := float64(n) / float64(len(t.Examples)); err == nil && taught < r.Accuracy-mostBehind {
		return fmt.Errorf("output %s: the integers give %.1f %% of the flows that they were taught on the right class, cross-validation %.1f %% of flows that were held back: this head is not as good as what was measured, so it is not written; teach it with flows of more recordings, or with --mode prototype, and please report this",
			t.Name, 100*taught, 100*r.Accuracy)
	}
	return err
}

func largest[T int32 | float64](l []T) int {
	best := 0
	for i, x := range l {
		if x > l[best] {
			best = i
		}
	}
	return best
}

func rounded(x float64) float64 { return math.Round(x*1e4) / 1e4 }

// quantise adds the layer: weights of 16 bits, in units that the validator's proof of 32-bit sums allows.
func (h *head) quantise(p *bundle.Program, feed int, name string) error {
	width := len(h.weights) / h.classes
	top := 0.0
	for _, w := range h.weights {
		top = max(top, math.Abs(w))
	}
	if top == 0 {
		return errors.New("no feature tells the classes apart: the flows of all classes look the same to the encoder")
	}
	exp := ints(name+".exp", arith.ExpTable())
	for unit := top / math.MaxInt16; ; unit *= 2 {
		w, b := make([]int16, len(h.weights)), make([]int32, h.classes)
		fits := true
		for k := range h.classes {
			for c := range width {
				w[k*width+c] = int16(math.RoundToEven(h.weights[c*h.classes+k] / unit))
			}
			x := math.RoundToEven(h.bias[k] / unit)
			fits = fits && math.Abs(x) < 1<<30
			b[k] = int32(max(-1<<30, min(1<<30, x)))
		}
		q := clone(p)
		v := linear(q, name, feed, 1, w, b)
		q.Tensors = append(q.Tensors, exp)
		mult, shift := arith.ExpRatio(unit / h.temperature)
		q.Outputs = append(q.Outputs, bundle.Output{Name: name, Value: v, Ending: bundle.EndLogits, Scale: unit, ExpMult: mult, ExpShift: shift, Exp: len(q.Tensors) - 1})
		err := q.Validate()
		if err == nil && fits {
			*p = *q
			h.scale = unit
			return nil
		}
		if unit > top {
			return fmt.Errorf("the head does not fit 32 bits: %w", err)
		}
	}
}
