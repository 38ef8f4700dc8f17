package dataset

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"nepcoc/compiler/labels"
	"nepcoc/internal/files"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/flow"
)

// LabelFrom says where labels come from that no file names.
type LabelFrom string

// The places that a label can be taken from.
const (
	FromNothing LabelFrom = ""
	FromFolder  LabelFrom = "folder" // the capture's folder
	FromFile    LabelFrom = "file"   // the capture's name, without its endings
)

// Options say what a set is made of.
type Options struct {
	Source
	// Labels are label files; a flow has the label of the first that names it.
	Labels []*labels.Labels
	From   LabelFrom
	// Unlabelled keeps flows without a label, for pre-training.
	Unlabelled bool
	// Progress, if set, is told of each capture before it is read.
	Progress func(name string, done, total int)
}

// maxFlows bounds a set: each flow takes some 300 bytes of memory besides its tokens, see arena.
const maxFlows = 8_000_000

// Why flows are left out.
const (
	LeftUnlabelled = "no label"
	LeftEmpty      = "no byte that the contract takes"
)

// Read reads the flows of captures, in the order of the captures and in it of first packets. Folders
// stand for the captures in them; see Captures.
func Read(paths []string, opt Options) (*Set, error) {
	captures, err := Captures(paths)
	if err != nil {
		return nil, err
	}
	s := &Set{Source: opt.Source, Splits: []string{"all"}}
	classes, groups := map[string]int{}, map[string]int{}
	index := func(names *[]string, known map[string]int, name string) int {
		i, ok := known[name]
		if !ok {
			i = len(*names)
			known[name] = i
			*names = append(*names, name)
		}
		return i
	}
	var errs []error
	tokens := arena{most: maxFlows}
	for n, path := range captures {
		if opt.From != FromNothing && files.IsStdin(path) {
			errs = append(errs, errors.New("standard input has no name and no folder to take labels from: name a file, or give the labels of its flows"))
			continue
		}
		if opt.Progress != nil {
			opt.Progress(path, n, len(captures))
		}
		flows, notes, err := readCapture(path, &opt, &tokens)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s.Notes = append(s.Notes, notes...)
		for _, f := range flows {
			name, group := opt.label(path, &f)
			switch {
			case name == "" && !opt.Unlabelled:
				s.leave(LeftUnlabelled, 1)
				continue
			case len(f.Tokens) == 0:
				s.leave(LeftEmpty, 1)
				continue
			}
			f.Label = -1
			if name != "" {
				if _, ok := classes[name]; !ok {
					if err := bundle.CheckName(name); err != nil {
						errs = append(errs, fmt.Errorf("%s: the name of a class, %w: change the label file, or the name that the label is taken from", files.Show(path), err))
					}
				}
				f.Label = index(&s.Labels, classes, name)
			}
			f.Group = index(&s.Groups, groups, group)
			s.Flows = append(s.Flows, f)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	s.sortLabels()
	blind := 0
	for i := range s.Flows {
		if !s.holdsByte(s.Flows[i].Tokens) {
			blind++
		}
	}
	if blind > 0 && blind < len(s.Flows) {
		s.Notes = append(s.Notes, fmt.Sprintf("%d of %d flows hold no byte of the packets, only what the contract says of all flows", blind, len(s.Flows)))
	}
	return s, s.usable(captures, blind)
}

// holdsByte says whether tokens hold more than marks and facts.
func (s *Set) holdsByte(tokens []int32) bool {
	c := &s.Contract
	return slices.ContainsFunc(tokens, func(t int32) bool {
		id := int(t)
		return !(c.UseCLS && id == c.CLS) && !(c.UseSEP && id == c.SEP) && c.Fact(t) == ""
	})
}

// usable refuses a set that nothing can be learnt from; blind of its flows hold no byte.
func (s *Set) usable(captures []string, blind int) error {
	where := fmt.Sprintf("%s and %d more", files.Show(captures[0]), len(captures)-1)
	if len(captures) == 1 {
		where = files.Show(captures[0])
	}
	switch {
	case len(s.Flows) > blind:
		return nil
	case s.Left[LeftUnlabelled] > 0 && blind == 0:
		return fmt.Errorf("%s: none of the %d flows has a label: compare addresses, ports and times of the label file with those of the capture (nepcoc contract explain shows them), or keep flows without a label (--unlabelled)", where, s.Left[LeftUnlabelled])
	case s.Left[LeftEmpty]+blind > 0:
		return fmt.Errorf("%s: the contract %q takes no byte of any of the %d flows: see what it blanks and which packets count (nepcoc contract show)", where, s.Contract.Name, s.Left[LeftEmpty]+blind)
	}
	return fmt.Errorf("%s: holds no flow", where)
}

// sortLabels brings the classes into the order of their names, so that it does not depend on that of the captures.
func (s *Set) sortLabels() {
	old := slices.Clone(s.Labels)
	slices.Sort(s.Labels)
	at := make([]int, len(old))
	for i, name := range old {
		at[i], _ = slices.BinarySearch(s.Labels, name)
	}
	for i := range s.Flows {
		if l := s.Flows[i].Label; l >= 0 {
			s.Flows[i].Label = at[l]
		}
	}
}

// label is a flow's label, "" for none, and what it must be kept together with.
func (o *Options) label(path string, f *Flow) (name, group string) {
	group = files.Show(path)
	for _, l := range o.Labels {
		row, match := l.Find(f.Key, f.First)
		if match != labels.Fits {
			continue
		}
		if g := l.Rows[row].Group; g != "" {
			group = g
		}
		if name = l.Rows[row].Names[0]; name != "" {
			break
		}
	}
	if name != "" {
		return name, group
	}
	switch o.From {
	case FromFolder:
		abs, err := filepath.Abs(path)
		if err != nil {
			abs = path
		}
		name = filepath.Base(filepath.Dir(abs))
	case FromFile:
		name = stem(path)
	}
	return name, group
}

// endings are those of capture files, packed or not.
var endings = []string{".pcap", ".pcapng", ".cap", ".dmp", ".ntar"}
var packed = []string{".gz", ".zst", ".lz4", ".xz"}

func cutEnding(name string, of []string) (string, bool) {
	for _, e := range of {
		if len(name) > len(e) && strings.EqualFold(name[len(name)-len(e):], e) {
			return name[:len(name)-len(e)], true
		}
	}
	return name, false
}

// stem is a capture's name without folder and endings.
func stem(path string) string {
	name, _ := cutEnding(filepath.Base(path), packed)
	name, _ = cutEnding(name, endings)
	return name
}

// Captures lists captures in the order in which they were named; a folder stands for the files in it and
// below whose names end as captures' do, sorted.
func Captures(paths []string) ([]string, error) {
	var all []string
	var errs []error
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil || !info.IsDir() {
			all = append(all, path) // opening it says what is wrong
			continue
		}
		n := len(all)
		err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return fmt.Errorf("%s: %w", files.Show(p), files.Reason(err))
			}
			plain, _ := cutEnding(p, packed)
			if _, ok := cutEnding(plain, endings); !ok || d.IsDir() {
				return nil
			}
			// A pipe would be waited for. Of a link that points nowhere opening it says so.
			if info, err := os.Stat(p); err != nil || info.Mode().IsRegular() {
				all = append(all, p)
			}
			return nil
		})
		switch {
		case err != nil:
			errs = append(errs, err)
		case len(all) == n:
			errs = append(errs, fmt.Errorf("%s: no captures in this folder (names that end in %s, packed or not)", files.Show(path), strings.Join(endings, ", ")))
		}
	}
	// A folder and a file in it: each flow would count twice.
	seen := map[string]string{}
	for _, path := range all {
		real, err := filepath.EvalSymlinks(path)
		if err != nil || files.IsStdin(path) {
			continue
		}
		if real, err = filepath.Abs(real); err != nil {
			continue
		}
		if info, err := os.Stat(real); err != nil || !info.Mode().IsRegular() {
			continue
		}
		if first, ok := seen[real]; ok {
			errs = append(errs, fmt.Errorf("%s: is named twice (%s): its flows would count twice", files.Show(path), files.Show(first)))
		}
		seen[real] = path
	}
	return all, errors.Join(errs...)
}

