package eval

import (
	"math"

	"nepcoc/ir"
)

func init() {
	register(batchNorm, "BatchNormalization")
	register(groupNorm, "InstanceNormalization", "GroupNormalization")
	register(layerNorm, "LayerNormalization", "layer_norm")
	register(affine, "affine")
}

const defaultEpsilon = 1e-5

func epsilon(n *ir.Node) float64 { return n.Float("epsilon", defaultEpsilon) }

// moments are the mean and 1/sqrt(variance+eps) of some elements, in two
// passes so that a large mean costs no accuracy.
func moments[T float](x []T, eps float64) (mean, inv float64) {
	for _, v := range x {
		mean += float64(v)
	}
	mean /= float64(len(x))
	var sq float64
	for _, v := range x {
		d := float64(v) - mean
		sq += float64(d * d)
	}
	return mean, 1 / math.Sqrt(sq/float64(len(x))+eps)
}

// rootMeanSquare is 1/sqrt(mean square + eps) of some elements.
func rootMeanSquare[T float](x []T, eps float64) float64 {
	var sq float64
	for _, v := range x {
		sq += float64(float64(v) * float64(v))
	}
	return 1 / math.Sqrt(sq/float64(len(x))+eps)
}

func batchNorm(c *call) error {
	switch x := c.in[0].Data.(type) {
	case []float32:
		batchNormTo(c, x)
	case []float64:
		batchNormTo(c, x)
	}
	return nil
}

func batchNormTo[T float](c *call, x []T) {
	out := c.out[0].Data.([]T)
	scale, shift := c.in[1].Data.([]T), c.in[2].Data.([]T)
	mean, variance := c.in[3].Data.([]T), c.in[4].Data.([]T)
	n := ir.NumElements(c.in[0].Shape[2:])
	for p := range c.in[0].Shape[0] * len(scale) {
		ch := p % len(scale)
		f := float64(scale[ch]) / math.Sqrt(float64(variance[ch])+epsilon(c.n))
		for i, v := range x[p*n : (p+1)*n] {
			out[p*n+i] = T(float64((float64(v)-float64(mean[ch]))*f) + float64(shift[ch]))
		}
	}
}

// groupNorm is InstanceNormalization too: there each channel is a group.
func groupNorm(c *call) error {
	switch x := c.in[0].Data.(type) {
	case []float32:
		groupNormTo(c, x)
	case []float64:
		groupNormTo(c, x)
	}
	return nil
}

func groupNormTo[T float](c *call, x []T) {
	out := c.out[0].Data.([]T)
	scale, shift := c.in[1].Data.([]T), c.in[2].Data.([]T)
	channels, n := c.in[0].Shape[1], ir.NumElements(c.in[0].Shape[2:])
	groups := c.n.Int("num_groups", channels)
	if groups == 0 {
		return // no channels
	}
	size := channels / groups * n
	for g := range c.in[0].Shape[0] * groups {
		src, dst := x[g*size:(g+1)*size], out[g*size:(g+1)*size]
		mean, inv := moments(src, epsilon(c.n))
		for i, v := range src {
			ch := g%groups*(channels/groups) + i/n
			dst[i] = T(float64((float64(v)-mean)*inv*float64(scale[ch])) + float64(shift[ch]))
		}
	}
}

func layerNorm(c *call) error {
	switch x := c.in[0].Data.(type) {
	case []float32:
		return layerNormTo(c, x)
	case []float64:
		return layerNormTo(c, x)
	}
	return badType(c)
}

func layerNormTo[T float](c *call, x []T) error {
	shape := c.in[0].Shape
	axis, err := ir.NormalizeAxis(c.n.Int("axis", -1), len(shape))
	if err != nil {
		return err
	}
	out, tail := c.out[0].Data.([]T), shape[axis:]
	n := ir.NumElements(tail)
	scale := spread[T](c.in[1], tail)
	shift := spread[T](c.input(2), tail)
	for r := range ir.NumElements(shape[:axis]) {
		src, dst := x[r*n:(r+1)*n], out[r*n:(r+1)*n]
		mean, inv := moments(src, epsilon(c.n))
		if c.n.Int("rms", 0) != 0 {
			mean, inv = 0, rootMeanSquare(src, epsilon(c.n))
		}
		for i, v := range src {
			y := float64((float64(v) - mean) * inv * float64(scale[i]))
			if shift != nil {
				y += float64(shift[i])
			}
			dst[i] = T(y)
		}
		for o, stat := range []float64{mean, inv} {
			if o+1 < len(c.out) {
				c.out[o+1].Data.([]T)[r] = T(stat)
			}
		}
	}
	return nil
}

// spread is a tensor broadcast to a shape, nil for nil.
func spread[T float](t *ir.Tensor, shape []int) []T {
	if t == nil {
		return nil
	}
	d := t.Data.([]T)
	if len(d) == ir.NumElements(shape) {
		return d
	}
	out := make([]T, ir.NumElements(shape))
	walk(shape, [][]int{stridesOf(shape), broadcastStrides(t.Shape, shape)}, func(at []int, n int, st []int) {
		for i := range n {
			out[at[0]+i] = d[at[1]+i*st[1]]
		}
	})
	return out
}

func affine(c *call) error {
	x, out := c.in[0].Data.([]float32), c.out[0].Data.([]float32)
	scale, shift := c.in[1].Data.([]float32), c.in[2].Data.([]float32)
	for r := 0; r < len(x); r += len(scale) {
		for i, s := range scale {
			out[r+i] = float32(float64(float64(x[r+i])*float64(s)) + float64(shift[i]))
		}
	}
	return nil
}
