package conv

import "nepcoc/runtime/internal/kernels/rescale"

// The kernels' way: positions lie in a scratch of 16-bit rows, padding included, so
// that every window is contiguous (or, dilated, K contiguous pieces) and no edge
// is special. Output channels are side by side in the vectors' lanes; inputs go in
// pairs of neighbours, whose products with a pair of weights AVX2 adds in one
// instruction. Sums wrap in 32 bits.
//
// With AVX-512 and Arm's dot product, dense layers whose inputs and weights are bytes are done in bytes, four
// inputs to an instruction. AVX-512 multiplies unsigned by signed: the scratch holds x+128, and
// the biases take the 128 back.

// lanes is the number of output channels that the kernels do at a time; a dense layer's
// last block may have half of that.
const lanes = 16

type packed struct {
	bias      []int32   // per group, padded
	w         [][]int16 // dense: per group; depthwise: one
	w8        [][]int8  // dense, of bytes: instead of w
	segments  int       // dense: contiguous pieces of a window
	pairs     int       // dense: pairs (of bytes: fours) of inputs per piece; depthwise: pairs of taps
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

// packDense: for each block of 16 (last: 8) outputs and each pair (four) of inputs, the pairs of
// weights of the block's outputs.
func (l *Layer) packDense() {
	p, k := &l.p, l.packed
	bytes := hasBytes(l.path) && p.W8 != nil && !p.Wide
	per, place := 2, inPair
	if bytes {
		per, place = 4, func(at, _ int) (channel, input int) { return at / 4, at % 4 }
	}
	k.segments = p.K
	n := l.perIn // inputs per piece
	if p.Groups == 1 && p.Dilation == 1 {
		k.segments, n = 1, p.K*p.Cin
	}
	k.pairs = up(n, 2*per) / per // even
	k.groupPad = rescale.Pad(l.perOut)
	for g := range p.Groups {
		bias := make([]int32, k.groupPad)
		copy(bias, p.Bias[g*l.perOut:(g+1)*l.perOut])
		var w []int16
		for o0 := 0; o0 < k.groupPad; o0 += lanes {
			width := min(lanes, k.groupPad-o0)
			for s := range k.segments {
				for i := 0; i < per*k.pairs; i += per {
					for at := range per * width {
						o, j := place(at, width)
						v := int32(0)
						if o, j := o0+o, i+j; o < l.perOut && j < n {
							v = l.weight((g*l.perOut+o)*p.K*l.perIn + s*n + j)
						}
						if bytes {
							bias[o0+o] -= flip * v
						}
						w = append(w, int16(v))
					}
				}
			}
		}
		k.bias = append(k.bias, bias...)
		if bytes {
			k.w8 = append(k.w8, make([]int8, len(w)))
			for i, v := range w {
				k.w8[g][i] = int8(v)
			}
		} else {
			k.w = append(k.w, w)
		}
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
func extend[T int8 | int16](l *Layer, s *Scratch, src []T, rows int) {
	n := l.positions(rows)
	from, to := l.inside(n)
	src = src[:max(to-from, 0)*l.p.Cin]
	if l.packed.w8 != nil {
		for t := range n {
			if t < from || t >= to {
				row := s.bytes[t*l.p.Cin:][:l.p.Cin]
				for i, v := range l.pad {
					row[i] = uint8(v) ^ flip
				}
			}
		}
		flipped(s.bytes[from*l.p.Cin:], any(src).([]int8))
		return
	}
	for t := range n {
		if t < from || t >= to {
			copy(s.x[t*l.p.Cin:], l.pad)
		}
	}
	switch dst := s.x[from*l.p.Cin:]; src := any(src).(type) {
	case []int8:
		rescale.Extend(l.path, dst[:len(src)], src)
	case []int16:
		copy(dst, src)
	}
}

// inside are the first of n positions, padding included, that lies within the input, and the first
// beyond it.
func (l *Layer) inside(n int) (from, to int) {
	from = min(l.p.PadLeft, n)
	return from, max(from, min(n, l.p.PadLeft+l.p.Rows))
}

// accumulate computes the accumulators of output positions [t,t+n) from the scratch.
func (l *Layer) accumulate(acc []int32, s *Scratch, t, n int) {
	p, k := &l.p, l.packed
	at := t * p.Stride * p.Cin
	if k.depthwise {
		for c := 0; c < l.stride; c += lanes {
			depthwise16(l.path, acc[c:], l.stride, s.x[at+c:], p.Stride*p.Cin, n, k.w[0][c*2*k.pairs:], k.pairs, p.Dilation*p.Cin, k.bias[c:])
		}
		return
	}
	for g := range p.Groups {
		bias := k.bias[g*k.groupPad:]
		for o := 0; o < k.groupPad; o += lanes {
			a, from, narrow := acc[g*l.perOut+o:], at+g*l.perIn, k.groupPad-o < lanes
			if k.w8 != nil {
				f := bytes16
				if narrow {
					f = bytes8
				}
				f(a, l.stride, s.bytes[from:], p.Stride*p.Cin, n, k.w8[g][o*4*k.pairs*k.segments:], k.segments, p.Dilation*p.Cin, k.pairs, bias[o:])
				continue
			}
			f := dense16
			if narrow {
				f = dense8
			}
			f(l.path, a, l.stride, s.x[from:], p.Stride*p.Cin, n, k.w[g][o*2*k.pairs*k.segments:], k.segments, p.Dilation*p.Cin, k.pairs, bias[o:])
		}
	}
}
