package passes_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"nepcoc/ir"
	"nepcoc/passes"
	"nepcoc/passes/canonical"
	"nepcoc/passes/fuse"
	"nepcoc/passes/internal/edit"
	"nepcoc/passes/internal/passtest"
	"nepcoc/passes/localize"
)

// TestRandomModels draws small models out of the layers that people use, in
// any order, and checks that the passes keep their meaning. Refusals are
// counted: too many would mean that the test tests nothing.
func TestRandomModels(t *testing.T) {
	const models = 300
	refused := 0
	for seed := range uint64(models) {
		d := &drawer{rng: rand.New(rand.NewPCG(seed, 7)), names: edit.Names{}, g: &ir.Graph{Name: "random"}}
		d.model()
		if err := ir.Check(d.g); err != nil {
			t.Fatalf("seed %d: the drawn model is invalid: %v", seed, err)
		}
		mgr, err := passes.NewManager([]passes.Pass{canonical.Pass, localize.Pass, fuse.Pass})
		if err != nil {
			t.Fatal(err)
		}
		ctx := &passes.Context{}
		after, err := mgr.Run(ctx, d.g.Clone())
		if err != nil {
			var problems ir.Problems
			if !errors.As(err, &problems) {
				t.Fatalf("seed %d: %+v\n%s", seed, err, ir.Print(d.g))
			}
			refused++
			t.Logf("seed %d: %v", seed, err)
			continue
		}
		inputs := passtest.RandomInputs(d.g, 3)
		adapted := make([]map[string]*ir.Tensor, len(inputs))
		for i := range inputs {
			adapted[i] = passtest.Adapt(t, after, inputs[i], ctx.Report.Local)
		}
		ok := t.Run("", func(t *testing.T) {
			passtest.Compare(t, "fuse", passtest.Evaluate(t, after, adapted), passtest.Expected(t, d.g, inputs), 1e-3)
			if unfused := d.localized(t); unfused != nil {
				measure(t, unfused, ctx.Report.Local, 3)
			}
		})
		if !ok {
			t.Fatalf("seed %d:\nbefore\n%s\nafter\n%s", seed, ir.Print(d.g), ir.Print(after))
		}
	}
	t.Logf("%d of %d models refused", refused, models)
	if refused > models/5 {
		t.Errorf("%d of %d models refused", refused, models)
	}
}

// drawer builds a model in ONNX operators, [1,C,T].
type drawer struct {
	rng   *rand.Rand
	names edit.Names
	g     *ir.Graph
	mask  *ir.Value
}

// localized is the model after localize alone.
func (d *drawer) localized(t *testing.T) *ir.Graph {
	t.Helper()
	mgr, err := passes.NewManager([]passes.Pass{canonical.Pass, localize.Pass})
	if err != nil {
		t.Fatal(err)
	}
	ctx := &passes.Context{}
	g, err := mgr.Run(ctx, d.g.Clone())
	if err != nil {
		t.Fatal(err)
	}
	if ctx.Report.Local.Whole {
		return nil
	}
	return g
}

// op adds a node; nil where its operands don't fit.
func (d *drawer) op(op string, attrs ir.Attrs, in ...*ir.Value) *ir.Value {
	n, err := d.names.New(op, "", op, attrs, in...)
	if err != nil {
		return nil
	}
	for _, dim := range n.Out().Type.Shape {
		if dim == 0 {
			return nil
		}
	}
	d.g.Nodes = append(d.g.Nodes, n)
	return n.Out()
}

func (d *drawer) weights(shape ...int) *ir.Value {
	data := make([]float32, ir.NumElements(shape))
	for i := range data {
		data[i] = float32(d.rng.IntN(200)-100) / 100
	}
	return d.names.Const("w", edit.F32(data, shape...))
}

func (d *drawer) ints(x ...int64) *ir.Value { return d.names.Const("i", ir.Int64s(x, len(x))) }

func (d *drawer) sequence(from, to int) *ir.Value {
	var x []int64
	for i := from; i < to; i++ {
		x = append(x, int64(i))
	}
	return d.ints(x...)
}

func (d *drawer) scalar(x float32) *ir.Value { return d.names.Const("k", edit.F32([]float32{x})) }

