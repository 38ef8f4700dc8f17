package canonical

import (
	"math"

	"nepcoc/ir"
	"nepcoc/passes/internal/edit"
)

// Exporters write functions that older opsets lack as chains of primitives.
// Here the chains become single operators again, while axes are still those of
// ONNX. Every rewrite keeps the meaning by itself, so intermediate values that
// somebody else reads just stay alive.

// recognise rewrites all decomposed LayerNorms and activations of g.
func recognise(g *ir.Graph, names edit.Names) error {
	uses := edit.Uses(g)
	for i := 0; i < len(g.Nodes); i++ {
		n := g.Nodes[i]
		switch n.Op {
		case "Div", "Mul":
			added, err := layerNorm(g, n, uses, names)
			if err != nil {
				return err
			}
			i += added
		}
		if n.Op == "Mul" || n.Op == "Div" {
			gatedActivation(n, uses)
		}
		if n.Op == "Div" {
			softsign(n)
		}
	}
	g.Sweep()
	return nil
}

// near compares constants that went through float32 once or twice.
func near(a, b float64) bool { return math.Abs(a-b) <= 1e-5*math.Abs(b) }

func defBy(v *ir.Value, op string) *ir.Node {
	if v == nil || v.Def == nil || v.Def.Op != op {
		return nil
	}
	return v.Def
}

// withScalar splits a binary node into its non-constant operand and the
// scalar it is combined with.
func withScalar(n *ir.Node) (x *ir.Value, c float64, ok bool) {
	if n == nil || len(n.Inputs) != 2 {
		return nil, 0, false
	}
	for i, v := range n.Inputs {
		if c, ok := edit.Scalar(v); ok && n.Inputs[1-i].Const == nil {
			return n.Inputs[1-i], c, true
		}
	}
	return nil, 0, false
}

// product takes a tree of multiplications apart: v = scale * product of
// factors. It looks into values that nobody else reads.
func product(v *ir.Value, root bool, uses map[*ir.Value]int) (factors []*ir.Value, scale float64) {
	if c, ok := edit.Scalar(v); ok {
		return nil, c
	}
	if n := v.Def; n != nil && (root || uses[v] == 1) {
		switch n.Op {
		case "Mul":
			fa, sa := product(n.Inputs[0], false, uses)
			fb, sb := product(n.Inputs[1], false, uses)
			return append(fa, fb...), sa * sb
		case "Div":
			if c, ok := edit.Scalar(n.Inputs[1]); ok && c != 0 {
				f, s := product(n.Inputs[0], false, uses)
				return f, s / c
			}
		}
	}
	return []*ir.Value{v}, 1
}

// gatedActivation recognises functions of the form x * f(x).
func gatedActivation(n *ir.Node, uses map[*ir.Value]int) {
	factors, scale := product(n.Out(), true, uses)
	if len(factors) != 2 {
		return
	}
	for i := range factors {
		x, f := factors[i], factors[1-i]
		for _, a := range gated {
			if near(scale, a.scale) && a.match(x, f, uses) {
				edit.Become(n, "act", ir.Attrs{"fn": a.fn}, x)
				return
			}
		}
	}
}

// gated lists the functions scale * x * f(x).
var gated = []struct {
	fn    string
	scale float64
	match func(x, f *ir.Value, uses map[*ir.Value]int) bool
}{
	{"silu", 1, func(x, f *ir.Value, _ map[*ir.Value]int) bool {
		n := defBy(f, "Sigmoid")
		return n != nil && n.Inputs[0] == x
	}},
	{"hard_swish", 1, func(x, f *ir.Value, _ map[*ir.Value]int) bool {
		n := defBy(f, "HardSigmoid")
		return n != nil && n.Inputs[0] == x && near(n.Float("alpha", 0.2), 1.0/6) && near(n.Float("beta", 0.5), 0.5)
	}},
	{"hard_swish", 1.0 / 6, func(x, f *ir.Value, _ map[*ir.Value]int) bool { // x * relu6(x+3) / 6
		n := defBy(f, "Clip")
		if n == nil {
			return false
		}
		lo, ok1 := edit.Scalar(n.Input(1))
		hi, ok2 := edit.Scalar(n.Input(2))
		y, c, ok := withScalar(defBy(n.Inputs[0], "Add"))
		return ok1 && ok2 && ok && y == x && lo == 0 && hi == 6 && c == 3
	}},
	{"mish", 1, func(x, f *ir.Value, _ map[*ir.Value]int) bool {
		n := defBy(f, "Tanh")
		if n == nil {
			return false
		}
		s := defBy(n.Inputs[0], "Softplus")
		return s != nil && s.Inputs[0] == x
	}},
	{"gelu", 0.5, func(x, f *ir.Value, uses map[*ir.Value]int) bool { // 1 + erf(x/sqrt 2)
		y, c, ok := withScalar(defBy(f, "Add"))
		if !ok || c != 1 || defBy(y, "Erf") == nil {
			return false
		}
		u, s := product(y.Def.Inputs[0], false, uses)
		return len(u) == 1 && u[0] == x && near(s, math.Sqrt2/2)
	}},
	{"gelu_tanh", 0.5, func(x, f *ir.Value, uses map[*ir.Value]int) bool { // 1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))
		y, c, ok := withScalar(defBy(f, "Add"))
		if !ok || c != 1 || defBy(y, "Tanh") == nil {
			return false
		}
		u, s := product(y.Def.Inputs[0], false, uses)
		if !near(s, math.Sqrt(2/math.Pi)) {
			return false
		}
		switch len(u) {
		case 1: // x + 0.044715 x^3
			n := defBy(u[0], "Add")
			return n != nil && (n.Inputs[0] == x && isPower(n.Inputs[1], x, 3, 0.044715, uses) ||
				n.Inputs[1] == x && isPower(n.Inputs[0], x, 3, 0.044715, uses))
		case 2: // x * (1 + 0.044715 x^2)
			for i := range u {
				y, c, ok := withScalar(defBy(u[1-i], "Add"))
				if u[i] == x && ok && c == 1 && isPower(y, x, 2, 0.044715, uses) {
					return true
				}
			}
		}
		return false
	}},
}

