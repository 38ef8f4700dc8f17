package calibrate

import (
	"fmt"
	"math"
	"slices"

	"nepcoc/internal/exact"
	"nepcoc/runtime/arith"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/engine"
)

// Integers runs a bound program over inputs on all processors: result[output][input].
func Integers(e *engine.Engine, p *bundle.Program, inputs []Input) ([][][]int32, error) {
	res := make([][][]int32, len(p.Outputs))
	for o := range res {
		res[o] = make([][]int32, len(inputs))
		for i := range inputs {
			res[o][i] = make([]int32, p.Values[p.Outputs[o].Value].Cols)
		}
	}
	err := Parallel(len(inputs), func() (func(i int) error, error) {
		ctx := e.NewContext()
		out := make([][]int32, len(res))
		return func(i int) error {
			for o := range out {
				out[o] = res[o][i]
			}
			return ctx.Run(inputs[i].Tokens, inputs[i].Valid, out)
		}, nil
	})
	return res, err
}

// Comparison says how far integer logits are from the float model's.
type Comparison struct {
	Samples int `json:"samples"`
	// Agreement is the share of equal verdicts: the same class, the same side of the
	// threshold, all the same labels. Values have no verdicts: it is 1.
	Agreement float64 `json:"agreement"`
	// Commonest counts the samples of the float model's most frequent verdict: a program that
	// computes nothing and always gives that one agrees as often.
	Commonest int `json:"commonest"`
	// Cosine is the mean cosine, MaxError the largest error, RelError the root
	// mean square error relative to the spread over the samples (to their size, where they
	// are Constant, the same for all samples); of logits, or of probabilities
	// where the model ends in a softmax. Models that end in ArgMax
	// show no logits: Cosine is 1 and the errors are 0.
	Cosine   float64 `json:"cosine"`
	MaxError float64 `json:"max_error"`
	RelError float64 `json:"rel_error"`
	Constant bool    `json:"constant,omitempty"`
	// Differing lists the inputs whose verdict differs.
	Differing []int `json:"differing,omitempty"`
}

// Blind says that the integers follow the model no better than a program that always
// gives the commonest verdict, and with an error as large as the spread of the logits: where they
// agree, it is by luck. Where there is one verdict only, nothing can be told.
func (c *Comparison) Blind() bool {
	rare := c.Samples - c.Commonest
	return rare > 0 && len(c.Differing) >= rare && !(c.RelError <= 1)
}

// Compare compares one output over all samples.
func Compare(float [][]float32, ints [][]int32, j *Judge) Comparison {
	o := j.Output
	c := Comparison{Samples: len(float), Cosine: 1}
	agree, cosine := 0, 0.0
	var errs, spread, size float64
	verdicts := make(map[string]int)
	var mean []float64
	if o.Ending != bundle.EndArgmax && len(float) > 0 {
		mean = make([]float64, len(float[0]))
		for _, f := range float {
			for k, x := range f {
				mean[k] += float64(x) / float64(len(float))
			}
		}
	}
	for i, f := range float {
		verdict := j.Float(f)
		if j.Kind() == bundle.KindValues {
			verdicts[fmt.Sprint(f)]++
		} else {
			verdicts[fmt.Sprint(verdict)]++
		}
		if slices.Equal(verdict, j.Integer(ints[i])) {
			agree++
		} else {
			c.Differing = append(c.Differing, i)
		}
		if o.Ending == bundle.EndArgmax {
			continue
		}
		real := Real(ints[i], o)
		cosine += Cosine(f, real)
		for k, x := range f {
			d := float64(x) - real[k]
			errs += float64(d * d) // here and below: not fused, the same bits on every CPU
			c.MaxError = math.Max(c.MaxError, math.Abs(d))
			spread += float64((float64(x) - mean[k]) * (float64(x) - mean[k]))
			size += float64(float64(x) * float64(x))
		}
	}
	if n := float64(len(float)); n > 0 {
		c.Agreement = float64(agree) / n
		if o.Ending != bundle.EndArgmax {
			c.Cosine = cosine / n
		}
	}
	for _, n := range verdicts {
		c.Commonest = max(c.Commonest, n)
	}
	// Below this, the spread is the rounding of float32 and of the mean.
	if c.Constant = o.Ending != bundle.EndArgmax && spread <= 1e-12*size; c.Constant {
		spread = size
	}
	if spread > 0 {
		c.RelError = math.Sqrt(errs / spread)
	}
	return c
}

// Real are integer logits in the units of the model's own output.
func Real(v []int32, o *bundle.Output) []float64 {
	out := make([]float64, len(v))
	top := v[arith.ArgMax(v)]
	sum := 0.0
	for i, x := range v {
		out[i] = float64(x) * o.Scale
		sum += exact.Exp((float64(x) - float64(top)) * o.Scale)
	}
	switch o.Ending {
	case bundle.EndSoftmax:
		for i, x := range v {
			out[i] = exact.Exp((float64(x)-float64(top))*o.Scale) / sum
		}
	case bundle.EndSigmoid:
		for i, x := range out {
			out[i] = exact.Sigmoid(x)
		}
	case bundle.EndLogSoftmax:
		for i, x := range v {
			out[i] = float64((float64(x)-float64(top))*o.Scale) - exact.Log(sum)
		}
	}
	return out
}
