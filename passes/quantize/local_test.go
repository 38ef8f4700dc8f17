package quantize

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"nepcoc/backends/program"
	"nepcoc/ir"
	"nepcoc/ir/eval"
	"nepcoc/passes"
	"nepcoc/passes/internal/edit"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/refexec"
)

// sample is one calibration input: tokens, and behind them ids beside the sequence.
type sample struct {
	tokens []int32
	valid  int
}

func (s sample) feed(g *ir.Graph) map[string]*ir.Tensor {
	in := make(map[string]*ir.Tensor)
	for _, v := range g.Inputs {
		if len(v.Type.Shape) == 0 {
			in[v.Name] = &ir.Tensor{Type: v.Type, Data: []int64{int64(s.valid)}}
			continue
		}
		part := s.tokens[:v.Type.Shape[0]]
		if v.Name == ir.SidesInput {
			part = s.tokens[len(s.tokens)-v.Type.Shape[0]:]
		}
		ids := make([]int64, len(part))
		for i, t := range part {
			ids[i] = int64(t)
		}
		in[v.Name] = ir.Int64s(ids, len(ids))
	}
	return in
}

// lengthOf is the number of tokens of a localized graph, vocabOf the number
// of ids.
func lengthOf(g *ir.Graph) int { return g.Inputs[0].Type.Shape[0] }

func vocabOf(g *ir.Graph) int {
	for _, n := range g.Nodes {
		if n.Op == "embed" {
			return n.Inputs[1].Type.Shape[0]
		}
	}
	return 1
}

func isMasked(g *ir.Graph) bool {
	return slices.ContainsFunc(g.Inputs, func(v *ir.Value) bool { return v.Name == "valid" })
}

// sidesOf is the number of ids beside the sequence.
func sidesOf(g *ir.Graph) int {
	for _, v := range g.Inputs {
		if v.Name == ir.SidesInput {
			return v.Type.Shape[0]
		}
	}
	return 0
}

// draw makes inputs for g, always the same.
func draw(g *ir.Graph, n int) []sample {
	rng := rand.New(rand.NewPCG(3, 4))
	out := make([]sample, n)
	for i := range out {
		s := sample{tokens: make([]int32, lengthOf(g)), valid: lengthOf(g)}
		if isMasked(g) {
			s.valid = 1 + rng.IntN(len(s.tokens))
		}
		for p := range s.valid {
			s.tokens[p] = int32(rng.IntN(vocabOf(g)))
		}
		for range sidesOf(g) {
			s.tokens = append(s.tokens, int32(rng.IntN(bundle.SideIDs)))
		}
		out[i] = s
	}
	return out
}

// quantized is a graph in integers, ready to run.
type quantized struct {
	q     *quantizer
	g     *ir.Graph
	p     *bundle.Program
	ref   *refexec.Executor
	value map[string]int // by name
	// after, if set, may change a value once it is computed.
	after func(value int, data []int32)
}

// quantizeGraph takes g through quantize and lowering. A refusal is an error;
// an invalid program fails the test.
func quantizeGraph(t testing.TB, g *ir.Graph, obs *Observations, opts Options) (*quantized, error) {
	t.Helper()
	if opts.Method == "" {
		opts.Method = "minmax"
	}
	q, err := newQuantizer(g, obs, opts)
	if err != nil {
		return nil, err
	}
	ints, err := q.graph()
	if err != nil {
		return nil, err
	}
	if err := ir.Check(ints); err != nil {
		t.Fatalf("broken graph: %v\n%s", err, ir.Print(ints))
	}
	n := lengthOf(g)
	p, err := program.Lower(ints, program.Info{Vocab: vocabOf(g), Left: n, Right: n})
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, ir.Print(g), ir.Print(ints))
	}
	x := &quantized{q: q, g: ints, p: p, value: make(map[string]int)}
	if x.ref, err = refexec.New(p); err != nil {
		t.Fatal(err)
	}
	for i, v := range p.Values {
		x.value[v.Name] = i
	}
	return x, nil
}

// trace runs one input and returns every value, in integers.
func (x *quantized) trace(t testing.TB, s sample) [][]int32 {
	t.Helper()
	vals := make([][]int32, len(x.p.Values))
	x.ref.Trace = func(i int, d []int32) {
		if x.after != nil {
			x.after(i, d)
		}
		vals[i] = append([]int32(nil), d...)
	}
	if _, err := x.ref.Run(s.tokens, s.valid); err != nil {
		t.Fatal(err)
	}
	return vals
}

