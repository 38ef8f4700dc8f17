package canonical

import (
	"slices"

	"nepcoc/ir"
	"nepcoc/passes/internal/edit"
)

// A sequence may be an image: its positions are those of a raster, row by row, such as the bytes of a
// flow's packets. In ONNX terms its positions are two axes, height and width. Windows over both are gathered
// one after another (gather), and what reads them is a convolution or pooling that moves on by a whole window.

// image says that x is one.
func (x *view) image() bool { return slices.Contains(x.axes, height) }

// width of an image, in positions.
func (x *view) width() int { return x.val.Type.Shape[0] / x.high }

// imageOps are the operators whose rules take images as they are. Others get the matrix [height, width] of an image of one
// channel, or refuse it.
var imageOps = map[string]bool{
	"Transpose": true, "Reshape": true, "Flatten": true, "Squeeze": true, "Unsqueeze": true, "Expand": true, "PRelu": true, "Cast": true, "act": true, "Clip": true, "Gelu": true, "Neg": true,
	"Add": true, "Sub": true, "Mul": true, "Div": true, "Min": true, "Max": true, "Sum": true, "Mean": true, "Pow": true,
	"Conv": true, "MaxPool": true, "AveragePool": true, "GlobalMaxPool": true, "GlobalAveragePool": true,
	"ReduceMax": true, "ReduceMean": true, "ReduceSum": true, "ReduceMin": true, "ReduceL2": true,
	"BatchNormalization": true, "InstanceNormalization": true, "GroupNormalization": true, "LayerNormalization": true, "layer_norm": true,
	"MatMul": true, "Gather": true, "Slice": true, "Split": true, "Concat": true, "Pad": true,
}

const wayImage = "flatten the two axes before it, or reduce one of them"

// matrix is an image of one channel as a sequence of its rows, whose channels are the columns: nothing moves.
func (l *lowering) matrix(x *view) (*view, error) {
	x, err := l.numbers(x)
	if err != nil {
		return nil, err
	}
	if slices.Contains(x.axes, channel) {
		return nil, refuse(wayImage, "takes a sequence, no image of several channels")
	}
	val, err := l.emit("regroup", ir.Attrs{"rows": x.high}, x.val)
	return &view{val: val, form: sequence, axes: renamed(x.axes, map[axis]axis{height: position, width: channel})}, err
}

// raster is a matrix, positions by channels, as an image of one channel.
func (l *lowering) raster(x *view) (*view, error) {
	var err error
	if slices.Index(x.axes, channel) < slices.Index(x.axes, position) {
		if x, err = l.swap(x); err != nil {
			return nil, err
		}
	}
	rows := x.val.Type.Shape[0]
	val, err := l.emit("regroup", ir.Attrs{"rows": x.val.Type.Len()}, x.val)
	return &view{val: val, form: sequence, high: rows, axes: renamed(x.axes, map[axis]axis{position: height, channel: width})}, err
}

// renamed is axes with other names.
func renamed(axes []axis, to map[axis]axis) []axis {
	out := slices.Clone(axes)
	for i, a := range out {
		if b, ok := to[a]; ok {
			out[i] = b
		}
	}
	return out
}

