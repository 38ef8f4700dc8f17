package canonical

import (
	"math"
	"slices"

	"nepcoc/ir"
	"nepcoc/passes/internal/edit"
)

const wayAttention = "use convolutions and pooling: attention and other products of two computed matrices are not supported"

// matMul takes a constant on either side.
func matMul(l *lowering, n *ir.Node) ([]*view, error) {
	a, b := n.Inputs[0], n.Inputs[1]
	if a.Const == nil && b.Const == nil {
		return nil, refuse(wayAttention, "both operands are computed: the receptive field is unbounded (attention)")
	}
	w, other, left := b, a, false
	if a.Const != nil {
		w, other, left = a, b, true
	}
	rank := max(len(a.Type.Shape), len(b.Type.Shape))
	dims := w.Type.Shape
	for len(dims) > 2 && dims[0] == 1 {
		dims = dims[1:]
	}
	x := l.views[other]
	if len(dims) != 2 || len(x.axes) < 2 {
		return nil, refuse("multiply by one matrix", "the constant operand %s is no matrix", w.Type)
	}
	x = x.withAxes(aligned(x.axes, rank))
	// x[..,I] * w[I,O], or w[O,I] * x[..,I,T].
	contract, o, i := rank-1, dims[1], dims[0]
	at := func(out, in int) int { return in*o + out }
	if left {
		contract, o, i = rank-2, dims[0], dims[1]
		at = func(out, in int) int { return out*i + in }
	}
	y, err := l.linear(x, contract, w, o, i, at, nil)
	return []*view{y}, err
}

func gemm(l *lowering, n *ir.Node, x *view) (*view, error) {
	w := n.Inputs[1]
	if w.Const == nil {
		return nil, refuse(wayAttention, "both operands are computed: the receptive field is unbounded (attention)")
	}
	if w.Type.DType != ir.F32 || len(w.Type.Shape) != 2 {
		return nil, refuse("use float32 weights", "the weights are %s", w.Type)
	}
	if n.Int("transA", 0) != 0 {
		x = x.withAxes([]axis{x.axes[1], x.axes[0]})
	}
	o, i := w.Type.Shape[1], w.Type.Shape[0]
	at := func(out, in int) int { return in*o + out }
	if n.Int("transB", 0) != 0 {
		o, i = i, o
		at = func(out, in int) int { return out*i + in }
	}
	var bias []float32
	if c := n.Input(2); c != nil {
		d := alongAxis(c, 2, 1, o)
		if d == nil {
			return nil, refuse("use a constant bias per output", "the bias is %s", c.Type)
		}
		bias = scaled(d, n.Float("beta", 1))
	}
	if alpha := n.Float("alpha", 1); alpha != 1 {
		w = l.names.Const(w.Name, edit.F32(scaled(edit.Floats(w), alpha), w.Type.Shape...))
	}
	return l.linear(x, 1, w, o, i, at, bias)
}

func scaled(d []float32, f float64) []float32 {
	if f == 1 {
		return d
	}
	out := make([]float32, len(d))
	for i, x := range d {
		out[i] = float32(float64(x) * f)
	}
	return out
}

// linear contracts axis ax of x with w, whose element (out,in) is at(out,in).
func (l *lowering) linear(x *view, ax int, w *ir.Value, o, i int, at func(out, in int) int, bias []float32) (*view, error) {
	data := edit.Floats(w)
	if data == nil {
		return nil, refuse("use float32 weights", "the weights are %s", w.Type)
	}
	x, err := l.numbers(x)
	if err != nil {
		return nil, err
	}
	if x, err = l.asChannel(x, x.axes[ax]); err != nil {
		return nil, err
	}
	switch {
	case x.axes[ax] == position && x.both(): // a matrix over positions
		if x, err = l.swap(x); err != nil {
			return nil, err
		}
	case x.axes[ax] == position:
		if x, err = l.vector(x); err != nil { // numbers used as one vector
			return nil, err
		}
	case x.axes[ax] == unit && x.channels() != 1: // each number by itself
		switch {
		case x.image():
			return nil, refuse("work on three axes at most", "an axis of size 1 is multiplied, beside three others")
		case x.both():
			x, err = l.raster(x)
		default:
			x, err = l.swap(x)
		}
		if err != nil {
			return nil, err
		}
	}
	wt := make([]float32, o*i)
	for out := range o {
		for in := range i {
			col := in
			if x.perm != nil {
				col = x.perm[in]
			}
			wt[out*i+col] = data[at(out, in)]
		}
	}
	val, err := l.emit("linear", nil, x.val, l.weight(w.Name, edit.F32(wt, o, i)), l.bias(bias))
	if err != nil {
		return nil, err
	}
	axes := slices.Clone(x.axes)
	axes[ax] = unit
	if o != 1 {
		axes[ax] = channel
	}
	return &view{val: val, form: x.form, axes: axes, high: x.high}, nil
}