// isPower says whether v = scale * x^k, written with Mul or Pow.
func isPower(v, x *ir.Value, k int, scale float64, uses map[*ir.Value]int) bool {
	factors, s := product(v, false, uses)
	for _, f := range factors {
		if f == x {
			k--
			continue
		}
		n := f.Def
		if n == nil {
			return false
		}
		switch n.Op {
		case "Pow":
			e, ok := edit.Scalar(n.Inputs[1])
			if !ok || n.Inputs[0] != x || e != math.Trunc(e) {
				return false
			}
			k -= int(e)
		case "Mul": // x*x, read by others too
			if n.Inputs[0] != x || n.Inputs[1] != x {
				return false
			}
			k -= 2
		default:
			return false
		}
	}
	return k == 0 && near(s, scale)
}

// softsign: x / (1 + |x|).
func softsign(n *ir.Node) {
	x := n.Inputs[0]
	y, c, ok := withScalar(defBy(n.Inputs[1], "Add"))
	if ok && c == 1 && defBy(y, "Abs") != nil && y.Def.Inputs[0] == x {
		edit.Become(n, "act", ir.Attrs{"fn": "softsign"}, x)
	}
}

// layerNorm recognises (x-mean)/sqrt(mean((x-mean)^2)+eps), with a factor and a
// summand where they follow, over any one axis. Since LayerNormalization works
// on the last axis, another one is transposed there and back; the layout step
// makes transpositions free. It reports how many nodes it put before n.
func layerNorm(g *ir.Graph, n *ir.Node, uses map[*ir.Value]int, names edit.Names) (added int, err error) {
	x, axis, eps, ok := normalised(n)
	if !ok {
		return 0, nil
	}
	rank, c := len(x.Type.Shape), x.Type.Shape[axis]
	last := n
	gamma, beta := ones(c), make([]float32, c)
	follow := func(op string) []float32 {
		if uses[last.Out()] != 1 {
			return nil
		}
		for _, m := range g.Nodes {
			if m.Op != op || len(m.Inputs) != 2 {
				continue
			}
			for i, v := range m.Inputs {
				if v != last.Out() {
					continue
				}
				if d := alongAxis(m.Inputs[1-i], rank, axis, c); d != nil {
					last = m
					return d
				}
			}
		}
		return nil
	}
	if d := follow("Mul"); d != nil {
		gamma = d
	}
	if d := follow("Add"); d != nil {
		beta = d
	}
	before := len(g.Nodes)
	if err := becomeLayerNorm(g, last, x, axis, eps, gamma, beta, names); err != nil {
		return 0, err
	}
	if last == n {
		return len(g.Nodes) - before, nil
	}
	return 0, nil
}

// becomeLayerNorm makes of last a LayerNorm of x along one axis. Since LayerNormalization works
// on the last axis, another one is transposed there and back.
func becomeLayerNorm(g *ir.Graph, last *ir.Node, x *ir.Value, axis int, eps float64, gamma, beta []float32, names edit.Names) error {
	return becomeNorm(g, last, x, axis, eps, gamma, beta, false, names)
}

