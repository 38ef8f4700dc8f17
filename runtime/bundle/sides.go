package bundle

import (
	"fmt"

	"nepcoc/runtime/arith"
)

// SideInput is an input of numbers beside the sequence: its name in the model, and on what grid the ids of each of them lie. Where the
// bundle has a traffic contract, that supplies whole numbers, which are their own ids.
type SideInput struct {
	Name  string       `json:"name"`
	Grids []arith.Grid `json:"grids"`
}

// sides checks the inputs beside the sequence: one grid for each of the program's ids.
func (m *Manifest) sides(p *Program) error {
	n := 0
	names := map[string]bool{m.Model.TokenInput: true, m.Model.MaskInput: m.Model.MaskInput != ""}
	for _, s := range m.Model.Sides {
		if s.Name == "" || !printable(s.Name) || names[s.Name] {
			return fmt.Errorf("input %q", s.Name)
		}
		names[s.Name] = true
		for i, g := range s.Grids {
			if !g.Valid() || m.Contract.YAML != "" && g != (arith.Grid{}) {
				return fmt.Errorf("input %q: number %d has grid %+v", s.Name, i, g)
			}
		}
		n += len(s.Grids)
	}
	if n != p.Sides {
		return fmt.Errorf("%d numbers, the program reads %d", n, p.Sides)
	}
	return nil
}
