package canonical

import (
	"math"
	"math/rand/v2"
	"slices"

	"nepcoc/internal/exact"
	"nepcoc/ir"
	"nepcoc/ir/acts"
	"nepcoc/ir/eval"
	"nepcoc/passes/internal/edit"
)

// Frameworks write one function in many ways: Keras a LayerNorm as x*(gamma/s) + (beta - mean*gamma/s), or as a
// BatchNormalization with the statistics of the batch; Flax with the mean of the squares less the square of the
// mean; GELU has half a dozen forms. What idioms.go doesn't know by its form is recognised here by
// what it computes: a part of the graph with one source and one result, made of elementwise arithmetic,
// reductions and reshapes, is run on random numbers, and if that is a LayerNorm, a softmax or a known
// function to float32's precision, it becomes one. Such parts are analytic functions of their source, so that two that
// agree on a few thousand random numbers of several magnitudes are the same.

// arithmetic are the operators that such a part may have.
var arithmetic = map[string]bool{
	"Add": true, "Sub": true, "Mul": true, "Div": true, "Max": true, "Min": true, "Sum": true, "Neg": true, "Abs": true, "Sqrt": true,
	"Reciprocal": true, "Pow": true, "Exp": true, "Log": true, "Tanh": true, "Erf": true, "Sigmoid": true, "Relu": true, "Clip": true, "Softplus": true,
	"ReduceMean": true, "ReduceSum": true, "ReduceMax": true, "ReduceSumSquare": true, "ReduceL2": true, "BatchNormalization": true,
	"Reshape": true, "Unsqueeze": true, "Squeeze": true, "Expand": true, "Transpose": true, "Flatten": true, "Identity": true,
}

// roots are the operators from which a part is looked for: each form has one of them.
var roots = map[string][]func(*part) bool{
	"Sqrt": {(*part).layerNorm, (*part).rms}, "Pow": {(*part).layerNorm, (*part).rms, (*part).function}, "ReduceL2": {(*part).rms}, "BatchNormalization": {(*part).layerNorm},
	"Erf": {(*part).function}, "Tanh": {(*part).function}, "Sigmoid": {(*part).function}, "Exp": {(*part).softmax, (*part).function},
}

const (
	maxPart    = 48      // nodes of a part
	maxSources = 8       // values that are tried as the source of one root
	maxSinks   = 16      // and as its result
	maxTrial   = 1 << 21 // elements of the source
	trials     = 4
)

// maxWork bounds the elements that are computed for one model: what is left then stays as it is.
const maxWork = 1 << 29

// part is a piece of the graph from x to y, with what it makes of random numbers.
type part struct {
	g     *ir.Graph
	names edit.Names
	x, y  *ir.Value
	nodes []*ir.Node
	in    [][]float32 // per trial
	out   [][]float32
}

// recogniseByValue rewrites what computes a LayerNorm, a softmax or a known function.
func recogniseByValue(g *ir.Graph, names edit.Names) {
	work := maxWork
	for i := 0; i < len(g.Nodes) && work > 0; i++ {
		root := g.Nodes[i]
		forms := roots[root.Op]
		if forms == nil || root.Out().Type.DType != ir.F32 || root.Op == "BatchNormalization" && root.Inputs[3].Const != nil {
			continue
		}
		if at := tryRoot(g, names, root, forms, &work); at != nil {
			g.Sweep()
			i = slices.Index(g.Nodes, at)
		}
	}
}

// tryRoot returns the node that a part around root became.
func tryRoot(g *ir.Graph, names edit.Names, root *ir.Node, forms []func(*part) bool, work *int) *ir.Node {
	uses := g.Consumers()
	for _, x := range sourcesOf(root) {
		if len(uses[x]) < 2 && root.Op != "Exp" {
			continue // each form but a softmax reads its source twice
		}
		var parts []*part
		var nodes []*ir.Node // of all of them
		for _, y := range sinksOf(root, x, uses) {
			p := &part{g: g, names: names, x: x, y: y, nodes: between(x, y)}
			if !slices.Contains(p.nodes, root) {
				continue
			}
			parts = append(parts, p)
			for _, n := range p.nodes {
				if !slices.Contains(nodes, n) {
					nodes = append(nodes, n)
				}
			}
		}
		runParts(x, parts, nodes, work)
		for _, p := range slices.Backward(parts) { // the last one has the most
			if len(p.out) < trials {
				continue
			}
			for _, form := range forms {
				if form(p) {
					return p.y.Def
				}
			}
		}
	}
	return nil
}

