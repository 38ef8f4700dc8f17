package eval

import (
	"math"

	"nepcoc/ir"
)

func init() {
	register(conv, "Conv")
	register(poolOp, "MaxPool", "AveragePool")
	register(globalPool, "GlobalMaxPool", "GlobalAveragePool")
}

// plane makes a window two-dimensional: one spatial axis becomes height 1.
func plane(w *ir.Window) *ir.Window {
	if len(w.In) == 2 {
		return w
	}
	up := func(v []int, first int) []int { return []int{first, v[0]} }
	return &ir.Window{In: up(w.In, 1), Kernel: up(w.Kernel, 1), Stride: up(w.Stride, 1), Dilation: up(w.Dilation, 1),
		Before: up(w.Before, 0), After: up(w.After, 0), Out: up(w.Out, 1)}
}

func conv(c *call) error {
	switch x := c.in[0].Data.(type) {
	case []float32:
		return convTo(c, x)
	case []float64:
		return convTo(c, x)
	}
	return badType(c)
}

func convTo[T float](c *call, x []T) error {
	win, err := ir.ConvWindow(c.n)
	if err != nil {
		return err
	}
	w := plane(win)
	weight, out := c.in[1].Data.([]T), c.out[0].Data.([]T)
	channels, filters := c.in[0].Shape[1], c.out[0].Shape[1]
	perGroup := c.in[1].Shape[1]
	filtersPerGroup := filters / c.n.Int("group", 1)
	inSize, outSize, taps := w.In[0]*w.In[1], w.Out[0]*w.Out[1], w.Kernel[0]*w.Kernel[1]
	acc := make([]float64, outSize)
	for b := range c.in[0].Shape[0] {
		for o := range filters {
			first := 0.0
			if bias := c.input(2); bias != nil {
				first = float64(bias.Data.([]T)[o])
			}
			for i := range acc {
				acc[i] = first
			}
			for i := range perGroup {
				ch := b*channels + o/filtersPerGroup*perGroup + i
				convPlane(acc, x[ch*inSize:(ch+1)*inSize], weight[(o*perGroup+i)*taps:(o*perGroup+i+1)*taps], w)
			}
			dst := out[(b*filters+o)*outSize:]
			for i, v := range acc {
				dst[i] = T(v)
			}
		}
	}
	return nil
}

// convPlane adds one input channel's part to an output channel.
func convPlane[T float](acc []float64, x, weight []T, w *ir.Window) {
	height, width, outWidth := w.In[0], w.In[1], w.Out[1]
	for kh := range w.Kernel[0] {
		for kw := range w.Kernel[1] {
			f := float64(weight[kh*w.Kernel[1]+kw])
			// Output columns lo..hi-1 read inside the input.
			shift, stride := kw*w.Dilation[1]-w.Before[1], w.Stride[1]
			lo, hi := inside(shift, stride, width, outWidth)
			for oh := range w.Out[0] {
				ih := oh*w.Stride[0] + kh*w.Dilation[0] - w.Before[0]
				if ih < 0 || ih >= height || lo >= hi {
					continue
				}
				row, dst := x[ih*width:(ih+1)*width], acc[oh*outWidth:(oh+1)*outWidth]
				if stride == 1 {
					src := row[lo+shift : hi+shift]
					for i, v := range src {
						dst[lo+i] += float64(f * float64(v))
					}
					continue
				}
				for ow := lo; ow < hi; ow++ {
					dst[ow] += float64(f * float64(row[ow*stride+shift]))
				}
			}
		}
	}
}

// inside is the range of outputs o for which o*stride+shift is in [0,n).
func inside(shift, stride, n, outputs int) (lo, hi int) {
	if shift < 0 {
		lo = (-shift + stride - 1) / stride
	}
	if shift < n {
		hi = (n-1-shift)/stride + 1
	}
	return lo, min(hi, outputs)
}

func poolOp(c *call) error {
	win, err := ir.ConvWindow(c.n)
	if err != nil {
		return err
	}
	w := plane(win)
	switch x := c.in[0].Data.(type) {
	case []float32:
		poolPlanes(c, x, w)
	case []float64:
		poolPlanes(c, x, w)
	case []int8:
		poolPlanes(c, x, w)
	case []uint8:
		poolPlanes(c, x, w)
	default:
		return badType(c)
	}
	return nil
}

func poolPlanes[T number](c *call, x []T, w *ir.Window) {
	out := c.out[0].Data.([]T)
	inSize, outSize := w.In[0]*w.In[1], w.Out[0]*w.Out[1]
	for p := range c.in[0].Shape[0] * c.in[0].Shape[1] {
		src, dst := x[p*inSize:(p+1)*inSize], out[p*outSize:(p+1)*outSize]
		for oh := range w.Out[0] {
			for ow := range w.Out[1] {
				dst[oh*w.Out[1]+ow] = poolWindow(c.n, src, w, oh, ow)
			}
		}
	}
}

func poolWindow[T number](n *ir.Node, x []T, w *ir.Window, oh, ow int) T {
	top, left := oh*w.Stride[0]-w.Before[0], ow*w.Stride[1]-w.Before[1]
	firstH, endH := inside(top, w.Dilation[0], w.In[0], w.Kernel[0])
	firstW, endW := inside(left, w.Dilation[1], w.In[1], w.Kernel[1])
	sum, largest, count := 0.0, math.Inf(-1), 0
	for kh := firstH; kh < endH; kh++ {
		row := (top + kh*w.Dilation[0]) * w.In[1]
		for kw := firstW; kw < endW; kw++ {
			v := float64(x[row+left+kw*w.Dilation[1]])
			sum += v
			largest = max(largest, v)
			count++
		}
	}
	switch {
	case n.Op == "AveragePool" && n.Int("count_include_pad", 0) != 0:
		// A partial window (ceil_mode) reaches beyond the padding too; what
		// lies there never counts.
		_, padH := inside(top+w.Before[0], w.Dilation[0], w.Before[0]+w.In[0]+w.After[0], w.Kernel[0])
		_, padW := inside(left+w.Before[1], w.Dilation[1], w.Before[1]+w.In[1]+w.After[1], w.Kernel[1])
		return T(sum / float64(padH*padW))
	case n.Op == "AveragePool" && count > 0:
		return T(sum / float64(count))
	case n.Op == "AveragePool" || count == 0 && isInteger[T]():
		return 0
	}
	return T(largest)
}

func globalPool(c *call) error {
	switch x := c.in[0].Data.(type) {
	case []float32:
		globalPoolTo(c, x)
	case []float64:
		globalPoolTo(c, x)
	}
	return nil
}

func globalPoolTo[T float](c *call, x []T) {
	out := c.out[0].Data.([]T)
	n := ir.NumElements(c.in[0].Shape[2:])
	for i := range out {
		sum, largest := 0.0, math.Inf(-1)
		for _, v := range x[i*n : (i+1)*n] {
			sum += float64(v)
			largest = max(largest, float64(v))
		}
		if c.n.Op == "GlobalMaxPool" {
			out[i] = T(largest)
		} else {
			out[i] = T(sum / float64(n))
		}
	}
}
