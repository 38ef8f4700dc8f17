package dataset

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"nepcoc/internal/plural"
	"nepcoc/runtime/traffic"
)

// Finding is one thing that tells a flow's label without being what the label is of, or may.
type Finding struct {
	Name string `json:"name"` // time, client address, ip.ttl of packet 1, ...
	Kind string `json:"kind"` // recording, address, header, payload, duplicates, capture
	// Accuracy is that of the best guess from this alone, cross-validated by part or, without parts, by group; Majority that of always
	// naming the commonest class. Gain is what lies between Majority and 1 that it makes up for.
	Accuracy float64 `json:"accuracy"`
	Majority float64 `json:"majority"`
	Gain     float64 `json:"gain"`
	// Flows is how many flows have it.
	Flows int `json:"flows"`
	// Seen says whether the tokens hold it; if not, a model can't read it, but a split that is blind to it praises what was recorded.
	Seen   bool   `json:"in_tokens"`
	Remedy string `json:"remedy"` // a line of the contract, or of a command
	Leak   bool   `json:"leak"`
}

// Lint is what was found in a set.
type Lint struct {
	Flows   int `json:"flows"` // with a label
	Classes int `json:"classes"`
	Groups  int `json:"groups"`
	// Within: there are too few recordings to guess one's labels by the others, so flows were guessed by others of their own. What a recording gives away is not among Findings then.
	Within   bool      `json:"within_recordings,omitempty"`
	Majority float64   `json:"majority"`
	Findings []Finding `json:"findings"` // leaks first, then by gain
	// TooFew: of these flows not even a guess that is always right would be a leak. That none was found then says nothing.
	TooFew bool `json:"too_few,omitempty"`
	// Constant is how many positions hold one token in every flow.
	Constant int      `json:"constant_positions"`
	Notes    []string `json:"notes,omitempty"`
}

// Leaks counts the findings that are leaks.
func (l *Lint) Leaks() (n int) {
	for _, f := range l.Findings {
		if f.Leak {
			n++
		}
	}
	return n
}

// Bounds of Gain above which a finding is a leak. What the traffic's nature is not (when and between whom it was recorded, counters and
// settings of the machines that took part) may tell little; a byte of payload may well tell a protocol, and only what
// tells nearly everything is suspicious.
type Bounds struct {
	Recording float64 // times and addresses
	Header    float64 // single header fields
	Payload   float64 // single bytes of payload, lengths, flags, where at least half of the flows have them
	Doubles   float64 // share of a later part that an earlier one has
}

// DefaultBounds are those of nepcoc lint.
var DefaultBounds = Bounds{Recording: 0.5, Header: 0.5, Payload: 0.97, Doubles: 0.02}

// shown is the gain from which on something is listed, though it is no leak.
const shown = 0.3

// fewFlows is the least number of flows that a guess says something of.
const fewFlows = 20

// chance is what a guess that knows nothing may be better by: four standard deviations of naming the commonest class of n flows.
func chance(majority float64, n int) float64 {
	return 4 * math.Sqrt(majority*(1-majority)/float64(max(1, n)))
}

// fewFolds is how many folds flows are put into where they have no parts.
const fewFolds = 5

// linter guesses labels from one thing at a time.
type linter struct {
	set     *Set
	bounds  Bounds
	at      []int // flows with a label
	groups  map[int]int
	label   []int // of those in at
	fold    []int // of folds
	folds   int
	classes int
	out     *Lint
}

// Lint looks for what gives labels away: see Finding. It needs flows of two classes.
func (s *Set) Lint(bounds Bounds) (*Lint, error) {
	l, err := newLinter(s, bounds)
	if err != nil {
		return nil, err
	}
	l.recordings()
	l.fields()
	l.doubles()
	l.single()
	slices.SortStableFunc(l.out.Findings, func(a, b Finding) int {
		if a.Leak != b.Leak {
			if a.Leak {
				return -1
			}
			return 1
		}
		return cmp.Compare(b.Gain, a.Gain)
	})
	l.out.Constant = s.constant()
	return l.out, nil
}

