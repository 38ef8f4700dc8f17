package passes_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"nepcoc/backends/program"
	"nepcoc/ir"
	"nepcoc/ir/eval"
	"nepcoc/passes"
	"nepcoc/passes/canonical"
	"nepcoc/passes/fuse"
	"nepcoc/passes/internal/edit"
	"nepcoc/passes/internal/passtest"
	"nepcoc/passes/legalize"
	"nepcoc/passes/localize"
	"nepcoc/passes/quantize"
	"nepcoc/runtime/cpu"
	"nepcoc/runtime/engine"
	"nepcoc/runtime/refexec"
)

// TestRandomWholeModels draws models that look at the whole sequence: norms and matrices over any axes,
// reshapes to images and back, windows over two axes.
func TestRandomWholeModels(t *testing.T) {
	models, refused := 600, 0
	if testing.Short() {
		models = 150
	}
	for seed := range uint64(models) {
		d := &drawer{rng: rand.New(rand.NewPCG(seed, 8)), names: edit.Names{}, g: &ir.Graph{Name: "random"}}
		d.whole()
		if err := ir.Check(d.g); err != nil {
			t.Fatalf("seed %d: the drawn model is invalid: %v", seed, err)
		}
		mgr, err := passes.NewManager([]passes.Pass{canonical.Pass, localize.Pass, legalize.Pass, fuse.Pass})
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
		inputs := passtest.RandomInputs(d.g, 2)
		adapted := make([]map[string]*ir.Tensor, len(inputs))
		for i := range inputs {
			adapted[i] = passtest.Adapt(t, after, inputs[i], ctx.Report.Local)
		}
		if !t.Run("", func(t *testing.T) {
			passtest.Compare(t, "fuse", passtest.Evaluate(t, after, adapted), passtest.Expected(t, d.g, inputs), 1e-3)
		}) {
			t.Fatalf("seed %d:\nbefore\n%s\nafter\n%s", seed, ir.Print(d.g), ir.Print(after))
		}
	}
	t.Logf("%d of %d models refused", refused, models)
	if refused > models/10 {
		t.Errorf("%d of %d models refused", refused, models)
	}
}

// TestRandomWholePrograms takes such models all the way: what is not refused becomes a valid program, and every kernel path
// gives the reference's bits.
func TestRandomWholePrograms(t *testing.T) {
	models := 400
	if testing.Short() {
		models = 100
	}
	for seed := range uint64(models) {
		d := &drawer{rng: rand.New(rand.NewPCG(seed, 8)), names: edit.Names{}, g: &ir.Graph{Name: "random"}}
		d.whole()
		mgr, err := passes.NewManager([]passes.Pass{canonical.Pass, localize.Pass, legalize.Pass, fuse.Pass, quantize.Pass})
		if err != nil {
			t.Fatal(err)
		}
		ctx := &passes.Context{Options: passes.Options{Method: "minmax"}}
		local := &ctx.Report.Local
		inputs := passtest.RandomInputs(d.g, 4)
		ctx.Calibrate = func(g *ir.Graph, observe func(*ir.Value, *ir.Tensor)) error {
			m, err := eval.New(g)
			if err != nil {
				return err
			}
			m.Observe = func(v *ir.Value, x *ir.Tensor) {
				if data, ok := x.Data.([]float32); ok {
					observe(v, &ir.Tensor{Type: x.Type, Data: slices.Clone(data)})
				}
			}
			for _, s := range inputs {
				if _, err := m.Run(passtest.Adapt(t, g, s, *local)); err != nil {
					return err
				}
			}
			return nil
		}
		g, err := mgr.Run(ctx, d.g.Clone())
		var problems ir.Problems
		switch {
		case errors.As(err, &problems):
			continue // refused: TestRandomWholeModels counts them
		case err != nil:
			t.Fatalf("seed %d: %+v\n%s", seed, err, ir.Print(d.g))
		}
		p, err := program.Lower(g, program.Info{Vocab: local.Vocab, Left: local.Left, Right: local.Right})
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, ir.Print(d.g))
		}
		ref, err := refexec.New(p)
		if err != nil {
			t.Fatal(err)
		}
		tokens := make([]int32, p.Length)
		for i := range tokens {
			tokens[i] = int32((i*7 + int(seed)) % p.Vocab)
		}
		want, err := ref.Run(tokens, p.Length)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range cpu.Available() {
			e, err := engine.Bind(p, engine.Options{Kernel: path.String()})
			if err != nil {
				t.Fatal(err)
			}
			out := e.NewOutput()
			if err := e.NewContext().Run(tokens, p.Length, out); err != nil {
				t.Fatal(err)
			}
			if !slices.EqualFunc(out, want, slices.Equal) {
				t.Fatalf("seed %d, %v: %v instead of %v\n%s", seed, path, out, want, ir.Print(g))
			}
			if !e.Streams() {
				continue
			}
			c, s, at := e.NewContext(), e.NewStream(), 0
			s.Begin()
			for at < p.Length {
				to := min(p.Length, at+1+d.rng.IntN(5))
				if err := c.Append(s, tokens[at:to]); err != nil {
					t.Fatal(err)
				}
				at = to
			}
			if err := c.Finish(s, 0, nil, out); err != nil {
				t.Fatal(err)
			}
			if !slices.EqualFunc(out, want, slices.Equal) {
				t.Fatalf("seed %d, %v: %v as a stream instead of %v\n%s", seed, path, out, want, ir.Print(g))
			}
		}
	}
}

