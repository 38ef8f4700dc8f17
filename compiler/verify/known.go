package verify

import (
	"fmt"
	"math"
	"slices"

	"nepcoc/compiler/calibrate"
	"nepcoc/internal/roc"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/verdict"
)

// KnownStats says what an output gives no label to, and how well it tells foreign flows from those of the capture.
type KnownStats struct {
	Output string `json:"output"`
	Share
	// Foreign are the flows of the foreign captures, Score how well the score alone tells them apart, Belonging how well the
	// distance does, where the output has them; nil where one of both has fewer than calibrate.LeastFlows flows with enough payload.
	Foreign   *Share `json:"foreign,omitempty"`
	Score     *Apart `json:"score,omitempty"`
	Belonging *Apart `json:"belonging,omitempty"`
	// LeftOut takes the prototype of each labelled class away in turn: are its flows far from the others'? The model and the projection
	// have seen the class, so this flatters; see docs/unknown.md.
	LeftOut []LeftOut `json:"left_out,omitempty"`
	// TooFew are the labelled classes that have no figure among LeftOut: fewer than calibrate.LeastFlows flows of the class, or of the others.
	TooFew []string `json:"left_out_too_few,omitempty"`
	// NoBelonging tells that nothing can say which flows are like none of the known ones, as of outputs of several labels; Unknown is 0 then and says nothing.
	NoBelonging bool `json:"no_belonging,omitempty"`
	// Withheld are the labelled flows whose label is withheld, unknown or insufficient. A Score counts them by what they would have been.
	Withheld int `json:"withheld_labelled,omitempty"`
}

// Share counts flows that get no label.
type Share struct {
	Flows        int `json:"flows"`
	Insufficient int `json:"insufficient"`
	Unknown      int `json:"unknown"` // of the others
}

// Apart is how well known and foreign flows are told apart, of those with enough payload: the area under the ROC curve, and the share of
// foreign flows that pass a bound which 95 % of the known ones pass.
type Apart struct {
	AUROC float64 `json:"auroc"`
	FPR95 float64 `json:"fpr95"`
}

// LeftOut is how well one class's flows are told from the others' without its prototype.
type LeftOut struct {
	Class string `json:"class"`
	Flows int    `json:"flows"`
	Apart
}

func apart(known, foreign []int64) Apart {
	return Apart{AUROC: roc.AUROC(known, foreign), FPR95: roc.FalsePass(known, foreign, 0.95)}
}

// placed are the flows of a capture that are judged, seen by one output.
type placed struct {
	share  Share
	scores []int64   // less its probability: as a distance
	near   [][]int64 // distances from the prototypes, where there are some
	index  []int     // of the inputs
	// without are the inputs whose label is withheld.
	without []int
}

// known fills the report of what gets no label.
func (v *verifier) known() error {
	if v.set == nil || v.set.Flows == nil {
		if len(v.Foreign) > 0 {
			return fmt.Errorf("%s: foreign captures are compared with a known one: give --pcap, too", v.Foreign[0])
		}
		return nil
	}
	here, err := v.place(v.set)
	if err != nil {
		return err
	}
	var there []placed
	if len(v.Foreign) > 0 {
		c, err := classify.Contract(v.b)
		if err != nil {
			return err
		}
		view, _ := v.View.Of(v.b.Manifest.View)
		set, err := calibrate.FromCapture(v.Foreign, c, view)
		if err != nil {
			return err
		}
		v.report.Notes = append(v.report.Notes, set.Notes...)
		if there, err = v.place(set); err != nil {
			return err
		}
	}
	for o := range v.b.Manifest.Outputs {
		info := &v.b.Manifest.Outputs[o]
		kind := info.EffectiveKind()
		if kind == bundle.KindLabels || kind == bundle.KindValues {
			if there != nil {
				v.missing("known and foreign flows"+v.of(info.Name), fmt.Sprintf("the output gives %s, which have no score of one verdict and no belonging", kind))
			}
			if kind == bundle.KindValues {
				continue
			}
		}
		p, labels := &here[o], v.set.LabelsOf(info.Name, o == 0)
		s := KnownStats{Output: info.Name, Share: p.share, NoBelonging: kind == bundle.KindLabels}
		for _, i := range p.without {
			if labels != nil && labels[i] != nil {
				s.Withheld++
			}
		}
		if there != nil && kind != bundle.KindLabels {
			f := &there[o]
			s.Foreign = &f.share
			judged := len(p.scores) >= calibrate.LeastFlows && len(f.scores) >= calibrate.LeastFlows
			switch {
			case len(p.scores) == 0 || len(f.scores) == 0:
				v.missing("known and foreign flows"+v.of(info.Name), "none of one of them has enough payload for a verdict")
			case !judged:
				v.missing("known and foreign flows"+v.of(info.Name), fmt.Sprintf("%d and %d with enough payload for a verdict are too few to tell: give %d of each at least", len(p.scores), len(f.scores), calibrate.LeastFlows))
			}
			if judged && v.b.Program.Outputs[o].Exp >= 0 { // there are scores
				a := apart(p.scores, f.scores)
				s.Score = &a
			}
			if judged && info.Known != nil {
				a := apart(p.nearest(info.Known, -1), f.nearest(info.Known, -1))
				s.Belonging = &a
			}
		}
		if info.Known != nil {
			s.LeftOut, s.TooFew = p.leftOut(info, labels)
		}
		v.report.Known = append(v.report.Known, s)
	}
	if there != nil && !slices.ContainsFunc(v.report.Known, func(s KnownStats) bool { return s.Score != nil || s.Belonging != nil }) {
		v.nothing("known and foreign flows", "no output tells them apart; below is why")
	}
	return nil
}

