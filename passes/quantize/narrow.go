package quantize

import (
	"errors"
	"math"

	"nepcoc/ir"
)

// factors is a token table stored as the narrow rows of 8 bits that it is a product of, and what
// widens them.
type factors struct {
	rows  []int8
	w     []int16
	bias  []int32
	mult  []int32
	shift int
}

// narrowTable emits a token table as its factors: a look-up of narrow rows, and a convolution of window 1
// that widens them to the given scale per channel. For an embedding half as wide as its projection that is half
// the bytes. The engine widens all rows once, when a bundle is loaded (bundle.Program.Folds), so a flow looks up
// rows of 8 bits as ever.
func (q *quantizer) narrowTable(n *ir.Node, tokens *ir.Value, scale []float64, uniform bool, attrs ir.Attrs) error {
	key := factorsKey{n, uniform}
	f := q.obs.factors[key]
	if f == nil {
		var err error
		if f, err = factorize(n, scale); err != nil {
			return err
		}
		if q.obs.factors == nil {
			q.obs.factors = make(map[factorsKey]*factors)
		}
		q.obs.factors[key] = f
	}
	v, o, d := n.Out(), len(scale), channels(n.Inputs[2])
	lo, hi := limits(ir.I8)
	val := q.emitNamed("token_table", n, v.Name+".narrow", ir.Type{DType: ir.I8, Shape: []int{v.Type.Shape[0], d}},
		[]*ir.Value{tokens, constant(v.Name+".table", ir.I8, f.rows, n.Inputs[2].Type.Shape...)}, attrs)
	q.set(v, q.emit("int_conv", n, v, ir.I8, []*ir.Value{val, weightTensor(v.Name+".w", f.w, o, 1, d),
		constant(v.Name+".b", ir.I32, f.bias, o), constant(v.Name+".mult", ir.I32, f.mult, o)},
		ir.Attrs{"stride": 1, "dilation": 1, "pad_left": 0, "pad_right": 0, "groups": 1,
			"shift": f.shift, "lo": int(lo), "hi": int(hi)}), scale, fill(o, 0))
	return nil
}

// factorsKey is what the factors of a table depend on: its node, and whether its
// channels share a scale.
type factorsKey struct {
	n       *ir.Node
	uniform bool
}

// factorize quantizes the factors of an embed node for the given scale of each channel.
func factorize(n *ir.Node, scale []float64) (*factors, error) {
	data, d := floats(n.Inputs[2]), channels(n.Inputs[2])
	w := weights{w: floats(n.Inputs[3]), o: len(scale), k: 1, i: d, groups: 1, stride: 1, dilation: 1}
	if b := n.Input(4); b != nil {
		w.bias = floats(b)
	}
	if !finite(data) || !finite(w.w) || !finite(w.bias) {
		return nil, errors.New("has NaN or infinity in the factors of its table")
	}
	x := &quant{scale: fill(d, 0), offset: fill(d, 0)}
	for i, f := range data {
		x.scale[i%d] = max(x.scale[i%d], math.Abs(float64(f))/127)
	}
	for i := range x.scale {
		x.scale[i] = nonZero(x.scale[i])
	}
	// 16 bits of weights add no error to that of the rows, and cost nothing but 32 KiB: 8 bits would
	// raise the error of the published table by a tenth.
	lo, hi := limits(ir.I8)
	levels := math.Floor(min(0.875*(1<<31)/(128*float64(d)), 32767))
	f := &factors{rows: roundRows(data, x.scale, gram(w.w, x.scale, scale))}
	var acc []float64
	f.w, f.bias, acc = foldInto(x, fill(d, 0), lo, hi, w, 0, levels)
	for c := range acc {
		acc[c] /= scale[c]
	}
	f.mult, f.shift = multipliers(acc, 1)
	return f, nil
}

// gram is the quadratic form by which errors of a narrow row, in its units, count in the wide
// one, in units of its own: the sum over channels of the product of two columns' weights.
func gram(w []float32, narrow, wide []float64) [][]float64 {
	d := len(narrow)
	g := make([][]float64, d)
	for i := range g {
		g[i] = make([]float64, d)
	}
	row := make([]float64, d)
	for c, unit := range wide {
		for i := range row {
			row[i] = float64(w[c*d+i]) * narrow[i] / unit
		}
		for i, a := range row {
			for j, b := range row {
				g[i][j] += float64(a * b) // never fused: the same bits on every CPU
			}
		}
	}
	return g
}

// roundRows rounds rows to 8 bits in units of scale so that the error counts least by the
// form g, which it overwrites. Columns are rounded one after the other, and those that follow make up
// for what is lost so far: the method of successive interference cancellation, Babai's nearest
// plane, with the columns ordered as sorted decompositions do. Of the published table it
// takes a fifth off the error that rounding each number to its nearest makes, for no byte.
func roundRows(data []float32, scale []float64, g [][]float64) []int8 {
	d := len(scale)
	order := make([]int, d) // of elimination: rounding goes from the last to the first
	share := make([][]float64, d)
	for i := range order {
		order[i] = i
	}
	for k := range order {
		best := k
		for i := k; i < d; i++ {
			if g[order[i]][order[i]] < g[order[best]][order[best]] {
				best = i
			}
		}
		order[k], order[best] = order[best], order[k]
		p := g[order[k]]
		share[k] = make([]float64, d)
		if p[order[k]] <= 1e-12 {
			continue // hardly counts, or what is left of it is rounding
		}
		for _, i := range order[k+1:] {
			share[k][i] = p[i] / p[order[k]]
		}
		for _, i := range order[k+1:] {
			for _, j := range order[k+1:] {
				g[i][j] -= float64(share[k][i] * p[j])
			}
		}
	}
	// share[k][i] is what an error of column i adds to what column order[k] should be. By the
	// column that errs, in the order of elimination:
	lost := make([][]float64, d)
	for k := range lost {
		lost[k] = make([]float64, k)
		for j := range k {
			lost[k][j] = share[j][order[k]]
		}
	}
	rows := make([]int8, len(data))
	want := make([]float64, d)
	for at := 0; at < len(data); at += d {
		for k, i := range order {
			want[k] = float64(data[at+i]) / scale[i]
		}
		for k := d - 1; k >= 0; k-- {
			i := order[k]
			r := min(max(math.RoundToEven(want[k]), -127), 127)
			rows[at+i] = int8(r)
			e := float64(data[at+i])/scale[i] - r
			for j, s := range lost[k] {
				want[j] += float64(s * e)
			}
		}
	}
	return rows
}
