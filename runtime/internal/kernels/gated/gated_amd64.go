//go:build !purego

package gated

import (
	"encoding/binary"
	"slices"

	"nepcoc/runtime/cpu"
	"nepcoc/runtime/internal/kernels/plane"
)

// A channel's constants as the kernels broadcast them, size4 or size8 bytes:
//
//	0  taps 01, 23 of h, then of g, each pair twice
//	16 bias of h, of g, each twice as 16 bits
//	24 cst twice
//	28 0 rho 0 rho 0: rho as a word at 29, times 256 at 28
//	36 flip, four bytes 0 or -1
//	40 input channels of h, g as 16 bits
//	48 (8 taps) taps 45, 67 of h, then of g
const (
	size4 = 48
	size8 = 64
)

type packed struct {
	w       []byte
	size    int
	signed  bool // some rho is negative
	least   int  // the smallest part of a block that there are kernels for
	shared  bool // the channels of each pair read the same inputs
	tab     tables
	factors factorParams
	mult    uint16 // rounds to int8
}

// tables are the gate's tables (base, slope) and, without Norm, the factors that
// round odd and even products; see PLAIN.
type tables struct {
	gate [64]byte
	odd  uint32
	even uint32
}

type factorParams struct{ c, meanM, eps, a, s int32 }

// pack reports whether the kernels can take the layer: at most 8 taps, and no
// two neighbours whose sum of products saturates 16 bits.
func (l *Layer) pack() bool {
	p := &l.p
	if p.K > 8 {
		return false
	}
	size := size4
	if p.K > 4 {
		size = size8
	}
	l.packed = packed{w: make([]byte, p.C*size), size: size}
	for c := range p.C {
		w := l.packed.w[c*size:][:size]
		h, ok1 := tapPairs(p.TapsH[c*p.K : (c+1)*p.K])
		g, ok2 := tapPairs(p.TapsG[c*p.K : (c+1)*p.K])
		if !ok1 || !ok2 {
			return false
		}
		put := binary.LittleEndian.PutUint32
		put(w[0:], h[0])
		put(w[4:], h[1])
		put(w[8:], g[0])
		put(w[12:], g[1])
		put(w[16:], twice(int(p.BiasH[c])))
		put(w[20:], twice(int(p.BiasG[c])))
		binary.LittleEndian.PutUint16(w[40:], p.ChanH[c])
		binary.LittleEndian.PutUint16(w[42:], p.ChanG[c])
		if size == size8 {
			put(w[48:], h[2])
			put(w[52:], h[3])
			put(w[56:], g[2])
			put(w[60:], g[3])
		}
		if n := p.Norm; n != nil {
			put(w[24:], twice(int(n.Cst[c])))
			w[29], w[31] = byte(n.Rho[c]), byte(n.Rho[c])
			put(w[36:], -uint32(n.Flip[c]))
			l.packed.signed = l.packed.signed || n.Rho[c] < 0
		}
	}
	l.packed.shared = true
	for c := 0; c+1 < p.C; c += 2 {
		l.packed.shared = l.packed.shared && p.ChanH[c] == p.ChanH[c+1] && p.ChanG[c] == p.ChanG[c+1]
	}
	l.packed.least = Block
	switch {
	case size == size4 && p.C%4 == 0 && l.packed.shared:
		l.packed.least = quarter
	case size == size4 && p.C%2 == 0:
		l.packed.least = half
	}
	copy(l.packed.tab.gate[:], p.Base)
	copy(l.packed.tab.gate[32:], p.Slope)
	if n := p.Norm; n != nil {
		f := n.Factor
		l.packed.factors = factorParams{f.C, f.MeanM, f.Eps, f.A, int32(min(max(f.S, 0), 63))}
		l.packed.mult = 1 << (15 - n.Shift)
	} else {
		l.packed.tab.odd = twice(1 << (15 - p.Shift))
		l.packed.tab.even = twice(1 << (14 - p.Shift))
	}
	return true
}

// tapPairs packs taps two by two, each pair twice. It is false where a pair
// could saturate: -128*(w0+w1) must fit 16 bits.
func tapPairs(taps []uint8) (out [4]uint32, ok bool) {
	var w [8]uint8
	copy(w[:], taps)
	for i := range out {
		if int(w[2*i])+int(w[2*i+1]) > 256 {
			return out, false
		}
		out[i] = twice(int(w[2*i]) | int(w[2*i+1])<<8)
	}
	return out, true
}

