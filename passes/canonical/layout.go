package canonical

import (
	"fmt"
	"slices"

	"nepcoc/ir"
	"nepcoc/passes/internal/edit"
)

// The layout step walks the graph once, forward. For every ONNX value it keeps
// a canonical value, which is a sequence [T,C] or a vector [C], and what each
// ONNX axis is in it. Operators that only rename axes (Transpose, Unsqueeze,
// Reshape of unit dimensions ...) thus cost nothing: they change the second
// part and make no node.

// axis says what an ONNX axis is in the canonical value.
type axis byte

const (
	unit     axis = iota // size 1: batch, or a position or channel that is the only one
	position             // axis 0 of a sequence
	height               // of an image: axis 0 is height times width
	width
	channel // the last axis
)

// form is the shape of a canonical value.
type form byte

const (
	sequence form = iota // [T,C]
	ids                  // [T], integers
	vector               // [C]
	scalar               // []
)

// view is an ONNX value in terms of a canonical one.
type view struct {
	val  *ir.Value
	form form
	axes []axis // per ONNX axis; an axis is a unit exactly if its size is 1
	// perm, of a vector that was flattened from [C,T], is the canonical
	// (time-major) index of each ONNX index; nil is the identity. The
	// consumer's weights absorb it.
	perm []int
	high int // height of an image
	// seq is the [T,1] form of ids, once somebody needed it.
	seq *ir.Value
}

// refusal is a reason not to take a node.
type refusal struct{ reason, way string }

func (r *refusal) Error() string { return r.reason }

func refuse(way, format string, args ...any) error {
	return &refusal{fmt.Sprintf(format, args...), way}
}

type lowering struct {
	out      *ir.Graph
	names    edit.Names
	uses     map[*ir.Value][]*ir.Node
	views    map[*ir.Value]*view
	failed   map[*ir.Value]bool // no view because of a problem already told
	problems ir.Problems
	node     *ir.Node // being lowered
	// ranges are those that the model's own quantisation gives values, by name.
	ranges map[string][2]float64
}

// rule lowers one node to views of its outputs.
type rule func(l *lowering, n *ir.Node) ([]*view, error)

// single adapts a rule for nodes with one output and a first input that is no constant.
func single(f func(l *lowering, n *ir.Node, x *view) (*view, error)) rule {
	return func(l *lowering, n *ir.Node) ([]*view, error) {
		if len(n.Outputs) > 1 {
			return nil, refuse("export without the additional outputs", "only the first output can be computed")
		}
		x := l.views[n.Inputs[0]]
		if x == nil {
			return nil, refuse("let the exporter fold constants", "the data is a constant too large to fold")
		}
		v, err := f(l, n, x)
		if err != nil {
			return nil, err
		}
		return []*view{v}, nil
	}
}

// toCanonical converts a graph of ONNX operators to canonical ones. With problems, it returns what could be
// converted: its outputs are the values that nothing reads.
func toCanonical(g *ir.Graph) (out *ir.Graph, ranges map[string][2]float64, _ ir.Problems) {
	l := &lowering{
		out:    &ir.Graph{Name: g.Name, OutputNames: g.OutputNames},
		names:  edit.Names{},
		uses:   g.Consumers(),
		views:  make(map[*ir.Value]*view),
		failed: make(map[*ir.Value]bool),
	}
	sides := SideInputs(g)
	for _, v := range g.Inputs {
		if sides[v] {
			l.side(v)
		} else {
			l.input(v)
		}
	}
	for _, n := range g.Nodes {
		l.lower(n)
	}
	for i, v := range g.Outputs {
		l.output(v, g.OutputNames[i])
	}
	if len(l.problems) > 0 {
		l.out.Outputs, l.out.OutputNames = nil, nil
		uses := l.out.Consumers()
		for _, n := range l.out.Nodes {
			if v := n.Out(); len(uses[v]) == 0 {
				l.out.Outputs, l.out.OutputNames = append(l.out.Outputs, v), append(l.out.OutputNames, v.Name)
			}
		}
		return l.out, nil, l.problems
	}
	l.out.Sweep()
	return l.out, l.ranges, nil
}

func (l *lowering) lower(n *ir.Node) {
	for _, v := range n.Inputs {
		if v != nil && l.failed[v] && rules[n.Op] != nil { // without a rule it is refused whatever it reads
			for _, o := range n.Outputs {
				l.failed[o] = true
			}
			return
		}
	}
	l.node = n
	views, err := l.apply(n)
	if err != nil {
		p := ir.ProblemOf(n, err.Error(), "")
		if r, ok := err.(*refusal); ok {
			p.Way = r.way
			if r.way == wayAttention {
				p.Kind = "attention"
			}
		}
		l.problems = append(l.problems, p)
		for _, o := range n.Outputs {
			l.failed[o] = true
		}
		return
	}
	for i, o := range n.Outputs {
		l.views[o] = views[i]
	}
}

