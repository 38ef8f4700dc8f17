package quantize

import (
	"math"

	"nepcoc/ir"
	"nepcoc/runtime/arith"
)

// side quantizes numbers beside the sequence. Their ids are integers already, of many more bits than layers read: what calibration saw of each, and a margin,
// becomes the range of 16 bits, and what lies outside is taken to its ends. They are few, so that 16 bits cost next to nothing, and have tails
// that 8 bits would leave no levels for the rest.
func (q *quantizer) side(n *ir.Node) error {
	v, need := n.Out(), q.needs(n.Out())
	c := channels(v)
	lo, hi := fill(c, math.Inf(1)), fill(c, math.Inf(-1))
	q.eachRow(v, func(row []float32) {
		for i, f := range row {
			lo[i], hi[i] = min(lo[i], float64(f)), max(hi[i], float64(f))
		}
	})
	if need.zeroFree {
		for i := range lo {
			hi[i] = max(math.Abs(lo[i]), math.Abs(hi[i]))
			lo[i] = -hi[i]
		}
	}
	if need.uniform {
		l, h := lo[0], hi[0]
		for i := range lo {
			l, h = min(l, lo[i]), max(h, hi[i])
		}
		lo, hi = fill(c, l), fill(c, h)
	}
	top := q.wideMax(v)
	low, exp := n.Ints("low"), n.Ints("exp")
	zero, unit := make([]int32, c), make([]float64, c)
	scale, offset := make([]float64, c), make([]float64, c)
	for i := range lo {
		step := math.Ldexp(1, exp[i])
		// At least a step to a level: a number that hardly varies has no more levels than it has values.
		half := max((hi[i]-lo[i])*(0.5+sideMargin), step*top)
		if !need.uniform && hi[i]-lo[i] < step {
			half = max(half, math.Abs(lo[i])/1024)
		}
		scale[i], offset[i] = half/top, float64(lo[i]/2)+float64(hi[i]/2)
		const far = arith.MaxGridLow
		z := min(max(math.RoundToEven(offset[i]/step)-float64(low[i]), -far), far)
		zero[i], unit[i] = int32(z), step/scale[i]
		if !need.uniform {
			offset[i] = float64((z + float64(low[i])) * step) // what zero stands for
		}
	}
	mult, shift := multipliers(unit, 1)
	q.set(v, q.emit("int_side", n, v, ir.I16, []*ir.Value{q.input(n.Inputs[0]), constant(v.Name+".zero", ir.I32, zero, c), constant(v.Name+".mult", ir.I32, mult, c)},
		ir.Attrs{"at": n.Int("at", 0), "shift": shift}), scale, offset)
	return nil
}

// sideMargin is how far the range of a number beside the sequence goes beyond what was observed, as a part of that, on either side: a few
// observations say little of tails, and 16 bits have levels to spare.
const sideMargin = 1.5

// besides says that x is numbers beside the sequence, so that a factor above 0 and a summand per channel are theirs: what the integers stand for.
func (q *quantizer) besides(x *ir.Value, v *ir.Value, scale, shift []float32) bool {
	from := q.in(x)
	if from == nil || from.val.Def == nil || from.val.Def.Op != "int_side" || q.needs(v) != (needs{}) {
		return false
	}
	for _, s := range scale {
		if !(s > 0) {
			return false
		}
	}
	s, b := make([]float64, len(scale)), make([]float64, len(scale))
	for i := range scale {
		s[i], b[i] = from.scale[i]*float64(scale[i]), float64(from.offset[i]*float64(scale[i]))+float64(shift[i])
	}
	q.set(v, from.val, s, b)
	return true
}
