package quantize

import (
	"fmt"
	"math"

	"nepcoc/ir"
	"nepcoc/ir/acts"
)

// activation is one use of a function, with its parameters. Those that only limit
// their input (relu, clip) become the limits of a requantisation; the others
// tables.
type activation struct {
	*acts.Func
	params acts.Params
}

// activationOf reads the function of node n from attribute key; nil where
// there is none.
func activationOf(n *ir.Node, key, prefix string) (*activation, error) {
	fn := n.Str(key, "")
	if fn == "" {
		return nil, nil
	}
	f := acts.Lookup(fn)
	if f == nil || f.SlopeInput || key == "act" && !f.Fuses() {
		return nil, fmt.Errorf("applies %q, which has no integer form here", fn)
	}
	return &activation{f, f.Complete(n.Params(prefix))}, nil
}

// clamping limits values to [lo,hi].
func clamping(lo, hi float64) *activation {
	bounds := map[string]float64{"min": lo, "max": hi}
	return &activation{acts.Lookup("clip"), func(name string) float64 { return bounds[name] }}
}

func (a *activation) clamps() bool { return a.Limits != nil }

// reach is the largest input magnitude that matters for outputs in [lo,hi].
func (a *activation) reach(lo, hi float64) float64 { return nonZero(a.Reach(a.params, lo, hi)) }

// bounds are a clamping function's limits in the integer form of its output.
func (a *activation) bounds(scale, zero float64, lo, hi int32) (int32, int32) {
	least, most := a.Limits(a.params)
	if x := math.RoundToEven(least/scale + zero); x > float64(lo) {
		lo = int32(min(x, float64(hi)))
	}
	if x := math.RoundToEven(most/scale + zero); x < float64(hi) {
		hi = int32(max(x, float64(lo)))
	}
	return lo, hi
}

// table tabulates the function: entry i stands for the input (i-n/2)*unit + center and
// holds the integer form of the output, in [lo,hi].
func (a *activation) table(n int, unit, center, scale, offset float64, lo, hi int32) []int16 {
	t, f := make([]int16, n), a.Tabulated(a.params)
	for i := range t {
		y := f(float64(float64(i-n/2)*unit) + center)
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
	a, err := activationOf(n, "fn", "")
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
		return &activation{acts.Lookup("prelu"), func(string) float64 { return float64(slope[c%len(slope)]) }}
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