// real are the real numbers that the integers of float value v stand for.
func (x *quantized) real(v *ir.Value, vals [][]int32) (real *ir.Tensor, ints []int32) {
	f := x.q.vals[v]
	ints = vals[x.value[f.val.Name]]
	return dequantized(v.Type, f, ints), ints
}

// reads says that the integer form of v is computed from a.
func (x *quantized) reads(v, a *ir.Value) bool {
	for _, n := range x.g.Nodes {
		for _, in := range n.Inputs {
			if in == a && (n.Out().Name == v.Name || n.Out().Name == v.Name+".wide") {
				return true
			}
		}
	}
	return false
}

func dequantized(t ir.Type, f *quant, ints []int32) *ir.Tensor {
	d := make([]float32, len(ints))
	for i, a := range ints {
		c := i % len(f.scale)
		d[i] = float32(f.scale[c]*float64(a) + f.offset[c])
	}
	return &ir.Tensor{Type: t, Data: d}
}

// checkSteps compares each step with the float operator applied to what the
// step's own inputs stand for, so that an error shows where it is made. The
// bound is the step's rounding: half a unit of its result, and what rounding
// its weights costs for these inputs.
func checkSteps(t testing.TB, x *quantized, s sample) error {
	t.Helper()
	vals := x.trace(t, s)
	feed := s.feed(x.q.src)
	for _, n := range x.q.src.Nodes {
		v := n.Out()
		form := x.q.vals[v]
		if form == nil || v.Type.DType != ir.F32 {
			continue // an ending
		}
		in := make([]*ir.Tensor, len(n.Inputs))
		for i, a := range n.Inputs {
			switch {
			case a == nil:
			case a.Const != nil:
				in[i] = a.Const
			case a.Def == nil:
				in[i] = feed[a.Name]
			default:
				in[i], _ = x.real(a, vals)
				if e := x.q.evened[a]; e != nil && x.reads(v, e.val) {
					in[i] = dequantized(a.Type, e, vals[x.value[e.val.Name]])
				}
			}
		}
		res, err := eval.Node(n, in)
		if err != nil {
			return err
		}
		want := res[0].Data.([]float32)
		got, _ := x.real(v, vals)
		bound, err := x.bound(n, in, vals)
		if err != nil {
			return err
		}
		lo, hi := x.q.bounds(v, form.val.Type.DType)
		for i, g := range got.Data.([]float32) {
			c := i % len(form.scale)
			w := float64(want[i])
			w = min(max(w, form.scale[c]*float64(lo)+form.offset[c]), form.scale[c]*float64(hi)+form.offset[c])
			limit := 0.75*form.scale[c] + 2e-6*(math.Abs(w)+math.Abs(form.offset[c])) + bound(i)
			if d := math.Abs(float64(g) - w); !(d <= limit) {
				return fmt.Errorf("%s %%%s, element %d of %v (%d tokens): %g instead of %g: %g away, the bound is %g, one unit %g",
					n.Op, v.Name, i, v.Type.Shape, s.valid, g, want[i], d, limit, form.scale[c])
			}
		}
	}
	return nil
}

