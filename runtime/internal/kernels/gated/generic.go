package gated

import (
	"nepcoc/runtime/arith"
	"nepcoc/runtime/internal/kernels/plane"
)

// The portable kernels: any shape, any CPU, written from package arith. They
// process a row of one block at a time, so that the compiler keeps the
// taps in registers and the loops free of bounds checks.

// products computes h8 and s7 of one channel's block at position pos.
func (l *Layer) products(src *plane.Plane, c, pos int, h *[Block]int8, s7 *[Block]uint8) {
	p := &l.p
	var ah, ag [Block]int32
	convRow(&ah, src, int(p.ChanH[c]), pos-p.PadLeft, p.TapsH[c*p.K:(c+1)*p.K], p.BiasH[c])
	convRow(&ag, src, int(p.ChanG[c]), pos-p.PadLeft, p.TapsG[c*p.K:(c+1)*p.K], p.BiasG[c])
	base, slope := (*[32]uint8)(p.Base), (*[32]uint8)(p.Slope)
	for i := range Block {
		h[i] = arith.GateHidden(ah[i])
		s7[i] = arith.Gate(base, slope, arith.GateInput(ag[i]))
	}
}

func convRow(acc *[Block]int32, src *plane.Plane, c, from int, taps []uint8, bias int32) {
	for i := range acc {
		acc[i] = bias
	}
	at := c*src.Stride + src.Margin + from
	for k, w := range taps {
		x := (*[Block]int8)(src.Data[at+k:])
		for i := range acc {
			acc[i] += int32(w) * int32(x[i]^src.Flip)
		}
	}
}

func (l *Layer) plainGeneric(dst, src *plane.Plane, pos, n int) {
	var h [Block]int8
	var s7 [Block]uint8
	for c := range l.p.C {
		for at := pos; at < pos+n; at += Block {
			l.products(src, c, at, &h, &s7)
			out := (*[Block]int8)(dst.Data[c*dst.Stride+dst.Margin+at:])
			for i := range out {
				out[i] = arith.GateShift(h[i], s7[i], l.p.Shift) ^ dst.Flip
			}
		}
	}
}

func (l *Layer) tileGeneric(src, res *plane.Plane, pos int, s *Scratch) {
	var h [Block]int8
	var s7 [Block]uint8
	var s1, s2 [Block]int32
	n := l.p.Norm
	for c := range l.p.C {
		l.products(src, c, pos, &h, &s7)
		var r [Block]int8
		if res != nil {
			row := (*[Block]int8)(res.Data[c*res.Stride+res.Margin+pos:])
			for i := range r {
				r[i] = row[i] ^ res.Flip
			}
		}
		y := (*[Block]int16)(s.y[c*Block:])
		for i := range y {
			v := arith.GateResidual(h[i], s7[i], r[i], n.Rho[c], n.Cst[c])
			y[i] = v
			b := int32(v >> 8)
			s1[i] += b
			s2[i] += b * b
		}
	}
	for i := range s1 {
		s.r[i], s.k[i] = arith.NormFactors(s1[i], s2[i], &n.Factor)
	}
}

// wideRow is the normalised row of channel c in 16 bits, unflipped.
func wideRow(out *[Block]int16, c int, s *Scratch) {
	y, r, k := (*[Block]int16)(s.y[c*Block:]), (*[Block]int16)(s.r), (*[Block]int16)(s.k)
	for i := range out {
		out[i] = arith.NormApply(y[i], r[i], k[i])
	}
}

func (l *Layer) applyGeneric(dst *plane.Plane, pos int, s *Scratch) {
	var v [Block]int16
	n := l.p.Norm
	for c := range l.p.C {
		wideRow(&v, c, s)
		flip := dst.Flip ^ -int8(n.Flip[c])
		out := (*[Block]int8)(dst.Data[c*dst.Stride+dst.Margin+pos:])
		for i := range out {
			out[i] = arith.NormNarrow(v[i], n.Shift) ^ flip
		}
	}
}

func (l *Layer) wideGeneric(dst []int16, s *Scratch) {
	for c := range l.p.C {
		v := (*[Block]int16)(dst[c*Block:])
		wideRow(v, c, s)
		if l.p.Norm.Flip[c] != 0 {
			for i := range v {
				v[i] = ^v[i]
			}
		}
	}
}

func (l *Layer) poolGeneric(acc *Acc, n int, s *Scratch) {
	var v [Block]int16
	for c := range l.p.C {
		wideRow(&v, c, s)
		flip := -int16(l.p.Norm.Flip[c])
		a := (*[lanes]int16)(acc.v[c*lanes:])
		for i := range n {
			a[i%lanes] = max(a[i%lanes], v[i]^flip)
		}
	}
}
