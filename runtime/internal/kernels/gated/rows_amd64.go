//go:build !purego

package gated

import (
	"encoding/binary"
	"unsafe"

	"nepcoc/runtime/arith"
	"nepcoc/runtime/internal/kernels/plane"
)

// AVX-512 kernels on time-major planes. A register holds one position of 32 input channels, each a
// word: a value and its successor in time, the operand of maddubs for a pair of taps. Each
// input channel has two outputs, whose words are the vectors E (even channels) and O
// (odd), so that 64 outputs come from 32 inputs of h and 32 of g. From position to
// position one VPSHRDW shifts the next value in; taps and biases stay in registers.
// The gate is a table of 256 bytes in four registers.

// The constants of 64 output channels, vectors of 64 bytes.
const (
	rowTaps   = 0       // taps 01 and 23 of h, E then O; the same of g
	rowBias   = 8 * 64  // of h, E and O, of g
	rowRho    = 12 * 64 // E: words; O: words times 256; where some are negative, both times 256
	rowCst    = 14 * 64 // E, O
	rowFlips  = 16 * 64 // bytes in the order of channels, 0 or -1
	rowFlipsW = 17 * 64 // words, E and O
	rowsSize  = 19 * 64
	rowsGroup = 64            // output channels
	inGroup   = rowsGroup / 2 // input channels, of h and of g
)

type rowsLayer struct {
	w       []byte
	h, g    int  // first input channels
	signed  bool // some rho is negative
	tab     rowTables
	factors factorParams
}

// rowTables are the gate's table and the factor that rounds to int8.
type rowTables struct {
	gate [256]byte
	mult uint16
}

// fitsRows: at most four taps, whole groups of channels, and the published channel map, where two
// neighbours read the same channel of h's and of g's run of inputs.
func fitsRows(p *Params) bool {
	if p.K > rowsTaps || p.C%rowsGroup != 0 {
		return false
	}
	for c := range p.C {
		if int(p.ChanH[c]) != int(p.ChanH[0])+c/2 || int(p.ChanG[c]) != int(p.ChanG[0])+c/2 {
			return false
		}
		_, ok1 := tapPairs(p.TapsH[c*p.K : (c+1)*p.K])
		_, ok2 := tapPairs(p.TapsG[c*p.K : (c+1)*p.K])
		if !ok1 || !ok2 {
			return false
		}
	}
	return true
}

func (l *Layer) packRows() {
	p, r := &l.p, &l.rows
	r.h, r.g = int(p.ChanH[0]), int(p.ChanG[0])
	bytes := plane.Aligned(p.C / rowsGroup * rowsSize)
	r.w = unsafe.Slice((*byte)(unsafe.Pointer(&bytes[0])), len(bytes))
	if p.Norm != nil {
		for _, rho := range p.Norm.Rho {
			r.signed = r.signed || rho < 0
		}
	}
	for c := range p.C {
		w := r.w[c/rowsGroup*rowsSize:]
		odd, lane := c%2, c%rowsGroup/2
		// word stores v in vector n or, for odd channels, the one after it.
		word := func(at, n int, v uint16) { binary.LittleEndian.PutUint16(w[at+64*(n+odd)+2*lane:], v) }
		h, _ := tapPairs(p.TapsH[c*p.K : (c+1)*p.K])
		g, _ := tapPairs(p.TapsG[c*p.K : (c+1)*p.K])
		for i := range 2 {
			word(rowTaps, i+odd, uint16(h[i]))
			word(rowTaps, 4+i+odd, uint16(g[i]))
		}
		word(rowBias, 0, uint16(p.BiasH[c]))
		word(rowBias, 2, uint16(p.BiasG[c]))
		if n := p.Norm; n != nil {
			rho := uint16(n.Rho[c])
			if odd != 0 || r.signed {
				rho <<= 8
			}
			word(rowRho, 0, rho)
			word(rowCst, 0, uint16(n.Cst[c]))
			w[rowFlips+c%rowsGroup] = -n.Flip[c]
			word(rowFlipsW, 0, -uint16(n.Flip[c]))
		}
	}
	for i := range r.tab.gate {
		r.tab.gate[i] = arith.Gate((*[32]uint8)(p.Base), (*[32]uint8)(p.Slope), uint8(i))
	}
	if n := p.Norm; n != nil {
		f := n.Factor
		r.factors = factorParams{f.C, f.MeanM, f.Eps, f.A, int32(min(max(f.S, 0), 63))}
		r.tab.mult = 1 << (15 - n.Shift)
	} else {
		r.tab.mult = 1 << (15 - p.Shift)
	}
}

