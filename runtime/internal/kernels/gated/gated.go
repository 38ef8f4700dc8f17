// Package gated runs fused gated convolutions: two depthwise convolutions, the
// gate, and either a shift or a residual with LayerNorm, in one pass
// over L1-sized blocks, nothing in between in memory but the LayerNorm's tile.
//
// The arithmetic is arith's (bundle.GatedConv has the formulas); generic.go is
// written straight from it, the assembly of each path is tested against that.
//
// AVX2: two maddubs per filter and parity of the position; even and odd
// positions live in separate 16-bit vectors, gate values in time order as bytes.
// What is left of a streamed flow's last chunk is a half or a quarter of a block, with two or
// four channels side by side in a register.
// AVX-512: planes are time-major; see rows_amd64.go.
// Arm: planes hold x+128, so that UDOT (or UMLAL) multiplies
// unsigned by unsigned; the biases take the 128 back.
package gated

//go:generate go run ../internal/armgen -kernel gated -o gated_arm64.s -go decl_arm64.go

import (
	"fmt"
	"unsafe"

	"nepcoc/runtime/arith"
	"nepcoc/runtime/cpu"
	"nepcoc/runtime/internal/kernels/plane"
	"nepcoc/runtime/internal/kernels/transpose"
)

// Block is the number of positions computed at a time.
const Block = plane.Block

// Params are the constants of a layer as in bundle.GatedConv, in plain slices
// that New does not keep. C is the number of output channels, Cin of input channels.
type Params struct {
	C, Cin       int
	K, PadLeft   int
	ChanH, ChanG []uint16 // [C]
	TapsH, TapsG []uint8  // [C,K]
	BiasH, BiasG []int32  // [C]
	PadIn        []int8   // [Cin]
	Base, Slope  []uint8  // [32]
	Shift        int
	Norm         *Norm
}

// Norm are the constants of the residual and LayerNorm part.
type Norm struct {
	Rho    []int8  // [C]
	Cst    []int16 // [C]
	Flip   []uint8 // [C], 0 or 1
	Factor arith.NormParams
	Shift  int
}

// Layer is a gated layer packed for one path. It is read-only after New and
// may be shared by goroutines.
type Layer struct {
	p      Params
	path   cpu.Path // Purego where this layer does not suit the path's kernels
	pads   []uint16 // PadIn as channel-major planes store it, each twice
	packed packed
	rows   rowsLayer // for time-major planes
}

// Fits tells whether New can pack a layer, which must be valid, for path. Only time-major planes
// have no portable kernels.
func Fits(p *Params, path cpu.Path) bool { return !plane.TimeMajor(path) || fitsRows(p) }

// New packs a layer for path. Layers that path's kernels cannot take (more than
// 8 taps) run the portable ones; Path tells.
func New(p Params, path cpu.Path) (*Layer, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	l := &Layer{p: p.clone(), path: path}
	if plane.TimeMajor(path) {
		if !Fits(&p, path) {
			return nil, fmt.Errorf("gated layer: %v has no kernels for %d channels, kernel %d, this channel map or these taps", path, p.C, p.K)
		}
		l.packRows()
		return l, nil
	}
	for _, v := range p.PadIn {
		l.pads = append(l.pads, uint16(uint8(v^plane.FlipOf(path)))*0x101)
	}
	if path != cpu.Purego && !l.pack() {
		l.path = cpu.Purego
	}
	return l, nil
}

// Path is the path whose kernels the layer runs.
func (l *Layer) Path() cpu.Path { return l.path }

func (p *Params) check() error {
	if p.C < 1 || p.Cin < 1 || p.K < 1 || p.PadLeft < 0 {
		return fmt.Errorf("gated layer: channels %d of %d, kernel %d, left padding %d: must be positive", p.C, p.Cin, p.K, p.PadLeft)
	}
	for _, f := range []struct {
		name      string
		got, want int
	}{
		{"chan_h", len(p.ChanH), p.C}, {"chan_g", len(p.ChanG), p.C},
		{"taps_h", len(p.TapsH), p.C * p.K}, {"taps_g", len(p.TapsG), p.C * p.K},
		{"bias_h", len(p.BiasH), p.C}, {"bias_g", len(p.BiasG), p.C},
		{"pad_in", len(p.PadIn), p.Cin}, {"base", len(p.Base), 32}, {"slope", len(p.Slope), 32},
	} {
		if f.got != f.want {
			return fmt.Errorf("gated layer: %s has %d elements, want %d", f.name, f.got, f.want)
		}
	}
	for c := range p.C {
		if int(p.ChanH[c]) >= p.Cin || int(p.ChanG[c]) >= p.Cin {
			return fmt.Errorf("gated layer: output channel %d reads input channels %d and %d of %d", c, p.ChanH[c], p.ChanG[c], p.Cin)
		}
	}
	n := p.Norm
	if n == nil {
		if p.Shift < 1 || p.Shift > 14 {
			return fmt.Errorf("gated layer: shift %d, want 1..14", p.Shift)
		}
		return nil
	}
	if len(n.Rho) != p.C || len(n.Cst) != p.C || len(n.Flip) != p.C {
		return fmt.Errorf("gated layer: rho, cst, flip have %d, %d, %d elements, want %d", len(n.Rho), len(n.Cst), len(n.Flip), p.C)
	}
	for c, f := range n.Flip {
		if f > 1 {
			return fmt.Errorf("gated layer: flip[%d] is %d, want 0 or 1", c, f)
		}
	}
	if n.Shift < 1 || n.Shift > 7 || p.C > 256 || n.Factor.C != int32(p.C) || n.Factor.A < 0 || n.Factor.A > 65535 {
		return fmt.Errorf("gated layer: norm over %d (%d) channels, shift %d, scale %d: want at most 256 channels, shift 1..7, scale at most 65535",
			p.C, n.Factor.C, n.Shift, n.Factor.A)
	}
	return nil
}