// arrange moves the elements of an image so that the axes that are height, width and channel become those of order:
// order[0] becomes the height.
func (l *lowering) arrange(x *view, order [3]axis) (*view, error) {
	x, err := l.numbers(x)
	if err != nil {
		return nil, err
	}
	now := [3]axis{height, width, channel}
	sizes := map[axis]int{height: x.high, width: x.width(), channel: x.channels()}
	val := x.val
	rows := func(n int) error {
		val, err = l.emit("regroup", ir.Attrs{"rows": n}, val)
		return err
	}
	turn := func() error { // the channel becomes the height
		if val, err = l.emit("transpose", nil, val); err != nil {
			return err
		}
		now = [3]axis{now[2], now[0], now[1]}
		return rows(sizes[now[0]] * sizes[now[1]])
	}
	back := func() error { // the height becomes the channel
		if err := rows(sizes[now[0]]); err != nil {
			return err
		}
		val, err = l.emit("transpose", nil, val)
		now = [3]axis{now[1], now[2], now[0]}
		return err
	}
	switch order[2] {
	case width:
		err = turn()
	case height:
		err = back()
	}
	if err != nil {
		return nil, err
	}
	if now != order { // the first two are exchanged
		h, w := sizes[now[0]], sizes[now[1]]
		index := make([]int64, h*w)
		for i := range index {
			index[i] = int64(i%h*w + i/h)
		}
		if val, err = l.rowsAt(val, index); err != nil {
			return nil, err
		}
	}
	y := &view{val: val, form: sequence, high: sizes[order[0]],
		axes: renamed(x.axes, map[axis]axis{order[0]: height, order[1]: width, order[2]: channel})}
	if !slices.Contains(y.axes, height) || !slices.Contains(y.axes, width) { // of size 1: a sequence
		y.high, y.axes = 0, renamed(y.axes, map[axis]axis{height: position, width: position})
	}
	return y, nil
}

// rowsAt takes rows in any order.
func (l *lowering) rowsAt(x *ir.Value, index []int64) (*ir.Value, error) {
	same := len(index) == x.Type.Shape[0]
	for i, p := range index {
		same = same && int64(i) == p
	}
	if same {
		return x, nil
	}
	return l.emit("gather", nil, x, l.names.Const(l.node.Outputs[0].Name+".index", ir.Int64s(index, len(index))))
}

// asChannel makes an axis of an image its channel.
func (l *lowering) asChannel(x *view, a axis) (*view, error) {
	switch a {
	case width:
		return l.arrange(x, [3]axis{height, channel, width})
	case height:
		return l.arrange(x, [3]axis{width, channel, height})
	}
	return x, nil
}

// upImage is x [N, C, H, W] as an image with its channels on axis 1; height or width may be 1.
func (l *lowering) upImage(x *view) (*view, error) {
	if len(x.axes) != 4 || x.axes[0] != unit {
		return nil, refuse("transpose to [batch, channels, height, width]", "the axes are not those of an image")
	}
	var err error
	if !x.image() {
		switch {
		case x.axes[1] == unit && x.both():
			return l.raster(x)
		case x.axes[1] == position || x.axes[1] == unit && slices.Contains(x.axes, channel):
			return l.swap(x)
		}
		return l.oneRow(x)
	}
	if k := x.axes[1]; k == height || k == width {
		if x, err = l.asChannel(x, k); err != nil {
			return nil, err
		}
	}
	if x.axes[2] == width && x.axes[3] == height {
		return l.arrange(x, [3]axis{width, height, channel})
	}
	return x, nil
}

// planar says that a window of x [N, C, ...] is one over two axes.
func planar(x *view, w *ir.Window) bool {
	if len(x.axes) != 4 {
		return false
	}
	if x.image() || x.axes[2] == channel || x.axes[3] == channel || x.axes[2] != unit && x.axes[3] != unit {
		return true
	}
	along := 0
	for i, k := range w.Kernel {
		if k > 1 && (w.Out[i] > 1 || w.In[i] > 1) {
			along++
		}
		if w.In[i] == 1 && w.Out[i] > 1 {
			along++
		}
	}
	return along > 1
}

// windows gathers the windows of an image [H*W,C], one after another, row by row; outside is -1.
func windows(x *view, w *ir.Window) []int64 {
	var index []int64
	for y := range w.Out[0] {
		for z := range w.Out[1] {
			for i := range w.Kernel[0] {
				for j := range w.Kernel[1] {
					r, c := y*w.Stride[0]-w.Before[0]+i*w.Dilation[0], z*w.Stride[1]-w.Before[1]+j*w.Dilation[1]
					at := int64(-1)
					if r >= 0 && r < w.In[0] && c >= 0 && c < w.In[1] {
						at = int64(r*w.In[1] + c)
					}
					index = append(index, at)
				}
			}
		}
	}
	return index
}