// apply lowers n by its rule. A rule that knows no images gets their matrices.
func (l *lowering) apply(n *ir.Node) ([]*view, error) {
	r := rules[n.Op]
	if r == nil {
		return nil, noRule(n.Op)
	}
	if err := hasElements(n); err != nil {
		return nil, err
	}
	if !imageOps[n.Op] {
		for _, v := range n.Inputs {
			x := l.views[v]
			if v == nil || x == nil || !x.image() {
				continue
			}
			m, err := l.matrix(x)
			if err != nil {
				return nil, err
			}
			l.views[v] = m
			defer func() { l.views[v] = x }()
		}
	}
	return r(l, n)
}

// hasElements refuses results without elements: there is no such sequence.
func hasElements(n *ir.Node) error {
	for _, o := range n.Outputs {
		if o.Type.Len() == 0 {
			return refuse("check the bounds of slices and splits", "the result %s has no elements", o.Type)
		}
	}
	return nil
}

// input decides what a model input is: integers [T], or numbers [T,1]. Two axes that are no units are
// the height and width of an image.
func (l *lowering) input(v *ir.Value) {
	big := 0
	for _, d := range v.Type.Shape {
		if d != 1 {
			big++
		}
	}
	integer := v.Type.DType != ir.F32
	if big > 2 {
		l.problems = append(l.problems, ir.Problem{Node: v.Name, Op: "input", Types: []ir.Type{v.Type},
			Reason: "an input is one sequence or one image: at most two axes besides batch may be longer than 1",
			Way:    "export the model for one flow as [batch, length]"})
		l.failed[v] = true
		return
	}
	w := &view{axes: label(v.Type.Shape, []axis{position})}
	if big == 2 {
		w.axes, w.high = label(v.Type.Shape, []axis{height, width}), longDims(v.Type.Shape)[0]
	}
	shape := []int{v.Type.Len(), 1}
	if integer {
		w.form, shape = ids, shape[:1]
	}
	w.val = &ir.Value{Name: l.names.Fresh(v.Name), Type: ir.Type{DType: v.Type.DType, Shape: shape}}
	l.out.Inputs = append(l.out.Inputs, w.val)
	l.views[v] = w
}

// output makes the graph's output a vector.
func (l *lowering) output(v *ir.Value, name string) {
	if l.failed[v] {
		return
	}
	problem := func(reason, way string) {
		l.problems = append(l.problems, ir.Problem{Node: name, Op: "output", Types: []ir.Type{v.Type}, Reason: reason, Way: way})
	}
	w := l.views[v]
	if w == nil {
		problem("the output is constant", "drop it from the model's outputs")
		return
	}
	l.node = &ir.Node{Op: "output", Origin: name, Outputs: []*ir.Value{v}}
	if w.form != scalar {
		x, err := l.vector(w)
		switch {
		case err != nil:
			problem("the model gives one result per position, not one per flow", "reduce over positions before the output")
			return
		case x.perm != nil:
			problem("the output is a flattened sequence", "end the model in a Linear layer")
			return
		}
		w = x
	}
	l.out.Outputs = append(l.out.Outputs, w.val)
}

// emit adds a node to the canonical graph.
func (l *lowering) emit(op string, attrs ir.Attrs, inputs ...*ir.Value) (*ir.Value, error) {
	name := l.node.Outputs[0].Name
	n, err := l.names.New(op, l.node.Origin, name, attrs, inputs...)
	if err != nil {
		return nil, err
	}
	l.out.Nodes = append(l.out.Nodes, n)
	return n.Out(), nil
}

// numbers returns x in a form that has channels: ids become [T,1].
func (l *lowering) numbers(x *view) (*view, error) {
	if x.form != ids {
		return x, nil
	}
	if x.seq == nil {
		seq, err := l.emit("reshape", ir.Attrs{"shape": []int{x.val.Type.Shape[0], 1}}, x.val)
		if err != nil {
			return nil, err
		}
		x.seq = seq
	}
	return &view{val: x.seq, form: sequence, axes: x.axes, high: x.high}, nil
}

