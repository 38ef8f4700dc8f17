package calibrate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"nepcoc/compiler/labels"
	"nepcoc/internal/plural"
	"nepcoc/runtime/bundle"
)

// Labelling says how a label file fits the flows of a capture, for one output.
type Labelling struct {
	Output   string // "" for the first of a file that names none
	Flows    int
	Labelled int
	// NoClass is how many flows have a label that is no class of the output.
	NoClass int
	// Why says of flows without a label what does not fit: addresses, times, names,
	// each with the way out.
	Why []string
	// Notes are remarks on what fits.
	Notes []string
}

// Error says why a file labels so few flows.
func (l *Labelling) Error(path, capture string) error {
	n := fmt.Sprintf("only %d", l.Labelled)
	if l.Labelled == 0 {
		n = "none"
	}
	return fmt.Errorf("%s: labels %s of the %d flows of %s:\n  %s", path, n, l.Flows, capture, strings.Join(l.Why, "\n  "))
}

// Label finds the classes of each of a capture's flows in a label file, by the
// names of the classes of a model's outputs. A file that labels no flow of an output is
// refused; whether a few are enough is for the caller.
func (s *Set) Label(path string, outputs []bundle.OutputInfo) ([]Labelling, error) {
	l, err := labels.Read(path)
	if err != nil {
		return nil, err
	}
	rows := make([]int, len(s.Flows)) // of each flow, -1 for none
	matches := make([]labels.Match, len(s.Flows))
	for i := range s.Flows {
		rows[i], matches[i] = l.Find(s.Flows[i].Key, s.Flows[i].First)
	}
	why := s.unmatched(l, rows, matches)
	var notes []string
	if l.Skipped > 0 {
		n, were := "1 row", "was"
		if l.Skipped > 1 {
			n, were = fmt.Sprintf("%d rows", l.Skipped), "were"
		}
		notes = append(notes, fmt.Sprintf("%s: %s of other protocols than TCP and UDP %s skipped", path, n, were))
	}
	if l.Step >= int64(time.Millisecond) {
		notes = append(notes, fmt.Sprintf("%s: times in steps of %v: a flow has the label whose time is that near", path, time.Duration(l.Step)))
	}
	s.Labels = make(map[string][][]int)
	var all []Labelling
	for c, output := range l.Outputs {
		o, err := outputOf(path, l.Outputs, output, outputs)
		if err != nil {
			return nil, err
		}
		r := Labelling{Output: output, Flows: len(s.Flows), Why: slices.Clone(why), Notes: notes}
		notes = nil // once
		names := newClassNames(o.Labels)
		classes := make([][]int, len(s.Flows))
		for i := range classes {
			if matches[i] != labels.Fits {
				continue
			}
			if name := l.Rows[rows[i]].Names[c]; name != "" {
				if classes[i] = names.all(name, o.EffectiveKind()); classes[i] == nil {
					r.NoClass++
				}
			}
			if classes[i] != nil {
				r.Labelled++
			}
		}
		s.Labels[output] = classes
		r.Why, r.Notes = names.report(path, r.Why, r.Notes)
		if r.Labelled == 0 {
			return nil, r.Error(path, s.Name)
		}
		all = append(all, r)
	}
	return all, nil
}

// NameLabels makes a token set's labels, which index the set's own classes, those of the first output that has all
// of the classes by name, else of the first that has most; labels that it has not are none, and a note says so. Other sets stay as they are.
func (s *Set) NameLabels(outputs []bundle.OutputInfo) {
	labels := s.Labels[""]
	if s.classes == nil || labels == nil {
		return
	}
	delete(s.Labels, "")
	var best *bundle.OutputInfo
	var class []int
	var unknown []string
	for i := range outputs {
		names := newClassNames(outputs[i].Labels)
		found, lost := make([]int, len(s.classes)), []string{}
		for k, name := range s.classes {
			if found[k] = names.find(name); found[k] < 0 {
				lost = append(lost, fmt.Sprintf("%q", name))
			}
		}
		if len(lost) < len(s.classes) && (best == nil || len(lost) < len(unknown)) {
			best, class, unknown = &outputs[i], found, lost
		}
	}
	if best == nil {
		if len(s.classes) > 0 {
			s.Notes = append(s.Notes, fmt.Sprintf("%s: its labels (%s) are no classes of an output, and are not compared", s.Name, list(s.classes)))
		}
		return
	}
	for i, l := range labels {
		labels[i] = nil
		if len(l) == 1 && l[0] < len(class) && class[l[0]] >= 0 {
			labels[i] = []int{class[l[0]]}
		}
	}
	s.Labels[best.Name] = labels
	if len(unknown) > 0 {
		s.Notes = append(s.Notes, fmt.Sprintf("%s: flows of %s are not compared: no classes of output %s", s.Name, list(unknown), best.Name))
	}
}

