package acts

import (
	"math"

	"nepcoc/internal/exact"
)

var (
	alpha = func(def float64) Param { return Param{"alpha", def} }
	beta  = func(def float64) Param { return Param{"beta", def} }
	gamma = func(def float64) Param { return Param{"gamma", def} }
)

var table = []Func{
	{Name: "relu", ONNX: "Relu", Doc: "max(x, 0)", Float: always(func(x float64) float64 { return max(x, 0) }),
		Limits: func(Params) (lo, hi float64) { return 0, math.Inf(1) }},
	{Name: "clip", ONNX: "Clip", Doc: "min(max(x, min), max)", Params: []Param{{"min", math.Inf(-1)}, {"max", math.Inf(1)}},
		Float: func(p Params) func(float64) float64 {
			lo, hi := p("min"), p("max")
			return func(x float64) float64 { return min(max(x, lo), hi) }
		},
		Limits: func(p Params) (lo, hi float64) { return p("min"), p("max") }},
	{Name: "leaky_relu", ONNX: "LeakyRelu", Doc: "x, alpha*x below 0", Params: []Param{alpha(0.01)}, Float: leakyRelu, reach: leakyReach},
	{Name: "prelu", ONNX: "PRelu", Doc: "x, slope*x below 0", Params: []Param{alpha(0)}, SlopeInput: true, Float: leakyRelu},
	{Name: "elu", ONNX: "Elu", Doc: "x, alpha*(exp(x)-1) below 0", Params: []Param{alpha(1)},
		Float: func(p Params) func(float64) float64 {
			a := p("alpha")
			return func(x float64) float64 { return elu(x, a, 1) }
		}, reach: rising(func(Params) float64 { return 8 })},
	{Name: "selu", ONNX: "Selu", Doc: "gamma * elu(x, alpha)", Params: []Param{alpha(1.67326319217681884765625), gamma(1.05070102214813232421875)},
		Float: func(p Params) func(float64) float64 {
			a, g := p("alpha"), p("gamma")
			return func(x float64) float64 { return float64(g * elu(x, a, 1)) }
		}, reach: func(f func(float64) float64, _ Params, lo, hi float64) float64 {
			return narrowed(f, max(8, hi/1.05), lo, hi)
		}},
	{Name: "celu", ONNX: "Celu", Doc: "x, alpha*(exp(x/alpha)-1) below 0", Params: []Param{alpha(1)},
		Float: func(p Params) func(float64) float64 {
			a := p("alpha")
			return func(x float64) float64 { return elu(x, a, a) }
		}, reach: rising(func(p Params) float64 { return 8 * max(p("alpha"), 0.1) })},
	{Name: "sigmoid", ONNX: "Sigmoid", Doc: "1 / (1+exp(-x))", Float: always(exact.Sigmoid), reach: bounded(9)},
	{Name: "hard_sigmoid", ONNX: "HardSigmoid", Doc: "min(max(alpha*x + beta, 0), 1)", Params: []Param{alpha(0.2), beta(0.5)},
		Float: func(p Params) func(float64) float64 {
			a, b := p("alpha"), p("beta")
			return func(x float64) float64 { return max(0, min(1, float64(a*x)+b)) }
		}, reach: func(f func(float64) float64, p Params, lo, hi float64) float64 {
			a, b := p("alpha"), p("beta")
			return narrowed(f, max(math.Abs(b/a), math.Abs((1-b)/a)), lo, hi)
		}},
	{Name: "hard_swish", ONNX: "HardSwish", Doc: "x * min(max(x/6 + 0.5, 0), 1)",
		Float: always(func(x float64) float64 { return float64(x * max(0, min(1, x/6+0.5))) }), reach: linearBeyond(3)},
	{Name: "tanh", ONNX: "Tanh", Doc: "hyperbolic tangent", Float: always(exact.Tanh), reach: bounded(4)},
	{Name: "softplus", ONNX: "Softplus", Doc: "log(1 + exp(x))", Float: always(exact.Softplus), reach: rising(func(Params) float64 { return 8 })},
	{Name: "softsign", ONNX: "Softsign", Doc: "x / (1+|x|)", Float: always(func(x float64) float64 { return x / (1 + math.Abs(x)) }), reach: bounded(64)},
	{Name: "mish", ONNX: "Mish", Doc: "x * tanh(softplus(x))",
		Float: always(func(x float64) float64 { return float64(x * exact.Tanh(exact.Softplus(x))) }), reach: linearBeyond(9)},
	{Name: "gelu", ONNX: "Gelu", Doc: "x/2 * (1 + erf(x/sqrt(2)))",
		Float: always(func(x float64) float64 { return float64(0.5 * x * (1 + exact.Erf(x/math.Sqrt2))) }), reach: linearBeyond(5)},
	{Name: "gelu_tanh", Doc: "x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715*x^3)))", Float: always(geluTanh), reach: linearBeyond(5)},
	{Name: "silu", Doc: "x * sigmoid(x)", Float: always(func(x float64) float64 { return float64(x * exact.Sigmoid(x)) }), reach: linearBeyond(9)},
	{Name: "erf", ONNX: "Erf", Doc: "error function", Float: always(exact.Erf), reach: bounded(3)},

	// From here on the input's range doesn't follow from the result's.
	{Name: "exp", ONNX: "Exp", Doc: "exp(x)", Float: always(exact.Exp)},
	{Name: "log", ONNX: "Log", Doc: "natural logarithm", Float: always(exact.Log),
		Table: always(func(x float64) float64 { return exact.Log(max(x, 1e-6)) })},
	{Name: "sqrt", ONNX: "Sqrt", Doc: "square root", Float: always(math.Sqrt), Table: always(func(x float64) float64 { return math.Sqrt(max(x, 0)) })},
	{Name: "square", Doc: "x * x", Float: always(func(x float64) float64 { return float64(x * x) })},
	{Name: "pow", Doc: "x to the power alpha", Params: []Param{alpha(1)},
		Float: func(p Params) func(float64) float64 {
			e := p("alpha")
			return func(x float64) float64 { return exact.Pow(x, e) }
		},
		Table: func(p Params) func(float64) float64 {
			e := p("alpha")
			return func(x float64) float64 {
				if y := exact.Pow(x, e); y-y == 0 {
					return y
				}
				return 0
			}
		}},
	{Name: "neg", ONNX: "Neg", Doc: "-x", Float: always(func(x float64) float64 { return -x })},
	{Name: "abs", ONNX: "Abs", Doc: "|x|", Float: always(math.Abs)},
	{Name: "reciprocal", ONNX: "Reciprocal", Doc: "1 / x", Float: always(func(x float64) float64 { return 1 / x }),
		Table: always(func(x float64) float64 {
			if math.Abs(x) < 1e-6 {
				return math.Copysign(1e6, x)
			}
			return 1 / x
		})},
}