// sourcesOf lists values that root depends on through arithmetic alone, the farthest first.
func sourcesOf(root *ir.Node) (out []*ir.Value) {
	queue, seen := []*ir.Value{}, map[*ir.Value]bool{}
	push := func(n *ir.Node) {
		for _, v := range n.Inputs {
			if v != nil && v.Const == nil && v.Type.DType == ir.F32 && !seen[v] {
				seen[v] = true
				queue = append(queue, v)
			}
		}
	}
	push(root)
	for i := 0; i < len(queue) && i < maxPart; i++ {
		v := queue[i]
		if len(out) < maxSources && v.Type.Len() >= root.Out().Type.Len() && between(v, root.Out()) != nil {
			out = append(out, v)
		}
		if v.Def != nil && arithmetic[v.Def.Op] {
			push(v.Def)
		}
	}
	slices.Reverse(out)
	return out
}

// sinksOf lists values of x's size and rank that depend on root and, through arithmetic alone, on x, the nearest first.
func sinksOf(root *ir.Node, x *ir.Value, uses map[*ir.Value][]*ir.Node) (out []*ir.Value) {
	queue, seen := []*ir.Value{root.Out()}, map[*ir.Value]bool{root.Out(): true}
	for i := 0; i < len(queue) && len(out) < maxSinks; i++ {
		v := queue[i]
		if len(v.Type.Shape) == len(x.Type.Shape) && v.Type.Len() == x.Type.Len() {
			out = append(out, v)
		}
		for _, n := range uses[v] {
			if arithmetic[n.Op] && len(n.Outputs) == 1 && !seen[n.Out()] && n.Out().Type.DType == ir.F32 {
				seen[n.Out()] = true
				queue = append(queue, n.Out())
			}
		}
	}
	return out
}

// between lists, in order, the nodes that compute y from x and constants alone; nil where there is more to it.
func between(x, y *ir.Value) []*ir.Node {
	var nodes []*ir.Node
	done := map[*ir.Value]bool{x: true}
	var visit func(v *ir.Value) bool
	visit = func(v *ir.Value) bool {
		if v == nil || v.Const != nil || done[v] {
			return true
		}
		n := v.Def
		if n == nil || !arithmetic[n.Op] || len(n.Outputs) != 1 || len(nodes) >= maxPart {
			return false
		}
		for _, in := range n.Inputs {
			if !visit(in) {
				return false
			}
		}
		done[v] = true
		nodes = append(nodes, n)
		return len(nodes) <= maxPart
	}
	if !visit(y) {
		return nil
	}
	return nodes
}

// runParts computes parts with one source on random numbers, of several magnitudes: the small ones tell what is added to
// a variance, and the large ones functions from what they are near zero.
func runParts(x *ir.Value, parts []*part, nodes []*ir.Node, work *int) {
	n := x.Type.Len()
	if len(parts) == 0 || n == 0 || n > maxTrial {
		return
	}
	for _, node := range nodes {
		*work -= trials * node.Out().Type.Len()
	}
	if *work < 0 {
		return
	}
	rng := rand.New(rand.NewPCG(5, 7))
	for t := range trials {
		width, mean := [trials]float64{2, 8, 0.05, 0.005}[t], [trials]float64{0.4, -1, 0, 0}[t]
		in := make([]float32, n)
		for i := range in {
			in[i] = float32(float64((float64(rng.Float64())-float64(rng.Float64()))*width) + mean)
		}
		values := map[*ir.Value]*ir.Tensor{x: {Type: x.Type, Data: in}}
		for _, node := range nodes {
			args := make([]*ir.Tensor, len(node.Inputs))
			for i, v := range node.Inputs {
				if v == nil {
					continue
				}
				if args[i] = v.Const; args[i] == nil {
					args[i] = values[v]
				}
			}
			res, err := eval.Node(node, args)
			if err != nil {
				return
			}
			values[node.Out()] = res[0]
		}
		for _, p := range parts {
			out, ok := values[p.y].Data.([]float32)
			if ok && !slices.ContainsFunc(out, func(x float32) bool { return x-x != 0 }) {
				p.in, p.out = append(p.in, in), append(p.out, out)
			}
		}
	}
}

// largest is the largest magnitude of the results.
func (p *part) largest() float64 {
	top := 0.0
	for _, out := range p.out {
		for _, y := range out {
			top = max(top, math.Abs(float64(y)))
		}
	}
	return top
}

// axis is one axis of x: element k of line (o,i) is at o*size*inner + k*inner + i.
type lines struct{ outer, size, inner int }

