package bundle

import (
	"errors"
	"fmt"
	"slices"
)

// Belonging says how near a flow is to the classes that an output was made from: the square of the distance, in a
// projection of the model's pooled features in which the flows of a class lie alike in all directions, to the nearest
// mean of a class or of a part of it
// (K. Lee et al., "A simple unified framework for detecting out-of-distribution samples", 2018: the Mahalanobis distance).
//
//	y[c]     = sat8(((x[c] - Mean[c])*Scale[c] + (1<<(ScaleShift-1))) >> ScaleShift)
//	z[d]     = sat16((acc[d]*Mult[d] + (1<<(Shift-1))) >> Shift),  acc[d] = Bias[d] + sum_c W[d,c]*y[c]
//	distance = min_p sum_d (z[d] - Prototypes[p,d])^2
//
// x is Value. In the steps that Judged makes of it, One is a weight and Mean has its sign changed. It is no step of the program: who wants it runs Judged.
type Belonging struct {
	Output     int `json:"output"` // index of Outputs
	Value      int `json:"value"`  // a vector of i8 or i16
	One        int `json:"one"`    // i8 [C,1,1], all 1; C are the columns of Value
	Mean       int `json:"mean"`   // i32 [C], less than 0 where the mean is more
	Scale      int `json:"scale"`  // i32 [C]
	ScaleShift int `json:"scale_shift"`
	W          int `json:"w"`    // i8 [D,1,C]
	Bias       int `json:"bias"` // i32 [D]
	Mult       int `json:"mult"` // i32 [D]
	Shift      int `json:"shift"`
	Prototypes int `json:"prototypes"` // i16 [P,D]
}

// MaxBelonging is the largest D: it keeps distances within 2^42.
const MaxBelonging = 256

// tensors are the places that name tensors.
func (b *Belonging) tensors() []*int {
	return []*int{&b.One, &b.Mean, &b.Scale, &b.W, &b.Bias, &b.Mult, &b.Prototypes}
}

// Judged is the program with one more output for each Belonging, behind the others: its vector z. Without any it is p itself.
func (p *Program) Judged() *Program {
	if len(p.Belonging) == 0 {
		return p
	}
	q := *p
	q.Belonging = nil
	q.Values, q.Steps, q.Outputs = slices.Clone(p.Values), slices.Clone(p.Steps), slices.Clone(p.Outputs)
	for i := range p.Belonging {
		b := &p.Belonging[i]
		name := p.Outputs[b.Output].Name + " (belonging)"
		columns := p.Values[b.Value].Cols
		q.Values = append(q.Values, Value{Name: name + " standardised", DType: I8, Rows: 1, Cols: columns}, Value{Name: name, DType: I16, Rows: 1, Cols: p.Tensors[b.W].Shape[0]})
		out := len(q.Values) - 1
		q.Steps = append(q.Steps, Step{Op: OpConv, Name: name + " standardised", In: []int{b.Value}, Out: out - 1, Conv: &Conv{
			K: 1, Stride: 1, Dilation: 1, Groups: columns, W: b.One, Bias: b.Mean, Pad: -1,
			Requant: Requant{Mult: b.Scale, Shift: b.ScaleShift, Lo: -128, Hi: 127, Table: -1}}})
		q.Steps = append(q.Steps, Step{Op: OpConv, Name: name, In: []int{out - 1}, Out: out, Conv: &Conv{
			K: 1, Stride: 1, Dilation: 1, Groups: 1, W: b.W, Bias: b.Bias, Pad: -1,
			Requant: Requant{Mult: b.Mult, Shift: b.Shift, Lo: -32768, Hi: 32767, Table: -1}}})
		q.Outputs = append(q.Outputs, Output{Name: name, Value: out, Ending: EndLogits, Scale: 1, Exp: -1})
	}
	return &q
}

// belonging checks what Judged relies on; the rest is checked as its steps are.
func (p *Program) belonging() error {
	last := -1
	for i := range p.Belonging {
		b := &p.Belonging[i]
		if err := p.belongs(b, last); err != nil {
			return fmt.Errorf("belonging %d: %w", i, err)
		}
		last = b.Output
	}
	return nil
}