func (l *lowering) bias(b []float32) *ir.Value {
	if b == nil {
		return nil
	}
	return l.names.Vec(l.node.Outputs[0].Name+".bias", b)
}

// upright is x [N, C, ...] with its channels in the place of channels: a sequence that was swapped, or that the
// model convolves across, is swapped.
func (l *lowering) upright(x *view) (*view, error) {
	if len(x.axes) < 3 || x.axes[0] != unit || count(x.axes[2:], channel)+count(x.axes[2:], position) > 1 {
		return x, nil
	}
	if x.axes[1] == position || slices.Contains(x.axes[2:], channel) {
		return l.swap(x)
	}
	return x, nil
}

// spatial finds the axis of positions of a value [N, C, spatial...].
func spatial(x *view, w *ir.Window) (pos int, err error) {
	if len(x.axes) < 3 {
		return 0, refuse("", "the input has no spatial axis")
	}
	if x.axes[0] != unit || x.axes[1] == position {
		return 0, refuse("transpose to [batch, channels, length]", "positions stand on the axis of channels")
	}
	pos = -1
	for i, a := range x.axes[2:] {
		if a == channel {
			return 0, refuse("transpose to [batch, channels, length]", "channels stand on an axis of positions")
		}
		if a == position {
			pos = i
		}
	}
	if pos < 0 { // one position: the axis with the larger window
		pos = len(x.axes) - 3
		if w != nil {
			for i, k := range w.Kernel {
				if k > w.Kernel[pos] {
					pos = i
				}
			}
		}
	}
	return pos, nil
}

// conv takes 1-D convolutions, 2-D ones over a height or width of 1, and those of text-CNNs.
func conv(l *lowering, n *ir.Node, x *view) (*view, error) {
	weight := edit.Floats(n.Inputs[1])
	if weight == nil {
		return nil, refuse("use constant float32 weights", "the weights are computed or not float32")
	}
	w, err := ir.ConvWindow(n)
	if err != nil {
		return nil, err
	}
	if x, err = l.inONNXOrder(x); err != nil {
		return nil, err
	}
	var bias []float32
	if b := n.Input(2); b != nil {
		if bias = edit.Floats(b); bias == nil {
			return nil, refuse("use a constant bias", "the bias is computed")
		}
	}
	if c, axes, ok := textConv(n, x, weight, w); ok {
		c.bias = bias
		val, err := l.convolve(x, n.Inputs[1].Name, c)
		return &view{val: val, form: sequence, axes: axes}, err
	}
	if len(x.axes) == 3 && x.image() {
		if x, err = l.matrix(x); err != nil {
			return nil, err
		}
	}
	if len(x.axes) == 4 && !x.image() && x.axes[1] == position { // 1-D, written as 2-D, over a sequence that was swapped
		if x, err = l.upright(x); err != nil {
			return nil, err
		}
	}
	if planar(x, w) {
		return l.convImage(n, x, weight, bias, w)
	}
	if x, err = l.upright(x); err != nil {
		return nil, err
	}
	pos, err := spatial(x, w)
	if err != nil {
		return nil, err
	}
	if w.Out[pos] != 1 {
		if x, err = l.oneRow(x); err != nil {
			return nil, err
		}
	}
	// Of a kernel over an axis of size 1 only one row meets the data.
	row := make([]int, len(w.Kernel))
	for i := range w.Kernel {
		if i == pos {
			continue
		}
		if w.Out[i] != 1 || w.Before[i]%w.Dilation[i] != 0 || w.Before[i]/w.Dilation[i] >= w.Kernel[i] {
			return nil, refuse("use 1-D convolutions", "the kernel %v reaches over an axis of size 1 to %v outputs", w.Kernel, w.Out)
		}
		row[i] = w.Before[i] / w.Dilation[i]
	}
	shape := n.Inputs[1].Type.Shape
	o, in, k := shape[0], shape[1], w.Kernel[pos]
	inner := ir.NumElements(shape[2:])
	wt := make([]float32, o*in*k)
	for oi := range o * in {
		for t := range k {
			row[pos] = t
			at := 0
			for d, r := range row {
				at = at*shape[2+d] + r
			}
			wt[(oi/in*k+t)*in+oi%in] = weight[oi*inner+at]
		}
	}
	out := &view{form: x.form, axes: slices.Clone(x.axes)}
	out.val, err = l.convolve(x, n.Inputs[1].Name, convolution{weight: wt, bias: bias, o: o, k: k, in: in, groups: n.Int("group", 1),
		stride: w.Stride[pos], dilation: w.Dilation[pos], before: w.Before[pos], after: w.After[pos], length: w.Out[pos]})
	if err != nil {
		return nil, err
	}
	out.axes[1], out.axes[2+pos] = unit, unit
	if o != 1 {
		out.axes[1] = channel
	}
	if w.Out[pos] != 1 {
		out.axes[2+pos] = position
	}
	return out, nil
}