// wideOut names the axes of a result [N, C, out...] in place of those of x.
func (x *view) wideOut(val *ir.Value, channels int, w *ir.Window) *view {
	y := &view{val: val, form: sequence, axes: []axis{unit, unit, unit, unit}}
	if channels != 1 {
		y.axes[1] = channel
	}
	switch {
	case w.Out[0] != 1 && w.Out[1] != 1:
		y.axes[2], y.axes[3], y.high = height, width, w.Out[0]
	case w.Out[0] != 1:
		y.axes[2] = position
	case w.Out[1] != 1:
		y.axes[3] = position
	}
	return y
}

// convImage is a Conv with windows over height and width.
func (l *lowering) convImage(n *ir.Node, x *view, weight, bias []float32, w *ir.Window) (*view, error) {
	x, err := l.upImage(x)
	if err != nil {
		return nil, err
	}
	shape := n.Inputs[1].Type.Shape
	o, in, k := shape[0], shape[1], shape[2]*shape[3]
	rows, err := l.rowsAt(x.val, windows(x, w))
	if err != nil {
		return nil, err
	}
	wt := make([]float32, len(weight))
	for i := range wt { // [o,in,k] to [o,k,in]
		wt[i] = weight[(i/(k*in)*in+i%in)*k+i/in%k]
	}
	gathered := &view{val: rows, form: sequence}
	val, err := l.convolve(gathered, n.Inputs[1].Name, convolution{weight: wt, bias: bias, o: o, k: k, in: in, groups: n.Int("group", 1),
		stride: k, dilation: 1, length: w.Out[0] * w.Out[1]})
	return x.wideOut(val, o, w), err
}

// poolImage pools windows over height and width.
func (l *lowering) poolImage(n *ir.Node, x *view, kind string, w *ir.Window) (*view, error) {
	x, err := l.upImage(x)
	if err != nil {
		return nil, err
	}
	index, k := windows(x, w), w.Kernel[0]*w.Kernel[1]
	counts, padded := make([]float32, len(index)/k), false
	for i := range counts {
		win := index[i*k : (i+1)*k]
		inside := slices.IndexFunc(win, func(p int64) bool { return p >= 0 })
		if inside < 0 {
			return nil, refuse("use less padding than the window's size", "a window lies wholly in the padding")
		}
		first := win[inside]
		for j, p := range win {
			if p >= 0 {
				counts[i]++
				continue
			}
			padded = true
			if kind == "max" { // one that is in the window anyway
				win[j] = first
			}
		}
		counts[i] = float32(k) / counts[i]
	}
	if padded && kind == "mean" && n.Int("count_include_pad", 0) != 0 && n.Int("ceil_mode", 0) != 0 {
		return nil, refuse("use ceil_mode=0", "ceil_mode and count_include_pad together")
	}
	val, err := l.rowsAt(x.val, index)
	if err == nil && k > 1 {
		val, err = l.emit("window_pool", ir.Attrs{"kind": kind, "k": k, "stride": k}, val)
	}
	if err == nil && padded && kind == "mean" && n.Int("count_include_pad", 0) == 0 { // zeros were counted
		val, err = l.emit("mul", nil, val, l.names.Const(n.Out().Name+".counts", edit.F32(counts, len(counts), 1)))
	}
	return x.wideOut(val, x.channels(), w), err
}

