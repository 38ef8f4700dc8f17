package compiler

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"nepcoc/passes/quantize"
)

// missed says that no plan keeps the bound, by what it is missed, and what to do.
func (c *compilation) missed(m *quantize.Missed) error {
	f := &m.Fidelity
	what := fmt.Sprintf("the best of %d plans changes %d of %d verdicts (%.2f %%), and --max-disagreement %s allows %d", m.Plans,
		f.Changed, f.Samples, 100*(1-f.Agreement()), number(c.MaxDisagreement), m.Allowed)
	accept := 1 - f.Agreement()
	if f.Changed <= m.Allowed {
		what = fmt.Sprintf("the best of %d plans keeps %d of %d verdicts, but no more than a program that always gives the same", m.Plans, f.Samples-f.Changed, f.Samples)
		accept = 1
	}
	bits := "8 bits everywhere but in the last layers: nothing else in this model can have 16"
	if len(m.Wide) > 0 {
		bits = "16 bits kept in " + strings.Join(m.Wide, ", ")
	}
	ways := []string{"calibrate with more flows, and of more kinds"}
	if c.Method != "" {
		ways = append(ways, "leave --method out, so that all methods are tried")
	}
	if !(f.RelError <= 1) {
		ways = append(ways, "look in the model for steep functions (1/x, exp) and weights of extreme scale, which no integer follows")
	}
	ways = append(ways, fmt.Sprintf("or accept it with --max-disagreement %s", number(math.Ceil(accept*1e4)/1e4)))
	return inFile(c.Model, fmt.Errorf("integers don't follow the model closely enough: %s; the logits' error is %s of their spread, with the method %s and %s\n    way out: %s",
		what, percent(f.RelError), m.Method, bits, strings.Join(ways, "; ")))
}

func number(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }

func percent(x float64) string {
	if math.IsInf(x, 0) || math.IsNaN(x) {
		return "no number"
	}
	return fmt.Sprintf("%.2f %%", 100*x)
}