// windowPool is a pooling over all positions where the window covers them.
func windowPool(kind string) rule {
	return single(func(l *lowering, n *ir.Node, x *view) (*view, error) {
		w, err := ir.ConvWindow(n)
		if err != nil {
			return nil, err
		}
		if x, err = l.numbers(x); err != nil {
			return nil, err
		}
		if len(x.axes) == 3 && x.image() {
			if x, err = l.matrix(x); err != nil {
				return nil, err
			}
		}
		if len(x.axes) == 4 && !x.image() && x.axes[1] == position { // 1-D, written as 2-D, over a sequence that was swapped
			if x, err = l.upright(x); err != nil {
				return nil, err
			}
		}
		if planar(x, w) {
			return l.poolImage(n, x, kind, w)
		}
		if x, err = l.upright(x); err != nil {
			return nil, err
		}
		pos, err := spatial(x, w)
		if err != nil {
			return nil, err
		}
		includePad := n.Int("count_include_pad", 0) != 0
		for i := range w.Kernel {
			if i != pos && (w.Out[i] != 1 || includePad && w.Kernel[i] != 1) {
				return l.poolImage(n, x, kind, w)
			}
		}
		if x.axes[2+pos] != position && w.Out[pos] == 1 && !includePad {
			return x, nil // one of one
		}
		t, k, s := w.In[pos], w.Kernel[pos], w.Stride[pos]
		// ceil_mode: the last window may reach beyond the declared padding.
		right := (w.Out[pos]-1)*s + (k-1)*w.Dilation[pos] + 1 - t - w.Before[pos]
		if kind == "mean" && (w.Dilation[pos] != 1 || right > w.After[pos] && includePad) {
			return l.weightedMean(x, w, pos, includePad)
		}
		if x, err = l.oneRow(x); err != nil {
			return nil, err
		}
		if w.Dilation[pos] != 1 {
			return nil, refuse("use dilation 1", "the window is dilated")
		}
		axes := slices.Clone(x.axes)
		axes[2+pos] = position
		if w.Out[pos] == 1 {
			axes[2+pos] = unit
		}
		if w.Out[pos] == 1 && k >= t && w.Before[pos] == 0 && (k == t || !includePad) {
			val, err := l.emit("pool", ir.Attrs{"kind": kind}, x.val)
			return &view{val: val, form: vector, axes: axes}, err
		}
		attrs := ir.Attrs{"kind": kind, "k": k}
		for key, v := range map[string][2]int{"stride": {s, 1}, "pad_left": {w.Before[pos], 0}, "pad_right": {max(0, right), 0}} {
			if v[0] != v[1] {
				attrs[key] = v[0]
			}
		}
		if includePad && kind == "mean" && w.Before[pos]+max(0, right) > 0 {
			attrs["count_pad"] = 1
		}
		val, err := l.emit("window_pool", attrs, x.val)
		return &view{val: val, form: sequence, axes: axes}, err
	})
}