// outputOf is the output that a column of labels speaks of.
func outputOf(path string, columns []string, output string, outputs []bundle.OutputInfo) (*bundle.OutputInfo, error) {
	o := slices.IndexFunc(outputs, func(o bundle.OutputInfo) bool { return o.Name == output })
	if output == "" {
		o = 0
		if slices.Contains(columns, outputs[0].Name) {
			return nil, fmt.Errorf("%s: both columns label and label.%s label the first output: leave one of them out", path, outputs[0].Name)
		}
	}
	if o < 0 {
		var names []string
		for _, o := range outputs {
			names = append(names, o.Name)
		}
		return nil, fmt.Errorf("%s: column label.%s is of no output of the model: it has %s", path, output, strings.Join(names, ", "))
	}
	if len(outputs[o].Labels) == 0 {
		return nil, fmt.Errorf("%s: output %s has no class names to match labels with: compile the model with --labels", path, outputs[o].Name)
	}
	return &outputs[o], nil
}

// unmatched says what keeps flows from having a row.
func (s *Set) unmatched(l *labels.Labels, rows []int, matches []labels.Match) (why []string) {
	count := make(map[labels.Match]int)
	first := make(map[labels.Match]int)
	var off []time.Duration // of the file's times
	for i, m := range matches {
		if count[m]++; count[m] == 1 {
			first[m] = i
		}
		if m == labels.OtherTime {
			off = append(off, time.Duration(l.Rows[rows[i]].Time-s.Flows[i].First))
		}
	}
	if n := count[labels.NoTuple]; n > 0 {
		f := &s.Flows[first[labels.NoTuple]]
		why = append(why, fmt.Sprintf("%s: no row has the addresses and ports (the first is %s, at %s): is the file of this capture, and are its addresses those before translation?",
			plural.Of(n, "flow"), f.Key, stamp(f.First)))
	}
	if n := count[labels.OtherTime]; n > 0 {
		i := first[labels.OtherTime]
		at := fmt.Sprintf("line %d has %s, the flow's first packet %s", l.Rows[rows[i]].Line, stamp(l.Rows[rows[i]].Time), stamp(s.Flows[i].First))
		wayOut := "give the time of each flow's first packet"
		if l.Unique() {
			wayOut += ", or leave the column time out: no 5-tuple is in the file twice"
		}
		slices.Sort(off)
		d := off[len(off)/2]
		near := max(time.Second, time.Duration(l.Step))
		same := 0
		for _, o := range off {
			if o-d <= near && d-o <= near {
				same++
			}
		}
		switch {
		case same*10 >= len(off)*9 && same > 1:
			d = d.Round(near)
			hint := "another clock"
			if d%(15*time.Minute) == 0 {
				hint = "a time zone: write times in UTC or with their zone (2023-11-14T22:13:20+03:00)"
			}
			direction := "later"
			if d < 0 {
				d, direction = -d, "earlier"
			}
			why = append(why, fmt.Sprintf("%s: the time is %v %s than the capture's, always (%s): %s; or %s", plural.Of(n, "flow"), d, direction, at, hint, wayOut))
		default:
			why = append(why, fmt.Sprintf("%s: addresses and ports have a row, but of another time, off by %v to %v (%s): %s", plural.Of(n, "flow"), least(off), most(off), at, wayOut))
		}
	}
	if n := count[labels.Ambiguous]; n > 0 {
		i := first[labels.Ambiguous]
		why = append(why, fmt.Sprintf("%s: several rows with other labels are as near as the file's times tell, which have steps of %v (line %d): give times with fractions of a second",
			plural.Of(n, "flow"), time.Duration(l.Step), l.Rows[rows[i]].Line))
	}
	return why
}

