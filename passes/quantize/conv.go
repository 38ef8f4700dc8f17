package quantize

import (
	"fmt"
	"math"
	"slices"

	"nepcoc/ir"
)

// linear is a convolution with one tap.
func (q *quantizer) linear(n *ir.Node) error {
	w := n.Inputs[1]
	o, i := w.Type.Shape[0], w.Type.Shape[1]
	return q.weighted(n, weights{w: floats(w), o: o, k: 1, i: i, groups: 1, stride: 1, dilation: 1})
}

func (q *quantizer) conv(n *ir.Node) error {
	s := n.Inputs[1].Type.Shape // [O,K,I]
	return q.weighted(n, weights{
		w: floats(n.Inputs[1]), o: s[0], k: s[1], i: s[2],
		groups: n.Int("groups", 1), stride: n.Int("stride", 1), dilation: n.Int("dilation", 1),
		left: n.Int("pad_left", 0), right: n.Int("pad_right", 0)})
}

// weighted quantizes a conv or linear node.
func (q *quantizer) weighted(n *ir.Node, w weights) error {
	if b := n.Input(2); b != nil {
		w.bias = floats(b)
	}
	act, err := activationOf(n, "act", "act_")
	if err != nil {
		return err
	}
	return q.rescaled(n, n.Inputs[0], n.Out(), w, act)
}

// affine is a 1-tap convolution of each channel with itself; its single
// weight per channel is exact.
func (q *quantizer) affine(n *ir.Node) error {
	return q.scaleShift(n, n.Inputs[0], floats(n.Inputs[1]), floats(n.Inputs[2]))
}

// scaleShift emits y = x*scale + shift, per channel, as a depthwise
// convolution. One element serves all channels.
func (q *quantizer) scaleShift(n *ir.Node, x *ir.Value, scale, shift []float32) error {
	c := channels(n.Out())
	if !slices.Equal(x.Type.Shape, n.Out().Type.Shape) {
		return fmt.Errorf("broadcasts %v to %v", x.Type.Shape, n.Out().Type.Shape)
	}
	for _, v := range n.Inputs {
		if s := v.Type.Shape; isConst(v) && v.Type.Len() > 1 && (v.Type.Len() != c || s[len(s)-1] != c) {
			return fmt.Errorf("reads a constant %v that differs from position to position", s)
		}
	}
	act, err := activationOf(n, "act", "act_")
	if err != nil {
		return err
	}
	if act == nil && q.besides(x, n.Out(), spread(scale, c), spread(shift, c)) {
		return nil
	}
	return q.rescaled(n, x, n.Out(), pointwise(spread(scale, c), spread(shift, c)), act)
}

// weights are the float parameters of a convolution: w is [o,k,i], bias [o] or
// nil; i is the number of input channels of a group.
type weights struct {
	w, bias                  []float32
	o, k, i                  int
	groups, stride, dilation int
	left, right              int
}

// pointwise is a convolution of each channel with itself alone.
func pointwise(scale, shift []float32) weights {
	return weights{w: scale, bias: shift, o: len(scale), k: 1, i: 1, groups: len(scale), stride: 1, dilation: 1}
}

func spread(s []float32, n int) []float32 {
	if len(s) == n {
		return s
	}
	out := make([]float32, n)
	for i := range out {
		out[i] = s[0]
	}
	return out
}

// maxFineWeights is the size of a last layer up to which 16-bit weights, for
// which there are no fast kernels, don't show in the time of a flow.
const maxFineWeights = 1024

// logitBits is the resolution of a model's output: its observed range takes
// this many bits of the 32.
const logitBits = 22

