// Package plane is the layout that the kernels of the local region share: int8
// activations of channels at positions.
//
// Most paths lay a plane out channel-major, one row per channel with positions side by
// side: a convolution over positions is a matter of unaligned loads, with no shuffles; time-major
// was measured 14 to 18 % slower. With AVX-512 planes are time-major, one row
// per position: 32 registers hold the constants of 64 channels, one shift makes the next
// pair of taps, no load straddles a cache line, and any number of positions costs just
// its own work.
package plane

import (
	"unsafe"

	"nepcoc/runtime/cpu"
)

// Block is the number of positions that channel-major kernels work on at a time. They
// may write all of a block's positions although fewer are wanted.
const Block = 32

// Plane holds positions of int8 channels. The value of channel c at position t
// is Data[Index(c,t)] ^ Flip (see At): on Arm, where the dot products of
// unsigned taps need unsigned activations, a plane stores x+128.
//
// A channel-major row has Block-aligned length and is followed by a margin that serves both
// as its own right side and as the left side of the next row; the convolution's
// padding values are written there. Everything in a row that is beyond the
// wanted positions may be overwritten by kernels. A time-major plane has whole rows
// on both sides for padding.
type Plane struct {
	Data     []int8
	Channels int
	Stride   int // from one channel to the next: channel-major a multiple of Block, else 1
	Step     int // from one position to the next: channel-major 1, else Channels
	Margin   int // of position 0 in Data: at least the left padding
	Flip     int8
}

// TimeMajor tells whether path's planes have a row per position.
func TimeMajor(path cpu.Path) bool { return path == cpu.AVX512 }

// slack is what channel-major kernels may read after the last row: one block at the highest tap.
const slack = 2 * Block

// reach is the number of rows that time-major kernels may read after the last
// padding row: they have four taps, of which the last may be zero.
const reach = 3

// up rounds to whole blocks.
func up(n int) int { return (n + Block - 1) / Block * Block }

// dims are the stride and margin of channel-major rows of length positions that
// convolutions extend by left and right positions.
func dims(length, left, right int) (stride, margin int) {
	return up(length) + up(left+right), up(left)
}

// Size is the number of bytes of a plane for Over.
func Size(path cpu.Path, channels, length, left, right int) int {
	if TimeMajor(path) {
		return channels * (left + length + right + reach)
	}
	stride, margin := dims(length, left, right)
	return margin + channels*stride + slack
}

// Over makes a plane of path's form over buf, which has Size bytes and should be
// aligned to 64.
func Over(buf []int8, path cpu.Path, channels, length, left, right int) Plane {
	p := Plane{Data: buf[:Size(path, channels, length, left, right)], Channels: channels, Flip: FlipOf(path)}
	if TimeMajor(path) {
		p.Stride, p.Step, p.Margin = 1, channels, left*channels
		return p
	}
	p.Step = 1
	p.Stride, p.Margin = dims(length, left, right)
	return p
}

// New allocates a plane; see Over.
func New(path cpu.Path, channels, length, left, right int) Plane {
	return Over(Aligned(Size(path, channels, length, left, right)), path, channels, length, left, right)
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

// Part is the plane of positions [from,to) only, at the start of the same memory, with left and
// right positions around them. Positions keep their numbers. Short rows let what a chunk of a
// stream touches fit the first-level cache.
//
// The last block that a channel-major kernel writes may then reach the rows that the next
// channel's row begins with: as far as those before the kernel's own first
// position, since a row of whole blocks is not longer than the stride.
func (p *Plane) Part(from, to, left, right int) Plane {
	q := *p
	n := (left + to - from + right + reach) * q.Channels
	if !q.timeMajor() {
		q.Stride = up(left + to - from + right)
		n = left + q.Channels*q.Stride + slack
	}
	if n > len(p.Data) {
		panic("BUG: plane: a part that is longer than the whole")
	}
	q.Margin = (left - from) * q.Step
	return q
}

// timeMajor tells whether the plane has a row per position: channel-major strides are
// whole blocks.
func (p *Plane) timeMajor() bool { return p.Stride == 1 }

// Index is the place of channel c at position t in Data.
func (p *Plane) Index(c, t int) int { return p.Margin + c*p.Stride + t*p.Step }

// Rows are the first n positions of a time-major plane.
func (p *Plane) Rows(n int) []int8 { return p.Data[p.Margin:][:n*p.Step] }

// SetRows stores time-major rows at positions 0, 1, ...
func (p *Plane) SetRows(rows []int8) {
	if p.timeMajor() {
		copy(p.Rows(len(rows)/p.Channels), rows)
		return
	}
	for t := 0; len(rows) >= p.Channels; t, rows = t+1, rows[p.Channels:] {
		for c, v := range rows[:p.Channels] {
			p.Set(c, t, v)
		}
	}
}

// GetRows copies the positions from from on to time-major rows.
func (p *Plane) GetRows(rows []int8, from int) {
	if p.timeMajor() {
		copy(rows, p.Data[p.Index(0, from):])
		return
	}
	n := len(rows) / p.Channels
	for c := range p.Channels {
		at := c
		for _, v := range p.Data[p.Index(c, from):][:n] {
			rows[at] = v ^ p.Flip
			at += p.Channels
		}
	}
}

// At is the value of channel c at position t.
func (p *Plane) At(c, t int) int8 { return p.Data[p.Index(c, t)] ^ p.Flip }

// Set stores v at position t of channel c.
func (p *Plane) Set(c, t int, v int8) { p.Data[p.Index(c, t)] = v ^ p.Flip }

// Fill stores v at positions [from,to) of channel c.
func (p *Plane) Fill(c, from, to int, v int8) {
	for t := from; t < to; t++ {
		p.Set(c, t, v)
	}
}

// Word is the number of positions that Save and Restore copy at a time.
const Word = 4

// Save copies to buf the columns positions that precede position to, of all channels, without the
// first skip of them. columns and skip are multiples of Word.
func (p *Plane) Save(buf []int8, columns, skip, to int) {
	if p.timeMajor() {
		kept, rows := p.history(buf, columns, skip, to)
		copy(kept, rows)
		return
	}
	kept, row := p.columns(buf, columns, skip, to)
	copyColumns(kept, columns, row, p.Stride, p.Channels, columns-skip)
}

// Restore copies back what Save has copied.
func (p *Plane) Restore(buf []int8, columns, skip, to int) {
	if p.timeMajor() {
		kept, rows := p.history(buf, columns, skip, to)
		copy(rows, kept)
		return
	}
	kept, row := p.columns(buf, columns, skip, to)
	copyColumns(row, p.Stride, kept, columns, p.Channels, columns-skip)
}

// history is what Save and Restore copy of a time-major plane.
func (p *Plane) history(buf []int8, columns, skip, to int) (kept, rows []int8) {
	return buf[skip*p.Step : columns*p.Step], p.Data[p.Index(0, to-columns+skip):p.Index(0, to)]
}

// columns checks at once all that copyColumns touches.
func (p *Plane) columns(buf []int8, columns, skip, to int) (kept, row unsafe.Pointer) {
	n, at, last := columns-skip, p.Margin+to-columns+skip, p.Channels-1
	if n < Word || n%Word != 0 || at < 0 || last*p.Stride+at+n > len(p.Data) || skip < 0 || last*columns+skip+n > len(buf) {
		panic("BUG: plane: columns outside the plane")
	}
	return unsafe.Pointer(&buf[skip]), unsafe.Pointer(&p.Data[at])
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
