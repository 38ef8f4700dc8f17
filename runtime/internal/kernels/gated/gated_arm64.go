//go:build !purego

package gated

import (
	"encoding/binary"

	"nepcoc/runtime/cpu"
	"nepcoc/runtime/internal/kernels/plane"
)

// Planes hold x+128, so a filter's bias is less by 128 times the sum of its taps,
// and what a residual adds to the constant by 128*rho where it is multiplied
// unsigned. All sums are modulo 2^16 or 2^32, of which the true one is in range.
//
// Constants of a channel pair with dot product, dotSize4 or dotSize8 bytes:
//
//	0   biases of h, h, g, g, four times 32 bits each
//	64  first four taps of h, h, g, g
//	80  input channels of h, h, g, g, 16 bits each
//	96  (8 taps) the other four
//
// and for Norm: cst, cst (8 words each), rho, rho (16 bytes each). Without
// dot product, of one channel, neonSize bytes:
//
//	0   biases of h, g, eight words each
//	32  taps of h, g, eight bytes each
//	48  input channels of h, g
//
// and for Norm: cst (8 words), rho (16 bytes).
const (
	dotSize4 = 96
	dotSize8 = 112
	neonSize = 64

	quarterTaps = 64
	quarterSize = 128
)

// Parts of a block.
const (
	half    = Block / 2
	quarter = Block / 4
)

type packed struct {
	w, aux []byte
	// for 8 positions of two pairs; nil where there is no kernel
	quarters    []byte
	quarterTab  tables // how products are rounded differs
	quarterTile quarterTileFunc
	flips       []byte // [C][16], 0 or 255
	flipped     bool   // some channel is
	tab         tables
	factors     factorParams
	plain       plainFunc
	dotTile     dotTileFunc
	neoTile     neonTileFunc
	apply       applyFunc
	pool        poolFunc
	wide        func(y *int16, n int, r, k *int16, flips *byte, dst *int16)
}

type (
	plainFunc       = func(w *byte, n int, src *int8, srcStride int, dst *int8, dstStride int, blocks int, tab *tables)
	dotTileFunc     = func(w *byte, pairs int, src *int8, srcStride int, res *int8, resStride int, y *int16, tab *tables, aux *byte)
	quarterTileFunc = func(quarters, w *byte, quads int, src *int8, srcStride int, res *int8, resStride int, y *int16, tab *tables, aux *byte)
	neonTileFunc    = func(w *byte, n int, src *int8, srcStride int, res *int8, resStride int, y0, y1 *int16, tab *tables, aux *byte)
	applyFunc       = func(y *int16, pairs int, r, k *int16, flips *byte, work *int16, dst *int8, dstStride int)
	poolFunc        = func(y *int16, pairs int, r, k *int16, flips *byte, mask *int16, acc *int16)
)

// tables are the gate's base and slope and how products are rounded: 128<<shift
// in all words, or in the first eight the shift itself, negative.
type tables struct {
	gate  [64]byte
	round [16]int16
}

type factorParams struct{ c, meanM, eps, a, s int32 }

// Kernels by shift; others take the shift from the tables.
var (
	dotPlain4Shifts  = [15]plainFunc{3: dotPlain4Shift3, 4: dotPlain4Shift4, 5: dotPlain4Shift5, 6: dotPlain4Shift6, 7: dotPlain4Shift7}
	neonPlain4Shifts = [15]plainFunc{3: neonPlain4Shift3, 4: neonPlain4Shift4, 5: neonPlain4Shift5, 6: neonPlain4Shift6, 7: neonPlain4Shift7}
	neonPlain8Shifts = [15]plainFunc{3: neonPlain8Shift3, 4: neonPlain8Shift4, 5: neonPlain8Shift5, 6: neonPlain8Shift6, 7: neonPlain8Shift7}
	dotApplies       = [8]applyFunc{1: dotApply1, 2: dotApply2, 3: dotApply3, 4: dotApply4, 5: dotApply5, 6: dotApply6, 7: dotApply7}
	dotAppliesFlip   = [8]applyFunc{1: dotApply1Flip, 2: dotApply2Flip, 3: dotApply3Flip, 4: dotApply4Flip, 5: dotApply5Flip, 6: dotApply6Flip, 7: dotApply7Flip}
	neonApplies      = [8]applyFunc{1: neonApply1, 2: neonApply2, 3: neonApply3, 4: neonApply4, 5: neonApply5, 6: neonApply6, 7: neonApply7}
	neonAppliesFlip  = [8]applyFunc{1: neonApply1Flip, 2: neonApply2Flip, 3: neonApply3Flip, 4: neonApply4Flip, 5: neonApply5Flip, 6: neonApply6Flip, 7: neonApply7Flip}
	noResidual       [Block]int8 // x+128 of zeros; see init
	wholeHalf        [16]int16
)

