package compiler

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// standing compares verdicts of the float model with labels, both by the index of the class.
type standing struct {
	n, right int
	// common is the label that most inputs have, commonN of how many: who always
	// says it is right that often and knows nothing.
	common, commonN int
	// reading[v] is the label that verdict v goes by best, -1 where none has it: an
	// order of the names. read is how many inputs it is right on, each half of them judged by the
	// order that the other half shows, so that it is not praised for what it was made of.
	reading []int
	read    int
}

// stand compares; pairs without a label (-1) don't count.
func stand(verdicts, labels []int, classes int) *standing {
	s := &standing{}
	counts := [2][][]int{square(classes), square(classes)} // [half][verdict][label]
	of := make([]int, classes)
	var pairs [][2]int
	for i, l := range labels {
		v := verdicts[i]
		if l < 0 || l >= classes || v < 0 || v >= classes {
			continue
		}
		counts[len(pairs)%2][v][l]++
		pairs = append(pairs, [2]int{v, l})
		of[l]++
		if v == l {
			s.right++
		}
	}
	s.n = len(pairs)
	for l, n := range of {
		if n > s.commonN {
			s.common, s.commonN = l, n
		}
	}
	orders := [2][]int{order(counts[0]), order(counts[1])}
	for i, p := range pairs {
		if orders[1-i%2][p[0]] == p[1] {
			s.read++
		}
	}
	for v := range classes {
		for l := range classes {
			counts[0][v][l] += counts[1][v][l]
		}
	}
	s.reading = order(counts[0])
	return s
}

func square(n int) [][]int {
	rows := make([][]int, n)
	for i := range rows {
		rows[i] = make([]int, n)
	}
	return rows
}

// order gives each verdict a label of its own, the most frequent pairs first. (The best
// sum over all pairs would need an assignment algorithm, and differs where nothing is clear.)
func order(counts [][]int) []int {
	type cell struct{ n, verdict, label int }
	var cells []cell
	of := make([]int, len(counts))
	for v, row := range counts {
		of[v] = -1
		for l, n := range row {
			if n > 0 {
				cells = append(cells, cell{n, v, l})
			}
		}
	}
	slices.SortStableFunc(cells, func(a, b cell) int { return b.n - a.n })
	taken := make([]bool, len(counts))
	for _, c := range cells {
		if of[c.verdict] < 0 && !taken[c.label] {
			of[c.verdict], taken[c.label] = c.label, true
		}
	}
	return of
}

// deviations are a number of standard deviations of a count of n with the share k/n.
func deviations(times float64, k, n int) float64 {
	p := float64(k) / float64(n)
	return float64(times * math.Sqrt(float64(n)*p*(1-p)))
}

// blind says that the model does no better than who always names the commonest label.
func (s *standing) blind() bool {
	return s.n > 0 && float64(s.right) <= float64(s.commonN)+deviations(2, s.commonN, s.n)
}

// shuffled says that some verdicts go by the names of others: another order of the names, made on
// some inputs, is right on the others far more often than the names are, and than who knows nothing.
func (s *standing) shuffled() bool {
	return s.n >= 20 && s.gain() > 0 && float64(s.read) > float64(s.commonN)+deviations(3, s.commonN, s.n)
}

// gain is by how many inputs the reading beats the names, less what chance may do.
func (s *standing) gain() float64 {
	d := float64(s.read - s.right)
	return d - float64(3*math.Sqrt(max(d, 0)))
}

// pairs lists the verdicts that are read as other labels than their own.
func (s *standing) pairs(names []string) string {
	name := func(k int) string {
		if k < len(names) {
			return fmt.Sprintf("%q", names[k])
		}
		return fmt.Sprint(k)
	}
	var list []string
	for v, l := range s.reading {
		if l >= 0 && l != v {
			list = append(list, fmt.Sprintf("%d (named %s) is given to %s", v, name(v), name(l)))
		}
	}
	const shown = 6
	if len(list) > shown {
		list = append(slices.Clip(list[:shown]), fmt.Sprintf("and %d more", len(list)-shown))
	}
	return strings.Join(list, ", ")
}

// judgeOrder compares the float model with the labels of the measured inputs. A model whose
// verdicts fit the labels under other names only is refused: its bundle would be
// wrong on every flow. One that merely does badly is compiled with a warning.
func (c *compilation) judgeOrder(s *standing, output string, names []string) (warning string, err error) {
	if s.n == 0 {
		return "", nil
	}
	accuracy := fmt.Sprintf("the float model is right on %d of %d labelled %s (%.1f %%)", s.right, s.n, c.unit(), 100*float64(s.right)/float64(s.n))
	reading := fmt.Sprintf("output %s is right on %.1f %% of them with its classes in another order: %s", output, 100*float64(s.read)/float64(s.n), s.pairs(names))
	switch {
	case s.blind() && s.shuffled() && 2*s.read >= s.n:
		return "", inFile(c.Model, fmt.Errorf("the class names are not in the order of the model's outputs: %s, but %s\n    way out: put the names into the order of the outputs, one per line (--labels); if they are, look at the traffic contract (--contract); without labels of the calibration data nothing is compared",
			accuracy, reading))
	case s.shuffled():
		return fmt.Sprintf("%s, but %s; look at the order of the class names (--labels)", accuracy, reading), nil
	case s.blind():
		return fmt.Sprintf("%s, no better than always saying %s (%.1f %%): look at the traffic contract (--contract), at the order of the class names (--labels), and whether the labels are of this data",
			accuracy, label(names, s.common), 100*float64(s.commonN)/float64(s.n)), nil
	}
	return "", nil
}

func label(names []string, k int) string {
	if k < len(names) {
		return fmt.Sprintf("%q", names[k])
	}
	return fmt.Sprintf("class %d", k)
}