// rescaled emits v = act(conv(x)) as an int_conv: weights per output channel with
// the input's scale folded in, a bias with the input's offset, and one
// requantisation to the form chosen for v. Values that only end the model stay in 32 bits.
func (q *quantizer) rescaled(n *ir.Node, xv, v *ir.Value, w weights, act *activation) error {
	x := q.in(xv)
	if len(x.scale) != w.i*w.groups {
		return fmt.Errorf("has %d input channels where its weights have %d", len(x.scale), w.i*w.groups)
	}
	var d ir.DType
	var scale, zero float64
	if q.isLogits(v) && act == nil {
		_, _, clip := q.observed(v, 32767)
		d, scale = ir.I32, nonZero(clip)/(1<<logitBits)
	} else {
		d, scale, zero = q.form(v)
	}
	offset := -scale * zero

	lo, hi := q.bounds(v, d)
	unit, shiftBias := scale, offset // of what the accumulator is rescaled to
	var table *ir.Value
	if act != nil {
		if act.clamps() {
			lo, hi = act.bounds(scale, zero, lo, hi)
		} else {
			vlo, vhi, _ := q.observed(v, 127)
			reach := act.reach(vlo, vhi)
			entries := tableEntries(d, reach, scale)
			unit, shiftBias = 2*reach/float64(entries), 0
			table = constant(v.Name+".table", ir.I16, act.table(entries, unit, 0, scale, offset, lo, hi), entries)
		}
	}

	levels := 127.0
	if d == ir.I32 && x.val.Type.DType == ir.I8 && len(w.w) <= maxFineWeights {
		// A small last layer, whose errors reach the verdict undamped: its
		// weights take what 32-bit sums leave them.
		levels = math.Floor(min(max(0.875*(1<<31)/(128*float64(w.k*w.i)), 127), 32767))
	}
	wq, bq, acc := q.fold(x, xv, w, shiftBias, levels)
	mult, shift := multipliers(acc, unit)
	in := []*ir.Value{x.val,
		weightTensor(v.Name+".w", wq, w.o, w.k, w.i), constant(v.Name+".b", ir.I32, bq, w.o),
		constant(v.Name+".mult", ir.I32, mult, w.o), nil, table}
	if w.left > 0 || w.right > 0 {
		in[4] = q.padValues(v.Name, x)
	}
	q.set(v, q.emit("int_conv", n, v, d, in, ir.Attrs{
		"stride": w.stride, "dilation": w.dilation, "pad_left": w.left, "pad_right": w.right, "groups": w.groups,
		"shift": shift, "lo": int(lo), "hi": int(hi)}), fill(w.o, scale), fill(w.o, offset))
	return nil
}

// weightTensor stores quantized weights in 8 bits where they fit.
func weightTensor(name string, w []int16, shape ...int) *ir.Value {
	narrow := make([]int8, len(w))
	for i, x := range w {
		if int16(int8(x)) != x {
			return constant(name, ir.I16, w, shape...)
		}
		narrow[i] = int8(x)
	}
	return constant(name, ir.I8, narrow, shape...)
}

// fold quantizes weights to the given levels per output channel for the
// input's form, or to fewer where the accumulator would not fit 32 bits by proof. The
// bias makes up for what rounding the weights costs on average. acc is the real value of
// one unit of each channel's accumulator; offset is subtracted by the bias.
func (q *quantizer) fold(x *quant, xv *ir.Value, w weights, offset, levels float64) (wq []int16, bq []int32, acc []float64) {
	xlo, xhi := q.bounds(xv, x.val.Type.DType)
	return foldInto(x, q.channelMeans(xv), xlo, xhi, w, offset, levels)
}

// foldInto is fold for an input with the given means and limits.
func foldInto(x *quant, means []float64, xlo, xhi int32, w weights, offset, levels float64) (wq []int16, bq []int32, acc []float64) {
	wq, bq, acc = make([]int16, len(w.w)), make([]int32, w.o), make([]float64, w.o)
	size := w.k * w.i
	biasLimit := max(1<<28, 0.9*(1<<31)+float64(levels*float64(xlo)*float64(size)))
	biases, coarsest := make([]float64, w.o), 0.0
	for c := range w.o {
		first := c / (w.o / w.groups) * w.i
		b, top := -offset, 0.0
		if w.bias != nil {
			b += float64(w.bias[c])
		}
		for j, r := range w.w[c*size : (c+1)*size] {
			b += float64(float64(r) * x.offset[first+j%w.i]) // never fused: the same bits on every CPU
			top = max(top, math.Abs(float64(r)*x.scale[first+j%w.i]))
		}
		// All levels for the largest weight, but never so fine that the bias
		// outgrows what the weighted sum leaves of 31 bits.
		biases[c], acc[c] = b, max(top/levels, math.Abs(b)/biasLimit, 1e-30)
		coarsest = max(coarsest, acc[c])
	}
	for c := range w.o {
		first := c / (w.o / w.groups) * w.i
		row := w.w[c*size : (c+1)*size]
		// Channels share the shift of their multipliers: one that is finer by
		// more than this would get a multiplier of a few bits only.
		acc[c] = max(acc[c], coarsest/(1<<12))
		for { // until the sum fits
			var lo, hi int64
			lost := 0.0 // by rounding weights, for the mean input
			for j, r := range row {
				ch := first + j%w.i
				real := float64(r) * x.scale[ch] / acc[c]
				s := int64(math.RoundToEven(real))
				wq[c*size+j] = int16(s)
				lost += float64((real-float64(s))*(means[ch]-x.offset[ch])) / x.scale[ch]
				lo += min(s*int64(xlo), s*int64(xhi))
				hi += max(s*int64(xlo), s*int64(xhi))
			}
			bias := int64(math.RoundToEven(biases[c]/acc[c] + lost))
			lo, hi = lo+bias, hi+bias
			if lo >= math.MinInt32 && hi <= math.MaxInt32 {
				bq[c] = int32(bias)
				break
			}
			acc[c] *= 1.05
		}
	}
	return wq, bq, acc
}