// bound is what a step may add to half a unit of its result.
func (x *quantized) bound(n *ir.Node, in []*ir.Tensor, vals [][]int32) (func(i int) float64, error) {
	form := x.q.vals[n.Out()]
	none := func(int) float64 { return 0 }
	unit := func(i int) float64 { return form.scale[i%len(form.scale)] }
	switch n.Op {
	case "embed":
		if len(in) > 2 && x.q.opts.TableStep == 0 {
			return narrowBound(in[2], in[3], form.scale), nil
		}
		return func(i int) float64 { return float64(max(x.q.opts.TableStep, 1)) / 2 * unit(i) }, nil
	case "conv", "linear":
		w := in[1].Data.([]float32)
		o := in[1].Shape[0]
		size := len(w) / o
		xf := x.q.in(n.Inputs[0])
		groups := n.Int("groups", 1)
		width := in[1].Shape[len(in[1].Shape)-1]
		acc := make([]float64, o)
		for c := range acc {
			top, b := 0.0, 0.0
			if len(in) > 2 {
				b = float64(in[2].Data.([]float32)[c])
			}
			for j, r := range w[c*size : (c+1)*size] {
				ch := c/(o/groups)*width + j%width
				top = max(top, math.Abs(float64(r)*xf.scale[ch]))
				b += float64(r) * xf.offset[ch]
			}
			acc[c] = max(top/127, math.Abs(b)/(1<<28))
		}
		// The sum of the inputs' magnitudes in each window.
		ones := make([]float32, len(w))
		for i := range ones {
			ones[i] = 1
		}
		_, q := x.real(n.Inputs[0], vals)
		mags := make([]float32, len(q))
		means := x.q.channelMeans(n.Inputs[0])
		for i, a := range q {
			c := i % len(means)
			mags[i] = float32(math.Abs(float64(a)-(means[c]-xf.offset[c])/xf.scale[c]) + 0.5)
		}
		plain := ir.Attrs{}
		for k, a := range n.Attrs {
			if len(k) < 3 || k[:3] != "act" {
				plain[k] = a
			}
		}
		m := &ir.Node{Op: n.Op, Inputs: n.Inputs[:2], Outputs: n.Outputs, Attrs: plain}
		sums, err := eval.Node(m, []*ir.Tensor{{Type: in[0].Type, Data: mags}, {Type: in[1].Type, Data: ones}})
		if err != nil {
			return nil, err
		}
		s := sums[0].Data.([]float32)
		if n.Int("pad_left", 0)+n.Int("pad_right", 0) > 0 {
			// Padding is further from the mean than any input may be.
			far := 0.0
			for c, m := range means {
				far = max(far, math.Abs(m/xf.scale[c]))
			}
			for i := range s {
				s[i] += float32(far) * float32(size)
			}
		}
		gain, table := slopeOf(n.Str("act", ""), n), 0.0
		if gain == 0 {
			gain = 1
		} else if _, clamps := map[string]bool{"relu": true, "clip": true}[n.Str("act", "")]; !clamps {
			// The table's own resolution.
			low, top, _ := x.q.observed(n.Out(), 127)
			top = max(top, 9)
			if fn := n.Str("act", ""); fn == "leaky_relu" {
				top = max(top, -10*low)
			} else if fn == "softsign" {
				top = 64
			}
			entries := 8192.0
			if form.val.Type.DType == ir.I16 {
				entries = 16384
			}
			table = 1.5 + 1.5*gain*top/entries/form.scale[0]
		}
		return func(i int) float64 {
			return table*unit(i) + gain*(0.55*acc[i%o]*(float64(s[i])+1))
		}, nil
	case "affine", "min", "max", "div", "add", "sub", "mul":
		// The bias of a channel is a whole number of its input's units over 127.
		for k, a := range n.Inputs[:2] {
			if !isConst(n.Inputs[1-k]) && !isConst(a) || isConst(a) {
				continue
			}
			if perPosition(n.Inputs[1-k]) { // a value of 16 bits
				k16, x := floats(n.Inputs[1-k]), in[k].Data.([]float32)
				half := 0.0
				for _, y := range k16 {
					half = max(half, math.Abs(float64(y))/65534)
				}
				if n.Op != "mul" {
					return func(int) float64 { return half }, nil
				}
				return func(i int) float64 { return half * math.Abs(float64(x[i])) }, nil
			}
			scale := x.q.in(a).scale
			f := []float32{1}
			if n.Op == "affine" || n.Op == "mul" {
				f = in[1-k].Data.([]float32)
			} else if n.Op == "div" {
				f = []float32{1 / in[1].Data.([]float32)[0]}
			}
			top := 0.0
			for _, y := range f {
				top = max(top, math.Abs(float64(y)))
			}
			return func(i int) float64 { return scale[i%len(scale)] * top / 127 }, nil
		}
		return none, nil
	case "act":
		if x.q.in(n.Inputs[0]).val.Type.DType == ir.I16 {
			// Tables have 4096 entries for 65536 inputs: the result may be that of
			// an input 16 units away.
			at := func(away float64) ([]float32, error) {
				moved := append([]*ir.Tensor{ir.NewTensor(in[0].Type)}, in[1:]...)
				for i, v := range in[0].Data.([]float32) {
					moved[0].Data.([]float32)[i] = float32(float64(v) + away*x.q.in(n.Inputs[0]).scale[0])
				}
				y, err := eval.Node(n, moved)
				if err != nil {
					return nil, err
				}
				return y[0].Data.([]float32), nil
			}
			var y [3][]float32
			for i, away := range []float64{-16, 0, 16} {
				var err error
				if y[i], err = at(away); err != nil {
					return nil, err
				}
			}
			return func(i int) float64 {
				return max(math.Abs(float64(y[0][i]-y[1][i])), math.Abs(float64(y[2][i]-y[1][i])))
			}, nil
		}
		return none, nil
	case "softmax":
		// A distance is cut to an entry of 1/128 of a logit, and to exp(-16).
		y, err := eval.Node(n, in)
		if err != nil {
			return nil, err
		}
		p := y[0].Data.([]float32)
		return func(i int) float64 { return 0.017*math.Abs(float64(p[i])) + 2e-6 }, nil
	case "pool":
		// Sums are kept in 16 bits and may be narrowed to 8 after that.
		return func(i int) float64 { return 1.1 * unit(i) }, nil
	case "layer_norm":
		gamma, data := in[1].Data.([]float32), in[0].Data.([]float32)
		scale := x.q.in(n.Inputs[0]).scale[0]
		if e := x.q.evened[n.Inputs[0]]; e != nil {
			scale = e.scale[0]
		}
		return func(i int) float64 {
			// Epsilon is a whole number in units of the squared sum: that shows where there is next to no variance.
			c := len(gamma)
			var s1, s2 float64
			for _, v := range data[i/c*c : (i/c+1)*c] {
				s1 += float64(v) / scale
				s2 += float64(v) / scale * float64(v) / scale
			}
			if n.Int("rms", 0) != 0 {
				s1 = 0
			}
			v := max(float64(c)*s2-s1*s1, 0) + n.Float("epsilon", 1e-5)/(scale*scale)*float64(c*c)
			norm := math.Abs(float64(c)*float64(data[i])/scale-s1) / math.Sqrt(max(v, 1e-9))
			coarse := 0.0 // gamma, a whole number, beside a beta of 30 bits
			if form.val.Type.DType == ir.I16 {
				coarse = 0.5 * norm * unit(i)
			}
			return math.Abs(float64(gamma[i%c]))*(1e-4+min(0.3/max(v, 1e-9), 1)*norm) + coarse + 0.7*unit(i)
		}, nil
	case "gated_conv":
		return x.gatedBound(n), nil
	}
	return none, nil
}