// whole draws a model; x is [1,C,T] between its parts.
func (d *drawer) whole() {
	t := []int{6, 8, 12}[d.rng.IntN(3)]
	var x *ir.Value
	switch d.rng.IntN(4) {
	case 0:
		x = d.input("x", ir.F32, 1, 1, t)
	case 1: // an image of bytes
		x = d.op("Reshape", nil, d.image(d.input("x", ir.F32, 1, 1, 2, t/2)), d.ints(1, 0, -1))
	case 2: // an image of tokens
		x = d.op("Gather", nil, d.weights(5, 3), d.input("src", ir.I64, 1, 3, t/2))
		x = d.op("Transpose", ir.Attrs{"perm": []int{0, 3, 1, 2}}, x)
		x = d.op("Reshape", nil, x, d.ints(1, 3, -1))
	default:
		x = d.op("Gather", nil, d.weights(5, 4), d.input("src", ir.I64, 1, t))
		x = d.op("Transpose", ir.Attrs{"perm": []int{0, 2, 1}}, x)
	}
	for range 1 + d.rng.IntN(4) {
		all := wholeLayers
		if d.rng.IntN(3) == 0 {
			all = layers
		}
		if y := all[d.rng.IntN(len(all))](d, x); y != nil && y.Type.Len() < 2000 {
			x = y
		}
	}
	v := d.pool(x)
	if v == nil {
		v = d.op("Flatten", nil, x)
	}
	v = d.op("Gemm", ir.Attrs{"transB": 1}, v, d.weights(4, v.Type.Shape[1]), d.weights(4))
	d.g.Outputs, d.g.OutputNames = []*ir.Value{v}, []string{"y"}
	d.g.Sweep()
}

// image does some things with x [1,a,b,c], and returns as much.
func (d *drawer) image(x *ir.Value) *ir.Value {
	for range 1 + d.rng.IntN(4) {
		y := imageLayers[d.rng.IntN(len(imageLayers))](d, x)
		if y != nil && y.Type.Len() < 2000 {
			x = y
		}
	}
	return x
}

// split draws two factors of n.
func (d *drawer) split(n int) (int64, int64) {
	var fits []int
	for k := 1; k <= n; k++ {
		if n%k == 0 {
			fits = append(fits, k)
		}
	}
	k := fits[d.rng.IntN(len(fits))]
	return int64(k), int64(n / k)
}

func (d *drawer) layerNorm(x *ir.Value, axis int) *ir.Value {
	s := x.Type.Shape[axis:]
	if ir.NumElements(s) < 2 {
		return nil
	}
	return d.op("LayerNormalization", ir.Attrs{"axis": axis - len(x.Type.Shape), "epsilon": 0.01}, x, d.weights(s...), d.weights(s...))
}