func init() {
	for i := range noResidual {
		noResidual[i] = -128
	}
	for i := range wholeHalf {
		wholeHalf[i] = -1
	}
}

// pack reports whether the kernels can take the layer: at most 8 taps, and
// channels in pairs but for the plain kernels without dot product.
func (l *Layer) pack() bool {
	p := &l.p
	if p.K > 8 || p.C%2 != 0 && (l.path == cpu.DotProd || p.Norm != nil) {
		return false
	}
	k := &l.packed
	copy(k.tab.gate[:], p.Base)
	copy(k.tab.gate[32:], p.Slope)
	for i := range k.tab.round {
		if s := p.Shift; s >= 3 && s <= 7 {
			k.tab.round[i] = 128 << s
		} else {
			k.tab.round[i] = int16(-s)
		}
	}
	signed := false
	if n := p.Norm; n != nil {
		f := n.Factor
		k.factors = factorParams{f.C, f.MeanM, f.Eps, f.A, int32(min(max(f.S, 0), 63))}
		k.flips = make([]byte, 16*p.C)
		for c, f := range n.Flip {
			k.flipped = k.flipped || f != 0
			for i := range 16 {
				k.flips[16*c+i] = -f
			}
			signed = signed || n.Rho[c] < 0
		}
	}
	if l.path == cpu.DotProd {
		l.packDot(signed)
	} else {
		l.packNEON()
	}
	return true
}

// taps are a filter's taps padded to eight, and its bias for inputs x+128.
func (p *Params) taps(c int, taps []uint8, bias int32) (w [8]uint8, b int32) {
	copy(w[:], taps[c*p.K:(c+1)*p.K])
	for _, v := range w {
		bias -= 128 * int32(v)
	}
	return w, bias
}

func (l *Layer) packDot(signed bool) {
	p, k := &l.p, &l.packed
	size, shared := dotSize4, true
	if p.K > 4 {
		size = dotSize8
	}
	for c := 0; c < p.C; c += 2 {
		shared = shared && p.ChanH[c] == p.ChanH[c+1] && p.ChanG[c] == p.ChanG[c+1]
	}
	positive := !signed && shared && size == dotSize4
	k.w = make([]byte, p.C/2*size)
	k.aux = make([]byte, p.C/2*64)
	for c := range p.C {
		w := k.w[c/2*size:][:size]
		for f, g := range []struct {
			taps []uint8
			bias []int32
			in   []uint16
		}{{p.TapsH, p.BiasH, p.ChanH}, {p.TapsG, p.BiasG, p.ChanG}} {
			at := 2*f + c%2
			t, b := p.taps(c, g.taps, g.bias[c])
			for i := range 4 {
				binary.LittleEndian.PutUint32(w[16*at+4*i:], uint32(b))
			}
			copy(w[64+4*at:], t[:4])
			binary.LittleEndian.PutUint16(w[80+2*at:], g.in[c])
			if size == dotSize8 {
				copy(w[96+4*at:], t[4:])
			}
		}
		if n := p.Norm; n != nil {
			cst := int(n.Cst[c])
			if positive {
				cst -= 128 * int(n.Rho[c])
			}
			aux := k.aux[c/2*64:][:64]
			putNorm(aux[c%2*16:], aux[32+c%2*16:], cst, n.Rho[c])
		}
	}
	k.wide = dotWide
	switch {
	case size == dotSize4 && shared:
		k.plain, k.dotTile = dotPlain4, dotTile4
		if positive {
			k.dotTile = dotTile4Positive
		}
		if f := dotPlain4Shifts[p.Shift]; f != nil {
			k.plain = f
		}
		if p.C%4 == 0 {
			l.packQuarters(positive)
		}
	case size == dotSize4:
		k.plain, k.dotTile = dotPlain4Map, dotTile4Map
	case shared:
		k.plain, k.dotTile = dotPlain8, dotTile8
	default:
		k.plain, k.dotTile = dotPlain8Map, dotTile8Map
	}
	if dotPlain4Shifts[p.Shift] != nil && !(size == dotSize4 && shared) {
		for i := range k.tab.round {
			k.tab.round[i] = int16(-p.Shift)
		}
	}
	if n := p.Norm; n != nil {
		k.apply, k.pool = dotApplies[n.Shift], dotPool
		if k.flipped {
			k.apply, k.pool = dotAppliesFlip[n.Shift], dotPoolFlip
		}
	}
}