func newLinter(s *Set, bounds Bounds) (*linter, error) {
	l := &linter{set: s, bounds: bounds, groups: map[int]int{}}
	for i := range s.Flows {
		if s.Flows[i].Label >= 0 {
			l.at = append(l.at, i)
			l.label = append(l.label, s.Flows[i].Label)
			l.groups[s.Flows[i].Group]++
		}
	}
	count := s.Classes()
	count = count[:len(count)-1] // the last is that of flows without a label
	used := 0
	for _, n := range count {
		if n > 0 {
			used++
		}
	}
	if used < 2 {
		return nil, fmt.Errorf("%s with a label, of %s: lint needs two classes at least", plural.Of(len(l.at), "flow"), plural.Of(used, "class"))
	}
	l.classes = len(count)
	l.out = &Lint{Flows: len(l.at), Classes: used, Groups: len(l.groups), Majority: float64(slices.Max(count)) / float64(len(l.at)), Findings: []Finding{}}
	l.out.TooFew = len(l.at) < fewFlows || 1-l.out.Majority < chance(l.out.Majority, len(l.at))
	l.hold()
	return l, nil
}

// add guesses labels from one thing, and lists it if that tells enough. f has its name, kind and remedy; index are the flows that have it,
// as places in at, values what they have; near says that values beside one another are alike.
func (l *linter) add(f Finding, bound float64, index []int, values []uint64, near bool) {
	acc, base := l.guess(index, values, near)
	f.Accuracy, f.Majority, f.Gain, f.Flows = acc, base, (acc-base)/max(1-base, 1e-9), len(index)
	// What few flows have, or what chance may explain, says nothing.
	if len(index) < max(fewFlows, len(l.at)/20) || acc-base < chance(base, len(index)) {
		return
	}
	// Many a protocol's flows are told by a byte that only they have; what most flows have is another matter.
	if f.Leak = f.Gain >= bound && (f.Kind != "payload" || 2*len(index) >= len(l.at)); f.Leak || f.Gain >= shown {
		l.out.Findings = append(l.out.Findings, f)
	}
}

// recordings are guesses from what every flow has: when and between whom it was.
func (l *linter) recordings() {
	all := make([]int, len(l.at))
	for k := range all {
		all[k] = k
	}
	of := func(get func(f *Flow) uint64) []uint64 {
		v := make([]uint64, len(l.at))
		for k, i := range l.at {
			v[k] = get(&l.set.Flows[i])
		}
		return v
	}
	c := &l.set.Contract
	blanked := func(part traffic.Blank) bool {
		return c.View == traffic.ViewStream || c.FirstLayer == traffic.LayerPayload || c.Blanks(part)
	}
	l.add(Finding{Name: "time of the first packet", Kind: "recording", Remedy: "record classes in turns, or keep recordings together: nepcoc tokens --split 70:10:20 --by time"},
		l.bounds.Recording, all, of(func(f *Flow) uint64 { return uint64(f.First) }), true)
	seen := !blanked(traffic.BlankAddresses)
	remedy := "the contract blanks them; keep hosts together: nepcoc tokens --split 70:10:20 --by host"
	if seen {
		remedy = blankLine(c, traffic.BlankAddresses) + "; and keep hosts together: nepcoc tokens --split 70:10:20 --by host"
	}
	hash := func(b [16]byte) uint64 { return mix(string(b[:])) }
	for _, a := range []struct {
		name string
		get  func(f *Flow) uint64
	}{
		{"client address", func(f *Flow) uint64 { return hash(f.Key.Src) }},
		{"server address", func(f *Flow) uint64 { return hash(f.Key.Dst) }},
		{"addresses of both", func(f *Flow) uint64 { return hash(f.Key.Src)*31 + hash(f.Key.Dst) }},
	} {
		l.add(Finding{Name: a.name, Kind: "address", Seen: seen, Remedy: remedy}, l.bounds.Recording, all, of(a.get), false)
	}
	if !blanked(traffic.BlankPorts) {
		l.add(Finding{Name: "server port", Kind: "header", Seen: true, Remedy: blankLine(c, traffic.BlankPorts)},
			l.bounds.Header, all, of(func(f *Flow) uint64 { return uint64(f.Key.DstPort) }), false)
	}
}

// fields are guesses from each field of the sequences.
func (l *linter) fields() {
	c := &l.set.Contract
	for _, col := range l.set.columns(l.at) {
		f := Finding{Name: col.field.name, Kind: "header", Seen: true, Remedy: "payload only: view: stream"}
		part := traffic.Blank(col.field.part)
		switch {
		case part != "" && c.Blanks(part):
			continue
		case col.field.nature:
			f.Kind, f.Remedy = "payload", "look at the bytes: nepcoc contract explain; leave such flows out, or shorten the contract"
			l.add(f, l.bounds.Payload, col.index, col.values, false)
			continue
		case part != "":
			f.Remedy = blankLine(c, part)
		}
		l.add(f, l.bounds.Header, col.index, col.values, true)
	}
}