// gatedBound is what 8 bits of the gate's input and 7 of its result can cost. LayerNorm divides
// by the deviation, so its part is checked over all elements; see TestGatedQuality.
// narrowBound is the error of the rows that a table stored narrow is widened to: half a unit of
// each element of a narrow row, times its weight, for all channels together, since one may take
// what another saves.
func narrowBound(narrow, w *ir.Tensor, scale []float64) func(i int) float64 {
	d := narrow.Shape[1]
	half := make([]float64, d)
	for i, x := range narrow.Data.([]float32) {
		half[i%d] = max(half[i%d], math.Abs(float64(x))/127/2)
	}
	sum := 0.0
	for i, x := range w.Data.([]float32) {
		sum += math.Pow(half[i%d]*float64(x)/scale[i/d], 2)
	}
	return func(i int) float64 { return 1.001 * math.Sqrt(sum) * scale[i%len(scale)] }
}

func (x *quantized) gatedBound(n *ir.Node) func(i int) float64 {
	if n.Input(8) != nil {
		return func(int) float64 { return math.Inf(1) }
	}
	g, err := x.q.newGated(n)
	if err != nil {
		panic(err)
	}
	g.gateTaps()
	form := x.q.vals[n.Out()]
	return func(i int) float64 {
		c := i % g.c
		h := 128 * reach(g.folded(g.wh, g.bh, c, g.chanH[c]))
		return h*(0.25*g.unitG*1.6+3.0/127) + 3*form.scale[c]
	}
}

// slopeOf is the steepest slope of an activation, 0 for none.
func slopeOf(fn string, n *ir.Node) float64 {
	switch fn {
	case "":
		return 0
	case "leaky_relu", "elu":
		return max(1, math.Abs(n.Float("act_alpha", 1)), math.Abs(n.Float("alpha", 1)))
	case "selu":
		return 1.76
	case "hard_swish":
		return 1.5
	}
	return 1.2
}

// drawer builds random float graphs out of everything that quantize has a rule
// for.
type drawer struct {
	rng   *rand.Rand
	names edit.Names
	g     *ir.Graph
	valid *ir.Value
	err   error
}