// packQuarters packs pairs two by two.
func (l *Layer) packQuarters(positive bool) {
	p, k := &l.p, &l.packed
	k.quarters = make([]byte, p.C/4*quarterSize)
	for c := range p.C {
		w := k.quarters[c/4*quarterSize:][:quarterSize]
		for f, g := range []struct {
			taps []uint8
			bias []int32
		}{{p.TapsH, p.BiasH}, {p.TapsG, p.BiasG}} {
			t, b := p.taps(c, g.taps, g.bias[c])
			for i := range 2 {
				at := 16*(2*f+c%2) + 8*(c%4/2) + 4*i
				binary.LittleEndian.PutUint32(w[at:], uint32(b))
				copy(w[quarterTaps+at:], t[:4])
			}
		}
	}
	k.quarterTab = k.tab
	for i := range k.quarterTab.round {
		k.quarterTab.round[i] = int16(-p.Shift)
	}
	k.quarterTile = dotTileQuarter
	if positive {
		k.quarterTile = dotTileQuarterPositive
	}
}

func (l *Layer) packNEON() {
	p, k := &l.p, &l.packed
	k.w = make([]byte, p.C*neonSize)
	k.aux = make([]byte, p.C*32)
	for c := range p.C {
		w := k.w[c*neonSize:][:neonSize]
		for f, g := range []struct {
			taps []uint8
			bias []int32
			in   []uint16
		}{{p.TapsH, p.BiasH, p.ChanH}, {p.TapsG, p.BiasG, p.ChanG}} {
			t, b := p.taps(c, g.taps, g.bias[c])
			for i := range 8 {
				binary.LittleEndian.PutUint16(w[16*f+2*i:], uint16(b))
			}
			copy(w[32+8*f:], t[:])
			binary.LittleEndian.PutUint16(w[48+2*f:], g.in[c])
		}
		if n := p.Norm; n != nil {
			putNorm(k.aux[32*c:], k.aux[32*c+16:], int(n.Cst[c]), n.Rho[c])
		}
	}
	k.plain, k.neoTile, k.wide = neonPlain4, neonTile4, neonWide
	shifts := &neonPlain4Shifts
	if p.K > 4 {
		k.plain, k.neoTile, shifts = neonPlain8, neonTile8, &neonPlain8Shifts
	}
	if f := shifts[p.Shift]; f != nil {
		k.plain = f
	}
	if n := p.Norm; n != nil {
		k.apply, k.pool = neonApplies[n.Shift], neonPool
		if k.flipped {
			k.apply, k.pool = neonAppliesFlip[n.Shift], neonPoolFlip
		}
	}
}

// putNorm writes eight words of cst and sixteen bytes of rho.
func putNorm(words, bytes []byte, cst int, rho int8) {
	for i := range 8 {
		binary.LittleEndian.PutUint16(words[2*i:], uint16(cst))
	}
	for i := range 16 {
		bytes[i] = byte(rho)
	}
}

// width is the number of positions that the kernels compute of the n still
// wanted: a block, or a half or a quarter where that is enough.
func (l *Layer) width(n int) int {
	switch {
	case n <= quarter && l.packed.quarters != nil:
		return quarter
	case n <= half:
		return half
	}
	return Block
}