// column is a field of the sequences, by its name: which flows have it, as places in a list of flows, and what values.
type column struct {
	field  field
	index  []int
	values []uint64
}

// columns are the fields that the sequences of some flows hold, in the order in which they are met.
func (s *Set) columns(at []int) (list []*column) {
	known := map[string]*column{}
	for k, i := range at {
		fields(&s.Contract, s.Flows[i].Tokens, func(f field) {
			col := known[f.name]
			if col == nil {
				col = &column{field: f}
				known[f.name] = col
				list = append(list, col)
			}
			if n := len(col.index); n > 0 && col.index[n-1] == k {
				return // an option that is there twice
			}
			col.index, col.values = append(col.index, k), append(col.values, f.value)
		})
	}
	return list
}

// blankLine is the contract's line with one more part: it stands in place of the one that the contract has.
func blankLine(c *traffic.Contract, part traffic.Blank) string {
	words := make([]string, 0, len(c.Blank)+1)
	for _, b := range append(slices.Clone(c.Blank), part) {
		words = append(words, string(b))
	}
	return "blank: [" + strings.Join(words, ", ") + "]"
}

// hold gives each flow its fold: its part, where the set has parts, since what gives labels away is then what one part
// tells of another; else whole groups where there are enough, else flow by flow.
func (l *linter) hold() {
	s, at, groups, out := l.set, l.at, l.groups, l.out
	l.fold, l.folds = make([]int, len(at)), fewFolds
	if len(s.Splits) > 1 {
		l.folds = len(s.Splits)
		for k, i := range at {
			l.fold[k] = s.Flows[i].Split
		}
		out.Notes = append(out.Notes, "guesses are those that the set's parts allow of one another")
		return
	}
	if len(groups) < fewFolds {
		out.Within = true
		out.Notes = append(out.Notes, fmt.Sprintf("the flows are of %d recording(s): cross-validated flow by flow; what a recording gives away needs %d at least", len(groups), fewFolds))
		for k, i := range at {
			f := &s.Flows[i]
			l.fold[k] = int(mix(fmt.Sprint(f.Key, f.First)) >> 20 % fewFolds)
		}
		return
	}
	ids := make([]int, 0, len(groups))
	for g := range groups {
		ids = append(ids, g)
	}
	slices.SortFunc(ids, func(a, b int) int {
		return cmp.Or(-cmp.Compare(groups[a], groups[b]), cmp.Compare(mix(s.Groups[a]), mix(s.Groups[b])), cmp.Compare(a, b))
	})
	var size [fewFolds]int
	of := map[int]int{}
	for _, g := range ids {
		least := 0
		for f := range size {
			if size[f] < size[least] {
				least = f
			}
		}
		of[g] = least
		size[least] += groups[g]
	}
	for k, i := range at {
		l.fold[k] = of[s.Flows[i].Group]
	}
}

// guess is the accuracy of naming, for each flow of index, the class that flows of other folds with the same value mostly have, or,
// with near, the class of the flow of another fold whose value is nearest, whichever is better; and that of naming the
// class that these flows mostly have.
func (l *linter) guess(index []int, values []uint64, near bool) (accuracy, majority float64) {
	n := len(index)
	if n == 0 {
		return 0, 0
	}
	order := make([]int, n)
	total := make([]int, l.classes)
	inFold := make([]int, l.folds*l.classes)
	for k := range order {
		order[k] = k
		total[l.label[index[k]]]++
		inFold[l.fold[index[k]]*l.classes+l.label[index[k]]]++
	}
	// A value that no other fold has: the class that the other folds mostly have.
	otherwise := make([]int, l.folds)
	for f := range otherwise {
		otherwise[f] = most(l.classes, func(c int) int { return total[c] - inFold[f*l.classes+c] })
	}
	majority = float64(slices.Max(total)) / float64(n)
	slices.SortFunc(order, func(a, b int) int { return cmp.Or(cmp.Compare(values[a], values[b]), cmp.Compare(index[a], index[b])) })
	right := 0
	sums, part := make([]int, l.classes), make([]int, l.folds*l.classes)
	for lo := 0; lo < n; {
		hi := lo
		for ; hi < n && values[order[hi]] == values[order[lo]]; hi++ {
			k := index[order[hi]]
			sums[l.label[k]]++
			part[l.fold[k]*l.classes+l.label[k]]++
		}
		for f := range l.folds {
			of := part[f*l.classes : (f+1)*l.classes]
			best := most(l.classes, func(c int) int { return sums[c] - of[c] })
			if best < 0 {
				best = otherwise[f]
			}
			if best >= 0 {
				right += of[best]
			}
		}
		for _, o := range order[lo:hi] {
			k := index[o]
			sums[l.label[k]], part[l.fold[k]*l.classes+l.label[k]] = 0, 0
		}
		lo = hi
	}
	accuracy = float64(right) / float64(n)
	if near {
		accuracy = max(accuracy, float64(l.nearest(index, values, order))/float64(n))
	}
	return accuracy, majority
}

