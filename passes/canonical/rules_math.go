package canonical

import (
	"math"
	"slices"

	"nepcoc/ir"
	"nepcoc/ir/acts"
	"nepcoc/passes/internal/edit"
)

// activation makes the rule of a function of one value. Parameters keep their
// names; defaults are ONNX's and are written out, so that the canonical
// operator needs none.
func activation(f *acts.Func) rule {
	return single(func(l *lowering, n *ir.Node, x *view) (*view, error) {
		attrs, value := ir.Attrs{"fn": f.Name}, f.Complete(n.Params(""))
		for _, p := range f.Params {
			attrs[p.Name] = value(p.Name)
		}
		return act(l, x, attrs)
	})
}

func act(l *lowering, x *view, attrs ir.Attrs, slope ...*ir.Value) (*view, error) {
	x, err := l.numbers(x)
	if err != nil {
		return nil, err
	}
	val, err := l.emit("act", attrs, append([]*ir.Value{x.val}, slope...)...)
	if err != nil {
		return nil, err
	}
	y := *x
	y.val = val
	return &y, nil
}

func gelu(l *lowering, n *ir.Node, x *view) (*view, error) {
	fn := "gelu"
	if n.Str("approximate", "none") == "tanh" {
		fn = "gelu_tanh"
	}
	return act(l, x, ir.Attrs{"fn": fn})
}

// keepAct passes on what the recognition of idioms already made.
func keepAct(l *lowering, n *ir.Node, x *view) (*view, error) { return act(l, x, n.Attrs) }

func clip(l *lowering, n *ir.Node, x *view) (*view, error) {
	if x.val.Type.DType != ir.F32 { // a count of valid positions, say
		var err error
		for i, op := range []string{"max", "min"} {
			if bound := n.Input(i + 1); bound != nil && err == nil {
				x, err = l.broadcast(op, operand{v: n.Inputs[0], view: x}, operand{v: bound, view: l.views[bound]})
			}
		}
		return x, err
	}
	attrs := ir.Attrs{"fn": "clip"}
	for i, key := range []string{"min", "max"} {
		if n.Input(i+1) == nil {
			continue
		}
		c, ok := edit.Scalar(n.Input(i + 1))
		if !ok {
			return nil, refuse("clip to constants", "a bound is computed")
		}
		if !math.IsInf(c, 0) {
			attrs[key] = c
		}
	}
	if len(attrs) == 1 {
		return x, nil
	}
	return act(l, x, attrs)
}

func prelu(l *lowering, n *ir.Node, x *view) (*view, error) {
	if n.Inputs[1].Const == nil {
		return nil, refuse("use a constant slope", "the slope is computed")
	}
	slope, err := l.constant(n.Inputs[1], x.axes, x.val.Type.Shape, x.high, x.perm)
	if err == nil && len(slope.Type.Shape) > 1 && !x.image() { // one for each row: of channels, if they were swapped
		if x, err = l.swap(x); err == nil {
			slope, err = l.constant(n.Inputs[1], x.axes, x.val.Type.Shape, x.high, x.perm)
		}
	}
	if err != nil {
		return nil, err
	}
	return act(l, x, ir.Attrs{"fn": "prelu"}, slope)
}

// power writes x^2, its root and 1/x as functions; other powers stay.
func power(l *lowering, n *ir.Node) ([]*view, error) {
	x := l.views[n.Inputs[0]]
	if e, ok := edit.Scalar(n.Inputs[1]); ok && x != nil && x.val.Type.DType == ir.F32 {
		fn := map[float64]string{2: "square", 0.5: "sqrt", -1: "reciprocal"}[e]
		if fn != "" {
			y, err := act(l, x, ir.Attrs{"fn": fn})
			return []*view{y}, err
		}
	}
	return elementwise("pow")(l, n)
}

// neg of integers (masks) has no act.
func neg(l *lowering, n *ir.Node, x *view) (*view, error) {
	if x.val.Type.DType == ir.F32 {
		return act(l, x, ir.Attrs{"fn": "neg"})
	}
	return nil, refuse("cast to float first", "integers are negated")
}

// elementwise makes a rule for an operator that numpy broadcasts. More than
// two operands of add, min and max are chained.
func elementwise(op string) rule {
	return func(l *lowering, n *ir.Node) ([]*view, error) {
		acc := operand{v: n.Inputs[0], view: l.views[n.Inputs[0]]}
		if len(n.Inputs) == 1 {
			return []*view{acc.view}, nil
		}
		for _, v := range n.Inputs[1:] {
			y, err := l.broadcast(op, acc, operand{v: v, view: l.views[v]})
			if err != nil {
				return nil, err
			}
			acc = operand{view: y}
		}
		return []*view{acc.view}, nil
	}
}

// mean is the sum of all operands over their number.
func mean(l *lowering, n *ir.Node) ([]*view, error) {
	sum, err := elementwise("add")(l, n)
	if err != nil || len(n.Inputs) == 1 {
		return sum, err
	}
	part := l.names.Const(n.Out().Name+".part", edit.F32([]float32{1 / float32(len(n.Inputs))}, 1))
	y := *sum[0]
	y.val, err = l.emit("mul", nil, y.val, part)
	return []*view{&y}, err
}