func (p *Program) belongs(b *Belonging, last int) error {
	if b.Output <= last || b.Output >= len(p.Outputs) {
		return fmt.Errorf("output %d of %d, behind %d", b.Output, len(p.Outputs), last)
	}
	if b.Value < 0 || b.Value >= len(p.Values) {
		return fmt.Errorf("value %d of %d", b.Value, len(p.Values))
	}
	for _, t := range b.tensors() {
		if *t < 0 || *t >= len(p.Tensors) {
			return fmt.Errorf("tensor %d of %d", *t, len(p.Tensors))
		}
	}
	w, protos := &p.Tensors[b.W], &p.Tensors[b.Prototypes]
	if p.Values[b.Value].Rows != 1 || len(w.Shape) != 3 || w.Shape[0] < 1 || w.Shape[0] > MaxBelonging {
		return errors.New("it reads no vector, or is none")
	}
	if protos.DType != I16 || len(protos.Shape) != 2 || protos.Shape[0] < 1 || protos.Shape[1] != w.Shape[0] {
		return fmt.Errorf("prototypes %s %v for %d dimensions", protos.DType, protos.Shape, w.Shape[0])
	}
	if n, err := protos.bytes(); err != nil || n != uint64(len(protos.Data)) {
		return fmt.Errorf("prototypes of %d bytes: %v", len(protos.Data), err)
	}
	return nil
}

// Known says which flows belong to what an output was made from.
type Known struct {
	// Pass is the share of known traffic that was to belong, Bound the largest distance that does.
	Pass  float64 `json:"pass"`
	Bound int64   `json:"bound"`
	// Quantiles are distances of known flows that had no part in what they were compared with, in even steps from the nearest to
	// the farthest.
	Quantiles []int64 `json:"quantiles"`
	// Flows is how many there were; Labelled says that their classes were given, not the model's own verdicts.
	Flows    int  `json:"flows"`
	Labelled bool `json:"labelled,omitempty"`
	// Classes are those of the prototypes, in order: a class has one, several or none.
	Classes []int `json:"classes"`
}

const maxQuantiles = 1 << 12

// Share is the share of the known flows that lie as far out as distance or farther, in 1/ProbabilityOne.
func (k *Known) Share(distance int64) int32 {
	at, _ := slices.BinarySearch(k.Quantiles, distance)
	return int32(int64(len(k.Quantiles)-at) * ProbabilityOne / int64(len(k.Quantiles)))
}

func (k *Known) validate(prototypes, classes int) error {
	if len(k.Classes) != prototypes || !slices.IsSorted(k.Classes) {
		return fmt.Errorf("%d prototypes of %d, by the manifest, or their classes are not in order", prototypes, len(k.Classes))
	}
	for _, c := range k.Classes {
		if c < 0 || c >= classes {
			return fmt.Errorf("a prototype of class %d of %d", c, classes)
		}
	}
	switch {
	case !(k.Pass > 0 && k.Pass <= 1):
		return fmt.Errorf("pass %g is not above 0 and at most 1", k.Pass)
	case k.Bound < 0 || k.Flows < 1:
		return fmt.Errorf("bound %d of %d flows", k.Bound, k.Flows)
	case len(k.Quantiles) < 1 || len(k.Quantiles) > maxQuantiles || !slices.IsSorted(k.Quantiles):
		return fmt.Errorf("%d quantiles, or not in order", len(k.Quantiles))
	}
	return nil
}

// knows checks that what the manifest says of belonging is what the program has.
func (m *Manifest) knows(p *Program) error {
	for i := range m.Outputs {
		o := &m.Outputs[i]
		at := slices.IndexFunc(p.Belonging, func(b Belonging) bool { return b.Output == i })
		if (at >= 0) != (o.Known != nil) {
			return fmt.Errorf("output %q: belonging stands in the manifest or in the program only", o.Name)
		}
		if o.Known == nil {
			continue
		}
		if k := o.EffectiveKind(); k != KindClasses && k != KindBinary {
			return fmt.Errorf("output %q: belonging of %s", o.Name, k)
		}
		prototypes, classes := p.Tensors[p.Belonging[at].Prototypes].Shape[0], o.EffectiveKind().NumLabels(p.Values[p.Outputs[i].Value].Cols)
		if err := o.Known.validate(prototypes, classes); err != nil {
			return fmt.Errorf("output %q: belonging: %w", o.Name, err)
		}
	}
	return nil
}
