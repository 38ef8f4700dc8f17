package report

import (
	"fmt"
	"io"
	"strings"

	"nepcoc/compiler/verify"
	"nepcoc/internal/cli"
	"nepcoc/runtime/bundle"
)

// textRows is how many flows a list shows on a terminal.
const textRows = 10

// Text writes the report for a terminal.
func (r *Report) Text(w io.Writer) {
	say := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	title := func(format string, args ...any) { say("\n"+format, args...) }
	say("%s (%.12s): %s of %s", cli.Name(r.Bundle.Name), r.Bundle.Digest, count(r.Flows, "flow"), cli.Name(strings.Join(r.Captures, ", ")))
	var rows [][]string
	for _, t := range r.tiles() {
		rows = append(rows, []string{t.Name, t.Value, t.On})
	}
	cli.Table(w, rows)
	title("WHAT THE MODEL SEES")
	for _, s := range r.Sees.Words {
		say("  %s", s)
	}
	f := r.Sees.Figures
	say("  %s of the tokens are payload; %s without any.", percentText(f.PayloadShare), count(f.Empty, "flow"))
	for i := range r.Outputs {
		r.Outputs[i].text(w, len(r.Outputs) > 1)
	}
	if r.Robust != nil {
		title("ROBUSTNESS, changes drawn by seed %d", r.Robust.Seed)
		r.Robust.Text(w)
	}
	if d := r.Drift; d != nil {
		title("DRIFT from calibration's traffic: %s", d.Answer())
		DriftText(w, d)
	}
	if l := r.Lint; l != nil {
		title("LEAKS: %s, in %s of %d classes and %s", leaks(l), count(l.Flows, "labelled flow"), l.Classes, count(l.Groups, "recording"))
		rows = [][]string{{"", "guessed from this alone", "right", "gain", "flows", "what removes it"}}
		t := r.findings()
		for _, f := range t.Rows {
			mark := "note"
			if f.Leak {
				mark = "leak"
			}
			rows = append(rows, []string{mark, f.Name, f.Right, f.Gain, fmt.Sprint(f.Flows), f.Remedy})
		}
		if len(rows) > 1 {
			cli.Table(w, rows)
		}
		if t.Rest > 0 {
			say("and %d more that are no leaks", t.Rest)
		}
		for _, n := range l.Notes {
			say("note: %s", n)
		}
	}
	if len(r.Steps) > 0 {
		title("ERROR PER STEP, on %s", count(r.StepInputs, "flow"))
		rows = [][]string{{"step", "operator", "error", "added here"}}
		for _, s := range r.Steps {
			name := s.Step
			if name == r.Worst {
				name += " (most)"
			}
			rows = append(rows, []string{name, s.Op, cli.Percent(s.RelError), cli.Percent(s.Added)})
		}
		cli.Table(w, rows)
	}
	c := r.Cost
	title("TIME AND MEMORY on %s (estimates)", c.Target)
	cli.Table(w, [][]string{
		{"one flow", fmt.Sprintf("%.3g us for a full one of %d tokens, %.3g us for one of %.0f", c.Full, c.Tokens, c.Mean, c.MeanTokens)},
		{"memory", fmt.Sprintf("%s of weights, %s per worker, %s per flow", cli.Bytes(c.Weights), cli.Bytes(int64(c.Runs.Arena)), cli.Bytes(int64(c.Runs.State)))},
		{"work", fmt.Sprintf("%d multiply-adds for a full flow", c.MACs)},
	})
	title("WHAT WAS PROVED")
	rows = nil
	for _, c := range r.Checks {
		held := "held"
		if !c.OK {
			held = "FAILED"
		}
		rows = append(rows, []string{c.Name, fmt.Sprintf("%d of %d %s", c.Held, c.Cases, c.Unit), held, c.Detail})
	}
	cli.Table(w, rows)
	for _, m := range r.Missing {
		say("nothing on %s: %s", m.What, m.Why)
	}
	for _, n := range r.Notes {
		say("note: %s", n)
	}
}

