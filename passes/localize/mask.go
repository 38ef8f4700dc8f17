package localize

import (
	"fmt"
	"math"

	"nepcoc/ir"
	"nepcoc/ir/eval"
	"nepcoc/passes/internal/edit"
)

// Masks are recognised by what they compute and not by how it is written: a
// value that depends on the mask alone is a function of one bit, so two
// evaluations (mask all 0, mask all 1) describe it completely. Likewise a
// value computed from the number of valid positions is a table over that
// number.

// big is the least distance by which a mask must push a position down so that
// it can't win a maximum.
const big = 1e4

// bit is a function of the mask at one position.
type bit struct{ zero, one float64 }

// masking is what removeMask knows about values.
type masking struct {
	r *region
	// all holds the results of values that depend on the mask alone, for the
	// mask all 0 and all 1.
	all map[*ir.Value][2]*ir.Tensor
	// counts holds, per number n-1 of valid positions, values that depend on
	// that number alone.
	counts map[*ir.Value][]float64
	// tokens are the functions of single tokens: part of a table, or a mask
	// made of tokens.
	tokens map[*ir.Value]bool
	// tainted are values that depend on the mask and on data.
	tainted map[*ir.Value]bool
}

// removeMask replaces reductions under a mask by reductions over the valid
// prefix, and reports every other use of the mask.
//
// seeds are the values that it begins with, for a masked and for a valid position.
func (r *region) removeMask(seeds map[*ir.Value][2]*ir.Tensor) {
	m := &masking{r: r, all: seeds, tokens: r.tokenFunctions(), counts: make(map[*ir.Value][]float64), tainted: make(map[*ir.Value]bool)}
	for _, n := range r.g.Nodes {
		if err := m.visit(n); err != nil {
			r.problems = append(r.problems, ir.ProblemOf(n, err.Error(),
				"mask only in the pooling: max of x*m + (m-1)*1e6, sum of x*m, or that sum over the sum of m"))
		}
	}
	if len(r.problems) == 0 {
		r.g.Sweep()
		for _, n := range r.g.Nodes {
			for _, v := range n.Inputs {
				if m.depends(v) && !m.tokens[n.Out()] {
					r.problems = append(r.problems, ir.ProblemOf(n, "the mask is used outside a pooling", "mask only in the pooling over positions"))
				}
			}
		}
	}
	for i, v := range r.g.Outputs {
		if m.depends(v) {
			r.problems = append(r.problems, ir.Problem{Node: r.g.OutputNames[i], Op: "output", Types: []ir.Type{v.Type},
				Reason: "the output depends on the mask alone", Way: "drop it from the model's outputs"})
		}
	}
}

// depends says whether v is still computed from the mask input.
func (m *masking) depends(v *ir.Value) bool {
	return m.all[v] != [2]*ir.Tensor{} || m.counts[v] != nil || m.tainted[v]
}

func (m *masking) visit(n *ir.Node) error {
	if m.tokens[n.Out()] {
		return nil // where it is a mask, its values are known already
	}
	pure, counted, any := true, true, false
	for _, v := range n.Inputs {
		if v == nil || v.Const != nil {
			continue
		}
		pure = pure && m.all[v] != [2]*ir.Tensor{}
		counted = counted && m.counts[v] != nil
		any = any || m.depends(v)
	}
	switch {
	case !any:
		return nil
	case pure && pointwise(n):
		return m.evaluate(n)
	case n.Op == "pool" && pure:
		return m.count(n)
	case counted && (pointwise(n) || n.Op == "linear"):
		return m.evaluateCounts(n)
	case n.Op == "pool":
		return m.pool(n)
	case n.Op == "div" || n.Op == "mul":
		if m.meanOf(n) {
			return nil
		}
	}
	if !pointwise(n) {
		return fmt.Errorf("the mask reaches %s before it is reduced over positions", n.Op)
	}
	m.tainted[n.Out()] = true
	return nil
}

// evaluate computes a function of the mask for both of its values.
func (m *masking) evaluate(n *ir.Node) error {
	var out [2]*ir.Tensor
	for k := range out {
		in := make([]*ir.Tensor, len(n.Inputs))
		for i, v := range n.Inputs {
			if v == nil {
				continue
			}
			if in[i] = v.Const; in[i] == nil {
				in[i] = m.all[v][k]
			}
		}
		t, err := eval.Node(n, in)
		if err != nil {
			return err
		}
		out[k] = t[0]
	}
	m.all[n.Out()] = out
	return nil
}