// mask keeps comparison, logic and selection under their ONNX names: they
// belong to mask arithmetic, which the localize pass understands and removes.
func mask(l *lowering, n *ir.Node) ([]*view, error) {
	var in []operand
	for _, v := range n.Inputs {
		in = append(in, operand{v: v, view: l.views[v]})
	}
	y, err := l.broadcast(n.Op, in...)
	return []*view{y}, err
}

// operand is a computed value, or a constant one where view is nil.
type operand struct {
	v    *ir.Value
	view *view
}

// broadcast combines operands element by element. ONNX aligns axes from the
// right; the kinds of aligned axes must agree, or one of them be a unit.
func (l *lowering) broadcast(op string, in ...operand) (*view, error) {
	var err error
	rank := 0
	for i := range in {
		if x := in[i].view; x != nil {
			if in[i].view, err = l.numbers(x); err != nil {
				return nil, err
			}
			rank = max(rank, len(x.axes))
		} else {
			rank = max(rank, len(in[i].v.Type.Shape))
		}
	}
	if !slices.ContainsFunc(in, func(o operand) bool { return o.view != nil }) {
		return nil, refuse("let the exporter fold constants", "all operands are constants, too large to fold")
	}
	for i := range in { // a flattened sequence meets what is not flattened
		x := in[i].view
		mixed := x != nil && x.perm != nil && slices.ContainsFunc(in, func(o operand) bool {
			return o.view != nil && !slices.Equal(o.view.perm, x.perm) && o.view.val.Type.Len() > 1
		})
		if mixed {
			if in[i].view, err = l.inONNXOrder(x); err != nil {
				return nil, err
			}
		}
	}
	out := &view{form: vector, axes: make([]axis, rank)}
	if out.high, err = l.alignImages(in, rank); err == nil {
		err = l.align(in, rank)
	}
	if err != nil {
		return nil, err
	}
	shape := []int{1, 1} // T, C
	for _, o := range in {
		x := o.view
		if x == nil {
			continue
		}
		switch x.form {
		case scalar:
			return nil, refuse("", "arithmetic with a class index")
		case sequence:
			out.form = sequence
			shape[0] = max(shape[0], x.val.Type.Shape[0])
		}
		shape[1] = max(shape[1], x.channels())
		for i, a := range aligned(x.axes, rank) {
			if a == unit {
				continue
			}
			if out.axes[i] != unit && out.axes[i] != a {
				return nil, refuse("transpose one operand", "positions of one operand meet channels of the other")
			}
			out.axes[i] = a
		}
		if x.perm != nil {
			out.perm = x.perm
		}
	}
	if n := count(out.axes, position); n > 1 || count(out.axes, channel) > 1 {
		return nil, refuse(wayAttention, "every position (or channel) is combined with every other")
	}
	// A constant may be longer than what it meets: [T,1] * [C].
	for _, o := range in {
		if o.view != nil {
			continue
		}
		off := rank - len(o.v.Type.Shape)
		for i, d := range o.v.Type.Shape {
			if d == 1 || out.axes[off+i] != unit {
				continue
			}
			if shape[1] != 1 {
				return nil, refuse("", "a constant of shape %v widens an axis of size 1 that is no channel", o.v.Type.Shape)
			}
			out.axes[off+i], shape[1] = channel, d
		}
	}
	if out.form == vector {
		shape = shape[1:]
	}
	vals := make([]*ir.Value, len(in))
	for i, o := range in {
		if o.view != nil {
			vals[i] = o.view.val
			continue
		}
		if vals[i], err = l.constant(o.v, out.axes, shape, out.high, out.perm); err != nil {
			return nil, err
		}
	}
	out.val, err = l.emit(op, nil, vals...)
	return out, err
}

// alignImages brings operands to the axes of the first image among them, and gives its height.
func (l *lowering) alignImages(in []operand, rank int) (int, error) {
	at := slices.IndexFunc(in, func(o operand) bool { return o.view != nil && o.view.image() })
	if at < 0 {
		return 0, nil
	}
	first := in[at].view
	kinds := aligned(first.axes, rank)
	for i := range in {
		x := in[i].view
		if x == nil || x == first {
			continue
		}
		var err error
		own := aligned(x.axes, rank)
		met := func(kind axis) axis { // what the axis of that kind is in the image
			if k := slices.Index(own, kind); k >= 0 {
				return kinds[k]
			}
			return unit
		}
		switch {
		case x.image():
			order := [3]axis{unit, unit, channel}
			for k, kind := range kinds {
				if kind != unit && own[k] != unit {
					order[slices.Index([]axis{height, width, channel}, kind)] = own[k]
				}
			}
			if order[0] == unit || order[1] == unit {
				return 0, refuse("transpose one operand", "two images meet on other axes")
			}
			x, err = l.arrange(x, order)
		case !x.both() && (met(channel) == height || met(channel) == width), x.form == sequence && met(position) == channel:
			if x, err = l.swap(x); err != nil {
				return 0, err
			}
			own = aligned(x.axes, rank)
			fallthrough
		default:
			switch p, c := met(position), met(channel); {
			case p == height && c == width, p == width && c == height:
				x, err = l.raster(x)
			case p == height || p == width:
				y := &view{form: sequence, high: first.high, axes: renamed(x.axes, map[axis]axis{position: p})}
				y.val, err = l.asOuter(x, p, first.high, first.width())
				x = y
			}
		}
		if err != nil {
			return 0, err
		}
		in[i].view = x
	}
	return first.high, nil
}

