package report

import (
	"cmp"
	"math"
	"slices"

	"nepcoc/compiler/calibrate"
	"nepcoc/compiler/verify"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
)

// Output is how one output does.
type Output struct {
	Name string            `json:"name"`
	Kind bundle.OutputKind `json:"kind"`
	// Classes are its classes or labels. Threshold is the score below which a verdict is unknown, 0 for none.
	Classes   []string `json:"classes,omitempty"`
	Threshold float64  `json:"unknown_threshold,omitempty"`
	// KnownPass is the share of known traffic that belongs, where flows farther from what is known than that are unknown, too.
	KnownPass float64 `json:"known_pass,omitempty"`
	// Agreement compares float and integer over Compared flows; 0 without a model.
	Compared  int     `json:"compared"`
	Agreement float64 `json:"agreement,omitempty"`
	Cosine    float64 `json:"cosine,omitempty"`
	RelError  float64 `json:"rel_error,omitempty"`
	// Integer and Float are judged by labels, where there are any; an unknown verdict counts by the class that it would have.
	Integer *verify.Score `json:"integer,omitempty"`
	Float   *verify.Score `json:"float,omitempty"`
	// Unknown counts the verdicts below the threshold, or farther from what is known than the bundle's bound; Insufficient the flows
	// without payload enough for a verdict. NoLabel counts both among flows with a label.
	Unknown      int `json:"unknown"`
	Insufficient int `json:"insufficient"`
	NoLabel      int `json:"no_label,omitempty"`
	// Known is how well what gets no label is told from the rest.
	Known *verify.KnownStats `json:"known,omitempty"`
	// Confusion counts the flows of each label (row) by verdict (column); the last column is those without a label. Of classes and
	// binary outputs.
	Confusion [][]int `json:"confusion,omitempty"`
	PerClass  []Class `json:"per_class,omitempty"`
	// Reliability compares scores with how often verdicts are right; ECE is the mean difference, weighted by flows; null of fewer than calibrate.LeastFlows.
	Reliability []Bin    `json:"reliability,omitempty"`
	ECE         *float64 `json:"ece,omitempty"`
	// Coverage is what becomes of accuracy where verdicts below a threshold are left out.
	Coverage []Point `json:"coverage,omitempty"`
	// Evidence is what the verdicts of each class stand on, of Explained flows; only of models that read packets.
	Explained int        `json:"explained,omitempty"`
	Evidence  []Evidence `json:"evidence,omitempty"`
	// Wrong are the flows with a wrong verdict, the surest first; Differing those where float and integer differ.
	Wrong     []Flow `json:"wrong,omitempty"`
	Differing []Flow `json:"differing,omitempty"`
}

// Class is how one class or label does. Support is how many flows have it by label, Predicted how many by verdict, Right how many by
// both. A quotient by no flow is null.
type Class struct {
	Name      string   `json:"name"`
	Support   int      `json:"support"`
	Predicted int      `json:"predicted"`
	Right     int      `json:"right"`
	Precision *float64 `json:"precision"`
	Recall    *float64 `json:"recall"`
	F1        *float64 `json:"f1"`
}

// Bin are the flows whose score is in From..To: how sure the verdicts were on average, how often they were right, and the 95 % interval of
// that (Wilson's).
type Bin struct {
	From     float64 `json:"from"`
	To       float64 `json:"to"`
	Flows    int     `json:"flows"`
	Score    float64 `json:"score"`
	Accuracy float64 `json:"accuracy"`
	Low      float64 `json:"low"`
	High     float64 `json:"high"`
}

// Point is a threshold: Flows have a score of at least that, Right of them the right verdict.
type Point struct {
	Threshold float64 `json:"threshold"`
	Flows     int     `json:"flows"`
	Coverage  float64 `json:"coverage"`
	Right     int     `json:"right"`
	Accuracy  float64 `json:"accuracy"`
}

