package report

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"nepcoc/compiler/robust"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Colours of plots are names: where the SVG has one of these values, the page has the variable of its style sheet, which depends on whether
// the reader prefers light or dark.
var (
	inkText   = ink(1)
	inkMuted  = ink(2)
	inkGrid   = ink(3)
	inkFirst  = ink(4)
	inkSecond = ink(5)
)

var inks = []string{"text", "muted", "grid", "first", "second"}

// ink is the k-th: far from its neighbours, since the canvas may be off by one where a colour is thin.
func ink(k uint8) color.NRGBA { return color.NRGBA{0, inkStep * k, 0, 255} }

const inkStep = 32

// thin is a colour of which less is there.
func thin(c color.NRGBA, share float64) color.NRGBA {
	c.A = uint8(math.Round(255 * min(1, max(0, share))))
	return c
}

// Size of plots, in the units of their view box: one is about a pixel of a phone.
const (
	plotWidth  = 400
	plotHeight = 270
	wideWidth  = 860
	// Letters are measured larger than they are drawn: the reader's font may be wider than the one that the plot knows.
	plotFont      = 13
	plotFontDrawn = 12
	// plotMargin is for letters, too.
	plotMargin = 9
)

// newPlot is an empty plot with our lines and letters.
func newPlot(x, y string) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = color.Transparent
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Color, a.Tick.Color, a.Tick.LineStyle.Color = inkMuted, inkMuted, inkMuted
		a.LineStyle.Color = inkMuted
		a.Label.TextStyle.Color, a.Tick.Label.Color = inkText, inkText
		a.Label.TextStyle.Font.Size, a.Tick.Label.Font.Size = plotFont, plotFont
		a.Label.TextStyle.Font.Variant, a.Tick.Label.Font.Variant = "Sans", "Sans"
		a.Label.Padding, a.Padding = 4, 4
	}
	p.X.Label.Text, p.Y.Label.Text = x, y
	p.Legend.TextStyle.Color, p.Legend.TextStyle.Font.Size = inkText, plotFont
	p.Legend.TextStyle.Font.Variant = "Sans"
	p.Legend.Padding, p.Legend.ThumbnailWidth = 3, 18
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = inkGrid, inkGrid
	p.Add(grid)
	return p
}

// legendAbove makes room for a legend of n lines above the plot, where it can't lie on what is drawn.
func legendAbove(p *plot.Plot, n int) {
	high := vg.Length(16 * n)
	p.Title.Text, p.Title.TextStyle.Font.Size, p.Title.TextStyle.Color, p.Title.Padding = " ", 1, inkText, high
	p.Legend.Top, p.Legend.Left, p.Legend.YOffs = true, true, high
}

// percent ticks an axis of shares.
func percent(from, to, step float64) plot.ConstantTicks {
	var ticks plot.ConstantTicks
	for k := 0; from+float64(float64(k)*step) <= to+1e-9; k++ {
		x := from + float64(float64(k)*step)
		ticks = append(ticks, plot.Tick{Value: x, Label: fmt.Sprintf("%.0f %%", 100*x)})
	}
	return ticks
}

// percentFor ticks the axis up to a largest share, with a few round steps, and returns where it ends.
func percentFor(most float64) (plot.ConstantTicks, float64) {
	for _, step := range []float64{0.01, 0.02, 0.05, 0.1} {
		if most <= 5*step {
			end := math.Ceil(max(most, step)/step) * step
			return percent(0, end, step), end
		}
	}
	return percent(0, 1, 0.2), 1
}

var (
	svgHead  = regexp.MustCompile(`(?s)^.*?<svg[^>]*>`)
	svgColor = regexp.MustCompile(`#00([0-9A-F]{2})00`)
	svgFont  = regexp.MustCompile(`font-family:[^;"]*;?(font-weight:[^;"]*;?)?(font-style:[^;"]*;?)?`)
)