// multipliers are acc[c]/unit as integers over one common shift, as precise
// as 30 bits allow for the largest.
func multipliers(acc []float64, unit float64) (mult []int32, shift int) {
	top := 0.0
	for _, a := range acc {
		top = max(top, a/unit)
	}
	_, e := math.Frexp(top) // top < 2^e
	shift = min(max(30-e, 1), 62)
	mult = make([]int32, len(acc))
	for c, a := range acc {
		mult[c] = int32(min(math.RoundToEven(math.Ldexp(a/unit, shift)), math.MaxInt32))
	}
	return mult, shift
}

// multiplier is multipliers for a single ratio of any sign.
func multiplier(ratio float64) (mult int32, shift int) {
	m, s := multipliers([]float64{math.Abs(ratio)}, 1)
	if ratio < 0 {
		m[0] = -m[0]
	}
	return m[0], s
}

// even is the form of v with one scale for all channels, zeroFree one without
// offsets. needs asks for them where v's own rule can provide them; the fused gated
// layers can't, and their result is rescaled here.
func (q *quantizer) even(n *ir.Node, v *ir.Value) *quant {
	if x := q.in(v); x.uniform() {
		return x
	}
	return q.rescale(n, v)
}

func (q *quantizer) zeroFree(n *ir.Node, v *ir.Value) *quant {
	if x := q.in(v); !slices.ContainsFunc(x.offset, func(o float64) bool { return o != 0 }) {
		return x
	}
	return q.rescale(n, v)
}

func (q *quantizer) evenZeroFree(n *ir.Node, v *ir.Value) *quant {
	if x := q.in(v); x.uniform() && x.offset[0] == 0 {
		return x
	}
	return q.rescale(n, v)
}

func (q *quantizer) rescale(n *ir.Node, v *ir.Value) *quant {
	x := q.in(v)
	if e := q.evened[v]; e != nil {
		return e
	}
	d, top := x.val.Type.DType, 127.0
	if d == ir.I16 {
		top = q.wideMax(v)
	}
	lo, hi, _ := q.observed(v, top) // a second rounding, but no second clip
	// Integers may go a little beyond what floats reached.
	scale, c := nonZero(1.05*max(-lo, hi))/top, channels(v)
	wq, bq, acc := q.fold(x, v, pointwise(spread([]float32{1}, c), nil), 0, 127)
	mult, shift := multipliers(acc, scale)
	name := v.Name + ".even"
	val := q.emitNamed("int_conv", n, name, x.val.Type, []*ir.Value{x.val,
		weightTensor(name+".w", wq, c, 1, 1), constant(name+".b", ir.I32, bq, c), constant(name+".mult", ir.I32, mult, c)},
		ir.Attrs{"stride": 1, "dilation": 1, "pad_left": 0, "pad_right": 0, "groups": c, "shift": shift,
			"lo": -int(top) - 1, "hi": int(top)})
	q.evened[v] = &quant{val: val, scale: fill(c, scale), offset: fill(c, 0)}
	return q.evened[v]
}

// zeroOf is the integer in [lo,hi] that stands for zero, or is nearest to it, in
// channel c.
func zeroOf(x *quant, c int, lo, hi int32) int32 {
	return int32(min(max(math.RoundToEven(-x.offset[c]/x.scale[c]), float64(lo)), float64(hi)))
}

// padValues are the integers that stand for zero in each channel of x.
func (q *quantizer) padValues(name string, x *quant) *ir.Value {
	lo, hi := limits(x.val.Type.DType)
	pad := make([]int16, len(x.scale))
	zeros := true
	for c := range pad {
		pad[c] = int16(zeroOf(x, c, lo, hi))
		zeros = zeros && pad[c] == 0
	}
	if zeros {
		return nil
	}
	return constant(name+".pad", ir.I16, pad, len(pad))
}

// isLogits says that v is a model output, or becomes one through endings that keep its
// order, and nothing else reads it.
func (q *quantizer) isLogits(v *ir.Value) bool {
	used := false
	for _, o := range q.src.Outputs {
		used = used || o == v
	}
	for _, u := range q.uses[v] {
		if !q.isEnding(u) {
			return false
		}
		used = true
	}
	return used && rows(v) == 1
}
