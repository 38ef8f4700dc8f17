package compiler

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"nepcoc/internal/plural"
	"nepcoc/ir"
	"nepcoc/passes/quantize"
	"nepcoc/runtime/bundle"
)

// Output is what a user says of one of the model's outputs.
type Output struct {
	Name       string
	Kind       bundle.OutputKind
	Labels     []string  // names; nil: those of a label file, or numbers
	Thresholds []float64 // nil: DefaultThreshold; one serves all labels
}

// DefaultThreshold is the probability from which a label is given.
const DefaultThreshold = 0.5

// outputKinds are the kinds of verdicts, in the order of messages.
var outputKinds = []bundle.OutputKind{bundle.KindClasses, bundle.KindBinary, bundle.KindLabels, bundle.KindValues}

// nouns are what the names of an output are names of.
var nouns = map[bundle.OutputKind]string{bundle.KindClasses: "classes", bundle.KindBinary: "names (binary)", bundle.KindLabels: "labels"}

// ParseOutput reads NAME=KIND[:LABEL,...][@THRESHOLD,...].
func ParseOutput(s string) (Output, error) {
	bad := func(format string, args ...any) (Output, error) {
		return Output{}, fmt.Errorf("output %q: "+format+": want NAME=KIND[:LABEL,...][@THRESHOLD,...], like score=binary:benign,malicious@0.5", append([]any{s}, args...)...)
	}
	name, rest, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return bad("no kind for an output's name")
	}
	o := Output{Name: name}
	kind, names, named := strings.Cut(rest, ":")
	at := &names
	if !named {
		at = &kind
	}
	var thresholds string
	if i := strings.LastIndexByte(*at, '@'); i >= 0 {
		*at, thresholds = (*at)[:i], (*at)[i+1:]
		for _, x := range strings.Split(thresholds, ",") {
			t, err := strconv.ParseFloat(strings.TrimSpace(x), 64)
			if err != nil || !(t >= 0 && t <= 1) {
				return bad("threshold %q is not within 0..1", x)
			}
			o.Thresholds = append(o.Thresholds, t)
		}
	}
	if o.Kind = bundle.OutputKind(kind); !slices.Contains(outputKinds, o.Kind) {
		return bad("%q is none of classes, binary, labels, values", kind)
	}
	if named {
		for _, l := range strings.Split(names, ",") {
			l = strings.TrimSpace(l)
			if l == "" || slices.Contains(o.Labels, l) {
				return bad("label %q is empty or there twice", l)
			}
			o.Labels = append(o.Labels, l)
		}
	}
	return o, nil
}

// outputForm is what the graph says of an output: what the model makes of its logits (see
// bundle.Ending), and how many there are.
type outputForm struct {
	name   string
	ending bundle.Ending
	logits int
}

// kinds are the kinds that an output can have. The first is the one that it has unless
// the user says otherwise.
func (f *outputForm) kinds() []bundle.OutputKind {
	one := f.logits == 1
	switch {
	case f.ending == bundle.EndSigmoid && one, f.ending == bundle.EndLogits && one:
		return []bundle.OutputKind{bundle.KindBinary, bundle.KindValues}
	case one:
		return []bundle.OutputKind{bundle.KindValues} // a softmax or argmax of one value says nothing
	case f.ending == bundle.EndSigmoid:
		return []bundle.OutputKind{bundle.KindLabels, bundle.KindValues}
	case f.ending == bundle.EndLogits:
		return []bundle.OutputKind{bundle.KindClasses, bundle.KindLabels, bundle.KindValues}
	}
	return []bundle.OutputKind{bundle.KindClasses, bundle.KindValues}
}

// String describes the form.
func (f *outputForm) String() string {
	switch {
	case f.ending == bundle.EndLogits && f.logits == 1:
		return "one logit"
	case f.ending == bundle.EndLogits:
		return fmt.Sprintf("%d logits", f.logits)
	case f.logits == 1:
		return "the " + string(f.ending) + " of one logit"
	case f.ending == bundle.EndSigmoid:
		return fmt.Sprintf("%d sigmoids", f.logits)
	}
	return fmt.Sprintf("the %s of %d logits", f.ending, f.logits)
}