// cells is how many elements window o counts along axis i: those of the data, or with padded those of the padding
// around it, too. What a last, partial window has beyond that never counts.
func cells(w *ir.Window, i, o int, padded bool) (n int) {
	lo, hi := 0, w.In[i]
	if padded {
		lo, hi = -w.Before[i], w.In[i]+w.After[i]
	}
	for k := range w.Kernel[i] {
		if at := o*w.Stride[i] - w.Before[i] + k*w.Dilation[i]; at >= lo && at < hi {
			n++
		}
	}
	return n
}

// weightedMean writes an average pooling as the convolution of each channel with equal weights, and
// a factor per position where windows count differently: what window_pool doesn't know.
func (l *lowering) weightedMean(x *view, w *ir.Window, pos int, includePad bool) (*view, error) {
	c, out := x.channels(), w.Out[pos]
	counts := make([]int, out)
	for o := range out {
		if counts[o] = cells(w, pos, o, includePad); counts[o] == 0 {
			return nil, refuse("pad by less than a window", "a window of the pooling is all padding")
		}
	}
	taps := make([]float32, c*w.Kernel[pos])
	for i := range taps {
		taps[i] = 1 / float32(counts[0])
	}
	right := max(0, (out-1)*w.Stride[pos]+(w.Kernel[pos]-1)*w.Dilation[pos]+1-w.In[pos]-w.Before[pos])
	val, err := l.convolve(x, l.node.Outputs[0].Name+".mean", convolution{weight: taps, o: c, k: w.Kernel[pos], in: 1, groups: c,
		stride: w.Stride[pos], dilation: w.Dilation[pos], before: w.Before[pos], after: right, length: out})
	if err != nil {
		return nil, err
	}
	y := &view{val: val, form: x.form, axes: slices.Clone(x.axes)}
	if out == 1 {
		y.axes[2+pos] = unit
	}
	factors := make([]float32, out)
	for o := range out {
		factors[o] = float32(float64(counts[0]) / float64(counts[o]))
	}
	if neutral(factors, 1) {
		return y, nil
	}
	y.val, err = l.emit("mul", nil, val, l.names.Const(l.node.Outputs[0].Name+".share", edit.F32(factors, out, 1)))
	return y, err
}

func globalPool(kind string) rule {
	return single(func(l *lowering, n *ir.Node, x *view) (*view, error) {
		axes := make([]int, 0, len(x.axes))
		for i := 2; i < len(x.axes); i++ {
			axes = append(axes, i)
		}
		return l.reduce(x, kind, axes, true)
	})
}

func reduceOp(kind string) rule {
	return single(func(l *lowering, n *ir.Node, x *view) (*view, error) {
		axes, err := ir.ReduceAxes(n)
		if err != nil {
			return nil, err
		}
		return l.reduce(x, kind, axes, n.Int("keepdims", 1) != 0)
	})
}

// reduce pools over positions; reducing axes of size 1 changes nothing.
func (l *lowering) reduce(x *view, kind string, reduced []int, keep bool) (*view, error) {
	x, err := l.numbers(x)
	if err != nil {
		return nil, err
	}
	if x.image() {
		return l.reduceImage(x, kind, reduced, keep)
	}
	if at := slices.Index(x.axes, position); kind == "max" && at >= 0 && x.both() && slices.Contains(reduced, at) && slices.Contains(reduced, slices.Index(x.axes, channel)) {
		if x, err = l.reduce(x, kind, []int{at}, true); err != nil { // one after the other
			return nil, err
		}
	}
	if over := slices.Index(x.axes, channel); over >= 0 && slices.Contains(reduced, over) && x.val.Type.DType == ir.F32 {
		// Positions that became channels are reduced as positions, and so is what only positions can: a maximum.
		if at := slices.Index(x.axes, position); at < 0 || !slices.Contains(reduced, at) {
			if swapped(x) || kind == "max" {
				if x, err = l.swap(x); err != nil {
					return nil, err
				}
			}
		}
	}
	for i, a := range x.axes {
		if a == channel && slices.Contains(reduced, i) {
			if x, err = l.reduceChannels(x, kind, i); err != nil {
				return nil, err
			}
		}
	}
	y := *x
	y.axes = nil
	pool := false
	for i, a := range x.axes {
		if !slices.Contains(reduced, i) {
			y.axes = append(y.axes, a)
			continue
		}
		pool = pool || a == position
		if keep {
			y.axes = append(y.axes, unit)
		}
	}
	if !pool {
		return &y, nil
	}
	in := x.val
	integer := in.Type.DType != ir.F32
	if integer { // a mask counted in integers
		if in, err = l.emit("cast", ir.Attrs{"to": "f32"}, in); err != nil {
			return nil, err
		}
		if kind == "mean" {
			return nil, refuse("cast to float first", "the mean of integers")
		}
	}
	y.form = vector
	if y.val, err = l.emit("pool", ir.Attrs{"kind": kind}, in); err == nil && integer {
		y.val, err = l.emit("cast", ir.Attrs{"to": x.val.Type.DType.String()}, y.val)
	}
	return &y, err
}

