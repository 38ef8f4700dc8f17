package canonical

import (
	"slices"

	"nepcoc/ir"
	"nepcoc/passes/internal/edit"
)

// reshape handles every operator that keeps the order of elements: the long
// dimensions stay what they are, or positions and channels are flattened.
func reshape(l *lowering, n *ir.Node, x *view) (*view, error) {
	from, to := n.Inputs[0].Type.Shape, n.Out().Type.Shape
	long := longAxes(x.axes)
	if slices.Equal(longDims(from), longDims(to)) {
		return x.withAxes(label(to, long)), nil
	}
	if y, ok, err := l.reshapeImage(x, from, to); ok || err != nil {
		return y, err
	}
	if dims := longDims(to); len(long) == 2 && len(dims) == 2 && x.form == sequence {
		var err error
		if long[0] == channel {
			if x, err = l.swap(x); err != nil {
				return nil, err
			}
		}
		val, err := l.emit("regroup", ir.Attrs{"rows": dims[0]}, x.val)
		return &view{val: val, form: sequence, axes: label(to, []axis{position, channel})}, err
	}
	if len(long) != 2 || len(longDims(to)) != 1 || x.form != sequence {
		return nil, refuse("only flattening is possible", "%v to %v splits or merges positions and channels", from, to)
	}
	t, c := x.val.Type.Shape[0], x.val.Type.Shape[1]
	flat, err := l.emit("flatten", nil, x.val)
	if err != nil {
		return nil, err
	}
	y := &view{val: flat, form: vector, axes: label(to, []axis{channel})}
	if long[0] == channel {
		y.perm = make([]int, c*t)
		for i := range y.perm {
			y.perm[i] = i%t*c + i/t
		}
	}
	return y, nil
}

func transpose(_ *lowering, n *ir.Node, x *view) (*view, error) {
	perm, err := ir.Permutation(n)
	if err != nil {
		return nil, err
	}
	axes := make([]axis, len(perm))
	for i, p := range perm {
		axes[i] = x.axes[p]
	}
	return x.withAxes(axes), nil
}

func expand(_ *lowering, n *ir.Node, x *view) (*view, error) {
	if !slices.Equal(longDims(n.Inputs[0].Type.Shape), longDims(n.Out().Type.Shape)) {
		return nil, refuse("rely on broadcasting instead", "repeating values along an axis is not supported")
	}
	return x.withAxes(aligned(x.axes, len(n.Out().Type.Shape))), nil
}

func cast(l *lowering, n *ir.Node, x *view) (*view, error) {
	to := n.Str("to", "")
	if d, _ := ir.ParseDType(to); x.val.Type.DType == d {
		return x, nil
	}
	val, err := l.emit("cast", ir.Attrs{"to": to}, x.val)
	if err != nil {
		return nil, err
	}
	y := *x
	y.val, y.seq = val, nil
	if d := val.Type.DType; x.form == ids && (d == ir.F32 || d == ir.F64 || d == ir.Bool) {
		return l.numbers(&y)
	}
	return &y, nil
}

// takeSpan selects a range of one ONNX axis.
func takeSpan(l *lowering, x *view, ax int, s ir.Span) (*view, error) {
	kind := x.axes[ax]
	if kind == unit {
		return x, nil // one of one
	}
	x, err := l.inONNXOrder(x)
	if err != nil {
		return nil, err
	}
	size := x.val.Type.Shape[x.axisOf(kind)]
	switch kind {
	case height:
		size = x.high
	case width:
		size = x.width()
	}
	if s.Start == 0 && s.Step == 1 && s.Count == size {
		return x, nil
	}
	if s.Count < 1 {
		return nil, refuse("check the bounds of the slice", "the slice takes nothing")
	}
	if s.Step < 1 || kind == height || kind == width {
		idx := make([]int, s.Count)
		for i := range idx {
			idx[i] = s.Start + i*s.Step
		}
		return l.pickAny(x, ax, idx)
	}
	axes := slices.Clone(x.axes)
	if s.Count == 1 {
		axes[ax] = unit
	}
	if kind == position && s.Count == 1 && x.val.Type.DType == ir.F32 {
		v, err := l.emit("pool", ir.Attrs{"kind": "select", "at": s.Start}, x.val)
		return &view{val: v, form: vector, axes: axes}, err
	}
	v, err := l.emit("slice", ir.Attrs{"axis": x.axisOf(kind), "start": s.Start, "step": s.Step, "count": s.Count}, x.val)
	return &view{val: v, form: x.form, axes: axes, high: x.high}, err
}