// twice is the low 16 bits of v in both halves.
func twice(v int) uint32 { return uint32(uint16(v)) * 0x10001 }

// Parts of a block, for which registers hold several channels: what is
// left of a streamed flow's last chunk is seldom a whole number of blocks.
const (
	half    = Block / 2
	quarter = Block / 4
)

// width is the number of positions that the kernels compute of the n still
// wanted: a block, or a part where that is enough.
func (l *Layer) width(n int) int {
	w := Block
	for n <= w/2 && w > l.packed.least {
		w /= 2
	}
	return w
}

func (l *Layer) plainASM(dst, src *plane.Plane, pos, n int) {
	k := &l.packed
	in, out := src.Margin+pos-l.p.PadLeft, dst.Margin+pos
	blocks := n / Block
	if rest := n % Block; rest > 0 && l.width(rest) == Block {
		blocks++
	}
	if blocks > 0 {
		f := plain4
		if k.size == size8 {
			f = plain8
		}
		f(&k.w[0], l.p.C, &src.Data[in], src.Stride, &dst.Data[out], dst.Stride, blocks, &k.tab)
	}
	done := blocks * Block
	if done >= n {
		return
	}
	f, group := plainHalf, 2
	switch {
	case l.width(n-done) == quarter:
		f, group = plainQuarter, 4
	case !k.shared:
		f = plainHalfMap
	}
	f(&k.w[0], l.p.C/group, &src.Data[in+done], src.Stride, &dst.Data[out+done], dst.Stride, &k.tab)
}

// noResidual is the row of every channel of a layer without residual.
var noResidual [Block]int8

func (l *Layer) tileASM(src, res *plane.Plane, pos, width int, s *Scratch) {
	k, c := &l.packed, l.p.C
	r, stride := &noResidual[0], 0
	if res != nil {
		r, stride = &res.Data[res.Margin+pos], res.Stride
	}
	in := &src.Data[src.Margin+pos-l.p.PadLeft]
	// vectors of E, and of O, in the tile; sums go by pairs of them
	group := Block / width
	pairs := (c/group + 1) / 2
	if width < Block {
		f, sums := tileHalf, factorsHalf
		switch {
		case width == quarter:
			f, sums = tileQuarter, factorsQuarter
		case !k.shared:
			f = tileHalfMap
		}
		f(&k.w[0], c/group, in, src.Stride, r, stride, &s.y[0], &k.tab)
		clear(s.y[c*width : 2*pairs*Block])
		sums(&s.y[0], pairs, &s.r[0], &s.k[0], &k.factors)
		return
	}
	f := tile4
	switch {
	case k.size == size8 && k.signed:
		f = tile8any
	case k.size == size8:
		f = tile8
	case k.signed:
		f = tile4any
	}
	f(&k.w[0], c, in, src.Stride, r, stride, &s.y[0], &k.tab)
	clear(s.y[c*Block : 2*pairs*Block])
	factors(&s.y[0], pairs, &s.r[0], &s.k[0], &k.factors)
}

func (l *Layer) applyASM(dst *plane.Plane, pos, width int, s *Scratch) {
	k := &l.packed
	out := &dst.Data[dst.Margin+pos]
	switch width {
	case half:
		applyHalf(&s.y[0], l.p.C/2, &s.r[0], &s.k[0], &k.w[0], out, dst.Stride, k.mult)
		return
	case quarter:
		applyQuarter(&s.y[0], l.p.C/4, &s.r[0], &s.k[0], &k.w[0], out, dst.Stride, k.mult)
		return
	}
	apply(&s.y[0], l.p.C, &s.r[0], &s.k[0], &k.w[0], k.size, out, dst.Stride, k.mult)
}

// wholeBlock is the mask of a block with all positions.
var wholeBlock = func() (m [Block]int16) {
	for i := range m {
		m[i] = -1
	}
	return m
}()

func (l *Layer) poolASM(acc *Acc, n, width int, s *Scratch) {
	k := &l.packed
	mask := &wholeBlock
	if n < width {
		mask = s.restrict(n, width)
	}
	switch width {
	case half:
		poolHalf(&s.y[0], l.p.C/2, &s.r[0], &s.k[0], &k.w[0], &acc.v[0], &mask[0])
		return
	case quarter:
		poolQuarter(&s.y[0], l.p.C/4, &s.r[0], &s.k[0], &k.w[0], &acc.v[0], &mask[0])
		return
	}
	pool(&s.y[0], l.p.C, &s.r[0], &s.k[0], &k.w[0], k.size, &acc.v[0], &mask[0])
}

