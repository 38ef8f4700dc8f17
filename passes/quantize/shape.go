package quantize

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"nepcoc/ir"
)

// embed quantizes a token table: rows of 8 bits, one scale per column unless a consumer needs one
// for all. A table that is the product of narrower rows is stored as its factors
// (narrowTable), unless Options.TableStep asks for rows.
// The scale covers every row, seen in calibration or not: a clipped row would
// be wrong for ever.
func (q *quantizer) embed(n *ir.Node) error {
	table, v := n.Inputs[1], n.Out()
	data, c := floats(table), channels(v)
	if !finite(data) {
		return errors.New("has NaN or infinity in its table")
	}
	tops := make([]float64, c)
	for i, x := range data {
		tops[i%c] = max(tops[i%c], math.Abs(float64(x)))
	}
	need := q.needs(v)
	if need.uniform {
		top := 0.0
		for _, t := range tops {
			top = max(top, t)
		}
		tops = fill(c, top)
	}
	attrs := ir.Attrs{"encoding": n.Str("encoding", "token")}
	shape := table.Type.Shape
	scale := make([]float64, c)
	tokens := q.input(n.Inputs[0])
	if q.wide(v) {
		limit := q.wideMax(v)
		for i := range scale {
			scale[i] = nonZero(tops[i]) / limit
		}
		rows := make([]int16, len(data))
		for i, x := range data {
			rows[i] = int16(math.RoundToEven(float64(x) / scale[i%c]))
		}
		t := constant(v.Name+".table", ir.I16, rows, shape...)
		q.set(v, q.emit("token_table", n, v, ir.I16, []*ir.Value{tokens, t}, attrs), scale, fill(c, 0))
		return nil
	}
	for i := range scale {
		scale[i] = nonZero(tops[i]) / 127
	}
	if q.opts.TableStep == 0 && n.Input(2) != nil {
		return q.narrowTable(n, tokens, scale, need.uniform, attrs)
	}
	step := 1.0
	switch {
	case q.opts.TableStep > 0:
		step = float64(q.opts.TableStep)
	case len(data) > largeTable:
		step = largeTableStep
	}
	rows := make([]int8, len(data))
	for i, x := range data {
		r := step * math.RoundToEven(float64(x)/(scale[i%c]*step))
		rows[i] = int8(min(max(r, -128), 127))
	}
	t := constant(v.Name+".table", ir.I8, rows, shape...)
	q.set(v, q.emit("token_table", n, v, ir.I8, []*ir.Value{tokens, t}, attrs), scale, fill(c, 0))
	return nil
}

// largeTable is the number of elements beyond which a table makes up most of a bundle, and largeTableStep
// what its rows are then multiples of, so that they compress. Of the published model's 65,541
// rows, were they not stored narrow: step 4 gives 10.2 MB, 5 9.4 MB, 8 8.2 MB; the table's error
// (3.2, 4.0, 6.4 % of its spread) would be the largest of all steps.
const (
	largeTable     = 1 << 20
	largeTableStep = 5
)

// input is the integer graph's input of the same name.
func (q *quantizer) input(v *ir.Value) *ir.Value {
	for _, in := range q.out.Inputs {
		if in.Name == v.Name {
			return in
		}
	}
	return nil
}

// pool reduces positions; max and select keep the integers, mean rounds once
// per channel, sum is rescaled.
func (q *quantizer) pool(n *ir.Node) error {
	x, v := q.in(n.Inputs[0]), n.Out()
	in := []*ir.Value{x.val}
	if n.Input(1) != nil {
		in = append(in, q.input(n.Input(1)))
	}
	attrs := ir.Attrs{"kind": n.Str("kind", "max")}
	d, scale, offset := x.val.Type.DType, x.scale, x.offset
	positions := rows(n.Inputs[0])
	switch kind := attrs["kind"]; {
	case kind == "select":
		attrs["at"] = n.Int("at", 0)
	case kind == "sum", kind == "mean" && n.Input(1) == nil && d == ir.I8:
		// A sum over a fixed number of positions has room for more bits than
		// its inputs: keep 16. A mean is that sum in other units.
		attrs["kind"] = "sum"
		unit := 1.0
		if kind == "mean" {
			unit = 1 / float64(positions)
		} else {
			x = q.zeroFree(n, n.Inputs[0])
			in[0], offset = x.val, x.offset
		}
		top := q.wideMax(v)
		// The full range of the sum maps to the 16 bits.
		lo, _ := q.bounds(n.Inputs[0], d)
		reach := -float64(lo) * float64(positions)
		mult, shift := multiplier(top / reach)
		attrs["mult"], attrs["shift"] = int(mult), shift
		d = ir.I16
		scale = make([]float64, len(x.scale))
		for c := range scale {
			scale[c] = x.scale[c] * unit * reach / top
		}
	}
	if d == ir.I16 && q.feedsLinear(v) && !q.wide(v) {
		wide := &quant{scale: scale, offset: offset,
			val: q.emitNamed("int_pool", n, v.Name+".wide", ir.Type{DType: d, Shape: v.Type.Shape}, in, attrs)}
		return q.narrow(n, wide, v)
	}
	q.set(v, q.emit("int_pool", n, v, d, in, attrs), scale, offset)
	return nil
}

