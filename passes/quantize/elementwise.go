package quantize

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"nepcoc/ir"
	"nepcoc/runtime/arith"
)

// addSub quantizes a sum or difference of two values, or of a value and a
// constant.
func (q *quantizer) addSub(n *ir.Node) error {
	a, b := n.Inputs[0], n.Inputs[1]
	sign := 1.0
	if n.Op == "sub" {
		sign = -1
	}
	switch {
	case isConst(b) && !perPosition(b):
		return q.scaleShift(n, a, []float32{1}, scaled(floats(b), sign))
	case isConst(a) && !perPosition(a):
		return q.scaleShift(n, b, []float32{float32(sign)}, floats(a))
	}
	if channels(a) != channels(b) {
		return fmt.Errorf("broadcasts %d channels to %d", channels(b), channels(a))
	}
	x, y, v := q.operand(n, a, q.even), q.operand(n, b, q.even), n.Out()
	act, err := activationOf(n, "act", "act_")
	if err != nil {
		return err
	}
	if act != nil && !act.clamps() {
		return fmt.Errorf("BUG: carries %s", act.Name)
	}
	d, scale, zero := q.form(v)
	lo, hi := q.bounds(v, d)
	if act != nil {
		lo, hi = act.bounds(scale, zero, lo, hi)
	}
	// q = (x.scale*qx + sign*y.scale*qy + offsets)/scale + zero
	ra, rb := x.scale[0]/scale, sign*y.scale[0]/scale
	_, e := math.Frexp(max(math.Abs(ra), math.Abs(rb)))
	shift := min(max(24-e, 1), 40)
	// Where nothing ever varied, scale is next to nothing, and the factors saturate.
	fix := func(r float64, bits int) int {
		limit := math.Ldexp(1, bits)
		return int(min(max(math.RoundToEven(math.Ldexp(r, shift)), -limit), limit))
	}
	bias := fix((x.offset[0]+float64(sign*y.offset[0]))/scale+zero, 60)
	q.set(v, q.emit("int_add", n, v, d, []*ir.Value{x.val, y.val}, ir.Attrs{
		"mult_a": fix(ra, 30), "mult_b": fix(rb, 30), "bias": bias, "shift": shift, "lo": int(lo), "hi": int(hi)}),
		fill(channels(v), scale), fill(channels(v), -scale*zero))
	return nil
}

// perPosition says that a constant differs from position to position.
func perPosition(v *ir.Value) bool {
	return isConst(v) && len(v.Type.Shape) == 2 && v.Type.Shape[0] > 1
}

// operand is the form of an operand with one scale for all channels: that of a computed value, or of a constant
// that becomes a value itself, with 16 bits for its largest magnitude.
func (q *quantizer) operand(n *ir.Node, v *ir.Value, of func(*ir.Node, *ir.Value) *quant) *quant {
	if !isConst(v) {
		return of(n, v)
	}
	top := 0.0
	for _, x := range floats(v) {
		top = max(top, math.Abs(float64(x)))
	}
	scale := nonZero(top) / 32767
	data := make([]int16, v.Type.Len())
	for i, x := range floats(v) {
		data[i] = int16(math.RoundToEven(float64(x) / scale))
	}
	name := n.Out().Name + ".constant"
	c := channels(v)
	return &quant{val: q.emitNamed("int_constant", n, name, ir.Type{DType: ir.I16, Shape: v.Type.Shape},
		[]*ir.Value{constant(name+".data", ir.I16, data, v.Type.Shape...)}, nil), scale: fill(c, scale), offset: fill(c, 0)}
}

func scaled(s []float32, f float64) []float32 {
	out := make([]float32, len(s))
	for i, x := range s {
		out[i] = float32(float64(x) * f)
	}
	return out
}

