package bundle

import (
	"fmt"
	"math"
)

// FeatureLevels is the number of ids that a feature has. It is odd, so that ids stand for the whole numbers
// -127 to 127, which a table of 8 bits holds exactly: 256 of them would be rounded once more.
const FeatureLevels = 255

// Range is what the ids of one feature stand for: its first number id 0, its second the last id, the others
// lie evenly between. The second may be the smaller one; where both are equal the feature is that
// constant.
type Range [2]float64

// Affine is the range as mid + half*u, u from -1 (id 0) to 1. Halves are rounded before anything is
// added to them, for the same bits on every CPU.
func (r Range) Affine() (mid, half float64) {
	return float64((r[0] + r[1]) / 2), float64((r[1] - r[0]) / 2)
}

// ID is the id that is nearest to x, a number; ok is false where x lies outside.
func (r Range) ID(x float64) (id int32, ok bool) {
	mid, half := r.Affine()
	const top = FeatureLevels / 2
	if half == 0 {
		return top, float32(x) == float32(mid)
	}
	u := (x - mid) / half
	return top + int32(math.Round(min(max(u, -1), 1)*top)), math.Abs(u) <= 1
}

// features checks the ranges: one per token, of a program that has their ids and never sees packets.
func (m *Manifest) features(p *Program) error {
	f := m.Model.Features
	switch {
	case len(f) == 0:
		return nil
	case len(f) != p.Length || p.Vocab != FeatureLevels:
		return fmt.Errorf("%d ranges for %d positions of %d ids, want one each and %d ids", len(f), p.Length, p.Vocab, FeatureLevels)
	case m.Contract.YAML != "" || m.Model.MaskInput != "" || m.Model.PadToken != nil:
		return fmt.Errorf("they come with a traffic contract or a mask of tokens")
	}
	for i, r := range f {
		for _, x := range r {
			if !(math.Abs(x) <= math.MaxFloat32) {
				return fmt.Errorf("range %d reaches to %g", i, x)
			}
		}
	}
	return nil
}