func (p Params) clone() Params {
	p.ChanH, p.ChanG = append([]uint16(nil), p.ChanH...), append([]uint16(nil), p.ChanG...)
	p.TapsH, p.TapsG = append([]uint8(nil), p.TapsH...), append([]uint8(nil), p.TapsG...)
	p.BiasH, p.BiasG = append([]int32(nil), p.BiasH...), append([]int32(nil), p.BiasG...)
	p.PadIn = append([]int8(nil), p.PadIn...)
	p.Base, p.Slope = append([]uint8(nil), p.Base...), append([]uint8(nil), p.Slope...)
	if p.Norm != nil {
		n := *p.Norm
		n.Rho, n.Cst, n.Flip = append([]int8(nil), n.Rho...), append([]int16(nil), n.Cst...), append([]uint8(nil), n.Flip...)
		p.Norm = &n
	}
	return p
}

// Pad writes the layer's padding values around the length positions of its
// input src, as far as computing n positions from pos on reads them. Call it
// after src has been computed and before the layer reads it.
func (l *Layer) Pad(src *plane.Plane, length, pos, n int) {
	left, right := l.p.PadLeft, l.p.K-1-l.p.PadLeft
	if pos >= left {
		left = 0
	}
	if pos+n+right <= length {
		right = 0
	}
	if plane.TimeMajor(l.path) {
		for t := -left; t < 0; t++ {
			copy(src.Data[src.Index(0, t):], l.p.PadIn)
		}
		for t := length; t < length+right; t++ {
			copy(src.Data[src.Index(0, t):], l.p.PadIn)
		}
		return
	}
	if left == 1 && right == 2 {
		l.pad12(src, length)
		return
	}
	l.pad(src, -left, 0)
	l.pad(src, length, length+max(right, 0))
}

// pad12 is Pad at both ends for the published shape, in one pass.
func (l *Layer) pad12(src *plane.Plane, length int) {
	l.checkPad(src, -1, length+2)
	left, right := unsafe.Pointer(&src.Data[src.Margin-1]), unsafe.Pointer(&src.Data[src.Margin+length])
	off, stride := 0, src.Stride
	for _, v := range l.pads {
		*(*uint8)(unsafe.Add(left, off)) = uint8(v)
		*(*uint16)(unsafe.Add(right, off)) = v
		off += stride
	}
}

// pad writes positions [from,to) of all channels. It is called for every layer of
// every flow and touches a line per channel; without bounds checks the
// published shape (one position, and two) takes a third of the time.
func (l *Layer) pad(src *plane.Plane, from, to int) {
	n := to - from
	if n <= 0 {
		return
	}
	l.checkPad(src, from, to)
	at, off, stride := unsafe.Pointer(&src.Data[src.Margin+from]), 0, src.Stride
	switch n {
	case 1:
		for _, v := range l.pads {
			*(*uint8)(unsafe.Add(at, off)) = uint8(v)
			off += stride
		}
	case 2:
		for _, v := range l.pads {
			*(*uint16)(unsafe.Add(at, off)) = v
			off += stride
		}
	default:
		for c, v := range l.p.PadIn {
			src.Fill(c, from, to, v)
		}
	}
}

func (l *Layer) checkPad(src *plane.Plane, from, to int) {
	lo, hi := src.Margin+from, src.Margin+to
	if src.Channels < l.p.Cin || lo < 0 || (l.p.Cin-1)*src.Stride+hi > len(src.Data) {
		panic(fmt.Sprintf("BUG: gated: padding positions [%d,%d) outside the plane", from, to))
	}
}