// svg draws a plot as an element of a page. title is read to those who don't see it.
func svg(p *plot.Plot, w, h vg.Length, title string) (template.HTML, error) {
	c := vgsvg.New(w, h)
	p.Draw(draw.Crop(draw.New(c), plotMargin, -2*plotMargin, plotMargin/2, -plotMargin))
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return "", err
	}
	text := b.String()
	if at := strings.Index(text, "-->"); at >= 0 {
		text = text[at:]
	}
	text = svgHead.ReplaceAllString(text, "")
	text = svgFont.ReplaceAllString(text, "")
	text = strings.ReplaceAll(text, fmt.Sprintf("font-size:%dpx", plotFont), fmt.Sprintf("font-size:%dpx", plotFontDrawn))
	text = svgColor.ReplaceAllStringFunc(text, func(s string) string {
		g, _ := strconv.ParseUint(s[3:5], 16, 8)
		return "var(--" + inks[min(len(inks), max(1, (int(g)+inkStep/2)/inkStep))-1] + ")"
	})
	head := fmt.Sprintf(`<svg viewBox="0 0 %.0f %.0f" role="img" aria-label="%s"><title>%s</title>`, w.Points(), h.Points(), template.HTMLEscapeString(title), template.HTMLEscapeString(title))
	return template.HTML(head + text), nil
}

// line adds a line, and to the legend where it has a name.
func line(p *plot.Plot, name string, c color.Color, dashed bool, pts plotter.XYs) error {
	l, err := plotter.NewLine(pts)
	if err != nil {
		return err
	}
	l.Color, l.Width = c, 2
	if dashed {
		l.Dashes, l.Width = []vg.Length{5, 4}, 1.5
	}
	p.Add(l)
	if name != "" {
		p.Legend.Add(name, l)
	}
	return nil
}

// reliability draws how often verdicts of a score are right.
func reliabilityPlot(o *Output) (*plot.Plot, error) {
	p := newPlot("score", "right verdicts")
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, 1, 0, 1
	p.X.Tick.Marker, p.Y.Tick.Marker = percent(0, 1, 0.2), percent(0, 1, 0.2)
	if err := line(p, "", inkMuted, true, plotter.XYs{{X: 0, Y: 0}, {X: 1, Y: 1}}); err != nil {
		return nil, err
	}
	var pts plotter.XYs
	for _, b := range o.Reliability {
		if b.Flows == 0 {
			continue
		}
		pts = append(pts, plotter.XY{X: b.Score, Y: b.Accuracy})
		whisker, err := plotter.NewLine(plotter.XYs{{X: b.Score, Y: b.Low}, {X: b.Score, Y: b.High}})
		if err != nil {
			return nil, err
		}
		whisker.Color, whisker.Width = thin(inkFirst, 0.5), 2
		p.Add(whisker)
	}
	dots, err := plotter.NewScatter(pts)
	if err != nil {
		return nil, err
	}
	dots.Color, dots.Shape, dots.Radius = inkFirst, draw.CircleGlyph{}, 4
	p.Add(dots)
	return p, nil
}