// reduceChannels writes a sum or mean over channels as a linear layer with one output.
func (l *lowering) reduceChannels(x *view, kind string, ax int) (*view, error) {
	if kind == "max" || x.val.Type.DType != ir.F32 {
		return nil, refuse("reduce over positions, or take the mean over channels", "the reduction (%s of %s) runs over channels", kind, x.val.Type)
	}
	c := x.channels()
	w := ones(c)
	if kind == "mean" {
		for i := range w {
			w[i] = 1 / float32(c)
		}
	}
	val, err := l.emit("linear", nil, x.val, l.weight(l.node.Outputs[0].Name+".ones", edit.F32(w, 1, c)))
	axes := slices.Clone(x.axes)
	axes[ax] = unit
	return &view{val: val, form: x.form, axes: axes}, err
}

// reduceMin is the largest of the negated values, negated.
func reduceMin(l *lowering, n *ir.Node, x *view) (*view, error) {
	neg := ir.Attrs{"fn": "neg"}
	return l.around(n, x, neg, "max", neg)
}

// reduceL2 is the root of the sum of squares.
func reduceL2(l *lowering, n *ir.Node, x *view) (*view, error) {
	return l.around(n, x, ir.Attrs{"fn": "square"}, "sum", ir.Attrs{"fn": "sqrt"})
}

// reduceL1 is the sum of the magnitudes.
func reduceL1(l *lowering, n *ir.Node, x *view) (*view, error) {
	return l.around(n, x, ir.Attrs{"fn": "abs"}, "sum", nil)
}

// reduceSumSquare is what it is called.
func reduceSumSquare(l *lowering, n *ir.Node, x *view) (*view, error) {
	return l.around(n, x, ir.Attrs{"fn": "square"}, "sum", nil)
}

// around reduces a function of x and applies another one to the result.
func (l *lowering) around(n *ir.Node, x *view, before ir.Attrs, kind string, after ir.Attrs) (*view, error) {
	axes, err := ir.ReduceAxes(n)
	if err != nil {
		return nil, err
	}
	if x.val.Type.DType != ir.F32 {
		return nil, refuse("cast to float first", "integers are reduced")
	}
	if x, err = act(l, x, before); err != nil {
		return nil, err
	}
	if x, err = l.reduce(x, kind, axes, n.Int("keepdims", 1) != 0); err != nil {
		return nil, err
	}
	if after == nil {
		return x, nil
	}
	return act(l, x, after)
}

// groupNorm normalises groups of channels over all their positions.
func groupNorm(l *lowering, n *ir.Node, x *view) (*view, error) {
	return l.statistics(n, x, n.Int("num_groups", 0))
}

// instanceNorm normalises each channel over all its positions.
func instanceNorm(l *lowering, n *ir.Node, x *view) (*view, error) {
	return l.statistics(n, x, n.Inputs[0].Type.Shape[1])
}

