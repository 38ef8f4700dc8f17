package arith

import "math"

// GridBits is the number of bits of an id on a Grid, and GridIDs how many there are.
const (
	GridBits = 24
	GridIDs  = 1 << GridBits
)

// Grid is how a number beside the sequence (a length, a time) becomes a whole one, its id: id stands for
//
//	(Low + id) * 2^Exp,  0 <= id < GridIDs
//
// A power of two makes every step exact but one rounding, so that all CPUs give the same id. With Low and Exp 0 a whole
// number is its own id.
type Grid struct {
	Low int32 `json:"low"`
	Exp int32 `json:"exp"`
}

// Bounds of a grid. Low + id fits 32 bits, and what ids stand for is a float32 of full precision.
const (
	MaxGridLow = 1<<30 + GridIDs
	MaxGridExp = 96
)

// Valid says whether a grid is within its bounds.
func (g Grid) Valid() bool {
	return g.Low >= -MaxGridLow && g.Low <= MaxGridLow && g.Exp >= -MaxGridExp && g.Exp <= MaxGridExp
}

// ID is the id that is nearest to x, ties to even; ok is false where x lies outside, whose id is the nearest end's, and where it is
// no number.
func (g Grid) ID(x float32) (id int32, ok bool) {
	q := math.RoundToEven(math.Ldexp(float64(x), -int(g.Exp))) - float64(g.Low)
	switch {
	case q >= 0 && q < GridIDs:
		return int32(q), true
	case q > 0:
		return GridIDs - 1, false
	}
	return 0, false
}

// Value is what an id stands for: exact.
func (g Grid) Value(id int32) float64 { return math.Ldexp(float64(int64(g.Low)+int64(id)), int(g.Exp)) }

// GridOver is the grid for numbers from lo to hi, both finite: a sixteenth of its ids, in the middle, are theirs, for what comes later reaches
// further than what was seen. Their steps are at most 2^-19 of hi-lo, or 2^-29 of their magnitude.
func GridOver(lo, hi float64) Grid {
	mid := float64(lo/2) + float64(hi/2)
	reach := max(hi-lo, math.Abs(mid)/1024, 0x1p-60)
	_, e := math.Frexp(reach) // reach < 2^e
	g := Grid{Exp: int32(max(-MaxGridExp, min(e+4-GridBits, MaxGridExp)))}
	g.Low = int32(math.RoundToEven(math.Ldexp(mid, -int(g.Exp)))) - GridIDs/2
	return g
}

// Side is the step that reads an id beside the sequence: Requant of its distance from zero.
func Side(id, zero, mult int32, shift int, lo, hi int32) int32 {
	return Clamp(Requant(int64(id)-int64(zero), mult, shift), lo, hi)
}
