package quantize

import (
	"fmt"
	"math"

	"nepcoc/ir"
)

// activation is a scalar function of one value. Those that only limit their
// input (relu, clip) become the limits of a requantisation; the others tables.
type activation struct {
	fn     string
	f      func(x float64) float64
	clamps bool
	lo, hi float64 // of a clamping function
	// saturates is the input beyond which f is constant or the identity to
	// within 8 bits; slope is f's slope far to the left, 0 where it is flat.
	saturates, slope float64
}

// functions is the table of activations. p reads a parameter by name.
var functions = map[string]func(p func(name string, def float64) float64) activation{
	"relu":     func(p params) activation { return clamping(0, math.Inf(1)) },
	"clip":     func(p params) activation { return clamping(p("min", math.Inf(-1)), p("max", math.Inf(1))) },
	"identity": func(p params) activation { return clamping(math.Inf(-1), math.Inf(1)) },
	"leaky_relu": func(p params) activation {
		a := p("alpha", 0.01)
		return activation{f: func(x float64) float64 { return left(x, a*x) }, slope: a}
	},
	"elu": func(p params) activation {
		a := p("alpha", 1)
		return activation{f: func(x float64) float64 { return left(x, a*math.Expm1(x)) }, saturates: 8}
	},
	"celu": func(p params) activation {
		a := p("alpha", 1)
		return activation{f: func(x float64) float64 { return left(x, a*math.Expm1(x/a)) }, saturates: 8 * max(a, 0.1)}
	},
	"selu": func(p params) activation {
		a, g := p("alpha", 1.6732632423543772), p("gamma", 1.0507009873554805)
		return activation{f: func(x float64) float64 { return g * left(x, a*math.Expm1(x)) }, saturates: 8}
	},
	"sigmoid": func(p params) activation { return activation{f: sigmoid, saturates: 9} },
	"hard_sigmoid": func(p params) activation {
		a, b := p("alpha", 0.2), p("beta", 0.5)
		f := func(x float64) float64 { return min(max(float64(a*x)+b, 0), 1) }
		return activation{f: f, saturates: max(math.Abs(b/a), math.Abs((1-b)/a))}
	},
	"hard_swish": func(p params) activation {
		return activation{f: func(x float64) float64 { return x * min(max(x/6+0.5, 0), 1) }, saturates: 3}
	},
	"tanh":     func(p params) activation { return activation{f: math.Tanh, saturates: 4} },
	"softplus": func(p params) activation { return activation{f: softplus, saturates: 8} },
	"softsign": func(p params) activation {
		return activation{f: func(x float64) float64 { return x / (1 + math.Abs(x)) }, saturates: 64}
	},
	"mish": func(p params) activation {
		return activation{f: func(x float64) float64 { return x * math.Tanh(softplus(x)) }, saturates: 9}
	},
	"silu": func(p params) activation {
		return activation{f: func(x float64) float64 { return x * sigmoid(x) }, saturates: 9}
	},
	"gelu": func(p params) activation {
		return activation{f: func(x float64) float64 { return 0.5 * x * (1 + math.Erf(x/math.Sqrt2)) }, saturates: 5}
	},
	"gelu_tanh": func(p params) activation {
		c := math.Sqrt(2 / math.Pi)
		return activation{f: func(x float64) float64 { return 0.5 * x * (1 + math.Tanh(c*(x+float64(0.044715*x*x*x)))) }, saturates: 5}
	},
	"erf": func(p params) activation { return activation{f: math.Erf, saturates: 3} },
	"exp": func(p params) activation { return activation{f: math.Exp} },
	"log": func(p params) activation {
		return activation{f: func(x float64) float64 { return math.Log(max(x, 1e-6)) }}
	},
	"sqrt": func(p params) activation {
		return activation{f: func(x float64) float64 { return math.Sqrt(max(x, 0)) }}
	},
	"square": func(p params) activation { return activation{f: func(x float64) float64 { return x * x }} },
	"pow": func(p params) activation {
		e := p("alpha", 1)
		return activation{f: func(x float64) float64 { return power(x, e) }}
	},
	"abs":        func(p params) activation { return activation{f: math.Abs} },
	"neg":        func(p params) activation { return activation{f: func(x float64) float64 { return -x }} },
	"reciprocal": func(p params) activation { return activation{f: reciprocal} },
}

type params = func(name string, def float64) float64

func clamping(lo, hi float64) activation {
	return activation{f: func(x float64) float64 { return min(max(x, lo), hi) }, clamps: true, lo: lo, hi: hi}
}