// statistics normalises x [N, C, ...] over everything but N and groups of C, then scales and shifts by
// channel: the groups become rows, and rows are what layer_norm normalises.
func (l *lowering) statistics(n *ir.Node, x *view, groups int) (*view, error) {
	x, err := l.numbers(x)
	if err != nil {
		return nil, err
	}
	if len(x.axes) > 0 && x.axes[0] != unit {
		return l.sampleStatistics(n, x, groups)
	}
	if x.image() { // its positions are one axis here
		if x, err = l.asChannel(x, x.axes[1]); err != nil {
			return nil, err
		}
		y, err := l.statistics(n, &view{val: x.val, form: x.form, axes: renamed(x.axes, map[axis]axis{height: position, width: position})}, groups)
		if err == nil && y.axes[1] == position {
			y, err = l.swap(y)
		}
		if err != nil {
			return nil, err
		}
		z := *x
		z.val = y.val
		return &z, nil
	}
	total := n.Inputs[0].Type.Shape[1]
	gamma, beta := edit.Floats(n.Inputs[1]), edit.Floats(n.Inputs[2])
	if gamma == nil || beta == nil {
		return nil, refuse("use constant float32 scale and bias", "scale or bias is computed")
	}
	if x.form == scalar {
		return nil, refuse("normalise a sequence [batch, channels, length]", "a single number is normalised")
	}
	if x, err = l.inONNXOrder(x); err != nil {
		return nil, err
	}
	scale, shift := make([]float32, total), make([]float32, total)
	for c := range total { // per channel, or per group
		scale[c], shift[c] = gamma[c*len(gamma)/total], beta[c*len(beta)/total]
	}
	name, attrs := n.Out().Name, ir.Attrs{"epsilon": n.Float("epsilon", 1e-5)}
	norm := func(x *ir.Value, scale, shift []float32) (*ir.Value, error) {
		return l.emit("layer_norm", attrs, x, l.names.Vec(n.Inputs[1].Name, scale), l.names.Vec(n.Inputs[2].Name, shift))
	}
	y := *x
	if x.form == vector && groups == 1 && x.channels() == total {
		y.val, err = norm(x.val, scale, shift)
		return &y, err
	}
	if x.axes[1] == channel && x.form == sequence {
		if x, err = l.swap(x); err != nil { // [C,T]
			return nil, err
		}
		y = *x
	}
	rows := 1
	if x.form == sequence {
		rows = x.val.Type.Shape[0]
	}
	if groups != rows {
		if y.val, err = l.emit("regroup", ir.Attrs{"rows": groups}, y.val); err != nil {
			return nil, err
		}
	}
	size := y.channels()
	if y.val, err = norm(y.val, ones(size), make([]float32, size)); err != nil {
		return nil, err
	}
	switch {
	case groups == rows:
	case x.form == vector:
		y.val, err = l.emit("flatten", nil, y.val)
	default:
		y.val, err = l.emit("regroup", ir.Attrs{"rows": rows}, y.val)
	}
	if err != nil || neutral(gamma, 1) && neutral(beta, 0) {
		return &y, err
	}
	z := &y
	if x.axes[1] == position { // scale and bias are per channel
		if z, err = l.swap(z); err != nil {
			return nil, err
		}
	}
	c := z.channels()
	if total == 1 {
		scale, shift = spread(scale[0], c), spread(shift[0], c)
	}
	out := *z
	out.val, err = l.emit("affine", nil, z.val, l.names.Vec(name+".scale", scale), l.names.Vec(name+".shift", shift))
	return &out, err
}

// sampleStatistics is statistics of x [N, C, ...] where N is no batch but blocks of positions (or of
// channels) that a reshape put there: each block is normalised by itself.
func (l *lowering) sampleStatistics(n *ir.Node, x *view, groups int) (*view, error) {
	gamma, beta := edit.Floats(n.Inputs[1]), edit.Floats(n.Inputs[2])
	if gamma == nil || beta == nil {
		return nil, refuse("use constant float32 scale and bias", "scale or bias is computed")
	}
	shape := n.Inputs[0].Type.Shape
	rows, total := shape[0]*groups, shape[1]
	if rows == ir.NumElements(shape) {
		return nil, refuse("normalise over channels or positions", "an axis of size 1 is normalised")
	}
	x, err := l.inONNXOrder(x)
	if err == nil {
		x, err = l.inOrder(x, longAxes(x.axes))
	}
	if err != nil {
		return nil, err
	}
	y, form := *x, x.val.Type.Shape[0]
	if y.val, err = l.emit("regroup", ir.Attrs{"rows": rows}, x.val); err != nil {
		return nil, err
	}
	size := y.channels()
	if y.val, err = l.emit("layer_norm", ir.Attrs{"epsilon": n.Float("epsilon", 1e-5)}, y.val,
		l.names.Vec(n.Inputs[1].Name, ones(size)), l.names.Vec(n.Inputs[2].Name, make([]float32, size))); err != nil {
		return nil, err
	}
	if y.val, err = l.emit("regroup", ir.Attrs{"rows": form}, y.val); err != nil || neutral(gamma, 1) && neutral(beta, 0) {
		return &y, err
	}
	z, err := l.asChannel(&y, y.axes[1])
	if err != nil {
		return nil, err
	}
	scale, shift := make([]float32, z.channels()), make([]float32, z.channels())
	for c := range scale {
		k := min(c, total-1) // one channel, whatever lies on the others
		scale[c], shift[c] = gamma[k*len(gamma)/total], beta[k*len(beta)/total]
	}
	out, name := *z, n.Out().Name
	out.val, err = l.emit("affine", nil, z.val, l.names.Vec(name+".scale", scale), l.names.Vec(name+".shift", shift))
	return &out, err
}