// whileKept is a source that ends where no more flows can be kept.
type whileKept struct {
	capture.Source
	tokens *arena
}

func (w whileKept) Next(f *capture.Frame) error {
	if w.tokens.err != nil {
		return w.tokens.err
	}
	return w.Source.Next(f)
}

func readCapture(path string, opt *Options, tokens *arena) ([]Flow, []string, error) {
	src, err := capture.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer src.Close()
	fo, err := classify.OptionsFor(opt.Contract, opt.View)
	if err != nil {
		return nil, nil, err
	}
	flows, n, err := flow.CollectAs(whileKept{src, tokens}, fo, func(f *flow.Flow) Flow {
		out := Flow{Key: f.Key, First: f.First, Packets: f.Packets, Bytes: f.Bytes, Marks: f.Marks, Payload: f.Payload, Largest: uint16(f.Largest), Repeats: uint8(f.Repeats)}
		if beside := f.Tokens[opt.Contract.Length:]; len(beside) == 0 {
			out.Tokens = tokens.keep(f.Tokens[:f.Valid])
		} else if kept := tokens.keep(slices.Concat(f.Tokens[:f.Valid], beside)); kept != nil { // one call per flow
			out.Tokens, out.Numbers = kept[:f.Valid:f.Valid], kept[f.Valid:]
		}
		return out
	})
	if err = cmp.Or(tokens.err, err); err != nil {
		return nil, nil, err
	}
	notes := n.Notes(&fo)
	for i := range notes {
		notes[i] = files.Show(path) + ": " + notes[i]
	}
	return flows, append(notes, src.Notes()...), nil
}