func slice(l *lowering, n *ir.Node, x *view) (*view, error) {
	spans, err := ir.SliceRanges(n)
	if err != nil {
		return nil, err
	}
	for i, s := range spans {
		if x, err = takeSpan(l, x, i, s); err != nil {
			return nil, err
		}
	}
	return x, nil
}

func split(l *lowering, n *ir.Node) ([]*view, error) {
	x := l.views[n.Inputs[0]]
	if x == nil {
		return nil, refuse("let the exporter fold constants", "the data is a constant too large to fold")
	}
	ax, sizes, err := ir.SplitSizes(n)
	if err != nil {
		return nil, err
	}
	views := make([]*view, len(sizes))
	start := 0
	for i, size := range sizes {
		l.node = &ir.Node{Op: n.Op, Origin: n.Origin, Outputs: n.Outputs[i : i+1]}
		if views[i], err = takeSpan(l, x, ax, ir.Span{Start: start, Step: 1, Count: size}); err != nil {
			return nil, err
		}
		start += size
	}
	return views, nil
}

// gather is an embedding where the table is constant, and a selection where
// the indices are.
func gather(l *lowering, n *ir.Node) ([]*view, error) {
	data, index := n.Inputs[0], n.Inputs[1]
	ax, err := ir.NormalizeAxis(n.Int("axis", 0), len(data.Type.Shape))
	if err != nil {
		return nil, err
	}
	if data.Const != nil {
		v, err := embed(l, data, l.views[index], ax)
		return []*view{v}, err
	}
	idx, ok := edit.Ints(index)
	x := l.views[data]
	if !ok || x == nil {
		return nil, refuse("take fixed positions or channels", "both data and indices depend on the input")
	}
	size := data.Type.Shape[ax]
	span, even := ir.Span{Step: 1, Count: len(idx)}, true
	for i, j := range idx {
		if j < 0 {
			j += size
		}
		if j < 0 || j >= size {
			return nil, refuse("check the indices", "index %d is outside of %d elements", idx[i], size)
		}
		switch i {
		case 0:
			span.Start = j
		case 1:
			span.Step = j - span.Start
		}
		even = even && span.Step > 0 && j == span.Start+i*span.Step
	}
	var y *view
	switch {
	case even:
		y, err = takeSpan(l, x, ax, span)
	default:
		y, err = l.pickAny(x, ax, idx)
	}
	if err != nil {
		return nil, err
	}
	// The indices' axes stand where the data's axis was; at most one is long.
	kind := y.axes[ax]
	in := label(index.Type.Shape, []axis{kind})
	axes := append(append(slices.Clone(y.axes[:ax]), in...), y.axes[ax+1:]...)
	return []*view{y.withAxes(axes)}, nil
}

// pickAny takes positions or channels in any order.
func (l *lowering) pickAny(x *view, ax int, idx []int) (*view, error) {
	x, err := l.inONNXOrder(x)
	if err != nil {
		return nil, err
	}
	switch kind := x.axes[ax]; {
	case kind == height || kind == width:
		return l.takeImage(x, ax, idx)
	case x.val.Type.DType != ir.F32:
	case kind == channel:
		return l.pickChannels(x, ax, idx)
	case kind == position:
		index := make([]int64, len(idx))
		for i, j := range idx {
			if index[i] = int64(j); j < 0 {
				index[i] += int64(x.val.Type.Shape[0])
			}
		}
		val, err := l.emit("gather", nil, x.val, l.names.Const(l.node.Outputs[0].Name+".index", ir.Int64s(index, len(index))))
		axes := slices.Clone(x.axes)
		if len(idx) == 1 {
			axes[ax] = unit
		}
		return &view{val: val, form: sequence, axes: axes}, err
	}
	return nil, refuse("take evenly spaced elements of integers", "the indices %v are not evenly spaced", idx)
}

