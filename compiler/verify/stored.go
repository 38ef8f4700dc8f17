package verify

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"nepcoc/compiler/calibrate"
	"nepcoc/runtime/bundle"
)

// DefaultTolerance bounds the difference of the float model to stored outputs,
// relative to the range of those. The float interpreter and ONNX Runtime round sums in different
// orders: over 24 small models as people export them and two trained ones the worst
// difference is 3.3e-7 of the range, and outputs off by one sample or class are 1e-1 and more.
const DefaultTolerance = 1e-5

// storedRounding is added to the tolerance, relative to the largest value: what
// is left of float32's 24 bits after the layers before (measured: 5.3e-7 at
// worst). It decides only where outputs hardly vary.
const storedRounding = 1.0 / (1 << 20)

// Stored compares one output's values as another runtime computed them: with the
// float model where there is one, with the integer program's verdicts where not.
type Stored struct {
	Samples int `json:"samples"`
	// MaxDifference is the largest difference between the float model and a stored
	// value, Allowed what it is held to: Tolerance of the range (largest minus
	// smallest stored value), and what float32 itself leaves open.
	MaxDifference *float64 `json:"max_difference,omitempty"`
	Allowed       *float64 `json:"allowed,omitempty"`
	// Agreement is the share of equal verdicts of the integer program, where there is no
	// float model.
	Agreement *float64 `json:"agreement,omitempty"`
}

// checkNames refuses arrays and columns that are of no output, and labels of no class.
func (v *verifier) checkNames() error {
	var names []string
	for _, o := range v.b.Program.Outputs {
		names = append(names, o.Name)
	}
	none := func(array string) error {
		return fmt.Errorf("%s: array %q is of no output of the model: it has %s", v.set.Name, array, strings.Join(names, ", "))
	}
	for _, name := range slices.Sorted(maps.Keys(v.set.Expect)) {
		if !slices.Contains(names, name) {
			return none("expect." + name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.set.Labels)) {
		o, array := slices.Index(names, name), "label."+name
		if name == "" {
			o, array = 0, "label"
			if v.set.Labels[names[0]] != nil {
				return fmt.Errorf("%s: both %q and %q label the first output: leave one of them out", v.set.Name, array, "label."+names[0])
			}
		}
		if o < 0 {
			return none(array)
		}
		if err := v.checkLabels(o, array, v.set.Labels[name]); err != nil {
			return err
		}
	}
	return nil
}

// checkLabels refuses labels that an output can't give.
func (v *verifier) checkLabels(o int, array string, labels [][]int) error {
	out := &v.b.Program.Outputs[o]
	kind := v.b.Manifest.Outputs[o].EffectiveKind()
	n := kind.NumLabels(v.b.Program.Values[out.Value].Cols)
	if kind == bundle.KindValues {
		return fmt.Errorf("%s: array %q labels output %s, which gives values and no verdict", v.set.Name, array, out.Name)
	}
	for i, l := range labels {
		for _, k := range l {
			if k >= n {
				return fmt.Errorf("%s: %s[%d] is %d: output %s has %d classes, 0 to %d, and -1 is no label", v.set.Name, array, i, k, out.Name, n, n-1)
			}
		}
		if l != nil && len(l) != 1 && kind != bundle.KindLabels {
			return fmt.Errorf("%s: %s[%d] has %d labels: output %s gives one of %d classes: want the index of one, or -1", v.set.Name, array, i, len(l), out.Name, n)
		}
	}
	return nil
}

// stored compares an output with the values stored for it.
func (v *verifier) stored(s *OutputStats, judge *calibrate.Judge, ints [][]int32, float [][]float32) error {
	array := "expect." + s.Name
	want := v.set.Expect[s.Name]
	if want == nil {
		if v.Tensors != "" {
			v.missing("stored outputs"+v.of(s.Name), fmt.Sprintf("%s has no array %s", v.set.Name, array))
		}
		return nil
	}
	width := len(ints[0])
	if judge.Output.Ending == bundle.EndArgmax {
		width = 1
	}
	if len(want[0]) != width {
		return fmt.Errorf("%s: array %q has %d values per sample, the model's output %d", v.set.Name, array, len(want[0]), width)
	}
	lo, hi := want[0][0], want[0][0]
	for i, row := range want {
		if k := notFinite(row); k >= 0 {
			return fmt.Errorf("%s: array %q is %g at [%d,%d], which is not a number that outputs can be compared with: store what the model computed", v.set.Name, array, row[k], i, k)
		}
		lo, hi = min(lo, slices.Min(row)), max(hi, slices.Max(row))
	}
	s.Stored = &Stored{Samples: len(want)}
	if float == nil {
		rows := make([][]float32, len(want))
		for i, row := range want {
			for _, x := range row {
				rows[i] = append(rows[i], float32(x))
			}
		}
		c := calibrate.Compare(rows, ints, judge)
		s.Stored.Agreement = &c.Agreement
		v.agree("stored outputs = integer"+v.of(s.Name), s.Kind, &c)
		return nil
	}
	allowed := float64(v.Tolerance*(hi-lo)) + float64(storedRounding*max(math.Abs(hi), math.Abs(lo)))
	c := Check{Name: "float = stored outputs" + v.of(s.Name), Unit: "values"}
	worst := 0.0
	for i, f := range float {
		for k, x := range f {
			d := math.Abs(float64(x) - want[i][k])
			worst = max(worst, d)
			c.Cases++
			if d <= allowed {
				c.Held++
			}
		}
	}
	s.Stored.MaxDifference, s.Stored.Allowed = &worst, &allowed
	c.OK = c.Held == c.Cases
	c.Detail = fmt.Sprintf("max |difference| %.3g (at most %.3g)", worst, allowed)
	v.check(c)
	return nil
}

// notFinite is the index of the first element that is no number, -1 for none.
func notFinite[T float32 | float64](row []T) int {
	return slices.IndexFunc(row, func(x T) bool { return math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) })
}
