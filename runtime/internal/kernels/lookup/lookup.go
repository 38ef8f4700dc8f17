// Package lookup copies rows of a token table into a plane: the
// first step of every program, and the only one that misses the caches.
package lookup

//go:generate go run ../internal/armgen -kernel lookup -o lookup_arm64.s -go decl_arm64.go

import (
	"fmt"

	"nepcoc/runtime/cpu"
	"nepcoc/runtime/internal/kernels/plane"
)

// Table is an int8 token table for one path, row-major: cols bytes per token.
type Table struct {
	data []int8
	cols int
	rows int
	path cpu.Path
}

// New makes a table over data, which it keeps and does not copy (the published
// table has 16 MB; it stays where the bundle was read).
func New(data []int8, cols int, path cpu.Path) (*Table, error) {
	if cols < 1 || len(data) == 0 || len(data)%cols != 0 {
		return nil, fmt.Errorf("token table of %d bytes is not rows of %d", len(data), cols)
	}
	return &Table{data, cols, len(data) / cols, path}, nil
}

// Cols is the number of channels.
func (t *Table) Cols() int { return t.cols }

// Row is one token's row.
func (t *Table) Row(token int32) []int8 { return t.data[int(token)*t.cols:][:t.cols:t.cols] }

// Load writes the rows of tokens to positions pos, pos+1, ... of dst. In channel-major planes it may also
// write, with arbitrary values, to what is left of the last block of
// plane.Block positions. Tokens must be in the table.
func (t *Table) Load(dst *plane.Plane, pos int, tokens []int32) {
	n := len(tokens)
	if n == 0 {
		return
	}
	if !plane.TimeMajor(t.path) {
		n = (n + plane.Block - 1) / plane.Block * plane.Block
	}
	if dst.Channels < t.cols || dst.Index(0, pos) < 0 || dst.Index(t.cols-1, pos+n-1) >= len(dst.Data) {
		panic(fmt.Sprintf("BUG: lookup: positions [%d,%d) of %d channels outside the plane", pos, pos+len(tokens), t.cols))
	}
	for _, tok := range tokens {
		if uint(tok) >= uint(t.rows) {
			panic(fmt.Sprintf("BUG: lookup: token %d in a table of %d", tok, t.rows))
		}
	}
	if t.path != cpu.Purego {
		load(t, dst, pos, tokens)
		return
	}
	t.loadGeneric(dst, pos, tokens, 0, t.cols)
}

// loadGeneric is Load for channels [from,to).
func (t *Table) loadGeneric(dst *plane.Plane, pos int, tokens []int32, from, to int) {
	for i, tok := range tokens {
		at := dst.Index(from, pos+i)
		for _, v := range t.Row(tok)[from:to] {
			dst.Data[at] = v ^ dst.Flip
			at += dst.Stride
		}
	}
}