var wholeLayers = []func(d *drawer, x *ir.Value) *ir.Value{
	func(d *drawer, x *ir.Value) *ir.Value { return d.layerNorm(x, 1+d.rng.IntN(2)) },
	func(d *drawer, x *ir.Value) *ir.Value { // norms of channels, or of groups of them
		c := x.Type.Shape[1]
		if d.rng.IntN(2) == 0 {
			return d.op("InstanceNormalization", ir.Attrs{"epsilon": 0.01}, x, d.weights(c), d.weights(c))
		}
		g, _ := d.split(c)
		return d.op("GroupNormalization", ir.Attrs{"epsilon": 0.01, "num_groups": int(g)}, x, d.weights(c), d.weights(c))
	},
	func(d *drawer, x *ir.Value) *ir.Value { // a matrix over positions
		return d.op("Relu", nil, d.op("MatMul", nil, x, d.weights(x.Type.Shape[2], 3+d.rng.IntN(6))))
	},
	func(d *drawer, x *ir.Value) *ir.Value { // a reduction that feeds back
		op := []string{"GlobalAveragePool", "GlobalMaxPool"}[d.rng.IntN(2)]
		s := d.op(op, nil, x)
		c := x.Type.Shape[1]
		s = d.op("Sigmoid", nil, d.op("Conv", nil, s, d.weights(c, c, 1)))
		return d.op([]string{"Mul", "Add", "Sub"}[d.rng.IntN(3)], nil, x, s)
	},
	func(d *drawer, x *ir.Value) *ir.Value { // other rows
		a, b := d.split(x.Type.Len())
		return d.op("Reshape", nil, x, d.ints(1, a, b))
	},
	func(d *drawer, x *ir.Value) *ir.Value { return d.op("Transpose", ir.Attrs{"perm": []int{0, 2, 1}}, x) },
	func(d *drawer, x *ir.Value) *ir.Value { // positions in any order
		index := make([]int64, 1+d.rng.IntN(8))
		for i := range index {
			index[i] = int64(d.rng.IntN(x.Type.Shape[2]))
		}
		return d.op("Gather", ir.Attrs{"axis": 2}, x, d.ints(index...))
	},
	func(d *drawer, x *ir.Value) *ir.Value {
		return d.op("Concat", ir.Attrs{"axis": 2}, x, d.op("Neg", nil, x))
	},
	func(d *drawer, x *ir.Value) *ir.Value { // sums over either axis
		op := []string{"ReduceMean", "ReduceSum", "ReduceMax"}[d.rng.IntN(3)]
		return d.op("Sub", nil, x, d.op(op, nil, x, d.ints(int64(1+d.rng.IntN(2)))))
	},
	asImage, asImage, asImage, asSamples,
}

// asSamples brings blocks of x [1,C,T] to the axis of samples, where layers treat each by itself, and makes a
// sequence of what comes of it.
func asSamples(d *drawer, x *ir.Value) *ir.Value {
	c, t := x.Type.Shape[1], x.Type.Shape[2]
	var y *ir.Value
	switch d.rng.IntN(3) {
	case 0: // blocks of positions, each with all channels
		n, w := d.split(t)
		y = d.op("Reshape", nil, x, d.ints(int64(c), n, w))
		y = d.op("Transpose", ir.Attrs{"perm": []int{1, 0, 2}}, y)
	case 1: // every position, as a row or with a length of 1
		y = d.op("Reshape", nil, d.op("Transpose", ir.Attrs{"perm": []int{0, 2, 1}}, x), d.ints(int64(t), int64(c), 1))
	default: // whatever lies there
		a, b := d.split(c)
		y = d.op("Reshape", nil, x, d.ints(a, b, int64(t)))
	}
	n, k, w := y.Type.Shape[0], y.Type.Shape[1], y.Type.Shape[2]
	g, _ := d.split(k)
	switch d.rng.IntN(5) {
	case 0:
		if w > 1 {
			y = d.op("InstanceNormalization", ir.Attrs{"epsilon": 0.01}, y, d.weights(k), d.weights(k))
		}
	case 1:
		if k/int(g)*w > 1 {
			y = d.op("GroupNormalization", ir.Attrs{"epsilon": 0.01, "num_groups": int(g)}, y, d.weights(k), d.weights(k))
		}
	case 2:
		y = d.op("PRelu", nil, y, d.weights(k, 1))
	case 3:
		y = d.op("Add", nil, y, d.op([]string{"GlobalAveragePool", "GlobalMaxPool"}[d.rng.IntN(2)], nil, y))
	case 4:
		y = d.op("BatchNormalization", nil, y, d.weights(k), d.weights(k), d.weights(k), d.op("Abs", nil, d.weights(k)))
	}
	return d.op("Reshape", nil, y, d.ints(1, int64(n*k), int64(w)))
}

// asImage makes an image of x [1,C,T], splitting either axis, and a sequence of what comes of it.
func asImage(d *drawer, x *ir.Value) *ir.Value {
	c, t := x.Type.Shape[1], x.Type.Shape[2]
	var y *ir.Value
	if d.rng.IntN(2) == 0 {
		h, w := d.split(t)
		y = d.op("Reshape", nil, x, d.ints(1, int64(c), h, w))
	} else {
		a, b := d.split(c)
		y = d.op("Reshape", nil, x, d.ints(1, a, b, int64(t)))
	}
	y = d.image(y)
	if d.rng.IntN(2) == 0 {
		return d.op("Reshape", nil, y, d.ints(1, int64(y.Type.Shape[1]), -1))
	}
	return d.op("Reshape", nil, y, d.ints(1, -1, int64(y.Type.Shape[3])))
}

