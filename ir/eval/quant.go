package eval

import (
	"math"

	"nepcoc/ir"
)

func init() {
	register(quantize, "QuantizeLinear")
	register(dequantize, "DequantizeLinear")
}

// channels walks a tensor in runs of elements that share a scale.
func channels(c *call, f func(scale, zero float64, at, n int)) error {
	shape, scale := c.in[0].Shape, c.in[1].Data.([]float32)
	zero := make([]float64, len(scale))
	if zp := c.input(2); zp != nil {
		zero, _ = zp.Floats()
	}
	if len(scale) == 1 {
		f(float64(scale[0]), zero[0], 0, c.in[0].Len())
		return nil
	}
	axis, err := ir.NormalizeAxis(c.n.Int("axis", 1), len(shape))
	if err != nil {
		return err
	}
	outer, dim, inner := split3(shape, axis)
	for o := range outer {
		for i := range dim {
			f(float64(scale[i]), zero[i], (o*dim+i)*inner, inner)
		}
	}
	return nil
}

func quantize(c *call) error {
	x, _ := c.in[0].Floats()
	res := make([]float64, len(x))
	err := channels(c, func(scale, zero float64, at, n int) {
		for i, v := range x[at : at+n] {
			// The quotient is a float32 in the standard; half-way cases
			// round to even.
			res[at+i] = math.RoundToEven(float64(float32(v)/float32(scale))) + zero
		}
	})
	if err != nil {
		return err
	}
	return convert(c.out[0], &ir.Tensor{Type: ir.Type{DType: ir.F64, Shape: c.out[0].Shape}, Data: res})
}

func dequantize(c *call) error {
	x, _ := c.in[0].Floats()
	out := c.out[0].Data.([]float32)
	return channels(c, func(scale, zero float64, at, n int) {
		for i, v := range x[at : at+n] {
			out[at+i] = float32((v - zero) * scale)
		}
	})
}