// inputs are where group i's first position reads, and how far its g is from its h.
func (l *Layer) inputs(src *plane.Plane, i, pos int) (h *int8, g int) {
	r := &l.rows
	return &src.Data[src.Index(r.h+i*inGroup, pos-l.p.PadLeft)], r.g - r.h
}

func (l *Layer) groups() int { return l.p.C / rowsGroup }

func (l *Layer) plainRows(dst, src *plane.Plane, pos, n int) {
	for i := range l.groups() {
		h, g := l.inputs(src, i, pos)
		plainRows(&l.rows.w[i*rowsSize], h, g, src.Step, &dst.Data[dst.Index(i*rowsGroup, pos)], dst.Step, n, &l.rows.tab)
	}
}

// noRow is the residual of 64 channels where there is none.
var noRow [rowsGroup]int8

func (l *Layer) tileRows(src, res *plane.Plane, pos, n int, s *Scratch) {
	f := tileRows
	if l.rows.signed {
		f = tileRowsAny
	}
	c := l.p.C
	for i := range l.groups() {
		h, g := l.inputs(src, i, pos)
		r, step := &noRow[0], 0
		if res != nil {
			r, step = &res.Data[res.Index(i*rowsGroup, pos)], res.Step
		}
		f(&l.rows.w[i*rowsSize], h, g, src.Step, r, step, &s.y[i*rowsGroup], 2*c, n, &l.rows.tab)
	}
	factorsRows(&s.y[0], 2*c, l.groups(), n, &s.part[0], &s.r[0], &s.k[0], &l.rows.factors)
}

func (l *Layer) applyRows(dst *plane.Plane, pos, n int, s *Scratch) {
	for i := range l.groups() {
		applyRows(&s.y[i*rowsGroup], 2*l.p.C, n, &s.r[0], &s.k[0], &l.rows.w[i*rowsSize+rowFlips], &dst.Data[dst.Index(i*rowsGroup, pos)], dst.Step, l.rows.tab.mult)
	}
}

func (l *Layer) poolRows(acc *Acc, n int, s *Scratch) {
	for i := range l.groups() {
		poolRows(&s.y[i*rowsGroup], 2*l.p.C, n, &s.r[0], &s.k[0], &l.rows.w[i*rowsSize+rowFlipsW], &acc.v[i*rowsGroup])
	}
}

func (l *Layer) wideRows(dst []int16, n int, s *Scratch) {
	dst = dst[:n*l.p.C]
	for i := range l.groups() {
		wideRows(&s.y[i*rowsGroup], 2*l.p.C, n, &s.r[0], &s.k[0], &l.rows.w[i*rowsSize+rowFlipsW], &dst[i*rowsGroup], 2*l.p.C)
	}
}

// maxRows brings maxima from the order of the tile to that of channels.
func maxRows(out, v []int16) {
	if len(out) != len(v) {
		panic("BUG: gated: maxima of another layer")
	}
	orderRows(&v[0], len(v)/rowsGroup, &out[0])
}

//go:noescape
func plainRows(w *byte, src *int8, gOffset, srcStep int, dst *int8, dstStep, n int, tab *rowTables)

//go:noescape
func tileRows(w *byte, src *int8, gOffset, srcStep int, res *int8, resStep int, y *int16, yStep, n int, tab *rowTables)

//go:noescape
func tileRowsAny(w *byte, src *int8, gOffset, srcStep int, res *int8, resStep int, y *int16, yStep, n int, tab *rowTables)

//go:noescape
func factorsRows(y *int16, yStep, groups, n int, part *int32, r, k *int16, p *factorParams)

//go:noescape
func applyRows(y *int16, yStep, n int, r, k *int16, flips *byte, dst *int8, dstStep int, mult uint16)

//go:noescape
func poolRows(y *int16, yStep, n int, r, k *int16, flips *byte, acc *int16)

//go:noescape
func wideRows(y *int16, yStep, n int, r, k *int16, flips *byte, dst *int16, dstStep int)

//go:noescape
func orderRows(v *int16, groups int, out *int16)
