// Package plane is the layout that the kernels of the local region share: int8
// activations with one row per channel, positions side by side.
//
// Channel-major rows make a convolution over positions a matter of unaligned
// loads, with no shuffles; time-major was measured 14 to 18 % slower.
package plane

import (
	"unsafe"

	"nepcoc/runtime/kernels/cpu"
)

// Block is the number of positions that kernels work on at a time. They may
// write all of a block's positions although fewer are wanted.
const Block = 32

// Plane holds positions of int8 channels. The value of channel c at position t
// is Data[c*Stride+Margin+t] ^ Flip (see At): on Arm, where the dot products of
// unsigned taps need unsigned activations, a plane stores x+128.
//
// A row has Block-aligned length and is followed by a margin that serves both
// as its own right side and as the left side of the next row; the convolution's
// padding values are written there. Everything in a row that is beyond the
// wanted positions may be overwritten by kernels.
type Plane struct {
	Data     []int8
	Channels int
	Stride   int // from one channel to the next, a multiple of Block
	Margin   int // of position 0 in Data, at least the left padding
	Flip     int8
}

// slack is what kernels may read after the last row: one block at the highest tap.
const slack = 2 * Block

// Dims are the stride and margin for rows of length positions that
// convolutions extend by left and right positions.
func Dims(length, left, right int) (stride, margin int) {
	up := func(n int) int { return (n + Block - 1) / Block * Block }
	return up(length) + up(left+right), up(left)
}

// Size is the number of bytes of a plane for Over.
func Size(channels, length, left, right int) int {
	stride, margin := Dims(length, left, right)
	return margin + channels*stride + slack
}

// Over makes a plane of path's form over buf, which has Size bytes and should be
// aligned to 64.
func Over(buf []int8, path cpu.Path, channels, length, left, right int) Plane {
	stride, margin := Dims(length, left, right)
	return Plane{Data: buf[:margin+channels*stride+slack], Channels: channels, Stride: stride, Margin: margin, Flip: FlipOf(path)}
}

// New allocates a plane; see Over.
func New(path cpu.Path, channels, length, left, right int) Plane {
	return Over(Aligned(Size(channels, length, left, right)), path, channels, length, left, right)
}

// Aligned allocates n bytes at a multiple of 64, so that no aligned block
// straddles a cache line.
func Aligned(n int) []int8 {
	buf := make([]int8, n+63)
	off := -int(uintptr(unsafe.Pointer(&buf[0]))) & 63
	return buf[off : off+n : off+n]
}

// FlipOf is the Flip of path's planes.
func FlipOf(path cpu.Path) int8 {
	if path == cpu.NEON || path == cpu.DotProd {
		return -128
	}
	return 0
}

// At is the value of channel c at position t.
func (p *Plane) At(c, t int) int8 { return p.Data[c*p.Stride+p.Margin+t] ^ p.Flip }

// Set stores v at position t of channel c.
func (p *Plane) Set(c, t int, v int8) { p.Data[c*p.Stride+p.Margin+t] = v ^ p.Flip }

// Fill stores v at positions [from,to) of channel c.
func (p *Plane) Fill(c, from, to int, v int8) {
	row := p.Data[c*p.Stride+p.Margin+from : c*p.Stride+p.Margin+to]
	for i := range row {
		row[i] = v ^ p.Flip
	}
}

// Word is the number of positions that Save and Restore copy at a time.
const Word = 4

// Save copies the n positions from pos on of all channels to buf, whose rows
// are stride apart. n is a multiple of Word.
func (p *Plane) Save(buf []int8, stride, pos, n int) {
	to, from := p.columns(buf, stride, pos, n)
	copyColumns(to, stride, from, p.Stride, p.Channels, n)
}

// Restore copies back what Save has copied.
func (p *Plane) Restore(buf []int8, stride, pos, n int) {
	from, to := p.columns(buf, stride, pos, n)
	copyColumns(to, p.Stride, from, stride, p.Channels, n)
}

// columns checks at once all that copyColumns touches.
func (p *Plane) columns(buf []int8, stride, pos, n int) (kept, row unsafe.Pointer) {
	at, last := p.Margin+pos, p.Channels-1
	if n < Word || n%Word != 0 || at < 0 || last*p.Stride+at+n > len(p.Data) || last*stride+n > len(buf) {
		panic("BUG: plane: columns outside the plane")
	}
	return unsafe.Pointer(&buf[0]), unsafe.Pointer(&p.Data[at])
}

// copyColumns copies n columns of channels rows. Streams do it for every value of every
// chunk; bounds checks were most of its time.
func copyColumns(to unsafe.Pointer, toStride int, from unsafe.Pointer, fromStride, channels, n int) {
	for i := 0; i < n; i += Word {
		for c, a, b := 0, i, i; c < channels; c, a, b = c+1, a+toStride, b+fromStride {
			*(*uint32)(unsafe.Add(to, a)) = *(*uint32)(unsafe.Add(from, b))
		}
	}
}