func spread(x float32, n int) []float32 {
	d := make([]float32, n)
	for i := range d {
		d[i] = x
	}
	return d
}

func neutral(d []float32, x float32) bool {
	return !slices.ContainsFunc(d, func(y float32) bool { return y != x })
}

// layerNormRule normalises over channels, over positions, or over both.
func layerNormRule(l *lowering, n *ir.Node, x *view) (*view, error) {
	ax, err := ir.NormalizeAxis(n.Int("axis", -1), len(x.axes))
	if err != nil {
		return nil, err
	}
	if x, err = l.inONNXOrder(x); err != nil {
		return nil, err
	}
	over := longAxes(x.axes[ax:])
	if x.image() && !slices.Equal(over, []axis{channel}) && len(over) > 0 {
		// What is kept becomes the rows.
		long := longAxes(x.axes)
		if x, err = l.inOrder(x, long); err != nil {
			return nil, err
		}
		y, total := *x, x.val.Type.Shape[0]
		if y.val, err = l.emit("regroup", ir.Attrs{"rows": ir.NumElements(n.Inputs[0].Type.Shape[:ax])}, x.val); err != nil {
			return nil, err
		}
		if y.val, err = l.normalised(n, y.val, ax); err != nil {
			return nil, err
		}
		y.val, err = l.emit("regroup", ir.Attrs{"rows": total}, y.val)
		return &y, err
	}
	rows, y := 0, *x
	switch {
	case len(over) == 2: // all of it, in the order of its axes
		if over[0] == channel {
			if x, err = l.swap(x); err != nil {
				return nil, err
			}
		}
		rows, y = x.val.Type.Shape[0], *x
		if y.val, err = l.emit("flatten", nil, x.val); err != nil {
			return nil, err
		}
	case len(over) == 1 && over[0] == position:
		if x, err = l.swap(x); err != nil {
			return nil, err
		}
		y = *x
	case len(over) == 0 && x.channels() != 1:
		return nil, refuse("normalise over channels or positions", "an axis of size 1 is normalised")
	}
	if y.val, err = l.normalised(n, y.val, ax); err != nil || rows == 0 {
		return &y, err
	}
	y.val, err = l.emit("regroup", ir.Attrs{"rows": rows}, y.val)
	return &y, err
}

// normalised normalises the rows of x, which are the axes of n's input from ax on.
func (l *lowering) normalised(n *ir.Node, x *ir.Value, ax int) (*ir.Value, error) {
	shape := n.Inputs[0].Type.Shape[ax:]
	gamma, beta := alongLast(n.Inputs[1], shape), make([]float32, ir.NumElements(shape))
	if b := n.Input(2); b != nil {
		beta = alongLast(b, shape)
	}
	if gamma == nil || beta == nil {
		return nil, refuse("use constant float32 scale and bias", "scale or bias is computed")
	}
	attrs := ir.Attrs{"epsilon": n.Float("epsilon", 1e-5)}
	if n.Int("rms", 0) != 0 {
		attrs["rms"] = 1
	}
	return l.emit("layer_norm", attrs, x,
		l.names.Vec(n.Inputs[1].Name, gamma), l.names.Vec(n.Out().Name+".beta", beta))
}

