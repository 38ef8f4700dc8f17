package report

import (
	"fmt"
	"io"
	"slices"

	"nepcoc/compiler/verify"
	"nepcoc/internal/cli"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/capture"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/drift"
)

// drift compares the captures with what the bundle says of its calibration's flows: the data of nepcoc drift.
func (r *Report) drift(b *bundle.Bundle, o verify.Options) error {
	if _, err := drift.New(b, classify.Labels(b), drift.Defaults); err != nil {
		r.missing("drift", err.Error())
		return nil
	}
	own := *b
	own.Manifest.View, _ = o.View.Of(b.Manifest.View)
	src, err := capture.OpenAll(r.Captures)
	if err != nil {
		return err
	}
	defer src.Close()
	r.Drift, _, err = drift.Compare(&own, src, drift.Defaults, nil)
	return err
}

// DriftText writes a comparison for a terminal.
func DriftText(w io.Writer, c *drift.Comparison) {
	rows := [][]string{{"feature", "distance (bits)", "bound", "flows", ""}}
	for _, d := range c.Whole.Distances {
		over := ""
		switch {
		case d.Over():
			over = "drift: " + drift.What(d.Feature)
		case d.Few:
			over = "too few flows to tell"
		}
		rows = append(rows, []string{cli.Name(d.Name()), fmt.Sprintf("%.4f", d.Bits), fmt.Sprintf("%.4f", d.Bound), fmt.Sprint(d.Flows), over})
	}
	cli.Table(w, rows)
	fmt.Fprintln(w)
	rows = [][]string{{"label", "then", "now"}}
	for _, l := range c.Whole.Moved(drift.Shown) {
		rows = append(rows, []string{cli.Name(l.Output + "=" + l.Label), cli.Percent(l.Then), cli.Percent(l.Now)})
	}
	cli.Table(w, rows)
	if n := len(c.Whole.Labels) - drift.Shown; n > 0 {
		fmt.Fprintf(w, "  and %d that have moved less\n", n)
	}
	fmt.Fprintln(w)
	for _, e := range c.Events {
		fmt.Fprintf(w, "%s: drift %ss %s\n", e.Time, e.State, e.Is.String())
	}
	for _, cause := range c.Whole.Causes {
		fmt.Fprintf(w, "cause: %s\n", drift.Cause(cause))
	}
	fmt.Fprintln(w, driftBasis(c))
}

// driftBasis says what a comparison stands on.
func driftBasis(c *drift.Comparison) string {
	text := fmt.Sprintf("%s against %d of calibration, all together", count(int(c.Whole.Flows), "flow"), c.Calibration)
	if c.Looks == 0 {
		return text + fmt.Sprintf("; too few for a window of %d", c.Window)
	}
	return text + fmt.Sprintf(", and in %s of %d", count(c.Looks, "window"), c.Window)
}

// driftTile is the comparison in the summary.
func driftTile(c *drift.Comparison) tile {
	t := tile{Name: "Drift", Value: "none", On: fmt.Sprintf("%s against %d", count(int(c.Whole.Flows), "flow"), c.Calibration), Bad: c.Drift}
	if n := len(c.Whole.Over()); n > 0 {
		t.Value, t.On = fmt.Sprintf("%d of %d", n, len(c.Whole.Distances)), "features; "+t.On
	} else if c.Drift {
		t.Value = "in windows"
	} else if c.TooFew {
		t.Value = "not told"
	} else if told := slices.DeleteFunc(slices.Clone(c.Whole.Distances), func(d drift.Distance) bool { return d.Few }); len(told) < len(c.Whole.Distances) {
		t.Value, t.On = fmt.Sprintf("none in %d of %d", len(told), len(c.Whole.Distances)), "features, too few flows for the others; "+t.On
	}
	return t
}

// driftMost is the largest distance by its bound: what bars are drawn by, 1 at least.
func driftMost(c *drift.Comparison) float64 {
	most := 1.0
	for _, d := range c.Whole.Distances {
		if d.Bound > 0 && !d.Few {
			most = max(most, d.Bits/d.Bound)
		}
	}
	return most
}
