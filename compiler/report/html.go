package report

import (
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"gonum.org/v1/plot"

	"nepcoc/compiler/calibrate"
	"nepcoc/compiler/dataset"
	"nepcoc/compiler/robust"
	"nepcoc/compiler/verify"
	"nepcoc/internal/cli"
	"nepcoc/internal/plural"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/drift"
)

//go:embed page.gohtml
var pageText string

//go:embed page.css
var pageStyle string

// HTML writes the report as one page: no script, and a policy that forbids whatever would be loaded.
func (r *Report) HTML(w io.Writer) error { return page.Execute(w, r) }

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"style":    func() template.CSS { return template.CSS(pageStyle) },
	"percent":  percentText,
	"share":    func(p *float64) string { return shareText(p) },
	"width":    func(p *float64) template.CSS { return width(valueOr(p, 0)) },
	"bar":      func(x, most float64) template.CSS { return width(x / max(most, 1e-12)) },
	"num":      num,
	"us":       func(x float64) string { return fmt.Sprintf("%.3g us", x) },
	"bytes":    func(n any) string { return cli.Bytes(asInt(n)) },
	"count":    count,
	"base":     filepath.Base,
	"marks":    marks,
	"join":     func(list []string) string { return strings.Join(list, ", ") },
	"verdict":  func(f Flow) string { return f.said() },
	"unknown":  func(o Output) string { return o.unknownWords() },
	"tooFew":   tooFewWords,
	"ece":      func(o Output) string { return o.calibrationError() },
	"noLabel":  func(o Output) string { return o.noLabelWords() },
	"leaks":    leaks,
	"sentence": func(s string) string { return strings.ToUpper(s[:1]) + s[1:] + "." },
	"reliabilityPlot": func(o Output) (template.HTML, error) {
		return drawn(reliabilityPlot(&o))("How often verdicts of a score are right, output " + o.Name)
	},
	"coveragePlot": func(o Output) (template.HTML, error) {
		return drawn(coveragePlot(&o))("Accuracy and coverage by threshold, output " + o.Name)
	},
	"tradePlot": func(o Output) (template.HTML, error) {
		return drawn(tradePlot(&o))("Accuracy against coverage, output " + o.Name)
	},
	"evidencePlot": func(o Output) (template.HTML, error) {
		p, high, err := evidencePlot(&o)
		if err != nil {
			return "", err
		}
		return svg(p, wideWidth, high, "Positions that decide each class, output "+o.Name)
	},
	"robustPlot": func(o robust.Output) (template.HTML, error) {
		return drawn(robustPlot(&o))("Verdicts that become others by changed bytes, output " + o.Name)
	},
	"bits":       func(x float64) string { return fmt.Sprintf("%.4f", x) },
	"driftBasis": driftBasis,
	"driftMost":  driftMost,
	"driftWhat":  drift.What,
	"driftCause": drift.Cause,
	"moved":      func(c *drift.Comparison) []drift.LabelShift { return c.Whole.Moved(drift.Shown) },
	"over":       func(d drift.Distance) bool { return d.Over() },
	"of":         func(x, y float64) float64 { return x / max(y, 1e-12) },
	"matrix":     matrix,
	"meanOut":    verify.Mean,
	"tiles":      (*Report).tiles,
	"failed":     (*Report).failed,
	"byBytes":    func(o robust.Output) []robust.Row { return rowsOf(o, true) },
	"byPacket":   func(o robust.Output) []robust.Row { return rowsOf(o, false) },
	"told":       func(r robust.Row) string { return r.Told(percentText) },
	"flips":      flips,
	"findings":   (*Report).findings,
	"most":       most,
	"several":    func(r *Report) bool { return len(r.Outputs) > 1 },
	"decided":    func(o Output) bool { return o.Kind != bundle.KindValues },
	"shown":      func(list []Flow) []Flow { return list[:min(len(list), maxRows)] },
}).Parse(pageText))

// maxRows is how many flows a list shows; JSON has all.
const maxRows = 200

func drawn(p *plot.Plot, err error) func(title string) (template.HTML, error) {
	return func(title string) (template.HTML, error) {
		if err != nil {
			return "", err
		}
		return svg(p, plotWidth, plotHeight, title)
	}
}

func percentText(x float64) string {
	switch {
	case math.IsNaN(x):
		return "–"
	case x == 0 || x == 1:
		return fmt.Sprintf("%.0f %%", 100*x)
	}
	return fmt.Sprintf("%.1f %%", 100*x)
}

// shareText is a share that may be of nothing.
func shareText(p *float64) string {
	if p == nil {
		return "–"
	}
	return percentText(*p)
}

// num is a score; a dash where there is none.
func num(x *float64) string {
	if x == nil {
		return "–"
	}
	return fmt.Sprintf("%.4f", *x)
}