func (d *drawer) op(op string, attrs ir.Attrs, in ...*ir.Value) *ir.Value {
	n, err := d.names.New(op, "", op, attrs, in...)
	if err != nil {
		d.err = errors.Join(d.err, err)
		return in[0]
	}
	d.g.Nodes = append(d.g.Nodes, n)
	return n.Out()
}

func (d *drawer) pick(n int) int           { return d.rng.IntN(n) }
func (d *drawer) oneOf(s ...string) string { return s[d.rng.IntN(len(s))] }

// normal are weights of the given deviation; now and then some are special.
func (d *drawer) normal(dev float64, shape ...int) *ir.Value {
	data := make([]float32, ir.NumElements(shape))
	for i := range data {
		data[i] = float32(d.rng.NormFloat64() * dev)
	}
	switch d.pick(8) {
	case 0: // a filter or channel that does nothing
		clear(data[:len(data)/shape[0]])
	case 1:
		data[d.pick(len(data))] *= 100
	}
	return d.names.Const("w", edit.F32(data, shape...))
}

func (d *drawer) vec(f func() float64, n int) *ir.Value {
	data := make([]float32, n)
	for i := range data {
		data[i] = float32(f())
	}
	return d.names.Vec("k", data)
}

func newDrawer(seed uint64, length, vocab, c int) (*drawer, *ir.Value) {
	d := &drawer{rng: rand.New(rand.NewPCG(seed, 9)), names: edit.Names{}, g: &ir.Graph{Name: "random"}}
	tokens := &ir.Value{Name: d.names.Fresh("tokens"), Type: ir.Type{DType: ir.I64, Shape: []int{length}}}
	d.g.Inputs = append(d.g.Inputs, tokens)
	if d.pick(2) == 0 {
		d.valid = &ir.Value{Name: d.names.Fresh("valid"), Type: ir.Type{DType: ir.I64}}
		d.g.Inputs = append(d.g.Inputs, d.valid)
	}
	dev := math.Pow(10, float64(d.pick(5)-2))
	return d, d.op("embed", nil, tokens, d.normal(dev, vocab, c))
}

func (d *drawer) finish(x *ir.Value) {
	if len(x.Type.Shape) == 2 {
		x = d.reduce(x)
	}
	y := d.op("linear", nil, x, d.normal(1/math.Sqrt(float64(x.Type.Shape[0])), 3, x.Type.Shape[0]), d.vec(d.rng.NormFloat64, 3))
	if d.pick(3) == 0 {
		y = d.op(d.oneOf("softmax", "log_softmax", "argmax"), nil, y)
	}
	d.g.Outputs, d.g.OutputNames = []*ir.Value{y}, []string{"logits"}
	d.g.Sweep()
}

func (d *drawer) reduce(x *ir.Value) *ir.Value {
	in := []*ir.Value{x}
	if d.valid != nil && x.Type.Shape[0] == lengthOf(d.g) {
		in = append(in, d.valid)
	}
	switch d.pick(6) {
	case 0:
		return d.op("flatten", nil, x)
	case 1:
		return d.op("pool", ir.Attrs{"kind": "select", "at": d.pick(x.Type.Shape[0])}, x)
	case 2:
		return d.op("pool", ir.Attrs{"kind": "sum"}, in...)
	case 3:
		return d.op("pool", ir.Attrs{"kind": "mean"}, in...)
	case 4:
		return d.op("concat", ir.Attrs{"axis": 0}, d.op("pool", ir.Attrs{"kind": "max"}, in...), d.op("pool", ir.Attrs{"kind": "mean"}, in...))
	}
	return d.op("pool", ir.Attrs{"kind": "max"}, in...)
}

func (d *drawer) fused(attrs ir.Attrs) ir.Attrs {
	switch d.pick(6) {
	case 0:
		attrs["act"] = "relu"
	case 1:
		attrs["act"] = d.oneOf("sigmoid", "tanh", "gelu", "silu", "elu", "selu", "softplus", "mish", "hard_swish", "hard_sigmoid", "softsign", "erf", "gelu_tanh", "celu")
	case 2:
		attrs["act"], attrs["act_min"], attrs["act_max"] = "clip", 0.0, 6.0
	case 3:
		attrs["act"], attrs["act_alpha"] = "leaky_relu", 0.1
	}
	return attrs
}