func (l *Layer) plainASM(dst, src *plane.Plane, pos, n int) {
	k, rows := &l.packed, l.p.C
	if l.path == cpu.DotProd {
		rows /= 2
	}
	in, out := src.Margin+pos-l.p.PadLeft, dst.Margin+pos
	halves := n / half
	rest := l.width(n % half)
	if n%half > 0 && rest != quarter {
		halves++
	}
	if halves > 0 {
		k.plain(&k.w[0], rows, &src.Data[in], src.Stride, &dst.Data[out], dst.Stride, halves, &k.tab)
	}
	if done := halves * half; done < n {
		dotPlainQuarter(&k.quarters[0], &k.w[0], l.p.C/4, &src.Data[in+done], src.Stride, &dst.Data[out+done], dst.Stride, &k.quarterTab)
	}
}

// half is one half tile, [C][16] words in time order, C rounded up to 4.
func (l *Layer) half(s *Scratch, i int) []int16 {
	n := (l.p.C + 3) &^ 3 * 16
	return s.y[i*n:][:n]
}

func (l *Layer) tileASM(src, res *plane.Plane, pos, width int, s *Scratch) {
	k, halves := &l.packed, max(width/half, 1)
	y := [2][]int16{l.half(s, 0), l.half(s, 1)}
	at := src.Margin + pos - l.p.PadLeft
	r, stride := noResidual[:], 0
	if res != nil {
		r, stride = res.Data[res.Margin+pos:], res.Stride
	}
	sums := dotFactors
	switch {
	case width == quarter:
		k.quarterTile(&k.quarters[0], &k.w[0], l.p.C/4, &src.Data[at], src.Stride, &r[0], stride, &y[0][0], &k.quarterTab, &k.aux[0])
	case l.path == cpu.DotProd:
		for i := range halves {
			k.dotTile(&k.w[0], l.p.C/2, &src.Data[at+16*i], src.Stride, &r[16*i], stride, &y[i][0], &k.tab, &k.aux[0])
		}
	default: // this kernel has no half
		sums = neonFactors
		k.neoTile(&k.w[0], l.p.C, &src.Data[at], src.Stride, &r[0], stride, &y[0][0], &y[1][0], &k.tab, &k.aux[0])
	}
	for i := range halves {
		clear(y[i][l.p.C*16:]) // sums go by four channels
		sums(&y[i][0], len(y[i])/64, &s.r[16*i], &s.k[16*i], &k.factors)
	}
}

func (l *Layer) applyASM(dst *plane.Plane, pos, width int, s *Scratch) {
	k := &l.packed
	for i := range max(width/half, 1) {
		k.apply(&l.half(s, i)[0], l.p.C/2, &s.r[16*i], &s.k[16*i], &k.flips[0], &s.mask[0], &dst.Data[dst.Margin+pos+16*i], dst.Stride)
	}
}

func (l *Layer) poolASM(acc *Acc, n, width int, s *Scratch) {
	k := &l.packed
	for i := range max(width/half, 1) {
		to := n - 16*i
		if to <= 0 {
			return
		}
		mask := &wholeHalf[0]
		if to < 16 {
			s.restrict(i, to)
			mask = &s.mask[0]
		}
		k.pool(&l.half(s, i)[0], l.p.C/2, &s.r[16*i], &s.k[16*i], &k.flips[0], mask, &acc.v[0])
	}
}

// restrict makes all positions of a half tile but the first n normalise to -32768.
func (s *Scratch) restrict(half, n int) {
	for i := range 16 {
		s.mask[i] = -1
		if i >= n {
			s.mask[i], s.r[16*half+i], s.k[16*half+i] = 0, 0, -32768
		}
	}
}

func (l *Layer) wideASM(dst []int16, s *Scratch) {
	k := &l.packed
	for i := range 2 {
		k.wide(&l.half(s, i)[0], l.p.C, &s.r[16*i], &s.k[16*i], &k.flips[0], &dst[16*i])
	}
}

// reduce does the channels that fill the kernel and returns their number.
func reduce(out, v []int16) int {
	n := len(out) &^ 7
	if n > 0 {
		maxima(&v[0], n/8, &out[0])
	}
	return n
}
