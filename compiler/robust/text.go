package robust

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"nepcoc/internal/cli"
)

// Text writes the report for a terminal.
func (r *Report) Text(w io.Writer) {
	for i := range r.Outputs {
		o := &r.Outputs[i]
		head := "changed"
		if len(r.Outputs) > 1 {
			head += ", output " + o.Name
		}
		rows := [][]string{{head, "flows", "verdict became another", "of them unknown", "most by " + o.By}}
		for k := range o.Rows {
			row := &o.Rows[k]
			rows = append(rows, []string{row.Change, fmt.Sprint(row.Flows), row.Told(cli.Percent), fmt.Sprint(row.Unknown), strings.Join(row.most(3), ", ")})
		}
		if len(rows) > 1 {
			cli.Table(w, rows)
		}
	}
	if len(r.Outputs) > 1 {
		fmt.Fprintf(w, "decisive bytes are those of the verdict of %s\n", cli.Name(r.Outputs[0].Name))
	}
	for _, n := range r.NotMeasured {
		fmt.Fprintf(w, "not measured  %s\n", n)
	}
}

// most are the n classes whose flows changed most, with their numbers.
func (r *Row) most(n int) (list []string) {
	classes := slices.Clone(r.Classes)
	rate := func(c Class) float64 { return float64(c.Flipped) / float64(c.Flows) }
	slices.SortStableFunc(classes, func(a, b Class) int { return cmp.Compare(rate(b), rate(a)) })
	for _, c := range classes[:min(n, len(classes))] {
		if c.Flipped > 0 {
			list = append(list, fmt.Sprintf("%s %d of %d", c.Class, c.Flipped, c.Flows))
		}
	}
	return list
}