// restrict makes all positions but the first n normalise to -32768. Element i
// of the factors belongs to position 2*i, or 2*(i-width/2)+1.
func (s *Scratch) restrict(n, width int) *[Block]int16 {
	for i := range width / 2 {
		s.keep(i, 2*i < n)
		s.keep(i+width/2, 2*i+1 < n)
	}
	return &s.mask
}

func (s *Scratch) keep(i int, wanted bool) {
	s.mask[i] = -1
	if !wanted {
		s.mask[i], s.r[i], s.k[i] = 0, 0, -32768
	}
}

func (l *Layer) wideASM(dst []int16, s *Scratch) {
	k := &l.packed
	wide(&s.y[0], l.p.C, &s.r[0], &s.k[0], &k.w[0], k.size, &dst[0])
}

// reduce does the channels that fill the kernel and returns their number. The
// build has the kernel, the CPU may not.
func reduce(out, v []int16) int {
	if !hasAVX2 || len(out) == 0 {
		return 0
	}
	maxima(&v[0], len(out), &out[0])
	return len(out)
}

var hasAVX2 = slices.Contains(cpu.Available(), cpu.AVX2)

//go:noescape
func maxima(acc *int16, n int, out *int16)

//go:noescape
func plain4(w *byte, n int, src *int8, srcStride int, dst *int8, dstStride, blocks int, tab *tables)

//go:noescape
func plain8(w *byte, n int, src *int8, srcStride int, dst *int8, dstStride, blocks int, tab *tables)

//go:noescape
func plainHalf(w *byte, pairs int, src *int8, srcStride int, dst *int8, dstStride int, tab *tables)

//go:noescape
func plainHalfMap(w *byte, pairs int, src *int8, srcStride int, dst *int8, dstStride int, tab *tables)

//go:noescape
func plainQuarter(w *byte, quads int, src *int8, srcStride int, dst *int8, dstStride int, tab *tables)

//go:noescape
func tile4(w *byte, n int, src *int8, srcStride int, res *int8, resStride int, y *int16, tab *tables)

//go:noescape
func tile8(w *byte, n int, src *int8, srcStride int, res *int8, resStride int, y *int16, tab *tables)

//go:noescape
func tile4any(w *byte, n int, src *int8, srcStride int, res *int8, resStride int, y *int16, tab *tables)

//go:noescape
func tile8any(w *byte, n int, src *int8, srcStride int, res *int8, resStride int, y *int16, tab *tables)

//go:noescape
func tileHalf(w *byte, pairs int, src *int8, srcStride int, res *int8, resStride int, y *int16, tab *tables)

//go:noescape
func tileHalfMap(w *byte, pairs int, src *int8, srcStride int, res *int8, resStride int, y *int16, tab *tables)

//go:noescape
func tileQuarter(w *byte, quads int, src *int8, srcStride int, res *int8, resStride int, y *int16, tab *tables)

//go:noescape
func factors(y *int16, pairs int, r, k *int16, p *factorParams)

//go:noescape
func factorsHalf(y *int16, pairs int, r, k *int16, p *factorParams)

//go:noescape
func factorsQuarter(y *int16, pairs int, r, k *int16, p *factorParams)

//go:noescape
func apply(y *int16, n int, r, k *int16, w *byte, size int, dst *int8, dstStride int, mult uint16)

//go:noescape
func applyHalf(y *int16, pairs int, r, k *int16, w *byte, dst *int8, dstStride int, mult uint16)

//go:noescape
func applyQuarter(y *int16, quads int, r, k *int16, w *byte, dst *int8, dstStride int, mult uint16)

//go:noescape
func pool(y *int16, n int, r, k *int16, w *byte, size int, acc, mask *int16)

//go:noescape
func poolHalf(y *int16, pairs int, r, k *int16, w *byte, acc, mask *int16)

//go:noescape
func poolQuarter(y *int16, quads int, r, k *int16, w *byte, acc, mask *int16)

//go:noescape
func wide(y *int16, n int, r, k *int16, w *byte, size int, dst *int16)