// Flow is one flow that is shown by itself.
type Flow struct {
	Number  int      `json:"number"` // in the order of first packets, from 1: nepcoc explain --flow shows it
	Time    string   `json:"time"`   // of its first packet
	Tuple   string   `json:"flow"`
	Label   []string `json:"label,omitempty"`
	Float   []string `json:"float,omitempty"`
	Verdict []string `json:"verdict"`
	Unknown bool     `json:"unknown,omitempty"`
	// Insufficient: too little payload for a verdict.
	Insufficient bool `json:"insufficient,omitempty"`
	// Score and Margin are null where an output gives several labels: each has a score of its own.
	Score  *float64 `json:"score"`
	Margin *float64 `json:"margin"`
	Marks  []string `json:"marks,omitempty"`
}

const (
	bins   = 10  // of scores
	points = 101 // thresholds, 0 to 1
)

// newOutput makes output i's figures; res is what a classifier says of each input.
func newOutput(v *verify.Report, i int, res [][]classify.Result) Output {
	s, e := &v.Output[i], &v.Evidence
	p, info := e.Bundle.Program, &e.Bundle.Manifest.Outputs[i]
	o := Output{Name: s.Name, Kind: s.Kind, Integer: s.Integer, Float: s.Float, Compared: s.Samples}
	if s.Samples > 0 {
		o.Agreement, o.Cosine, o.RelError = s.Agreement, round(s.Cosine), round(s.RelError)
	}
	head, judge := classify.NewHead(p, i, info), calibrate.NewJudge(p, i, info)
	if o.Threshold = probability(head.Unknown); o.Kind == bundle.KindValues {
		return o
	}
	o.Classes = judge.Labels()
	if info.Known != nil {
		o.KnownPass = info.Known.Pass
	}
	f := &figures{o: &o, labels: e.Set.LabelsOf(s.Name, i == 0), res: make([]classify.Result, len(res))}
	f.verdicts = calibrate.Verdicts(e.Integer[i], judge.Integer)
	for k := range res {
		f.res[k] = res[k][i]
		switch {
		case insufficient(e, k):
			o.Insufficient++
		case f.res[k].Unknown:
			o.Unknown++
		}
		f.without = append(f.without, f.res[k].Unknown || insufficient(e, k))
	}
	shown := func(k int) Flow {
		r := &e.Set.Flows[k]
		fl := Flow{Number: e.Set.Numbers[k], Time: clock(r.First), Tuple: r.Key.String(), Verdict: o.named(f.verdicts[k]), Unknown: f.res[k].Unknown, Insufficient: insufficient(e, k), Marks: r.Marks.Names()}
		if o.Kind != bundle.KindLabels {
			score, margin := probability(f.res[k].Score), probability(f.res[k].Margin)
			fl.Score, fl.Margin = &score, &margin
		}
		if f.labels != nil {
			fl.Label = o.named(f.labels[k])
		}
		if e.Float != nil {
			fl.Float = o.named(judge.Float(e.Float[i][k]))
		}
		return fl
	}
	for _, k := range s.Differing {
		o.Differing = append(o.Differing, shown(k))
	}
	if s.Integer == nil {
		return o
	}
	f.classes()
	if o.Kind != bundle.KindLabels {
		f.confusion()
		if p.Outputs[i].Exp >= 0 { // there are scores
			f.reliability()
			f.coverage()
		}
	}
	var wrong []int
	for k, l := range f.labels {
		if l != nil && !slices.Equal(l, f.verdicts[k]) {
			wrong = append(wrong, k)
		}
	}
	slices.SortStableFunc(wrong, func(a, b int) int { return cmp.Compare(f.res[b].Score, f.res[a].Score) })
	for _, k := range wrong {
		o.Wrong = append(o.Wrong, shown(k))
	}
	return o
}

// insufficient tells that a flow has too little payload for a verdict.
func insufficient(e *verify.Evidence, k int) bool {
	return e.Set.Flows[k].Payload < e.Bundle.Manifest.LeastPayload()
}

// named are the names of classes.
func (o *Output) named(list []int) (names []string) {
	for _, k := range list {
		names = append(names, o.Classes[k])
	}
	return names
}

// figures are made of verdicts and labels, both by flow.
type figures struct {
	o                *Output
	labels, verdicts [][]int
	res              []classify.Result
	without          []bool // a label
}