// feedsLinear says that v is read by linear layers only.
func (q *quantizer) feedsLinear(v *ir.Value) bool {
	for _, u := range q.uses[v] {
		if u.Op != "linear" {
			return false
		}
	}
	return len(q.uses[v]) > 0
}

// narrowMargin is how far the range of a pooled channel may go beyond what was
// observed, as a part of the observed range, on either side: few values per input
// are observed here, one per channel.
const narrowMargin = 0.25

// narrow brings a pooled vector from 16 bits to 8 with a scale and zero point
// per channel, because products of 8 bits are several times faster.
func (q *quantizer) narrow(n *ir.Node, x *quant, v *ir.Value) error {
	c := channels(v)
	lo, hi := fill(c, math.Inf(1)), fill(c, math.Inf(-1))
	q.eachRow(v, func(row []float32) {
		for i, f := range row {
			lo[i], hi[i] = min(lo[i], float64(f)), max(hi[i], float64(f))
		}
	})
	widest := 0.0
	for i := range lo {
		widest = max(widest, hi[i]-lo[i])
	}
	scale, offset, unit := make([]float64, c), make([]float64, c), make([]float64, c)
	bias := make([]int32, c)
	ones := make([]int8, c)
	for i := range lo {
		half := max((hi[i]-lo[i])*(0.5+narrowMargin), widest/8, 127*x.scale[i], 1e-9)
		scale[i], offset[i] = half/127, (lo[i]+hi[i])/2
		// q8 = (q16*x.scale + x.offset - offset)/scale
		ones[i], unit[i] = 1, x.scale[i]/scale[i]
		bias[i] = int32(math.RoundToEven(min(max((x.offset[i]-offset[i])/x.scale[i], -1<<28), 1<<28)))
	}
	mult, shift := multipliers(unit, 1)
	lo8, hi8 := limits(ir.I8)
	q.set(v, q.emit("int_conv", n, v, ir.I8, []*ir.Value{x.val,
		constant(v.Name+".w", ir.I8, ones, c, 1, 1), constant(v.Name+".b", ir.I32, bias, c), constant(v.Name+".mult", ir.I32, mult, c)},
		ir.Attrs{"stride": 1, "dilation": 1, "pad_left": 0, "pad_right": 0, "groups": c,
			"shift": shift, "lo": int(lo8), "hi": int(hi8)}), scale, offset)
	return nil
}

func (q *quantizer) windowPool(n *ir.Node) error {
	x, v := q.in(n.Inputs[0]), n.Out()
	if n.Str("kind", "max") == "mean" && n.Int("count_pad", 0) != 0 {
		x = q.zeroFree(n, n.Inputs[0])
	}
	q.set(v, q.emit("int_window_pool", n, v, x.val.Type.DType, []*ir.Value{x.val}, ir.Attrs{
		"kind": n.Str("kind", "max"), "k": n.Int("k", 1), "stride": n.Int("stride", 1),
		"pad_left": n.Int("pad_left", 0), "pad_right": n.Int("pad_right", 0), "count_pad": n.Int("count_pad", 0)}),
		x.scale, x.offset)
	return nil
}

func (q *quantizer) slice(n *ir.Node) error {
	x, v := q.in(n.Inputs[0]), n.Out()
	axis, start, step := n.Int("axis", 0), n.Int("start", 0), n.Int("step", 1)
	scale, offset := x.scale, x.offset
	if len(v.Type.Shape) < 2 || axis == 1 { // along channels
		axis = 1
		scale, offset = make([]float64, channels(v)), make([]float64, channels(v))
		for c := range scale {
			scale[c], offset[c] = x.scale[start+c*step], x.offset[start+c*step]
		}
	}
	q.set(v, q.emit("int_slice", n, v, x.val.Type.DType, []*ir.Value{x.val},
		ir.Attrs{"axis": axis, "start": start, "step": step}), scale, offset)
	return nil
}

