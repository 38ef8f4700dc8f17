package calibrate

import (
	"fmt"

	"nepcoc/compiler/npz"
	"nepcoc/internal/files"
	"nepcoc/passes"
	"nepcoc/runtime/arith"
	"nepcoc/runtime/bundle"
)

// Grids are those of n numbers beside the sequence, from an array of samples.
func Grids(path string, f *npz.File, name string, n int) ([]arith.Grid, error) {
	path = files.Show(path)
	rows, err := sideRows(path, f, name, n)
	if err != nil {
		return nil, err
	}
	grids := make([]arith.Grid, n)
	for p := range grids {
		lo, hi := rows[0][p], rows[0][p]
		for _, row := range rows {
			lo, hi = min(lo, row[p]), max(hi, row[p])
		}
		grids[p] = arith.GridOver(lo, hi)
	}
	return grids, nil
}

// sideRows reads an array of numbers beside the sequence, all finite.
func sideRows(path string, f *npz.File, name string, n int) ([][]float64, error) {
	rows, err := samples(path, f, name, "the model's numbers beside the sequence", n)
	if err != nil {
		return nil, err
	}
	for i, row := range rows {
		for p, x := range row {
			if err := finite(path, name, "what stands beside the sequence", i, p, x); err != nil {
				return nil, err
			}
		}
	}
	return rows, nil
}

// sides appends to each input the ids of its numbers beside the sequence. What lies beyond the ids' reach is taken to their ends, and said.
func (s *Set) sides(f *npz.File, local passes.Local) error {
	for _, side := range local.Sides {
		rows, err := sideRows(s.Name, f, side.Name, len(side.Grids))
		if err != nil {
			return err
		}
		if len(rows) != len(s.Inputs) {
			return fmt.Errorf("%s: %d rows of %q but %d of %q", s.Name, len(s.Inputs), local.TokenInput, len(rows), side.Name)
		}
		outside := 0
		for i, row := range rows {
			for p, x := range row {
				id, ok := side.Grids[p].ID(float32(x))
				if side.Grids[p] == (arith.Grid{}) && (!ok || float64(id) != x) {
					return fmt.Errorf("%s: %s[%d,%d] is %g: the traffic contract gives whole numbers from 0 to %d; give those, or compile without a contract", s.Name, side.Name, i, p, x, bundle.SideIDs-1)
				}
				if !ok {
					outside++
				}
				s.Inputs[i].Tokens = append(s.Inputs[i].Tokens, id)
			}
		}
		if outside > 0 {
			s.Notes = append(s.Notes, fmt.Sprintf("%d of %d numbers of %s lie far outside of what calibration saw and are taken to the ends of their grids: calibrate with data that reach as far",
				outside, len(rows)*len(side.Grids), side.Name))
		}
	}
	return nil
}
