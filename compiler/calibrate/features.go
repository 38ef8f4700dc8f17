package calibrate

import (
	"fmt"
	"math"

	"nepcoc/compiler/npz"
	"nepcoc/internal/files"
	"nepcoc/passes"
	"nepcoc/runtime/bundle"
)

// widening is the part of a feature's range that is added at either end: what comes later reaches a
// little further than what calibration saw. Levels become that much coarser.
const widening = 1. / 64

// Ranges are those of n features in an array of samples. A feature that never varies stays
// that constant.
func Ranges(path string, f *npz.File, name string, n int) ([]bundle.Range, error) {
	path = files.Show(path)
	rows, err := samples(path, f, name, "the model's input", n)
	if err != nil {
		return nil, err
	}
	ranges := make([]bundle.Range, n)
	for i, row := range rows {
		for p, x := range row {
			if err := finite(path, name, "a feature", i, p, x); err != nil {
				return nil, err
			}
			r := &ranges[p]
			if i == 0 {
				r[0], r[1] = x, x
			}
			r[0], r[1] = min(r[0], x), max(r[1], x)
		}
	}
	for p := range ranges {
		r := &ranges[p]
		more := float64((r[1] - r[0]) * widening) // a power of two: exact
		r[0], r[1] = max(r[0]-more, -math.MaxFloat32), min(r[1]+more, math.MaxFloat32)
	}
	return ranges, nil
}

func finite(path, name, what string, sample, position int, x float64) error {
	if f := float64(float32(x)); math.IsNaN(f) || math.IsInf(f, 0) {
		return fmt.Errorf("%s: %s[%d,%d] is %g: %s is a number; replace what is missing as in training", path, name, sample, position, x, what)
	}
	return nil
}

// features makes inputs of rows of features. What lies outside of the ranges is taken to their ends, and said.
func (s *Set) features(rows [][]float64, local passes.Local) error {
	outside := make([]int, local.Length)
	all, most := 0, 0
	for i, row := range rows {
		in := Input{Tokens: make([]int32, len(row)), Valid: len(row), Features: make([]float32, len(row))}
		for p, x := range row {
			if err := finite(s.Name, local.TokenInput, "a feature", i, p, x); err != nil {
				return err
			}
			id, ok := local.Features[p].ID(x)
			if in.Tokens[p], in.Features[p] = id, float32(x); !ok {
				all++
				if outside[p]++; outside[p] > outside[most] {
					most = p
				}
			}
		}
		s.Inputs = append(s.Inputs, in)
	}
	if all > 0 {
		r := local.Features[most]
		s.Notes = append(s.Notes, fmt.Sprintf("%d of %d numbers of %s lie outside of the ranges that calibration found and are taken to their ends, feature %d most often (%d of %d samples outside of %.6g to %.6g): calibrate with data that reach as far",
			all, len(rows)*local.Length, local.TokenInput, most, outside[most], len(rows), min(r[0], r[1]), max(r[0], r[1])))
	}
	return nil
}
