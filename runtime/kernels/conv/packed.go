package conv

import "nepcoc/runtime/kernels/rescale"

// The kernels' way: positions lie in a scratch of 16-bit rows, padding included, so
// that every window is contiguous (or, dilated, K contiguous pieces) and no edge
// is special. Output channels are side by side in the vectors' lanes; inputs go in
// pairs of neighbours, whose products with a pair of weights AVX2 adds in one
// instruction. Sums wrap in 32 bits.

// lanes is the number of output channels that the kernels do at a time; a dense layer's
// last block may have half of that.
const lanes = 16

type packed struct {
	bias      []int32   // per group, padded
	w         [][]int16 // dense: per group; depthwise: one
	segments  int       // dense: contiguous pieces of a window
	pairs     int       // dense: pairs of inputs per piece; depthwise: pairs of taps
	groupPad  int       // channels of a group's outputs, padded
	depthwise bool
}

func up(n, to int) int { return (n + to - 1) / to * to }

// pack lays the weights out for the kernels.
func (l *Layer) pack() {
	l.packed = &packed{depthwise: l.byTap != nil}
	if l.packed.depthwise {
		l.packDepthwise()
	} else {
		l.packDense()
	}
}

// packDense: for each block of 16 (last: 8) outputs and each pair of inputs, the pairs of
// weights of the block's outputs.
func (l *Layer) packDense() {
	p, k := &l.p, l.packed
	k.segments = p.K
	n := l.perIn // inputs per piece
	if p.Groups == 1 && p.Dilation == 1 {
		k.segments, n = 1, p.K*p.Cin
	}
	k.pairs = up(n, 4) / 2 // even
	k.groupPad = rescale.Pad(l.perOut)
	for g := range p.Groups {
		bias := make([]int32, k.groupPad)
		copy(bias, p.Bias[g*l.perOut:(g+1)*l.perOut])
		k.bias = append(k.bias, bias...)
		var w []int16
		for o0 := 0; o0 < k.groupPad; o0 += lanes {
			width := min(lanes, k.groupPad-o0)
			for s := range k.segments {
				for i := 0; i < 2*k.pairs; i += 2 {
					for at := range 2 * width {
						o, j := inPair(at, width)
						v := int16(0)
						if o, j := o0+o, i+j; o < l.perOut && j < n {
							v = int16(l.weight((g*l.perOut+o)*p.K*l.perIn + s*n + j))
						}
						w = append(w, v)
					}
				}
			}
		}
		k.w = append(k.w, w)
	}
	if p.Groups > 1 {
		// A group's padding is overwritten by the next group; the last needs room.
		l.stride = rescale.Pad((p.Groups-1)*l.perOut + k.groupPad)
	}
}

// packDepthwise: for each 16 channels and each pair of taps, the pairs of weights, channels
// in the order of the kernel.
func (l *Layer) packDepthwise() {
	p, k := &l.p, l.packed
	l.stride = up(p.Cout, lanes)
	k.pairs = (p.K + 1) / 2
	var w []int16
	for c0 := 0; c0 < l.stride; c0 += lanes {
		for c := range lanes {
			v := int32(0)
			if at := c0 + order(c); at < p.Cout {
				v = p.Bias[at]
			}
			k.bias = append(k.bias, v)
		}
		for tap := 0; tap < 2*k.pairs; tap += 2 {
			for at := range 2 * lanes {
				c, j := inPair(at, lanes)
				v := int16(0)
				if c, j := c0+order(c), tap+j; c < p.Cout && j < p.K {
					v = int16(l.byTap[j*p.Cout+c])
				}
				w = append(w, v)
			}
		}
	}
	k.w = [][]int16{w}
}

// slack is what kernels read beyond the last window: the second half of a last pair,
// channels up to whole vectors.
func (l *Layer) slack() int { return l.p.Dilation*l.p.Cin + 4*lanes }

// extend fills the scratch for output positions [0,rows).
func extend[T int8 | int16](l *Layer, x []int16, src []T, rows int) {
	p := &l.p
	n := l.positions(rows)
	last := min(n, p.PadLeft+p.Rows)
	for t := range min(p.PadLeft, n) {
		copy(x[t*p.Cin:], l.pad)
	}
	for t := max(last, 0); t < n; t++ {
		copy(x[t*p.Cin:], l.pad)
	}
	if last <= p.PadLeft {
		return
	}
	dst, src := x[p.PadLeft*p.Cin:last*p.Cin], src[:(last-p.PadLeft)*p.Cin]
	switch s := any(src).(type) {
	case []int8:
		rescale.Extend(l.path, dst, s)
	case []int16:
		copy(dst, s)
	}
}

// accumulate computes the accumulators of output positions [t,t+n) from the scratch.
func (l *Layer) accumulate(acc []int32, x []int16, t, n int) {
	p, k := &l.p, l.packed
	x = x[t*p.Stride*p.Cin:]
	if k.depthwise {
		for c := 0; c < l.stride; c += lanes {
			depthwise16(l.path, acc[c:], l.stride, x[c:], p.Stride*p.Cin, n, k.w[0][c*2*k.pairs:], k.pairs, p.Dilation*p.Cin, k.bias[c:])
		}
		return
	}
	for g := range p.Groups {
		w, bias := k.w[g], k.bias[g*k.groupPad:]
		a := acc[g*l.perOut:]
		for o := 0; o < k.groupPad; o += lanes {
			f := dense16
			if k.groupPad-o < lanes {
				f = dense8
			}
			f(l.path, a[o:], l.stride, x[g*l.perIn:], p.Stride*p.Cin, n, w[o*2*k.pairs*k.segments:], k.segments, p.Dilation*p.Cin, k.pairs, bias[o:])
		}
	}
}