func valueOr(p *float64, x float64) float64 {
	if p == nil {
		return x
	}
	return *p
}

func width(share float64) template.CSS {
	return template.CSS(fmt.Sprintf("width:%.1f%%", 100*min(1, max(0, share))))
}

func asInt(n any) int64 {
	switch n := n.(type) {
	case int:
		return int64(n)
	case int64:
		return n
	}
	panic(fmt.Sprintf("BUG: %T", n))
}

// count says how many of a thing there are.
func count(n int, thing string) string {
	digits := fmt.Sprint(n)
	for at := len(digits) - 3; at > 0; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits + " " + plural.Noun(n, thing)
}

// said is a flow's verdict in a word.
func (f *Flow) said() string {
	s := strings.Join(f.Verdict, ", ")
	switch {
	case f.Insufficient:
		return "insufficient (" + s + ")"
	case f.Unknown:
		return "unknown (" + s + ")"
	case s == "":
		return "none"
	}
	return s
}

// tile is a figure of the summary.
type tile struct {
	Name, Value, On string
	Bad             bool
}

// tiles are what a reader who reads nothing else should see.
func (r *Report) tiles() (list []tile) {
	for i := range r.Outputs {
		o := &r.Outputs[i]
		of := ""
		if len(r.Outputs) > 1 {
			of = " of " + o.Name
		}
		if o.Integer != nil {
			on := count(o.Integer.Labelled, "labelled flow")
			list = append(list, tile{Name: "Accuracy" + of, Value: percentText(o.Integer.Accuracy), On: on})
			list = append(list, tile{Name: "Macro-F1" + of, Value: percentText(o.Integer.MacroF1), On: on + ", classes: " + o.Integer.Basis()})
		}
		if o.Reliability != nil {
			list = append(list, tile{Name: "Calibration error" + of, Value: o.calibrationError(), On: count(o.Integer.Labelled, "labelled flow")})
		}
		if o.Compared > 0 && o.Kind != bundle.KindValues {
			list = append(list, tile{Name: "Float = integer" + of, Value: percentText(o.Agreement), On: count(o.Compared, "flow")})
		}
	}
	if r.Robust != nil {
		for i := range r.Robust.Outputs {
			o := &r.Robust.Outputs[i]
			if len(o.Rows) > 0 {
				of := ""
				if len(r.Robust.Outputs) > 1 {
					of = " of " + o.Name
				}
				list = append(list, tile{Name: "Flips" + of + ", 1 % of bytes", Value: flipped(&o.Rows[0]), On: count(o.Rows[0].Flows, "flow")})
				break
			}
		}
	}
	if r.Drift != nil {
		list = append(list, driftTile(r.Drift))
	}
	if r.Lint != nil {
		list = append(list, tile{Name: "Leaks", Value: leaks(r.Lint), On: leaksOf(r.Lint), Bad: r.Lint.Leaks() > 0})
	}
	list = append(list, tile{Name: "One flow on " + r.Cost.Target, Value: fmt.Sprintf("%.3g us", r.Cost.Full), On: "an estimate, one core, full length"})
	return list
}

// tooFew stands in a figure's place.
const tooFew = "not told: too few flows"

// flipped is a row's share of verdicts that became others.
func flipped(r *robust.Row) string {
	if r.Flows < calibrate.LeastFlows {
		return tooFew
	}
	return percentText(r.Rate())
}

// calibrationError is how far scores can be trusted, in one figure.
func (o *Output) calibrationError() string {
	if o.ECE == nil {
		return tooFew
	}
	return percentText(*o.ECE)
}

// leaks is how many leaks lint has found, if there could be any.
func leaks(l *dataset.Lint) string {
	if n := l.Leaks(); n > 0 || !l.TooFew {
		return fmt.Sprint(n)
	}
	return tooFew
}

// leaksOf is what that stands on.
func leaksOf(l *dataset.Lint) string {
	on := count(l.Flows, "labelled flow")
	if l.Within {
		on += ", only within " + count(l.Groups, "recording")
	}
	return on
}

// failed counts the checks that did not hold.
func (r *Report) failed() (n int) {
	for _, c := range r.Checks {
		if !c.OK {
			n++
		}
	}
	return n
}

// cell is a place of a confusion matrix.
type cell struct {
	N     int
	Right bool
	Shade template.CSS
	Title string
}

// confusionRow is a label's.
type confusionRow struct {
	Name  string
	Cells []cell
	Total int
}

// confusionTable is what the page shows of a matrix: classes that neither occur nor are named are left out.
type confusionTable struct {
	Columns []string
	Rows    []confusionRow
	Left    []string
	Flows   int
}

// noLabel heads the column of flows without a label.
const noLabel = "no label"