// reduceImage reduces height, width or both of an image.
func (l *lowering) reduceImage(x *view, kind string, reduced []int, keep bool) (*view, error) {
	h, w := slices.Index(x.axes, height), slices.Index(x.axes, width)
	overH, overW := slices.Contains(reduced, h), slices.Contains(reduced, w)
	var err error
	if overH && overW { // like any sequence
		return l.reduce(&view{val: x.val, form: x.form, axes: renamed(x.axes, map[axis]axis{height: position, width: position})}, kind, reduced, keep)
	}
	if overH || overW {
		if overH {
			if x, err = l.arrange(x, [3]axis{width, height, channel}); err != nil {
				return nil, err
			}
		}
		k := x.width()
		val, err := l.emit("window_pool", ir.Attrs{"kind": map[string]string{"max": "max", "mean": "mean", "sum": "mean"}[kind], "k": k, "stride": k}, x.val)
		if err == nil && kind == "sum" {
			val, err = l.emit("mul", nil, val, l.names.Const(l.node.Outputs[0].Name+".count", edit.F32([]float32{float32(k)}, 1)))
		}
		if err != nil {
			return nil, err
		}
		x = &view{val: val, form: sequence, axes: renamed(x.axes, map[axis]axis{height: position, width: unit})}
		rest := slices.DeleteFunc(slices.Clone(reduced), func(i int) bool { return i == h || i == w })
		if c := slices.Index(x.axes, channel); c >= 0 && slices.Contains(rest, c) {
			return l.reduce(x, kind, reduced, keep)
		}
	} else if c := slices.Index(x.axes, channel); c >= 0 && slices.Contains(reduced, c) {
		if kind == "max" {
			if x, err = l.arrange(x, [3]axis{height, channel, width}); err != nil {
				return nil, err
			}
			return l.reduce(x, kind, reduced, keep)
		}
		high := x.high
		if x, err = l.reduceChannels(x, kind, c); err != nil {
			return nil, err
		}
		x.high = high
	}
	y := *x
	y.axes = nil
	for i, a := range x.axes {
		if !slices.Contains(reduced, i) {
			y.axes = append(y.axes, a)
		} else if keep {
			y.axes = append(y.axes, unit)
		}
	}
	return &y, nil
}

// takeImage takes rows or columns of an image.
func (l *lowering) takeImage(x *view, ax int, idx []int) (*view, error) {
	x, err := l.numbers(x)
	if err != nil {
		return nil, err
	}
	if x.val.Type.DType != ir.F32 {
		return nil, refuse("take parts of numbers, after the embedding", "part of an image of integers is taken")
	}
	rows, cols := all(x.high), all(x.width())
	if x.axes[ax] == height {
		rows = idx
	} else {
		cols = idx
	}
	var index []int64
	for _, r := range rows {
		for _, c := range cols {
			index = append(index, int64(r*x.width()+c))
		}
	}
	val, err := l.rowsAt(x.val, index)
	y := &view{val: val, form: sequence, high: len(rows), axes: slices.Clone(x.axes)}
	if len(idx) == 1 {
		y.axes[ax], y.high = unit, 0
		y.axes = renamed(y.axes, map[axis]axis{height: position, width: position})
	}
	return y, err
}

func all(n int) []int {
	idx := make([]int, n)
	for i := range idx {
		idx[i] = i
	}
	return idx
}

// padImage extends an image along one of its axes, with zeros or its own elements.
func (l *lowering) padImage(n *ir.Node, x *view, ax, left, right int) (*view, error) {
	mode := n.Str("mode", "constant")
	if v := n.Input(2); mode == "constant" && v != nil {
		if value, ok := edit.Scalar(v); !ok || value != 0 {
			return nil, refuse("pad images with zeros", "an image is padded with something else than zeros")
		}
	}
	size := x.high
	if x.axes[ax] == width {
		size = x.width()
	}
	at := func(p int) int {
		if p >= 0 && p < size {
			return p
		}
		switch mode {
		case "edge":
			return min(max(p, 0), size-1)
		case "wrap":
			return (p%size + size) % size
		case "reflect":
			if p < 0 {
				return -p
			}
			return 2*(size-1) - p
		}
		return -1
	}
	if mode == "reflect" && max(left, right) >= size {
		return nil, refuse("pad by less than the size", "the padding reflects more than there is")
	}
	w, h := x.width(), x.high
	var index []int64
	put := func(r, c int) {
		if r < 0 || c < 0 {
			index = append(index, -1)
		} else {
			index = append(index, int64(r*w+c))
		}
	}
	if x.axes[ax] == height {
		for r := -left; r < h+right; r++ {
			for c := range w {
				put(at(r), c)
			}
		}
		h += left + right
	} else {
		for r := range h {
			for c := -left; c < w+right; c++ {
				put(r, at(c))
			}
		}
	}
	val, err := l.rowsAt(x.val, index)
	return &view{val: val, form: sequence, high: h, axes: x.axes}, err
}