// always is the form of a function without parameters.
func always(f func(float64) float64) func(Params) func(float64) float64 {
	return func(Params) func(float64) float64 { return f }
}

// elu is x, and scale*(exp(x/width)-1) below 0.
func elu(x, scale, width float64) float64 {
	if x < 0 {
		return float64(scale * exact.Expm1(x/width))
	}
	return x
}

func leakyRelu(p Params) func(float64) float64 {
	a := p("alpha")
	return func(x float64) float64 {
		if x < 0 {
			return float64(a * x)
		}
		return x
	}
}

func geluTanh(x float64) float64 {
	c := math.Sqrt(2 / math.Pi)
	return float64(0.5 * x * (1 + exact.Tanh(float64(c*(x+float64(0.044715*x*x*x))))))
}

// reach finds how far the inputs of a function go whose results are in [lo,hi].
type reach func(f func(float64) float64, p Params, lo, hi float64) float64

// bounded is for functions that rise and are constant, to within 8 bits, for
// inputs of more than a magnitude.
func bounded(at float64) reach {
	return func(f func(float64) float64, _ Params, lo, hi float64) float64 { return narrowed(f, at, lo, hi) }
}

// rising is for functions that rise, and beyond at are constant on the left and
// about their input on the right.
func rising(at func(Params) float64) reach {
	return func(f func(float64) float64, p Params, lo, hi float64) float64 {
		return narrowed(f, max(at(p), hi), lo, hi)
	}
}

// linearBeyond is for functions that don't rise everywhere, and beyond at are 0 on
// the left and their input on the right.
func linearBeyond(at float64) reach {
	return func(_ func(float64) float64, _ Params, _, hi float64) float64 { return max(at, hi) }
}

func leakyReach(f func(float64) float64, p Params, lo, hi float64) float64 {
	switch a := p("alpha"); {
	case a < 0: // both sides rise
		return max(hi, -hi/a)
	case a > 0:
		return narrowed(f, max(hi, -lo/a), lo, hi)
	}
	return narrowed(f, hi, lo, hi)
}

// narrowed is the least r, up to the given one, for which the results for
// inputs in [-r,r] cover [lo,hi]: a table that reaches further is wasted. f
// rises.
func narrowed(f func(float64) float64, r, lo, hi float64) float64 {
	least := 0.0
	for range 40 {
		if mid := (least + r) / 2; f(-mid) <= lo && f(mid) >= hi {
			r = mid
		} else {
			least = mid
		}
	}
	return r
}