// text writes an output's part; named tells which it is.
func (o *Output) text(w io.Writer, named bool) {
	of := ""
	if named {
		of = " OF " + o.Name
	}
	fmt.Fprintf(w, "\nVERDICTS%s\n", of)
	if o.Kind == bundle.KindValues {
		fmt.Fprintln(w, "  The output gives values and no verdict.")
	} else {
		fmt.Fprintf(w, "  %s\n", o.unknownWords())
	}
	if o.Insufficient > 0 {
		fmt.Fprintf(w, "  %s with too little payload for a verdict: insufficient.\n", count(o.Insufficient, "flow"))
	}
	if s := o.Integer; s != nil && o.NoLabel > 0 {
		fmt.Fprintf(w, "  Accuracy: %s of %s%s.\n", percentText(s.Accuracy), count(s.Labelled, "labelled flow"), o.noLabelWords())
	}
	if k := o.Known; k != nil {
		if f := k.Foreign; f != nil {
			fmt.Fprintf(w, "  Of %s, %d are insufficient and %d unknown.\n", count(f.Flows, "foreign flow"), f.Insufficient, f.Unknown)
		}
		if s := k.Score; s != nil {
			fmt.Fprintf(w, "  Told apart by the score: AUROC %.3f, %s pass where 95 %% of the known ones do.\n", s.AUROC, percentText(s.FPR95))
		}
		if b := k.Belonging; b != nil {
			fmt.Fprintf(w, "  Told apart by belonging: AUROC %.3f, %s pass.\n", b.AUROC, percentText(b.FPR95))
		}
		if len(k.LeftOut) > 0 {
			mean := verify.Mean(k.LeftOut)
			fmt.Fprintf(w, "  Each of %d classes left out of what is known in turn: mean AUROC %.3f, %s of its flows pass where 95 %% of the others do. That flatters: the model has seen them.\n",
				len(k.LeftOut), mean.AUROC, percentText(mean.FPR95))
		}
		if len(k.TooFew) > 0 {
			fmt.Fprintf(w, "  %s\n", tooFewWords(k))
		}
	}
	if len(o.PerClass) > 0 {
		rows := [][]string{{"class", "flows", "precision", "recall", "F1", "taken for"}}
		for k, c := range o.PerClass {
			rows = append(rows, []string{c.Name, fmt.Sprint(c.Support), shareText(c.Precision), shareText(c.Recall), shareText(c.F1), strings.Join(o.takenFor(k), ", ")})
		}
		cli.Table(w, rows)
	}
	if o.Reliability != nil {
		rows := [][]string{{"score", "flows", "mean score", "right", "95 % interval"}}
		for _, b := range o.Reliability {
			if b.Flows > 0 {
				rows = append(rows, []string{fmt.Sprintf("%.1f to %.1f", b.From, b.To), fmt.Sprint(b.Flows), percentText(b.Score), percentText(b.Accuracy), percentText(b.Low) + " to " + percentText(b.High)})
			}
		}
		rows = append(rows, []string{"all", fmt.Sprint(o.Integer.Labelled), "expected calibration error " + o.calibrationError()})
		cli.Table(w, rows)
		rows = [][]string{{"threshold", "flows kept", "coverage", "accuracy"}}
		for _, t := range []float64{0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99} {
			p := o.at(t)
			rows = append(rows, []string{fmt.Sprintf("%g", t), fmt.Sprint(p.Flows), percentText(p.Coverage), accuracyText(p)})
		}
		cli.Table(w, rows)
	}
	if len(o.Evidence) > 0 {
		rows := [][]string{{"verdict", "flows", fmt.Sprintf("fields that decide, of %s", count(o.Explained, "flow"))}}
		for _, e := range o.Evidence {
			var names []string
			for _, f := range e.Fields[:min(4, len(e.Fields))] {
				names = append(names, f.Name+" "+percentText(f.Share))
			}
			rows = append(rows, []string{e.Class, fmt.Sprint(e.Flows), strings.Join(names, ", ")})
		}
		cli.Table(w, rows)
	}
	list := func(what string, flows []Flow) {
		if len(flows) == 0 {
			return
		}
		rows := [][]string{{what, "first packet", "addresses and ports", "label", "float", "verdict", "score", "marks"}}
		for _, f := range flows[:min(len(flows), textRows)] {
			rows = append(rows, []string{fmt.Sprint(f.Number), f.Time, f.Tuple, strings.Join(f.Label, ", "), strings.Join(f.Float, ", "), f.said(), num(f.Score), strings.Join(f.Marks, ", ")})
		}
		cli.Table(w, rows)
		if n := len(flows) - textRows; n > 0 {
			fmt.Fprintf(w, "and %d more (--json lists them)\n", n)
		}
	}
	list(fmt.Sprintf("wrong (%d)", len(o.Wrong)), o.Wrong)
	list(fmt.Sprintf("float differs (%d)", len(o.Differing)), o.Differing)
}

// takenFor are the other verdicts that flows of a class get, with their numbers, the commonest first.
func (o *Output) takenFor(k int) (list []string) {
	if o.Confusion == nil {
		return nil
	}
	row := o.Confusion[k]
	names := append(append([]string(nil), o.Classes...), noLabel)
	for n := o.PerClass[k].Support; n > 0; n-- {
		for j, x := range row {
			if j != k && x == n && len(list) < 3 {
				list = append(list, fmt.Sprintf("%s %d", names[j], n))
			}
		}
	}
	return list
}

func accuracyText(p *Point) string {
	if p.Flows == 0 {
		return "–"
	}
	return percentText(p.Accuracy)
}