// coveragePlot draws accuracy and coverage by threshold.
func coveragePlot(o *Output) (*plot.Plot, error) {
	p := newPlot("threshold: verdicts with a lower score are left out", "share")
	var acc, cov plotter.XYs
	low := 1.0
	for _, c := range o.Coverage {
		cov = append(cov, plotter.XY{X: c.Threshold, Y: c.Coverage})
		low = min(low, c.Coverage)
		if c.Flows > 0 {
			acc = append(acc, plotter.XY{X: c.Threshold, Y: c.Accuracy})
			low = min(low, c.Accuracy)
		}
	}
	low = max(0, math.Floor(float64(low*5))/5)
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, 1, low, 1
	step := 0.2
	if low >= 0.6 {
		step = 0.1
	}
	p.X.Tick.Marker, p.Y.Tick.Marker = percent(0, 1, 0.2), percent(low, 1, step)
	if err := line(p, "accuracy of what is left", inkFirst, false, acc); err != nil {
		return nil, err
	}
	if err := line(p, "coverage: what is left", inkSecond, false, cov); err != nil {
		return nil, err
	}
	legendAbove(p, 2)
	if t := o.Threshold; t > 0 {
		legendAbove(p, 3)
		if err := line(p, "the bundle's threshold", inkMuted, true, plotter.XYs{{X: t, Y: low}, {X: t, Y: 1}}); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// tradePlot draws accuracy against coverage.
func tradePlot(o *Output) (*plot.Plot, error) {
	p := newPlot("coverage: verdicts that are kept", "accuracy")
	var pts plotter.XYs
	low, left := 1.0, 1.0
	for _, c := range o.Coverage {
		if c.Flows > 0 {
			pts = append(pts, plotter.XY{X: c.Coverage, Y: c.Accuracy})
			low, left = min(low, c.Accuracy), min(left, c.Coverage)
		}
	}
	low, left = max(0, math.Floor(float64(low*20)-1e-9)/20), max(0, math.Floor(float64(left*5))/5)
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = left, 1, low, 1
	p.X.Tick.Marker = percent(left, 1, 0.2)
	step := 0.2
	for _, s := range []float64{0.01, 0.02, 0.05, 0.1} {
		if 1-low <= float64(5*s)+1e-9 {
			step = s
			break
		}
	}
	p.Y.Tick.Marker = percent(low, 1, step)
	if err := line(p, "", inkFirst, false, pts); err != nil {
		return nil, err
	}
	if c := o.at(o.Threshold); o.Threshold > 0 && c.Flows > 0 {
		dot, err := plotter.NewScatter(plotter.XYs{{X: c.Coverage, Y: c.Accuracy}})
		if err != nil {
			return nil, err
		}
		dot.Color, dot.Shape, dot.Radius = inkSecond, draw.CircleGlyph{}, 5
		p.Add(dot)
		p.Legend.Add("the bundle's threshold", dot)
		legendAbove(p, 1)
	}
	return p, nil
}

// robustPlot draws how many verdicts become others by the share of bytes that is changed.
func robustPlot(o *robust.Output) (*plot.Plot, error) {
	p := newPlot("bytes of a flow that are changed", "verdicts that become others")
	most := 0.0
	for _, k := range []struct {
		kind string
		c    color.Color
	}{{robust.KindDecisive, inkFirst}, {robust.KindRandom, inkSecond}} {
		pts := plotter.XYs{{X: 0, Y: 0}}
		for i := range o.Rows {
			if r := &o.Rows[i]; r.Kind == k.kind {
				pts = append(pts, plotter.XY{X: r.Share, Y: r.Rate()})
				most = max(most, r.Rate())
			}
		}
		if err := line(p, k.kind, k.c, false, pts); err != nil {
			return nil, err
		}
		dots, err := plotter.NewScatter(pts[1:])
		if err != nil {
			return nil, err
		}
		dots.Color, dots.Shape, dots.Radius = k.c, draw.CircleGlyph{}, 3.5
		p.Add(dots)
	}
	p.X.Min, p.X.Max, p.Y.Min = 0, 0.05, 0
	p.X.Tick.Marker = percent(0, 0.05, 0.01)
	p.Y.Tick.Marker, p.Y.Max = percentFor(most)
	legendAbove(p, 2)
	return p, nil
}

// heat draws rows of shares as cells, darker where there is more; each row by its own largest.
type heat struct{ rows [][]float64 }

// Plot implements plot.Plotter.
func (h heat) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	for k, row := range h.rows {
		most := slices.Max(row)
		for i, share := range row {
			if share < most/25 || share == 0 {
				continue
			}
			from, to := x(float64(i)), x(float64(i+1))
			low, high := y(float64(len(h.rows)-1-k)+0.08), y(float64(len(h.rows)-k)-0.08)
			c.FillPolygon(thin(inkFirst, 0.15+float64(0.85*share/most)), []vg.Point{{X: from, Y: low}, {X: to, Y: low}, {X: to, Y: high}, {X: from, Y: high}})
		}
	}
}

// evidencePlot draws at which positions of the sequence the classes' evidence lies.
func evidencePlot(o *Output) (*plot.Plot, vg.Length, error) {
	p := newPlot("position in the sequence, in tokens", "")
	var h heat
	var names plot.ConstantTicks
	n := len(o.Evidence)
	end := 1
	for k, e := range o.Evidence {
		h.rows = append(h.rows, e.Positions)
		names = append(names, plot.Tick{Value: float64(n-1-k) + 0.5, Label: e.Class})
		for i, x := range e.Positions {
			if x > 0 {
				end = max(end, i+1)
			}
		}
	}
	for k := range h.rows {
		h.rows[k] = h.rows[k][:end]
	}
	step := 1
	for _, s := range []int{2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000} {
		if end/step > 10 {
			step = s
		}
	}
	var ticks plot.ConstantTicks
	for x := 0; x <= end; x += step {
		ticks = append(ticks, plot.Tick{Value: float64(x), Label: strconv.Itoa(x)})
	}
	p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, float64(end), 0, float64(n)
	p.X.Tick.Marker, p.Y.Tick.Marker = ticks, names
	p.Y.Tick.Length, p.Y.Padding = 0, 10
	p.Add(h)
	return p, vg.Length(70 + 17*n), nil
}
