package eval

import (
	"fmt"
	"math"

	"nepcoc/ir"
)

// onnxActs are the activations under their ONNX names.
var onnxActs = map[string]string{
	"LeakyRelu": "leaky_relu", "Elu": "elu", "Selu": "selu", "Celu": "celu", "Sigmoid": "sigmoid",
	"HardSigmoid": "hard_sigmoid", "HardSwish": "hard_swish", "Tanh": "tanh", "Softplus": "softplus",
	"Softsign": "softsign", "Mish": "mish", "Erf": "erf", "Exp": "exp", "Log": "log", "Sqrt": "sqrt",
	"Reciprocal": "reciprocal",
}

func init() {
	for op := range onnxActs {
		register(onnxAct, op)
	}
	register(gelu, "Gelu")
	register(rounding, "Floor", "Ceil")
	register(prelu, "PRelu")
	register(act, "act")
}

// actFunc is the definition of an activation, with the parameters that attrs
// give under prefix+"alpha" and so on; defaults are ONNX's.
func actFunc(fn string, n *ir.Node, prefix string) (func(float64) float64, error) {
	param := func(key string, def float64) float64 { return n.Float(prefix+key, def) }
	switch fn {
	case "relu":
		return func(x float64) float64 { return max(x, 0) }, nil
	case "leaky_relu":
		alpha := param("alpha", 0.01)
		return func(x float64) float64 {
			if x < 0 {
				return alpha * x
			}
			return x
		}, nil
	case "elu":
		alpha := param("alpha", 1)
		return func(x float64) float64 { return elu(x, alpha) }, nil
	case "selu":
		alpha, gamma := param("alpha", 1.67326319217681884765625), param("gamma", 1.05070102214813232421875)
		return func(x float64) float64 { return gamma * elu(x, alpha) }, nil
	case "celu":
		alpha := param("alpha", 1)
		return func(x float64) float64 { return max(x, 0) + min(0, alpha*math.Expm1(x/alpha)) }, nil
	case "sigmoid":
		return sigmoid, nil
	case "hard_sigmoid":
		alpha, beta := param("alpha", 0.2), param("beta", 0.5)
		return func(x float64) float64 { return max(0, min(1, float64(alpha*x)+beta)) }, nil
	case "hard_swish":
		return func(x float64) float64 { return x * max(0, min(1, x/6+0.5)) }, nil
	case "tanh":
		return math.Tanh, nil
	case "softplus":
		return softplus, nil
	case "softsign":
		return func(x float64) float64 { return x / (1 + math.Abs(x)) }, nil
	case "mish":
		return func(x float64) float64 { return x * math.Tanh(softplus(x)) }, nil
	case "gelu":
		return func(x float64) float64 { return 0.5 * x * (1 + math.Erf(x/math.Sqrt2)) }, nil
	case "gelu_tanh":
		return func(x float64) float64 {
			return 0.5 * x * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+float64(0.044715*x*x*x))))
		}, nil
	case "silu":
		return func(x float64) float64 { return x * sigmoid(x) }, nil
	case "erf":
		return math.Erf, nil
	case "exp":
		return math.Exp, nil
	case "log":
		return math.Log, nil
	case "sqrt":
		return math.Sqrt, nil
	case "square":
		return func(x float64) float64 { return x * x }, nil
	case "pow":
		alpha := param("alpha", 1)
		return func(x float64) float64 { return math.Pow(x, alpha) }, nil
	case "neg":
		return func(x float64) float64 { return -x }, nil
	case "abs":
		return math.Abs, nil
	case "reciprocal":
		return func(x float64) float64 { return 1 / x }, nil
	case "clip":
		lo, hi := param("min", math.Inf(-1)), param("max", math.Inf(1))
		return func(x float64) float64 { return min(max(x, lo), hi) }, nil
	}
	return nil, fmt.Errorf("function %q is not known", fn)
}

func elu(x, alpha float64) float64 {
	if x < 0 {
		return alpha * math.Expm1(x)
	}
	return x
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

// softplus avoids the overflow of exp for large x.
func softplus(x float64) float64 { return max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }

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
	f, err := actFunc(onnxActs[c.n.Op], c.n, "")
	if err != nil {
		return err
	}
	apply(c.out[0], c.in[0], f)
	return nil
}

func gelu(c *call) error {
	fn := "gelu"
	if c.n.Str("approximate", "none") == "tanh" {
		fn = "gelu_tanh"
	}
	f, err := actFunc(fn, c.n, "")
	if err != nil {
		return err
	}
	apply(c.out[0], c.in[0], f)
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

func act(c *call) error {
	fn := c.n.Str("fn", "")
	if fn == "prelu" {
		return prelu(c)
	}
	f, err := actFunc(fn, c.n, "")
	if err != nil {
		return err
	}
	apply(c.out[0], c.in[0], f)
	return nil
}

// fusedAct applies the activation that conv and linear carry, in place.
func fusedAct(c *call) error {
	fn := c.n.Str("act", "")
	if fn == "" {
		return nil
	}
	f, err := actFunc(fn, c.n, "act_")
	if err != nil {
		return err
	}
	apply(c.out[0], c.out[0], f)
	return nil
}