func left(x, negative float64) float64 {
	if x < 0 {
		return negative
	}
	return x
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

func softplus(x float64) float64 { return max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }

func reciprocal(x float64) float64 {
	if math.Abs(x) < 1e-6 {
		return math.Copysign(1e6, x)
	}
	return 1 / x
}

// power is x^e, 0 where that is no number.
func power(x, e float64) float64 {
	if y := math.Pow(x, e); y-y == 0 {
		return y
	}
	return 0
}

// fusable lists the functions whose input range follows from their output's:
// a conv or linear may carry one; the others stand alone.
func fusable(fn string) bool {
	switch fn {
	case "exp", "log", "sqrt", "square", "pow", "abs", "neg", "reciprocal":
		return false
	}
	return functions[fn] != nil
}

// activationOf reads the function of node n from attribute key; nil where
// there is none.
func activationOf(n *ir.Node, key, prefix string, slope []float32) (*activation, error) {
	fn := n.Str(key, "")
	if fn == "" {
		return nil, nil
	}
	make, ok := functions[fn]
	if !ok || (key == "act" && !fusable(fn)) {
		return nil, fmt.Errorf("applies %q, which has no integer form here", fn)
	}
	a := make(func(name string, def float64) float64 { return n.Float(prefix+name, def) })
	a.fn = fn
	return &a, nil
}

// reach is the largest input magnitude that matters for outputs in [lo,hi].
func (a *activation) reach(lo, hi float64) float64 {
	r := max(a.saturates, hi)
	switch a.fn {
	case "sigmoid", "tanh", "erf", "hard_sigmoid", "softsign":
		r = a.saturates // bounded on both sides
	case "elu", "celu", "softplus":
	case "selu":
		r = max(a.saturates, hi/1.05)
	case "leaky_relu":
		if a.slope < 0 {
			return nonZero(max(hi, -hi/a.slope))
		}
		if a.slope > 0 {
			r = max(r, -lo/a.slope)
		}
	default:
		return nonZero(r)
	}
	// These rise everywhere: inputs beyond those of the outermost outputs
	// would waste the table.
	covers := func(r float64) bool { return a.f(-r) <= lo && a.f(r) >= hi }
	least := 0.0
	for range 40 {
		if mid := (least + r) / 2; covers(mid) {
			r = mid
		} else {
			least = mid
		}
	}
	return nonZero(r)
}

// bounds are a clamping function's limits in the integer form of its output.
func (a *activation) bounds(scale, zero float64, lo, hi int32) (int32, int32) {
	if x := math.RoundToEven(a.lo/scale + zero); x > float64(lo) {
		lo = int32(min(x, float64(hi)))
	}
	if x := math.RoundToEven(a.hi/scale + zero); x < float64(hi) {
		hi = int32(max(x, float64(lo)))
	}
	return lo, hi
}

// table tabulates f: entry i stands for the input (i-n/2)*unit + center and
// holds the integer form of the output, in [lo,hi].
func (a *activation) table(n int, unit, center, scale, offset float64, lo, hi int32) []int16 {
	t := make([]int16, n)
	for i := range t {
		y := a.f(float64(float64(i-n/2)*unit) + center)
		t[i] = int16(min(max(math.RoundToEven((y-offset)/scale), float64(lo)), float64(hi)))
	}
	return t
}

// tableEntries is the length of a table for inputs up to reach whose results
// have type d and unit scale: fine enough that an entry is about one unit wide, as
// far as the table stays in a first-level cache.
func tableEntries(d ir.DType, reach, scale float64) int {
	least, most := 1024, 8192
	if d != ir.I8 {
		least, most = 4096, 16384
	}
	n := least
	for n < most && 2*reach/float64(n) > scale {
		n *= 2
	}
	return n
}

// act emits a stand-alone activation as a table over the input's own integers.
func (q *quantizer) act(n *ir.Node) error {
	if n.Str("fn", "") == "prelu" {
		return q.prelu(n)
	}
	a, err := activationOf(n, "fn", "", nil)
	if err != nil {
		return err
	}
	if a == nil {
		return fmt.Errorf("names no function")
	}
	d, scale, zero := q.form(n.Out())
	return q.lut(n, d, scale, -scale*zero, func(int) *activation { return a }, false)
}

// prelu has one table per channel where its slopes differ.
func (q *quantizer) prelu(n *ir.Node) error {
	if n.Input(1) == nil || n.Input(1).Const == nil {
		return fmt.Errorf("has a slope that is not constant")
	}
	slope := floats(n.Input(1))
	d, scale, zero := q.form(n.Out())
	at := func(c int) *activation {
		a := functions["leaky_relu"](func(string, float64) float64 { return float64(slope[c%len(slope)]) })
		return &a
	}
	if c := channels(n.Out()); len(slope) != 1 && len(slope) != c {
		return fmt.Errorf("has %d slopes for %d channels", len(slope), c)
	}
	return q.lut(n, d, scale, -scale*zero, at, len(slope) > 1)
}

func (q *quantizer) lut(n *ir.Node, d ir.DType, scale, offset float64, at func(c int) *activation, perChannel bool) error {
	x, v := q.even(n, n.Inputs[0]), n.Out()
	entries, step, mult, shift := 256, 1.0, 1, 0
	if x.val.Type.DType == ir.I16 {
		entries, step, shift = 4096, 16, 4
	}
	n0 := 1
	lo, hi := q.bounds(v, d)
	if perChannel {
		n0 = channels(v)
	}
	var data []int16
	for c := range n0 {
		data = append(data, at(c).table(entries, x.scale[0]*step, x.offset[0], scale, offset, lo, hi)...)
	}
	shape := []int{entries}
	if perChannel {
		shape = []int{n0, entries}
	}
	table := constant(v.Name+".table", ir.I16, data, shape...)
	q.set(v, q.emit("int_lut", n, v, d, []*ir.Value{x.val, table}, ir.Attrs{"mult": mult, "shift": shift}),
		fill(channels(v), scale), fill(channels(v), offset))
	return nil
}
