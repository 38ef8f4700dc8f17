package calibrate

import (
	"nepcoc/internal/exact"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
)

// Judge makes the verdicts of one output out of integer logits, as executors do, and out of the float
// model's values, so that the two can be compared. A verdict is the list of the classes or
// labels that it names, in order: one of classes and of a binary output, any number of labels, none of values.
type Judge struct {
	Output *bundle.Output
	head   classify.Head
	// thresholds and temperature are the manifest's.
	thresholds  []float64
	temperature float64
	res         classify.Result
}

// NewJudge is the judge of output i of a program, which info describes. It is not for
// concurrent use.
func NewJudge(p *bundle.Program, i int, info *bundle.OutputInfo) *Judge {
	j := &Judge{Output: &p.Outputs[i], head: classify.NewHead(p, i, info), thresholds: info.Thresholds, temperature: info.Temperature}
	if j.temperature == 0 {
		j.temperature = 1
	}
	return j
}

// Kind is the output's.
func (j *Judge) Kind() bundle.OutputKind { return j.head.Kind }

// Labels are the names of the classes or labels.
func (j *Judge) Labels() []string { return j.head.Labels }

// Integer is the verdict of integer logits.
func (j *Judge) Integer(logits []int32) []int {
	j.head.Decide(logits, &j.res)
	switch j.head.Kind {
	case bundle.KindValues:
		return nil
	case bundle.KindLabels:
		given := []int{}
		for _, l := range j.res.Given {
			given = append(given, l.Index)
		}
		return given
	}
	return []int{j.res.Class}
}

// Float is the verdict of what the model itself puts out.
func (j *Judge) Float(values []float32) []int {
	switch j.head.Kind {
	case bundle.KindBinary:
		if j.probability(values[0]) >= j.thresholds[0] {
			return []int{1}
		}
		return []int{0}
	case bundle.KindLabels:
		given := []int{}
		for k, x := range values {
			if j.probability(x) >= j.thresholds[k] {
				given = append(given, k)
			}
		}
		return given
	case bundle.KindValues:
		return nil
	}
	if j.Output.Ending == bundle.EndArgmax {
		return []int{int(values[0])}
	}
	return []int{ArgMax(values)}
}

// probability is what a value of the model, a logit or a sigmoid, stands for.
func (j *Judge) probability(x float32) float64 {
	p := float64(x)
	switch {
	case j.Output.Ending != bundle.EndSigmoid:
		return exact.Sigmoid(p / j.temperature)
	case j.temperature == 1:
		return p
	}
	return exact.Sigmoid(exact.Log(p/(1-p)) / j.temperature)
}

// Verdicts are those of many samples.
func Verdicts[T any](rows []T, verdict func(T) []int) [][]int {
	all := make([][]int, len(rows))
	for i, row := range rows {
		all[i] = verdict(row)
	}
	return all
}