// alongLast is a constant operand as numpy broadcasts it to shape, row-major; nil where it is none.
func alongLast(v *ir.Value, shape []int) []float32 {
	d := edit.Floats(v)
	off := len(shape) - len(v.Type.Shape)
	if d == nil || off < 0 {
		return nil
	}
	out := make([]float32, ir.NumElements(shape))
	for i := range out {
		at, stride, rest := 0, 1, i
		for k := len(shape) - 1; k >= 0; k-- {
			j := rest % shape[k]
			rest /= shape[k]
			if k < off {
				continue
			}
			switch dim := v.Type.Shape[k-off]; dim {
			case shape[k]:
				at += j * stride
				stride *= dim
			case 1:
			default:
				return nil
			}
		}
		out[i] = d[at]
	}
	return out
}

func batchNorm(l *lowering, n *ir.Node, x *view) (*view, error) {
	x, err := l.numbers(x)
	if err != nil {
		return nil, err
	}
	if len(x.axes) >= 2 && x.axes[1] == position && !slices.Contains(x.axes, channel) {
		if x, err = l.vector(x); err != nil { // numbers used as one vector
			return nil, err
		}
	}
	if len(x.axes) >= 2 && x.axes[1] == position {
		if x, err = l.swap(x); err != nil {
			return nil, err
		}
	}
	if len(x.axes) >= 2 {
		if x, err = l.asChannel(x, x.axes[1]); err != nil {
			return nil, err
		}
	}
	if len(x.axes) < 2 || x.axes[1] == position {
		return nil, refuse("transpose to [batch, channels, length]", "the normalised axis is not the channels")
	}
	c := x.channels()
	var p [4][]float32
	for i := range p {
		p[i] = edit.Floats(n.Inputs[1+i])
		if x.axes[1] == unit && len(p[i]) == 1 { // one channel, whatever lies on the others
			p[i] = spread(p[i][0], c)
		}
		if len(p[i]) != c {
			return nil, refuse("export in inference mode", "the parameters are not %d constants", c)
		}
	}
	scale, shift := make([]float32, c), make([]float32, c)
	for i := range c {
		at := i
		if x.perm != nil {
			at = x.perm[i]
		}
		s := float64(p[0][i]) / math.Sqrt(float64(p[3][i])+n.Float("epsilon", 1e-5))
		scale[at], shift[at] = float32(s), float32(float64(p[1][i])-float64(float64(p[2][i])*s)) // not fused: the same bits on every CPU
	}
	name := n.Out().Name
	val, err := l.emit("affine", nil, x.val, l.names.Vec(name+".scale", scale), l.names.Vec(name+".shift", shift))
	if err != nil {
		return nil, err
	}
	y := *x
	y.val = val
	return &y, nil
}

func softmax(op string) rule {
	return single(func(l *lowering, n *ir.Node, x *view) (*view, error) {
		ax, err := ir.NormalizeAxis(n.Int("axis", -1), len(x.axes))
		if err != nil {
			return nil, err
		}
		if x, err = l.inONNXOrder(x); err != nil {
			return nil, err
		}
		if op == "softmax" && (x.both() || x.axes[ax] == position) { // weights
			over := x.axes[ax]
			if over == position {
				if x, err = l.swap(x); err != nil {
					return nil, err
				}
			}
			y := *x
			if y.val, err = l.emit(op, nil, x.val); err == nil && over == position {
				return l.swap(&y)
			}
			return &y, err
		}
		if x, err = l.vector(x); err != nil {
			return nil, refuse("softmax over the classes, at the end of the model", "%s inside the sequence", op)
		}
		if x.axes[ax] != channel && x.channels() != 1 || x.perm != nil {
			return nil, refuse("softmax over the classes, at the end of the model", "softmax over an axis that is not the channels")
		}
		val, err := l.emit(op, nil, x.val)
		y := *x
		y.val = val
		return &y, err
	})
}

func argMax(l *lowering, n *ir.Node, x *view) (*view, error) {
	ax, err := ir.NormalizeAxis(n.Int("axis", 0), len(x.axes))
	if err != nil {
		return nil, err
	}
	if n.Int("select_last_index", 0) != 0 {
		return nil, refuse("use select_last_index=0", "the last of equals is asked for")
	}
	if x, err = l.vector(x); err != nil || x.axes[ax] != channel && x.channels() != 1 || x.perm != nil {
		return nil, refuse("argmax over the classes, at the end of the model", "argmax over an axis that is not the channels")
	}
	val, err := l.emit("argmax", nil, x.val)
	shape := n.Out().Type.Shape
	return &view{val: val, form: scalar, axes: make([]axis, len(shape))}, err
}