// pickChannels writes a choice of channels in any order as a linear layer of
// ones and zeros.
func (l *lowering) pickChannels(x *view, ax int, idx []int) (*view, error) {
	c := x.channels()
	w := make([]float32, len(idx)*c)
	for i, j := range idx {
		if j < 0 {
			j += c
		}
		w[i*c+j] = 1
	}
	val, err := l.emit("linear", nil, x.val, l.weight(l.node.Outputs[0].Name+".choice", edit.F32(w, len(idx), c)))
	axes := slices.Clone(x.axes)
	if len(idx) == 1 {
		axes[ax] = unit
	}
	return &view{val: val, form: x.form, axes: axes, high: x.high}, err
}

func embed(l *lowering, table *ir.Value, tokens *view, ax int) (*view, error) {
	if len(table.Type.Shape) != 2 || ax != 0 || table.Type.DType != ir.F32 {
		return nil, refuse("look up rows of an f32 [tokens, width] table", "the table is %s, looked up along axis %d", table.Type, ax)
	}
	if tokens.form != ids {
		return nil, refuse("feed token ids directly", "the indices are computed from the input")
	}
	v, err := l.emit("embed", nil, tokens.val, l.weight(table.Name, table.Const))
	if err != nil {
		return nil, err
	}
	last := unit
	if table.Type.Shape[1] != 1 {
		last = channel
	}
	return &view{val: v, form: sequence, high: tokens.high, axes: append(slices.Clone(tokens.axes), last)}, nil
}

func (l *lowering) weight(name string, t *ir.Tensor) *ir.Value { return l.names.Const(name, t) }

func pad(l *lowering, n *ir.Node, x *view) (*view, error) {
	before, after, err := ir.PadAmounts(n)
	if err != nil {
		return nil, err
	}
	if x, err = l.numbers(x); err != nil {
		return nil, err
	}
	for i := range before {
		left, right := before[i], after[i]
		if left == 0 && right == 0 {
			continue
		}
		if x.axes[i] == unit && x.form == sequence && slices.Contains(x.axes, position) { // one row, or one column
			y := *x
			y.high = 1
			y.axes = renamed(x.axes, map[axis]axis{position: width})
			y.axes[i] = height
			if i > slices.Index(x.axes, position) {
				y.high, y.axes = x.val.Type.Shape[0], renamed(y.axes, map[axis]axis{height: width, width: height})
			}
			x = &y
		} else if x.axes[i] == unit && x.form != scalar && !x.image() {
			if x, err = l.oneRow(x); err != nil {
				return nil, err
			}
			x.axes = slices.Clone(x.axes)
			x.axes[i] = position
		}
		if k := x.axes[i]; k == height || k == width {
			if x, err = l.padImage(n, x, i, left, right); err != nil {
				return nil, err
			}
			continue
		}
		if x.axes[i] == channel && i > 1 && !x.image() {
			if x, err = l.swap(x); err != nil {
				return nil, err
			}
		}
		if x.axes[i] != position {
			return nil, refuse("pad along positions only", "axis %d is no axis of positions", i)
		}
		if left < 0 || right < 0 {
			if n.Str("mode", "constant") != "constant" {
				// What the padding repeats, the cut or the uncut sequence, differs between runtimes.
				return nil, refuse("slice first, then pad", "the sequence is cut and padded by its own elements in one step")
			}
			t := x.val.Type.Shape[0]
			cut := ir.Span{Start: max(0, -left), Step: 1}
			cut.Count = t - cut.Start - max(0, -right)
			if x, err = takeSpan(l, x, i, cut); err != nil {
				return nil, err
			}
			left, right = max(0, left), max(0, right)
			if left == 0 && right == 0 {
				continue
			}
			if x.form != sequence {
				return nil, refuse("keep more than one position", "all but one position are cut off and then padded")
			}
		}
		attrs := ir.Attrs{"left": left, "right": right}
		if mode := n.Str("mode", "constant"); mode != "constant" {
			attrs["mode"] = mode
		} else if n.Input(2) != nil {
			value, ok := edit.Scalar(n.Input(2))
			if !ok {
				return nil, refuse("pad with a constant", "the value to pad with is computed")
			}
			if value != 0 {
				attrs["value"] = value
			}
		}
		v, err := l.emit("pad", attrs, x.val)
		if err != nil {
			return nil, err
		}
		x = &view{val: v, form: x.form, axes: x.axes}
	}
	return x, nil
}