var imageLayers = []func(d *drawer, x *ir.Value) *ir.Value{
	func(d *drawer, x *ir.Value) *ir.Value { // any convolution
		c, groups := x.Type.Shape[1], 1
		if d.rng.IntN(3) == 0 {
			groups = c
		}
		o := c * (1 + d.rng.IntN(2))
		h, w := 1+d.rng.IntN(3), 1+d.rng.IntN(3)
		attrs := ir.Attrs{"group": groups, "pads": []int{d.rng.IntN(h), d.rng.IntN(w), d.rng.IntN(h), d.rng.IntN(w)}, "strides": []int{1 + d.rng.IntN(2), 1 + d.rng.IntN(5)/4}, "dilations": []int{1, 1 + d.rng.IntN(5)/4}}
		return d.op("Conv", attrs, x, d.weights(o, c/groups, h, w), d.weights(o))
	},
	func(d *drawer, x *ir.Value) *ir.Value {
		attrs := ir.Attrs{"kernel_shape": []int{1 + d.rng.IntN(3), 1 + d.rng.IntN(3)}, "strides": []int{1 + d.rng.IntN(2), 1 + d.rng.IntN(2)}}
		k := attrs["kernel_shape"].([]int)
		attrs["pads"] = []int{d.rng.IntN(k[0]), 0, d.rng.IntN(k[0]), d.rng.IntN(k[1])}
		if d.rng.IntN(2) == 0 {
			attrs["ceil_mode"] = d.rng.IntN(2)
			return d.op("MaxPool", attrs, x)
		}
		attrs["count_include_pad"] = d.rng.IntN(2)
		return d.op("AveragePool", attrs, x)
	},
	func(d *drawer, x *ir.Value) *ir.Value { // any order of the axes
		p := d.rng.Perm(3)
		return d.op("Transpose", ir.Attrs{"perm": []int{0, 1 + p[0], 1 + p[1], 1 + p[2]}}, x)
	},
	func(d *drawer, x *ir.Value) *ir.Value { return d.layerNorm(x, 1+d.rng.IntN(3)) },
	func(d *drawer, x *ir.Value) *ir.Value { // constants of any of its axes
		s := []int{1, 1, 1}
		for i := range s {
			if d.rng.IntN(2) == 0 {
				s[i] = x.Type.Shape[1+i]
			}
		}
		return d.op([]string{"Add", "Sub", "Mul"}[d.rng.IntN(3)], nil, x, d.weights(s...))
	},
	func(d *drawer, x *ir.Value) *ir.Value { // what is computed of some of its axes meets it again
		axes := d.ints([][]int64{{1}, {2}, {3}, {2, 3}, {1, 3}, {1, 2}}[d.rng.IntN(6)]...)
		op := []string{"ReduceMean", "ReduceSum", "ReduceMax"}[d.rng.IntN(3)]
		return d.op([]string{"Add", "Sub"}[d.rng.IntN(2)], nil, x, d.op(op, nil, x, axes))
	},
	func(d *drawer, x *ir.Value) *ir.Value { // a matrix over the last axis
		return d.op("MatMul", nil, x, d.weights(x.Type.Shape[3], 1+d.rng.IntN(5)))
	},
	func(d *drawer, x *ir.Value) *ir.Value { // part of an axis
		a := 1 + d.rng.IntN(3)
		n := x.Type.Shape[a]
		from := d.rng.IntN(n)
		return d.op("Slice", nil, x, d.ints(int64(from)), d.ints(int64(from+1+d.rng.IntN(n-from))), d.ints(int64(a)))
	},
	func(d *drawer, x *ir.Value) *ir.Value { // more of it
		pads := make([]int64, 8)
		a := 2 + d.rng.IntN(2)
		pads[a], pads[4+a] = int64(d.rng.IntN(2)), int64(d.rng.IntN(2))
		return d.op("Pad", ir.Attrs{"mode": []string{"constant", "edge"}[d.rng.IntN(2)]}, x, d.ints(pads...))
	},
	func(d *drawer, x *ir.Value) *ir.Value {
		return d.op("Concat", ir.Attrs{"axis": 1 + d.rng.IntN(3)}, x, d.op("Relu", nil, x))
	},
	func(d *drawer, x *ir.Value) *ir.Value { // norms of its channels
		c := x.Type.Shape[1]
		return d.op("InstanceNormalization", ir.Attrs{"epsilon": 0.01}, x, d.weights(c), d.weights(c))
	},
	func(d *drawer, x *ir.Value) *ir.Value { return d.op("Tanh", nil, x) },
}