// stamp is a time as people read it; what is not within the years that it can be in is a number.
func stamp(ns int64) string { return time.Unix(0, ns).UTC().Format("2006-01-02T15:04:05.999999Z") }

func abs(d time.Duration) time.Duration { return max(d, -d) }

func least(off []time.Duration) time.Duration {
	return abs(slices.MinFunc(off, func(a, b time.Duration) int { return cmp.Compare(abs(a), abs(b)) }))
}

func most(off []time.Duration) time.Duration {
	return abs(slices.MaxFunc(off, func(a, b time.Duration) int { return cmp.Compare(abs(a), abs(b)) }))
}

// classNames finds classes by the names that a label file has, and remembers which
// did not fit.
type classNames struct {
	names   []string
	exact   map[string]int
	folded  map[string]int // in lower case; -1 where several classes differ in case only
	unknown map[string]int // flows by a name that is no class
	cased   string         // a name found without regard to case
}

func newClassNames(names []string) *classNames {
	c := &classNames{names: names, exact: make(map[string]int), folded: make(map[string]int), unknown: make(map[string]int)}
	for i, n := range names {
		c.exact[n] = i
		if low := strings.ToLower(n); c.folded[low] == 0 {
			c.folded[low] = i + 1
		} else {
			c.folded[low] = -1
		}
	}
	return c
}

// find is the index of a class, -1 for none.
func (c *classNames) find(name string) int {
	if i, ok := c.exact[name]; ok {
		return i
	}
	if i := c.folded[strings.ToLower(name)]; i > 0 {
		if c.cased == "" || name < c.cased {
			c.cased = name
		}
		return i - 1
	}
	c.unknown[name]++
	return -1
}

// Of an output that gives any number of labels, a label file has several in one column,
// separated, or says that there are none.
const (
	labelSeparator = "|"
	noLabel        = "-"
)

// all are the indices of the classes that a column names, nil where one does not fit.
func (c *classNames) all(text string, kind bundle.OutputKind) []int {
	list := []string{text}
	if kind == bundle.KindLabels {
		list = strings.Split(text, labelSeparator)
		if text == noLabel {
			list = nil
		}
	}
	found := []int{}
	for _, name := range list {
		i := c.find(strings.TrimSpace(name))
		if i < 0 {
			return nil
		}
		found = append(found, i)
	}
	slices.Sort(found)
	return slices.Compact(found)
}

const shownNames = 5

// report adds what became of the names.
func (c *classNames) report(path string, why, notes []string) ([]string, []string) {
	if c.cased != "" {
		i := c.folded[strings.ToLower(c.cased)] - 1
		notes = append(notes, fmt.Sprintf("%s: class names were matched without regard to upper and lower case (%q is %s)", path, c.cased, c.names[i]))
	}
	if len(c.unknown) == 0 {
		return why, notes
	}
	n, numbers := 0, true
	for name, flows := range c.unknown {
		n += flows
		numbers = numbers && strings.Trim(name, "0123456789") == ""
	}
	names := slices.SortedFunc(maps.Keys(c.unknown), func(a, b string) int {
		return cmp.Or(-cmp.Compare(c.unknown[a], c.unknown[b]), cmp.Compare(a, b))
	})
	for i := range names {
		names[i] = fmt.Sprintf("%q", names[i])
	}
	hint := "correct the file, or compile the model with the names that its classes have (--labels)"
	if numbers {
		hint = "these are numbers: write the names of the classes"
	}
	have := "has"
	if n > 1 {
		have = "have"
	}
	why = append(why, fmt.Sprintf("%s %s a label that is no class of the model: %s; its classes are %s: %s", plural.Of(n, "flow"), have, list(names), list(c.names), hint))
	return why, notes
}

// list shows the first of some names.
func list(names []string) string {
	if len(names) > shownNames {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:shownNames], ", "), len(names)-shownNames)
	}
	return strings.Join(names, ", ")
}