// wayTo is what to change in the model for a kind that its output can't have.
var wayTo = map[bundle.OutputKind]string{
	bundle.KindClasses: "one logit per class, with a softmax or without",
	bundle.KindBinary:  "one logit, with a sigmoid or without (of two classes, the difference of their logits)",
	bundle.KindLabels:  "one logit per label, with sigmoids or without",
}

// outputForms reads the graph. A sequence of outputs is refused: a verdict is of a
// flow, not of a position.
func outputForms(g *ir.Graph) (forms []outputForm, problems ir.Problems) {
	for i, v := range g.Outputs {
		f := outputForm{name: g.OutputNames[i]}
		logits, ending := quantize.Logits(v)
		f.ending, f.logits = bundle.Ending(ending), logits.Type.Len()
		if n := positions(logits); n > 1 {
			problems = append(problems, ir.Problem{Node: f.name, Op: "output", Types: []ir.Type{v.Type},
				Reason: fmt.Sprintf("the model gives a result per position (%d of them), not one per flow: a sequence of outputs is no verdict", n),
				Way:    "reduce over positions before the output (a maximum or a mean, say)"})
		}
		if f.logits == 1 && (f.ending == bundle.EndSoftmax || f.ending == bundle.EndLogSoftmax || f.ending == bundle.EndArgmax) {
			problems = append(problems, ir.Problem{Node: f.name, Op: "output", Types: []ir.Type{v.Type},
				Reason: fmt.Sprintf("a %s of one value is always the same, whatever the value", f.ending), Way: "let the model end in " + wayTo[bundle.KindBinary] + ", or in " + wayTo[bundle.KindClasses]})
		}
		forms = append(forms, f)
	}
	return forms, problems
}

// positions is the number of positions that a vector has been flattened from with nothing
// behind it that mixes them, 1 where it has none.
func positions(v *ir.Value) int {
	for v.Def != nil {
		n := v.Def
		switch n.Op {
		case "flatten":
			return n.Inputs[0].Type.Shape[0]
		case "act", "affine", "add", "sub", "mul", "div", "min", "max", "pow", "cast":
			i := 0
			if n.Inputs[0] == nil || n.Inputs[0].Const != nil {
				i = 1
			}
			if i >= len(n.Inputs) {
				return 1
			}
			v = n.Inputs[i]
		default:
			return 1
		}
	}
	return 1
}

// describeOutputs settles what each output means: as the user says, else as the graph does.
func (c *compilation) describeOutputs(forms []outputForm) []error {
	errs := c.strangers(forms)
	c.outputs = make([]bundle.OutputInfo, len(forms))
	files := c.Labels
	var named []string // outputs that a label file can name
	for i := range forms {
		f := &forms[i]
		info, err := f.info(c.Outputs)
		if err != nil {
			errs = append(errs, err)
		}
		c.outputs[i] = info
		if info.Kind == bundle.KindValues || info.Labels != nil || err != nil {
			continue
		}
		named = append(named, strconv.Quote(f.name))
		if len(files) == 0 {
			continue
		}
		if n := info.Kind.NumLabels(f.logits); len(files[0]) != n {
			errs = append(errs, fmt.Errorf("output %q has %d %s, its label file %s: one name per line, in the order of the model's outputs", f.name, n, nouns[info.Kind], plural.Of(len(files[0]), "line")))
		} else {
			c.outputs[i].Labels = files[0]
		}
		files = files[1:]
	}
	if n := len(c.Labels); n > 0 && n != len(named) && errs == nil {
		errs = append(errs, fmt.Errorf("labels for %d outputs, the model has %d to name (%s): give one label file per output, in the model's order", n, len(named), strings.Join(named, ", ")))
	}
	for i := range c.outputs {
		for _, name := range c.outputs[i].Labels {
			if err := bundle.CheckClassName(name); err != nil {
				errs = append(errs, fmt.Errorf("output %q: class name %w", c.outputs[i].Name, err))
			}
		}
	}
	c.numberAlerts(forms)
	c.res.Outputs = c.outputs
	if err := c.setUnknown(); err != nil {
		errs = append(errs, err)
	}
	return errs
}