// vector returns x as a vector, flattening a sequence that has one position or
// one channel.
func (l *lowering) vector(x *view) (*view, error) {
	x, err := l.numbers(x)
	if err != nil || x.form == vector {
		return x, err
	}
	if x.form == scalar {
		return nil, refuse("", "a single number is used as a vector")
	}
	if x.both() || x.image() {
		return nil, refuse("", "a sequence is used as a vector")
	}
	flat, err := l.emit("flatten", nil, x.val)
	if err != nil {
		return nil, err
	}
	axes := slices.Clone(x.axes)
	for i, a := range axes {
		if a == position {
			axes[i] = channel
		}
	}
	return &view{val: flat, form: vector, axes: axes}, nil
}

// swap is x with its two axes exchanged: what is done to channels is then done to positions. A vector becomes
// a sequence of one channel. Swapping back costs nothing.
func (l *lowering) swap(x *view) (*view, error) {
	x, err := l.inONNXOrder(x)
	if err != nil {
		return nil, err
	}
	var val *ir.Value
	switch d := x.val.Def; {
	case x.form == scalar:
		return nil, refuse("", "a single number is used as a sequence")
	case x.form == vector:
		val, err = l.emit("regroup", ir.Attrs{"rows": x.channels()}, x.val)
	case x.val.Type.DType != ir.F32:
		return nil, refuse("transpose numbers only", "integers or a mask are transposed")
	case swapped(x):
		val = d.Inputs[0]
	case slices.Contains(x.val.Type.Shape, 1): // the elements stay where they are
		val, err = l.emit("regroup", ir.Attrs{"rows": x.val.Type.Shape[1]}, x.val)
	default:
		val, err = l.emit("transpose", nil, x.val)
	}
	axes := slices.Clone(x.axes)
	for i, a := range axes {
		switch a {
		case position:
			axes[i] = channel
		case channel:
			axes[i] = position
		}
	}
	return &view{val: val, form: sequence, axes: axes}, err
}

// inONNXOrder is x with numbers as elements, those of a flattened sequence in the order of ONNX.
func (l *lowering) inONNXOrder(x *view) (*view, error) {
	x, err := l.numbers(x)
	if err != nil || x.perm == nil {
		return x, err
	}
	index := make([]int64, len(x.perm))
	for i, p := range x.perm {
		index[i] = int64(p)
	}
	val, err := l.emit("regroup", ir.Attrs{"rows": len(index)}, x.val)
	if err == nil {
		val, err = l.rowsAt(val, index)
	}
	if err == nil {
		val, err = l.emit("flatten", nil, val)
	}
	return &view{val: val, form: vector, axes: x.axes}, err
}

// oneRow is a vector as a sequence of one position.
func (l *lowering) oneRow(x *view) (*view, error) {
	x, err := l.inONNXOrder(x)
	if err != nil || x.form != vector {
		return x, err
	}
	val, err := l.emit("regroup", ir.Attrs{"rows": 1}, x.val)
	return &view{val: val, form: sequence, axes: x.axes}, err
}

// swapped says that x was swapped just before, so that swapping it back is free.
func swapped(x *view) bool {
	return x.form == sequence && x.val.Def != nil && x.val.Def.Op == "transpose"
}

// both says that x has positions and channels.
func (x *view) both() bool {
	return slices.Contains(x.axes, position) && slices.Contains(x.axes, channel)
}

// channels is the size of the last canonical axis.
func (x *view) channels() int {
	s := x.val.Type.Shape
	if x.form == ids || len(s) == 0 {
		return 1
	}
	return s[len(s)-1]
}

// axisOf maps an ONNX axis to the canonical axis of x.
func (x *view) axisOf(a axis) int {
	if a == position || x.form != sequence {
		return 0
	}
	return 1
}

// withAxes is x under other ONNX axes.
func (x *view) withAxes(axes []axis) *view {
	y := *x
	y.axes = axes
	return &y
}

// label returns the axis kinds of a shape whose long dimensions are, in order,
// the given ones.
func label(shape []int, long []axis) []axis {
	axes := make([]axis, len(shape))
	for i, d := range shape {
		if d != 1 && len(long) > 0 {
			axes[i], long = long[0], long[1:]
		}
	}
	return axes
}

// longAxes lists the axes that are no units, and longDims the sizes > 1.
func longAxes(axes []axis) []axis {
	return slices.DeleteFunc(slices.Clone(axes), func(a axis) bool { return a == unit })
}

func longDims(shape []int) []int {
	return slices.DeleteFunc(slices.Clone(shape), func(d int) bool { return d == 1 })
}

// aligned returns the axes of x seen from a tensor of higher rank, as numpy aligns them.
func aligned(axes []axis, rank int) []axis {
	return append(make([]axis, max(0, rank-len(axes))), axes...)
}