// concat joins channels, positions, or (along a unit axis) single channels.
func concat(l *lowering, n *ir.Node) ([]*view, error) {
	ax, err := ir.NormalizeAxis(n.Int("axis", 0), len(n.Out().Type.Shape))
	if err != nil {
		return nil, err
	}
	var in []*view
	for _, v := range n.Inputs {
		x := l.views[v]
		if x == nil {
			return nil, refuse("join computed values only", "a constant is joined to a computed value")
		}
		if x, err = l.numbers(x); err != nil {
			return nil, err
		}
		in = append(in, x)
	}
	if mixed := slices.ContainsFunc(in, func(x *view) bool { return !x.image() }); mixed {
		for i, x := range in {
			if x.image() {
				if in[i], err = l.matrix(x); err != nil {
					return nil, err
				}
			}
		}
	} else {
		x, err := l.concatImages(in, ax)
		return []*view{x}, err
	}
	ops := make([]operand, len(in))
	for i, x := range in {
		ops[i].view = x
	}
	if err := l.align(ops, len(in[0].axes)); err != nil {
		return nil, err
	}
	for i := range in {
		in[i] = ops[i].view
	}
	// Long axes must mean the same in all inputs.
	axes := make([]axis, len(in[0].axes))
	form := vector
	for _, x := range in {
		if x.form == sequence {
			form = sequence
		}
		for i, a := range x.axes {
			if a == unit {
				continue
			}
			if axes[i] != unit && axes[i] != a {
				return nil, refuse("join like with like", "axis %d is positions in one input and channels in another", i)
			}
			axes[i] = a
		}
	}
	kind := axes[ax]
	if kind == unit {
		if slices.Contains(axes, channel) {
			x, err := l.stack(in, ax, axes)
			return []*view{x}, err
		}
		kind = channel
		axes[ax] = channel
	}
	out := &view{form: form, axes: axes}
	vals := make([]*ir.Value, len(in))
	var perm []int
	permuted := false
	for i, x := range in {
		if kind == position && x.form != sequence {
			if x, err = l.oneRow(x); err != nil {
				return nil, err
			}
		}
		if form == vector || x.form != form {
			if x, err = l.vector(x); err != nil {
				return nil, err
			}
			out.form = vector
		}
		off := len(perm)
		for j := range x.channels() {
			if x.perm != nil {
				permuted = true
				perm = append(perm, off+x.perm[j])
			} else {
				perm = append(perm, off+j)
			}
		}
		vals[i] = x.val
	}
	if out.form == vector && form == sequence {
		for i, x := range in { // some were vectors: all must be
			if x, err = l.vector(x); err != nil {
				return nil, err
			}
			vals[i] = x.val
		}
	}
	if permuted {
		out.perm = perm
	}
	if out.val, err = l.emit("concat", ir.Attrs{"axis": out.axisOf(kind)}, vals...); err != nil {
		return nil, err
	}
	return []*view{out}, nil
}

// stack joins vectors to a sequence, or sequences to an image, along a new axis.
func (l *lowering) stack(in []*view, ax int, axes []axis) (*view, error) {
	vals := make([]*ir.Value, len(in))
	rows := 0
	for i, x := range in {
		x, err := l.oneRow(x)
		if err != nil {
			return nil, err
		}
		if vals[i] = x.val; i > 0 && x.val.Type.Shape[0] != rows {
			return nil, refuse("join sequences of one length", "a vector is joined to a sequence along a new axis")
		}
		rows = x.val.Type.Shape[0]
	}
	val, err := l.emit("concat", ir.Attrs{"axis": 0}, vals...)
	y := &view{val: val, form: sequence, axes: slices.Clone(axes)}
	y.axes[ax] = position
	if at := slices.Index(axes, position); at >= 0 {
		y.high, y.axes[ax], y.axes[at] = len(in), height, width
	}
	return y, err
}
