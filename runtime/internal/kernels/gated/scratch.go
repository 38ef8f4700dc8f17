package gated

import (
	"unsafe"

	"nepcoc/runtime/cpu"
	"nepcoc/runtime/internal/kernels/plane"
)

// Scratch is the working memory of layers with Norm: one block of LayerNorm
// input. One goroutine uses it at a time; any number of layers can share it.
type Scratch struct {
	y []int16 // [C rounded up to 4][Block]; the order of positions is the kernel's own; time-major [rowsTile][C]
	// factors of the block's positions, in the order of y
	r, k []int16      // [most]
	mask [Block]int16 // of a partial block (see restrict), or for the kernel's own use
	wide []int16      // [C][Block], a block's normalised values; see NormWide
	part []int32      // partial sums of a tile of rows
}

// NewScratch makes the working memory for layers of up to channels channels.
func NewScratch(channels int) *Scratch {
	const parts = 2 * rowsTile * 16
	n := (channels + 3) &^ 3 * most
	b := aligned16(n + 2*most + 2*parts)
	return &Scratch{
		y: b[:n:n], r: b[n : n+most : n+most], k: b[n+most : n+2*most : n+2*most],
		part: unsafe.Slice((*int32)(unsafe.Pointer(&b[n+2*most])), parts),
		wide: make([]int16, channels*Block),
	}
}

// most is the number of positions that kernels compute at a time.
const most = max(Block, rowsTile)

func (s *Scratch) need(channels int) {
	if len(s.y) < (channels+3)&^3*most {
		panic("BUG: gated: scratch made for fewer channels")
	}
}

// lanes is the number of partial maxima per channel where positions are side by side: the
// width of the widest kernel.
const lanes = 16

// Acc is a running maximum over positions for each channel.
type Acc struct {
	v    []int16 // [C][lanes]; for time-major planes [C], in the order of the tile
	rows bool
}

// NewAcc makes the accumulator of channels channels for path, ready to use.
func NewAcc(channels int, path cpu.Path) *Acc {
	a := &Acc{rows: plane.TimeMajor(path)}
	if a.rows {
		a.v = aligned16((channels + 63) &^ 63)
	} else {
		a.v = aligned16(channels * lanes)
	}
	a.Reset()
	return a
}

// Reset forgets all positions.
func (a *Acc) Reset() {
	v := a.v[:min(lanes, len(a.v))]
	for i := range v {
		v[i] = -32768
	}
	for n := len(v); n < len(a.v); n *= 2 { // block copies: this runs for every flow
		copy(a.v[n:], a.v[:n])
	}
}

// Bytes is the memory of the accumulator, for streaming's state per flow.
func (a *Acc) Bytes() int { return 2 * len(a.v) }

// Max writes each channel's maximum; -32768 where there was no position.
func (a *Acc) Max(out []int16) {
	if a.rows {
		maxRows(out, a.v)
		return
	}
	out = out[:len(a.v)/lanes]
	for c := reduce(out, a.v); c < len(out); c++ {
		v := (*[lanes]int16)(a.v[c*lanes:])
		m := v[0]
		for _, x := range v[1:] {
			m = max(m, x)
		}
		out[c] = m
	}
}

// aligned16 allocates n int16 at a multiple of 64 bytes.
func aligned16(n int) []int16 {
	b := plane.Aligned(2*n + 2)
	return unsafe.Slice((*int16)(unsafe.Pointer(&b[0])), n)
}