// classes counts each class by itself.
func (f *figures) classes() {
	list := make([]Class, len(f.o.Classes))
	for k := range list {
		list[k].Name = f.o.Classes[k]
	}
	for i, want := range f.labels {
		if want == nil {
			continue
		}
		for _, k := range want {
			list[k].Support++
		}
		for _, k := range f.verdicts[i] {
			if list[k].Predicted++; slices.Contains(want, k) {
				list[k].Right++
			}
		}
	}
	for k := range list {
		c := &list[k]
		c.Precision, c.Recall, c.F1 = quotient(c.Right, c.Predicted), quotient(c.Right, c.Support), quotient(2*c.Right, c.Predicted+c.Support)
	}
	f.o.PerClass = list
}

func (f *figures) confusion() {
	n := len(f.o.Classes)
	f.o.Confusion = make([][]int, n)
	for k := range f.o.Confusion {
		f.o.Confusion[k] = make([]int, n+1)
	}
	for i, want := range f.labels {
		if len(want) != 1 {
			continue
		}
		verdict := f.res[i].Class
		if f.without[i] {
			verdict = n
		}
		f.o.Confusion[want[0]][verdict]++
	}
}

// right calls f with each labelled flow's score and whether its verdict is right, and returns their number.
func (f *figures) right(each func(score float64, right bool)) (n int) {
	for i, want := range f.labels {
		if want != nil {
			n++
			each(probability(f.res[i].Score), slices.Equal(want, f.verdicts[i]))
		}
	}
	return n
}

func (f *figures) reliability() {
	list := make([]Bin, bins)
	right := make([]int, bins)
	n := f.right(func(score float64, ok bool) {
		k := min(bins-1, int(score*bins))
		list[k].Flows++
		list[k].Score += score
		if ok {
			right[k]++
		}
	})
	ece := 0.0
	for k := range list {
		b := &list[k]
		b.From, b.To = float64(k)/bins, float64(k+1)/bins
		if b.Flows == 0 {
			continue
		}
		b.Score = round(b.Score / float64(b.Flows))
		b.Accuracy = round(float64(right[k]) / float64(b.Flows))
		b.Low, b.High = wilson(right[k], b.Flows)
		ece += float64(float64(b.Flows) / float64(n) * math.Abs(b.Accuracy-b.Score))
	}
	f.o.Reliability = list
	if ece = round(ece); n >= calibrate.LeastFlows {
		f.o.ECE = &ece
	}
}

func (f *figures) coverage() {
	for k := range points {
		p := Point{Threshold: float64(k) / (points - 1)}
		n := f.right(func(score float64, ok bool) {
			if score < p.Threshold {
				return
			}
			if p.Flows++; ok {
				p.Right++
			}
		})
		p.Coverage, p.Accuracy = round(float64(p.Flows)/float64(n)), round(float64(p.Right)/float64(max(1, p.Flows)))
		f.o.Coverage = append(f.o.Coverage, p)
	}
}

// at is the point of a threshold.
func (o *Output) at(threshold float64) *Point {
	if len(o.Coverage) == 0 {
		return nil
	}
	return &o.Coverage[min(points-1, int(math.Ceil(threshold*(points-1))))]
}

func probability(x int32) float64 { return round(float64(x) / bundle.ProbabilityOne) }

// round keeps what is told apart, and takes off the last bits, in which CPUs differ.
func round(x float64) float64 { return math.Round(x*1e6) / 1e6 }

// quotient is nil by 0.
func quotient(a, b int) *float64 {
	if b == 0 {
		return nil
	}
	q := round(float64(a) / float64(b))
	return &q
}

// wilson is the 95 % interval of a share of which k of n were seen (E. B. Wilson, 1927).
func wilson(k, n int) (low, high float64) {
	const z = 1.96
	p, m := float64(k)/float64(n), float64(n)
	// Each product is rounded before it is added: the same bits on every CPU.
	mid := (p + z*z/(2*m)) / (1 + z*z/m)
	half := float64(z / (1 + z*z/m) * math.Sqrt(float64(p*(1-p))/m+z*z/(4*m*m)))
	return round(max(0, mid-half)), round(min(1, mid+half))
}