// strangers are errors for what was said of outputs that the model doesn't have, or said twice.
func (c *compilation) strangers(forms []outputForm) (errs []error) {
	var names []string
	for i := range forms {
		names = append(names, forms[i].name)
	}
	for i, o := range c.Outputs {
		if !slices.Contains(names, o.Name) {
			errs = append(errs, fmt.Errorf("the model has no output %q: it has %s", o.Name, strings.Join(names, ", ")))
		}
		if slices.ContainsFunc(c.Outputs[:i], func(p Output) bool { return p.Name == o.Name }) {
			errs = append(errs, fmt.Errorf("output %q is described twice", o.Name))
		}
	}
	return errs
}

// info is what the user says of an output, checked against the graph, or what the graph says.
func (f *outputForm) info(given []Output) (bundle.OutputInfo, error) {
	kinds := f.kinds()
	info := bundle.OutputInfo{Name: f.name, Kind: kinds[0]}
	bad := func(format string, args ...any) (bundle.OutputInfo, error) {
		return info, fmt.Errorf("output %q: "+format, append([]any{f.name}, args...)...)
	}
	i := slices.IndexFunc(given, func(o Output) bool { return o.Name == f.name })
	var o Output
	if i >= 0 {
		o = given[i]
		if info.Kind = o.Kind; !slices.Contains(kinds, o.Kind) {
			var list []string
			for _, k := range kinds {
				list = append(list, string(k))
			}
			return bad("it is %s, which can't be %s: say %s, or export %s", f, o.Kind, strings.Join(list, " or "), wayTo[o.Kind])
		}
	}
	labels, thresholds := info.Kind.NumLabels(f.logits), info.Kind.NumThresholds(f.logits)
	if len(o.Labels) > 0 && len(o.Labels) != labels {
		return bad("%d names for %s as %s, which has %d", len(o.Labels), f, info.Kind, labels)
	}
	info.Labels = o.Labels
	switch {
	case thresholds == 0 && o.Thresholds != nil && info.Kind == bundle.KindClasses:
		return bad("classes have no threshold: the most probable one is given; verdicts below --unknown-threshold are unknown")
	case thresholds == 0 && o.Thresholds != nil:
		return bad("%s have no threshold", info.Kind)
	case o.Thresholds == nil && thresholds > 0:
		info.Thresholds = slices.Repeat([]float64{DefaultThreshold}, thresholds)
	case len(o.Thresholds) == 1:
		info.Thresholds = slices.Repeat(o.Thresholds, thresholds)
	case thresholds == 1:
		return bad("%d thresholds, binary has one", len(o.Thresholds))
	case len(o.Thresholds) != thresholds:
		return bad("%d thresholds for %d labels: give one for all, or one each", len(o.Thresholds), thresholds)
	default:
		info.Thresholds = o.Thresholds
	}
	return info, nil
}

// numberAlerts gives each output signature ids of its own.
func (c *compilation) numberAlerts(forms []outputForm) {
	next := bundle.FirstAlertID
	for i := range c.outputs {
		o := &c.outputs[i]
		if n := o.Kind.NumLabels(forms[i].logits); n > 0 {
			o.FirstAlertID = next
			next = bundle.NextAlertID(next, n)
		}
	}
}

// setUnknown sets the thresholds of unknown verdicts.
func (c *compilation) setUnknown() error {
	used := make(map[string]bool)
	for i := range c.outputs {
		o := &c.outputs[i]
		name := o.Name
		t, ok := c.Unknown[name]
		if !ok {
			name = ""
			if t, ok = c.Unknown[name]; !ok {
				continue
			}
		}
		if o.Kind == bundle.KindClasses || o.Kind == bundle.KindBinary {
			o.UnknownThreshold, used[name] = &t, true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Unknown)) {
		switch {
		case used[name]:
		case name == "":
			return errors.New("no output of the model has a score to hold to --unknown-threshold: labels have thresholds of their own (--output NAME=labels@0.5), values have none")
		case slices.ContainsFunc(c.outputs, func(o bundle.OutputInfo) bool { return o.Name == name }):
			return fmt.Errorf("output %q has no score to hold to --unknown-threshold: labels have thresholds of their own (--output NAME=labels@0.5), values have none", name)
		default:
			return fmt.Errorf("--unknown-threshold: the model has no output %q", name)
		}
	}
	return nil
}