// align swaps operands so that positions meet positions: one for which that is free, else one that has
// both axes. What has one axis only may be a mask, which stays as it is.
func (l *lowering) align(in []operand, rank int) error {
	conflict := func(a, b *view) bool {
		for i, k := range aligned(a.axes, rank) {
			if m := aligned(b.axes, rank)[i]; k != unit && m != unit && k != m {
				return true
			}
		}
		return false
	}
	for i := range in {
		for j := range i {
			a, b := in[j].view, in[i].view
			if a == nil || b == nil || !conflict(a, b) {
				continue
			}
			to := i
			if swapped(a) && !swapped(b) || a.both() && !b.both() {
				to = j
			}
			y, err := l.swap(in[to].view)
			if err != nil {
				return err
			}
			in[to].view = y
		}
	}
	return nil
}

func count(axes []axis, kind axis) (n int) {
	for _, a := range axes {
		if a == kind {
			n++
		}
	}
	return n
}

// constant turns an ONNX constant into the canonical shape for an operand with
// the given axes: [1], [C], [T,1] or [T,C]; high is the height of an image.
func (l *lowering) constant(v *ir.Value, axes []axis, shape []int, high int, perm []int) (*ir.Value, error) {
	t, c := 1, shape[len(shape)-1]
	if len(shape) == 2 {
		t = shape[0]
	}
	dims := v.Type.Shape
	off := len(axes) - len(dims)
	if off < 0 {
		return nil, refuse("", "the constant %s has more axes than its operand", v.Type)
	}
	w, strideH, strideT, strideC, stride := 1, 0, 0, 0, 1
	if high > 0 {
		w = t / high // else rows are their own height
	}
	for i := len(dims) - 1; i >= 0; i-- {
		if dims[i] != 1 {
			switch axes[off+i] {
			case position, height:
				strideH = stride
			case width:
				strideT = stride
			case channel:
				strideC = stride
			default:
				return nil, refuse("", "the constant %s doesn't fit its operand", v.Type)
			}
		}
		stride *= dims[i]
	}
	rowwise := strideT != 0 || strideH != 0
	var to []int
	switch {
	case !rowwise && strideC == 0:
		to, t, c = []int{1}, 1, 1
	case !rowwise:
		to, t = []int{c}, 1
	case strideC == 0:
		to, c = []int{t, 1}, 1
	default:
		to = []int{t, c}
	}
	index := make([]int, t*c)
	for i := range index {
		src := i/c/w*strideH + i/c%w*strideT + i%c*strideC
		if perm != nil && strideC != 0 {
			index[perm[i]] = src // perm: canonical place of each ONNX index
			continue
		}
		index[i] = src
	}
	if v.Type.Len() == 0 {
		return nil, refuse("", "the constant %s is empty", v.Type)
	}
	c0 := pick(v.Const, index, to)
	if d, ok := c0.Data.([]float32); ok && rowwise && strideC != 0 && repeats(d, c) { // a weight that was expanded
		c0 = edit.F32(d[:c:c], c)
	}
	return l.weight(v.Name, c0), nil
}

// repeats says that d is its first n elements again and again.
func repeats(d []float32, n int) bool {
	for i := n; i < len(d); i++ {
		if d[i] != d[i-n] {
			return false
		}
	}
	return true
}

// pick makes a tensor of shape from elements of t.
func pick(t *ir.Tensor, index, shape []int) *ir.Tensor {
	out := &ir.Tensor{Type: ir.Type{DType: t.DType, Shape: shape}}
	switch d := t.Data.(type) {
	case []float32:
		out.Data = pickFrom(d, index)
	case []float64:
		out.Data = pickFrom(d, index)
	case []int64:
		out.Data = pickFrom(d, index)
	case []int32:
		out.Data = pickFrom(d, index)
	case []int16:
		out.Data = pickFrom(d, index)
	case []int8:
		out.Data = pickFrom(d, index)
	case []uint8:
		out.Data = pickFrom(d, index)
	case []uint16:
		out.Data = pickFrom(d, index)
	case []bool:
		out.Data = pickFrom(d, index)
	default:
		panic("BUG: tensor of unknown element type " + t.DType.String())
	}
	return out
}

func pickFrom[E any](d []E, index []int) []E {
	out := make([]E, len(index))
	for i, j := range index {
		out[i] = d[j]
	}
	return out
}