func matrix(o Output) (t confusionTable) {
	n := len(o.Classes)
	var rows, columns []int
	for k := range n {
		row, column := 0, 0
		for j := range n {
			row, column = row+o.Confusion[k][j], column+o.Confusion[j][k]
		}
		row += o.Confusion[k][n]
		if row > 0 {
			rows = append(rows, k)
		}
		if row > 0 || column > 0 {
			columns = append(columns, k)
		} else {
			t.Left = append(t.Left, o.Classes[k])
		}
	}
	names := append(slices.Clone(o.Classes), noLabel)
	if o.NoLabel > 0 {
		columns = append(columns, n)
	}
	for _, k := range columns {
		t.Columns = append(t.Columns, names[k])
	}
	for _, k := range rows {
		row := confusionRow{Name: names[k]}
		for j := range o.Confusion[k] {
			row.Total += o.Confusion[k][j]
		}
		for _, j := range columns {
			c := cell{N: o.Confusion[k][j], Right: j == k}
			if c.N > 0 {
				c.Shade = template.CSS(fmt.Sprintf("--share:%.0f%%", 12+float64(48*float64(c.N)/float64(row.Total))))
				c.Title = fmt.Sprintf("%d of %d %s: %s", c.N, row.Total, names[k], names[j])
			}
			row.Cells = append(row.Cells, c)
		}
		t.Rows, t.Flows = append(t.Rows, row), t.Flows+row.Total
	}
	return t
}

func rowsOf(o robust.Output, bytes bool) (list []robust.Row) {
	for _, r := range o.Rows {
		if bytes == (r.Kind != robust.KindPackets) {
			list = append(list, r)
		}
	}
	return list
}

// flipRow is what a change makes of one class.
type flipRow struct {
	Class string
	Cells []flipCell
}

type flipCell struct {
	Text, Title string
	Shade       template.CSS
}

// flips are the changes that the table by class shows, and its rows.
func flips(o robust.Output) (t struct {
	Columns []string
	Rows    []flipRow
}) {
	index := map[string]int{}
	for _, r := range o.Rows {
		if r.Kind != robust.KindPackets && r.Share != 0.01 && r.Share != 0.05 || r.Flows == 0 {
			continue
		}
		t.Columns = append(t.Columns, r.Change)
		for _, c := range r.Classes {
			at, ok := index[c.Class]
			if !ok {
				at = len(t.Rows)
				index[c.Class] = at
				t.Rows = append(t.Rows, flipRow{Class: c.Class})
			}
			row := &t.Rows[at]
			for len(row.Cells) < len(t.Columns)-1 {
				row.Cells = append(row.Cells, flipCell{Text: "–"})
			}
			share := float64(c.Flipped) / float64(c.Flows)
			row.Cells = append(row.Cells, flipCell{fmt.Sprintf("%d/%d", c.Flipped, c.Flows), fmt.Sprintf("%s, %s: %d of %d", c.Class, r.Change, c.Flipped, c.Flows),
				template.CSS(fmt.Sprintf("--share:%.0f%%", 60*share))})
		}
	}
	for i := range t.Rows {
		for len(t.Rows[i].Cells) < len(t.Columns) {
			t.Rows[i].Cells = append(t.Rows[i].Cells, flipCell{Text: "–"})
		}
	}
	slices.SortFunc(t.Rows, func(a, b flipRow) int { return cmp.Compare(a.Class, b.Class) })
	return t
}

// maxNotes is how many findings that are no leaks are shown.
const maxNotes = 8

// findings are lint's, leaks first.
func (r *Report) findings() (t struct {
	Rows []finding
	Rest int
}) {
	for _, f := range r.Lint.Findings {
		if !f.Leak && len(t.Rows) >= r.Lint.Leaks()+maxNotes {
			t.Rest++
			continue
		}
		row := finding{Name: f.Name, Leak: f.Leak, Right: "–", Gain: "–", Flows: f.Flows, Remedy: f.Remedy}
		if f.Kind != "duplicates" && f.Kind != "capture" { // those are no guesses
			row.Right, row.Gain = percentText(f.Accuracy), fmt.Sprintf("%.2f", f.Gain)
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

type finding struct {
	Name        string
	Leak        bool
	Right, Gain string
	Flows       int
	Remedy      string
}

// most is the largest value of a list of rows.
func most(list any) (m float64) {
	switch r := list.(type) {
	case *Report:
		for _, s := range r.Steps {
			m = max(m, s.RelError)
		}
	case *Cost:
		for _, s := range r.Steps {
			m = max(m, s.Microseconds)
		}
	default:
		panic(fmt.Sprintf("BUG: %T", list))
	}
	return m
}

// marks lists how many flows have which.
func marks(m map[string]int) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		list = append(list, fmt.Sprintf("%s %d", name, m[name]))
	}
	return strings.Join(list, ", ")
}
