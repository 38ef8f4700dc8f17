package eval

import (
	"fmt"
	"math"

	"nepcoc/internal/exact"
	"nepcoc/runtime/arith"
)

func init() {
	register(canonicalConv, "conv")
	register(canonicalPool, "pool")
	register(windowPool, "window_pool")
	register(gatedConv, "gated_conv")
	register(side, "side")
}

func canonicalConv(c *call) error {
	x, w, out := c.in[0].Data.([]float32), c.in[1].Data.([]float32), c.out[0].Data.([]float32)
	rows, cin := c.in[0].Shape[0], c.in[0].Shape[1]
	filters, k, perGroup := c.in[1].Shape[0], c.in[1].Shape[1], c.in[1].Shape[2]
	stride, dilation, left := c.n.Int("stride", 1), c.n.Int("dilation", 1), c.n.Int("pad_left", 0)
	groups := c.n.Int("groups", 1)
	positions := c.out[0].Shape[0]
	if groups == 1 {
		// Windows side by side make a dense convolution one product.
		cols := make([]float32, positions*k*cin)
		for t := range positions {
			for j := range k {
				if at := t*stride - left + j*dilation; at >= 0 && at < rows {
					copy(cols[(t*k+j)*cin:], x[at*cin:(at+1)*cin])
				}
			}
		}
		if err := layerProduct(c, out, cols, w, k*cin); err != nil {
			return err
		}
		addBias(out, c.input(2))
		return fusedAct(c)
	}
	var bias []float32
	if b := c.input(2); b != nil {
		bias = b.Data.([]float32)
	}
	acc := make([]float64, filters)
	filtersPerGroup := filters / groups
	for t := range positions {
		clear(acc)
		for o, b := range bias {
			acc[o] = float64(b)
		}
		for j := range k {
			at := t*stride - left + j*dilation
			if at < 0 || at >= rows {
				continue
			}
			row := x[at*cin : (at+1)*cin]
			o := 0
			for g := range groups {
				in := row[g*perGroup : (g+1)*perGroup]
				for range filtersPerGroup {
					taps := w[(o*k+j)*perGroup:][:len(in)]
					sum := acc[o]
					for i, v := range in {
						sum += float64(float64(taps[i]) * float64(v))
					}
					acc[o] = sum
					o++
				}
			}
		}
		for o, v := range acc {
			out[t*filters+o] = float32(v)
		}
	}
	return fusedAct(c)
}

func canonicalPool(c *call) error {
	x, out := c.in[0].Data.([]float32), c.out[0].Data.([]float32)
	rows, cols := c.in[0].Shape[0], c.in[0].Shape[1]
	valid := rows
	if v := c.input(1); v != nil {
		ints, _ := v.Ints()
		if valid = ints[0]; valid < 1 || valid > rows {
			return fmt.Errorf("valid is %d, must be 1 to %d", valid, rows)
		}
	}
	kind := c.n.Str("kind", "")
	if kind == "select" {
		at := c.n.Int("at", 0)
		copy(out, x[at*cols:(at+1)*cols])
		return nil
	}
	for ch := range cols {
		out[ch] = poolColumn(kind, x[ch:], cols, valid, valid)
	}
	return nil
}

// poolColumn reduces n elements at distance stride; mean divides by count.
func poolColumn(kind string, x []float32, stride, n, count int) float32 {
	sum, largest := 0.0, math.Inf(-1)
	for i := range n {
		v := float64(x[i*stride])
		sum += v
		largest = max(largest, v)
	}
	switch kind {
	case "max":
		return float32(largest)
	case "mean":
		return float32(sum / float64(count))
	}
	return float32(sum)
}

func windowPool(c *call) error {
	x, out := c.in[0].Data.([]float32), c.out[0].Data.([]float32)
	rows, cols := c.in[0].Shape[0], c.in[0].Shape[1]
	k, stride, left, kind := c.n.Int("k", 1), c.n.Int("stride", 1), c.n.Int("pad_left", 0), c.n.Str("kind", "")
	for t := range c.out[0].Shape[0] {
		lo, hi := max(t*stride-left, 0), min(t*stride-left+k, rows)
		if lo >= hi {
			return fmt.Errorf("window %d lies wholly in the padding", t)
		}
		count := hi - lo
		if c.n.Int("count_pad", 0) != 0 {
			count = k
		}
		for ch := range cols {
			out[t*cols+ch] = poolColumn(kind, x[lo*cols+ch:], cols, hi-lo, count)
		}
	}
	return nil
}

func gatedConv(c *call) error {
	f32 := func(i int) []float32 {
		if t := c.input(i); t != nil {
			return t.Data.([]float32)
		}
		return nil
	}
	x, residual, out := f32(0), f32(1), c.out[0].Data.([]float32)
	chanH, chanG := c.in[2].Data.([]int32), c.in[3].Data.([]int32)
	wh, wg, bh, bg, gamma, beta := f32(4), f32(5), f32(6), f32(7), f32(8), f32(9)
	rows, cin := c.in[0].Shape[0], c.in[0].Shape[1]
	positions, cols := c.out[0].Shape[0], c.out[0].Shape[1]
	k, left, alpha := c.n.Int("k", 1), c.n.Int("pad_left", 0), c.n.Float("alpha", 1)
	for ch := range cols {
		if h, g := int(chanH[ch]), int(chanG[ch]); h < 0 || h >= cin || g < 0 || g >= cin {
			return fmt.Errorf("output %d reads channels %d and %d of %d", ch, h, g, cin)
		}
	}
	y := make([]float64, cols)
	for t := range positions {
		lo, hi := max(0, left-t), min(k, rows+left-t)
		for ch := range y {
			h, g := float64(bh[ch]), float64(bg[ch])
			for j := lo; j < hi; j++ {
				row := (t - left + j) * cin
				h += float64(float64(wh[ch*k+j]) * float64(x[row+int(chanH[ch])]))
				g += float64(float64(wg[ch*k+j]) * float64(x[row+int(chanG[ch])]))
			}
			y[ch] = float64(h * exact.Sigmoid(g))
			if residual != nil {
				y[ch] += float64(alpha * float64(residual[t*cols+ch]))
			}
		}
		dst := out[t*cols : (t+1)*cols]
		if gamma == nil {
			for ch, v := range y {
				dst[ch] = float32(v)
			}
			continue
		}
		mean, inv := moments(y, epsilon(c.n))
		for ch, v := range y {
			dst[ch] = float32(float64((v-mean)*inv*float64(gamma[ch])) + float64(beta[ch]))
		}
	}
	return nil
}

func side(c *call) error {
	ids, _ := c.in[0].Ints()
	low, exp, out := c.n.Ints("low"), c.n.Ints("exp"), c.out[0].Data.([]float32)
	for i, id := range ids[c.n.Int("at", 0):][:len(out)] {
		out[i] = float32(arith.Grid{Low: int32(low[i]), Exp: int32(exp[i])}.Value(int32(id)))
	}
	return nil
}
