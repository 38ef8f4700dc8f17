package classify

import (
	"errors"
	"fmt"

	"nepcoc/runtime/bundle"
)

// Prove runs a bundle's golden vectors: run fills the logits of one input, one slice per output, as an
// Executor does. Equal counts the vectors whose logits are, to the bit, those that the compiler stored;
// difference names the first other one. The error is for a vector that can't be run, and for a
// bundle that has none: nothing compared is nothing proved.
func Prove(b *bundle.Bundle, run func(tokens []int32, valid int, out [][]int32) error) (equal int, difference string, err error) {
	if len(b.Golden) == 0 {
		return 0, "", errors.New("no golden vectors in it, so nothing can be proved: compile it again")
	}
	for i := range b.Golden {
		g := &b.Golden[i]
		got := make([][]int32, len(g.Logits))
		for o := range got {
			got[o] = make([]int32, len(g.Logits[o]))
		}
		if err := run(g.Tokens, g.Valid, got); err != nil {
			return equal, difference, fmt.Errorf("golden vector %d: %w", i, err)
		}
		d := differ(b.Program.Judged(), g.Logits, got)
		if d == "" {
			equal++
		} else if difference == "" {
			difference = fmt.Sprintf("golden vector %d, %s", i, d)
		}
	}
	return equal, difference, nil
}

// differ names the first logit that differs.
func differ(p *bundle.Program, want, got [][]int32) string {
	for i, w := range want {
		for j := range w {
			if got[i][j] != w[j] {
				return fmt.Sprintf("output %q: logit %d is %d, want %d", p.Outputs[i].Name, j, got[i][j], w[j])
			}
		}
	}
	return ""
}