// place runs a capture's flows.
func (v *verifier) place(set *calibrate.Set) ([]placed, error) {
	cls := classify.New(v.b, v.eng.NewContext())
	all := make([]placed, len(cls.Heads))
	for i, in := range set.Inputs {
		res, err := cls.Run(in.Tokens, in.Valid)
		if err != nil {
			return nil, err
		}
		r := verdict.Record{Payload: set.Flows[i].Payload}
		cls.Fill(&r, false)
		for o := range r.Verdicts {
			d := &r.Verdicts[o]
			p := &all[d.Head]
			p.share.Flows++
			if d.Insufficient || d.Unknown {
				p.without = append(p.without, i)
			}
			if d.Insufficient {
				p.share.Insufficient++
				continue
			}
			if d.Unknown {
				p.share.Unknown++
			}
			p.scores = append(p.scores, -int64(res[d.Head].Score))
			p.near = append(p.near, cls.Distances(d.Head))
			p.index = append(p.index, i)
		}
	}
	return all, nil
}

// nearest are the distances from the nearest prototype that is of another class than one; -1 leaves none out.
func (p *placed) nearest(known *bundle.Known, without int) []int64 {
	all := make([]int64, len(p.near))
	for i := range p.near {
		all[i] = math.MaxInt64
		for k, d := range p.near[i] {
			if known.Classes[k] != without {
				all[i] = min(all[i], d)
			}
		}
	}
	return all
}

func (p *placed) leftOut(info *bundle.OutputInfo, labels [][]int) (list []LeftOut, few []string) {
	if labels == nil || len(p.near) == 0 || len(p.near[0]) < 2 {
		return nil, nil
	}
	for _, class := range slices.Compact(slices.Clone(info.Known.Classes)) {
		var known, foreign []int64
		for i, d := range p.nearest(info.Known, class) {
			if l := labels[p.index[i]]; len(l) == 1 {
				if l[0] == class {
					foreign = append(foreign, d)
				} else {
					known = append(known, d)
				}
			}
		}
		if len(foreign) == 0 {
			continue
		}
		name := fmt.Sprint(class)
		if len(info.Labels) > 0 {
			name = info.Labels[class]
		}
		if len(known) < calibrate.LeastFlows || len(foreign) < calibrate.LeastFlows {
			few = append(few, name)
			continue
		}
		list = append(list, LeftOut{Class: name, Flows: len(foreign), Apart: apart(known, foreign)})
	}
	return slices.Clip(list), few
}

// Mean is the mean over classes that were left out.
func Mean(list []LeftOut) (a Apart) {
	for _, l := range list {
		a.AUROC += l.AUROC / float64(len(list))
		a.FPR95 += l.FPR95 / float64(len(list))
	}
	return a
}