// becomeNorm is becomeLayerNorm, or the same without the mean: no operator of the standard stands for that.
func becomeNorm(g *ir.Graph, last *ir.Node, x *ir.Value, axis int, eps float64, gamma, beta []float32, rms bool, names edit.Names) error {
	rank := len(x.Type.Shape)
	op, attrs := "LayerNormalization", ir.Attrs{"axis": -1, "epsilon": eps}
	if rms {
		op, attrs = "layer_norm", ir.Attrs{"epsilon": eps, "rms": 1}
	}
	gv, bv := names.Vec(last.Out().Name+".gamma", gamma), names.Vec(last.Out().Name+".beta", beta)
	if axis == rank-1 {
		edit.Become(last, op, attrs, x, gv, bv)
		return nil
	}
	perm := make([]int, rank) // swap axis and the last one: its own inverse
	for i := range perm {
		perm[i] = i
	}
	perm[axis], perm[rank-1] = rank-1, axis
	there, err := names.New("Transpose", last.Origin, last.Out().Name+".last", ir.Attrs{"perm": perm}, x)
	if err != nil {
		return err
	}
	norm, err := names.New(op, last.Origin, last.Out().Name+".norm", attrs, there.Out(), gv, bv)
	if err != nil {
		return err
	}
	edit.Become(last, "Transpose", ir.Attrs{"perm": perm}, norm.Out())
	at := 0
	for i, m := range g.Nodes {
		if m == last {
			at = i
		}
	}
	rest := append([]*ir.Node{there, norm}, g.Nodes[at:]...)
	g.Nodes = append(g.Nodes[:at:at], rest...)
	return nil
}

func ones(n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = 1
	}
	return out
}

// normalised matches n = d / sqrt(mean(d^2)+eps) with d = x - mean(x).
func normalised(n *ir.Node) (x *ir.Value, axis int, eps float64, ok bool) {
	var d, root *ir.Value
	if n.Op == "Div" {
		d, root = n.Inputs[0], n.Inputs[1]
	} else {
		for i, v := range n.Inputs {
			if r := defBy(v, "Reciprocal"); r != nil {
				d, root = n.Inputs[1-i], r.Inputs[0]
			} else if r := defBy(v, "Div"); r != nil {
				if one, ok := edit.Scalar(r.Inputs[0]); ok && one == 1 {
					d, root = n.Inputs[1-i], r.Inputs[1]
				}
			}
		}
	}
	s := defBy(root, "Sqrt")
	if s == nil {
		return nil, 0, 0, false
	}
	variance, eps, ok := withScalar(defBy(s.Inputs[0], "Add"))
	if !ok {
		return nil, 0, 0, false
	}
	x, axis, ok = centred(d)
	square, varAxis, ok2 := meanOver(variance)
	if !ok || !ok2 || varAxis != axis {
		return nil, 0, 0, false
	}
	var base *ir.Value
	if m := defBy(square, "Pow"); m != nil {
		if e, ok := edit.Scalar(m.Inputs[1]); ok && e == 2 {
			base = m.Inputs[0]
		}
	} else if m := defBy(square, "Mul"); m != nil && m.Inputs[0] == m.Inputs[1] {
		base = m.Inputs[0]
	}
	if base != d {
		// Some exporters write the difference twice.
		x2, axis2, ok := centred(base)
		if !ok || x2 != x || axis2 != axis {
			return nil, 0, 0, false
		}
	}
	return x, axis, eps, true
}

// centred matches x - mean(x).
func centred(v *ir.Value) (x *ir.Value, axis int, ok bool) {
	s := defBy(v, "Sub")
	if s == nil {
		return nil, 0, false
	}
	y, axis, ok := meanOver(s.Inputs[1])
	return s.Inputs[0], axis, ok && y == s.Inputs[0]
}

// meanOver matches ReduceMean over one axis that is kept.
func meanOver(v *ir.Value) (x *ir.Value, axis int, ok bool) {
	n := defBy(v, "ReduceMean")
	if n == nil || n.Int("keepdims", 1) != 1 {
		return nil, 0, false
	}
	axes, ok := edit.Ints(n.Input(1))
	if !ok || len(axes) != 1 {
		return nil, 0, false
	}
	axis = axes[0]
	if axis < 0 {
		axis += len(n.Inputs[0].Type.Shape)
	}
	return n.Inputs[0], axis, true
}

// alongAxis returns a constant operand that varies along one axis only as c
// numbers, or nil.
func alongAxis(v *ir.Value, rank, axis, c int) []float32 {
	d := edit.Floats(v)
	if d == nil || len(v.Type.Shape) > rank {
		return nil
	}
	off := rank - len(v.Type.Shape)
	for i, dim := range v.Type.Shape {
		if dim != 1 && (i+off != axis || dim != c) {
			return nil
		}
	}
	if len(d) == c {
		return d
	}
	out := make([]float32, c)
	for i := range out {
		out[i] = d[0]
	}
	return out
}