// Plain computes a layer without Norm: n positions from pos on, all channels.
// It and the functions below may also compute, and write, what is left of
// the last block. dst and src must not overlap.
func (l *Layer) Plain(dst, src *plane.Plane, pos, n int) {
	if n <= 0 {
		return
	}
	l.span(dst, l.p.C, pos, n)
	l.spanTaps(src, pos, n)
	if plane.TimeMajor(l.path) {
		l.plainRows(dst, src, pos, n)
		return
	}
	if l.path == cpu.Purego {
		l.plainGeneric(dst, src, pos, n)
		return
	}
	l.plainASM(dst, src, pos, n)
}

// Norm computes a layer with Norm to int8. res is the residual, nil for none.
// dst may be res; it must not overlap src.
func (l *Layer) Norm(dst, src, res *plane.Plane, pos, n int, s *Scratch) {
	if n <= 0 {
		return
	}
	l.span(dst, l.p.C, pos, n)
	for end := pos + n; pos < end; {
		w := l.tile(src, res, pos, end-pos, s)
		switch {
		case plane.TimeMajor(l.path):
			l.applyRows(dst, pos, w, s)
		case l.path == cpu.Purego:
			l.applyGeneric(dst, pos, s)
		default:
			l.applyASM(dst, pos, w, s)
		}
		pos += w
	}
}

// NormPool computes a layer with Norm to int16 and takes the maximum of n positions
// from pos on into acc.
func (l *Layer) NormPool(acc *Acc, src, res *plane.Plane, pos, n int, s *Scratch) {
	for end := pos + n; pos < end; {
		w := l.tile(src, res, pos, end-pos, s)
		switch {
		case plane.TimeMajor(l.path):
			l.poolRows(acc, w, s)
		case l.path == cpu.Purego:
			l.poolGeneric(acc, min(end-pos, w), s)
		default:
			l.poolASM(acc, min(end-pos, w), w, s)
		}
		pos += w
	}
}

// NormWide computes the first n positions of a layer with Norm to int16 (the values that
// NormPool takes the maximum of) in time-major rows.
func (l *Layer) NormWide(dst []int16, src, res *plane.Plane, n int, s *Scratch) {
	c := l.p.C
	for pos := 0; pos < n; {
		rows := dst[pos*c : n*c]
		if plane.TimeMajor(l.path) {
			w := l.tile(src, res, pos, n-pos, s)
			l.wideRows(rows, w, s)
			pos += w
			continue
		}
		l.tile(src, res, pos, Block, s)
		if l.path == cpu.Purego {
			l.wideGeneric(s.wide, s)
		} else {
			l.wideASM(s.wide, s)
		}
		if n-pos >= Block {
			transpose.Run(l.path, rows[:Block*c], s.wide[:c*Block], c, Block)
			pos += Block
			continue
		}
		for i := range n - pos {
			for ch, row := 0, rows[i*c:][:c]; ch < c; ch++ {
				row[ch] = s.wide[ch*Block+i]
			}
		}
		pos += Block
	}
}

// tile computes the LayerNorm's input and the factors of the positions from pos on
// into s: as many of the n wanted as the kernels take at a time, which it returns.
func (l *Layer) tile(src, res *plane.Plane, pos, n int, s *Scratch) int {
	s.need(l.p.C)
	if plane.TimeMajor(l.path) {
		n = min(n, rowsTile)
		l.spanTaps(src, pos, n)
		if res != nil {
			l.span(res, l.p.C, pos, n)
		}
		l.tileRows(src, res, pos, n, s)
		return n
	}
	l.spanTaps(src, pos, 1)
	if res != nil {
		l.span(res, l.p.C, pos, 1)
	}
	if l.path == cpu.Purego {
		l.tileGeneric(src, res, pos, s)
		return Block
	}
	w := l.width(n)
	l.tileASM(src, res, pos, w, s)
	return w
}

// span checks that a plane has the whole blocks (time-major: the rows) that n positions from pos on are
// in: the kernels trust it.
func (l *Layer) span(p *plane.Plane, channels, pos, n int) { l.inside(p, channels, pos, n, 0) }

// spanTaps is span for the input: all that the taps reach, padded to 4 or 8.
func (l *Layer) spanTaps(p *plane.Plane, pos, n int) {
	reach := max(l.p.K, 8)
	if plane.TimeMajor(l.path) {
		reach = rowsTaps - 1
	}
	l.inside(p, l.p.Cin, pos-l.p.PadLeft, n, reach)
}

// inside checks for n positions from pos on, in whole blocks, and more after them.
func (l *Layer) inside(p *plane.Plane, channels, pos, n, more int) {
	if !plane.TimeMajor(l.path) {
		n = (n + Block - 1) / Block * Block
	}
	lo := p.Index(0, pos)
	hi := p.Index(channels-1, pos+n+more-1) + 1
	if p.Channels < channels || lo < 0 || hi > len(p.Data) {
		panic(fmt.Sprintf("BUG: gated: positions [%d,%d) of %d channels outside the plane (%d channels, stride %d, step %d, margin %d, %d bytes)",
			pos, pos+n+more, channels, p.Channels, p.Stride, p.Step, p.Margin, len(p.Data)))
	}
}