// bitOf reads v as a function of one bit: a function of the mask that is the
// same at every position and channel, or a constant.
func (m *masking) bitOf(v *ir.Value) (bit, bool) {
	if c, ok := edit.Scalar(v); ok {
		return bit{c, c}, true
	}
	t := m.all[v]
	if v.Const != nil {
		t = [2]*ir.Tensor{v.Const, v.Const}
	}
	zero, ok0 := uniform(t[0])
	one, ok1 := uniform(t[1])
	return bit{zero, one}, ok0 && ok1
}

func uniform(t *ir.Tensor) (float64, bool) {
	if t == nil {
		return 0, false
	}
	d, ok := t.Floats()
	if b, isBool := t.Data.([]bool); isBool {
		ok, d = true, make([]float64, len(b))
		for i := range b {
			if b[i] {
				d[i] = 1
			}
		}
	}
	if !ok || len(d) == 0 {
		return 0, false
	}
	for _, x := range d {
		if x != d[0] {
			return 0, false
		}
	}
	return d[0], true
}

// count handles the reduction of a function of the mask: a function of the
// number of valid positions.
func (m *masking) count(n *ir.Node) error {
	f, ok := m.bitOf(n.Inputs[0])
	kind := n.Str("kind", "")
	if !ok || kind != "sum" && kind != "mean" {
		return fmt.Errorf("pool %s of the mask itself", kind)
	}
	t := float64(n.Inputs[0].Type.Shape[0])
	h := make([]float64, int(t))
	for i := range h {
		valid := float64(i + 1)
		h[i] = float64(valid*f.one) + float64((t-valid)*f.zero)
		if kind == "mean" {
			h[i] /= t
		}
	}
	m.counts[n.Out()] = h
	return nil
}

func (m *masking) evaluateCounts(n *ir.Node) error {
	var h []float64
	for _, v := range n.Inputs {
		if v != nil && m.counts[v] != nil {
			h = make([]float64, len(m.counts[v]))
		}
	}
	for k := range h {
		in := make([]*ir.Tensor, len(n.Inputs))
		for i, v := range n.Inputs {
			switch {
			case v == nil:
			case v.Const != nil:
				in[i] = v.Const
			default:
				in[i] = filled(v.Type, m.counts[v][k])
			}
		}
		out, err := eval.Node(n, in)
		if err != nil {
			return err
		}
		x, ok := uniform(out[0])
		if !ok {
			return fmt.Errorf("a function of the number of valid positions differs between channels")
		}
		h[k] = x
	}
	m.counts[n.Out()] = h
	return nil
}

// filled is a tensor of one repeated value.
func filled(t ir.Type, x float64) *ir.Tensor {
	out := ir.NewTensor(t)
	switch d := out.Data.(type) {
	case []float32:
		fill(d, float32(x))
	case []float64:
		fill(d, x)
	case []int64:
		fill(d, int64(x))
	case []int32:
		fill(d, int32(x))
	case []int16:
		fill(d, int16(x))
	case []int8:
		fill(d, int8(x))
	case []uint8:
		fill(d, uint8(x))
	case []uint16:
		fill(d, uint16(x))
	case []bool:
		fill(d, x != 0)
	}
	return out
}

func fill[E any](d []E, x E) {
	for i := range d {
		d[i] = x
	}
}

// masked is a value x*f(m) + g(m), where m is the mask.
type masked struct {
	x    *ir.Value
	f, g bit
}