func (p *part) along(axis int) lines {
	s := p.x.Type.Shape
	return lines{ir.NumElements(s[:axis]), s[axis], ir.NumElements(s[axis+1:])}
}

// each calls f with the place of each line's first element.
func (l lines) each(f func(first int)) {
	for o := range l.outer {
		for i := range l.inner {
			f(o*l.size*l.inner + i)
		}
	}
}

// layerNorm: (x-mean)/sqrt(var+eps)*gamma + beta along one axis, the statistics those of the axis.
func (p *part) layerNorm() bool { return p.norm(false) }

// limited says that the numbers themselves, and not what was reduced of them, meet a bound in the part: random numbers may
// never reach it, the model's may.
func (p *part) limited() bool {
	return slices.ContainsFunc(p.nodes, func(n *ir.Node) bool {
		switch n.Op {
		case "Min", "Max", "Clip", "Relu", "Abs":
			return n.Out().Type.Len() == p.x.Type.Len()
		}
		return false
	})
}

// rms: x/sqrt(mean(x^2)+eps)*gamma + beta along one axis, of which x over its L2 norm is a case.
func (p *part) rms() bool { return p.norm(true) }

func (p *part) norm(rms bool) bool {
	if !p.y.Type.Equal(p.x.Type) || p.limited() {
		return false
	}
	tolerance := 2e-4 * max(p.largest(), 1e-3)
	for axis := len(p.x.Type.Shape) - 1; axis >= 0; axis-- {
		l := p.along(axis)
		if l.size < 2 {
			continue
		}
		for _, eps := range p.epsilons() {
			if rms && !slices.ContainsFunc(p.nodes, func(n *ir.Node) bool { return n.Op == "ReduceMean" }) {
				eps /= float64(l.size) // added to a sum
			}
			gamma, beta, ok := p.fitNorm(l, eps, tolerance, rms)
			if !ok {
				continue
			}
			p.snap(gamma)
			p.snap(beta)
			return becomeNorm(p.g, p.y.Def, p.x, axis, eps, gamma, beta, rms, p.names) == nil
		}
	}
	return false
}

// epsilons are the small numbers of the part, and 0.
func (p *part) epsilons() []float64 {
	out := []float64{}
	add := func(x float64) {
		if x > 0 && x < 0.2 && !slices.Contains(out, x) {
			out = append(out, x)
		}
	}
	for _, n := range p.nodes {
		if n.Op == "BatchNormalization" {
			add(n.Float("epsilon", 1e-5))
		}
		for _, v := range n.Inputs {
			if c, ok := edit.Scalar(v); ok && v.Const != nil {
				add(c)
			} else if d := edit.Floats(v); len(d) > 1 && repeats(d, 1) { // a number that was expanded
				add(float64(d[0]))
			}
		}
	}
	return append(out, 0)
}

// fitNorm finds gamma and beta by least squares, and says whether they explain the results.
func (p *part) fitNorm(l lines, eps, tolerance float64, rms bool) (gamma, beta []float32, ok bool) {
	type sums struct{ n, x, y, xx, xy float64 }
	fit := make([]sums, l.size)
	norms := make([][]float64, len(p.in))
	for t, in := range p.in {
		norm := make([]float64, len(in))
		l.each(func(first int) {
			mean, square := 0.0, 0.0
			for k := range l.size {
				mean += float64(in[first+k*l.inner])
			}
			if mean /= float64(l.size); rms {
				mean = 0
			}
			for k := range l.size {
				d := float64(in[first+k*l.inner]) - mean
				square += float64(d * d)
			}
			r := 1 / math.Sqrt(square/float64(l.size)+eps)
			for k := range l.size {
				at := first + k*l.inner
				x, y := float64((float64(in[at])-mean)*r), float64(p.out[t][at])
				norm[at] = x
				s := &fit[k]
				s.n, s.x, s.y, s.xx, s.xy = s.n+1, s.x+x, s.y+y, s.xx+float64(x*x), s.xy+float64(x*y)
			}
		})
		norms[t] = norm
	}
	g, b := make([]float64, l.size), make([]float64, l.size)
	gamma, beta = make([]float32, l.size), make([]float32, l.size)
	for k, s := range fit {
		if det := float64(s.n*s.xx) - float64(s.x*s.x); det > 1e-9*s.n*s.n {
			g[k] = (float64(s.n*s.xy) - float64(s.x*s.y)) / det
		}
		b[k] = (s.y - float64(g[k]*s.x)) / s.n
		gamma[k], beta[k] = float32(g[k]), float32(b[k])
	}
	ok = true
	for t := range p.in {
		l.each(func(first int) {
			for k := range l.size {
				at := first + k*l.inner
				want := float64(g[k]*norms[t][at]) + b[k]
				ok = ok && math.Abs(want-float64(p.out[t][at])) <= tolerance
			}
		})
	}
	return gamma, beta, ok && slices.ContainsFunc(gamma, func(x float32) bool { return x != 0 })
}