// blocks are what a graph is drawn from; each takes and returns a sequence.
var blocks = map[string]func(d *drawer, x *ir.Value) *ir.Value{
	"conv": func(d *drawer, x *ir.Value) *ir.Value {
		c, k, o := x.Type.Shape[1], 1+d.pick(9), 1+d.pick(9)
		groups := 1
		if c%2 == 0 && d.pick(2) == 0 {
			groups, o = 2, 2*o
		} else if d.pick(3) == 0 {
			groups, o = c, c
		}
		dil := 1 + d.pick(3)
		attrs := ir.Attrs{"groups": groups, "stride": 1 + d.pick(2), "dilation": dil, "pad_left": d.pick(k*dil + 1), "pad_right": (k - 1) * dil}
		bias := d.vec(func() float64 { return d.rng.NormFloat64() * math.Pow(10, float64(d.pick(9)-5)) }, o)
		if d.pick(4) == 0 {
			bias = nil
		}
		return d.op("conv", d.fused(attrs), x, d.normal(1, o, k, c/groups), bias)
	},
	"linear": func(d *drawer, x *ir.Value) *ir.Value {
		c := x.Type.Shape[1]
		return d.op("linear", d.fused(ir.Attrs{}), x, d.normal(1, c+1, c), d.vec(d.rng.NormFloat64, c+1))
	},
	"affine": func(d *drawer, x *ir.Value) *ir.Value {
		c := x.Type.Shape[1]
		return d.op("affine", nil, x, d.vec(d.rng.NormFloat64, c), d.vec(d.rng.NormFloat64, c))
	},
	"act": func(d *drawer, x *ir.Value) *ir.Value {
		fn := d.oneOf("relu", "sigmoid", "tanh", "gelu", "silu", "elu", "selu", "softplus", "abs", "neg", "hard_swish", "leaky_relu", "mish", "softsign")
		return d.op("act", ir.Attrs{"fn": fn}, x)
	},
	"prelu": func(d *drawer, x *ir.Value) *ir.Value {
		n := x.Type.Shape[1]
		if d.pick(2) == 0 {
			n = 1
		}
		return d.op("act", ir.Attrs{"fn": "prelu"}, x, d.vec(func() float64 { return d.rng.NormFloat64() }, n))
	},
	"const": func(d *drawer, x *ir.Value) *ir.Value {
		op := d.oneOf("add", "sub", "mul", "div")
		k := d.vec(func() float64 { return 0.5 + d.rng.Float64() }, x.Type.Shape[1])
		if d.pick(2) == 0 {
			k = d.vec(func() float64 { return 0.5 + d.rng.Float64() }, 1)
		}
		if op != "div" && d.pick(2) == 0 {
			return d.op(op, nil, k, x)
		}
		return d.op(op, nil, x, k)
	},
	"bound": func(d *drawer, x *ir.Value) *ir.Value {
		return d.op(d.oneOf("min", "max"), nil, x, d.vec(d.rng.NormFloat64, 1))
	},
	"residual": func(d *drawer, x *ir.Value) *ir.Value {
		c := x.Type.Shape[1]
		y := d.op("conv", ir.Attrs{"pad_left": 1, "pad_right": 1}, x, d.normal(1, c, 3, c))
		return d.op(d.oneOf("add", "sub", "mul"), nil, x, y)
	},
	"squeeze": func(d *drawer, x *ir.Value) *ir.Value {
		c := x.Type.Shape[1]
		s := d.op("linear", ir.Attrs{"act": "sigmoid"}, d.op("pool", ir.Attrs{"kind": "mean"}, x), d.normal(1, c, c))
		return d.op("mul", nil, x, s)
	},
	"column": func(d *drawer, x *ir.Value) *ir.Value { // one weight per position
		s := d.op("linear", ir.Attrs{"act": "sigmoid"}, x, d.normal(1, 1, x.Type.Shape[1]))
		return d.op("mul", nil, x, s)
	},
	"layer_norm": func(d *drawer, x *ir.Value) *ir.Value {
		c := x.Type.Shape[1]
		if c < 2 {
			return x
		}
		return d.op("layer_norm", ir.Attrs{"epsilon": 1e-5}, x, d.vec(d.rng.NormFloat64, c), d.vec(d.rng.NormFloat64, c))
	},
	"window": func(d *drawer, x *ir.Value) *ir.Value {
		k := 1 + d.pick(3)
		return d.op("window_pool", ir.Attrs{"kind": d.oneOf("max", "mean"), "k": k, "stride": 1 + d.pick(2), "pad_left": d.pick(k), "pad_right": d.pick(k), "count_pad": d.pick(2)}, x)
	},
	"slice": func(d *drawer, x *ir.Value) *ir.Value {
		axis := d.pick(2)
		n := x.Type.Shape[axis]
		if n < 4 {
			return x
		}
		return d.op("slice", ir.Attrs{"axis": axis, "start": d.pick(2), "step": 1 + d.pick(2), "count": n/2 - 1 + n%2}, x)
	},
	"concat": func(d *drawer, x *ir.Value) *ir.Value {
		c := x.Type.Shape[1]
		y := d.op("conv", ir.Attrs{"pad_left": 1, "pad_right": 1, "act": "relu"}, x, d.normal(1, c, 3, c))
		return d.op("concat", ir.Attrs{"axis": d.pick(2)}, x, y)
	},
	"pad": func(d *drawer, x *ir.Value) *ir.Value {
		return d.op("pad", ir.Attrs{"mode": d.oneOf("reflect", "edge", "wrap"), "left": d.pick(3), "right": d.pick(3)}, x)
	},
	"gated": func(d *drawer, x *ir.Value) *ir.Value { return d.gated(x, false) },
	"norm":  func(d *drawer, x *ir.Value) *ir.Value { return d.gated(x, true) },
}