func (q *quantizer) mul(n *ir.Node) error {
	a, b := n.Inputs[0], n.Inputs[1]
	switch {
	case isConst(b) && !perPosition(b):
		return q.scaleShift(n, a, floats(b), []float32{0})
	case isConst(a) && !perPosition(a):
		return q.scaleShift(n, b, floats(a), []float32{0})
	}
	if channels(a) != channels(b) && channels(b) != 1 {
		a, b = b, a
	}
	x, y, v := q.operand(n, a, q.evenZeroFree), q.operand(n, b, q.evenZeroFree), n.Out()
	d, scale, zero := q.form(v)
	if zero != 0 {
		// A product has no place for a zero point: give it up.
		scale, zero = scale*(128+math.Abs(zero))/127, 0
	}
	lo, hi := q.bounds(v, d)
	mult, shift := multiplier(x.scale[0] * y.scale[0] / scale)
	q.set(v, q.emit("int_mul", n, v, d, []*ir.Value{x.val, y.val}, ir.Attrs{
		"mult": int(mult), "shift": shift, "lo": int(lo), "hi": int(hi)}),
		fill(channels(v), scale), fill(channels(v), 0))
	return nil
}

// div handles a constant divisor.
func (q *quantizer) div(n *ir.Node) error {
	if !isConst(n.Inputs[1]) {
		return errors.New("divides one activation by another")
	}
	inv := make([]float32, n.Inputs[1].Type.Len())
	for i, x := range floats(n.Inputs[1]) {
		inv[i] = 1 / x
	}
	return q.scaleShift(n, n.Inputs[0], inv, []float32{0})
}

// minMax handles a constant bound: a clamp.
func (q *quantizer) minMax(n *ir.Node) error {
	a, b := n.Inputs[0], n.Inputs[1]
	if isConst(a) {
		a, b = b, a
	}
	if !isConst(b) || b.Type.Len() != 1 {
		return errors.New("compares two activations")
	}
	bound := float64(floats(b)[0])
	act := clamping(math.Inf(-1), bound)
	if n.Op == "max" {
		act = clamping(bound, math.Inf(1))
	}
	c := channels(n.Out())
	if !slices.Equal(a.Type.Shape, n.Out().Type.Shape) {
		return fmt.Errorf("broadcasts %v to %v", a.Type.Shape, n.Out().Type.Shape)
	}
	return q.rescaled(n, a, n.Out(), pointwise(spread([]float32{1}, c), nil), act)
}

// layerNorm quantizes the general LayerNorm: exact 64-bit statistics, gamma
// and beta per channel with one rounding.
func (q *quantizer) layerNorm(n *ir.Node) error {
	form, rms := q.even, n.Int("rms", 0)
	if rms != 0 {
		form = q.evenZeroFree
	}
	x, v := form(n, n.Inputs[0]), n.Out()
	c := channels(v)
	gamma, beta := spread([]float32{1}, c), make([]float32, c)
	if n.Input(1) != nil {
		gamma = floats(n.Input(1))
	}
	if n.Input(2) != nil {
		beta = floats(n.Input(2))
	}
	d, scale, zero := q.form(v)
	// The normalised value has NormBits fraction bits:
	// q = (norm*G + B) >> shift with G = gamma/scale * 2^(shift-NormBits).
	// Both get what bits 32 allow. Where nothing ever varied, scale is next to
	// nothing and they saturate.
	topG, topB := 0.0, 0.0
	for i := range gamma {
		topG = max(topG, math.Abs(float64(gamma[i]))/scale)
		topB = max(topB, math.Abs(float64(beta[i])/scale+zero))
	}
	_, eg := math.Frexp(topG)
	_, eb := math.Frexp(topB)
	shift := max(min(arith.NormBits+30-eg, 30-eb, 40), 0)
	fix := func(x float64, shift int) int32 {
		return int32(min(max(math.RoundToEven(math.Ldexp(x, shift)), -1<<30), 1<<30))
	}
	g, b := make([]int32, c), make([]int32, c)
	for i := range g {
		g[i] = fix(float64(gamma[i])/scale, shift-arith.NormBits)
		b[i] = fix(float64(beta[i])/scale+zero, shift)
	}
	s := x.scale[0]
	eps := math.RoundToEven(n.Float("epsilon", 1e-5) / (s * s) * float64(c) * float64(c))
	attrs := ir.Attrs{"eps": int(min(eps, 1<<50)), "shift": shift}
	if rms != 0 {
		attrs["rms"] = rms
	}
	q.set(v, q.emit("int_layer_norm", n, v, d, []*ir.Value{x.val,
		constant(v.Name+".gamma", ir.I32, g, c), constant(v.Name+".beta", ir.I32, b, c)},
		attrs), fill(c, scale), fill(c, -scale*zero))
	return nil
}