// asOuter is an operand that has the height or the width of an image only, repeated along the other.
func (l *lowering) asOuter(x *view, kind axis, h, w int) (*ir.Value, error) {
	index := make([]int64, h*w)
	for i := range index {
		if index[i] = int64(i / w); kind == width {
			index[i] = int64(i % w)
		}
	}
	return l.rowsAt(x.val, index)
}

// reshapeImage splits positions or channels in two, merges two axes of an image, or makes other axes of
// them. ok is false where no more than two axes are long on either side.
func (l *lowering) reshapeImage(x *view, from, to []int) (y *view, ok bool, err error) {
	long, a, b := longAxes(x.axes), longDims(from), longDims(to)
	if len(b) > 1 && x.form == sequence && slices.Equal(long, []axis{channel}) {
		if x, err = l.swap(x); err != nil {
			return nil, true, err
		}
		long = longAxes(x.axes)
	}
	switch {
	case len(long) > 3 || len(b) > 3:
		return nil, true, refuse("work on three axes at most", "%v to %v has more than three axes besides batch", from, to)
	case len(long) == 1 && len(b) == 2 && long[0] == position:
		return &view{val: x.val, form: x.form, seq: x.seq, high: b[0], axes: label(to, []axis{height, width})}, true, nil
	case len(long) == 1 && len(b) == 2 && x.form == vector:
		if x, err = l.inONNXOrder(x); err != nil {
			return nil, true, err
		}
		val, err := l.emit("regroup", ir.Attrs{"rows": b[0]}, x.val)
		return &view{val: val, form: sequence, axes: label(to, []axis{position, channel})}, true, err
	case len(long) < 3 && !x.image() && len(b) < 3:
		return nil, false, nil
	case x.form == vector:
		if x, err = l.inONNXOrder(x); err != nil {
			return nil, true, err
		}
		val, err := l.emit("regroup", ir.Attrs{"rows": b[0] * b[1]}, x.val)
		return &view{val: val, form: sequence, high: b[0], axes: label(to, []axis{height, width, channel})}, true, err
	}
	if x.form == ids {
		if len(b) == 1 { // merged again
			return &view{val: x.val, form: ids, seq: x.seq, axes: label(to, []axis{position})}, true, nil
		}
		if x, err = l.numbers(x); err != nil {
			return nil, true, err
		}
	}
	// An axis that splits in two where it lies.
	if len(long) == 2 && len(b) == 3 && !x.image() {
		for i, kind := range long {
			if b[i]*b[i+1] != a[i] || !slices.Equal(slices.Delete(slices.Clone(b), i, i+2), slices.Delete(slices.Clone(a), i, i+1)) {
				continue
			}
			names := []axis{height, width}
			y := &view{val: x.val, form: sequence, high: b[i]}
			if kind == channel { // [T, C1*C2] to [T*C1, C2]
				names = []axis{width, channel}
				rows := x.val.Type.Shape[0]
				y.high = rows
				if y.val, err = l.emit("regroup", ir.Attrs{"rows": rows * b[i]}, x.val); err != nil {
					return nil, true, err
				}
				long = renamed(long, map[axis]axis{position: height})
			}
			y.axes = label(to, slices.Replace(slices.Clone(long), i, i+1, names...))
			return y, true, nil
		}
	}
	// Two axes that merge where they lie.
	if len(long) == 3 && len(b) == 2 {
		for i := range 2 {
			if a[i]*a[i+1] != b[i] || b[1-i] != a[2-2*i] {
				continue
			}
			switch {
			case long[i] == height && long[i+1] == width:
				merged := slices.Replace(slices.Clone(long), i, i+2, position)
				return &view{val: x.val, form: x.form, axes: label(to, merged)}, true, nil
			case long[i] == width && long[i+1] == channel:
				val, err := l.emit("regroup", ir.Attrs{"rows": x.high}, x.val)
				merged := renamed(slices.Replace(slices.Clone(long), i, i+2, channel), map[axis]axis{height: position})
				return &view{val: val, form: sequence, axes: label(to, merged)}, true, err
			}
		}
	}
	if len(b) == 1 { // all of it: a vector, in the order of the image
		val, err := l.emit("flatten", nil, x.val)
		y := &view{val: val, form: vector, axes: label(to, []axis{channel})}
		if !slices.IsSorted(long) {
			y.perm = x.order(long, a)
		}
		return y, true, err
	}
	// Anything else: in the order of the elements first.
	if x, err = l.inOrder(x, long); err != nil {
		return nil, true, err
	}
	rows := b[0]
	names := []axis{position, channel}
	if len(b) == 3 {
		rows, names = b[0]*b[1], []axis{height, width, channel}
	}
	val, err := l.emit("regroup", ir.Attrs{"rows": rows}, x.val)
	y = &view{val: val, form: sequence, axes: label(to, names)}
	if len(b) == 3 {
		y.high = b[0]
	}
	return y, true, err
}