// snap replaces fitted numbers by those of a constant of the part that they are near to, or by ones or zeros.
func (p *part) snap(d []float32) {
	near := func(at func(i int) float32) bool {
		for i := range d {
			if w := at(i); math.Abs(float64(d[i]-w)) > 2e-4*(math.Abs(float64(w))+0.05) {
				return false
			}
		}
		for i := range d {
			d[i] = at(i)
		}
		return true
	}
	for _, n := range p.nodes {
		for _, v := range n.Inputs {
			if c := edit.Floats(v); len(c) == len(d) && len(d) > 1 && near(func(i int) float32 { return c[i] }) {
				return
			}
		}
	}
	_ = near(func(int) float32 { return 1 }) || near(func(int) float32 { return 0 })
}

// softmax: exp(x) over its sum along one axis, or the logarithm of that.
func (p *part) softmax() bool {
	if !p.y.Type.Equal(p.x.Type) || p.limited() {
		return false
	}
	for axis := len(p.x.Type.Shape) - 1; axis >= 0; axis-- {
		l := p.along(axis)
		if l.size < 2 {
			continue
		}
		soft, logs := true, true
		for t, in := range p.in {
			l.each(func(first int) {
				if !soft && !logs {
					return
				}
				top, sum := math.Inf(-1), 0.0
				for k := range l.size {
					top = max(top, float64(in[first+k*l.inner]))
				}
				for k := range l.size {
					sum += exact.Exp(float64(in[first+k*l.inner]) - top)
				}
				for k := range l.size {
					x, y := float64(in[first+k*l.inner])-top, float64(p.out[t][first+k*l.inner])
					soft = soft && math.Abs(exact.Exp(x)/sum-y) <= 1e-5
					logs = logs && math.Abs(x-exact.Log(sum)-y) <= 1e-4*(1+math.Abs(y))
				}
			})
		}
		if soft || logs {
			op := "Softmax"
			if logs {
				op = "LogSoftmax"
			}
			edit.Become(p.y.Def, op, ir.Attrs{"axis": axis}, p.x)
			return true
		}
	}
	return false
}

// function: one of the table's without parameters. Layout optimisers push a Transpose behind a function into
// its branches; then it is the function of the transposed.
func (p *part) function() bool {
	perm := []int(nil)
	for _, n := range p.nodes {
		if len(n.Out().Type.Shape) != len(p.x.Type.Shape) || n.Out().Type.Len() != p.x.Type.Len() {
			return false // mixes elements
		}
		if n.Op == "Transpose" && perm == nil {
			perm = n.Ints("perm")
		}
	}
	if len(p.nodes) < 2 {
		return false // it is one operator
	}
	in, moved := p.in, (*ir.Node)(nil)
	if perm != nil {
		var err error
		if moved, err = p.names.New("Transpose", p.y.Def.Origin, p.y.Name+".moved", ir.Attrs{"perm": perm}, p.x); err != nil || !moved.Out().Type.Equal(p.y.Type) {
			return false
		}
		in = nil
		for _, d := range p.in {
			res, err := eval.Node(moved, []*ir.Tensor{{Type: p.x.Type, Data: d}})
			if err != nil {
				return false
			}
			in = append(in, res[0].Data.([]float32))
		}
	} else if !p.y.Type.Equal(p.x.Type) {
		return false
	}
	for _, f := range acts.Funcs() {
		if len(f.Params) > 0 || f.SlopeInput {
			continue
		}
		fn := f.Float(func(string) float64 { return 0 })
		same := true
		for t, xs := range in {
			for i := 0; i < len(xs) && i < 4096 && same; i++ {
				y := float64(p.out[t][i])
				d := math.Abs(fn(float64(xs[i])) - y)
				same = d <= 2e-5*(1+math.Abs(y)) // false for NaN
			}
		}
		if same {
			x := p.x
			if moved != nil {
				at := slices.Index(p.g.Nodes, p.y.Def)
				p.g.Nodes, x = slices.Insert(p.g.Nodes, at, moved), moved.Out()
			}
			edit.Become(p.y.Def, "act", ir.Attrs{"fn": f.Name}, x)
			return true
		}
	}
	return false
}