func (d *drawer) input(name string, dt ir.DType, shape ...int) *ir.Value {
	v := &ir.Value{Name: d.names.Fresh(name), Type: ir.Type{DType: dt, Shape: shape}}
	d.g.Inputs = append(d.g.Inputs, v)
	return v
}

func (d *drawer) model() {
	t := 6 + d.rng.IntN(8)
	var x *ir.Value
	if d.rng.IntN(2) == 0 {
		src := d.input("src", ir.I64, 1, t)
		x = d.op("Gather", nil, d.weights(5, 4), src)
		x = d.op("Transpose", ir.Attrs{"perm": []int{0, 2, 1}}, x)
	} else {
		x = d.input("x", ir.F32, 1, 1, t)
	}
	if d.rng.IntN(3) == 0 {
		seg := d.input("seg", ir.I64, 1, t)
		d.mask = d.op("Cast", ir.Attrs{"to": "f32"}, d.op("Unsqueeze", nil, seg, d.ints(1)))
	}
	for range 1 + d.rng.IntN(6) {
		l := layers[d.rng.IntN(len(layers))]
		if y := l(d, x); y != nil {
			x = y
		}
	}
	v := d.pool(x)
	if d.rng.IntN(2) == 0 {
		v = d.op("Tanh", nil, d.op("Gemm", ir.Attrs{"transB": 1}, v, d.weights(4, v.Type.Shape[1]), d.weights(4)))
	}
	if d.rng.IntN(4) == 0 {
		v = d.op("Softmax", ir.Attrs{"axis": 1}, v)
	}
	d.g.Outputs, d.g.OutputNames = []*ir.Value{v}, []string{"y"}
	if d.mask != nil { // an unread input is fine, an unread node is not the point
		d.g.Sweep()
	}
}

// pool reduces [1,C,T] to [1,C].
func (d *drawer) pool(x *ir.Value) *ir.Value {
	c, t := x.Type.Shape[1], x.Type.Shape[2]
	if d.mask != nil && t == d.mask.Type.Shape[2] {
		kept := d.op("Mul", nil, x, d.mask)
		if d.rng.IntN(2) == 0 {
			low := d.op("Mul", nil, d.op("Sub", nil, d.mask, d.scalar(1)), d.scalar(1e6))
			return d.op("ReduceMax", ir.Attrs{"keepdims": 0}, d.op("Add", nil, kept, low), d.ints(2))
		}
		n := d.op("ReduceSum", ir.Attrs{"keepdims": 0}, d.mask, d.ints(-1))
		return d.op("Div", nil, d.op("ReduceSum", ir.Attrs{"keepdims": 0}, kept, d.ints(2)), d.op("Clip", nil, n, d.scalarOf(1)))
	}
	switch d.rng.IntN(5) {
	case 0:
		return d.op("ReduceMax", ir.Attrs{"keepdims": 0}, x, d.ints(2))
	case 1:
		return d.op("Flatten", ir.Attrs{"axis": 1}, d.op("GlobalAveragePool", nil, x))
	case 2:
		f := d.op("Reshape", nil, x, d.ints(1, -1))
		return d.op("Gemm", nil, f, d.weights(c*t, 3))
	case 3:
		return d.op("Gather", ir.Attrs{"axis": 2}, x, d.names.Const("at", &ir.Tensor{Type: ir.Type{DType: ir.I64, Shape: []int{}}, Data: []int64{-1}}))
	}
	y := d.op("Transpose", ir.Attrs{"perm": []int{0, 2, 1}}, x)
	return d.op("ReduceMean", ir.Attrs{"keepdims": 0}, y, d.ints(1))
}

func (d *drawer) scalarOf(x float32) *ir.Value {
	return d.names.Const("k", &ir.Tensor{Type: ir.Type{DType: ir.F32, Shape: []int{}}, Data: []float32{x}})
}