// beside are blocks with numbers beside the sequence.
var beside = map[string]func(d *drawer, x *ir.Value) *ir.Value{
	"side": func(d *drawer, x *ir.Value) *ir.Value {
		c := x.Type.Shape[1]
		ids := &ir.Value{Name: d.names.Fresh(ir.SidesInput), Type: ir.Type{DType: ir.I64, Shape: []int{c + 2}}}
		d.g.Inputs = append(d.g.Inputs, ids)
		low, exp := make([]int, c), make([]int, c)
		for i := range low {
			low[i], exp[i] = d.pick(1<<25)-(1<<24), d.pick(5)-26
		}
		s := d.op("side", ir.Attrs{"at": d.pick(3), "low": low, "exp": exp}, ids)
		switch d.pick(4) {
		case 0:
			s = d.op("affine", nil, s, d.vec(d.rng.ExpFloat64, c), d.vec(d.rng.NormFloat64, c))
		case 1:
			return d.op(d.oneOf("add", "mul"), nil, x, s)
		}
		return d.op("add", nil, x, d.op("linear", d.fused(ir.Attrs{}), s, d.normal(1, c, c), d.vec(d.rng.NormFloat64, c)))
	},
}

// moving are blocks that work on positions as others do on channels.
var moving = map[string]func(d *drawer, x *ir.Value) *ir.Value{
	"transpose": func(d *drawer, x *ir.Value) *ir.Value { // what is done to positions
		t := d.op("transpose", nil, x)
		n := t.Type.Shape[1]
		switch pick := d.pick(3); {
		case pick == 0 && n >= 5: // fewer are sensitive to a unit of epsilon
			t = d.op("layer_norm", ir.Attrs{"epsilon": 1e-5}, t, d.vec(d.rng.NormFloat64, n), d.vec(d.rng.NormFloat64, n))
		case pick == 2 && n >= 5:
			t = d.op("layer_norm", ir.Attrs{"epsilon": 1e-5, "rms": 1}, t, d.vec(d.rng.NormFloat64, n), d.vec(d.rng.NormFloat64, n))
		case pick == 1:
			t = d.op("linear", d.fused(ir.Attrs{}), t, d.normal(1, 1+n/2, n), d.vec(d.rng.NormFloat64, 1+n/2))
		}
		return d.op("transpose", nil, t)
	},
	"softmax": func(d *drawer, x *ir.Value) *ir.Value { // weights of positions
		s := d.op("linear", nil, x, d.normal(1, 1, x.Type.Shape[1]))
		p := d.op("transpose", nil, d.op("softmax", nil, d.op("transpose", nil, s)))
		if d.pick(2) == 0 {
			return d.op("softmax", nil, x)
		}
		return d.op("mul", nil, x, p)
	},
	"regroup": func(d *drawer, x *ir.Value) *ir.Value {
		var fits []int
		for r := 2; r <= x.Type.Len()/5; r++ {
			if x.Type.Len()%r == 0 {
				fits = append(fits, r)
			}
		}
		if len(fits) == 0 {
			return x
		}
		return d.op("regroup", ir.Attrs{"rows": fits[d.pick(len(fits))]}, x)
	},
	"gather": func(d *drawer, x *ir.Value) *ir.Value {
		index := make([]int64, 1+d.pick(12))
		for i := range index {
			index[i] = int64(d.pick(x.Type.Shape[0]+1) - 1)
		}
		return d.op("gather", nil, x, d.names.Const("index", ir.Int64s(index, len(index))))
	},
	"positions": func(d *drawer, x *ir.Value) *ir.Value { // a table per position
		if x.Type.Shape[0] < 2 {
			return x
		}
		op, cols := d.oneOf("add", "sub", "mul"), x.Type.Shape[1]
		if op == "mul" && d.pick(2) == 0 {
			cols = 1
		}
		k := d.normal(0.5, x.Type.Shape[0], cols)
		if d.pick(2) == 0 && cols > 1 {
			return d.op(op, nil, k, x)
		}
		return d.op(op, nil, x, k)
	},
}

