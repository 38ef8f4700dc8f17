package canonical

import (
	"slices"

	"nepcoc/ir"
	"nepcoc/passes/internal/edit"
)

// A model that was quantised already, in QDQ form, has QuantizeLinear and DequantizeLinear around each
// operator: what it would compute in 8 bits, written in float. The pairs around activations are taken out, and what
// they say of the range of a value is kept for the quantize pass; weights are folded to the floats that they stand for.
// Rounding twice, by the model's steps and by ours, would cost accuracy, and a pair's limits are no part of
// the model that was trained: a mask's huge numbers, say, leave them no room for the data.

// grid is what a quantised value stands for: (q-zero)*scale, with q from lo to hi.
type grid struct{ scale, zero, lo, hi float64 }

// gridOf reads scale and zero point of a QuantizeLinear or DequantizeLinear; d is the integer type.
func gridOf(n *ir.Node, d ir.DType) (grid, error) {
	scale, ok := edit.Scalar(n.Inputs[1])
	if !ok {
		return grid{}, refuse("quantise activations per tensor, only weights per channel", "the scale of an activation is computed, or differs from channel to channel")
	}
	g := grid{scale: scale}
	if zp := n.Input(2); zp != nil {
		if g.zero, ok = edit.Scalar(zp); !ok {
			return grid{}, refuse("export with constant zero points", "the zero point is computed")
		}
	}
	limits, ok := map[ir.DType][2]float64{ir.U8: {0, 255}, ir.I8: {-128, 127}, ir.U16: {0, 65535}, ir.I16: {-32768, 32767}}[d]
	if !ok || !(scale > 0) {
		return grid{}, refuse("quantise to 8 bits", "quantised to %s with scale %g", d, scale)
	}
	g.lo, g.hi = limits[0], limits[1]
	return g, nil
}

// span is the range of numbers that the grid holds.
func (g grid) span() [2]float64 {
	return [2]float64{float64((g.lo - g.zero) * g.scale), float64((g.hi - g.zero) * g.scale)}
}

// quantizeLinear hands on what it reads: everything up to the next DequantizeLinear of the same
// grid only moves or picks elements.
func (l *lowering) quantizeLinear(n *ir.Node, x *view) (*view, error) {
	g, err := gridOf(n, n.Out().Type.DType)
	if err != nil {
		return nil, err
	}
	if x.val.Type.DType != ir.F32 {
		return nil, refuse("quantise floats only", "%s is quantised", x.val.Type)
	}
	if err := l.sameGrid(n.Out(), g); err != nil {
		return nil, err
	}
	if l.ranges == nil {
		l.ranges = make(map[string][2]float64)
	}
	if _, twice := l.ranges[x.val.Name]; !twice {
		l.ranges[x.val.Name] = g.span()
	}
	return x, nil
}

// sameGrid checks that all that reads a quantised value moves its elements, or makes floats of them again by
// the same grid.
func (l *lowering) sameGrid(v *ir.Value, g grid) error {
	if len(l.uses[v]) == 0 {
		return refuse("end the model in DequantizeLinear", "a quantised value is an output")
	}
	for _, u := range l.uses[v] {
		switch u.Op {
		case "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "MaxPool", "Identity":
			for _, o := range u.Outputs {
				if err := l.sameGrid(o, g); err != nil {
					return err
				}
			}
		case "DequantizeLinear":
			if h, err := gridOf(u, v.Type.DType); err != nil || h != g {
				return refuse("quantise to QDQ form: each QuantizeLinear followed by DequantizeLinear with the same scale", "a value is quantised with one scale and read with another")
			}
		default:
			return refuse("quantise to QDQ form, in which operators read floats", "%s reads a quantised value", u.Op)
		}
	}
	return nil
}

// dequantizeLinear hands on what QuantizeLinear handed on. A quantised input of the
// model becomes numbers.
func (l *lowering) dequantizeLinear(n *ir.Node, x *view) (*view, error) {
	if x.val.Type.DType == ir.F32 {
		return x, nil
	}
	g, err := gridOf(n, n.Inputs[0].Type.DType)
	if err != nil {
		return nil, err
	}
	y := *x
	if y.val, err = l.emit("cast", ir.Attrs{"to": "f32"}, x.val); err != nil {
		return nil, err
	}
	y.seq = nil
	if x, err = l.numbers(&y); err != nil {
		return nil, err
	}
	y = *x
	name := n.Out().Name
	c := x.channels()
	scale, shift := make([]float32, c), make([]float32, c)
	for i := range c {
		scale[i], shift[i] = float32(g.scale), float32(-g.zero*g.scale)
	}
	y.val, err = l.emit("affine", nil, x.val, l.names.Vec(name+".scale", scale), l.names.Vec(name+".shift", shift))
	return &y, err
}

// dequantizeTables looks up floats where a table of integers was looked up and then
// dequantised.
func dequantizeTables(g *ir.Graph, names edit.Names) error {
	for i := 0; i < len(g.Nodes); i++ {
		n := g.Nodes[i]
		if n.Op != "DequantizeLinear" {
			continue
		}
		look := defBy(n.Inputs[0], "Gather")
		if look == nil || look.Inputs[0].Const == nil || look.Int("axis", 0) != 0 || len(look.Inputs[0].Type.Shape) != 2 {
			continue
		}
		attrs := ir.Attrs{}
		if n.Inputs[1].Type.Len() > 1 {
			axis, err := ir.NormalizeAxis(n.Int("axis", 1), len(n.Inputs[0].Type.Shape))
			if err != nil || axis != len(n.Inputs[0].Type.Shape)-1 {
				continue
			}
			attrs["axis"] = 1
		}
		inputs := append([]*ir.Value{look.Inputs[0]}, n.Inputs[1:]...)
		if slices.ContainsFunc(inputs, func(v *ir.Value) bool { return v != nil && v.Const == nil }) {
			continue
		}
		table, err := names.New("DequantizeLinear", n.Origin, look.Inputs[0].Name+".float", attrs, inputs...)
		if err != nil {
			return err
		}
		edit.Become(n, "Gather", ir.Attrs{"axis": 0}, table.Out(), look.Inputs[1])
		g.Nodes = slices.Insert(g.Nodes, i, table)
		i++
	}
	g.Sweep()
	return nil
}