// layers map [1,C,T] to [1,C',T'], or to nil where they don't fit.
var layers = []func(d *drawer, x *ir.Value) *ir.Value{
	func(d *drawer, x *ir.Value) *ir.Value { // convolution
		c, k, groups := x.Type.Shape[1], 1+d.rng.IntN(4), 1
		if d.rng.IntN(3) == 0 {
			groups = c
		}
		o := c * (1 + d.rng.IntN(2))
		attrs := ir.Attrs{"group": groups, "pads": []int{d.rng.IntN(k), d.rng.IntN(k)}, "strides": []int{1 + d.rng.IntN(5)/4}, "dilations": []int{1 + d.rng.IntN(5)/4}}
		var b *ir.Value
		if d.rng.IntN(2) == 0 {
			b = d.weights(o)
		}
		return d.op("Conv", attrs, x, d.weights(o, c/groups, k), b)
	},
	func(d *drawer, x *ir.Value) *ir.Value { // gated layer
		c, k := x.Type.Shape[1], 2+d.rng.IntN(3)
		p := d.op("Pad", nil, x, d.ints(0, 0, int64((k-1)/2), 0, 0, int64(k/2)))
		cv := d.op("Conv", ir.Attrs{"group": c}, p, d.weights(2*c, 1, k), d.weights(2*c))
		h := d.op("Slice", nil, cv, d.ints(0), d.ints(int64(c)), d.ints(1))
		g := d.op("Slice", nil, cv, d.ints(int64(c)), d.ints(1<<30), d.ints(1))
		y := d.op("Mul", nil, h, d.op("Sigmoid", nil, g))
		if d.rng.IntN(2) == 0 {
			y = d.op("Add", nil, y, d.op("Mul", nil, x, d.scalar(0.5)))
		}
		return y
	},
	func(d *drawer, x *ir.Value) *ir.Value { // LayerNorm over channels
		c := x.Type.Shape[1]
		y := d.op("Transpose", ir.Attrs{"perm": []int{0, 2, 1}}, x)
		y = d.op("LayerNormalization", ir.Attrs{"axis": -1, "epsilon": 0.01}, y, d.weights(c), d.weights(c))
		return d.op("Transpose", ir.Attrs{"perm": []int{0, 2, 1}}, y)
	},
	func(d *drawer, x *ir.Value) *ir.Value { // batch norm
		c := x.Type.Shape[1]
		v := d.weights(c)
		for i, f := range edit.Floats(v) {
			edit.Floats(v)[i] = f*f + 0.1
		}
		return d.op("BatchNormalization", nil, x, d.weights(c), d.weights(c), d.weights(c), v)
	},
	func(d *drawer, x *ir.Value) *ir.Value { // function
		fns := []string{"Relu", "Tanh", "Sigmoid", "LeakyRelu", "Elu", "Softplus", "HardSigmoid", "Erf", "Abs", "Neg", "Mish", "Gelu", "HardSwish"}
		return d.op(fns[d.rng.IntN(len(fns))], nil, x)
	},
	func(d *drawer, x *ir.Value) *ir.Value { // SiLU
		return d.op("Mul", nil, x, d.op("Sigmoid", nil, x))
	},
	func(d *drawer, x *ir.Value) *ir.Value { // arithmetic with constants of several shapes
		ops, c, t := []string{"Add", "Sub", "Mul"}, x.Type.Shape[1], x.Type.Shape[2]
		shapes := [][]int{{1}, {c, 1}, {1, c, 1}, {t}, {c, t}, {}}
		k := d.weights(shapes[d.rng.IntN(len(shapes))]...)
		if d.rng.IntN(2) == 0 {
			return d.op(ops[d.rng.IntN(3)], nil, k, x)
		}
		return d.op(ops[d.rng.IntN(3)], nil, x, k)
	},
	func(d *drawer, x *ir.Value) *ir.Value { // pooling
		k := 2 + d.rng.IntN(2)
		attrs := ir.Attrs{"kernel_shape": []int{k}, "strides": []int{1 + d.rng.IntN(3)}, "ceil_mode": d.rng.IntN(2), "pads": []int{d.rng.IntN(2), d.rng.IntN(2)}}
		if d.rng.IntN(2) == 0 {
			return d.op("MaxPool", attrs, x)
		}
		if d.rng.IntN(2) == 0 {
			attrs["ceil_mode"], attrs["count_include_pad"] = 0, 1
		}
		return d.op("AveragePool", attrs, x)
	},
	func(d *drawer, x *ir.Value) *ir.Value { // explicit padding and cutting
		modes := []string{"constant", "edge", "reflect", "wrap"}
		return d.op("Pad", ir.Attrs{"mode": modes[d.rng.IntN(4)]}, x, d.ints(0, 0, int64(d.rng.IntN(4)-1), 0, 0, int64(d.rng.IntN(4)-1)))
	},
	func(d *drawer, x *ir.Value) *ir.Value { // two branches joined
		c := x.Type.Shape[1]
		a := d.op("Conv", ir.Attrs{"auto_pad": "SAME_UPPER"}, x, d.weights(2, c, 3))
		return d.op("Concat", ir.Attrs{"axis": 1}, x, d.op("Relu", nil, a))
	},
	func(d *drawer, x *ir.Value) *ir.Value { // residual block
		c := x.Type.Shape[1]
		y := d.op("Conv", ir.Attrs{"pads": []int{1, 1}}, x, d.weights(c, c, 3), d.weights(c))
		return d.op("Relu", nil, d.op("Add", nil, x, y))
	},
	func(d *drawer, x *ir.Value) *ir.Value { // linear layer over channels
		c := x.Type.Shape[1]
		y := d.op("MatMul", nil, d.op("Transpose", ir.Attrs{"perm": []int{0, 2, 1}}, x), d.weights(c, c+1))
		return d.op("Transpose", ir.Attrs{"perm": []int{0, 2, 1}}, d.op("Add", nil, y, d.weights(c+1)))
	},
	func(d *drawer, x *ir.Value) *ir.Value { // bounds and slopes
		if d.rng.IntN(2) == 0 {
			return d.op("Clip", nil, x, d.scalarOf(-0.5), d.scalarOf(0.75))
		}
		return d.op("PRelu", nil, x, d.weights(x.Type.Shape[1], 1))
	},
	func(d *drawer, x *ir.Value) *ir.Value { // halves of the channels change places
		c := x.Type.Shape[1]
		if c%2 != 0 {
			return nil
		}
		a := d.op("Slice", nil, x, d.ints(0), d.ints(int64(c/2)), d.ints(-2))
		b := d.op("Gather", ir.Attrs{"axis": 1}, x, d.sequence(c/2, c))
		return d.op("Concat", ir.Attrs{"axis": -2}, b, d.op("Max", nil, a, b))
	},
	func(d *drawer, x *ir.Value) *ir.Value { // a 2-D convolution over a height of 1
		c := x.Type.Shape[1]
		y := d.op("Unsqueeze", nil, x, d.ints(2))
		y = d.op("Conv", ir.Attrs{"pads": []int{1, 0, 1, 2}}, y, d.weights(3, c, 3, 3), d.weights(3))
		return d.op("Squeeze", nil, y, d.ints(2))
	},
	func(d *drawer, x *ir.Value) *ir.Value { // decomposed LayerNorm over channels in place
		m := d.op("ReduceMean", ir.Attrs{"keepdims": 1}, x, d.ints(1))
		c := d.op("Sub", nil, x, m)
		v := d.op("ReduceMean", ir.Attrs{"keepdims": 1}, d.op("Mul", nil, c, c), d.ints(1))
		y := d.op("Div", nil, c, d.op("Sqrt", nil, d.op("Add", nil, v, d.scalar(0.01))))
		return d.op("Mul", nil, y, d.weights(x.Type.Shape[1], 1))
	},
	func(d *drawer, x *ir.Value) *ir.Value { // linear layer with the axes in another order
		y := d.op("Transpose", ir.Attrs{"perm": []int{2, 0, 1}}, x)
		y = d.op("MatMul", nil, y, d.weights(x.Type.Shape[1], 2))
		return d.op("Transpose", ir.Attrs{"perm": []int{1, 2, 0}}, d.op("Pow", nil, y, d.scalar(2)))
	},
	func(d *drawer, x *ir.Value) *ir.Value { // chomping
		t := int64(x.Type.Shape[2])
		return d.op("Slice", nil, x, d.ints(int64(d.rng.IntN(2))), d.ints(t-int64(d.rng.IntN(2))), d.ints(2), d.ints(1+int64(d.rng.IntN(4))/3))
	},
}
