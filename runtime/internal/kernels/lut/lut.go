// Package lut maps numbers through activation tables.
package lut

//go:generate go run ../internal/armgen -kernel lut -o lut_arm64.s -go decl_arm64.go

import (
	"nepcoc/runtime/arith"
	"nepcoc/runtime/cpu"
	"nepcoc/runtime/internal/kernels/rescale"
)

// Table is an activation table with the rescaling of its index; see bundle.Lut.
type Table struct {
	entries []int16 // [channels or 1][n]
	n       int
	path    cpu.Path
	mult    int32
	shift   int
	// direct holds the result for each of the 256 int8 inputs, per row of
	// entries, so that bytes cost one access each.
	direct []int16
	// bytes are the same in bytes, for the kernel, by the input's bit pattern; nil where they don't
	// fit or there is none.
	bytes *[256]int8
}

// New makes a table of rows of n entries for path; one row serves all channels.
func New(path cpu.Path, entries []int16, n int, mult int32, shift int) *Table {
	t := &Table{entries: entries, n: n, path: path, mult: mult, shift: shift}
	for row := 0; row < len(entries); row += n {
		for x := -128; x < 128; x++ {
			t.direct = append(t.direct, t.at(row, int32(x)))
		}
	}
	if has(path) && !t.PerChannel() {
		t.bytes = new([256]int8)
		for i, v := range t.direct {
			b := int8(v)
			if int16(b) != v {
				t.bytes = nil
				break
			}
			t.bytes[i^128] = b
		}
	}
	return t
}

// at is the result for x by the row of entries that begins at row.
func (t *Table) at(row int, x int32) int16 {
	return t.entries[row+arith.TableIndex(arith.Requant(int64(x), t.mult, t.shift), t.n)]
}

// PerChannel tells whether each channel has its own row.
func (t *Table) PerChannel() bool { return len(t.entries) > t.n }

// Map is dst = table(src) for one row of channels; without PerChannel, for any number of elements.
func Map[D, S rescale.Int](t *Table, dst []D, src []S) {
	dst, step := dst[:len(src)], 0
	if t.PerChannel() {
		step = t.n
	}
	for i, x := range src {
		dst[i] = D(t.at(i*step, int32(x)))
	}
}

// Map8 is Map for bytes.
func Map8[D rescale.Int](t *Table, dst []D, src []int8) {
	dst = dst[:len(src)]
	if d, ok := any(dst).([]int8); ok && t.bytes != nil && len(src) >= least(t.path) {
		mapBytes(t.path, d, src, t.bytes)
		return
	}
	if t.PerChannel() {
		for i, x := range src {
			dst[i] = D(t.direct[i*256+int(uint8(x)^128)])
		}
		return
	}
	direct := (*[256]int16)(t.direct)
	for i, x := range src {
		dst[i] = D(direct[uint8(x)^128])
	}
}