// decompose reads v as data under a mask; ok is false if it is something else.
func (m *masking) decompose(v *ir.Value) (d masked, ok bool) {
	if !m.tainted[v] {
		return masked{x: v, f: bit{1, 1}}, v.Const == nil && !m.depends(v)
	}
	n := v.Def
	switch n.Op {
	case "Where":
		return m.decomposeWhere(n)
	case "add", "sub", "mul", "div":
	default:
		return masked{}, false
	}
	a, b := n.Inputs[0], n.Inputs[1]
	if _, isBit := m.bitOf(a); isBit && (n.Op == "add" || n.Op == "mul") {
		a, b = b, a
	}
	k, isBit := m.bitOf(b)
	if !isBit {
		return masked{}, false
	}
	if d, ok = m.decompose(a); !ok {
		return d, false
	}
	switch n.Op {
	case "add":
		d.g = bit{d.g.zero + k.zero, d.g.one + k.one}
	case "sub":
		d.g = bit{d.g.zero - k.zero, d.g.one - k.one}
	case "div":
		k = bit{1 / k.zero, 1 / k.one}
		fallthrough
	case "mul":
		d.f = bit{d.f.zero * k.zero, d.f.one * k.one}
		d.g = bit{times(d.g.zero, k.zero), times(d.g.one, k.one)}
	}
	return d, true
}

// times keeps 0 * infinity out of offsets that don't exist.
func times(a, b float64) float64 {
	if a == 0 {
		return 0
	}
	return a * b
}

func (m *masking) decomposeWhere(n *ir.Node) (d masked, ok bool) {
	cond, ok := m.bitOf(n.Inputs[0])
	if !ok {
		return d, false
	}
	// Each branch is data under the mask, or a function of the mask alone.
	var branch [2]masked
	for i, v := range n.Inputs[1:] {
		if k, isBit := m.bitOf(v); isBit {
			branch[i] = masked{g: k}
			continue
		}
		if branch[i], ok = m.decompose(v); !ok {
			return d, false
		}
		if d.x != nil && d.x != branch[i].x {
			return d, false
		}
		d.x = branch[i].x
	}
	zero, one := branch[1], branch[1]
	if cond.zero != 0 {
		zero = branch[0]
	}
	if cond.one != 0 {
		one = branch[0]
	}
	d.f = bit{zero.f.zero, one.f.one}
	d.g = bit{zero.g.zero, one.g.one}
	return d, d.x != nil
}

// pool replaces a reduction of masked data.
func (m *masking) pool(n *ir.Node) error {
	kind := n.Str("kind", "")
	if n.Input(1) != nil {
		return fmt.Errorf("BUG: pool has a valid input already")
	}
	d, ok := m.decompose(n.Inputs[0])
	if !ok || !d.x.Type.Equal(n.Inputs[0].Type) {
		return fmt.Errorf("what the mask does to the data before pool %s is not understood", kind)
	}
	if d.f.one != 1 || d.g.one != 0 {
		return fmt.Errorf("the mask changes valid positions: x becomes %g*x + %g there", d.f.one, d.g.one)
	}
	switch {
	case kind == "max" && d.g.zero <= -big:
	case kind == "max" && d.f.zero == 0 && d.g.zero == 0 && neverNegative(d.x.Def): // 0 wins over nothing
	case kind == "sum" && d.f.zero == 0 && d.g.zero == 0:
	default:
		return fmt.Errorf("before pool %s, x becomes %g*x + %g at masked positions", kind, d.f.zero, d.g.zero)
	}
	edit.Become(n, "pool", n.Attrs, d.x, m.r.valid)
	return nil
}

// neverNegative says whether the results of n are known to be >= 0.
func neverNegative(n *ir.Node) bool {
	if n == nil || n.Op != "act" {
		return false
	}
	switch n.Str("fn", "") {
	case "relu", "sigmoid", "hard_sigmoid", "softplus", "exp", "square", "abs", "sqrt":
		return true
	case "clip":
		return n.Float("min", -1) >= 0
	}
	return false
}

// meanOf makes a masked sum divided by the number of valid positions a mean.
func (m *masking) meanOf(n *ir.Node) bool {
	sum, k := n.Inputs[0], n.Inputs[1]
	if n.Op == "mul" && m.counts[sum] != nil {
		sum, k = k, sum
	}
	h := m.counts[k]
	p := sum.Def
	if h == nil || p == nil || p.Op != "pool" || p.Str("kind", "") != "sum" || p.Input(1) != m.r.valid || !sum.Type.Equal(n.Out().Type) {
		return false
	}
	for i, x := range h {
		valid := float64(i + 1)
		if n.Op == "mul" {
			x = 1 / x
		}
		if !(math.Abs(x-valid) <= 1e-5*valid) {
			return false
		}
	}
	edit.Become(n, "pool", ir.Attrs{"kind": "mean"}, p.Inputs[0], m.r.valid)
	return true
}