// gated draws a gated layer, with LayerNorm or not, of all kinds that fuse makes.
func (d *drawer) gated(x *ir.Value, norm bool) *ir.Value {
	cin := x.Type.Shape[1]
	c, k := 2+d.pick(9), 1+d.pick(9)
	if norm && d.pick(2) == 0 {
		c = cin
	}
	taps := func() *ir.Value {
		w := make([]float32, c*k)
		for o := range c {
			sum := float32(0)
			row := w[o*k : (o+1)*k]
			for i := range row {
				row[i] = float32(math.Exp(d.rng.NormFloat64()))
				sum += row[i]
			}
			for i := range row {
				row[i] /= sum
			}
		}
		if d.pick(8) == 0 {
			w[d.pick(len(w))] *= -1
		}
		return d.names.Const("taps", edit.F32(w, c, k))
	}
	chans := func() *ir.Value {
		ch := make([]int32, c)
		for i := range ch {
			ch[i] = int32(d.pick(cin))
		}
		return d.names.Const("chan", &ir.Tensor{Type: ir.Type{DType: ir.I32, Shape: []int{c}}, Data: ch})
	}
	var res, gamma, beta *ir.Value
	if c == cin && d.pick(2) == 0 {
		res = x
	}
	if norm {
		gamma = d.vec(func() float64 { return 1 + d.rng.NormFloat64()*0.5 }, c)
		beta = d.vec(func() float64 { return d.rng.NormFloat64() * 0.3 }, c)
		switch g := gamma.Const.Data.([]float32); d.pick(4) {
		case 0:
			g[0] = -g[0]
		case 1:
			g[0] = 0
		}
	}
	bias := func() *ir.Value { return d.vec(func() float64 { return d.rng.NormFloat64() }, c) }
	left := d.pick(k)
	return d.op("gated_conv", ir.Attrs{"k": k, "pad_left": left, "pad_right": k - 1 - left, "alpha": []float64{1, 0.5, -0.3, 2}[d.pick(4)], "epsilon": 1e-5},
		x, res, chans(), chans(), taps(), taps(), bias(), bias(), gamma, beta)
}

// calibrator runs a graph over inputs, as the compiler does.
func calibrator(inputs []sample) passes.Calibrator {
	return func(g *ir.Graph, observe func(*ir.Value, *ir.Tensor)) error {
		m, err := eval.New(g)
		if err != nil {
			return err
		}
		m.Observe = func(v *ir.Value, x *ir.Tensor) {
			if d, ok := x.Data.([]float32); ok {
				observe(v, &ir.Tensor{Type: x.Type, Data: append([]float32(nil), d...)})
			}
		}
		for _, s := range inputs {
			in := s.feed(g)
			for _, v := range g.Inputs {
				if len(v.Type.Shape) == 0 {
					observe(v, in[v.Name])
				}
			}
			if _, err := m.Run(in); err != nil {
				return err
			}
		}
		return nil
	}
}

// observations runs g over inputs.
func observations(t testing.TB, g *ir.Graph, inputs []sample) *Observations {
	t.Helper()
	obs, err := observe(calibrated(g, inputs), g)
	if err != nil {
		t.Fatal(err)
	}
	return obs
}