// nearest counts the flows whose nearest of another fold has their class.
func (l *linter) nearest(index []int, values []uint64, order []int) (right int) {
	n := len(order)
	before := make([]int, n) // the place in order of the last one of another fold
	scan := func(place func(k int) int, to []int) {
		last := make([]int, l.folds)
		for f := range last {
			last[f] = -1
		}
		for k := range n {
			p := place(k)
			mine := l.fold[index[order[p]]]
			to[p] = -1
			best := -1 // the latest visited, as a count of steps
			for f, step := range last {
				if f != mine && step > best {
					best, to[p] = step, place(step)
				}
			}
			last[mine] = k
		}
	}
	scan(func(k int) int { return k }, before)
	after := make([]int, n)
	scan(func(k int) int { return n - 1 - k }, after)
	for p := range n {
		v := values[order[p]]
		pick := before[p]
		if a := after[p]; a >= 0 && (pick < 0 || values[order[a]]-v < v-values[order[pick]]) {
			pick = a
		}
		if pick >= 0 && l.label[index[order[pick]]] == l.label[index[order[p]]] {
			right++
		}
	}
	return right
}

// most is the class with the most, -1 where none has any.
func most(classes int, count func(c int) int) int {
	best, n := -1, 0
	for c := range classes {
		if k := count(c); k > n {
			best, n = c, k
		}
	}
	return best
}

// doubles adds the flows of later parts that earlier ones have.
func (l *linter) doubles() {
	s := l.set
	if len(s.Splits) < 2 {
		return
	}
	copied := *s
	copied.Flows, copied.Left = slices.Clone(s.Flows), nil
	later := 0
	for i := range s.Flows {
		if s.Flows[i].Split > 0 {
			later++
		}
	}
	if err := copied.DropDuplicates(); err != nil && len(copied.Flows) == 0 {
		return
	}
	n := copied.Left[LeftSame] + copied.Left[LeftNear]
	if n == 0 || later == 0 {
		return
	}
	share := float64(n) / float64(later)
	l.out.Findings = append(l.out.Findings, Finding{
		Name: "flows of later parts that an earlier part has, too", Kind: "duplicates", Accuracy: share, Gain: share, Flows: n, Seen: true, Leak: share >= l.bounds.Doubles,
		Remedy: "make the set anew with nepcoc tokens --split, which leaves them out",
	})
}

// single adds classes that come from one recording only, where others come from several.
func (l *linter) single() {
	s, at := l.set, l.at
	if len(l.groups) < 2 {
		return
	}
	where := make([]map[int]bool, len(s.Labels))
	count := make([]int, len(s.Labels))
	for _, i := range at {
		k := s.Flows[i].Label
		if where[k] == nil {
			where[k] = map[int]bool{}
		}
		where[k][s.Flows[i].Group] = true
		count[k]++
	}
	var names []string
	flows := 0
	for k, w := range where {
		if len(w) == 1 && count[k] > 1 {
			names = append(names, s.Labels[k])
			flows += count[k]
		}
	}
	if names == nil {
		return
	}
	l.out.Findings = append(l.out.Findings, Finding{
		Name: "classes from one recording: " + strings.Join(names, ", "), Kind: "capture", Accuracy: float64(flows) / float64(len(at)), Gain: float64(flows) / float64(len(at)),
		Flows: flows, Seen: true, Leak: true, Remedy: "add recordings of these classes, or leave the classes out: nothing tells them from the recording",
	})
}

// constant counts positions that hold one token in every flow.
func (s *Set) constant() (n int) {
	for p := range s.Contract.Length {
		same := true
		for i := range s.Flows {
			t := s.Flows[i].Tokens
			if p >= len(t) || t[p] != s.Flows[0].Tokens[p] {
				same = false
				break
			}
		}
		if same {
			n++
		}
	}
	return n
}