// order says where each element, in the order of ONNX axes of the given kinds and sizes, lies in the canonical value.
func (x *view) order(kinds []axis, dims []int) []int {
	c, w := x.channels(), x.width()
	stride := map[axis]int{height: w * c, width: c, channel: 1, position: c}
	perm := make([]int, ir.NumElements(dims))
	for i := range perm {
		at, rest := 0, i
		for k := len(dims) - 1; k >= 0; k-- {
			at += rest % dims[k] * stride[kinds[k]]
			rest /= dims[k]
		}
		perm[i] = at
	}
	return perm
}

// inOrder moves the elements so that they lie in the order of the long axes.
func (l *lowering) inOrder(x *view, long []axis) (*view, error) {
	if !x.image() {
		if len(long) == 2 && long[0] == channel {
			return l.swap(x)
		}
		return x, nil
	}
	order := [3]axis{height, width, channel}
	copy(order[:], long)
	if len(long) == 2 { // no channel
		if long[0] == height {
			return x, nil
		}
		order[2] = channel
	}
	return l.arrange(x, order)
}

// concatImages joins images along an axis of the first.
func (l *lowering) concatImages(in []*view, ax int) (*view, error) {
	at := slices.IndexFunc(in, func(x *view) bool { return slices.Equal(longAxes(x.axes), longAxes(in[0].axes)) && x.image() })
	if at != 0 {
		return nil, refuse("join images of the same axes", "an image is joined to something else")
	}
	first := in[0].axes
	ops := make([]operand, len(in))
	for i, x := range in {
		if !x.image() {
			return nil, refuse("join images of the same axes", "an image is joined to something else")
		}
		ops[i].view = x
	}
	if _, err := l.alignImages(ops, len(first)); err != nil {
		return nil, err
	}
	kind, axes := first[ax], first
	if kind == width {
		for i := range ops {
			var err error
			if ops[i].view, err = l.arrange(ops[i].view, [3]axis{width, height, channel}); err != nil {
				return nil, err
			}
		}
		kind, axes = height, ops[0].view.axes
	}
	if kind == unit {
		if slices.Contains(first, channel) {
			return nil, refuse("join along channels, height or width", "whole images are stacked along a new axis")
		}
		kind, axes = channel, slices.Clone(axes)
		axes[ax] = channel
	}
	y := &view{form: sequence, axes: axes, high: ops[0].view.high}
	vals, canonical := make([]*ir.Value, len(ops)), 1
	if kind == height {
		canonical, y.high = 0, 0
	}
	for i, o := range ops {
		vals[i] = o.view.val
		if kind == height {
			y.high += o.view.high
		}
	}
	var err error
	y.val, err = l.emit("concat", ir.Attrs{"axis": canonical}, vals...)
	return y, err
}
