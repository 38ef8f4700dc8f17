package eval

import (
	"fmt"
	"math"

	"nepcoc/ir"
	"nepcoc/ir/acts"
)

// onnxActs are the activations by their ONNX names.
var onnxActs = make(map[string]*acts.Func)

func init() {
	for _, f := range acts.Funcs() {
		switch f.ONNX {
		case "", "PRelu", "Gelu", "Clip", "Neg", "Abs", "Relu": // integers have some of them, others read more inputs or attributes
			continue
		}
		onnxActs[f.ONNX] = f
		register(onnxAct, f.ONNX)
	}
	register(gelu, "Gelu")
	register(rounding, "Floor", "Ceil")
	register(prelu, "PRelu")
	register(actOp, "act")
}

// function is an activation with the parameters that a node gives under
// prefix+"alpha" and so on.
func function(f *acts.Func, n *ir.Node, prefix string) func(float64) float64 {
	return f.Float(f.Complete(n.Params(prefix)))
}

// apply maps in to out, both f32 or both f64.
func apply(out, in *ir.Tensor, f func(float64) float64) {
	switch o := out.Data.(type) {
	case []float32:
		for i, x := range in.Data.([]float32) {
			o[i] = float32(f(float64(x)))
		}
	case []float64:
		for i, x := range in.Data.([]float64) {
			o[i] = f(x)
		}
	}
}

func onnxAct(c *call) error {
	apply(c.out[0], c.in[0], function(onnxActs[c.n.Op], c.n, ""))
	return nil
}

func gelu(c *call) error {
	fn := "gelu"
	if c.n.Str("approximate", "none") == "tanh" {
		fn = "gelu_tanh"
	}
	apply(c.out[0], c.in[0], function(acts.Lookup(fn), c.n, ""))
	return nil
}

func rounding(c *call) error {
	f := math.Floor
	if c.n.Op == "Ceil" {
		f = math.Ceil
	}
	apply(c.out[0], c.in[0], f)
	return nil
}

func prelu(c *call) error {
	switch out := c.out[0].Data.(type) {
	case []float32:
		preluTo(c, out)
	case []float64:
		preluTo(c, out)
	}
	return nil
}

func preluTo[T float](c *call, out []T) {
	x, slope, shape := c.in[0].Data.([]T), c.in[1].Data.([]T), c.out[0].Shape
	walk(shape, [][]int{stridesOf(shape), broadcastStrides(c.in[1].Shape, shape)}, func(at []int, n int, st []int) {
		for i := range n {
			v := x[at[0]+i]
			if v < 0 {
				v *= slope[at[1]+i*st[1]]
			}
			out[at[0]+i] = v
		}
	})
}

func actOp(c *call) error {
	f, err := named(c.n.Str("fn", ""))
	if err != nil {
		return err
	}
	if f.SlopeInput {
		return prelu(c)
	}
	apply(c.out[0], c.in[0], function(f, c.n, ""))
	return nil
}

// fusedAct applies the activation that conv and linear carry, in place.
func fusedAct(c *call) error {
	fn := c.n.Str("act", "")
	if fn == "" {
		return nil
	}
	f, err := named(fn)
	if err != nil {
		return err
	}
	apply(c.out[0], c.out[0], function(f, c.n, "act_"))
	return nil
}

func named(fn string) (*acts.Func, error) {
	f := acts.Lookup(fn)
	if f == nil {
		return nil, fmt.Errorf("function %q is not known", fn)
	}
	return f, nil
}