// concat joins channels, each keeping its form but for a power of two, or positions, which must come
// to share one; the widest input type wins.
func (q *quantizer) concat(n *ir.Node) error {
	v := n.Out()
	axis := n.Int("axis", 0)
	if len(v.Type.Shape) < 2 {
		axis = 1
	}
	d := ir.I8
	for _, in := range n.Inputs {
		if q.in(in).val.Type.DType == ir.I16 {
			d = ir.I16
		}
	}
	var one float64 // the common scale, where there has to be one
	if axis == 0 || q.needs(v).uniform {
		top, _ := q.bounds(v, d)
		for _, in := range n.Inputs {
			x := q.evenZeroFree(n, in)
			lo, hi := limits(x.val.Type.DType)
			reach := max(math.Abs(float64(float64(lo)*x.scale[0])+x.offset[0]), math.Abs(float64(float64(hi)*x.scale[0])+x.offset[0]))
			one = max(one, reach/math.Abs(float64(top)))
		}
	}
	attrs := ir.Attrs{"axis": axis}
	var ins []*ir.Value
	var mults, shifts []int
	var scale, offset []float64
	for _, in := range n.Inputs {
		x := q.in(in)
		if one != 0 {
			x = q.evenZeroFree(n, in)
		}
		val, m, s := x.val, 1, 0
		if one != 0 && x.scale[0] != one {
			mult, shift := multiplier(x.scale[0] / one)
			m, s = int(mult), shift
		}
		if one != 0 {
			x = &quant{scale: fill(len(x.scale), one), offset: fill(len(x.scale), 0)}
		} else if k := bits.Len(uint(q.wideMax(v))) - 8; d == ir.I16 && x.val.Type.DType == ir.I8 && axis == 1 && k > 0 {
			// Bytes beside wider integers: as large as these, or weights that suit those would leave them none.
			m, s = 2<<k, 1
			x = &quant{scale: slices.Clone(x.scale), offset: x.offset}
			for c := range x.scale {
				x.scale[c] = math.Ldexp(x.scale[c], -k)
			}
		}
		ins, mults, shifts = append(ins, val), append(mults, m), append(shifts, s)
		if axis == 1 {
			scale, offset = append(scale, x.scale...), append(offset, x.offset...)
		} else {
			scale, offset = x.scale, x.offset
		}
	}
	attrs["mult"], attrs["shift"] = mults, shifts
	q.set(v, q.emit("int_concat", n, v, d, ins, attrs), scale, offset)
	return nil
}

// pad takes positions from the value itself (reflect, edge, wrap); a constant is not supported here
// because canonical folds it into the convolution that reads it.
func (q *quantizer) pad(n *ir.Node) error {
	x, v := q.in(n.Inputs[0]), n.Out()
	left, right, total := n.Int("left", 0), n.Int("right", 0), rows(n.Inputs[0])
	mode := n.Str("mode", "constant")
	at := func(p int) int { // source position of padded position p
		switch mode {
		case "edge":
			return min(max(p, 0), total-1)
		case "wrap":
			return ((p % total) + total) % total
		}
		if p < 0 {
			p = -p
		}
		if p >= total {
			p = 2*(total-1) - p
		}
		return p
	}
	if mode == "constant" {
		return errors.New("pads with a constant in front of something other than a convolution")
	}
	if left < 0 || right < 0 || (mode == "reflect" && max(left, right) >= total) {
		return fmt.Errorf("pads %d and %d positions of %d by %s", left, right, total, mode)
	}
	index := make([]int32, 0, rows(v))
	for p := -left; p < total+right; p++ {
		index = append(index, int32(at(p)))
	}
	q.set(v, q.emit("int_gather", n, v, x.val.Type.DType, []*ir.Value{x.val, constant(v.Name+".index", ir.I32, index, len(index))}, nil), x.scale, x.offset)
	return nil
}

func (q *quantizer) flatten(n *ir.Node) error {
	x, v := q.in(n.Inputs[0]), n.Out()
	var scale, offset []float64
	for range rows(n.Inputs[0]) {
		scale, offset = append(scale, x.scale...), append(offset, x.offset...)
	}
	q.set(v, q.emit("int_flatten", n, v, x.val.Type.DType, []*ir.Value{x.val}, nil), scale, offset)
	return nil
}

// transpose and regroup bring channels together: all have one form.
func (q *quantizer) transpose(n *ir.Node) error { return q.moved(n, "int_transpose", nil) }

func (q *quantizer) regroup(n *ir.Node) error {
	return q.moved(n, "int_regroup", ir.Attrs{"rows": n.Int("rows", 1)})
}

func (q *quantizer) moved(n *ir.Node, op string, attrs ir.Attrs) error {
	x, v := q.even(n, n.Inputs[0]), n.Out()
	c := channels(v)
	q.set(v, q.emit(op, n, v, x.val.Type.DType, []*ir.Value{x.val}, attrs), fill(c, x.scale[0]), fill(c, x.offset[0]))
	return nil
}

func (q *quantizer) gather(n *ir.Node) error {
	x, v := q.in(n.Inputs[0]), n.Out()
	index := n.Inputs[1].Const.Data.([]int64)
	to := make([]int32, len(index))
	pads := false
	for i, p := range index {
		to[i] = int32(p)
		pads = pads || p < 0
	}
	in := []*ir.Value{x.val, constant(v.Name+".index", ir.I32, to, len(to))}
	if pads {
		in = append(in, q.padValues(v.Name, x))
	}
	q.set(v, q.emit("int_gather", n, v, x.val.Type.DType, in, nil), x.scale, x.offset)
	return nil
}
